//! The reference backend, in the process of the suite.

use std::sync::Arc;

use async_trait::async_trait;
use changeover_conformance::{AuditTamper, Family, Fault, Faults, Harness, StartError, Unsupported};
use changeover_core::audit::AuditEvent;
use changeover_core::{Backend, BackendSettings, Json, ModuleScope, OpenBackend, TenantId, Timestamp, Uuid};
use changeover_memory::Memory;

/// `memory`.
pub struct MemoryHarness {
    memory: Memory,
}

async fn open(memory: &Memory) -> Arc<dyn OpenBackend> {
    // Opening memory asks nobody: it fails only on settings it does not know, and is given none.
    memory.open(&BackendSettings::new("memory")).await.expect("memory opens")
}

#[async_trait]
impl Harness for MemoryHarness {
    const NAME: &str = "memory";

    async fn start() -> Result<Self, StartError> {
        Ok(Self { memory: Memory::new() })
    }

    async fn client(&self) -> Arc<dyn OpenBackend> {
        open(&self.memory).await
    }

    fn faults(&self) -> &dyn Faults {
        self
    }
}

#[async_trait]
impl Faults for MemoryHarness {
    fn otherwise(&self) -> Unsupported {
        Unsupported("maps in the own process: no line, no server, no disk and no schema that could fail")
    }

    async fn tamper_audit(&self, tamper: AuditTamper) -> Fault<()> {
        tamper_with(&self.memory, &self.scope_of(Family::Audit), &self.tenant(), tamper);
        Ok(())
    }
}

/// Does this to the audit records of a tenant, past the repository.
pub(crate) fn tamper_with(memory: &Memory, scope: &ModuleScope, tenant: &TenantId, tamper: AuditTamper) {
    memory.edit_audit(scope, tenant, |records| {
        let place = |records: &[AuditEvent], id: Uuid| {
            let found = records.iter().position(|stored| stored.event.event_id == id);
            found.expect("the event that is tampered with is stored")
        };
        match tamper {
            AuditTamper::Edit(id) => {
                let at = place(records, id);
                // Cannot fail: the text is an object.
                records[at].event.event_data = Json::parse(r#"{"tampered":true}"#).expect("JSON");
            }
            AuditTamper::Remove(id) => {
                let at = place(records, id);
                records.remove(at);
            }
            AuditTamper::Swap(one, other) => {
                let (one, other) = (place(records, one), place(records, other));
                let event = records[one].event.clone();
                records[one].event = std::mem::replace(&mut records[other].event, event);
            }
            AuditTamper::Insert(event) => {
                let sequence = records.last().map_or(1, |last| last.sequence + 1);
                records.push(AuditEvent { event: *event, recorded_at: Timestamp::now(), sequence });
            }
        }
    });
}
