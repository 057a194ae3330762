//! The suite on SQLite, one test a case and set-up.

mod sqlite_native {
    changeover_conformance::event_store_suite!(changeover_conformance_runs::SqliteNative);
    changeover_conformance::audit_suite!(changeover_conformance_runs::SqliteNative);
    changeover_conformance::playbook_suite!(changeover_conformance_runs::SqliteNative);
}

mod sqlite_adopted {
    changeover_conformance::event_store_suite!(changeover_conformance_runs::SqliteAdopted);
    changeover_conformance::audit_suite!(changeover_conformance_runs::SqliteAdopted);
    changeover_conformance::playbook_suite!(changeover_conformance_runs::SqliteAdopted);
}
