//! How often and how long the facade tries again, stated once.

use std::time::Duration;

use changeover_core::{Result, Uuid};

/// Waits before the attempts that follow a transient error (S3-ERR-008): three, doubling, at most 4 s.
const WAITS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Attempts of a decision in all: the first and those after a conflict.
pub(crate) const DECISIONS: u32 = 16;

/// The longest wait after a first conflict, in microseconds; twice as long after each one more, up to 64 times.
const CONFLICT_WAIT: u64 = 1_000;

/// Repeats `call` on transient errors. It must be harmless to repeat: a read, or a write with the same ids.
pub(crate) async fn transient<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    for wait in WAITS {
        match call().await {
            Err(error) if error.may_retry(true) => {
                tracing::warn!(%error, "trying again");
                tokio::time::sleep(jittered(wait)).await;
            }
            done => return done,
        }
    }
    call().await
}

/// Waits a little after the conflict number `conflict`, so that several who decide on one stream get through.
pub(crate) async fn after_conflict(conflict: u32) {
    let longest = Duration::from_micros(CONFLICT_WAIT << conflict.min(6));
    tokio::time::sleep(jittered(longest)).await;
}

/// Between a half and the whole of `longest`, so that callers who failed together do not come back together.
fn jittered(longest: Duration) -> Duration {
    let [.., random] = Uuid::new_v4().into_bytes();
    longest / 2 + longest * u32::from(random) / 512
}
