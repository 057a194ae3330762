//! The user's own tables, the events of a module and audit events, written in one transaction.

use std::fmt;
use std::sync::Arc;

use changeover_core::audit::Create;
use changeover_core::events::{Append, Appended};
use changeover_core::{
    Applied, Checkpoint, ConsumerName, Error, ErrorKind, ModuleName, ModuleScope, Result, TenantId,
};
use diesel::SqliteConnection;
use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

use crate::audit::create::create;
use crate::audit::tables::AuditTables;
use crate::classify::{Failure, classify};
use crate::connect::Turn;
use crate::cutover::gate;
use crate::database::Database;
use crate::events::append::append;
use crate::events::log::Tables;
use crate::schema::is_ours;
use crate::sql;

/// An open write transaction of the file. Other writers of this backend wait until it ends; dropping it at any point
/// rolls everything back.
///
/// It has a connection of its own, which is closed at the end: whatever the user's statements did to it, and wherever
/// a future was dropped, nothing of it reaches the next transaction.
pub struct Transaction {
    // Before the turn, so that the file is free when the next writer begins.
    connection: SyncConnectionWrapper<SqliteConnection>,
    turn: Turn,
    database: Arc<Database>,
    tables: Arc<Tables>,
    module: ModuleName,
    tenant: TenantId,
    appends: Vec<Append>,
    records: Vec<(ModuleName, AuditTables, Create)>,
}

impl Transaction {
    pub(crate) async fn begin(
        database: Arc<Database>,
        tables: Arc<Tables>,
        module: ModuleName,
        tenant: TenantId,
    ) -> Result<Self> {
        let turn = database.write_turn().await?;
        let opener = database.opener();
        let moved_from = module.clone();
        let begun = tokio::task::spawn_blocking(move || {
            let mut conn = opener.open()?;
            AnsiTransactionManager::begin_transaction_sql(&mut conn, "BEGIN IMMEDIATE")
                .map_err(|error| classify(&error))?;
            // The gate cannot be closed from here to the end: the user's rows are written where the module is.
            gate::refuse_closed(&mut conn, moved_from.as_str()).map_err(Failure::into_error)?;
            Ok(conn)
        });
        let conn = begun.await.map_err(|_| stopped())??;
        let connection = SyncConnectionWrapper::new(conn);
        let (appends, records) = (Vec::new(), Vec::new());
        Ok(Self { connection, turn, database, tables, module, tenant, appends, records })
    }

    /// The connection, inside of the transaction. Nested transactions of diesel are savepoints in it. Never commit or
    /// roll back by SQL of your own.
    pub fn connection(&mut self) -> &mut SyncConnectionWrapper<SqliteConnection> {
        &mut self.connection
    }

    /// Keeps an append until [`Transaction::commit`].
    ///
    /// # Errors
    /// As [`Append::validate`]; the append is not kept then.
    pub fn append(&mut self, request: Append) -> Result<()> {
        request.validate().map_err(|error| error.during("transaction.append").applied(Applied::No))?;
        self.appends.push(request);
        Ok(())
    }

    /// How far a consumer has come; nobody else can record its progress until the transaction ends.
    ///
    /// # Errors
    /// As `EventStore::tracked`.
    pub async fn turn(&mut self, consumer: &ConsumerName) -> Result<Option<Checkpoint>> {
        let (tables, consumer) = (Arc::clone(&self.tables), consumer.clone());
        let read = move |conn: &mut SqliteConnection| {
            Ok(tables.log(conn).and_then(|log| log.tracked(conn, &consumer)).map_err(Failure::into_error))
        };
        let answer = self.connection.spawn_blocking(read).await;
        answer.unwrap_or_else(|error| Err(classify(&error))).map_err(|error| error.during("transaction.turn"))
    }

