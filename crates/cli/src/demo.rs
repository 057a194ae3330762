//! `demo`: what the stores do, shown on real data, first in a file, then on a server by changing one word; and a cutover.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use changeover::audit::{AuditFilter, AuditQuery};
use changeover::backend::Family;
use changeover::cutover::Terms;
use changeover::drill::{Drill, Options, Outcome};
use changeover::events::{Append, EventFilter, Expected, NewEvent, StreamId, Subscribe, Version};
use changeover::{
    AuditRepository, Db, ErrorKind, EventStore, Json, Limit, Message, Move, PersistenceOptions,
    PlaybookCatalog, Subscription, TenantId, Text, Uuid, connect_to_look, connect_with, registry,
};

use crate::args::{Demo, Module, PlaybookModule, Read, Search};
use crate::exit::{Failure, Status};
use crate::lines::{self, Parse, Target};
use crate::output::Out;
use crate::settings::DEMO_POSTGRES_URL;
use crate::{audit, cutover, events, playbooks};

/// From the history of openshift/runbooks (Apache-2.0); see `tests/data/README.md` for all three.
const EVENTS: &str = include_str!("../tests/data/streams_openshift_runbooks.jsonl");
/// From the tests of panther-labs/panther-analysis (Apache-2.0).
const RECORDS: &str = include_str!("../tests/data/audit_cloudtrail_panther.jsonl");
/// From the history of openshift/runbooks (Apache-2.0).
const VERSIONS: &str = include_str!("../tests/data/playbooks_openshift_runbooks.jsonl");
/// A file of that history that was added, edited twice and renamed.
const STREAM: &str = "RepoFile/4a259275-75eb-5f8c-81e7-9275657e5fd7";
/// What some of the audit records belong to: log-ins, some of them wrong.
const CORRELATION: &str = "111122223333";
const MODULE: &str = "demo";
/// The module that is moved: `demo` belongs to the server from its first use there.
const MOVING: &str = "demo_moving";

pub async fn run(options: Demo, out: &mut Out) -> Result<Status, Failure> {
    out.for_people();
    let place = Place::new(options.file)?;
    let path = place.path.display().to_string();
    out.line("# SQLite: one file, no server")?;
    settings(out, "file", &[("kind", "sqlite"), ("path", &place.shown)])?;
    let file = PersistenceOptions::new()
        .with(format!("persistence.{MODULE}"), "file")
        .with("backends.file.kind", "sqlite")
        .with("backends.file.path", path);
    let db = connect_with(file, registry()).await?;
    let shown = show(&db, out).await;
    db.close().await;
    shown?;
    look_at(&place, out)?;
    on_a_server(&place, out).await?;
    Ok(Status::Done)
}

/// Where the file is: a directory that goes with the demo, or where the user wants to keep it.
struct Place {
    path: PathBuf,
    shown: String,
    kept: bool,
    _directory: Option<tempfile::TempDir>,
}

impl Place {
    fn new(file: Option<PathBuf>) -> Result<Self, Failure> {
        let Some(path) = file else {
            let directory = tempfile::tempdir()
                .map_err(|error| Failure::failed(format!("no temporary directory can be made: {error}")))?;
            let path = directory.path().join("demo.db");
            return Ok(Self {
                path,
                shown: "(temporary)/demo.db".to_owned(),
                kept: false,
                _directory: Some(directory),
            });
        };
        let shown = path.display().to_string();
        if path.exists() {
            return Err(Failure::usage(format!(
                "--file {shown}: it is there already; give a new name or remove it"
            )));
        }
        Ok(Self { path, shown, kept: true, _directory: None })
    }
}

fn settings(out: &mut Out, word: &str, keys: &[(&str, &str)]) -> Result<(), Failure> {
    out.line(&format!("\n    [persistence]\n    {MODULE} = {word:?}\n\n    [backends.{word}]"))?;
    for (key, value) in keys {
        out.line(&format!("    {key} = {value:?}"))?;
    }
    out.line("")
}

async fn show(db: &Db, out: &mut Out) -> Result<(), Failure> {
    show_events(db.events(MODULE)?.store().await?, out).await?;
    show_audit(db.audit(MODULE)?.repository().await?, out).await?;
    show_playbooks(db.playbooks(MODULE)?.catalog().await?, out).await
}

