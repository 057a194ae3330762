//! What the databases do differently by themselves, and the case that holds every store to one answer.

use std::collections::BTreeSet;

use changeover_conformance::cases;
use changeover_cutover::hazards::{self, Kind};

/// Each hazard of behaviour by its number, with the cases.
const CASES: &[(u16, &[&str])] = &[
    (
        38,
        &[
            "playbooks::reads::list_is_ordered_by_the_bytes_of_ids",
            "event_store::values::names_are_compared_byte_by_byte",
        ],
    ),
    // No order of a store is one over what may be null: its rows have their place all the same.
    (
        39,
        &[
            "playbooks::embedding::versions_without_a_vector_are_found",
            "playbooks::search::equal_confidence_is_ordered_by_id",
        ],
    ),
    (40, &["event_store::parity::engines_differ_and_the_store_does_not"]),
    (
        41,
        &[
            "audit::filters::values_of_filters_are_literal",
            "event_store::parity::engines_differ_and_the_store_does_not",
        ],
    ),
    (
        42,
        &[
            "event_store::values::sql_is_text_like_other_text",
            "audit::filters::values_of_filters_are_literal",
        ],
    ),
    (
        43,
        &[
            "event_store::values::numbers_at_their_edges_are_exact",
            "playbooks::changes::figures_are_kept_and_checked",
        ],
    ),
    (46, &["event_store::gap_safety::reader_never_skips_a_late_commit"]),
    (60, &["event_store::append::failed_append_leaves_no_trace"]),
    (61, &["event_store::expected_version::retrying_writers_lose_no_update"]),
    (
        62,
        &[
            "event_store::idempotency::stored_id_with_other_content_is_refused",
            "audit::create::stored_id_with_other_content_is_refused",
        ],
    ),
    (63, &["event_store::append::returned_checkpoint_is_that_of_the_last_event"]),
    (
        68,
        &[
            "event_store::time::recorded_time_never_goes_backwards",
            "playbooks::put::times_are_utc_and_to_the_microsecond",
        ],
    ),
];

#[test]
fn every_hazard_of_behaviour_has_a_case() {
    let of_behaviour = hazards::ALL.iter().filter(|hazard| hazard.kind == Kind::Behaviour);
    let wanted: Vec<_> = of_behaviour.map(|hazard| hazard.number).collect();
    let listed: Vec<_> = CASES.iter().map(|(number, _)| *number).collect();
    assert_eq!(listed, wanted);
    let known: BTreeSet<_> = cases().iter().map(changeover_conformance::Case::path).collect();
    for (number, of) in CASES {
        assert!(!of.is_empty(), "{number}");
        for case in *of {
            assert!(known.contains(*case), "hazard {number}: there is no case {case}");
        }
    }
}
