//! What a run is made under. It is kept in the run, so that whoever goes on with it goes on under the same terms.

use std::time::Duration;

use changeover_core::{Error, ErrorKind, Json, Result, TenantId};
use serde::{Deserialize, Serialize};

use crate::convert::Accepted;

/// The terms of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// The tenant of a file that has none.
    pub tenant: TenantId,
    /// Losses accepted, by name.
    pub accepted: Accepted,
    /// While no more rows than this are in quarantine, in all, they are approved without being asked for, and recorded as such.
    pub max_quarantined: u64,
    /// The fingerprint of the plan that this run follows; a file that differs is refused.
    pub plan: Option<Json>,
    /// A run is begun only if the record has a drill of the same that is younger than this.
    pub drill_within: Option<Duration>,
    /// The most rows read at once.
    pub chunk_rows: u32,
    /// The most bytes read at once.
    pub chunk_bytes: u64,
    /// The share of time in which the copy may read the file, above 0 up to 1.
    pub busy: f64,
    /// The copy waits while a replica of the new store has more bytes of its log left to replay.
    pub max_replica_lag: Option<u64>,
    /// The longest pause of the writers: past it a fence is opened again.
    pub max_pause: Duration,
    /// How often a fence is tried.
    pub attempts: u32,
    /// Captured changes that may be left when the fence is closed.
    pub max_lag: u64,
    /// How long the lease lasts without renewal.
    pub lease: Duration,
    /// How long one goes on trying while a store cannot be had.
    pub patience: Duration,
    /// The file stays where it is when its last module is finalized, closed; else it is archived.
    pub keep_file: bool,
}

impl Terms {
    /// For a tenant: nothing accepted, no drill demanded; 2,000 rows or 8 MiB at once; the file may be read all the time, and replicas are not waited for; a pause of 10 s at most,
    /// tried 5 times, begun with at most 500 changes left; a lease of 30 s; a patience of 2 min; the file is archived in the end.
    pub fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            accepted: Accepted::default(),
            max_quarantined: 0,
            plan: None,
            drill_within: None,
            chunk_rows: 2_000,
            chunk_bytes: 8 << 20,
            busy: 1.0,
            max_replica_lag: None,
            max_pause: Duration::from_secs(10),
            attempts: 5,
            max_lag: 500,
            lease: Duration::from_secs(30),
            patience: Duration::from_mins(2),
            keep_file: false,
        }
    }

    /// All mistakes at once.
    ///
    /// # Errors
    ///
    /// `Config` names each, and what is allowed.
    pub fn check(&self) -> Result<()> {
        let mut wrong = Vec::new();
        let mut needs = |is_right: bool, what: String| {
            if !is_right {
                wrong.push(what);
            }
        };
        let rows = 1..=100_000;
        needs(
            rows.contains(&self.chunk_rows),
            format!("chunk rows are {}, allowed are 1 to 100000", self.chunk_rows),
        );
        needs(
            (1 << 10..=256 << 20).contains(&self.chunk_bytes),
            format!("chunk bytes are {}, allowed are 1 KiB to 256 MiB", self.chunk_bytes),
        );
        needs(
            self.busy > 0.0 && self.busy <= 1.0,
            format!("the busy share is {}, allowed is above 0 up to 1", self.busy),
        );
        let pause = Duration::from_millis(100)..=Duration::from_hours(1);
        needs(
            pause.contains(&self.max_pause),
            format!("the longest pause is {:?}, allowed are 100 ms to 1 h", self.max_pause),
        );
        needs(self.attempts > 0, "attempts are 0, at least 1 is needed".to_owned());
        let lease = Duration::from_secs(1)..=Duration::from_hours(1);
        needs(lease.contains(&self.lease), format!("the lease is {:?}, allowed are 1 s to 1 h", self.lease));
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Config, wrong.join("\n")))
    }
}

/// What of the terms decides about rows, and so has to stay the same to the end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub accepted: Vec<String>,
    pub max_quarantined: u64,
    /// What is added to the numbers of notifications.
    pub notifications_from: i64,
    /// The tables of the new store as they were when the run began.
    pub target: Vec<String>,
}

impl Kept {
    pub(super) fn read(terms: &Json) -> Result<Self> {
        terms.to().map_err(|error| {
            Error::new(
                ErrorKind::Corrupt,
                format!("the terms of the run are unreadable, another program made it: {}", error.message()),
            )
        })
    }

    pub(super) fn accepted(&self) -> Result<Accepted> {
        Accepted::parse(&self.accepted)
    }
}
