//! Rows in quarantine: absent, accounted for, and not missed.

use std::ops::ControlFlow;

use changeover_core::cutover::{Raw, Table};
use changeover_cutover::verify::{Excuse, ExcusedKeys, Kind, Mode, Verified};

use crate::stores::{New, Old, healthy};
use crate::{declared, frozen, verifier};

async fn with(tables: &[Table], old: &Old, new: &New, excused: &ExcusedKeys) -> Verified {
    let verifier = verifier(tables, old, new);
    verifier.run(Mode::Frozen, None, excused, &mut |_, _| ControlFlow::Continue(())).await.unwrap()
}

fn events() -> (Vec<Table>, Old, New) {
    let tables = declared::all()[1..2].to_vec();
    let (old, new) = healthy(&tables, 20);
    (tables, old, new)
}

fn spoil(old: &Old, table: &str, row: usize, column: &str, value: Raw) {
    old.0.lock().unwrap().get_mut(table).unwrap()[row].insert(column.into(), value);
}

fn lose(new: &New, table: &str, row: usize) {
    new.0.lock().unwrap().get_mut(table).unwrap().remove(row);
}

const TARGET: &str = "event_store.domain_event";

// Fault 21: a bad row that stays out is accounted for; hazards 13, 20 and 25 make it one.
#[tokio::test]
async fn a_row_in_quarantine_stays_out_and_is_accounted_for() {
    let (tables, old, new) = events();
    spoil(&old, "domain_event", 8, "event_data", Raw::Text(b"{broken".to_vec()));
    lose(&new, TARGET, 8);
    let mut excused = ExcusedKeys::default();
    excused.insert("domain_event", &[Raw::Integer(9)], Excuse::Out);
    let found = with(&tables, &old, &new, &excused).await;
    assert!(found.is_sound(), "{found:?}");
    let table = &found.tables[0];
    assert_eq!((table.source_rows, table.target_rows, table.quarantined), (20, 19, 1));
    // Without the entry in quarantine the row is missing, and so is the balance.
    let found = frozen(&tables, &old, &new).await;
    assert!(!found.is_sound() && !found.tables[0].balances());
    assert_eq!(found.mismatches.len(), 1);
    assert_eq!(
        (found.mismatches[0].kind, &*found.mismatches[0].not_allowed),
        (Kind::Missing, &["event_data".to_owned()][..])
    );
}

#[tokio::test]
async fn a_row_that_is_in_quarantine_and_in_the_new_store_is_named() {
    let (tables, old, new) = events();
    let mut excused = ExcusedKeys::default();
    excused.insert("domain_event", &[Raw::Integer(9)], Excuse::Out);
    let found = with(&tables, &old, &new, &excused).await;
    assert_eq!(found.mismatches.len(), 1, "{found:?}");
    assert_eq!(found.mismatches[0].kind, Kind::NotOut);
    assert_eq!(found.mismatches[0].key[1], ("position".into(), "9".into()));
    assert!(!found.tables[0].balances());
}

