//! The schema: a list of SQL files, what of it is applied, and the way between.
//!
//! A file that legacy programs made is adopted: the migrations that make the tables it already has are recorded as
//! `adopted` and not run, so that nothing of theirs is altered.

use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::backend::{Family, MigrationStatus, Migrations};
use changeover_core::{Error, ErrorKind, ModuleName, ModuleScope, Result, Timestamp, Uuid};
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;

use crate::classify::{Failure, classify};
use crate::cutover::{gate, tombstone};
use crate::database::Database;
use crate::schema::{
    BASE, Migration, OWN_RECORDS, legacy_tables, migrations, needs_no_transaction, prefix_of, render,
};
use crate::sql::{self, Bind};

/// The schema of one family of one module: what is known, and its place in `_migrations`.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    module: ModuleName,
    family: Family,
    prefix: String,
    /// Before the ids of a namespaced module: `scheduler.`.
    space: String,
    backend: String,
    /// All there are, in their order.
    known: Arc<[&'static Migration]>,
}

/// What one step up did.
enum Step {
    Applied(MigrationStatus),
    /// The next one cannot run in a transaction.
    Outside(&'static Migration),
    NothingLeft,
}

/// A row of `_migrations`.
struct Applied {
    id: String,
    description: String,
    checksum: String,
    at: String,
    adopted: bool,
}

impl Schema {
    pub(crate) fn new(scope: &ModuleScope, family: Family, backend: &str) -> Self {
        let space = scope.namespace.as_ref().map(|namespace| format!("{namespace}.")).unwrap_or_default();
        let known = BASE.iter().chain(migrations(family)).collect();
        let (module, prefix) = (scope.module.clone(), prefix_of(scope));
        Self { module, family, prefix, space, backend: backend.to_owned(), known }
    }

    fn known(&self) -> impl DoubleEndedIterator<Item = &'static Migration> + use<'_> {
        self.known.iter().copied()
    }

    fn id(&self, migration: &Migration) -> String {
        if migration.is_base() { migration.id.to_owned() } else { format!("{}{}", self.space, migration.id) }
    }

    /// Ok if the schema is exactly the one this program knows; else `SchemaMismatch` with what to run.
    pub(crate) fn verify(&self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        let status = self.status(conn)?;
        refuse_problems(&status)?;
        if let Some(missing) = status.iter().find(|one| one.applied_at.is_none()) {
            return Err(self.mismatch(&format!("migration {} is not applied", missing.id)).into());
        }
        Ok(())
    }

    fn mismatch(&self, found: &str) -> Error {
        Error::new(
            ErrorKind::SchemaMismatch,
            format!("{found}; run `changeover migrate up --backend {}`", self.backend),
        )
    }

    fn applied(&self, conn: &mut SqliteConnection) -> Result<Vec<Applied>, Failure> {
        if !has_table(conn, "_migrations")? {
            return Ok(Vec::new());
        }
        let sql = "SELECT id, description, checksum, applied_at, mode FROM _migrations ORDER BY id";
        let mut applied = Vec::new();
        for row in sql::rows(conn, sql, &[])? {
            let text = |index: usize| row.cell(index).as_str().unwrap_or_default().to_owned();
            let id = text(0);
            let family = format!("{}{}/", self.space, self.family.as_str());
            if id.starts_with("base/") || id.starts_with(&family) {
                applied.push(Applied {
                    id,
                    description: text(1),
                    checksum: text(2),
                    at: text(3),
                    adopted: text(4) == "adopted",
                });
            }
        }
        Ok(applied)
    }

