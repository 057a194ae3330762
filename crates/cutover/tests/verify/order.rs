//! Old keys whose order is not that of the new ones, and walks that are interrupted.

use std::ops::ControlFlow;

use changeover_core::cutover::{Raw, Table};
use changeover_cutover::verify::{ExcusedKeys, Kind, Mode, VerifyCursor};

use crate::stores::{New, Old, healthy};
use crate::{declared, frozen, verifier};

/// Streams whose ids are stored in upper case, in lower case and as bytes.
fn mixed() -> (Vec<Table>, Old, New) {
    let tables = declared::all()[0..1].to_vec();
    let (old, new) = healthy(&tables, 40);
    for (at, row) in old.0.lock().unwrap().get_mut("event_stream").unwrap().iter_mut().enumerate() {
        let Raw::Text(text) = row["stream_id"].clone() else { panic!() };
        let text = String::from_utf8(text).unwrap();
        // Letters in every id, so that case decides its place.
        let text = text.replacen("0000", ["cafe", "abba", "dead"][at % 3], 1);
        let mut new = new.0.lock().unwrap();
        new.get_mut("event_store.event_stream").unwrap()[at].insert("stream_id".into(), Some(text.clone()));
        let id = changeover_core::Uuid::parse_str(&text).unwrap();
        let stored = match at % 4 {
            0 => Raw::Blob(id.as_bytes().to_vec()),
            1 => Raw::Text(text.to_uppercase().into_bytes()),
            _ => Raw::Text(text.into_bytes()),
        };
        row.insert("stream_id".into(), stored);
    }
    (tables, old, new)
}

// Hazards 38, 40, 57, 58.
#[tokio::test]
async fn keys_of_mixed_spelling_are_compared_in_the_order_of_the_new_store() {
    let (tables, old, new) = mixed();
    let found = frozen(&tables, &old, &new).await;
    assert!(found.is_sound(), "{found:?}");
    assert_eq!(found.tables[0].source_rows, 40);
    let lost = new.0.lock().unwrap().get_mut("event_store.event_stream").unwrap().remove(17);
    let found = frozen(&tables, &old, &new).await;
    assert_eq!(found.mismatches.len(), 1, "{found:?}");
    assert_eq!(
        (found.mismatches[0].kind, &found.mismatches[0].key[1].1),
        (Kind::Missing, lost["stream_id"].as_ref().unwrap())
    );
}

// Hazard 49: two old rows that are one key in the new store.
#[tokio::test]
async fn two_spellings_of_one_key_are_named() {
    let (tables, old, new) = mixed();
    {
        let mut old = old.0.lock().unwrap();
        let rows = old.get_mut("event_stream").unwrap();
        let mut again = rows[2].clone();
        let Raw::Text(text) = &again["stream_id"] else { panic!() };
        let upper = Raw::Text(text.to_ascii_uppercase());
        again.insert("stream_id".into(), upper);
        rows.push(again);
    }
    let found = frozen(&tables, &old, &new).await;
    assert_eq!(found.mismatches.len(), 1, "{found:?}");
    assert_eq!(found.mismatches[0].kind, Kind::Twice);
    assert!(!found.tables[0].balances());
}

// S4-MIG-012: a verification is gone on from where it was, and comes to the same.
#[tokio::test]
async fn a_walk_that_is_ended_after_any_chunk_is_gone_on_from_there() {
    let (mut tables, old, new) = mixed();
    let (more, also_new) = {
        let all = declared::all();
        let (o, n) = healthy(&all[2..4], 25);
        old.0.lock().unwrap().extend(std::mem::take(&mut *o.0.lock().unwrap()));
        (all[2..4].to_vec(), n)
    };
    tables.extend(more);
    let both = New(
        new.0.clone(),
        std::sync::Arc::new(
            new.1.iter().chain(also_new.1.iter()).map(|(a, b)| (a.clone(), b.clone())).collect(),
        ),
    );
    new.0.lock().unwrap().extend(std::mem::take(&mut *also_new.0.lock().unwrap()));
    // One row is wrong, so that what was found is carried on as well.
    new.0.lock().unwrap().get_mut("event_store.event_stream").unwrap()[3]
        .insert("version".into(), Some("77".into()));
    let (verifier, nobody) = (verifier(&tables, &old, &both), ExcusedKeys::default());
    let mut chunks = 0;
    let whole = verifier
        .run(Mode::Frozen, None, &nobody, &mut |_, _| {
            chunks += 1;
            ControlFlow::Continue(())
        })
        .await
        .unwrap();
    assert_eq!(whole.mismatches.len(), 1, "{whole:?}");
    assert!(whole.finished && chunks > 8, "{chunks}");
    for stop in 1..=chunks {
        let (mut seen, mut saved) = (0, None);
        let part = verifier
            .run(Mode::Frozen, None, &nobody, &mut |_, cursor| {
                seen += 1;
                if seen < stop {
                    return ControlFlow::Continue(());
                }
                saved = Some(cursor.to_json().unwrap());
                ControlFlow::Break(())
            })
            .await
            .unwrap();
        assert!(!part.finished);
        let cursor = VerifyCursor::from_json(&saved.unwrap()).unwrap();
        let rest = verifier
            .run(Mode::Frozen, Some(cursor), &nobody, &mut |_, _| ControlFlow::Continue(()))
            .await
            .unwrap();
        assert_eq!(rest, whole, "after {stop} chunks");
    }
}

#[tokio::test]
async fn a_cursor_of_other_declarations_is_refused() {
    let (tables, old, new) = mixed();
    let mut saved = None;
    let nobody = ExcusedKeys::default();
    let _ = verifier(&tables, &old, &new)
        .run(Mode::Frozen, None, &nobody, &mut |_, cursor| {
            saved = Some(cursor.clone());
            ControlFlow::Break(())
        })
        .await
        .unwrap();
    let mut other = tables.clone();
    other[0].columns.pop();
    let refused = verifier(&other, &old, &new)
        .run(Mode::Frozen, saved, &nobody, &mut |_, _| ControlFlow::Continue(()))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), changeover_core::ErrorKind::Invalid);
    assert!(refused.message().contains("other declarations"), "{refused}");
}
