//! Broken copiers: made for every column and every way of breaking it, and each is to be caught by name.

use changeover_core::cutover::{From, Table, Type};
use changeover_cutover::verify::{ExcusedKeys, Kind, Mismatch, Mode, Verified};

use crate::declared;
use crate::stores::{New, NewRow, healthy};
use crate::verifier;

const ROWS: u64 = 23;

/// How a copier breaks a value.
#[derive(Clone, Copy, Debug)]
enum Break {
    Null,
    Truncate,
    Shift,
    Flip,
}

fn broken(how: Break, to: &Type, text: Option<&String>) -> Option<String> {
    let text = text?;
    let replaced = |from: &str, to: &str| text.replacen(from, to, 1);
    let changed_last = |change: fn(u8) -> u8| {
        let mut bytes = text.clone().into_bytes();
        let last = bytes.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
        bytes[last] = change(bytes[last]);
        String::from_utf8(bytes).unwrap()
    };
    let next_digit = |byte: u8| match byte {
        b'9' => b'8',
        b'f' => b'e',
        other => other + 1,
    };
    Some(match (how, to) {
        (Break::Null, _) => return None,
        (_, Type::Bool) => ["f", "t"][usize::from(text == "f")].to_owned(),
        (Break::Truncate, Type::Text { .. }) => text.chars().take(text.chars().count() - 1).collect(),
        (Break::Truncate, Type::Timestamp(_)) => format!("{}0:00+00", &text[..15]),
        (Break::Truncate, Type::Date) => format!("{}-01", &text[..7]),
        (Break::Truncate, Type::Json { .. }) => "{}".to_owned(),
        (Break::Truncate, Type::Bytes { .. }) => text[..text.len() - 2].to_owned(),
        (Break::Truncate, Type::Uuid) => format!("{}0", &text[..35]),
        (Break::Truncate, Type::Int { .. }) if text.len() == 1 => "0".to_owned(),
        (Break::Truncate, Type::Int { .. } | Type::Double | Type::Decimal { .. }) => {
            text[..text.len() - 1].to_owned()
        }
        (Break::Shift, Type::Timestamp(_)) => {
            let hour: u32 = text[11..13].parse().unwrap();
            format!("{}{:02}{}", &text[..11], (hour + 1) % 24, &text[13..])
        }
        (Break::Shift, Type::Text { .. }) => text.chars().skip(1).chain(text.chars().next()).collect(),
        (Break::Shift | Break::Flip, Type::Double) => {
            f64::from_bits(text.parse::<f64>().unwrap().to_bits() ^ 1).to_string()
        }
        // One bit in one byte.
        (Break::Flip, Type::Text { .. } | Type::Json { .. }) => changed_last(|byte| byte ^ 1),
        (Break::Flip, Type::Timestamp(_)) => {
            let minute = &text[14..16];
            replaced(&format!(":{minute}:"), if minute == "30" { ":31:" } else { ":30:" })
        }
        (_, Type::Vector { .. }) => replaced("[", "[1"),
        (_, Type::Date) => format!("{}{}", &text[..8], if text.ends_with("02") { "03" } else { "02" }),
        _ => changed_last(next_digit),
    })
}

fn key_of(table: &str, row: &NewRow) -> Vec<(String, String)> {
    let names: &[&str] = match table {
        "event_store.event_stream" => &["tenant_id", "stream_id"],
        "audit_store.audit_events" => &["tenant_id", "sequence"],
        "audit_store.audit_event_id" => &["tenant_id", "event_id"],
        "playbook_store.playbook_catalog" => &["tenant_id", "playbook_id", "version"],
        "shop.orders" => &["code", "placed"],
        _ => &["tenant_id", "position"],
    };
    let shown = |name: &str| match &row[name] {
        // The key is named as the store reads it.
        Some(text) if name == "placed" => format!("{}.000000Z", text.replace(' ', "T").replace("+00", "")),
        text => text.clone().unwrap_or_default(),
    };
    names.iter().map(|name| ((*name).to_owned(), shown(name))).collect()
}

