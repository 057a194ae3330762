//! A second opinion on audit repositories: the contract in the fewest words, and random scripts to compare one with it.

use std::collections::HashMap;

use changeover_core::audit::{
    ActorType, AuditFilter, AuditOrder, AuditQuery, Create, Keep, Link, NewAuditEvent, Outcome, Retain,
    VerifyChain,
};
use changeover_core::{AuditRepository, Detail, ErrorKind, Text, Uuid};

use super::script::Dice;
use crate::support::audit::{at, event, ids, query_pages, recorded, text};
use crate::support::{Must, limit};

const CATEGORIES: [&str; 3] = ["gateway", "workflow", "ai"];
const ACTORS: [&str; 3] = ["ada", "Ada", "a_a"];
const CORRELATIONS: [&str; 3] = ["c-1", "c-2", "c%"];
const TIMES: [&str; 6] = [
    "2024-07-30T23:59:59.999999Z",
    "2024-07-01T00:00:00Z",
    "2024-06-30T23:59:59.999999Z",
    "2023-01-01T00:00:00Z",
    "2023-01-15T12:00:00.000001Z",
    "1999-12-31T23:59:59Z",
];
/// The day that retention is counted from.
const NOW: &str = "2024-07-31T12:00:00Z";

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create(Vec<Pick>),
    Get(usize),
    Query { bits: u32, order: AuditOrder, size: i64, offset: u64 },
    Count(u32),
    Verify(usize),
    Retain { days: [u32; 2], dry_run: bool },
}

/// An event of a batch: a new one, one without its parent, or one that is stored, as it is or with other content. Numbers
/// point into what there is, modulo its size.
#[derive(Clone, Debug)]
pub(crate) enum Pick {
    New { bits: u32, parent: Option<usize> },
    Orphan,
    Again(usize),
    Changed(usize),
}

/// `steps` steps; half of them write.
pub(crate) fn random_script(seed: u64, steps: usize) -> Vec<Op> {
    let mut dice = Dice(seed);
    (0..steps).map(|_| random_step(&mut dice)).collect()
}

fn random_step(dice: &mut Dice) -> Op {
    match dice.below(20) {
        0..=8 => {
            let size = dice.below(5);
            Op::Create((0..size).map(|_| random_pick(dice)).collect())
        }
        9 | 10 => Op::Get(dice.index(200)),
        11..=14 => {
            let order = [AuditOrder::NewestFirst, AuditOrder::OldestFirst, AuditOrder::Recorded];
            Op::Query {
                bits: bits(dice),
                order: order[dice.index(3)],
                size: 1 + i64::from(bits(dice) % 6),
                offset: dice.maybe(4, |dice| dice.below(5)).unwrap_or(0),
            }
        }
        15 | 16 => Op::Count(bits(dice)),
        17 | 18 => Op::Verify(dice.index(3)),
        _ => Op::Retain { days: [1 + bits(dice) % 800, 1 + bits(dice) % 40], dry_run: dice.below(2) == 0 },
    }
}

fn random_pick(dice: &mut Dice) -> Pick {
    match dice.below(16) {
        0 => Pick::Orphan,
        1 => Pick::Again(dice.index(200)),
        2 => Pick::Changed(dice.index(200)),
        _ => Pick::New { bits: bits(dice), parent: dice.maybe(6, |dice| dice.index(200)) },
    }
}

fn bits(dice: &mut Dice) -> u32 {
    u32::try_from(dice.below(1 << 32)).must("32 bits")
}

/// A choice out of a few by some bits; `None` one time in their number and one more.
fn pick<T: Copy>(bits: u32, shift: u32, of: &[T]) -> Option<T> {
    of.get((bits >> shift & 0xff) as usize % (of.len() + 1)).copied()
}

fn optional<const MAX: usize>(word: Option<&str>) -> Option<Text<MAX>> {
    word.map(text)
}

