//! What an audit repository is asked and what it answers.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use chrono::{Days, NaiveDate};
use sha2::{Digest as _, Sha256};

use super::values::{ActorType, AuditEvent, NewAuditEvent, Outcome};
use crate::Uuid;
use crate::error::{Error, Result};
use crate::text::{Limit, Text};
use crate::time::Timestamp;

/// Events to be stored, all or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Create {
    /// At least one event.
    pub events: Vec<NewAuditEvent>,
}

impl Create {
    /// The most events of one call.
    pub const MAX_EVENTS: usize = 1_000;
    /// The largest sum of data and metadata of one call, in bytes of canonical text.
    pub const MAX_BYTES: usize = 64 * 1024 * 1024;
    /// How far ahead of the store's clock an event may be.
    pub const FUTURE_SKEW: std::time::Duration = std::time::Duration::from_mins(5);

    /// The rules every backend applies first: something to store, no id twice, data and metadata objects, no event its
    /// own parent (`Invalid`); at most [`Create::MAX_EVENTS`] and [`Create::MAX_BYTES`] (`TooLarge`).
    pub fn validate(&self) -> Result<()> {
        if self.events.is_empty() {
            return Err(Error::invalid("nothing to store: give at least one audit event"));
        }
        if self.events.len() > Self::MAX_EVENTS {
            let found = self.events.len() as u64;
            return Err(Error::too_large("the batch", found, Self::MAX_EVENTS as u64, "audit events"));
        }
        let (mut ids, mut bytes) = (HashSet::new(), 0);
        for event in &self.events {
            let id = event.event_id;
            if !ids.insert(id) {
                return Err(Error::invalid(format!("audit event {id} stands twice in one batch")));
            }
            if event.parent_event_id == Some(id) {
                return Err(Error::invalid(format!("audit event {id} names itself as its parent")));
            }
            for (field, json) in [("event_data", &event.event_data), ("metadata", &event.metadata)] {
                if !json.is_object() {
                    return Err(Error::invalid(format!("audit event {id}: {field} is not a JSON object")));
                }
                bytes += json.as_str().len();
            }
        }
        if bytes > Self::MAX_BYTES {
            return Err(Error::too_large("the batch", bytes as u64, Self::MAX_BYTES as u64, "bytes of JSON"));
        }
        Ok(())
    }

    /// The rule about times: from 1970 until `now`, the clock that `recorded_at` is taken from, plus
    /// [`Create::FUTURE_SKEW`], both ends included. `Invalid` names the first event outside.
    pub fn check_times(&self, now: Timestamp) -> Result<()> {
        // A skew of minutes fits; the sum is held to the years that there are.
        let skew = i64::try_from(Self::FUTURE_SKEW.as_micros()).unwrap_or(0);
        let latest = Timestamp::from_micros(now.as_micros().saturating_add(skew)).unwrap_or(Timestamp::MAX);
        let allowed = 0..=latest.as_micros();
        match self.events.iter().find(|event| !allowed.contains(&event.event_timestamp.as_micros())) {
            None => Ok(()),
            Some(event) => Err(Error::invalid(format!(
                "audit event {}: event_timestamp is {}, allowed is 1970 until {latest}, 5 minutes ahead of the store's \
                 clock",
                event.event_id, event.event_timestamp
            ))),
        }
    }
}

/// The answer to a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// How many were stored now.
    pub stored: usize,
    /// How many were stored before with equal content.
    pub repeated: usize,
}

/// Which events are wanted; each field `None` for all.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct AuditFilter {
    /// Only this type.
    pub event_type: Option<Text<100>>,
    /// Only this category.
    pub event_category: Option<Text<50>>,
    /// Only this outcome.
    pub event_outcome: Option<Outcome>,
    /// Only this service.
    pub service_name: Option<Text<100>>,
    /// Only this kind of actor.
    pub actor_type: Option<ActorType>,
    /// Only this actor.
    pub actor_id: Option<Text<255>>,
    /// Only this type of resource.
    pub resource_type: Option<Text<100>>,
    /// Only this resource.
    pub resource_id: Option<Text<255>>,
    /// Only this correlation id.
    pub correlation_id: Option<Text<255>>,
    /// Not before, inclusive.
    pub start: Option<Timestamp>,
    /// Before, exclusive.
    pub end: Option<Timestamp>,
}