    /// Every known migration in order, then every applied one that is unknown here.
    fn status(&self, conn: &mut SqliteConnection) -> Result<Vec<MigrationStatus>, Failure> {
        let mut applied = self.applied(conn)?;
        let mut status = Vec::new();
        for migration in self.known() {
            let id = self.id(migration);
            let mut one = MigrationStatus {
                id: id.clone(),
                description: migration.description().to_owned(),
                checksum: migration.checksum(),
                applied_at: None,
                problem: None,
            };
            if let Some(index) = applied.iter().position(|found| found.id == id) {
                let found = applied.remove(index);
                one.applied_at =
                    Some(Timestamp::parse(&found.at).map_err(|_| {
                        Error::corrupt("_migrations", id.clone(), "applied_at", "is not a time")
                    })?);
                if found.checksum != one.checksum {
                    one.problem = Some(
                        "its text changed since it was applied; use the program that applied it, or add a new \
                         migration instead of changing one"
                            .to_owned(),
                    );
                }
            }
            status.push(one);
        }
        let last = status.iter().rposition(|one| one.applied_at.is_some()).unwrap_or(0);
        for one in &mut status[..last] {
            if one.applied_at.is_none() {
                one.problem = Some("it is missing, and a later one is applied".to_owned());
            }
        }
        for unknown in applied {
            status.push(MigrationStatus {
                id: unknown.id,
                description: unknown.description,
                checksum: unknown.checksum,
                applied_at: Timestamp::parse(&unknown.at).ok(),
                problem: Some(
                    "unknown here: the schema is newer than this program; use a newer program".to_owned(),
                ),
            });
        }
        Ok(status)
    }

    /// Applies the first missing migration, if there is one that can run in a transaction. In a write transaction.
    fn step(&self, conn: &mut SqliteConnection) -> Result<Step, Failure> {
        let status = self.status(conn)?;
        refuse_problems(&status)?;
        let Some(next) = status.into_iter().find(|one| one.applied_at.is_none()) else {
            return Ok(Step::NothingLeft);
        };
        let Some(migration) = self.known().find(|known| self.id(known) == next.id) else {
            return Ok(Step::NothingLeft);
        };
        // The tables of a module that was moved from here, or is on its way, stay as they are.
        gate::refuse_moving(conn, self.module.as_str())?;
        if needs_no_transaction(migration.up) {
            return Ok(Step::Outside(migration));
        }
        let adopted = !migration.is_base() && self.is_adopted(conn)?;
        if adopted {
            self.check_legacy_tables(conn)?;
        }
        if !(adopted && migration.makes_legacy_tables) {
            conn.batch_execute(&render(migration.up, &self.prefix))?;
        }
        if migration.id == "events/0001_log" {
            self.begin_log(conn, adopted)?;
        }
        Ok(Step::Applied(Self::record(conn, next, adopted)?))
    }

    /// Records a migration whose statements have run outside of a transaction, unless somebody else has done so. In a
    /// write transaction.
    fn record_outside(
        &self,
        conn: &mut SqliteConnection,
        migration: &Migration,
    ) -> Result<Option<MigrationStatus>, Failure> {
        let id = self.id(migration);
        let status = self.status(conn)?;
        refuse_problems(&status)?;
        let next = status.into_iter().find(|one| one.id == id && one.applied_at.is_none());
        let adopted = !migration.is_base() && self.is_adopted(conn)?;
        next.map(|next| Self::record(conn, next, adopted)).transpose()
    }

    fn record(
        conn: &mut SqliteConnection,
        next: MigrationStatus,
        adopted: bool,
    ) -> Result<MigrationStatus, Failure> {
        let now = Timestamp::now();
        sql::execute(
            conn,
            "INSERT INTO _migrations (id, description, checksum, applied_at, mode) VALUES (?1, ?2, ?3, ?4, ?5)",
            &[
                Bind::Text(&next.id),
                Bind::Text(&next.description),
                Bind::Text(&next.checksum),
                Bind::Text(&now.to_string()),
                Bind::Text(if adopted { "adopted" } else { "native" }),
            ],
        )?;
        Ok(MigrationStatus { applied_at: Some(now), ..next })
    }

