//! Reads and the owner of a module: an answer is of tables that were this database's, or it is `Moved`.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod catalog;
mod common;
mod pooled;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use changeover_core::audit::{AuditFilter, AuditQuery, VerifyChain};
use changeover_core::events::{Expected, HeadOf, ReadAll, ReadStream, StreamId};
use changeover_core::playbooks::{Embedding, GetPlaybook, ListPlaybooks, Lookup, VersionsOf};
use changeover_core::{BackendSettings, Detail, Error, ErrorKind, Limit, OpenBackend, Result, Uuid};
use changeover_testkit::{TestDatabase, with_address};
use common::{audit, open, tenant};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use pooled::Pooled;
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

type Read = Box<dyn Fn() -> BoxFuture<'static, Result<usize>>>;

type Put = Box<dyn Fn() -> BoxFuture<'static, ()>>;

/// A module, what writes a record to it, and each way to read it: how many records an answer has.
struct Reads {
    module: &'static str,
    put: Put,
    all: Vec<(&'static str, Read)>,
}

fn stream() -> StreamId {
    StreamId::new("Order", Uuid::from_u128(7)).unwrap()
}

fn read<T, F>(
    name: &'static str,
    read: impl Fn(Arc<T>) -> F + 'static,
    store: &Arc<T>,
) -> (&'static str, Read)
where
    T: ?Sized + Send + Sync + 'static,
    F: Future<Output = Result<usize>> + Send + 'static,
{
    let store = Arc::clone(store);
    (name, Box::new(move || read(Arc::clone(&store)).boxed()))
}

/// The reads of all three modules.
async fn stores(backend: &dyn OpenBackend) -> Vec<Reads> {
    let acme = tenant("acme");
    let log = backend.events(&common::scope(), &acme).await.unwrap();
    let trail = backend.audit(&audit::scope(), &acme).await.unwrap();
    let books = backend.playbooks(&catalog::scope(), &acme).await.unwrap();
    let record = audit::linked(1, "c");
    let id = record.event_id;
    let (to_log, to_trail, to_books) = (Arc::clone(&log), Arc::clone(&trail), Arc::clone(&books));
    let append: Put = Box::new(move || {
        let log = Arc::clone(&to_log);
        async move { log.append(common::one(&stream(), Expected::Any, 1)).await.map(drop).unwrap() }.boxed()
    });
    let create: Put = Box::new(move || {
        let (trail, record) = (Arc::clone(&to_trail), record.clone());
        async move { trail.create(audit::one(record)).await.map(drop).unwrap() }.boxed()
    });
    let put: Put = Box::new(move || {
        let books = Arc::clone(&to_books);
        async move { books.put(catalog::put([catalog::playbook("a", "v1.0.0")])).await.map(drop).unwrap() }
            .boxed()
    });

    let events = vec![
        read(
            "read_stream",
            |it| async move { Ok(it.read_stream(ReadStream::all(stream())).await?.events.len()) },
            &log,
        ),
        read("read_all", |it| async move { Ok(it.read_all(ReadAll::default()).await?.events.len()) }, &log),
        read(
            "head of the log",
            |it| async move {
                let found = it.head(HeadOf::Log).await?.checkpoint;
                Ok(found.map_or(0, |it| usize::try_from(it.position()).unwrap()))
            },
            &log,
        ),
        read(
            "head of a stream",
            |it| async move { Ok(it.head(HeadOf::Stream(stream())).await?.version.iter().count()) },
            &log,
        ),
    ];
    let audit = vec![
        read("get", move |it| async move { Ok(it.get(id).await?.iter().count()) }, &trail),
        read("query", |it| async move { Ok(it.query(AuditQuery::default()).await?.events.len()) }, &trail),
        read(
            "count",
            |it| async move { Ok(usize::try_from(it.count(AuditFilter::default()).await?).unwrap()) },
            &trail,
        ),
        read(
            "verify",
            |it| async move {
                Ok(usize::try_from(it.verify(VerifyChain { correlation_id: audit::text("c") }).await?.events)
                    .unwrap())
            },
            &trail,
        ),
    ];
    let playbooks = vec![
        read(
            "get",
            |it| async move {
                let asked = GetPlaybook { playbook_id: catalog::id("a"), which: Lookup::Latest };
                Ok(it.get(asked).await?.iter().count())
            },
            &books,
        ),
        read(
            "list",
            |it| async move { Ok(it.list(ListPlaybooks::default()).await?.playbooks.len()) },
            &books,
        ),
        read(
            "versions",
            |it| async move {
                let limit = Limit::new(9).unwrap();
                Ok(it
                    .versions(VersionsOf { playbook_id: catalog::id("a"), below: None, limit })
                    .await?
                    .playbooks
                    .len())
            },
            &books,
        ),
        read(
            "search",
            |it| async move {
                let vector = Embedding::new(vec![0.5; 384]).unwrap();
                Ok(it.search(catalog::search(vector, 5)).await?.matches.len())
            },
            &books,
        ),
    ];
    vec![
        Reads { module: "events", put: append, all: events },
        Reads { module: "audit", put: create, all: audit },
        Reads { module: "playbooks", put, all: playbooks },
    ]
}

async fn owner(db: &TestDatabase, module: &str, owner: &str, epochs: i64) {
    let sql = format!(
        "UPDATE changeover.module SET owner = '{owner}', epoch = epoch + {epochs} WHERE module = '{module}'"
    );
    db.execute(&sql).await.unwrap();
}

fn is_moved(error: &Error, owner: &str) -> bool {
    error.kind() == ErrorKind::Moved
        && matches!(error.detail(), Some(Detail::Moved { owner: named }) if named == owner)
}

fn way(pooled: &Pooled, way: &str) -> BackendSettings {
    if way == "pooled" { pooled.settings() } else { common::settings(pooled.db.url()) }
}

// A read that waits for its tables while the module goes sees them emptied, though it began while the module was here: no
// snapshot tells that. It is `Moved`, also when the module has come back meanwhile, half filled for all one knows.
#[rstest]
#[case::gone("direct", "sqlite", 2)]
#[case::gone_and_come_back("direct", "postgres", 3)]
#[case::gone_behind_a_pooler("pooled", "sqlite", 2)]
#[case::gone_and_come_back_behind_a_pooler("pooled", "postgres", 3)]
#[tokio::test(flavor = "multi_thread")]
async fn a_read_whose_tables_are_emptied_under_it_is_refused(
    #[case] by: &str,
    #[case] next: &str,
    #[case] epochs: i64,
) {
    let pooled = Pooled::start().await;
    let db = &pooled.db;
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation' \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    // One connection, on which every statement is prepared by the first read.
    let backend = open(way(&pooled, by).with("pool.max_size", "1")).await;
    for Reads { module, put, all } in stores(&*backend).await {
        let sql =
            format!("SELECT array_to_string(tables, ', ') FROM changeover.module WHERE module = '{module}'");
        let tables: String = db.query(&sql, &[]).await.unwrap()[0].get(0);
        for (name, read) in all {
            put().await;
            assert!(read().await.unwrap() > 0, "{module}: {name}");
            let revert = db.client().await.unwrap();
            revert
                .batch_execute(&format!("BEGIN; LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"))
                .await
                .unwrap();
            let reading = tokio::spawn(read());
            while db.query(waits, &[]).await.unwrap()[0].get::<_, i64>(0) == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let gone = format!(
                "SET LOCAL session_replication_role = replica; TRUNCATE {tables}; \
                 UPDATE changeover.module SET owner = '{next}', epoch = epoch + {epochs} WHERE module = '{module}'; COMMIT"
            );
            revert.batch_execute(&gone).await.unwrap();
            let answer = reading.await.unwrap();
            let refused = answer.expect_err(&format!("{module}: {name}"));
            assert!(is_moved(&refused, next), "{module}: {name}: {refused}");
            owner(db, module, "postgres", 1).await;
        }
    }
}

// Who reads is told at once; nobody as the owner is no reason, for the tables are whole then; and who compares two stores reads
// whoever owns the module.
#[tokio::test(flavor = "multi_thread")]
async fn reads_look_at_the_owner() {
    let pooled = Pooled::start().await;
    for by in ["direct", "pooled"] {
        let backend = open(way(&pooled, by)).await;
        let reads = stores(&*backend).await;
        for Reads { module, put, .. } in &reads {
            put().await;
            owner(&pooled.db, module, "sqlite", 1).await;
        }
        for Reads { module, all, .. } in &reads {
            for (name, read) in all {
                let refused = read().await.unwrap_err();
                assert!(is_moved(&refused, "sqlite"), "{module}: {name}: {refused}");
            }
        }
        let beside = backend.beside().unwrap();
        let acme = tenant("acme");
        let events = beside.events(&common::scope(), &acme).await.unwrap();
        assert!(!events.read_all(ReadAll::default()).await.unwrap().events.is_empty());
        let trail = beside.audit(&audit::scope(), &acme).await.unwrap();
        assert!(trail.count(AuditFilter::default()).await.unwrap() > 0);
        let books = beside.playbooks(&catalog::scope(), &acme).await.unwrap();
        assert!(!books.list(ListPlaybooks::default()).await.unwrap().playbooks.is_empty());
        let refused = events.append(common::one(&stream(), Expected::Any, 2)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Moved, "{refused}");
        for Reads { module, all, .. } in &reads {
            owner(&pooled.db, module, "none", 1).await;
            for (_, read) in all {
                assert!(read().await.unwrap() > 0);
            }
            owner(&pooled.db, module, "postgres", 1).await;
        }
    }
}

/// Carries bytes with a delay each way, however many messages are on their way.
async fn slow(target: String, delay: Duration) -> u16 {
    async fn carry(
        mut from: impl tokio::io::AsyncRead + Unpin,
        mut to: impl tokio::io::AsyncWrite + Unpin,
        delay: Duration,
    ) {
        let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let due = waiting.front().map(|(due, _)| *due);
            tokio::select! {
                () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()).await }, if due.is_some() => {
                    let Some((_, bytes)) = waiting.pop_front() else { return };
                    if to.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                read = from.read(&mut buffer) => match read {
                    Ok(count) if count > 0 => waiting.push_back((Instant::now() + delay, buffer[..count].to_vec())),
                    _ => return,
                },
            }
        }
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&target).await.unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let ((a, b), (c, d)) = (client.into_split(), server.into_split());
            tokio::spawn(carry(a, d, delay));
            tokio::spawn(carry(c, b, delay));
        }
    });
    port
}

// The looks cost no round trip: each read of a hundred events is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_with_its_looks_is_one_round_trip() {
    const ONE_WAY: Duration = Duration::from_millis(20);
    let db = common::migrated().await;
    let port =
        slow(db.url().rsplit_once('@').unwrap().1.split('/').next().unwrap().to_owned(), ONE_WAY).await;
    let store = common::store(&db).await;
    for number in 0..100 {
        store.append(common::one(&stream(), Expected::Any, number)).await.unwrap();
    }
    let far = open(common::settings(&with_address(db.url(), "127.0.0.1", port))).await;
    let far = far.events(&common::scope(), &tenant("acme")).await.unwrap();
    assert_eq!(
        far.read_stream(ReadStream::all(stream())).await.unwrap().events.len(),
        100,
        "prepared by now"
    );
    let mut took = Vec::new();
    for _ in 0..5 {
        let begin = Instant::now();
        assert_eq!(far.read_stream(ReadStream::all(stream())).await.unwrap().events.len(), 100);
        took.push(begin.elapsed());
    }
    let least = took.into_iter().min().unwrap();
    assert!(least >= 2 * ONE_WAY && least < 4 * ONE_WAY, "{least:?}");
}