/// The columns of each verified table with their types.
fn columns(tables: &[Table]) -> Vec<(String, Vec<(String, Type)>)> {
    let mut all: Vec<(String, Vec<(String, Type)>)> = Vec::new();
    for table in tables {
        if all.iter().any(|(target, _)| *target == table.target) {
            continue;
        }
        let constant = |from: &From| matches!(from, From::Computed(rule) if rule.starts_with("constant:"));
        let kept = table.columns.iter().filter(|column| !constant(&column.from));
        all.push((
            table.target.clone(),
            kept.map(|column| (column.name.clone(), column.to.clone())).collect(),
        ));
        for also in &table.also {
            let typed =
                also.columns.iter().map(|(name, of)| (name.clone(), table.column(of).unwrap().to.clone()));
            all.push((also.target.clone(), typed.collect()));
        }
    }
    all
}

/// Breaks the copy, verifies the table, mends it again.
async fn with(
    new: &New,
    target: &str,
    verifier: &changeover_cutover::verify::Verifier,
    act: impl FnOnce(&mut Vec<NewRow>),
) -> Verified {
    let before = new.0.lock().unwrap()[target].clone();
    act(new.0.lock().unwrap().get_mut(target).unwrap());
    let found = verifier.table(target, Mode::Frozen, &ExcusedKeys::default()).await.unwrap();
    new.0.lock().unwrap().insert(target.to_owned(), before);
    found
}

fn names(found: &Verified, kind: Kind, key: &[(String, String)], fields: &[&str]) -> bool {
    let is_it = |mismatch: &Mismatch| {
        mismatch.kind == kind
            && mismatch.key == key
            && mismatch.fields.iter().all(|field| fields.contains(&&**field))
            && mismatch.fields.len() == fields.len()
    };
    !found.is_sound() && found.mismatches.iter().any(is_it)
}

