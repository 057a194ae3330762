//! The user's own tables, a module's events and audit events in one transaction.

use std::sync::Arc;

use changeover_core::events::{Append, Appended};
use changeover_core::{
    Applied, Checkpoint, ConsumerName, Detail, Error, ErrorKind, ModuleScope, Result, Uuid,
};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection, TransactionManager,
};

use crate::audit::{Trail, Trails};
use crate::classify::diesel_error;
use crate::events::{Arrays, Log, Outcome, answers, check};
use crate::module::owner_by;
use crate::pool::{Pooled, Pools, UserConnection};
use crate::pooler::SET_OWN;

/// A transaction on one connection of the pool, with tenant, UTC and time limits set. Dropped without
/// [`Transaction::commit`] it leaves nothing behind; its connection is given up then.
///
/// Appends and audit events take the module's position lock, which is held to the end of the transaction and makes other
/// writers of the module wait. So they come last, just before the commit: first all appends, then all audit events, so
/// that no two transactions wait for each other.
pub struct Transaction {
    conn: Pooled<UserConnection>,
    pools: Arc<Pools>,
    log: Arc<Log>,
    trails: Arc<Trails>,
    appended: bool,
}

impl Transaction {
    pub(crate) async fn begin(pools: &Arc<Pools>, log: Arc<Log>, trails: Arc<Trails>) -> Result<Self> {
        // Before a connection is held: transactions that all wait for one more would wait for each other.
        if let Err(error) = log.id().await {
            // A module may keep an audit trail alone.
            let without_events = error.kind() == ErrorKind::SchemaMismatch;
            if !without_events || trails.get(&log.scope, &log.tenant).0.check().await.is_err() {
                return Err(error);
            }
        }
        let mut conn = pools.get_diesel().await?;
        let refused = |error| diesel_error(&error);
        match pools.around() {
            None => AnsiTransactionManager::begin_transaction(&mut conn.conn).await.map_err(refused)?,
            Some(around) => {
                // Until it turns out that it may be used again.
                conn.spent = true;
                AnsiTransactionManager::begin_transaction_sql(&mut conn.conn, around.begin())
                    .await
                    .map_err(refused)?;
                if let Some((names, values)) = around.own() {
                    let set = diesel::sql_query(SET_OWN)
                        .bind::<Array<Text>, _>(names)
                        .bind::<Array<Text>, _>(values);
                    set.execute(&mut conn.conn).await.map_err(refused)?;
                }
            }
        }
        SetTenant(log.tenant.as_str()).execute(&mut conn.conn).await.map_err(refused)?;
        Ok(Self { conn, pools: Arc::clone(pools), log, trails, appended: false })
    }

    /// The connection, for diesel-async. Row security on your own tables may use
    /// `current_setting('changeover.tenant_id', true)`.
    pub fn conn(&mut self) -> &mut AsyncPgConnection {
        &mut self.conn.conn
    }

    /// Appends on this connection; what is refused is an error, after which the transaction should be rolled back.
    /// Errors as of `EventStore::append`, except that diesel tells fewer kinds apart: what it does not know is
    /// `Unexpected`.
    pub async fn append(&mut self, request: &Append) -> Result<Appended> {
        let appended = self.append_here(request).await;
        appended.map_err(|error| error.applied(Applied::No).during("events.append"))
    }

