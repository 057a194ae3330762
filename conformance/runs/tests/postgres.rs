//! The suite on PostgreSQL, one test a case and set-up.

mod postgres {
    changeover_conformance::event_store_suite!(changeover_conformance_runs::PostgresShared);
    changeover_conformance::audit_suite!(changeover_conformance_runs::PostgresShared);
    changeover_conformance::playbook_suite!(changeover_conformance_runs::PostgresShared);
}

mod postgres_direct {
    changeover_conformance::event_store_suite!(changeover_conformance_runs::PostgresDirect);
    changeover_conformance::audit_suite!(changeover_conformance_runs::PostgresDirect);
    changeover_conformance::playbook_suite!(changeover_conformance_runs::PostgresDirect);
}