// A value that the declaration does not allow shows wherever it was let through, whatever it was made to.
#[tokio::test]
async fn a_row_that_should_be_in_quarantine_and_was_copied_is_named_with_its_field() {
    for (column, value) in [
        ("event_type", Raw::Text(b"nul\0nul".to_vec())),
        ("event_type", Raw::Text(b"\xff".to_vec())),
        ("event_type", Raw::Blob(b"blob".to_vec())),
        ("event_version", Raw::Text(b"1".to_vec())),
        ("event_version", Raw::Real(1.0)),
        ("event_data", Raw::Text(br#"{"a":1,"a":2}"#.to_vec())),
        ("event_data", Raw::Text(br#"{"a":-0}"#.to_vec())),
        ("event_data", Raw::Text(br#"{"a":"\u0000"}"#.to_vec())),
        ("event_data", Raw::Null),
        ("occurred_at", Raw::Text(b"2024-02-31T00:00:00Z".to_vec())),
        ("occurred_at", Raw::Text(b"2024-02-01T00:00:00".to_vec())),
        ("occurred_at", Raw::Text(b"2024-02-01T00:00:00.1234567Z".to_vec())),
        ("occurred_at", Raw::Text(b"2024-01-01T24:00:00Z".to_vec())),
        ("occurred_at", Raw::Text(b"0000-01-01T00:00:00Z".to_vec())),
        ("occurred_at", Raw::Integer(1_700_000_000)),
        ("stream_id", Raw::Text(b"{00000000-0000-0000-0000-000000000001}".to_vec())),
    ] {
        let (tables, old, new) = events();
        spoil(&old, "domain_event", 8, column, value);
        let found = frozen(&tables, &old, &new).await;
        assert_eq!(found.mismatches.len(), 1, "{column}: {found:?}");
        let mismatch = &found.mismatches[0];
        assert_eq!((mismatch.kind, &*mismatch.key[1].1), (Kind::Changed, "9"));
        assert!(mismatch.not_allowed.contains(&column.to_owned()), "{column}: {mismatch:?}");
        assert!(mismatch.fields.contains(&column.to_owned()), "{column}: {mismatch:?}");
    }
}

#[tokio::test]
async fn a_repaired_row_has_to_be_there_with_whatever_values() {
    let (tables, old, new) = events();
    spoil(&old, "domain_event", 8, "event_data", Raw::Text(b"{broken".to_vec()));
    let mut excused = ExcusedKeys::default();
    excused.insert("domain_event", &[Raw::Integer(9)], Excuse::Repaired);
    let found = with(&tables, &old, &new, &excused).await;
    assert!(found.is_sound(), "{found:?}");
    assert_eq!(found.tables[0].repaired, 1);
    lose(&new, TARGET, 8);
    let found = with(&tables, &old, &new, &excused).await;
    assert_eq!((found.mismatches.len(), found.mismatches[0].kind), (1, Kind::RepairMissing));
}

// Hazard 35: a key that is null has no place in the new store.
#[tokio::test]
async fn a_row_without_a_key_is_named_unless_it_is_in_quarantine() {
    let tables = declared::all()[0..1].to_vec();
    let (old, new) = healthy(&tables, 20);
    spoil(&old, "event_stream", 8, "stream_id", Raw::Null);
    lose(&new, "event_store.event_stream", 8);
    let found = frozen(&tables, &old, &new).await;
    assert_eq!(found.mismatches.len(), 1, "{found:?}");
    assert_eq!(found.mismatches[0].kind, Kind::NoKey);
    assert_eq!(found.mismatches[0].key, [("stream_id".to_owned(), "null".to_owned())]);
    let mut excused = ExcusedKeys::default();
    excused.insert("event_stream", &[Raw::Null], Excuse::Out);
    let found = with(&tables, &old, &new, &excused).await;
    assert!(found.is_sound(), "{found:?}");
}

// A row that breaks a declared rule should be in quarantine; copied as it is, it shows all the same.
#[tokio::test]
async fn a_row_that_breaks_a_rule_and_was_copied_is_named_with_its_field() {
    let all = declared::all();
    for (table, rule, column, value, copied) in [
        (1, "not_json_null:event_data", "event_data", Raw::Text(b"null".to_vec()), "null"),
        (1, "differs:causation_id:event_id", "causation_id", Raw::Null, ""),
        (4, "semantic_version:previous_version", "previous_version", Raw::Text(b"first".to_vec()), "first"),
        (4, "max_bytes:content:3", "content", Raw::Text(b"four".to_vec()), "four"),
        (4, "sha256_of:content_hash:content", "content_hash", Raw::Text(b"0".to_vec()), "0"),
        (4, "texts:labels", "labels", Raw::Text(b"{\"a\":1}".to_vec()), "{\"a\": 1}"),
        (4, "share:expected_success_rate", "expected_success_rate", Raw::Real(1.5), "1.500"),
        (
            4,
            "not_above:successful_executions:total_executions",
            "successful_executions",
            Raw::Integer(99_999_999),
            "99999999",
        ),
        (
            1,
            "from_1970:occurred_at",
            "occurred_at",
            Raw::Text(b"1969-12-31T23:59:59Z".to_vec()),
            "1969-12-31 23:59:59+00",
        ),
    ] {
        let mut tables = all[table..=table].to_vec();
        if column == "event_data" {
            let place = tables[0].index_of(column).unwrap();
            tables[0].columns[place].to = changeover_core::cutover::Type::Json { object: false };
        }
        let (old, new) = healthy(&tables, 9);
        let (value, copied) = if rule.starts_with("differs") {
            let id = old.0.lock().unwrap()["domain_event"][7]["event_id"].clone();
            let Raw::Text(text) = &id else { panic!() };
            let text = String::from_utf8(text.clone()).unwrap();
            (id, text)
        } else {
            (value, copied.to_owned())
        };
        spoil(&old, &tables[0].source, 7, column, value);
        let target = tables[0].target.clone();
        {
            let mut new = new.0.lock().unwrap();
            let row = &mut new.get_mut(&target).unwrap()[7];
            row.insert(column.into(), Some(copied));
            crate::stores::compute(&tables[0], row);
        }
        assert!(frozen(&tables, &old, &new).await.is_sound(), "{rule}: without the rule nothing is wrong");
        tables[0].rules = vec![rule.to_owned()];
        let found = frozen(&tables, &old, &new).await;
        let named = found.mismatches.iter().any(|one| one.not_allowed.contains(&column.to_owned()));
        assert!(named && !found.is_sound(), "{rule}: {found:?}");
    }
}