// Faults 25 and 34; hazards 1 to 34 as a copy would get them wrong. S4-MIG-013.
#[tokio::test]
async fn every_broken_copier_is_caught_and_named_by_key_and_field() {
    let tables = declared::all();
    let (old, new) = healthy(&tables, ROWS);
    let verifier = verifier(&tables, &old, &new);
    for target in verifier.targets() {
        let found = verifier.table(target, Mode::Frozen, &ExcusedKeys::default()).await.unwrap();
        assert!(found.is_sound(), "a faithful copy of {target}: {found:?}");
    }
    let (mut made, mut caught) = (0, 0);
    let mut check = |found: bool, what: String| {
        made += 1;
        caught += u32::from(found);
        assert!(found, "not caught: {what}");
    };
    for (target, columns) in columns(&tables) {
        let rows = new.0.lock().unwrap()[&target].clone();
        let key_names: Vec<_> = key_of(&target, &rows[0]).into_iter().map(|(name, _)| name).collect();
        for (at, (column, to)) in columns.iter().enumerate() {
            let is_key = key_names.contains(column);
            for how in [Break::Null, Break::Truncate, Break::Shift, Break::Flip] {
                // No store holds null in a key.
                if is_key && matches!(how, Break::Null) {
                    continue;
                }
                let differs = |row: &NewRow| broken(how, to, row[column].as_ref()) != row[column];
                let Some(place) = rows.iter().skip(8).position(differs).map(|place| place + 8) else {
                    panic!("{target}.{column}: {how:?} changes nothing");
                };
                let key = key_of(&target, &rows[place]);
                let found = with(&new, &target, &verifier, |rows| {
                    let value = broken(how, to, rows[place][column].as_ref());
                    rows[place].insert(column.clone(), value);
                })
                .await;
                // A broken key is a row that is missing and one too many (or there twice, where the broken one is another's).
                let named = if is_key {
                    names(&found, Kind::Missing, &key, &[])
                } else {
                    names(&found, Kind::Changed, &key, &[column])
                };
                check(named, format!("{target}.{column} {how:?}: {:?}", found.mismatches));
            }
            // Swapped with the next column of the same type.
            let same =
                |other: &&(String, Type)| std::mem::discriminant(&other.1) == std::mem::discriminant(to);
            let Some((other, _)) = columns[at + 1..].iter().find(same) else { continue };
            let Some(place) = rows
                .iter()
                .position(|row| row[column] != row[other] && row[column].is_some() && row[other].is_some())
            else {
                continue;
            };
            let key = key_of(&target, &rows[place]);
            let found = with(&new, &target, &verifier, |rows| {
                let (a, b) = (rows[place][column].clone(), rows[place][other].clone());
                rows[place].extend([(column.clone(), b), (other.clone(), a)]);
            })
            .await;
            let named = if is_key || key_names.contains(other) {
                names(&found, Kind::Missing, &key, &[])
            } else {
                names(&found, Kind::Changed, &key, &[column, other])
            };
            check(named, format!("{target}: {column} and {other} swapped: {:?}", found.mismatches));
        }
        // Row by row.
        for place in [0, 6, 7, rows.len() - 1] {
            let key = key_of(&target, &rows[place]);
            let found = with(&new, &target, &verifier, |rows| drop(rows.remove(place))).await;
            check(names(&found, Kind::Missing, &key, &[]), format!("{target}: row {place} lost"));
            let found = with(&new, &target, &verifier, |rows| rows.push(rows[place].clone())).await;
            check(
                names(&found, Kind::Twice, &key, &[]),
                format!("{target}: row {place} twice: {:?}", found.mismatches),
            );
            if !columns.iter().any(|(name, _)| name == "tenant_id") {
                continue;
            }
            let found = with(&new, &target, &verifier, |rows| {
                rows[place].insert("tenant_id".into(), Some("zeta".into()));
            })
            .await;
            let moved: Vec<_> =
                [vec![("tenant_id".to_owned(), "zeta".to_owned())], key[1..].to_vec()].concat();
            let named = names(&found, Kind::Missing, &key, &[]) && names(&found, Kind::Extra, &moved, &[]);
            check(named, format!("{target}: row {place} of another tenant: {:?}", found.mismatches));
        }
        // The contents of two rows of different chunks exchanged.
        let found = with(&new, &target, &verifier, |rows| {
            let (a, b) = (rows[1].clone(), rows[20].clone());
            for (name, _) in columns.iter().filter(|(name, _)| !key_names.contains(name)) {
                rows[1].insert(name.clone(), b[name].clone());
                rows[20].insert(name.clone(), a[name].clone());
            }
        })
        .await;
        let both = [1, 20].map(|place| key_of(&target, &rows[place]));
        let named = both
            .iter()
            .all(|key| found.mismatches.iter().any(|found| found.kind == Kind::Changed && found.key == *key));
        check(named, format!("{target}: contents exchanged"));
        // Two changes that cancel out in any sum.
        let Some((column, _)) = columns.iter().find(|(name, to)| {
            matches!(to, Type::Int { .. } | Type::Uuid | Type::Decimal { .. }) && !key_names.contains(name)
        }) else {
            continue;
        };
        let found = with(&new, &target, &verifier, |rows| {
            let (a, b) = (rows[2][column].clone(), rows[3][column].clone());
            rows[2].insert(column.clone(), b);
            rows[3].insert(column.clone(), a);
        })
        .await;
        let named = [2, 3]
            .iter()
            .all(|place| names(&found, Kind::Changed, &key_of(&target, &rows[*place]), &[column]));
        check(named, format!("{target}.{column}: a pair of changes that cancel out"));
    }
    println!("{made} broken copiers, {caught} caught");
    assert!(made > 400, "{made}");
}
