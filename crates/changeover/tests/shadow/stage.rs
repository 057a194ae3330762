//! A file, a database, a run that follows, and a service whose reads are compared.

use std::sync::Arc;
use std::time::Duration;

use changeover::cutover::{Cutover, Goal, Terms};
use changeover::events::{Append, Expected, NewEvent, StreamId};
use changeover::{Db, EventStore, Json, Move, PersistenceOptions, ShadowReport, TenantId, Uuid};
use changeover_testkit::TestDatabase;
use tempfile::TempDir;

use crate::common::options;

/// Long enough for anything that is to happen.
const LONG: Duration = Duration::from_mins(1);

pub struct Stage {
    pub dir: TempDir,
    pub server: TestDatabase,
    pub options: PersistenceOptions,
    /// Has the tables of the module in both stores.
    operator: Db,
    pub module: &'static str,
}

impl Stage {
    pub async fn new(module: &'static str) -> Self {
        let (dir, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
        let options = options(&dir, Some(&server)).with("persistence.default", "sqlite");
        let operator = changeover::connect_with(options.clone(), changeover::registry()).await.unwrap();
        let scope = operator.module(module).unwrap().scope().clone();
        let family = [changeover::backend::Family::Events, changeover::backend::Family::Audit]
            .into_iter()
            .find(|family| family.as_str() == module)
            .unwrap_or(changeover::backend::Family::Playbooks);
        for backend in ["sqlite", "postgres"] {
            let backend = operator.backend(backend).await.unwrap();
            backend.migrations(&scope, family).unwrap().up().await.unwrap();
        }
        Self { dir, server, options, operator, module }
    }

    /// A process that compares every read, but for what is given otherwise.
    pub async fn service(&self, settings: &[(&str, &str)]) -> Db {
        let key = |key: &str| format!("shadow.{}.{key}", self.module);
        let mut options = self.options.clone().with(key("with"), "postgres").with(key("share"), "1");
        for (name, value) in settings {
            options = options.with(if name.contains('.') { (*name).to_owned() } else { key(name) }, *value);
        }
        changeover::connect_with(options, changeover::registry()).await.unwrap()
    }

    pub async fn cutover(&self) -> Cutover {
        self.operator.cutover(&Move::of(self.module, "a test")).await.unwrap()
    }

    /// Copies and follows up to now.
    pub async fn verified(&self) {
        self.cutover().await.run(&terms(), Goal::Verified).await.unwrap();
    }

    /// What somebody does to the database behind everybody's back.
    pub async fn tamper(&self, sql: &str) {
        let sql = format!("BEGIN; SET LOCAL session_replication_role = replica; {sql}; COMMIT");
        self.server.execute(&sql).await.unwrap();
    }

    /// What an old program does to the file.
    pub fn in_file(&self, sql: &str) {
        use diesel::Connection;
        use diesel::connection::SimpleConnection;
        let path = self.dir.path().join("a.db");
        let mut file = diesel::SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        file.batch_execute(&format!("PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = OFF; {sql}")).unwrap();
    }

    /// The report, once so many comparisons have ended.
    pub async fn report(&self, db: &Db, ended: u64) -> ShadowReport {
        wait(db, self.module, |report| total(report) >= ended && report.running == 0).await
    }
}

pub async fn wait(db: &Db, module: &str, is: impl Fn(&ShadowReport) -> bool) -> ShadowReport {
    let until = tokio::time::Instant::now() + LONG;
    loop {
        let report = db.shadow(module).unwrap().unwrap();
        if is(&report) {
            return report;
        }
        assert!(tokio::time::Instant::now() < until, "{report:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Comparisons that have ended, and what was not compared.
pub fn total(report: &ShadowReport) -> u64 {
    let failed: u64 = report.failed.values().sum();
    report.compared() + report.unsettled + report.skipped + report.idle + failed
}

/// Key, field and both values of each difference.
pub fn found(report: &ShadowReport) -> Vec<(&str, &str, &str, &str)> {
    report.differences.iter().map(|it| (&*it.key, &*it.field, &*it.owner, &*it.shadow)).collect()
}

pub fn terms() -> Terms {
    Terms { lease: Duration::from_secs(5), chunk_rows: 50, ..Terms::new(TenantId::new("default").unwrap()) }
}

pub async fn store(db: &Db) -> Arc<dyn EventStore> {
    db.events("events").unwrap().store().await.unwrap()
}

pub fn stream(number: u128) -> StreamId {
    StreamId::new("Order", Uuid::from_u128(number)).unwrap()
}

/// Appends an event that tells its number.
pub async fn append(store: &dyn EventStore, to: u128, number: u64) -> Uuid {
    let event = NewEvent::new("Placed", Json::parse(&format!(r#"{{"n":{number}}}"#)).unwrap()).unwrap();
    let id = event.id;
    store.append(Append::one(stream(to), Expected::Any, vec![event])).await.unwrap();
    id
}
