//! Which cases must find out which mutant: all of them, and no others.
//!
//! A new case that finds mutants out too is added here; the self-check prints what it found. A case that has nothing to
//! do with a flaw and fails on it all the same looks at more than it says.

/// The ids of the cases, in any order; none for a mutant that is not listed.
pub(super) fn of(name: &str) -> &'static [&'static str] {
    EXPECTED
        .iter()
        .chain(super::playbooks::EXPECTED)
        .find(|(mutant, _)| *mutant == name)
        .map_or(&[], |(_, ids)| ids)
}

const EXPECTED: &[(&str, &[&str])] = &[
    (
        "the answer's versions count from 0",
        &["E1", "E3", "E11", "E13", "E22", "E118", "E131", "X12", "X13", "E127"],
    ),
    (
        "the answer's checkpoint is after the first event, not the last",
        &["E1", "E11", "E14", "E66", "E131", "X12", "X13", "E127"],
    ),
    (
        "an exact expectation is not checked",
        &["E9", "E20", "E21", "E24", "E26", "E27", "T9", "E125", "E131", "X12", "X13", "E127"],
    ),
    (
        "that there be no stream is not checked",
        &["E11", "E17", "E24", "E26", "E28", "E120", "E125", "E124", "E131", "X12", "X13", "E23"],
    ),
    ("that there be a stream is not checked", &["E18", "E55", "T4", "E81", "E131", "X13"]),
    (
        "a repeated append is stored again",
        &["E30", "E31", "E133", "E35", "E37", "E81", "E100", "E101", "E131", "X12", "X13", "E127"],
    ),
    (
        "a repeated append is refused as a conflict",
        &["E30", "E31", "E133", "E35", "E37", "T3", "E81", "E100", "E101", "E131", "X12", "X13", "E127"],
    ),
    ("a repeated append answers with the end of the stream named last", &["E133"]),
    (
        "an event id may be used twice",
        &["E5", "E13", "E32", "E33", "E34", "E63", "E125", "E124", "E131", "X12", "X13", "E127", "E23", "T9"],
    ),
    (
        "the events before a taken id are stored though the append is refused",
        &["E5", "E13", "E63", "E131", "X12", "X13", "E127"],
    ),
    (
        "a conflict is reported as contention",
        &[
            "E9", "E11", "E17", "E18", "E20", "E21", "E24", "E25", "E26", "E27", "E28", "E55", "T4", "E81",
            "E120", "E125", "E124", "E131", "X12", "X13", "E127", "E130", "E23", "T9",
        ],
    ),
    (
        "a conflict names a wrong actual version",
        &["E17", "E18", "E20", "E21", "E24", "E27", "E28", "T4", "E131", "X12", "X13", "E127", "E23", "T9"],
    ),
    (
        "a refused append does not say that nothing was stored",
        &["E17", "E18", "E20", "E21", "E23", "E24", "E27", "E28", "E32", "E33", "E34", "E125"],
    ),
    ("a refused append leaves a stream without events", &["E5", "E9", "E81"]),
    ("progress is overwritten by earlier progress", &["E81", "E82", "E131", "X13", "E127"]),
    ("times are rounded to milliseconds", &["E2", "E32", "E93", "E94", "E95", "E131", "X12", "X13", "E127"]),
    ("keys with the value null are lost", &["E2", "E92", "X22"]),
    ("metadata is lost", &["E2", "E12", "E92", "E131", "X12", "X13", "E127"]),
    ("what caused an event is lost", &["E2", "E12", "E97", "E131", "X12", "X13", "E127"]),
    ("a page token of another read is ignored", &["E46", "E47", "E125"]),
    ("the last page promises another", &["E39", "E41", "E42", "E44", "E50", "E131", "X12", "X13", "E127"]),
    ("a page backwards is in forward order", &["E40", "E41", "E43", "E45", "E48", "E131", "X12", "X13"]),
    (
        "reading after a checkpoint shows the event at it",
        &[
            "E7", "E51", "E59", "E60", "E62", "E65", "E54", "E55", "E56", "E57", "E63", "E131", "X12", "X13",
            "E127",
        ],
    ),
    ("a checkpoint of another log is taken for one of this", &["E61", "E125"]),
    ("a checkpoint beyond the end is taken for the end", &["E132"]),
    ("every page says that it is the last", &["E7", "E51", "E64", "E57", "E131", "X12", "X13", "E127"]),
    ("the checkpoint stays where it was when nothing matches", &["E65", "E67", "E131", "X12", "X13", "E127"]),
    (
        "positions are given by stream, not in the order of the commits",
        &[
            "E14", "E52", "E67", "E54", "E56", "E57", "E63", "T6", "E68", "E72", "E90", "E131", "X12", "X13",
            "E127",
        ],
    ),
    ("filters are blind to case", &["E67", "E89", "E131", "X12", "X13", "E127", "X22"]),
    ("% and _ in a filter are wildcards", &["E67", "E89", "E131", "X12", "X13", "E127"]),
    ("an empty list in a filter matches everything", &["E47", "E48", "E67"]),
    (
        "the head of the log is one event behind",
        &[
            "E10", "E11", "E37", "E60", "E64", "E65", "E67", "E56", "E63", "T5", "E68", "E77", "E118",
            "E131", "X12", "X13", "E127", "E130",
        ],
    ),
    ("the recorded time is the caller's", &["E2", "E96"]),
    (
        "tenants share their records",
        &["T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T13", "T14", "T16", "E123"],
    ),
    ("a closed store goes on", &["E117", "E134", "E127"]),
    ("a subscription repeats the last event when it goes live", &["T8", "E68", "E73", "E74", "E75", "E79"]),
    (
        "a subscription skips the first event after it went live",
        &["T8", "E68", "E69", "E71", "E74", "E75", "E76", "E77", "E78", "E79"],
    ),
    ("a subscription's progress stays behind events that do not match", &["E78"]),
    ("a subscription outlives its store", &["E134"]),
    ("a subscription begins at the start whatever it is asked", &["E37", "E68", "E73", "E80"]),
    (
        "a taken id with other content is taken for a repeated one",
        &["A46", "A47", "A50", "A51", "A42", "AT4", "A80", "A81", "A82"],
    ),
    ("a repeated event is said to be stored anew", &["A2", "A49", "A51", "AT2", "A80", "A81"]),
    ("the events before a refused one are stored though the batch is refused", &["A46", "A48", "A80", "A81"]),
    (
        "a missing parent is dropped in silence",
        &["A48", "A49", "A50", "A23", "A42", "A70", "AT3", "A80", "A81", "A82"],
    ),
    ("the filter by resource type is ignored", &["A12", "A36"]),
    ("the filter by actor is blind to case, and _ in it is a wildcard", &["A15", "A80", "A81"]),
    ("the end of a range is within it", &["A7", "A59", "A12", "A36", "A14", "A34", "A80", "A81"]),
    ("equal times are in no order of their ids", &["A52", "A9", "A10", "A16", "A80", "A81"]),
    (
        "a page begins with the last event of the page before",
        &["A10", "A11", "A16", "A56", "A59", "A35", "A8", "A80", "A81"],
    ),
    ("the last page of a query promises another", &["A17", "A56"]),
    ("a count ends at 20", &["A36", "A62", "A80", "A81"]),
    ("the recorded time is the event's own", &["A33"]),
    (
        "tenants share their audit records",
        &["AT1", "AT2", "AT3", "AT4", "AT5", "AT6", "AT7", "AT8", "AT9", "AT10"],
    ),
    ("a closed repository goes on", &["A71", "A74"]),
    ("a verification looks at each record alone, not at their order", &["A25", "A31"]),
    ("a verification does not notice a missing end", &["A25"]),
    ("a dry run removes", &["A66", "A80", "A81"]),
    ("events go a day before they are due", &["A28", "A80"]),
];
