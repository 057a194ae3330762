//! The suite on memory, one test a case.

mod memory {
    changeover_conformance::event_store_suite!(changeover_conformance_runs::MemoryHarness);
    changeover_conformance::audit_suite!(changeover_conformance_runs::MemoryHarness);
    changeover_conformance::playbook_suite!(changeover_conformance_runs::MemoryHarness);
}
