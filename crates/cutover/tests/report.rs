//! A manifest by itself: what its check finds in one that was tampered with. The stores' side is in the tests of the command.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use changeover_core::{Json, Timestamp, Uuid, hex, sha256_hex};
use changeover_cutover::report::{self, FORMAT, Manifest, OutRow, Terms, Word};
use changeover_cutover::verify::data_root;
use rstest::rstest;
use serde_json::{Value, json};

const RUN: Uuid = Uuid::from_u128(7);

/// The record as the store would write it.
fn chained(entries: &[(&str, Value)]) -> Vec<Word> {
    let mut record: Vec<Word> = Vec::new();
    for (number, (what, facts)) in (1_i64..).zip(entries) {
        let previous = record.last().map_or_else(|| "0".repeat(64), |it| it.hash.clone());
        let at = Timestamp::from_micros(number * 1_000_001).unwrap();
        let facts = Json::of(facts).unwrap();
        let text = format!("{previous}\n{number}\n{RUN}\n{at}\n{what}\nan operator\n{}\n", facts.as_str());
        record.push(Word {
            number,
            run: RUN,
            at,
            what: (*what).to_owned(),
            who: "an operator".into(),
            facts,
            previous,
            hash: sha256_hex(text.as_bytes()),
        });
    }
    record
}

fn sound() -> Manifest {
    let declarations = Json::parse(r#"{"table":[]}"#).unwrap();
    let fingerprint = json!({ "declarations": sha256_hex(declarations.as_str().as_bytes()), "schema": "s" });
    let (root, nonce) = ([3; 32], Uuid::from_u128(9));
    let data = hex(&data_root([("s.t", 8, root)]));
    let table = json!({
        "target": "s.t", "source_rows": 10, "target_rows": 9, "quarantined": 1, "repaired": 1,
        "source_root": hex(&root), "target_root": hex(&root),
    });
    let proved = json!({ "whole": true, "source_root": data, "target_root": data, "tables": [table] });
    let frozen = json!({ "source_root": data, "tables": [
        { "target": "s.t", "source_rows": 10, "quarantined": 1, "repaired": 1, "source_root": hex(&root) },
    ] });
    let record = chained(&[
        ("prepared", json!({ "fingerprint": fingerprint, "nonce": nonce.to_string() })),
        ("sealed", proved),
        ("switched", json!({ "pause_ms": 41 })),
        ("frozen", frozen),
    ]);
    let out = |id, decision: &str| OutRow {
        id,
        table: "t".into(),
        target: "s.t".into(),
        key: Vec::new(),
        row: Vec::new(),
        reasons: vec![("c".into(), 13, "has a <b>NUL</b> character".into())],
        decision: decision.into(),
        decided_by: Some("an operator".into()),
    };
    let mut manifest = Manifest {
        format: FORMAT.into(),
        digest: String::new(),
        module: "m".into(),
        run: RUN,
        made_at: Timestamp::from_micros(0).unwrap(),
        terms: Some(Terms {
            declarations,
            accepted: Json::empty(),
            fingerprint: Json::of(&fingerprint).unwrap(),
            tenant: "acme".into(),
            nonce,
            file: "a.db".into(),
        }),
        status: Json::empty(),
        quarantine: Some(vec![out(1, "approved"), out(2, "repaired")]),
        record,
    };
    manifest.digest = manifest.computed_digest().unwrap();
    manifest
}

/// Written anew by somebody who takes care of everything but what is looked for.
fn rewritten(mut manifest: Manifest, change: impl FnOnce(&mut Manifest)) -> Manifest {
    change(&mut manifest);
    let entries: Vec<_> =
        manifest.record.iter().map(|it| (it.what.clone(), it.facts.to::<Value>().unwrap())).collect();
    manifest.record =
        chained(&entries.iter().map(|(what, facts)| (&**what, facts.clone())).collect::<Vec<_>>());
    manifest.digest = manifest.computed_digest().unwrap();
    manifest
}

fn set(manifest: &mut Manifest, entry: usize, pointer: &str, value: Value) {
    let mut facts: Value = manifest.record[entry].facts.to().unwrap();
    *facts.pointer_mut(pointer).unwrap() = value;
    manifest.record[entry].facts = Json::of(&facts).unwrap();
}

fn wrong(manifest: &Manifest) -> String {
    let read = Manifest::parse(&manifest.to_text().unwrap()).unwrap();
    assert_eq!(&read, manifest, "a manifest reads back");
    report::check(&read).unwrap().wrong.join("; ")
}

#[test]
fn a_sound_manifest_holds_and_says_what_it_cannot_tell() {
    let checked = report::check(&sound()).unwrap();
    assert_eq!(checked.wrong, Vec::<String>::new());
    assert_eq!(checked.holds.len(), 7, "{:?}", checked.holds);
    assert!(checked.unknown.iter().any(|it| it.contains("nothing here is signed")), "{:?}", checked.unknown);
}

#[rstest]
#[case::number(|it: &mut Word| it.number = 9)]
#[case::run(|it: &mut Word| it.run = Uuid::nil())]
#[case::time(|it: &mut Word| it.at = Timestamp::from_micros(5).unwrap())]
#[case::what(|it: &mut Word| it.what = "sealeb".into())]
#[case::who(|it: &mut Word| it.who = "an operatoR".into())]
#[case::facts(|it: &mut Word| it.facts = Json::parse(r#"{"whole":false}"#).unwrap())]
#[case::previous(|it: &mut Word| it.previous.replace_range(..1, "g"))]
#[case::hash(|it: &mut Word| it.hash.replace_range(..1, "g"))]
fn one_changed_field_of_an_entry_is_found_by_the_chain(#[case] change: fn(&mut Word)) {
    let mut manifest = sound();
    change(&mut manifest.record[1]);
    manifest.digest = manifest.computed_digest().unwrap();
    let found = wrong(&manifest);
    assert!(found.contains("entry 2") || found.contains("entry 3"), "{found}");
}

#[test]
fn an_entry_that_was_written_anew_with_its_own_hash_no_longer_fits_the_next() {
    let mut manifest = sound();
    let mut other = chained(&[("prepared", json!({ "fingerprint": {}, "nonce": "" }))]);
    manifest.record[0] = other.remove(0);
    manifest.digest = manifest.computed_digest().unwrap();
    let found = wrong(&manifest);
    assert!(found.contains("entry 2 does not follow the entry before it"), "{found}");
}

#[rstest]
#[case(0)]
#[case(1)]
#[case(2)]
fn an_entry_that_was_taken_out_is_found(#[case] at: usize) {
    let mut manifest = sound();
    manifest.record.remove(at);
    manifest.digest = manifest.computed_digest().unwrap();
    let found = wrong(&manifest);
    assert!(found.contains(&format!("entry {} of the record is missing", at + 1)), "{found}");
}

#[test]
fn what_is_outside_of_the_chain_is_under_the_digest() {
    let mut manifest = sound();
    manifest.quarantine.as_mut().unwrap()[0].decided_by = Some("nobody".into());
    assert!(wrong(&manifest).contains("its digest is"), "{}", wrong(&manifest));
}

#[rstest]
#[case::count("/tables/0/target_rows", json!(8), "10 rows in the old store, 8 in the new one and 1")]
#[case::root("/tables/0/target_root", json!("04".repeat(32)), "different roots")]
#[case::data_root("/source_root", json!("04".repeat(32)), "not that of the tables' roots")]
#[case::no_root("/tables/0/source_root", json!("x"), "not 64 hexadecimal digits")]
#[case::quarantine("/tables/0/quarantined", json!(2), "1 rows are in quarantine, 2 were counted")]
fn counts_and_roots_that_do_not_fit_are_found_though_the_chain_holds(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] expected: &str,
) {
    let found = wrong(&rewritten(sound(), |it| set(it, 1, pointer, value)));
    assert!(found.contains(expected), "{found}");
    assert!(!found.contains("entry"), "{found}");
}