impl AuditFilter {
    /// `Invalid` if `start` is after `end`.
    pub fn validate(&self) -> Result<()> {
        match (self.start, self.end) {
            (Some(start), Some(end)) if start > end => {
                Err(Error::invalid(format!("start {start} is after end {end}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether an event is wanted.
    pub fn matches(&self, event: &NewAuditEvent) -> bool {
        fn same<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        same(self.event_type.as_ref(), Some(&event.event_type))
            && same(self.event_category.as_ref(), Some(&event.event_category))
            && same(self.event_outcome.as_ref(), Some(&event.event_outcome))
            && same(self.service_name.as_ref(), Some(&event.service_name))
            && same(self.actor_type.as_ref(), Some(&event.actor_type))
            && same(self.actor_id.as_ref(), event.actor_id.as_ref())
            && same(self.resource_type.as_ref(), Some(&event.resource_type))
            && same(self.resource_id.as_ref(), Some(&event.resource_id))
            && same(self.correlation_id.as_ref(), event.correlation_id.as_ref())
            && self.start.is_none_or(|start| start <= event.event_timestamp)
            && self.end.is_none_or(|end| event.event_timestamp < end)
    }
}

/// The order of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AuditOrder {
    /// Latest time first, equal times by rising id.
    #[default]
    NewestFirst,
    /// The exact mirror of [`AuditOrder::NewestFirst`].
    OldestFirst,
    /// As recorded.
    Recorded,
}

/// Which page is wanted.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct AuditQuery {
    /// Which events.
    pub filter: AuditFilter,
    /// In which order.
    pub order: AuditOrder,
    /// The most events of the page.
    pub limit: Limit,
    /// How many to pass over first; not together with a token.
    pub offset: u64,
    /// `next` of the page before.
    pub page: Option<AuditToken>,
}

impl AuditQuery {
    /// `Invalid` for an inverted range, an offset beside a token, or a token of another query.
    pub fn validate(&self) -> Result<()> {
        self.filter.validate()?;
        let Some(token) = &self.page else { return Ok(()) };
        if self.offset > 0 {
            return Err(Error::invalid("offset and page token are given; give one of them"));
        }
        if token.query != self.fingerprint() {
            return Err(Error::invalid(
                "the page token is of another filter or order; begin again without one",
            ));
        }
        Ok(())
    }

    /// The token of the page that follows `event`.
    pub fn token_after(&self, event: &AuditEvent) -> AuditToken {
        let at = match self.order {
            AuditOrder::Recorded => event.sequence,
            AuditOrder::NewestFirst | AuditOrder::OldestFirst => event.event.event_timestamp.as_micros(),
        };
        AuditToken { query: self.fingerprint(), at, id: event.event.event_id }
    }

    fn fingerprint(&self) -> u64 {
        let digest = Sha256::digest(format!("{:?} {:?}", self.filter, self.order));
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(first)
    }
}

/// Where the next page of a query begins. As text `a1.<query>.<place>.<id>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditToken {
    query: u64,
    at: i64,
    id: Uuid,
}

impl AuditToken {
    /// The place of the last event of the page before: microseconds of its time, or its sequence in recorded order.
    pub fn at(&self) -> i64 {
        self.at
    }

    /// The id of the last event of the page before.
    pub fn id(&self) -> Uuid {
        self.id
    }
}

impl fmt::Display for AuditToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a1.{:016x}.{}.{}", self.query, self.at, self.id.simple())
    }
}

impl FromStr for AuditToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse =
            || Error::invalid("not a page token; allowed is text that a page of the same query returned");
        let mut parts = text.split('.');
        let (Some("a1"), Some(query), Some(at), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse());
        };
        let token = Self {
            query: u64::from_str_radix(query, 16).map_err(|_| refuse())?,
            at: at.parse().map_err(|_| refuse())?,
            id: Uuid::try_parse(id).map_err(|_| refuse())?,
        };
        if token.to_string() == text { Ok(token) } else { Err(refuse()) }
    }
}

/// A page of audit events.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditPage {
    /// The events, in the order asked for.
    pub events: Vec<AuditEvent>,
    /// There exactly when more events match.
    pub next: Option<AuditToken>,
}

/// Whose chain is to be verified.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyChain {
    /// The correlation id.
    pub correlation_id: Text<255>,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// How many events were looked at.
    pub events: u64,
    /// The digest of the last one that fits.
    pub head: Option<[u8; 32]>,
    /// The first place that does not fit; `None`: the chain holds.
    pub broken: Option<Break>,
}

/// A place where a chain does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// The event at which it shows.
    pub event_id: Uuid,
    /// What does not fit.
    pub problem: String,
}

/// How long events of a category are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The category.
    pub category: Text<50>,
    /// Days, at least 1; an event is due when its date lies that many days before today (UTC) or more.
    pub days: u32,
}

/// What is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retain {
    /// The rules; categories without one are kept for ever.
    pub rules: Vec<Keep>,
    /// The day the rules are counted from.
    pub now: Timestamp,
    /// Count only.
    pub dry_run: bool,
    /// The most events removed by this call.
    pub limit: Limit,
}

impl Retain {
    /// `Invalid` for no rule, a rule of zero days, or a category with two rules.
    pub fn validate(&self) -> Result<()> {
        if self.rules.is_empty() {
            return Err(Error::invalid("no retention rule is given; give category and days"));
        }
        let mut seen = HashSet::new();
        for rule in &self.rules {
            if rule.days == 0 {
                return Err(Error::invalid(format!(
                    "category {}: 0 days, at least 1 is allowed",
                    rule.category
                )));
            }
            if !seen.insert(&rule.category) {
                return Err(Error::invalid(format!("category {} has two retention rules", rule.category)));
            }
        }
        Ok(())
    }
}

impl Keep {
    /// The latest date that is due on the day of `now`; `None`: no date is that old.
    pub fn due_until(&self, now: Timestamp) -> Option<NaiveDate> {
        now.date().checked_sub_days(Days::new(self.days.into()))
    }
}

/// What was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Events by category, in the order of the rules; one entry a rule, 0 too.
    pub removed: Vec<(Text<50>, u64)>,
    /// Whole months that went at once, like `2024-01`, in their order.
    pub months: Vec<String>,
    /// Nothing more can go: what is due and stays is the parent of something kept.
    pub done: bool,
}
