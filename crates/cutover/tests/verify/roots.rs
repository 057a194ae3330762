//! Roots depend on the rows alone.

use std::ops::ControlFlow;

use changeover_cutover::verify::{ExcusedKeys, Limits, Mode, Verified};
use proptest::prelude::*;

use crate::stores::{New, Old, healthy};
use crate::{SMALL, declared, verifier};

async fn with(limits: Limits, old: &Old, new: &New) -> Verified {
    let verifier = verifier(&declared::all(), old, new).within(limits);
    let nobody = ExcusedKeys::default();
    verifier.run(Mode::Frozen, None, &nobody, &mut |_, _| ControlFlow::Continue(())).await.unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    // Amendment 10.
    #[test]
    fn the_root_does_not_depend_on_chunks_or_on_the_order_of_storing(
        rows in 1..60_u32, bytes in 1..20_000_usize, sorted in 1..50_usize, turn in 0..30_usize
    ) {
        let (old, new) = healthy(&declared::all(), 30);
        let expected = run(with(SMALL, &old, &new));
        prop_assert!(expected.is_sound(), "{expected:?}");
        for table in old.0.lock().unwrap().values_mut() {
            table.rotate_left(turn);
        }
        for table in new.0.lock().unwrap().values_mut() {
            table.reverse();
        }
        let found = run(with(Limits { rows, bytes, sorted, ..SMALL }, &old, &new));
        prop_assert_eq!(&found.tables, &expected.tables);
        prop_assert_eq!(found.source_root(), expected.target_root());
    }

    #[test]
    fn any_single_change_of_a_value_changes_the_root(table in 0..7_usize, row in 0..12_usize, column in any::<prop::sample::Index>()) {
        let (old, new) = healthy(&declared::all(), 12);
        let before = run(with(SMALL, &old, &new));
        {
            let mut new = new.0.lock().unwrap();
            let rows = new.values_mut().nth(table).unwrap();
            let name = column.get(&rows[row].keys().cloned().collect::<Vec<_>>()).clone();
            // What holds nothing of the old store is not looked at; a key must stay one.
            prop_assume!(name != "opened_at" && rows[row][&name].is_some());
            prop_assume!(!["position", "sequence", "code", "placed", "stream_id", "event_id"].contains(&&*name));
            let last = rows[row][&name].clone().unwrap();
            // In front: a digit more at the end of a long double is the same double.
            rows[row].insert(name, Some(format!("9{last}")));
        }
        let found = run(with(SMALL, &old, &new));
        prop_assert_ne!(found.target_root(), before.target_root());
        prop_assert_eq!(found.source_root(), before.source_root());
        prop_assert!(!found.is_sound() && !found.mismatches.is_empty());
    }
}
