//! How long what took, from the steps that were told.

use std::time::{Duration, Instant};

use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::{Pause, Step};

/// Of one drill.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    /// The first run: its rows.
    pub copy: Duration,
    /// The first run: following and comparing, up to the fence.
    pub compare: Duration,
    /// The longest pause of a switch, one that was taken back included.
    pub switch: Duration,
    /// The longest of the revert.
    pub revert: Duration,
    pub wrote_back: u64,
    at: Option<(Phase, Instant)>,
    way: Way,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    #[default]
    First,
    Back,
    Again,
}

impl Times {
    /// From now on it is the revert that is told of.
    pub(super) fn back(&mut self) {
        self.way = Way::Back;
    }

    /// From now on it is the second run.
    pub(super) fn there(&mut self) {
        self.way = Way::Again;
    }

    pub(super) fn see(&mut self, step: &Step) {
        match step {
            Step::Phase(phase) => {
                if let (Some((before, since)), Way::First) = (self.at, self.way) {
                    match before {
                        Phase::Prepared | Phase::Copying => self.copy += since.elapsed(),
                        Phase::CatchingUp | Phase::Verifying => self.compare += since.elapsed(),
                        _ => {}
                    }
                }
                self.at = Some((*phase, Instant::now()));
            }
            Step::WroteBack { rows, .. } => self.wrote_back += rows,
            Step::Paused(Pause { took, ended }) => {
                let longest = match (self.way, ended) {
                    (Way::Back, Owner::Sqlite) => &mut self.revert,
                    _ => &mut self.switch,
                };
                *longest = (*longest).max(*took);
            }
            Step::Copied(_)
            | Step::Indexing
            | Step::Followed { .. }
            | Step::Compared { .. }
            | Step::WentBack { .. }
            | Step::Archive(_)
            | Step::Waiting { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_count_where_they_belong_and_the_longest_is_kept() {
        let paused = |millis, ended| Step::Paused(Pause { took: Duration::from_millis(millis), ended });
        let mut times = Times::default();
        times.see(&Step::Phase(Phase::Copying));
        std::thread::sleep(Duration::from_millis(5));
        times.see(&Step::Phase(Phase::CatchingUp));
        assert!(times.copy >= Duration::from_millis(5) && times.compare.is_zero());
        times.see(&paused(9, Owner::Sqlite));
        times.see(&paused(7, Owner::Postgres));
        times.back();
        times.see(&Step::WroteBack { rows: 3, left: 1 });
        times.see(&paused(4, Owner::Sqlite));
        times.there();
        let copied = times.copy;
        times.see(&Step::Phase(Phase::Copying));
        times.see(&Step::Phase(Phase::CatchingUp));
        times.see(&paused(8, Owner::Postgres));
        assert_eq!((times.switch.as_millis(), times.revert.as_millis(), times.wrote_back), (9, 4, 3));
        assert_eq!(times.copy, copied, "of the first run only");
    }
}
