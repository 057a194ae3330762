//! A manifest by itself: its chain, its counts, its roots.

use std::collections::BTreeMap;

use changeover_core::{Result, hex, sha256_hex};
use serde_json::Value as Document;

use super::{Checked, Manifest, Proved, ProvedTable, chain};
use crate::verify::{Digest, data_root};

/// Whether a manifest is consistent in itself. No store is asked.
///
/// # Errors
///
/// Never with a manifest that could be read.
pub fn check(manifest: &Manifest) -> Result<Checked> {
    let mut checked = Checked::default();
    let digest = manifest.computed_digest()?;
    let wrong = (digest != manifest.digest)
        .then(|| format!("the manifest was changed: its digest is {digest}, it says {}", manifest.digest));
    checked.judge(wrong.into_iter().collect(), "the manifest is as it was written");
    let holds = format!(
        "the {} entries of the record follow one another, each with its own hash",
        manifest.record.len()
    );
    let wrong = if manifest.record.is_empty() {
        vec!["the record is empty".to_owned()]
    } else {
        chain::broken(&manifest.record)
    };
    checked.judge(wrong, holds);
    terms(manifest, &mut checked);
    match manifest.sealed().map(|entry| entry.facts.to::<Proved>()) {
        Some(Ok(sealed)) => proved(manifest, &sealed, &mut checked),
        Some(Err(error)) => checked.wrong.push(format!("the comparison cannot be read: {}", error.message())),
        None if manifest.last("switched").is_some() => {
            checked.wrong.push("the run switched and the record has no comparison before that".to_owned());
        }
        None => checked
            .unknown
            .push("the run was not compared to its end; there are no counts and no roots yet".to_owned()),
    }
    checked.unknown.push(
        "nothing here is signed: a record that was written anew from its first entry, with all hashes, cannot be told from a true \
         one; compare it with the stores (--against), or with a copy that somebody else kept"
            .to_owned(),
    );
    Ok(checked)
}

/// The declarations are those that the run was begun with.
fn terms(manifest: &Manifest, checked: &mut Checked) {
    let Some(terms) = &manifest.terms else {
        checked.unknown.push(
            "terms and quarantine are those of the last run only, and this is an earlier one".to_owned(),
        );
        return;
    };
    let digest = sha256_hex(terms.declarations.as_str().as_bytes());
    let prepared: Document =
        match manifest.entries().find(|entry| entry.what == "prepared").map(|entry| entry.facts.to()) {
            Some(Ok(facts)) => facts,
            _ => Document::Null,
        };
    let fingerprint: Document = terms.fingerprint.to().unwrap_or_default();
    let mut wrong = Vec::new();
    if prepared["fingerprint"] != fingerprint {
        wrong.push("the fingerprint of the file is not the one in the record".to_owned());
    }
    if fingerprint["declarations"] != Document::String(digest) {
        wrong.push("the declarations are not those that the run was begun with".to_owned());
    }
    if prepared["nonce"] != Document::String(terms.nonce.to_string()) {
        wrong.push("the file is not the one that the run was begun with: another nonce".to_owned());
    }
    checked.judge(wrong, "declarations, file and fingerprint are those that the run was begun with");
}

fn proved(manifest: &Manifest, sealed: &Proved, checked: &mut Checked) {
    checked.judge(unbalanced(sealed), balance(sealed));
    if sealed.whole {
        let wrong = unequal(sealed);
        checked.judge(wrong, "both stores had one data root when the writers stood still");
    } else {
        checked.unknown.push(
            "there was no time to compare every row once more behind the fence: all were compared before it, those that changed \
             since behind it, and counted"
                .to_owned(),
        );
    }
    if let Some(rows) = &manifest.quarantine {
        checked.judge(
            quarantine(rows, sealed),
            format!("the {} rows in quarantine are those that were counted", rows.len()),
        );
    }
    match manifest.frozen() {
        Some(frozen) => {
            let mut wrong =
                computed(&frozen, |table| table.source_root.as_deref(), frozen.source_root.as_deref());
            if sealed.whole && frozen.source_root != sealed.source_root {
                wrong.push("the data root of the frozen file is not the one that was compared".to_owned());
            }
            checked.judge(wrong, "the frozen file has the data root that was compared");
        }
        None if manifest.last("switched").is_some() => {
            checked.unknown.push("the data root of the frozen file is not in the record".to_owned());
        }
        None => {}
    }
}

fn balance(sealed: &Proved) -> String {
    let rows: u64 = sealed.tables.iter().map(|table| table.source_rows).sum();
    let out: u64 = sealed.tables.iter().map(|table| table.quarantined).sum();
    format!(
        "every row is accounted for: {rows} in the old store, {out} of them in quarantine, the others in the new one"
    )
}

fn unbalanced(sealed: &Proved) -> Vec<String> {
    let wrong = sealed
        .tables
        .iter()
        .filter(|table| table.target_rows.map(|rows| rows + table.quarantined) != Some(table.source_rows));
    wrong
        .map(|table| {
            format!(
                "table {}: {} rows in the old store, {} in the new one and {} in quarantine",
                table.target,
                table.source_rows,
                table.target_rows.map_or_else(|| "an unknown number".to_owned(), |rows| rows.to_string()),
                table.quarantined
            )
        })
        .collect()
}

fn unequal(sealed: &Proved) -> Vec<String> {
    let mut wrong = Vec::new();
    for table in &sealed.tables {
        if table.source_root.is_none() || table.source_root != table.target_root {
            wrong.push(format!("table {}: the stores have different roots", table.target));
        }
    }
    wrong.extend(computed(sealed, |table| table.source_root.as_deref(), sealed.source_root.as_deref()));
    wrong.extend(computed(sealed, |table| table.target_root.as_deref(), sealed.target_root.as_deref()));
    wrong
}

/// The data root is that of the tables.
fn computed(proved: &Proved, root: impl Fn(&ProvedTable) -> Option<&str>, said: Option<&str>) -> Vec<String> {
    let mut tables = Vec::new();
    for table in &proved.tables {
        let Some(root) = root(table).and_then(digest) else {
            return vec![format!("table {}: its root is not 64 hexadecimal digits", table.target)];
        };
        let Some(rows) = table.source_rows.checked_sub(table.quarantined + table.repaired) else {
            return vec![format!("table {}: more rows are left out than it has", table.target)];
        };
        tables.push((&*table.target, rows, root));
    }
    if said == Some(&*hex(&data_root(tables))) {
        return Vec::new();
    }
    vec!["the data root is not that of the tables' roots".to_owned()]
}

fn digest(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

fn quarantine(rows: &[super::OutRow], sealed: &Proved) -> Vec<String> {
    let mut out: BTreeMap<&str, u64> = sealed.tables.iter().map(|table| (&*table.target, 0)).collect();
    let mut wrong = Vec::new();
    for row in rows {
        if row.decision != "repaired" {
            *out.entry(&row.target).or_default() += 1;
        }
        if !matches!(&*row.decision, "approved" | "repaired") {
            wrong.push(format!("row {} in quarantine is {}, and the run was sealed", row.id, row.decision));
        }
    }
    for (target, count) in out {
        let counted =
            sealed.tables.iter().find(|table| table.target == target).map(|table| table.quarantined);
        if counted != Some(count) {
            wrong.push(format!(
                "table {target}: {count} rows are in quarantine, {} were counted",
                counted.unwrap_or_default()
            ));
        }
    }
    wrong
}
