//! Whether something was closed: to be asked by operations, and to be waited for by what goes on in the background.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::Shared;

/// The close of a store or a backend. Clones share it.
///
/// ```
/// let closing = changeover_core::Closing::default();
/// let waiting = closing.closed();
/// closing.close();
/// closing.close(); // twice is fine
/// assert!(closing.is_closed());
/// futures::executor::block_on(waiting);
/// ```
#[derive(Clone)]
pub struct Closing(Arc<State>);

struct State {
    /// Gone after the close.
    open: Mutex<Option<oneshot::Sender<()>>>,
    closed: Shared<oneshot::Receiver<()>>,
}

impl Default for Closing {
    fn default() -> Self {
        let (open, closed) = oneshot::channel();
        Self(Arc::new(State { open: Mutex::new(Some(open)), closed: closed.shared() }))
    }
}

impl Closing {
    /// Closes, once and for all.
    pub fn close(&self) {
        // Dropped, which is what ends the waiting.
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Returns when it is closed; never if everybody else who could close it has gone.
    pub fn closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // The clone keeps the sender: that a handle is dropped closes nothing.
        let this = self.clone();
        Box::pin(async move {
            // Cancelled is the one way it ends.
            let _ = this.0.closed.clone().await;
        })
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Closing").field(&self.is_closed()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // E117: dropping a handle closes nothing; whoever waits hears of the close, before or after it.
    #[test]
    fn a_dropped_handle_closes_nothing() {
        let closing = Closing::default();
        let (other, mut waiting) = (closing.clone(), closing.closed());
        drop(closing);
        assert!(waiting.as_mut().now_or_never().is_none() && !other.is_closed());
        other.close();
        assert!(waiting.now_or_never().is_some() && other.is_closed());
        assert!(other.closed().now_or_never().is_some());
    }
}
