//! One comparison: when two answers can be compared, and when they differ.
//!
//! # Why what is reported is no accident of timing
//!
//! The file is the owner, `t1 < t2 < t3 < t4`, and a round goes: the owner's answer `A` (a snapshot at `t1`), its position
//! `P` (`t2`), wait until the follower has applied up to `P`, the answer `B` of the new store (`t3`), the owner's answer `A'`
//! (`t4`), its position `P'`.
//!
//! 1. *Every row of the new store is, at `t3`, what that row was in the file at some moment of `t2..t3`.* A change before `t2`
//!    has a number up to `P`; when that is applied its row was read again, at the time of the change or later, or a chunk of
//!    the copy contained it. What is applied ahead of its number is of no harm: it is a state of the row before `t3` all the
//!    same. Rows that stay out are in quarantine, which changes in the transactions that change the rows. So `B` is what the
//!    file would have answered if each row stood as it did at a moment of its own within `t2..t3`.
//! 2. *`P = P'`* (quiet): no row changed between `t2` and the end of the round. All those moments show the same file, that of
//!    `A'`, and so `B` is `A'` or something is wrong.
//! 3. *Others write, but `A` and `A'` say the same of a record, and differ from `B` in the same.* The record has not changed in
//!    between, since one of our stores never comes back to what it was (events and audit events do not change, and a change
//!    of a playbook moves its `updated_at` on), so `B` has to show it and as it is. The same goes for what only grows:
//!    versions of a stream, the end of a log. A finding of this sort is [`Found::is_certain`]. A record that neither shows
//!    may have come and gone meanwhile (a playbook was active for a moment): such a finding counts in a quiet round only.
//! 4. A run that was given up meanwhile has emptied the new store: whether it follows is asked once more after `B`. Rows that
//!    went to quarantine, or came from there, are looked for before and after `B`.
//! 5. One that enters quarantine after the first look and leaves it before the second, with `B` between them, would pass as
//!    missing. Hence a difference is reported when two rounds, one after the other, found the same.
//!
//! 6. A row that the new store shows and the owner does not may be one that the owner's store passes over, where a loss was
//!    accepted of values that it cannot read. Whether the file has a row at that place is asked within the round; so such a
//!    finding, which counts in a quiet round only, is about the file of that round.
//!
//! Not covered: a program of others that changes a row of the file and back, twice at the very moments, in a way that no
//! store of ours does, under writes that never pause.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use changeover_core::{ErrorKind, Result, TenantId};
use tokio::time::sleep;

use super::follower::{Apart, Follower, Position};

/// How often a read is tried before nothing can be said of it.
const ROUNDS: u32 = 5;

/// What differs between two answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(super) key: String,
    pub(super) field: String,
    pub(super) owner: String,
    pub(super) shadow: String,
    /// Whether the owner showed it, so that an equal answer later says that it did not change.
    pub(super) is_certain: bool,
}

/// What became of a comparison.
#[derive(Debug)]
pub(super) enum Outcome {
    Equal,
    Different(Vec<Found>),
    Unsettled,
    Idle,
    Failed(ErrorKind),
}

/// A read that two stores are asked.
pub(crate) trait Read: Clone + Send + Sync + 'static {
    type Store: Send + Sync + ?Sized + 'static;
    /// As errors name it.
    const NAME: &'static str;
    type Answer: Clone + PartialEq + Send + Sync + 'static;

    fn ask(self, store: Arc<Self::Store>) -> impl Future<Output = Result<Self::Answer>> + Send;

    /// What a store that knows nothing of it would say, where that is an error.
    fn nothing(&self) -> Option<Self::Answer> {
        None
    }

    /// What differs, but for the rows that are set apart; empty for equal answers. What is of the store alone (tokens, the
    /// time of recording where the file has none) is not looked at.
    fn differences(&self, owner: &Self::Answer, shadow: &Self::Answer, apart: &Apart) -> Vec<Found>;

    /// The table of the records of an answer, with the name and the place in the file of each.
    fn places(&self, _: &Self::Answer) -> (&'static str, Vec<(String, i64)>) {
        ("", Vec::new())
    }
}

/// A read and both stores.
pub(super) struct Comparison<'a, R: Read> {
    pub(super) read: R,
    pub(super) owner: &'a Arc<R::Store>,
    pub(super) shadow: &'a Arc<R::Store>,
    pub(super) follower: &'a Follower,
    pub(super) tenant: &'a TenantId,
    /// How long the follower is waited for in a round.
    pub(super) patience: Duration,
}