fn filter(bits: u32) -> AuditFilter {
    // Few filters a query, else nothing would pass.
    match bits % 8 {
        0 => AuditFilter::default(),
        1 => AuditFilter { event_category: optional(pick(bits, 8, &CATEGORIES)), ..AuditFilter::default() },
        2 => AuditFilter { actor_id: optional(pick(bits, 8, &ACTORS)), ..AuditFilter::default() },
        3 => AuditFilter { correlation_id: optional(pick(bits, 8, &CORRELATIONS)), ..AuditFilter::default() },
        4 => AuditFilter { event_outcome: pick(bits, 8, Outcome::ALL), ..AuditFilter::default() },
        5 => AuditFilter { actor_type: pick(bits, 8, ActorType::ALL), ..AuditFilter::default() },
        6 => AuditFilter {
            start: pick(bits, 8, &TIMES).map(at),
            event_category: optional(pick(bits, 16, &CATEGORIES)),
            ..AuditFilter::default()
        },
        _ => AuditFilter {
            start: Some(at("2023-01-01T00:00:00Z")),
            end: pick(bits, 8, &TIMES[..3]).map(at),
            ..AuditFilter::default()
        },
    }
}

/// A repository and the model beside it, in a place that nobody else writes to meanwhile.
pub(crate) struct Player<'a> {
    store: &'a dyn AuditRepository,
    /// Every event that was ever made, by its number.
    made: Vec<NewAuditEvent>,
    /// What is stored, in recorded order.
    stored: Vec<NewAuditEvent>,
    /// The heads of the chains, over what was removed too.
    heads: HashMap<Text<255>, [u8; 32]>,
    /// How each step ended, in a word.
    pub(crate) transcript: Vec<&'static str>,
}

impl<'a> Player<'a> {
    pub(crate) fn new(store: &'a dyn AuditRepository) -> Self {
        Self { store, made: Vec::new(), stored: Vec::new(), heads: HashMap::new(), transcript: Vec::new() }
    }

    /// Plays the steps; panics where the repository first differs from the model.
    pub(crate) async fn play(&mut self, seed: u64, script: &[Op]) {
        for (number, op) in script.iter().enumerate() {
            let place = format!("seed {seed}, step {number}, {op:?}");
            let word = match op {
                Op::Create(picks) => self.create(picks, &place).await,
                Op::Get(number) => self.get(*number, &place).await,
                Op::Query { bits, order, size, offset } => {
                    let filter = filter(*bits);
                    // Pages grow with what is stored, so that a query has some tens of them at most.
                    let grown = i64::try_from(self.stored.len() / 20).must("a size");
                    let request = AuditQuery {
                        filter,
                        order: *order,
                        limit: limit(size * (1 + grown)),
                        offset: *offset,
                        page: None,
                    };
                    self.query(request, &place).await
                }
                Op::Count(bits) => {
                    let filter = filter(*bits);
                    let expected = self.stored.iter().filter(|event| passes(&filter, event)).count();
                    assert_eq!(self.store.count(filter).await.must(&place), expected as u64, "{place}");
                    "counted"
                }
                Op::Verify(number) => self.verify(CORRELATIONS[*number], &place).await,
                Op::Retain { days, dry_run } => self.retain(*days, *dry_run, &place).await,
            };
            self.transcript.push(word);
        }
        let found: Vec<_> = recorded(self.store).await.into_iter().map(|stored| stored.event).collect();
        assert!(found == self.stored, "seed {seed}: what is stored at the end differs from the model");
    }

    fn nth(&self, number: usize) -> Option<NewAuditEvent> {
        let count = self.made.len();
        (count > 0).then(|| self.made[number % count].clone())
    }

