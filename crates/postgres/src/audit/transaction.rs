//! Audit events in a user's transaction.

use changeover_core::audit::{Create, Created};
use changeover_core::{Applied, Error, ErrorKind, ModuleScope, Result, Uuid};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;

use super::create::{Arrays, Outcome, answers};
use super::{Batch, Trail};
use crate::classify::diesel_error;
use crate::transaction::Transaction;

impl Transaction {
    /// Records audit events of a module of this database on this connection; what is refused is an error, after which
    /// the transaction should be rolled back. Errors as of `AuditRepository::create`, except that diesel tells fewer
    /// kinds apart: what it does not know is `Unexpected`.
    pub async fn record(&mut self, scope: &ModuleScope, request: Create) -> Result<Created> {
        let recorded = self.record_here(scope, request).await;
        recorded.map_err(|error| error.applied(Applied::No).during("audit.create"))
    }

    async fn record_here(&mut self, scope: &ModuleScope, request: Create) -> Result<Created> {
        let batch = Batch::new(request)?;
        let trail = self.trail(scope);
        // On this connection: transactions that all wait for one more would wait for each other.
        if !trail.is_checked() {
            let asked: QueryResult<Option<String>> = AppliedQuery(&trail).get_result(self.conn()).await;
            trail.checked_as(asked.map_err(|error| diesel_error(&error))?.as_deref())?;
        }
        let batches = [&batch];
        let query = RecordQuery { trail: &trail, arrays: Arrays::of(&batches) };
        let rows: QueryResult<Vec<RecordRow>> = query.load(self.conn()).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return Err(self.refused(scope, &error).await),
        };
        let outcomes: Vec<_> = rows.into_iter().map(Outcome::from).collect();
        answers(&batches, &outcomes)
            .pop()
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Unexpected, "the write function did not answer")))
    }
}

/// The applied migrations of a trail's schema.
struct AppliedQuery<'a>(&'a Trail);

impl QueryId for AppliedQuery<'_> {
    type QueryId = AppliedQuery<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for AppliedQuery<'_> {
    type SqlType = Nullable<Text>;
}

impl QueryFragment<Pg> for AppliedQuery<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT string_agg(id, ' ' ORDER BY id) FROM changeover._migrations \
             WHERE starts_with(id, 'audit/') AND module = ",
        );
        out.push_bind_param::<Text, _>(self.0.scope.module.as_str())
    }
}

/// The write function as diesel sees it. Without a static id, since the schema's name is part of its text; diesel then
/// keeps the prepared statement by that text.
struct RecordQuery<'a> {
    trail: &'a Trail,
    arrays: Arrays<'a>,
}

impl QueryId for RecordQuery<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for RecordQuery<'_> {
    type SqlType = (Integer, Text, BigInt, BigInt, Nullable<SqlUuid>);
}

impl QueryFragment<Pg> for RecordQuery<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        type Texts = Array<Text>;
        type Optional = Array<Nullable<Text>>;
        let text = &*self.trail.statements.record;
        let arrays = &self.arrays;
        // The same text as the repository's own, up to its arguments.
        out.push_sql(text.split_once("$1").map_or(text, |(before, _)| before));
        out.push_bind_param::<Text, _>(self.trail.tenant.as_str())?;
        out.push_sql(", ");
        out.push_bind_param::<Bool, _>(&self.trail.chained)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&arrays.request)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<SqlUuid>, _>(&arrays.id)?;
        out.push_sql(", ");
        out.push_bind_param::<Texts, _>(&arrays.event_type)?;
        out.push_sql(", ");
        out.push_bind_param::<Texts, _>(&arrays.category)?;
        out.push_sql(", ");
        out.push_bind_param::<Texts, _>(&arrays.outcome)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Timestamptz>, _>(&arrays.timestamp)?;
        out.push_sql(", ");
        out.push_bind_param::<Texts, _>(&arrays.service)?;
        out.push_sql(", ");
        out.push_bind_param::<Optional, _>(&arrays.service_version)?;
        out.push_sql(", ");
        out.push_bind_param::<Texts, _>(&arrays.actor_type)?;
        out.push_sql(", ");
        out.push_bind_param::<Optional, _>(&arrays.actor_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Optional, _>(&arrays.actor_name)?;
        out.push_sql(", ");
        out.push_bind_param::<Texts, _>(&arrays.resource_type)?;
        out.push_sql(", ");
        out.push_bind_param::<Texts, _>(&arrays.resource_id)?;
        out.push_sql(", ");
        out.push_bind_param::<Optional, _>(&arrays.resource_name)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Jsonb>, _>(&arrays.data)?;
        out.push_sql(", ");
        out.push_bind_param::<Optional, _>(&arrays.correlation)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<SqlUuid>>, _>(&arrays.parent)?;
        out.push_sql(", ");
        out.push_bind_param::<Optional, _>(&arrays.trace)?;
        out.push_sql(", ");
        out.push_bind_param::<Optional, _>(&arrays.span)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Jsonb>, _>(&arrays.metadata)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Binary>, _>(&arrays.digest)?;
        out.push_sql(")");
        Ok(())
    }
}

type RecordRow = (i32, String, i64, i64, Option<Uuid>);

impl From<RecordRow> for Outcome {
    fn from((request, verdict, stored, repeated, event): RecordRow) -> Self {
        Self { request, verdict, stored, repeated, event }
    }
}
