//! Writers and readers through a switch, a fence that opens again, and the way back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use changeover::audit::{ActorType, AuditFilter, NewAuditEvent, Outcome};
use changeover::backend::Family;
use changeover::cutover::{Goal, Terms};
use changeover::events::ReadStream;
use changeover::playbooks::{GetPlaybook, Lookup, NewPlaybook, Put};
use changeover::{ErrorKind, Move};

use crate::common::TABLE;
use crate::moving::{Moving, Places};
use crate::{WHILE, event, ids, owner, ship, sorted, store, stream, write};

// I2, I3, fault 2: writers who know nothing of it go on through a switch; what they were told is stored is there once, under
// the ids that they gave, and in the order of each stream.
#[tokio::test(flavor = "multi_thread")]
async fn writers_go_on_through_a_switch() {
    let places = Places::new().await;
    let db = places.process("sqlite").await;
    let store = store(&db).await;
    write(&store).await;
    let mut moving = Moving::begin(&places).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (2..8).map(|number| {
        let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut written = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let (append, id) = event(number);
                let appended = store.append(append).await.unwrap();
                assert!(!appended.repeated);
                written.push(id);
                assert_eq!(appended.streams[0].last.get(), i64::try_from(written.len()).unwrap());
            }
            written
        })
    });
    let writers: Vec<_> = writers.collect();
    tokio::time::sleep(WHILE).await;
    moving.fence().await;
    tokio::time::sleep(WHILE).await;
    moving.drain().await;
    let at_the_fence = moving.events_in_file().await;
    moving.seal().await;
    moving.switch().await;
    tokio::time::sleep(WHILE).await;
    stop.store(true, Ordering::Relaxed);
    let mut written = Vec::new();
    for (writer, number) in writers.into_iter().zip(2..) {
        let of_one = writer.await.unwrap();
        let page = store.read_stream(ReadStream::all(stream(number))).await.unwrap();
        let read: Vec<_> = page.events.iter().map(|event| event.id).collect();
        assert_eq!(read, of_one[..read.len()]);
        written.extend(of_one);
    }
    let on_server = places.ids_on_server().await;
    assert_eq!(sorted(on_server[1..].to_vec()), sorted(written));
    assert_eq!(ids(&store).await, on_server);
    assert!(at_the_fence > 1 && on_server.len() > at_the_fence, "{at_the_fence} of {}", on_server.len());
    assert_eq!(moving.events_in_file().await, at_the_fence, "the file took nothing after the fence");
    assert_eq!(owner(&db).await, "postgres");
}

// I12: who read from the file reads what was written after the switch, also where it never writes; and two processes whose
// settings differ serve the module together.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_switch_everybody_reads_and_writes_the_same() {
    let places = Places::new().await;
    let (one, reader) = (places.process("sqlite").await, places.process("sqlite").await);
    let (of_one, of_reader) = (store(&one).await, store(&reader).await);
    let mut written = vec![write(&of_one).await];
    assert_eq!(ids(&of_reader).await, written);
    Moving::begin(&places).await.cut().await;
    let other = places.process("postgres").await;
    let of_other = store(&other).await;
    written.push(write(&of_other).await);
    assert_eq!(ids(&of_reader).await, written, "its first call after the switch");
    written.push(write(&of_one).await);
    assert_eq!(ids(&of_other).await, written);
    written.push(write(&of_reader).await);
    assert_eq!(places.ids_on_server().await, written);
    assert_eq!((owner(&one).await, owner(&other).await), ("postgres".to_owned(), "postgres".to_owned()));
    of_one.ready().await.unwrap();
    assert_eq!(of_one.capabilities(), of_other.capabilities());
}

// A service that knows nothing of it goes on while the file that its module left is archived, and so does one that starts
// afterwards with settings that still name the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_goes_on_while_its_file_is_archived() {
    let places = Places::new().await;
    let (db, reader) = (places.process("sqlite").await, places.process("sqlite").await);
    let (of_db, of_reader) = (store(&db).await, store(&reader).await);
    let mut written = vec![write(&of_db).await];
    assert_eq!(ids(&of_reader).await, written);
    let operator = changeover::connect_to_look(
        places.options.clone().with("persistence.default", "sqlite"),
        changeover::registry(),
    )
    .unwrap();
    let server = operator.backend("postgres").await.unwrap();
    let scope = operator.module("events").unwrap().scope().clone();
    server.migrations(&scope, Family::Events).unwrap().up().await.unwrap();
    let cutover = operator.cutover(&Move::of("events", "a test")).await.unwrap();
    let terms = Terms::new(db.tenant().clone());
    cutover.run(&terms, Goal::Switched).await.unwrap();
    written.push(write(&of_db).await);
    // One process was not told yet, and has the file open: it is not taken from it.
    assert!(cutover.finalize(&terms).await.unwrap().archive.is_none());
    assert_eq!(ids(&of_reader).await, written);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, stop) = (Arc::clone(&of_db), Arc::clone(&stop));
        async move {
            let mut written = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                written.push(write(&store).await);
            }
            written
        }
    });
    let archive = cutover.finalize(&terms).await.unwrap().archive.expect("everybody has let go of the file");
    assert!(archive.is_there);
    tokio::time::sleep(WHILE).await;
    stop.store(true, Ordering::Relaxed);
    written.extend(writer.await.unwrap());
    assert_eq!(ids(&of_reader).await, written);
    let late = places.process("sqlite").await;
    let of_late = store(&late).await;
    assert_eq!(ids(&of_late).await, written);
    written.push(write(&of_late).await);
    places.server.execute(TABLE).await.unwrap();
    places.server.execute("GRANT ALL ON shipments TO changeover_app").await.unwrap();
    ship(&late).await.unwrap();
    assert_eq!(places.ids_on_server().await, written);
    assert_eq!(owner(&late).await, "postgres");
    assert!(cutover.finalize(&terms).await.unwrap().archive.is_some(), "what is there still is the archive");
}