    /// Whether the records lie, or will lie, in tables that legacy programs made: those were there before our first
    /// record of them.
    pub(crate) fn is_adopted(&self, conn: &mut SqliteConnection) -> Result<bool, Failure> {
        let records = self.applied(conn)?;
        if let Some(record) = records.iter().find(|record| !record.id.starts_with("base/")) {
            return Ok(record.adopted);
        }
        for (table, _) in legacy_tables(self.family) {
            if has_table(conn, &render(table, &self.prefix))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn begin_log(&self, conn: &mut SqliteConnection, adopted: bool) -> Result<(), Failure> {
        let log = Uuid::now_v7().to_string();
        let insert = "INSERT INTO changeover_log (one, log_id, adopted) VALUES (1, ?1, ?2)";
        let insert = render(insert, &self.prefix);
        sql::execute(conn, &insert, &[Bind::Text(&log), Bind::Int(i64::from(adopted))])?;
        if adopted {
            let mark = "UPDATE changeover_log SET
                high_water = coalesce((SELECT max(rowid) FROM domain_event), 0),
                high_water_event = (SELECT event_id FROM domain_event ORDER BY rowid DESC LIMIT 1)";
            sql::execute(conn, &render(mark, &self.prefix), &[])?;
        }
        Ok(())
    }

    fn check_legacy_tables(&self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        for (table, columns) in legacy_tables(self.family) {
            let table = render(table, &self.prefix);
            let found = sql::rows(conn, "SELECT name FROM pragma_table_info(?1)", &[Bind::Text(&table)])?;
            let has = |column: &str| found.iter().any(|row| row.cell(0).as_str() == Some(column));
            if let Some(missing) = columns.iter().find(|column| !has(column)) {
                let message = format!(
                    "the file has a table {table} that cannot be adopted: column {missing} is missing; rename the \
                     table if it is not one of {}",
                    self.family.as_str()
                );
                return Err(Error::new(ErrorKind::SchemaMismatch, message).into());
            }
        }
        Ok(())
    }

    /// Takes back the last `steps` migrations, up to the first that cannot run in a transaction, which is returned. What
    /// all modules share goes last, and stays while another module needs it. In a write transaction.
    fn down(
        &self,
        conn: &mut SqliteConnection,
        steps: u32,
        accept_data_loss: bool,
    ) -> Result<(Vec<MigrationStatus>, Option<&'static Migration>), Failure> {
        gate::refuse_moving(conn, self.module.as_str())?;
        let status = self.status(conn)?;
        refuse_problems(&status)?;
        let records = self.applied(conn)?;
        let back: Vec<_> = self
            .known()
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .filter(|migration| records.iter().any(|record| record.id == self.id(migration)))
            .take(steps as usize)
            .collect();
        if !back.is_empty() && records.iter().any(|record| record.adopted) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "an adopted file has no earlier schema to go back to: its tables belong to the programs that made \
                 them",
            )
            .into());
        }
        let mut taken = Vec::new();
        for migration in back {
            if migration.is_base() && has_others(conn)? {
                break;
            }
            if !accept_data_loss {
                self.refuse_data_loss(conn, migration)?;
            }
            if needs_no_transaction(migration.down) {
                return Ok((taken, Some(migration)));
            }
            let id = self.id(migration);
            sql::execute(conn, "DELETE FROM _migrations WHERE id = ?1", &[Bind::Text(&id)])?;
            conn.batch_execute(&render(migration.down, &self.prefix))?;
            let one = status.iter().find(|one| one.id == id).cloned();
            taken.extend(one.map(|one| MigrationStatus { applied_at: None, ..one }));
        }
        Ok((taken, None))
    }

    /// Removes the record of a migration that was taken back outside of a transaction. In a write transaction.
    fn forget(
        &self,
        conn: &mut SqliteConnection,
        migration: &Migration,
    ) -> Result<Option<MigrationStatus>, Failure> {
        let id = self.id(migration);
        let one = self.status(conn)?.into_iter().find(|one| one.id == id);
        sql::execute(conn, "DELETE FROM _migrations WHERE id = ?1", &[Bind::Text(&id)])?;
        Ok(one.map(|one| MigrationStatus { applied_at: None, ..one }))
    }

    fn refuse_data_loss(&self, conn: &mut SqliteConnection, migration: &Migration) -> Result<(), Failure> {
        let dropped = migration.down.lines().filter_map(|line| line.strip_prefix("DROP TABLE "));
        for table in dropped.map(|name| name.trim_end_matches(';')).filter(|name| !OWN_RECORDS.contains(name))
        {
            let table = render(table, &self.prefix);
            if sql::first(conn, &format!("SELECT 1 FROM {table} LIMIT 1"), &[])?.is_some() {
                let message = format!(
                    "taking back {} drops table {table}, which holds records; export them first, or accept the loss",
                    self.id(migration)
                );
                return Err(Error::invalid(message).into());
            }
        }
        Ok(())
    }
}

/// Whether a module's migrations are recorded.
fn has_others(conn: &mut SqliteConnection) -> Result<bool, Failure> {
    let sql = "SELECT 1 FROM _migrations WHERE substr(id, 1, 5) <> 'base/' LIMIT 1";
    Ok(sql::first(conn, sql, &[])?.is_some())
}

