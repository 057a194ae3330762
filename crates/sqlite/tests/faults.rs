//! When the file, its neighbours or the caller misbehave.

mod common;

use std::time::Duration;

use changeover_core::events::{Expected, HeadOf, ReadAll, Subscribe};
use changeover_core::{Applied, Backend, BackendSettings, ErrorKind, Message, OpenBackend};
use changeover_sqlite::{OpenSqlite, Sqlite};
use common::{File, everything, one, scope, store, stream, tenant};
use diesel::connection::SimpleConnection;

// X-EDGE-088: SQLite has no statement time limit that could hit the middle of a batch: the one wait, for another writer,
// comes before the first statement, and what it ends was not begun.
// E114, X-EDGE-083, X12: an external writer beyond busy_timeout is Contention, within it nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn an_external_writer_is_waited_for_and_then_contention() {
    let file = File::new();
    file.store().await;
    let open = OpenSqlite::open(&file.settings().with("busy_timeout", "300ms")).await.unwrap();
    let events = store(&open).await;
    let mut other = file.other_program();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let busy = events.append(one(&stream(), Expected::Any, 1)).await.unwrap_err();
    assert_eq!((busy.kind(), busy.was_applied()), (ErrorKind::Contention, Some(Applied::No)), "{busy}");
    // Readers are not in its way, and it is not in theirs.
    assert!(everything(&*events).await.is_empty());
    let waiting = tokio::spawn({
        let events = events.clone();
        async move { events.append(one(&stream(), Expected::Any, 1)).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    other.batch_execute("COMMIT").unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(everything(&*events).await.len(), 1);
}

// E100, E104: dropped at any point an append is there whole or not at all, and the store stays usable.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_append_is_whole_or_not_there() {
    let file = File::new();
    let events = file.store().await;
    for polls in 0..40 {
        let stream = stream();
        let mut append = events.append(one(&stream, Expected::NoStream, 3));
        for _ in 0..polls {
            if futures::poll!(&mut append).is_ready() {
                break;
            }
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
        drop(append);
        // Behind it in the lane, so that its fate is settled.
        events.append(one(&common::stream(), Expected::Any, 1)).await.unwrap();
        let head = events.head(HeadOf::Stream(stream)).await.unwrap().version;
        assert!(head.is_none_or(|version| version.get() == 3), "{head:?}");
    }
}

// E102, E103: dropped reads give their connection back.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_reads_leak_no_connection() {
    let file = File::new();
    let open = OpenSqlite::open(&file.settings().with("pool.readers", "1")).await.unwrap();
    let events = store(&open).await;
    for _ in 0..1_000 {
        let mut read = events.read_all(ReadAll::default());
        let _ = futures::poll!(&mut read);
    }
    tokio::time::timeout(Duration::from_secs(5), events.read_all(ReadAll::default())).await.unwrap().unwrap();
}

// E107: no connection within the time limit is Unavailable, and it recovers.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_does_not_get_its_turn_is_unavailable() {
    let file = File::new();
    let settings = file.settings().with("pool.connect_timeout", "200ms").with("busy_timeout", "100ms");
    let open = OpenSqlite::open(&settings).await.unwrap();
    let events = store(&open).await;
    let transaction = open.begin(&scope(), &tenant()).await.unwrap();
    let refused = events.append(one(&stream(), Expected::Any, 1)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::Unavailable, Some(Applied::No)));
    drop(transaction);
    events.append(one(&stream(), Expected::Any, 1)).await.unwrap();
}

// E117: after close Unavailable; twice is fine; the other handle lives on, until the backend is closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_is_unavailable() {
    let file = File::new();
    let open = file.open().await;
    let (closed, other) = (store(&open).await, store(&open).await);
    closed.close().await.unwrap();
    closed.close().await.unwrap();
    let kinds = |append: changeover_core::Error, read: changeover_core::Error| (append.kind(), read.kind());
    let refused = kinds(
        closed.append(one(&stream(), Expected::Any, 1)).await.unwrap_err(),
        closed.read_all(ReadAll::default()).await.unwrap_err(),
    );
    assert_eq!(refused, (ErrorKind::Unavailable, ErrorKind::Unavailable));
    other.append(one(&stream(), Expected::Any, 1)).await.unwrap();
    open.close().await;
    open.close().await;
    let refused = kinds(
        other.append(one(&stream(), Expected::Any, 1)).await.unwrap_err(),
        other.read_all(ReadAll::default()).await.unwrap_err(),
    );
    assert_eq!(refused, (ErrorKind::Unavailable, ErrorKind::Unavailable));
}