    fn event_of(&mut self, pick_of: &Pick) -> NewAuditEvent {
        let mut new = event(self.made.len());
        match pick_of {
            Pick::Again(number) | Pick::Changed(number) if !self.stored.is_empty() => {
                let old = self.stored[*number % self.stored.len()].clone();
                let changed = matches!(pick_of, Pick::Changed(_));
                return if changed { NewAuditEvent { event_type: text("changed"), ..old } } else { old };
            }
            Pick::Again(_) | Pick::Changed(_) => {}
            Pick::Orphan => new.parent_event_id = Some(Uuid::new_v4()),
            Pick::New { bits, parent } => {
                new.event_category = text(pick(*bits, 0, &CATEGORIES).unwrap_or("legal"));
                new.actor_id = optional(pick(*bits, 8, &ACTORS));
                new.correlation_id = optional(pick(*bits, 16, &CORRELATIONS));
                new.event_timestamp = at(pick(*bits, 24, &TIMES).unwrap_or(TIMES[0]));
                new.event_outcome = pick(*bits, 4, Outcome::ALL).unwrap_or(Outcome::Success);
                new.actor_type = pick(*bits, 12, ActorType::ALL).unwrap_or(ActorType::User);
                new.parent_event_id =
                    parent.and_then(|number| self.nth(number)).map(|parent| parent.event_id);
            }
        }
        self.made.push(new.clone());
        new
    }

