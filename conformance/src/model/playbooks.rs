//! A second opinion on playbook catalogs: the contract in the fewest words, and random scripts to compare one with it.

use std::collections::BTreeMap;

use changeover_core::playbooks::{
    Edit, HashingEmbedder, ListPlaybooks, Lookup, NewPlaybook, Playbook, Put, Rate, Status, embedding_text,
};
use changeover_core::{ErrorKind, PlaybookCatalog, Text, Timestamp};

use super::script::Dice;
use crate::support::playbooks::{
    change_of, get, labels, list, playbook, search, search_for, text, version, versions,
};
use crate::support::{Must, limit};

const PLAYBOOKS: [&str; 5] = ["etcd", "Etcd", "e_cd", "disk/full", "\u{e9}tcd"];
const VERSIONS: [&str; 5] = ["v1.9.0", "v1.10.0", "v1.10.0-rc.1", "1.10.0", "v0.1.0"];
const COMPONENTS: [&str; 3] = ["shop", "Shop", ""];
const QUERIES: [&str; 3] = ["etcd has no leader", "the disk is full", "v1.10.0"];

/// One step. Numbers point into the lists above.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put(Vec<[usize; 6]>),
    Change { playbook: usize, version: usize, edit: usize, number: u64 },
    Get { playbook: usize, which: usize, version: usize },
    List { status: Option<usize>, component: Option<usize>, page: i64 },
    Versions { playbook: usize, page: i64 },
    Search { query: usize, component: Option<usize>, thousandths: u64, max: i64 },
}

/// `steps` steps; more than half of them write.
pub(crate) fn random_script(seed: u64, steps: usize) -> Vec<Op> {
    let mut dice = Dice(seed);
    (0..steps).map(|_| random_step(&mut dice)).collect()
}

fn random_step(dice: &mut Dice) -> Op {
    let page = |dice: &mut Dice| i64::try_from(1 + dice.below(4)).must("a page");
    let (playbook, version) = (dice.index(5), dice.index(5));
    match dice.below(16) {
        0..=4 => {
            let size = dice.below(4);
            let one = |dice: &mut Dice| [5, 5, 2, 8, 4, 3].map(|sides| dice.index(sides));
            Op::Put((0..size).map(|_| one(dice)).collect())
        }
        5..=8 => Op::Change { playbook, version, edit: dice.index(7), number: dice.below(1_000) },
        9 | 10 => Op::Get { playbook, which: dice.index(4), version },
        11 => Op::List {
            status: dice.maybe(3, |dice| dice.index(4)),
            component: dice.maybe(3, |dice| dice.index(3)),
            page: page(dice),
        },
        12 => Op::Versions { playbook, page: page(dice) },
        _ => Op::Search {
            query: dice.index(3),
            component: dice.maybe(3, |dice| dice.index(3)),
            thousandths: dice.below(600),
            max: page(dice),
        },
    }
}

/// What was put: the id, the version, two contents, whether it is the latest, a status, a component.
fn new([playbook_id, at, content, latest, status, component]: [usize; 6]) -> NewPlaybook {
    let mut new = playbook(PLAYBOOKS[playbook_id], VERSIONS[at]);
    new.content = format!("# {content}\r\n");
    new.is_latest = latest % 2 == 0;
    new.status = Status::ALL[status];
    // Content decides the labels too: a version comes with the same ones each time or is refused.
    new.labels = labels([("component", COMPONENTS[component * (1 - content)])]);
    new.created_at = Some(time(1));
    new.created_by = Some(text("person-1"));
    if latest > 3 {
        new.embedding = Some(HashingEmbedder::vector(&embedding_text(&new)));
    }
    new
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).must("a time")
}

/// A version without the times that the store gives.
fn timeless(mut found: Playbook) -> Playbook {
    found.updated_at = time(0);
    if let Some(disabled) = &mut found.disabled {
        disabled.0 = time(0);
    }
    found
}

/// A catalog and the model beside it, in a place that nobody else writes to meanwhile.
pub(crate) struct Player<'a> {
    catalog: &'a dyn PlaybookCatalog,
    /// By id and version.
    stored: BTreeMap<(String, String), Playbook>,
    /// How each step ended, in a word.
    pub(crate) transcript: Vec<&'static str>,
}

impl<'a> Player<'a> {
    pub(crate) fn new(catalog: &'a dyn PlaybookCatalog) -> Self {
        Self { catalog, stored: BTreeMap::new(), transcript: Vec::new() }
    }

