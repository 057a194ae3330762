//! The suite on PostgreSQL, one test a case. Its other set-ups are run by the program `conformance`, as part of the same checks.

mod postgres {
    changeover_conformance::event_store_suite!(changeover_conformance_runs::PostgresShared);
    changeover_conformance::audit_suite!(changeover_conformance_runs::PostgresShared);
    changeover_conformance::playbook_suite!(changeover_conformance_runs::PostgresShared);
}

mod postgres_small_disk {
    // E116: on a file system that is really full, which no other set-up has.
    #[test]
    fn full_database_keeps_no_part_of_an_append() {
        changeover_conformance::check::<changeover_conformance_runs::PostgresSmallDisk>(
            changeover_conformance::Family::Events,
            "faults",
            "full_database_keeps_no_part_of_an_append",
        );
    }
}