    async fn create(&mut self, picks: &[Pick], place: &str) -> &'static str {
        let events: Vec<_> = picks.iter().map(|pick| self.event_of(pick)).collect();
        let request = Create { events };
        let answer = self.store.create(request.clone()).await;
        if request.validate().is_err() {
            assert_eq!(answer.err().must(place).kind(), ErrorKind::Invalid, "{place}");
            return "invalid";
        }
        let stored_as = |id: Uuid| self.stored.iter().find(|stored| stored.event_id == id);
        let differs =
            |event: &&NewAuditEvent| stored_as(event.event_id).is_some_and(|stored| stored != *event);
        if let Some(taken) = request.events.iter().find(differs) {
            let error = answer.err().must(place);
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{place}: {error}");
            assert_eq!(error.detail(), Some(&Detail::Exists { id: taken.event_id }), "{place}");
            return "taken";
        }
        let all = request.events.len();
        let new: Vec<_> =
            request.events.into_iter().filter(|event| stored_as(event.event_id).is_none()).collect();
        for (number, event) in new.iter().enumerate() {
            let Some(parent) = event.parent_event_id else { continue };
            if stored_as(parent).is_none() && !new[..number].iter().any(|earlier| earlier.event_id == parent)
            {
                let error = answer.err().must(place);
                assert_eq!(error.kind(), ErrorKind::NotFound, "{place}: {error}");
                assert!(error.message().contains(&parent.to_string()), "{place}: {error}");
                return "orphan";
            }
        }
        let answer = answer.must(place);
        assert_eq!((answer.stored, answer.repeated), (new.len(), all - new.len()), "{place}");
        for event in &new {
            if let Some(correlation) = &event.correlation_id {
                let link = Link::of(self.heads.get(correlation), event).link;
                self.heads.insert(correlation.clone(), link);
            }
        }
        let repeated = new.len() < all;
        self.stored.extend(new);
        if repeated { "repeated" } else { "stored" }
    }

    async fn get(&self, number: usize, place: &str) -> &'static str {
        let id = self.nth(number).map_or_else(Uuid::new_v4, |event| event.event_id);
        let expected = self.stored.iter().find(|stored| stored.event_id == id);
        let found = self.store.get(id).await.must(place).map(|found| found.event);
        assert!(found.as_ref() == expected, "{place}: found {found:?}, stored is {expected:?}");
        "got"
    }

    async fn query(&self, request: AuditQuery, place: &str) -> &'static str {
        let mut expected: Vec<_> =
            self.stored.iter().filter(|event| passes(&request.filter, event)).collect();
        match request.order {
            AuditOrder::Recorded => {}
            AuditOrder::OldestFirst | AuditOrder::NewestFirst => expected.sort_by(|a, b| {
                b.event_timestamp.cmp(&a.event_timestamp).then_with(|| a.event_id.cmp(&b.event_id))
            }),
        }
        if request.order == AuditOrder::OldestFirst {
            expected.reverse();
        }
        let offset = usize::try_from(request.offset).unwrap_or(usize::MAX);
        let expected: Vec<_> = expected.iter().skip(offset).map(|event| event.event_id).collect();
        assert_eq!(ids(&query_pages(self.store, request).await), expected, "{place}");
        "queried"
    }

    async fn verify(&self, correlation: &str, place: &str) -> &'static str {
        let correlation = text(correlation);
        let answer = self.store.verify(VerifyChain { correlation_id: correlation.clone() }).await;
        if !self.store.capabilities().hash_chain.is_yes() {
            assert_eq!(answer.err().must(place).kind(), ErrorKind::Unsupported, "{place}");
            return "unsupported";
        }
        let report = answer.must(place);
        let of = |event: &&NewAuditEvent| event.correlation_id.as_ref() == Some(&correlation);
        assert_eq!(report.broken, None, "{place}");
        assert_eq!(report.events, self.stored.iter().filter(of).count() as u64, "{place}");
        assert_eq!(report.head.as_ref(), self.heads.get(&correlation), "{place}");
        "verified"
    }

    async fn retain(&mut self, days: [u32; 2], dry_run: bool, place: &str) -> &'static str {
        let rules = ["gateway", "ai"].iter().zip(days);
        let rules: Vec<_> = rules.map(|(category, days)| Keep { category: text(category), days }).collect();
        let request = Retain { rules: rules.clone(), now: at(NOW), dry_run, limit: limit(10_000) };
        let answer = self.store.retain(request).await;
        if !self.store.capabilities().retention.is_yes() {
            assert_eq!(answer.err().must(place).kind(), ErrorKind::Unsupported, "{place}");
            return "unsupported";
        }
        let answer = answer.must(place);
        let age = |event: &NewAuditEvent| {
            const DAY: i64 = 86_400_000_000;
            at(NOW).as_micros().div_euclid(DAY) - event.event_timestamp.as_micros().div_euclid(DAY)
        };
        let due = |event: &NewAuditEvent| {
            rules
                .iter()
                .any(|rule| rule.category == event.event_category && age(event) >= i64::from(rule.days))
        };
        // Parents stand before their children, so from the end every child is judged before its parent.
        let mut needed = Vec::new();
        let mut goes = vec![false; self.stored.len()];
        for (number, event) in self.stored.iter().enumerate().rev() {
            goes[number] = due(event) && !needed.contains(&event.event_id);
            if !goes[number] {
                needed.extend(event.parent_event_id);
            }
        }
        assert_eq!(answer.removed.len(), rules.len(), "{place}");
        for (rule, (category, count)) in rules.iter().zip(&answer.removed) {
            let of_rule = |(number, event): &(usize, &NewAuditEvent)| {
                goes[*number] && event.event_category == rule.category
            };
            let expected = self.stored.iter().enumerate().filter(of_rule).count() as u64;
            assert_eq!((category, *count), (&rule.category, expected), "{place}");
        }
        assert!(answer.done, "{place}");
        if !dry_run {
            let mut goes = goes.into_iter();
            self.stored.retain(|_| !goes.next().unwrap_or(false));
        }
        "retained"
    }
}

/// The filters that the scripts use, said once more.
fn passes(filter: &AuditFilter, event: &NewAuditEvent) -> bool {
    filter.event_category.as_ref().is_none_or(|wanted| *wanted == event.event_category)
        && (filter.actor_id.is_none() || filter.actor_id == event.actor_id)
        && (filter.correlation_id.is_none() || filter.correlation_id == event.correlation_id)
        && filter.event_outcome.is_none_or(|wanted| wanted == event.event_outcome)
        && filter.actor_type.is_none_or(|wanted| wanted == event.actor_type)
        && filter.start.is_none_or(|start| event.event_timestamp >= start)
        && filter.end.is_none_or(|end| event.event_timestamp < end)
}