    /// Plays the steps; panics where the catalog first differs from the model.
    pub(crate) async fn play(&mut self, seed: u64, script: &[Op]) {
        for (number, op) in script.iter().enumerate() {
            let place = format!("seed {seed}, step {number}, {op:?}");
            let word = match op {
                Op::Put(picks) => self.put(picks, &place).await,
                Op::Change { playbook, version, edit, number } => {
                    self.change([PLAYBOOKS[*playbook], VERSIONS[*version]], *edit, *number, &place).await
                }
                Op::Get { playbook, which, version } => {
                    self.get(PLAYBOOKS[*playbook], *which, VERSIONS[*version], &place).await
                }
                Op::List { status, component, page } => self.list(*status, *component, *page, &place).await,
                Op::Versions { playbook, page } => self.versions(PLAYBOOKS[*playbook], *page, &place).await,
                Op::Search { query, component, thousandths, max } => {
                    self.search(QUERIES[*query], *component, *thousandths, *max, &place).await
                }
            };
            self.transcript.push(word);
        }
        for playbook_id in PLAYBOOKS {
            self.versions(playbook_id, 2, &format!("seed {seed}, the end")).await;
        }
    }

    async fn put(&mut self, picks: &[[usize; 6]], place: &str) -> &'static str {
        let put = Put { versions: picks.iter().map(|pick| new(*pick)).collect() };
        let valid = put.validate().is_ok();
        let answer = self.catalog.put(put.clone()).await;
        if !valid {
            assert_eq!(answer.err().must(place).kind(), ErrorKind::Invalid, "{place}");
            return "invalid";
        }
        let key = |new: &NewPlaybook| (new.playbook_id.to_string(), new.version.to_string());
        let differs = |new: &NewPlaybook| {
            self.stored.get(&key(new)).is_some_and(|old| {
                (&old.playbook.content, &old.playbook.labels) != (&new.content, &new.labels)
            })
        };
        if put.versions.iter().any(differs) {
            assert_eq!(answer.err().must(place).kind(), ErrorKind::AlreadyExists, "{place}");
            return "taken";
        }
        let all = put.versions.len();
        let fresh: Vec<_> =
            put.versions.into_iter().filter(|new| !self.stored.contains_key(&key(new))).collect();
        let report = answer.must(place);
        assert_eq!((report.stored, report.repeated), (fresh.len(), all - fresh.len()), "{place}");
        let word = if fresh.is_empty() { "repeated" } else { "stored" };
        for new in fresh {
            if new.is_latest {
                self.take_mark(new.playbook_id.as_str(), new.created_by.as_ref());
            }
            self.stored.insert(key(&new), timeless(new.stored(time(0))));
        }
        word
    }

    /// Nobody is the latest any more.
    fn take_mark(&mut self, playbook_id: &str, by: Option<&Text<255>>) {
        let of_it = self.stored.iter_mut().filter(|((id, _), _)| id == playbook_id);
        for (_, old) in of_it.filter(|(_, old)| old.playbook.is_latest) {
            old.playbook.is_latest = false;
            old.updated_by = by.cloned();
        }
    }

    async fn change(&mut self, of: [&str; 2], edit: usize, number: u64, place: &str) -> &'static str {
        let reason = number.is_multiple_of(2).then(|| format!("because of {number}"));
        let edit = match edit {
            0 | 1 => Edit::MakeLatest,
            2 => Edit::Status(Status::Active, None),
            3 => Edit::Status(Status::Disabled, reason),
            4 => Edit::Status(Status::Deprecated, reason),
            5 => Edit::Figures {
                total: 500,
                successful: number,
                rate: u16::try_from(number).ok().and_then(|rate| Rate::from_thousandths(rate).ok()),
            },
            _ => Edit::Embedding(None),
        };
        let mut request = change_of(of[0], of[1], edit.clone());
        request.by = Some(text("person-2"));
        let valid = request.validate().is_ok();
        let answer = self.catalog.change(request.clone()).await;
        if !valid {
            assert_eq!(answer.err().must(place).kind(), ErrorKind::Invalid, "{place}");
            return "invalid";
        }
        let key = (of[0].to_owned(), of[1].to_owned());
        if !self.stored.contains_key(&key) {
            assert_eq!(answer.err().must(place).kind(), ErrorKind::NotFound, "{place}");
            return "missing";
        }
        if edit == Edit::MakeLatest {
            self.take_mark(of[0], request.by.as_ref());
        }
        let changed = self.stored.get_mut(&key).must(place);
        changed.apply(edit, request.by, time(0));
        *changed = timeless(changed.clone());
        assert_eq!(timeless(answer.must(place)), *changed, "{place}");
        "changed"
    }

    /// The versions of a playbook, newest first.
    fn of(&self, playbook_id: &str) -> Vec<&Playbook> {
        let of_it = self.stored.iter().filter(|((id, _), _)| id == playbook_id);
        let mut all: Vec<_> = of_it.map(|(_, found)| found).collect();
        all.sort_by(|a, b| b.playbook.version.cmp(&a.playbook.version));
        all
    }

    async fn get(&self, playbook_id: &str, which: usize, at: &str, place: &str) -> &'static str {
        let all = self.of(playbook_id);
        let latest = all.iter().find(|found| found.playbook.is_latest);
        let hash = changeover_core::sha256_hex(b"# 1\r\n");
        let (which, expected) = match which {
            0 => (Lookup::Latest, latest),
            1 => {
                let active = latest.filter(|latest| latest.playbook.status == Status::Active);
                (Lookup::LatestActive, active)
            }
            2 => {
                let exact = all.iter().find(|found| found.playbook.version.as_str() == at);
                (Lookup::Exact(version(at)), exact)
            }
            _ => {
                let of_hash = |found: &&&Playbook| found.playbook.content_hash.as_ref() == Some(&hash);
                let highest = all.iter().find(of_hash);
                (Lookup::Hash(hash.clone()), highest)
            }
        };
        let found = get(self.catalog, playbook_id, which).await.map(timeless);
        assert_eq!(found.as_ref(), expected.copied(), "{place}");
        if found.is_some() { "got" } else { "nothing" }
    }

    /// The latest versions with a label, by id.
    fn latest(&self, component: Option<usize>) -> impl Iterator<Item = &Playbook> {
        let has = move |found: &&Playbook| {
            component.is_none_or(|component| found.playbook.labels["component"] == COMPONENTS[component])
        };
        self.stored.values().filter(|found| found.playbook.is_latest).filter(has)
    }

    async fn list(
        &self,
        status: Option<usize>,
        component: Option<usize>,
        page: i64,
        place: &str,
    ) -> &'static str {
        let status = status.map(|status| Status::ALL[status]);
        let of_status = |found: &&Playbook| status.is_none_or(|status| found.playbook.status == status);
        let expected: Vec<_> = self.latest(component).filter(of_status).cloned().collect();
        let request = ListPlaybooks { status, labels: wanted(component), after: None, limit: limit(page) };
        let found: Vec<_> = list(self.catalog, request).await.into_iter().map(timeless).collect();
        assert_eq!(found, expected, "{place}");
        "listed"
    }

    async fn versions(&self, playbook_id: &str, page: i64, place: &str) -> &'static str {
        let expected: Vec<_> = self.of(playbook_id).into_iter().cloned().collect();
        if expected.is_empty() {
            return "nothing";
        }
        let found: Vec<_> =
            versions(self.catalog, playbook_id, page).await.into_iter().map(timeless).collect();
        assert_eq!(found, expected, "{place}");
        "listed"
    }

    async fn search(
        &self,
        query: &str,
        component: Option<usize>,
        thousandths: u64,
        max: i64,
        place: &str,
    ) -> &'static str {
        let mut request = search_for(query);
        request.labels = wanted(component);
        let share = u32::try_from(thousandths).must("a small number");
        request.min_confidence = f64::from(share) / 1_000.0;
        request.max_results = limit(max);
        let asked = HashingEmbedder::vector(query);
        let active = self.latest(component).filter(|found| found.playbook.status == Status::Active);
        let mut expected: Vec<_> = active
            .map(|found| {
                let own = found.playbook.embedding.clone();
                let vector = own.unwrap_or_else(|| HashingEmbedder::vector(&embedding_text(&found.playbook)));
                (asked.confidence(&vector), found.clone())
            })
            .filter(|(confidence, _)| *confidence >= request.min_confidence)
            .collect();
        // Stable: equal ones stay in the order of their ids.
        expected.sort_by(|a, b| b.0.total_cmp(&a.0));
        expected.truncate(usize::try_from(max).must("a page"));
        let found = search(self.catalog, request).await;
        let shown: Vec<_> = found.iter().map(|found| timeless(found.playbook.clone())).collect();
        assert_eq!(shown, expected.iter().map(|(_, found)| found.clone()).collect::<Vec<_>>(), "{place}");
        for (found, (confidence, _)) in found.iter().zip(&expected) {
            assert!((found.confidence - confidence).abs() < 1e-5, "{place}: {}", found.confidence);
        }
        if found.is_empty() { "nothing" } else { "found" }
    }
}

fn wanted(component: Option<usize>) -> BTreeMap<String, String> {
    component.map(|component| labels([("component", COMPONENTS[component])])).unwrap_or_default()
}
