//! What the cases of the playbook catalog share.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::backend::Family;
use changeover_core::playbooks::{
    Change, Edit, Embedder, Embedding, GetPlaybook, HashingEmbedder, ListPlaybooks, Lookup, Match,
    NewPlaybook, Playbook, PlaybookId, PlaybookVersion, Put, PutReport, Query, Rate, Search, Status,
    VersionsOf, embedding_text,
};
use changeover_core::{Error, ErrorKind, Limit, OpenBackend, PlaybookCatalog, Result, Text, Timestamp};

use super::{Must, limit};
use crate::harness::AnyHarness;

/// The id of the samples of cases whose doors act on the next write: they go by this text.
pub(crate) const SAMPLE: &str = "OrderPlaced";

/// The catalog of the harness's module and tenant, by a new client.
pub(crate) async fn open(h: &dyn AnyHarness) -> Arc<dyn PlaybookCatalog> {
    open_on(h, &*h.client().await).await
}

/// The same by a client that there is.
pub(crate) async fn open_on(h: &dyn AnyHarness, client: &dyn OpenBackend) -> Arc<dyn PlaybookCatalog> {
    client.playbooks(&h.scope_of(Family::Playbooks), &h.tenant()).await.must("open the catalog")
}

/// An id that is known to be one.
pub(crate) fn id(text: &str) -> PlaybookId {
    Text::new("playbook_id", text).must("an id")
}

/// A version that is known to be one.
pub(crate) fn version(text: &str) -> PlaybookVersion {
    PlaybookVersion::new(text).must("a version")
}

/// Text that is known to fit.
pub(crate) fn text(value: &str) -> Text<255> {
    Text::new("text", value).must("text")
}

/// Labels of these keys and values.
pub(crate) fn labels<const N: usize>(labels: [(&str, &str); N]) -> BTreeMap<String, String> {
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// An active latest version with content, a label and nothing else.
pub(crate) fn playbook(playbook_id: &str, at: &str) -> NewPlaybook {
    NewPlaybook {
        playbook_id: id(playbook_id),
        version: version(at),
        name: text(&format!("{playbook_id} {at}").chars().take(255).collect::<String>()),
        description: format!("What to do: {playbook_id}"),
        owner: None,
        maintainer: None,
        content: format!("# {playbook_id}\nSteps of {at}\n"),
        content_hash: None,
        labels: labels([("component", "shop")]),
        embedding: None,
        status: Status::Active,
        is_latest: true,
        previous_version: None,
        version_notes: None,
        change_summary: None,
        approved_by: None,
        approved_at: None,
        expected_success_rate: None,
        expected_duration_seconds: None,
        created_at: None,
        created_by: None,
    }
}

/// The same, not marked latest.
pub(crate) fn older(playbook_id: &str, at: &str) -> NewPlaybook {
    NewPlaybook { is_latest: false, ..playbook(playbook_id, at) }
}

/// The same with the vector of its text, as programs put it.
pub(crate) fn embedded(mut new: NewPlaybook) -> NewPlaybook {
    new.embedding = Some(HashingEmbedder::vector(&embedding_text(&new)));
    new
}

/// A version in which nothing is absent.
pub(crate) fn full(playbook_id: &str, at: &str) -> NewPlaybook {
    let mut new = NewPlaybook {
        owner: Some(text("sre")),
        maintainer: Some(text("person-1")),
        previous_version: Some(version("0.0.1")),
        version_notes: Some("first\nthen".to_owned()),
        change_summary: Some("shorter \"steps\"".to_owned()),
        approved_by: Some(text("person-2")),
        approved_at: Some(Timestamp::parse("2024-02-29T23:59:59.123456Z").must("a time")),
        expected_success_rate: Some(Rate::from_thousandths(987).must("a rate")),
        expected_duration_seconds: Some(u32::MAX),
        created_at: Some(Timestamp::parse("2021-04-08T13:23:35.000001Z").must("a time")),
        created_by: Some(text("person-3")),
        ..embedded(playbook(playbook_id, at))
    };
    new.content_hash = Some(new.hash());
    new
}

/// A vector that begins with these numbers and has zeros behind them.
pub(crate) fn vector(first: &[f32]) -> Embedding {
    let mut numbers = vec![0.0; Embedding::LEN];
    numbers[..first.len()].copy_from_slice(first);
    Embedding::new(numbers).must("a vector")
}

/// Puts versions; it must work.
#[track_caller]
pub(crate) fn put(
    catalog: &dyn PlaybookCatalog,
    versions: Vec<NewPlaybook>,
) -> impl Future<Output = PutReport> + Send + use<'_> {
    let caller = std::panic::Location::caller();
    let answer = catalog.put(Put { versions });
    async move { answer.await.must(&format!("put at {caller}")) }
}

/// A change of one version, by nobody.
pub(crate) fn change_of(playbook_id: &str, at: &str, edit: Edit) -> Change {
    Change { playbook_id: id(playbook_id), version: version(at), edit, by: None }
}

/// Changes one version; it must work.
#[track_caller]
pub(crate) fn change<'a>(
    catalog: &'a dyn PlaybookCatalog,
    playbook_id: &str,
    at: &str,
    edit: Edit,
) -> impl Future<Output = Playbook> + Send + use<'a> {
    let caller = std::panic::Location::caller();
    let answer = catalog.change(change_of(playbook_id, at, edit));
    async move { answer.await.must(&format!("change at {caller}")) }
}