async fn show_events(store: Arc<dyn EventStore>, out: &mut Out) -> Result<(), Failure> {
    let events = EVENTS.lines().count();
    out.line(&format!("## Import {events} events of a real history"))?;
    import(events::Import::new(Arc::clone(&store)), EVENTS, events::parse, out).await?;
    out.line("\n## Import them again: ids make it harmless")?;
    import(events::Import::new(Arc::clone(&store)), EVENTS, events::parse, out).await?;

    let stream: StreamId = STREAM.parse()?;
    out.line(&format!("\n## Read one stream, {stream}"))?;
    let module = Module { module: changeover::ModuleName::new(MODULE)? };
    let read = Read { stream: stream.clone(), from: None, to: None, backward: false, limit: None, module };
    events::read(&*store, read, out).await?;

    out.line("\n## Append to it, expecting version 3: somebody else was faster")?;
    conflict(&*store, &stream, out).await?;

    out.line("\n## Follow the log: what is there, then what is appended")?;
    follow(&*store, &stream, out).await
}

async fn show_audit(repository: Arc<dyn AuditRepository>, out: &mut Out) -> Result<(), Failure> {
    let records = RECORDS.lines().count();
    out.line(&format!("\n## Import {records} audit records"))?;
    import(audit::Import::new(Arc::clone(&repository))?, RECORDS, audit::parse, out).await?;

    let correlation_id: Text<255> = Text::new("correlation_id", CORRELATION)?;
    out.line(&format!("\n## Who logged in? The records of correlation id {correlation_id}"))?;
    let filter = AuditFilter { correlation_id: Some(correlation_id.clone()), ..AuditFilter::default() };
    let page = repository.query(AuditQuery { filter, ..AuditQuery::default() }).await?;
    audit::print(&page.events, out)?;

    out.line("\n## Was any of them changed since? Their hash chain tells")?;
    audit::verify(&*repository, correlation_id, out).await.map(drop)
}

async fn show_playbooks(catalog: Arc<dyn PlaybookCatalog>, out: &mut Out) -> Result<(), Failure> {
    let versions = VERSIONS.lines().count();
    out.line(&format!("\n## Import {versions} versions of 12 playbooks"))?;
    import(playbooks::Import::new(Arc::clone(&catalog)), VERSIONS, playbooks::parse, out).await?;

    let text = "the disk of the storage cluster is nearly full";
    out.line(&format!("\n## Which of them helps when {text}?"))?;
    let search = Search {
        text: text.to_owned(),
        labels: Vec::new(),
        min_confidence: 0.0,
        max_results: Limit::new(3)?,
        module: PlaybookModule { module: changeover::ModuleName::new(MODULE)? },
    };
    playbooks::search(&*catalog, search, out).await.map(drop)
}

/// Imports text that the program holds.
async fn import<T: Target>(
    target: T,
    text: &'static str,
    parse: Parse<T::Line>,
    out: &mut Out,
) -> Result<(), Failure> {
    lines::import(target, lines::of(text, parse), out, std::future::pending()).await.map(drop)
}

