//! X23: the suite finds out every store that is broken on purpose, by the cases named for it and by no others.

use std::fmt::Write as _;

use changeover_conformance::Family;
use changeover_conformance_runs::mutants;

/// At least `least` mutants of a store, each killed by its cases and no others.
async fn all_killed(store: Family, least: usize) {
    let found = mutants(&[store], 4).await;
    assert!(found.len() >= least, "{} mutants are too few", found.len());
    let mut wrong = String::new();
    for mutant in found.iter().filter(|mutant| !mutant.killed()) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            wrong,
            "{:?}\n  expected {:?}\n  killed by {:?}",
            mutant.name, mutant.expected, mutant.killed_by
        );
    }
    assert!(wrong.is_empty(), "mutants that live or that unrelated cases kill:\n{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_store_mutant_is_killed_by_its_cases_and_no_others() {
    all_killed(Family::Events, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_audit_mutant_is_killed_by_its_cases_and_no_others() {
    all_killed(Family::Audit, 18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_playbook_mutant_is_killed_by_its_cases_and_no_others() {
    all_killed(Family::Playbooks, 20).await;
}
