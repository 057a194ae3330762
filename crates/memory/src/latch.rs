//! Whether a store may still be used: it was not closed, and neither was the backend it came from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use changeover_core::{Error, ErrorKind, Result};

/// The life of one store. Clones are the same store.
#[derive(Clone)]
pub(crate) struct Latch {
    backend_closed: Arc<AtomicBool>,
    closed: Arc<AtomicBool>,
}

impl Latch {
    pub(crate) fn new(backend_closed: &Arc<AtomicBool>) -> Self {
        Self { backend_closed: Arc::clone(backend_closed), closed: Arc::default() }
    }

    /// `Unavailable` if the store was closed.
    ///
    /// Gives other tasks a turn first, as waiting for a database would: a loop over a store that is always ready would
    /// keep its thread to itself.
    pub(crate) async fn check(&self, operation: &'static str) -> Result<()> {
        tokio::task::yield_now().await;
        if self.closed.load(Ordering::SeqCst) || self.backend_closed.load(Ordering::SeqCst) {
            let message = "the store was closed; open it again";
            return Err(Error::new(ErrorKind::Unavailable, message).during(operation));
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}