// A fence that was closed and is opened again: who waited goes on in the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_opens_again_lets_waiting_calls_go_on() {
    let places = Places::new().await;
    let db = places.process("sqlite").await;
    let store = store(&db).await;
    let mut written = vec![write(&store).await];
    let mut moving = Moving::begin(&places).await;
    moving.fence().await;
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { (ids(&store).await, write(&store).await) }
    });
    tokio::time::sleep(WHILE).await;
    assert!(!waiting.is_finished());
    // An operator's tool and a probe do not wait so long.
    let refused = db.module("events").unwrap().owner().await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Moved, "{refused}");
    assert!(refused.message().contains("backend postgres records sqlite"), "{refused}");
    let not_ready = tokio::time::timeout(Duration::from_secs(5), store.ready()).await.unwrap().unwrap_err();
    assert_eq!(not_ready.kind(), ErrorKind::Moved, "{not_ready}");
    moving.unfence().await;
    let (read, wrote) = waiting.await.unwrap();
    assert_eq!(read, written);
    written.push(wrote);
    assert_eq!((ids(&store).await, owner(&db).await), (written.clone(), "sqlite".to_owned()));
    // And the second try comes through.
    moving.cut().await;
    written.push(write(&store).await);
    assert_eq!(places.ids_on_server().await, written);
}

// I13: on the way back calls wait, then go on in the file, with everything that PostgreSQL took.
#[tokio::test(flavor = "multi_thread")]
async fn writers_go_on_through_the_way_back() {
    let places = Places::new().await;
    let db = places.process("sqlite").await;
    let store = store(&db).await;
    let mut written = vec![write(&store).await];
    let mut moving = Moving::begin(&places).await;
    moving.cut().await;
    written.push(write(&store).await);
    moving.take_back().await;
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { write(&store).await }
    });
    tokio::time::sleep(WHILE).await;
    assert!(!waiting.is_finished());
    moving.give_back().await;
    written.push(waiting.await.unwrap());
    assert_eq!(ids(&store).await, written);
    assert_eq!((owner(&db).await, moving.events_in_file().await), ("sqlite".to_owned(), 3));
    assert!(places.ids_on_server().await.is_empty());
}

// The same for a process that only reads: PostgreSQL's reads look at no gate, so it is asked now and then who owns the module.
#[tokio::test(flavor = "multi_thread")]
async fn who_only_reads_follows_the_way_back() {
    let places = Places::new().await;
    let db = places.process("sqlite").await;
    let store = store(&db).await;
    let mut written = vec![write(&store).await];
    let mut moving = Moving::begin(&places).await;
    moving.cut().await;
    assert_eq!(ids(&store).await, written);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    moving.take_back().await;
    moving.give_back().await;
    assert_eq!(ids(&store).await, written);
    let other = places.process("postgres").await;
    written.push(write(&self::store(&other).await).await);
    assert_eq!(ids(&store).await, written);
    assert_eq!(owner(&other).await, "sqlite");
}

// The audit trail and the playbooks go on by the same way.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_stores_go_on_too() {
    let places = Places::new().await;
    let db = places.process("sqlite").await;
    let (audit, playbooks) = (db.audit("audit").unwrap(), db.playbooks("playbooks").unwrap());
    let (repository, catalog) = (audit.repository().await.unwrap(), playbooks.catalog().await.unwrap());
    let record = async || {
        let event = NewAuditEvent::new("t", "c", Outcome::Success, "s", ActorType::System, "r", "1");
        audit.record(event.unwrap()).await.unwrap();
    };
    let put = async |version| {
        let new = format!(
            r##"{{"playbook_id":"restart","version":"{version}","name":"R","description":"","content":"# {version}","is_latest_version":true}}"##
        );
        let new = NewPlaybook::from_json(new).unwrap();
        catalog.put(Put { versions: vec![new.clone()] }).await.unwrap();
        new.playbook_id
    };
    record().await;
    put("1.0.0").await;
    for (family, module) in [(Family::Audit, "audit"), (Family::Playbooks, "playbooks")] {
        Moving::begin_of(&places, family).await.cut().await;
        record().await;
        assert_eq!(db.module(module).unwrap().owner().await.unwrap().0, "postgres");
    }
    let playbook_id = put("1.1.0").await;
    assert_eq!(repository.count(AuditFilter::default()).await.unwrap(), 3);
    let found = catalog.get(GetPlaybook { playbook_id, which: Lookup::Latest }).await.unwrap().unwrap();
    assert_eq!(found.playbook.version.as_str(), "1.1.0");
    let counts = "SELECT (SELECT count(*) FROM audit_store.audit_events), \
                         (SELECT count(*) FROM playbook_store.playbook_catalog)";
    let counts = places.server.query(counts, &[]).await.unwrap();
    assert_eq!((counts[0].get::<_, i64>(0), counts[0].get::<_, i64>(1)), (3, 2));
    repository.ready().await.unwrap();
    catalog.ready().await.unwrap();
}
