//! Every read that is compared, in all its forms.

use std::collections::BTreeMap;
use std::sync::Arc;

use changeover::audit::{AuditFilter, AuditOrder, AuditQuery};
use changeover::events::{Direction, EventFilter, HeadOf, ReadAll, ReadStream, StreamId};
use changeover::playbooks::{
    GetPlaybook, HashingEmbedder, ListPlaybooks, Lookup, Playbook, Query, Search, Status, VersionsOf,
};
use changeover::{Db, EventType, Limit, Text, Timestamp, Uuid, Version};

use crate::stage::{Stage, store};

/// Operation, key and field of what was found.
pub type Found = Vec<(&'static str, String, String)>;

/// Key and field of what a kind of read found.
pub fn of<'a>(found: &'a Found, operation: &str) -> Vec<(&'a str, &'a str)> {
    found.iter().filter(|it| it.0 == operation).map(|(_, key, field)| (&**key, &**field)).collect()
}

fn limit(rows: i64) -> Limit {
    Limit::new(rows).unwrap()
}

/// The reads of these streams and of the log.
pub async fn events(stage: &Stage, db: &Db, streams: &[StreamId]) -> Found {
    let store = store(db).await;
    let mut found = Found::new();
    let types = vec![EventType::new("Placed").unwrap()];
    for stream in streams {
        let all = ReadStream::all(stream.clone());
        let backward = ReadStream { direction: Direction::Backward, ..all.clone() };
        for read in [
            all.clone(),
            backward.clone(),
            ReadStream { event_types: Some(types.clone()), ..all.clone() },
            ReadStream { first: Some(Version::new(2).unwrap()), ..all.clone() },
            ReadStream { first: Some(Version::new(1_000).unwrap()), ..all.clone() },
            ReadStream { last: Some(Version::new(2).unwrap()), ..backward.clone() },
        ] {
            found.extend(stage.compared(db, store.read_stream(read)).await);
        }
        for pages in [ReadStream { limit: limit(2), ..all }, ReadStream { limit: limit(2), ..backward }] {
            let mut page = None;
            loop {
                let mut next = None;
                let read = async {
                    next = store.read_stream(ReadStream { page, ..pages.clone() }).await?.next;
                    Ok(())
                };
                found.extend(stage.compared(db, read).await);
                page = next;
                if page.is_none() {
                    break;
                }
            }
        }
        found.extend(stage.compared(db, store.head(HeadOf::Stream(stream.clone()))).await);
    }
    let filters = [
        EventFilter::default(),
        EventFilter { streams: Some(streams.to_vec()), ..EventFilter::default() },
        EventFilter { event_types: Some(types), ..EventFilter::default() },
        EventFilter {
            aggregate_types: Some(vec![streams[0].aggregate_type.clone()]),
            ..EventFilter::default()
        },
    ];
    for (filter, rows) in filters.iter().flat_map(|filter| [(filter, 2), (filter, 500)]) {
        let (mut after, mut at_end) = (None, false);
        while !at_end {
            let read = async {
                let read = ReadAll { after, filter: filter.clone(), limit: limit(rows) };
                let page = store.read_all(read).await?;
                (after, at_end) = (Some(page.checkpoint), page.caught_up);
                Ok(())
            };
            found.extend(stage.compared(db, read).await);
        }
    }
    found.extend(stage.compared(db, store.head(HeadOf::Log)).await);
    found
}

/// The reads of these records and of all; none is refused.
pub async fn audit(stage: &Stage, db: &Db, ids: &[Uuid]) -> Found {
    let (found, refused) = audit_readable(stage, db, ids).await;
    assert_eq!(refused, 0);
    found
}

