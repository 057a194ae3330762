//! X23: the suite finds out every store that is broken on purpose, by the cases named for it and by no others.

use std::fmt::Write as _;

use changeover_conformance_runs::mutants;

#[tokio::test(flavor = "multi_thread")]
async fn every_mutant_is_killed_by_its_cases_and_no_others() {
    let found = mutants(4).await;
    assert!(found.len() >= 20, "{} mutants are too few", found.len());
    let mut wrong = String::new();
    for mutant in found.iter().filter(|mutant| !mutant.killed()) {
        writeln!(
            wrong,
            "{:?}\n  expected {:?}\n  killed by {:?}",
            mutant.name, mutant.expected, mutant.killed_by
        )
        .unwrap();
    }
    assert!(wrong.is_empty(), "mutants that live or that unrelated cases kill:\n{wrong}");
}
