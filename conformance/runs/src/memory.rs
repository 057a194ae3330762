//! The reference backend, in the process of the suite.

use std::sync::Arc;

use async_trait::async_trait;
use changeover_conformance::{Family, Faults, Harness, StartError, Unsupported};
use changeover_core::{Backend, BackendSettings, OpenBackend};
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
    const STORES: &[Family] = &[Family::Events, Family::Audit];

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
}