    async fn append_here(&mut self, request: &Append) -> Result<Appended> {
        check(request, &self.log).await?;
        let log = self.log.id().await?;
        let requests = [request];
        let query = AppendQuery { log: &self.log, arrays: Arrays::of(&requests) };
        let rows: QueryResult<Vec<AppendRow>> = query.load(&mut self.conn.conn).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return Err(self.refused(&self.log.scope, &error).await),
        };
        let outcomes: Vec<_> = rows.into_iter().map(Outcome::from).collect();
        let answer = answers(&requests, &outcomes, log)
            .pop()
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Unexpected, "the write function did not answer")))?;
        self.appended |= !answer.repeated;
        Ok(answer)
    }

    /// The audit trail of a module of this database, for this transaction's tenant.
    pub(crate) fn trail(&self, scope: &ModuleScope) -> Arc<Trail> {
        self.trails.get(scope, &self.log.tenant).0
    }

    /// Diesel does not say that the module has moved, so the owner is asked for, outside of the failed transaction.
    pub(crate) async fn refused(&self, scope: &ModuleScope, error: &diesel::result::Error) -> Error {
        let made = diesel_error(error);
        if made.kind() != ErrorKind::Unexpected {
            return made;
        }
        let owner = match self.pools.get().await {
            Ok(mut conn) => owner_by(&mut conn, scope).await.ok().flatten(),
            Err(_) => None,
        };
        match owner {
            Some(owner) if owner != "postgres" => Error::new(
                ErrorKind::Moved,
                format!("module {} is not owned by this backend but by: {owner}", scope.module),
            )
            .with_detail(Detail::Moved { owner }),
            _ => made,
        }
    }

    /// `Moved` if the module is owned by another backend; if not, that stays so to the end of the transaction. For one that
    /// neither appends nor records, which find it out by themselves.
    pub async fn check_owner(&mut self, scope: &ModuleScope) -> Result<()> {
        let place = |error: diesel::result::Error| diesel_error(&error).during("transaction.commit");
        // Waits for whoever changes the owner, and keeps the next one waiting.
        diesel::sql_query(
            "SELECT pg_catalog.pg_advisory_xact_lock_shared(changeover.lock_key($1, 'module'))",
        )
        .bind::<Text, _>(scope.module.as_str())
        .execute(&mut self.conn.conn)
        .await
        .map_err(place)?;
        // A statement of its own: its snapshot is taken after the lock was had.
        let found: Vec<FoundOwner> =
            diesel::sql_query("SELECT owner FROM changeover.module WHERE module = $1")
                .bind::<Text, _>(scope.module.as_str())
                .load(&mut self.conn.conn)
                .await
                .map_err(place)?;
        match found.into_iter().next() {
            Some(FoundOwner { owner }) if owner != "postgres" => {
                let message = format!("module {} is not owned by this backend but by: {owner}", scope.module);
                let error = Error::new(ErrorKind::Moved, message).applied(Applied::No);
                Err(error.with_detail(Detail::Moved { owner }).during("transaction.commit"))
            }
            _ => Ok(()),
        }
    }

    /// Waits for the turn of a consumer, keeps it until the transaction ends, and says how far the consumer has come. Who
    /// records its progress without taking the turn is not kept from it.
    pub async fn turn(&mut self, consumer: &ConsumerName) -> Result<Option<Checkpoint>> {
        let place = |error: diesel::result::Error| diesel_error(&error).during("transaction.turn");
        let log = self.log.id().await?;
        let tenant = self.log.tenant.as_str();
        let key = format!("changeover/consumer/{}/{tenant}/{consumer}", self.log.scope.module);
        diesel::sql_query("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))")
            .bind::<Text, _>(key)
            .execute(&mut self.conn.conn)
            .await
            .map_err(place)?;
        // A statement of its own: its snapshot is taken after the lock was had.
        let found: Found = diesel::sql_query(&*self.log.statements.tracked)
            .bind::<Text, _>(tenant)
            .bind::<Text, _>(consumer.as_str())
            .get_result(&mut self.conn.conn)
            .await
            .map_err(place)?;
        found.tracked.map(|position| Checkpoint::new(log, position)).transpose()
    }

    /// Commits. An error says whether it may have happened. A statement that failed before makes it fail, also if the
    /// caller threw its error away.
    pub async fn commit(mut self) -> Result<()> {
        let pooled = self.pools.around().is_some();
        if pooled || !self.appended {
            // COMMIT of a failed transaction takes everything back and calls that a success; any other statement fails.
            let checked =
                if pooled { self.let_go().await } else { self.conn.conn.batch_execute("SELECT 1").await };
            checked.map_err(|error| {
                let message = "an earlier statement of the transaction failed, so nothing is committed; end the \
                               transaction with its error";
                match diesel_error(&error) {
                    lost if lost.kind() == ErrorKind::Unavailable => lost,
                    _ => Error::new(ErrorKind::Invalid, message),
                }
                .during("commit")
                .applied(Applied::No)
            })?;
        }
        AnsiTransactionManager::commit_transaction(&mut self.conn.conn).await.map_err(|error| {
            let made = diesel_error(&error).during("commit");
            // An answer of the database is a refusal; no answer says nothing.
            let outcome = if made.kind() == ErrorKind::Unavailable { Applied::Unknown } else { Applied::No };
            made.applied(outcome)
        })?;
        if self.appended {
            self.log.announce();
        }
        Ok(())
    }

    /// Leaves nothing on the server's connection, which goes to another client. Statements of ours and of the user's were
    /// forgotten one by one; but for a type that it does not know the driver prepares one that it keeps, also for the next
    /// transaction, which may meet another connection.
    async fn let_go(&mut self) -> QueryResult<()> {
        let left: Counted = diesel::sql_query(
            "SELECT pg_catalog.count(*) AS counted FROM pg_catalog.pg_prepared_statements WHERE name ~ '^s[0-9]+$'",
        )
        .get_result(&mut self.conn.conn)
        .await?;
        // Counting is one itself, unless the pooler gives them names of its own.
        if left.counted > 1 {
            return self.conn.conn.batch_execute("DEALLOCATE ALL").await;
        }
        self.conn.spent = false;
        Ok(())
    }

    /// Takes everything back.
    pub async fn rollback(mut self) -> Result<()> {
        if self.pools.around().is_some() {
            // As in `let_go`, which a failed transaction could not do.
            let ended = self.conn.conn.batch_execute("ROLLBACK; DEALLOCATE ALL").await;
            return ended.map_err(|error| diesel_error(&error).during("rollback"));
        }
        AnsiTransactionManager::rollback_transaction(&mut self.conn.conn)
            .await
            .map_err(|error| diesel_error(&error).during("rollback"))
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").field("module", &self.log.scope.module).finish_non_exhaustive()
    }
}