fn has_table(conn: &mut SqliteConnection, name: &str) -> Result<bool, Failure> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    Ok(sql::first(conn, sql, &[Bind::Text(name)])?.is_some())
}

fn refuse_problems(status: &[MigrationStatus]) -> Result<()> {
    let Some(bad) = status.iter().find(|one| one.problem.is_some()) else {
        return Ok(());
    };
    let problem = bad.problem.as_deref().unwrap_or_default();
    Err(Error::new(ErrorKind::SchemaMismatch, format!("migration {}: {problem}", bad.id)))
}

/// The migrations of one family of a module in one file.
pub(crate) struct SqliteMigrations {
    pub(crate) database: Arc<Database>,
    pub(crate) schema: Schema,
}

impl SqliteMigrations {
    /// Runs a file whose statements cannot run in a transaction.
    async fn run_outside(&self, migration: &Migration, sql: &str) -> Result<()> {
        let sql = render(sql, &self.schema.prefix);
        let turn = self.database.write_turn().await?;
        let run =
            move |conn: &mut SqliteConnection| conn.batch_execute(&sql).map_err(|error| classify(&error));
        self.database.write_in(turn, run).await.map_err(|error| {
            let id = self.schema.id(migration);
            let message = format!(
                "migration {id} failed: {}; what it did before stays, since it cannot run in a transaction; remove the \
                 cause and run the same again, which begins with its first statement",
                error.message()
            );
            Error::new(error.kind(), message)
        })
    }

    async fn refuse_tombstone(&self) -> Result<()> {
        let (path, module) = (self.database.options.path.clone(), self.schema.module.clone());
        self.database.read(move |conn| tombstone::refuse(conn, &path, module.as_str())).await
    }

    async fn run_up(&self) -> Result<Vec<MigrationStatus>> {
        let mut done = Vec::new();
        loop {
            let schema = self.schema.clone();
            match self.database.write(move |conn| schema.step(conn)).await? {
                Step::Applied(applied) => done.push(applied),
                Step::Outside(migration) => {
                    self.run_outside(migration, migration.up).await?;
                    let schema = self.schema.clone();
                    let record = move |conn: &mut SqliteConnection| schema.record_outside(conn, migration);
                    // None: another process recorded it meanwhile.
                    done.extend(self.database.write(record).await?);
                }
                Step::NothingLeft => return Ok(done),
            }
        }
    }

    async fn run_down(&self, steps: u32, accept_data_loss: bool) -> Result<Vec<MigrationStatus>> {
        let mut taken = Vec::new();
        loop {
            let left = steps.saturating_sub(u32::try_from(taken.len()).unwrap_or(u32::MAX));
            let schema = self.schema.clone();
            let back = move |conn: &mut SqliteConnection| schema.down(conn, left, accept_data_loss);
            let (some, outside) = self.database.write(back).await?;
            taken.extend(some);
            let Some(migration) = outside else { return Ok(taken) };
            self.run_outside(migration, migration.down).await?;
            let schema = self.schema.clone();
            let forget = move |conn: &mut SqliteConnection| schema.forget(conn, migration);
            taken.extend(self.database.write(forget).await?);
        }
    }
}

#[async_trait]
impl Migrations for SqliteMigrations {
    async fn status(&self) -> Result<Vec<MigrationStatus>> {
        let schema = self.schema.clone();
        let read = move |conn: &mut SqliteConnection| schema.status(conn);
        self.database.read(read).await.map_err(|error| error.during("migrations.status"))
    }

    async fn up(&self) -> Result<Vec<MigrationStatus>> {
        self.refuse_tombstone().await.map_err(|error| error.during("migrations.up"))?;
        // Without the turn to write first: mostly there is nothing to do, and the file may be busy or read-only.
        let status = self.status().await?;
        refuse_problems(&status).map_err(|error| error.during("migrations.up"))?;
        if status.iter().all(|one| one.applied_at.is_some()) {
            return Ok(Vec::new());
        }
        self.run_up().await.map_err(|error| error.during("migrations.up"))
    }

    async fn down(&self, steps: u32, accept_data_loss: bool) -> Result<Vec<MigrationStatus>> {
        self.refuse_tombstone().await.map_err(|error| error.during("migrations.down"))?;
        let back = self.run_down(steps, accept_data_loss).await;
        back.map_err(|error| error.during("migrations.down"))
    }
}

#[cfg(test)]
mod tests;
