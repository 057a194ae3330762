//! A module on its way between two databases: the protocol driven by hand, one step a call.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use changeover::backend::Family;
use changeover::{Db, Json, PersistenceOptions, TenantId, Uuid};
use changeover_core::cutover::*;
use changeover_cutover::convert::Converter;
use changeover_cutover::declare;
use changeover_testkit::TestDatabase;
use tempfile::TempDir;

use crate::LONG;
use crate::common::options;

/// A file and a server, with settings that name both.
pub struct Places {
    pub dir: TempDir,
    pub server: TestDatabase,
    pub options: PersistenceOptions,
}

impl Places {
    pub async fn new() -> Self {
        let (dir, server) = (tempfile::tempdir().unwrap(), TestDatabase::empty().await.unwrap());
        let options = options(&dir, Some(&server));
        Self { dir, server, options }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("a.db")
    }

    /// A process whose settings name this backend.
    pub async fn process(&self, backend: &str) -> Db {
        let options = self.options.clone().with("persistence.default", backend);
        changeover::connect_with(options, changeover::registry()).await.unwrap()
    }

    /// All event ids in PostgreSQL, in the order of their positions.
    pub async fn ids_on_server(&self) -> Vec<Uuid> {
        let sql = "SELECT event_id FROM event_store.domain_event ORDER BY position";
        self.server.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

/// A module and its two stores, as a coordinator has them: by connections of its own.
pub struct Moving {
    pub source: Arc<dyn CutoverSource>,
    pub target: Arc<dyn CutoverTarget>,
    tables: Vec<Table>,
    converter: Converter,
    lease: Lease,
    seal: Seal,
    applied: i64,
    back: i64,
    _operator: Db,
}

impl Moving {
    /// Prepares the run of the module `events` and copies what is there.
    pub async fn begin(places: &Places) -> Self {
        Self::begin_of(places, Family::Events).await
    }

    /// The same for a built-in module.
    pub async fn begin_of(places: &Places, family: Family) -> Self {
        let operator = places.process("sqlite").await;
        let scope = operator.module(family.as_str()).unwrap().scope().clone();
        let (file, server) =
            (operator.backend("sqlite").await.unwrap(), operator.backend("postgres").await.unwrap());
        server.migrations(&scope, family).unwrap().up().await.unwrap();
        let (CutoverSide::Old { source, .. }, CutoverSide::New { target, .. }) =
            (file.cutover(&scope).unwrap(), server.cutover(&scope).unwrap())
        else {
            panic!("a file is moved from, a server is moved to")
        };
        let tables = declare::ours(family, false, &scope);
        let (run, tenant) = (Uuid::now_v7(), TenantId::new("default").unwrap());
        let epoch = target.authority().await.unwrap().unwrap().epoch.max(1);
        let captured = |table: &Table| CaptureTable {
            name: table.name.clone(),
            table: table.source.clone(),
            key: table.source_key(),
        };
        let captured: Vec<_> = tables.iter().map(captured).collect();
        let nonce = source.prepare(run, epoch, &captured, LONG).await.unwrap().nonce;
        let facts = source.facts().await.unwrap();
        let new = NewRun {
            run,
            tables: tables.clone(),
            declarations: declare::to_json(&tables).unwrap(),
            tenant: tenant.clone(),
            nonce,
            place: facts.place,
            epoch,
            log: facts.log,
            fingerprint: Json::empty(),
            terms: Json::empty(),
            holder: "a test".to_owned(),
            ttl: Duration::from_mins(5),
        };
        let lease = target.begin(&new, entry("prepared")).await.unwrap();
        let converter = Converter::new(&tables, &tenant, nonce).unwrap();
        let seal = Seal { high_water: vec![None; tables.len()], log_high_water: None, tenants: vec![tenant] };
        let this =
            Self { source, target, tables, converter, lease, seal, applied: 0, back: 0, _operator: operator };
        this.copy().await;
        this
    }

    async fn epoch(&self) -> i64 {
        self.target.authority().await.unwrap().unwrap().epoch
    }

    async fn copy(&self) {
        for (number, table) in self.tables.iter().enumerate() {
            let read = ChunkRead {
                table: table.source.clone(),
                columns: table.source_columns(),
                key: table.source_key(),
                after: None,
                rows: 10_000,
                bytes: 1 << 30,
            };
            let read = self.source.chunk(&read).await.unwrap();
            assert!(read.end, "a test has few rows");
            let chunk = CopyChunk {
                table: number,
                number: 1,
                last: read.rows.last().map(|(key, _)| key.clone()).unwrap_or_default(),
                end: true,
                source_rows: read.rows.len() as u64,
                source_bytes: 0,
                seq: read.seq,
                rows: read
                    .rows
                    .iter()
                    .map(|(key, row)| self.converter.row(number, key, row).unwrap())
                    .collect(),
                quarantined: Vec::new(),
                replace: Vec::new(),
            };
            assert_eq!(self.target.copy(&self.lease, &chunk).await.unwrap(), ChunkDone::Stored);
        }
    }

    /// How many events the file holds.
    pub async fn events_in_file(&self) -> usize {
        let facts = self.source.facts().await.unwrap();
        let table = facts.tables.iter().find(|table| table.name == "domain_event").unwrap();
        usize::try_from(table.rows).unwrap()
    }

    /// Closes the gate of the file.
    pub async fn fence(&self) {
        self.source.fence(self.epoch().await, "postgres", LONG).await.unwrap().unwrap();
        let from = ["prepared", "catching_up"];
        self.target.enter(&self.lease, &from, "fenced", entry("fenced")).await.unwrap();
    }

    /// Applies what was written since the copy, and gets everything ready for the switch.
    pub async fn drain(&mut self) {
        let dirty = self.source.dirty(self.applied, 100_000).await.unwrap();
        let mut changes = Vec::<Change<Value>>::new();
        for dirty in &dirty.keys {
            let number = self.tables.iter().position(|table| table.name == dirty.table).unwrap();
            let table = &self.tables[number];
            let rows = ReadRows {
                table: table.source.clone(),
                columns: table.source_columns(),
                key: table.source_key(),
                keys: vec![dirty.key.clone()],
            };
            let row = self.source.rows(&rows).await.unwrap().remove(0);
            let row = row.map(|row| self.converter.row(number, &dirty.key, &row).unwrap());
            let key = self.converter.key(number, &dirty.key).unwrap();
            changes.retain(|change| (change.table, &change.key) != (number, &key));
            changes.push(Change { table: number, key, row });
        }
        let apply = Apply { changes, looked_at: Vec::new(), quarantined: Vec::new(), upto: dirty.last_seq };
        self.target.apply(&self.lease, &apply).await.unwrap();
        self.applied = dirty.last_seq;
    }

    pub async fn seal(&mut self) {
        self.seal.log_high_water = self.source.facts().await.unwrap().high_water;
        self.target.link(&self.lease, entry("linked")).await.unwrap();
        self.target.seal(&self.lease, &self.seal, entry("sealed")).await.unwrap();
        self.target.enter(&self.lease, &["fenced"], "sealed", entry("sealed")).await.unwrap();
    }

    /// Makes PostgreSQL the owner.
    pub async fn switch(&self) {
        let switch = Switch { epoch: self.epoch().await, applied: self.applied };
        assert!(self.target.switch(&self.lease, &switch, entry("switched")).await.unwrap());
    }

    /// From the fence to the switch.
    pub async fn cut(&mut self) {
        self.fence().await;
        self.drain().await;
        self.seal().await;
        self.switch().await;
    }

    /// Goes back before the switch: the file takes writes again, captured.
    pub async fn unfence(&self) {
        let epoch = self.target.unfence(&self.lease, self.epoch().await, entry("unfenced")).await.unwrap();
        assert!(self.source.reopen(epoch.unwrap(), true).await.unwrap());
    }

    /// Takes the module from PostgreSQL: nobody is owner.
    pub async fn take_back(&mut self) {
        let epoch = self.epoch().await;
        self.target.fence(&self.lease, epoch, entry("fenced")).await.unwrap().unwrap();
    }

    /// Brings what was written there to the file, and opens it.
    pub async fn give_back(&mut self) {
        let changes = self.target.changes(self.back, 100_000).await.unwrap();
        let back = |key: &BackKey| {
            let Change { table, key, row } = &key.change;
            self.converter.back(*table, key, row.as_deref()).unwrap()
        };
        let epoch = self.source.meta().await.unwrap().unwrap().epoch;
        let batch = BackBatch { epoch, seq: changes.upto, changes: changes.keys.iter().map(back).collect() };
        self.source.write_back(&batch).await.unwrap();
        self.back = changes.upto;
        let epoch =
            self.target.give_back(&self.lease, self.epoch().await, entry("given back")).await.unwrap();
        assert!(self.source.reopen(epoch.unwrap(), false).await.unwrap());
    }
}

fn entry(what: &str) -> Entry {
    Entry { what: what.to_owned(), who: "a test".to_owned(), facts: Json::empty() }
}