/// The answer of the function that says how far a consumer has come.
#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Nullable<BigInt>)]
    tracked: Option<i64>,
}

#[derive(QueryableByName)]
struct FoundOwner {
    #[diesel(sql_type = Text)]
    owner: String,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    counted: i64,
}

/// Sets the tenant for the transaction, as a bound value (DEF-38).
struct SetTenant<'a>(&'a str);

impl QueryId for SetTenant<'_> {
    type QueryId = SetTenant<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl QueryFragment<Pg> for SetTenant<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.set_config('changeover.tenant_id', ");
        out.push_bind_param::<Text, _>(self.0)?;
        out.push_sql(", true)");
        Ok(())
    }
}

/// The write function as diesel sees it. Without a static id, since the schema's name is part of its text; diesel then
/// keeps the prepared statement by that text.
struct AppendQuery<'a> {
    log: &'a Log,
    arrays: Arrays<'a>,
}

impl QueryId for AppendQuery<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for AppendQuery<'_> {
    type SqlType = (
        Integer,
        Nullable<Integer>,
        Text,
        Nullable<BigInt>,
        Nullable<BigInt>,
        Nullable<BigInt>,
        Nullable<BigInt>,
        Nullable<SqlUuid>,
    );
}

impl QueryFragment<Pg> for AppendQuery<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let text = &*self.log.statements.append;
        let arrays = &self.arrays;
        // The same text as the store's own, up to its arguments.
        out.push_sql(text.split_once("$1").map_or(text, |(before, _)| before));
        out.push_bind_param::<Text, _>(self.log.tenant.as_str())?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&arrays.s_request)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<SqlUuid>, _>(&arrays.s_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&arrays.s_type)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<SqlUuid>, _>(&arrays.s_aggregate)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&arrays.s_expected)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&arrays.e_stream)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<SqlUuid>, _>(&arrays.e_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&arrays.e_type)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&arrays.e_version)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Jsonb>, _>(&arrays.e_data)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Jsonb>, _>(&arrays.e_metadata)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Timestamptz>>, _>(&arrays.e_occurred)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<SqlUuid>>, _>(&arrays.e_causation)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<SqlUuid>>, _>(&arrays.e_correlation)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&arrays.t_request)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&arrays.t_consumer)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&arrays.t_position)?;
        out.push_sql(")");
        Ok(())
    }
}

type AppendRow = (i32, Option<i32>, String, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<Uuid>);

impl From<AppendRow> for Outcome {
    fn from((request, stream, verdict, first, last, position, actual, event): AppendRow) -> Self {
        Self { request, stream, verdict, first, last, position, actual, event }
    }
}
