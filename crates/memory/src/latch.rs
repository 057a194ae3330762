//! Whether a store may still be used: it was not closed, and neither was the backend it came from.

use std::pin::Pin;

use changeover_core::{Closing, Error, ErrorKind, Result};

/// The life of one store. Clones are the same store.
#[derive(Clone)]
pub(crate) struct Latch {
    backend_closed: Closing,
    closed: Closing,
}

impl Latch {
    pub(crate) fn new(backend_closed: &Closing) -> Self {
        Self { backend_closed: backend_closed.clone(), closed: Closing::default() }
    }

    /// `Unavailable` if the store was closed.
    ///
    /// Gives other tasks a turn first, as waiting for a database would: a loop over a store that is always ready would
    /// keep its thread to itself.
    pub(crate) async fn check(&self, operation: &'static str) -> Result<()> {
        tokio::task::yield_now().await;
        if self.closed.is_closed() || self.backend_closed.is_closed() {
            let message = "the store was closed; open it again";
            return Err(Error::new(ErrorKind::Unavailable, message).during(operation));
        }
        Ok(())
    }

    /// Returns when the store or its backend was closed.
    pub(crate) fn closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (store, backend) = (self.closed.closed(), self.backend_closed.closed());
        Box::pin(async move {
            tokio::select! {
                () = store => {}
                () = backend => {}
            }
        })
    }

    pub(crate) fn close(&self) {
        self.closed.close();
    }
}