impl<R: Read> Comparison<'_, R> {
    /// `position` was asked for after `answer`.
    pub(super) async fn run(self, mut answer: R::Answer, mut position: Position) -> Outcome {
        let (mut apart, mut before) = (Apart::default(), Vec::new());
        for round in 0..ROUNDS {
            let round = match self.round(&answer, position, &apart, round).await {
                Ok(Ok(round)) => round,
                Ok(Err(outcome)) => return outcome,
                Err(error) => return Outcome::Failed(error.kind()),
            };
            if !round.found.is_empty() && round.found == before {
                return Outcome::Different(round.found);
            }
            (answer, position, apart, before) = (round.answer, round.position, round.apart, round.found);
        }
        Outcome::Unsettled
    }

    async fn round(
        &self,
        answer: &R::Answer,
        position: Position,
        apart: &Apart,
        round: u32,
    ) -> Result<Result<Round<R::Answer>, Outcome>> {
        if round > 0 {
            sleep(Duration::from_millis(20) * round).await;
        }
        match self.follower.reached(position, self.patience).await? {
            Some(true) => {}
            Some(false) => return Ok(Err(Outcome::Unsettled)),
            None => return Ok(Err(Outcome::Idle)),
        }
        let seen = match self.read.clone().ask(Arc::clone(self.shadow)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => match self.read.nothing() {
                Some(nothing) => nothing,
                None => return Err(error),
            },
            seen => seen?,
        };
        if self.read.differences(answer, &seen, &Apart::default()).is_empty() {
            return Ok(Err(Outcome::Equal));
        }
        let now = self.follower.apart(self.tenant).await?;
        if !self.follower.is_still(position.run).await? {
            return Ok(Err(Outcome::Idle));
        }
        let again = match self.read.clone().ask(Arc::clone(self.owner)).await {
            Ok(again) => again,
            Err(error) if error.kind() == ErrorKind::Moved => return Ok(Err(Outcome::Idle)),
            // It answered the caller: nothing is known of the new store.
            Err(_) => return Ok(Err(Outcome::Unsettled)),
        };
        let Some(later) = self.follower.position().await?.filter(|later| later.run == position.run) else {
            return Ok(Err(Outcome::Idle));
        };
        let mut all = apart.clone();
        all.join(now.clone());
        let mut found = self.read.differences(&again, &seen, &all);
        if all.any_unread() {
            self.forget_unread(&mut found, &seen).await?;
        }
        if found.is_empty() {
            return Ok(Err(Outcome::Equal));
        }
        if later != position {
            let first = self.read.differences(answer, &seen, &all);
            found = stood_still(&first, found);
        }
        Ok(Ok(Round { answer: again, position: later, apart: now, found }))
    }

    /// Where the file has rows that its store cannot read, what the new store shows of a row of the file is not extra. A row that
    /// is another there is found by every read that shows it in both.
    async fn forget_unread(&self, found: &mut Vec<Found>, seen: &R::Answer) -> Result<()> {
        let (table, mut places) = self.read.places(seen);
        places.retain(|(name, _)| found.iter().any(|it| it.is_extra(name)));
        if places.is_empty() {
            return Ok(());
        }
        let held = self.follower.held(table, places.iter().map(|(_, place)| *place)).await?;
        for (name, _) in places.iter().zip(held).filter_map(|(place, is_held)| is_held.then_some(place)) {
            found.retain(|it| !it.is_extra(name));
        }
        Ok(())
    }
}

/// Of what was found while others wrote, what was found of a record before and after.
fn stood_still(before: &[Found], after: Vec<Found>) -> Vec<Found> {
    let of = |all: &[Found], key: &str| all.iter().filter(|it| it.key == key).cloned().collect::<Vec<_>>();
    let stood = |it: &Found| it.is_certain && of(before, &it.key) == of(&after, &it.key);
    let stood: Vec<_> = after.iter().map(stood).collect();
    after.into_iter().zip(stood).filter_map(|(found, stood)| stood.then_some(found)).collect()
}

/// What a round leaves for the next.
struct Round<A> {
    answer: A,
    position: Position,
    apart: Apart,
    found: Vec<Found>,
}

impl Found {
    /// A field of a record that both show.
    pub(super) fn field(key: &str, field: &str, owner: impl Display, shadow: impl Display) -> Self {
        let (owner, shadow) = (owner.to_string(), shadow.to_string());
        Self { key: key.to_owned(), field: field.to_owned(), owner, shadow, is_certain: true }
    }

    /// A record that the new store has not; `owner` changes with it.
    pub(super) fn missing(key: &str, owner: impl Display) -> Self {
        Self::field(key, "missing", owner, "")
    }

    /// A record that the owner has not.
    pub(super) fn extra(key: &str, shadow: impl Display) -> Self {
        Self::field(key, "extra", "", shadow).uncertain()
    }

    fn is_extra(&self, key: &str) -> bool {
        self.field == "extra" && self.key == key
    }

    /// About something that may come and go.
    pub(super) fn uncertain(self) -> Self {
        Self { is_certain: false, ..self }
    }
}