// X-EDGE-115, X-EDGE-116: the other schemas of a connection are attached files and TEMP; only a transaction of the user's
// own can have a table of ours there, and appends are not lost in it. There are no extensions to be missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_table_of_our_name_swallows_no_append() {
    use diesel_async::SimpleAsyncConnection as _;
    let file = File::new();
    let open = file.open().await;
    let events = store(&open).await;
    for table in ["domain_event", "EVENT_STREAM", "changeover_log"] {
        let mut transaction = open.begin(&scope(), &tenant()).await.unwrap();
        let sql = format!("CREATE TEMP TABLE {table} AS SELECT * FROM main.{table}");
        transaction.connection().batch_execute(&sql).await.unwrap();
        transaction.append(one(&stream(), Expected::NoStream, 1)).unwrap();
        let refused = transaction.commit().await.unwrap_err();
        assert_eq!(
            (refused.kind(), refused.was_applied()),
            (ErrorKind::Invalid, Some(Applied::No)),
            "{refused}"
        );
        assert!(refused.message().contains(table), "{refused}");
    }
    let mut transaction = open.begin(&scope(), &tenant()).await.unwrap();
    transaction.connection().batch_execute("CREATE TEMP TABLE mine (x)").await.unwrap();
    transaction.append(one(&stream(), Expected::NoStream, 1)).unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(everything(&*events).await.len(), 1);
}

// E105: a current-thread runtime is refused.
#[tokio::test]
async fn a_current_thread_runtime_is_refused() {
    let file = File::new();
    let refused = OpenSqlite::open(&file.settings()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    assert!(!file.path().exists());
}

// E105: a runtime that ends with an append in flight does not hang, and the backend serves another runtime.
#[test]
fn a_runtime_that_ends_takes_nothing_with_it() {
    let file = File::new();
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let first = runtime();
    let (open, events) = first.block_on(async {
        let open = file.open().await;
        let events = store(&open).await;
        (open, events)
    });
    for _ in 0..20 {
        let events = events.clone();
        first.spawn(async move { events.append(one(&stream(), Expected::Any, 50)).await });
    }
    drop(first);
    runtime().block_on(async {
        events.append(one(&stream(), Expected::Any, 1)).await.unwrap();
        assert_eq!(everything(&*events).await.len() % 50, 1);
        open.close().await;
    });
}

// X-EDGE-084: what the path can be, each with its own message; nothing is left behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_no_database_is_named() {
    let file = File::new();
    let missing = OpenSqlite::open(&file.settings().with("create", "false")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Config, "{missing}");
    assert!(missing.message().contains("no such file") && !file.path().exists());

    let folder = BackendSettings::new("legacy").with("path", file.folder().to_string_lossy());
    let refused = OpenSqlite::open(&folder).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");

    std::fs::write(file.path(), "a text of more than a hundred bytes ".repeat(200)).unwrap();
    let refused = OpenSqlite::open(&file.settings()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");

    let inside = BackendSettings::new("legacy").with("path", file.path().join("below").to_string_lossy());
    let refused = OpenSqlite::open(&inside).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");

    let deep = File::new();
    let odd = deep.folder().join("a b%20?mode=ro#é").join("x.db");
    OpenSqlite::open(&BackendSettings::new("legacy").with("path", odd.to_string_lossy())).await.unwrap();
    assert!(odd.exists());
}

// X-EDGE-084: damage inside of a database.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_corrupt() {
    let file = File::new();
    let open = file.open().await;
    store(&open).await.append(one(&stream(), Expected::Any, 500)).await.unwrap();
    open.close().await;
    drop(open);
    file.raw("PRAGMA wal_checkpoint(TRUNCATE)");
    let mut bytes = std::fs::read(file.path()).unwrap();
    let length = bytes.len();
    bytes[length / 2..].fill(0xab);
    std::fs::write(file.path(), bytes).unwrap();
    let damaged = file.open().await;
    let refused = match damaged.events(&scope(), &tenant()).await {
        Ok(events) => events.read_all(ReadAll::default()).await.map(|_| ()).unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    assert!(!damaged.check().await[0].ok);
}

// S2-CFG-004: all mistakes at once.
#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_in_the_settings_are_reported_at_once() {
    let settings = BackendSettings::new("legacy")
        .with("path", ":memory:")
        .with("synchronous", "off")
        .with("busy_timeout", "40s")
        .with("pool.readers", "0")
        .with("tenant", "t".repeat(256))
        .with("speed", "high");
    let refused = Sqlite.open(&settings).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    for key in ["path", "synchronous", "busy_timeout", "pool.readers", "tenant", "speed"] {
        let line = format!("backends.legacy.{key}: ");
        assert!(refused.message().lines().any(|found| found.starts_with(&line)), "{key}: {refused}");
    }
}

// E68, E69, E80, E120: what another process appends arrives, once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_sees_the_appends_of_other_processes() {
    let file = File::new();
    let (ours, theirs) = (file.store().await, file.store().await);
    ours.append(one(&stream(), Expected::Any, 2)).await.unwrap();
    let mut subscription = ours.subscribe(Subscribe::default()).await.unwrap();
    let mut positions = Vec::new();
    while positions.len() < 6 {
        let next = tokio::time::timeout(Duration::from_secs(5), subscription.next()).await.unwrap();
        match next.unwrap().unwrap() {
            Message::Event(event) => positions.push(event.checkpoint.position()),
            Message::Progress { caught_up: true, .. } if positions.len() == 2 => {
                theirs.append(one(&stream(), Expected::Any, 2)).await.unwrap();
            }
            Message::Progress { caught_up: true, .. } if positions.len() == 4 => {
                ours.append(one(&stream(), Expected::Any, 2)).await.unwrap();
            }
            Message::Progress { .. } => {}
        }
    }
    assert_eq!(positions, [1, 2, 3, 4, 5, 6]);
}