    /// Keeps audit events of a module of this file until [`Transaction::commit`]. Their tables have to be there: open
    /// the module's audit repository first, or migrate.
    ///
    /// # Errors
    /// As [`Create::validate`]; the events are not kept then.
    pub fn record(&mut self, scope: &ModuleScope, request: Create) -> Result<()> {
        request.validate().map_err(|error| error.during("transaction.record").applied(Applied::No))?;
        let tables = AuditTables::new(scope, &self.tenant, &self.database.options);
        self.records.push((scope.module.clone(), tables, request));
        Ok(())
    }

    /// Makes the appends in their order, records the audit events in theirs, then commits; returns the answers to the
    /// appends.
    ///
    /// # Errors
    /// As `EventStore::append` and `AuditRepository::create` of any of them: nothing of the transaction is stored then,
    /// the user's rows included. Dropped while it runs it happens whole or not at all.
    pub async fn commit(self) -> Result<Vec<Appended>> {
        let Self { mut connection, turn, database, tables, module, tenant: _, appends, records } = self;
        // In a task of its own, for the caller may go away between the appends and the commit.
        let finished = tokio::spawn(async move {
            let finish =
                move |conn: &mut SqliteConnection| Ok(finish(conn, &tables, &module, &appends, &records));
            let answers = connection.spawn_blocking(finish).await;
            drop(connection);
            drop(turn);
            if matches!(&answers, Ok(Ok(answers)) if answers.iter().any(|answer| !answer.repeated)) {
                database.announce();
            }
            answers
        });
        let answers = finished.await.map_err(|_| stopped().applied(Applied::Unknown))?;
        answers
            .unwrap_or_else(|error| Err(classify(&error).applied(Applied::Unknown)))
            .map_err(|error| error.during("transaction.commit"))
    }
}

fn finish(
    conn: &mut SqliteConnection,
    tables: &Tables,
    module: &ModuleName,
    appends: &[Append],
    records: &[(ModuleName, AuditTables, Create)],
) -> Result<Vec<Appended>> {
    let refuse = |failure: Failure| failure.into_error().applied(Applied::No);
    let depth = AnsiTransactionManager::transaction_manager_status_mut(conn).transaction_depth();
    // SQLite refuses to begin inside of a transaction; diesel does not notice when SQL ended it.
    let ended = conn.batch_execute("BEGIN").is_ok();
    if ended || !matches!(depth, Ok(Some(depth)) if depth.get() == 1) {
        let message =
            "a nested transaction was left open, or the transaction was ended by SQL; nothing is committed";
        return Err(refuse(Error::invalid(message).into()));
    }
    if !appends.is_empty() || !records.is_empty() {
        refuse_shadows(conn).map_err(refuse)?;
    }
    let mut answers = Vec::new();
    for request in appends {
        let answer = append(conn, tables, request);
        let answer = answer.or_else(|failure| gate::judge_anew(conn, module.as_str(), failure));
        answers.push(answer.map_err(refuse)?);
    }
    for (module, tables, request) in records {
        let created = create(conn, tables, request);
        created.or_else(|failure| gate::judge_anew(conn, module.as_str(), failure)).map_err(refuse)?;
    }
    AnsiTransactionManager::commit_transaction(conn).map_err(|error| {
        let error = classify(&error);
        let known = matches!(error.kind(), ErrorKind::Contention | ErrorKind::ReadOnly);
        error.applied(if known { Applied::No } else { Applied::Unknown })
    })?;
    Ok(answers)
}

/// A temporary table stands before the one of the same name in the file, and ends with the connection: what is appended
/// to it would be lost.
fn refuse_shadows(conn: &mut SqliteConnection) -> Result<(), Failure> {
    let sql = "SELECT t.name FROM temp.sqlite_master AS t JOIN main.sqlite_master AS m ON lower(m.name) = lower(t.name)";
    for row in sql::rows(conn, sql, &[])? {
        let name = row.cell(0).as_str().unwrap_or_default();
        if is_ours(name) {
            let message = format!(
                "a temporary table {name} stands before the table of the event store; give it another name, or drop it \
                 before the end of the transaction"
            );
            return Err(Error::invalid(message).into());
        }
    }
    Ok(())
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, "the runtime is shutting down")
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("appends", &self.appends.len())
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}
