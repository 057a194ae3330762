//! A module of a file as a cutover moves it from here: read raw, its changes captured, fenced in the file itself.
//!
//! The engine asks through the doors of `changeover_core::cutover`. What a cutover keeps lies in the file: `__cut_meta`
//! (one row a module: run, epoch, gate), `__cut_dirty` (the keys that changed) and triggers on the module's tables, all
//! in SQL that old programs can parse (SQLite 3.8).
//!
//! The file is used through connections of their own, so that a cutover neither waits for the stores of this program nor
//! stands in their way. They turn no file to WAL, and work in whatever journal mode they find.
//!
//! When the last module of a file is finalized, it is put away (`archive`): renamed while nobody has it open, with a tombstone
//! in its place.
//!
//! What cannot be seen from inside: a file in WAL mode that lost its `-wal` opens as if nothing had happened, as it was at
//! the last checkpoint. The engine sees it, for [`Meta::seq`] is then below what the new store has applied.

mod archive;
mod back;
mod capture;
mod clone;
mod door;
mod facts;
mod fence;
pub(crate) mod gate;
mod lives;
mod log;
mod read;
mod shape;
pub(crate) mod tombstone;
mod witness;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use changeover_core::cutover::{
    Archive, Archiving, BackBatch, CaptureTable, Chunk, ChunkRead, Cloned, CutoverSide, CutoverSource, Dirty,
    Meta, RawKey, RawRow, ReadRows, SourceColumn, SourceFacts,
};
use changeover_core::{ErrorKind, ModuleScope, Result, Uuid};

use self::door::Door;
use self::witness::Witness;
use crate::database::Database;

/// Both doors to a module of a file.
pub(crate) fn side(database: &Arc<Database>, scope: &ModuleScope) -> CutoverSide {
    CutoverSide::Old {
        source: Arc::new(Source { door: Door::new(database), scope: scope.clone() }),
        witness: Arc::new(Witness { door: Door::new(database) }),
    }
}

/// The old store of one module.
struct Source {
    door: Door,
    scope: ModuleScope,
}

impl Source {
    fn module(&self) -> String {
        self.scope.module.as_str().to_owned()
    }
}

#[async_trait]
impl CutoverSource for Source {
    async fn facts(&self) -> Result<SourceFacts> {
        let (scope, path) = (self.scope.clone(), self.door.path().to_owned());
        self.door.read("cutover.facts", move |conn| facts::facts(conn, &scope, &path)).await
    }

    async fn check(&self) -> Result<Vec<String>> {
        match self.door.read("cutover.check", facts::check).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(vec![error.message().to_owned()]),
            checked => checked,
        }
    }

    async fn chunk(&self, read: &ChunkRead) -> Result<Chunk> {
        let (module, read) = (self.module(), read.clone());
        self.door.read("cutover.chunk", move |conn| read::chunk(conn, &module, &read)).await
    }

    async fn rows(&self, read: &ReadRows) -> Result<Vec<Option<RawRow>>> {
        let read = read.clone();
        self.door.read("cutover.rows", move |conn| read::rows(conn, &read)).await
    }

    async fn orphans(
        &self,
        table: &str,
        key: &[SourceColumn],
        columns: &[String],
        parent: (&str, &[String]),
        limit: u32,
    ) -> Result<Vec<RawKey>> {
        let (table, key, columns) = (table.to_owned(), key.to_vec(), columns.to_vec());
        let (parent, named) = (parent.0.to_owned(), parent.1.to_vec());
        self.door
            .read("cutover.orphans", move |conn| {
                read::orphans(conn, &table, &key, &columns, (&parent, &named), limit)
            })
            .await
    }

    async fn duplicates(
        &self,
        table: &str,
        key: &[SourceColumn],
        columns: &[String],
        only_where: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RawKey>> {
        let (table, key, columns) = (table.to_owned(), key.to_vec(), columns.to_vec());
        let only_where = only_where.map(str::to_owned);
        self.door
            .read("cutover.duplicates", move |conn| {
                read::duplicates(conn, &table, &key, &columns, only_where.as_deref(), limit)
            })
            .await
    }

    async fn prepare(
        &self,
        run: Uuid,
        epoch: i64,
        tables: &[CaptureTable],
        within: Duration,
    ) -> Result<Meta> {
        let (module, tables) = (self.module(), tables.to_vec());
        let prepare =
            move |conn: &mut diesel::SqliteConnection| capture::prepare(conn, &module, run, epoch, &tables);
        self.door.write("cutover.prepare", Some(within), prepare).await
    }

    async fn meta(&self) -> Result<Option<Meta>> {
        let module = self.module();
        let read = self.door.read("cutover.meta", move |conn| gate::find(conn, &module));
        Ok(read.await?.map(|found| found.meta))
    }

    async fn dirty(&self, after: i64, limit: u32) -> Result<Dirty> {
        let module = self.module();
        self.door.read("cutover.dirty", move |conn| log::dirty(conn, &module, after, limit)).await
    }

    async fn trim(&self, upto: i64) -> Result<()> {
        let module = self.module();
        self.door.write("cutover.trim", None, move |conn| log::trim(conn, &module, upto)).await
    }

    async fn fence(&self, epoch: i64, moved_to: &str, within: Duration) -> Result<Option<i64>> {
        let (module, moved_to) = (self.module(), moved_to.to_owned());
        let fence = move |conn: &mut diesel::SqliteConnection| fence::fence(conn, &module, epoch, &moved_to);
        self.door.write("cutover.fence", Some(within), fence).await
    }

    async fn reopen(&self, epoch: i64, capture: bool) -> Result<bool> {
        let module = self.module();
        let reopen = move |conn: &mut diesel::SqliteConnection| fence::reopen(conn, &module, epoch, capture);
        self.door.write("cutover.reopen", None, reopen).await
    }

    async fn write_back(&self, batch: &BackBatch) -> Result<()> {
        let (module, batch) = (self.module(), batch.clone());
        let write = move |conn: &mut diesel::SqliteConnection| back::write_back(conn, &module, &batch);
        self.door.write("cutover.write_back", None, write).await
    }

    async fn stop_capture(&self) -> Result<()> {
        let module = self.module();
        self.door.write("cutover.stop_capture", None, move |conn| capture::stop(conn, &module)).await
    }

    async fn archive(&self) -> Result<Archiving> {
        archive::archive(&self.door).await
    }

    async fn archived(&self) -> Result<Option<Archive>> {
        self.door.archived("cutover.archived").await
    }

    async fn copy_into(&self, folder: &Path, stop: &Arc<AtomicBool>) -> Result<Cloned> {
        let (path, folder, stop) = (self.door.path().to_owned(), folder.to_owned(), Arc::clone(stop));
        self.door.read("cutover.clone", move |conn| clone::clone(conn, &path, &folder, &stop)).await
    }
}