#[test]
fn a_frozen_file_with_another_root_is_found() {
    let found = wrong(&rewritten(sound(), |it| set(it, 3, "/source_root", json!("04".repeat(32)))));
    assert!(found.contains("not the one that was compared"), "{found}");
}

#[test]
fn other_declarations_another_file_and_undecided_rows_are_found() {
    let found = wrong(&rewritten(sound(), |it| it.terms.as_mut().unwrap().declarations = Json::empty()));
    assert!(found.contains("the declarations are not those"), "{found}");
    let found = wrong(&rewritten(sound(), |it| it.terms.as_mut().unwrap().nonce = Uuid::nil()));
    assert!(found.contains("another nonce"), "{found}");
    let found =
        wrong(&rewritten(sound(), |it| it.quarantine.as_mut().unwrap()[0].decision = "undecided".into()));
    assert!(found.contains("row 1 in quarantine is undecided"), "{found}");
}

#[test]
fn a_switch_without_a_comparison_is_found() {
    let found = wrong(&rewritten(sound(), |it| it.record[1].what = "unfenced".into()));
    assert!(found.contains("no comparison before that"), "{found}");
}

#[test]
fn what_is_no_manifest_is_refused() {
    for text in ["", "{}", "[]", r#"{"format":"changeover-cutover-manifest/1"}"#] {
        assert_eq!(Manifest::parse(text).unwrap_err().kind(), changeover_core::ErrorKind::Invalid, "{text}");
    }
    let other = sound().to_text().unwrap().replace(FORMAT, "changeover-cutover-manifest/9");
    assert!(Manifest::parse(&other).unwrap_err().message().contains("allowed is"));
}

#[test]
fn the_page_shows_everything_and_links_to_nothing() {
    let manifest = sound();
    let page = report::page(&manifest, &report::check(&manifest).unwrap());
    for expected in
        [&manifest.record[3].hash, "s.t", "has a &lt;b&gt;NUL&lt;/b&gt; character", "nothing here is signed"]
    {
        assert!(page.contains(expected), "{expected}");
    }
    for outside in ["<b>", "http", "href", "src=", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}
