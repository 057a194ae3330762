//! How long a caller waits while nobody takes the writes of a module.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The fence of a cutover is closed for seconds, and its deadline is of this order; a caller who waits longer has
/// better things to do, and may repeat the call.
const LONG: Duration = Duration::from_secs(30);

/// Of questions that are to be answered soon, such as `ready`.
const SHORT: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The time that one call has.
pub(crate) struct Patience {
    began: Instant,
    until: Instant,
    pause: Duration,
}

impl Patience {
    fn of(time: Duration) -> Self {
        let began = Instant::now();
        Self { began, until: began + time, pause: FIRST_PAUSE }
    }

    pub(crate) fn long() -> Self {
        Self::of(LONG)
    }

    pub(crate) fn short() -> Self {
        Self::of(SHORT)
    }

    /// Waits a little, longer each time; `false` at once if there is no time left.
    pub(crate) async fn pause(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        sleep(self.pause.min(left)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }

    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// An answer that is so old is good enough: another one would be asked for after that time.
    pub(super) fn tolerance(&self) -> Duration {
        self.pause
    }

    pub(crate) fn waited(&self) -> Duration {
        self.began.elapsed()
    }
}