/// One version, if there is one.
pub(crate) async fn get(catalog: &dyn PlaybookCatalog, playbook_id: &str, which: Lookup) -> Option<Playbook> {
    catalog.get(GetPlaybook { playbook_id: id(playbook_id), which }).await.must("get")
}

/// One version that must be there.
pub(crate) async fn exact(catalog: &dyn PlaybookCatalog, playbook_id: &str, at: &str) -> Playbook {
    get(catalog, playbook_id, Lookup::Exact(version(at))).await.must("the version")
}

/// The text of the latest version.
pub(crate) async fn latest(catalog: &dyn PlaybookCatalog, playbook_id: &str) -> Option<String> {
    get(catalog, playbook_id, Lookup::Latest).await.map(|found| found.playbook.version.to_string())
}

/// All pages of a list, joined.
pub(crate) async fn list(catalog: &dyn PlaybookCatalog, mut request: ListPlaybooks) -> Vec<Playbook> {
    let mut all = Vec::new();
    loop {
        let page = catalog.list(request.clone()).await.must("list a page");
        assert!(page.playbooks.len() <= request.limit.get() as usize, "a page holds more than its limit");
        assert!(
            !page.more || page.playbooks.len() == request.limit.get() as usize,
            "a page that is not full"
        );
        request.after = page.playbooks.last().map(|last| last.playbook.playbook_id.clone());
        all.extend(page.playbooks);
        if !page.more {
            return all;
        }
    }
}

/// All versions of a playbook, by pages of this size.
pub(crate) async fn versions(catalog: &dyn PlaybookCatalog, playbook_id: &str, page: i64) -> Vec<Playbook> {
    let mut request = VersionsOf { playbook_id: id(playbook_id), below: None, limit: limit(page) };
    let mut all = Vec::new();
    loop {
        let page = catalog.versions(request.clone()).await.must("list a page of versions");
        assert!(page.playbooks.len() <= request.limit.get() as usize, "a page holds more than its limit");
        request.below = page.playbooks.last().map(|last| last.playbook.version.clone());
        all.extend(page.playbooks);
        if !page.more {
            return all;
        }
    }
}

/// The ids, in their order.
pub(crate) fn ids(playbooks: &[Playbook]) -> Vec<String> {
    playbooks.iter().map(|found| found.playbook.playbook_id.to_string()).collect()
}

/// The texts of the versions, in their order.
pub(crate) fn version_texts(playbooks: &[Playbook]) -> Vec<String> {
    playbooks.iter().map(|found| found.playbook.version.to_string()).collect()
}

/// The ids found, best first.
pub(crate) fn found(matches: &[Match]) -> Vec<String> {
    matches.iter().map(|found| found.playbook.playbook.playbook_id.to_string()).collect()
}

/// A search for everything that is nearest to a text.
pub(crate) fn search_for(query: &str) -> Search {
    search_of(Query::Text(query.to_owned()))
}

/// A search for everything that is nearest to a vector.
pub(crate) fn search_near(vector: Embedding) -> Search {
    search_of(Query::Vector(vector))
}

fn search_of(query: Query) -> Search {
    Search {
        query,
        embedder: Arc::new(HashingEmbedder),
        labels: BTreeMap::new(),
        min_confidence: 0.0,
        max_results: Limit::default(),
    }
}

/// Searches; it must work.
#[track_caller]
pub(crate) fn search(
    catalog: &dyn PlaybookCatalog,
    request: Search,
) -> impl Future<Output = Vec<Match>> + Send + use<'_> {
    let caller = std::panic::Location::caller();
    let answer = catalog.search(request);
    async move { answer.await.must(&format!("search at {caller}")).matches }
}

/// The version that was put is what is stored, in every field.
#[track_caller]
pub(crate) fn assert_stored(found: &Playbook, new: &NewPlaybook) {
    assert_eq!(*found, new.clone().stored(found.updated_at));
}

/// Everything that can be seen of these playbooks, and the rows of each table where the harness can count them; equal
/// before and after whatever must change nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    versions: Vec<Vec<Playbook>>,
    latest: Vec<Playbook>,
    rows: Option<BTreeMap<String, u64>>,
}

/// Looks at these playbooks and the list of all.
pub(crate) async fn look(h: &dyn AnyHarness, catalog: &dyn PlaybookCatalog, playbooks: &[&str]) -> Seen {
    let mut all = Vec::new();
    for playbook_id in playbooks {
        let request = VersionsOf { playbook_id: id(playbook_id), below: None, limit: Limit::default() };
        match catalog.versions(request).await {
            Ok(page) => all.push(page.playbooks),
            Err(error) if error.kind() == ErrorKind::NotFound => all.push(Vec::new()),
            Err(error) => panic!("the versions of {playbook_id}: {error}"),
        }
    }
    let latest = list(catalog, ListPlaybooks::default()).await;
    Seen { versions: all, latest, rows: h.faults().row_counts().await.ok() }
}

/// An embedder that does what a case needs: an error, or vectors of its own.
pub(crate) struct Answers(pub(crate) Result<Vec<Embedding>>);

impl Answers {
    /// Fails as this kind.
    pub(crate) fn failing(kind: ErrorKind) -> Arc<Self> {
        Arc::new(Self(Err(Error::new(kind, "the embedding service does not answer"))))
    }
}

#[async_trait]
impl Embedder for Answers {
    fn model(&self) -> &'static str {
        "answers"
    }

    async fn embed(&self, _: &[String]) -> Result<Vec<Embedding>> {
        self.0.clone()
    }
}
