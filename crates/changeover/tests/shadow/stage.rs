//! A file, a database, a run that follows, and a service whose reads are compared.

use std::sync::Arc;
use std::time::Duration;

use changeover::cutover::convert::{Accepted, Loss};
use changeover::cutover::{Cutover, Goal, Terms};
use changeover::events::{Append, Expected, NewEvent, StreamId};
use changeover::{Db, ErrorKind, EventStore, Json, Move, PersistenceOptions, ShadowReport, TenantId, Uuid};
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

/// The schema of legacy programs, as they made it.
const LEGACY: &str = include_str!("../../../sqlite/tests/legacy.sql");

impl Stage {
    pub async fn new(module: &'static str) -> Self {
        Self::with(module, None).await
    }

    /// The same in a file of legacy programs with these rows.
    pub async fn legacy(module: &'static str, rows: &str) -> Self {
        Self::with(module, Some(rows)).await
    }

    async fn with(module: &'static str, legacy: Option<&str>) -> Self {
        let (dir, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
        if let Some(rows) = legacy {
            in_file(&dir, &format!("{LEGACY}; {rows}"));
        }
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
        self.verified_with(&[]).await;
    }

    /// The same, with losses accepted.
    pub async fn verified_with(&self, losses: &[Loss]) {
        let terms = Terms { accepted: Accepted::of(losses), ..terms() };
        self.cutover().await.run(&terms, Goal::Verified).await.unwrap();
    }

    /// What somebody does to the database behind everybody's back.
    pub async fn tamper(&self, sql: &str) {
        let sql = format!("BEGIN; SET LOCAL session_replication_role = replica; {sql}; COMMIT");
        self.server.execute(&sql).await.unwrap();
    }

    /// What an old program does to the file.
    pub fn in_file(&self, sql: &str) {
        in_file(&self.dir, sql);
    }

    /// What one read that is compared finds: operation, key and field of each difference, and nothing where both answer
    /// alike. A read that is not judged fails the test.
    pub async fn compared<T>(
        &self,
        db: &Db,
        read: impl Future<Output = changeover::Result<T>>,
    ) -> Vec<(&'static str, String, String)> {
        self.compared_unless_refused(db, read).await.unwrap()
    }

    /// The same; `None` for a read that the file's store refuses for a value that it cannot read, which is not compared.
    pub async fn compared_unless_refused<T>(
        &self,
        db: &Db,
        read: impl Future<Output = changeover::Result<T>>,
    ) -> Option<Vec<(&'static str, String, String)>> {
        let before = db.shadow(self.module).unwrap().unwrap();
        if let Err(error) = read.await {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            return None;
        }
        let after = self.report(db, total(&before) + 1).await;
        assert_eq!(after.compared(), before.compared() + 1, "{after:#?}");
        let new = after.differences[before.differences.len()..].iter();
        let found: Vec<_> = new.map(|it| (it.operation, it.key.clone(), it.field.clone())).collect();
        assert_eq!(after.different - before.different, u64::from(!found.is_empty()), "{after:#?}");
        Some(found)
    }

    /// The report, once so many comparisons have ended.
    pub async fn report(&self, db: &Db, ended: u64) -> ShadowReport {
        wait(db, self.module, |report| total(report) >= ended && report.running == 0).await
    }
}

fn in_file(dir: &TempDir, sql: &str) {
    use diesel::Connection;
    use diesel::connection::SimpleConnection;
    let path = dir.path().join("a.db");
    let mut file = diesel::SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    file.batch_execute(&format!("PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = OFF; {sql}")).unwrap();
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
