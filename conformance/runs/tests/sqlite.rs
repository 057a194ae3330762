//! The suite on SQLite, one test a case and set-up.

mod sqlite_native {
    changeover_conformance::event_store_suite!(changeover_conformance_runs::SqliteNative);
}

mod sqlite_adopted {
    changeover_conformance::event_store_suite!(changeover_conformance_runs::SqliteAdopted);
}