async fn conflict(store: &dyn EventStore, stream: &StreamId, out: &mut Out) -> Result<(), Failure> {
    let late = Append::one(stream.clone(), Expected::Exactly(Version::new(3)?), vec![edited()?]);
    match store.append(late).await {
        Err(error) if error.kind() == ErrorKind::VersionConflict => {
            out.line(&format!("{}: {}", error.kind(), error.message()))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Err(Failure::failed("the stale append was taken; this is a defect of the backend")),
    }
}

async fn follow(store: &dyn EventStore, stream: &StreamId, out: &mut Out) -> Result<(), Failure> {
    let filter = EventFilter { streams: Some(vec![stream.clone()]), ..EventFilter::default() };
    let mut feed = store.subscribe(Subscribe { filter, ..Subscribe::default() }).await?;
    loop {
        match next(&mut feed).await? {
            Message::Event(event) => out.line(&format!("version {}: {}", event.version, event.event_type))?,
            Message::Progress { caught_up: true, .. } => break,
            Message::Progress { .. } => {}
        }
    }
    out.line("caught up; now version 5 is appended")?;
    store.append(Append::one(stream.clone(), Expected::Exactly(Version::new(4)?), vec![edited()?])).await?;
    loop {
        if let Message::Event(event) = next(&mut feed).await? {
            return out.line(&format!("version {}: {}", event.version, event.event_type));
        }
    }
}

async fn next(feed: &mut Subscription) -> Result<Message, Failure> {
    let message = feed.next().await.ok_or_else(|| Failure::failed("the subscription ended"))?;
    Ok(message?)
}

fn edited() -> Result<NewEvent, Failure> {
    Ok(NewEvent::new(
        "FileModified",
        Json::parse(r#"{"path":"alerts/etcdMembersDown.md","subject":"demo"}"#)?,
    )?)
}

fn look_at(place: &Place, out: &mut Out) -> Result<(), Failure> {
    out.line("\n## Look at the file")?;
    out.line(&format!("{}: {}", place.shown, file_kind(&place.path)?))?;
    out.line(if place.kept {
        "it is yours now"
    } else {
        "it goes with this demo; --file var/demo.db keeps it"
    })
}

/// What the first bytes of the file say it is.
fn file_kind(path: &Path) -> Result<&'static str, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::failed(format!("{}: the file cannot be read: {error}", path.display())))?;
    Ok(if bytes.starts_with(b"SQLite format 3\0") {
        "an ordinary SQLite 3 database"
    } else {
        "no SQLite database"
    })
}

async fn on_a_server(place: &Place, out: &mut Out) -> Result<(), Failure> {
    out.line("\n# PostgreSQL: the same with one word changed")?;
    let Ok(url) = std::env::var(DEMO_POSTGRES_URL) else {
        return out.line(&format!("not shown: set {DEMO_POSTGRES_URL} to the address of a scratch database"));
    };
    settings(out, "server", &[("kind", "postgres"), ("url", "(hidden)")])?;
    let server = PersistenceOptions::new()
        .with(format!("persistence.{MODULE}"), "server")
        .with("backends.server.kind", "postgres")
        .with("backends.server.url", &url)
        .with("backends.server.migrate_on_start", "true");
    // Events are never deleted, so each run is a tenant of its own.
    let tenant = TenantId::new(format!("demo-{}", Uuid::now_v7()))?;
    let db = connect_with(server, registry()).await?.for_tenant(tenant);
    let shown = show(&db, out).await;
    db.close().await;
    shown?;
    move_there(place, url, out).await
}

/// A cutover, whole, of a module of its own: of a copy of the file, to a database that is made for it and dropped.
async fn move_there(place: &Place, url: String, out: &mut Out) -> Result<(), Failure> {
    out.line("\n# The move: changeover cutover, on a copy of the file")?;
    let both = PersistenceOptions::new()
        .with(format!("persistence.{MOVING}"), "file")
        .with("backends.file.kind", "sqlite")
        .with("backends.file.path", place.path.display().to_string())
        .with("backends.server.kind", "postgres")
        .with("backends.server.url", url);
    let db = connect_with(both.clone(), registry()).await?;
    let store = db.events(MOVING)?.store().await?;
    import(events::Import::new(store), EVENTS, events::parse, out).await?;
    let repository = db.audit(MOVING)?.repository().await?;
    import(audit::Import::new(repository)?, RECORDS, audit::parse, out).await?;
    let catalog = db.playbooks(MOVING)?.catalog().await?;
    import(playbooks::Import::new(catalog), VERSIONS, playbooks::parse, out).await?;
    let server = db.backend("server").await?;
    for family in [Family::Events, Family::Audit, Family::Playbooks] {
        server.migrations(db.module(MOVING)?.scope(), family)?.up().await?;
    }
    db.close().await;

    out.line("\n## There, back with what was written there, and there for good")?;
    let db = connect_to_look(both, registry())?;
    let terms = Terms::new(db.tenant().clone());
    let drill = Drill::new(&db, Move::of(MOVING, "the demo"), Options::of(terms));
    let outcome = drill.run().await;
    drill.clear().await?;
    let ended = match outcome {
        Ok(Outcome::Done(done)) => cutover::drilled(&done, &[], out),
        Ok(Outcome::Stopped(plan)) => {
            let why = plan.lacks.iter().cloned().chain(plan.findings.iter().map(|it| format!("{it:?}")));
            let why = why.collect::<Vec<_>>().join("; ");
            Err(Failure::failed(format!("the rows of the demo cannot be moved: {why}")))
        }
        // No database may be made here: what to do is said.
        Err(error) if error.kind() == ErrorKind::Invalid => {
            out.line(&format!("not shown: {}", error.message()))
        }
        Ok(Outcome::Undecided { error, .. }) | Err(error) => Err(error.into()),
    };
    db.close().await;
    ended
}