/// The same, and how many the file's store refused.
pub async fn audit_readable(stage: &Stage, db: &Db, ids: &[Uuid]) -> (Found, u32) {
    let repository = db.audit("audit").unwrap().repository().await.unwrap();
    let (mut found, mut refused) = (Found::new(), 0);
    let mut add = |one: Option<Found>| match one {
        Some(one) => found.extend(one),
        None => refused += 1,
    };
    for id in ids {
        add(stage.compared_unless_refused(db, repository.get(*id)).await);
    }
    for filter in audit_filters() {
        for order in [AuditOrder::NewestFirst, AuditOrder::OldestFirst, AuditOrder::Recorded] {
            let query = AuditQuery { filter: filter.clone(), order, ..AuditQuery::default() };
            add(stage.compared_unless_refused(db, repository.query(query.clone())).await);
            let offset = AuditQuery { offset: 1, limit: limit(2), ..query.clone() };
            add(stage.compared_unless_refused(db, repository.query(offset)).await);
            let mut page = None;
            loop {
                let mut next = None;
                let read = async {
                    next =
                        repository.query(AuditQuery { page, limit: limit(2), ..query.clone() }).await?.next;
                    Ok(())
                };
                add(stage.compared_unless_refused(db, read).await);
                page = next;
                if page.is_none() {
                    break;
                }
            }
        }
        add(stage.compared_unless_refused(db, repository.count(filter)).await);
    }
    (found, refused)
}

/// All; a category; one resource; the days from the second to the fourth.
pub fn audit_filters() -> [AuditFilter; 4] {
    let day = |day: u32| Some(Timestamp::parse(&format!("2024-01-{day:02}T00:00:00Z")).unwrap());
    [
        AuditFilter::default(),
        AuditFilter {
            event_category: Some(Text::new("event_category", "c").unwrap()),
            ..AuditFilter::default()
        },
        AuditFilter { resource_id: Some(Text::new("resource_id", "2").unwrap()), ..AuditFilter::default() },
        AuditFilter { start: day(2), end: day(5), ..AuditFilter::default() },
    ]
}

/// The reads of these playbooks, with all versions of each, and of the catalog.
pub async fn playbooks(stage: &Stage, db: &Db, ids: &[&str]) -> Found {
    let catalog = db.playbooks("playbooks").unwrap().catalog().await.unwrap();
    let mut found = Found::new();
    for id in ids {
        let playbook_id = Text::new("playbook_id", *id).unwrap();
        let (all, mut shown) = (
            |below, rows| VersionsOf { playbook_id: playbook_id.clone(), below, limit: limit(rows) },
            Vec::<Playbook>::new(),
        );
        let read = async {
            shown = catalog.versions(all(None, 500)).await?.playbooks;
            Ok(())
        };
        found.extend(stage.compared(db, read).await);
        let mut lookups = vec![Lookup::Latest, Lookup::LatestActive];
        for one in shown {
            let version = one.playbook.version;
            found.extend(stage.compared(db, catalog.versions(all(Some(version.clone()), 1))).await);
            lookups.extend([Lookup::Exact(version), Lookup::Hash(one.playbook.content_hash.unwrap())]);
        }
        found.extend(stage.compared(db, catalog.versions(all(None, 1))).await);
        for which in lookups {
            let get = GetPlaybook { playbook_id: playbook_id.clone(), which };
            found.extend(stage.compared(db, catalog.get(get)).await);
        }
    }
    let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    let all = ListPlaybooks::default();
    for list in [
        all.clone(),
        ListPlaybooks { limit: limit(1), ..all.clone() },
        ListPlaybooks {
            limit: limit(1),
            after: Some(Text::new("playbook_id", ids[0]).unwrap()),
            ..all.clone()
        },
        ListPlaybooks { status: Some(Status::Active), ..all.clone() },
        ListPlaybooks { labels: labels.clone(), ..all },
    ] {
        found.extend(stage.compared(db, catalog.list(list)).await);
    }
    let embedder = Arc::new(HashingEmbedder);
    let query = || Query::Text("restart a pod".to_owned());
    for (query, labels, rows) in [
        (query(), BTreeMap::new(), 500),
        (query(), labels, 500),
        (query(), BTreeMap::new(), 1),
        (Query::Vector(HashingEmbedder::vector("add replicas")), BTreeMap::new(), 500),
    ] {
        let search = Search {
            query,
            embedder: embedder.clone(),
            labels,
            min_confidence: 0.0,
            max_results: limit(rows),
        };
        found.extend(stage.compared(db, catalog.search(search)).await);
    }
    found
}
