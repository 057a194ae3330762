//! One connection type for both databases, so that statements are written once.
//!
//! Diesel's `MultiConnection` does this for blocking connections. Here each statement runs to its end inside of
//! `block_in_place` when it is called: a future that is dropped afterwards finds no statement under way, and the
//! runtime's other tasks go on. That is also why a current-thread runtime is refused.

use std::future::{Ready, ready};

use changeover_core::{Error, ErrorKind, Result};
use diesel::QueryResult;
use diesel::connection::{
    CacheSize, Connection as _, Instrumentation, LoadConnection, SimpleConnection, TransactionManager as _,
    TransactionManagerStatus,
};
use diesel::query_builder::{AsQuery, AstPass, Query, QueryFragment, QueryId};
use diesel_async::{AsyncConnection, AsyncConnectionCore, SimpleAsyncConnection, TransactionManager};
use futures::stream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::sides::{MultiBackend, MultiRow, Sides};

/// Diesel's backend of [`Connection`] and its rows, for bounds such as `Selectable<MultiBackend>`.
pub mod backend {
    pub use crate::transaction::sides::{MultiBackend, MultiField, MultiRawValue, MultiRow};
}

/// The connection in a transaction, whichever database it is.
///
/// A statement runs when it is called, not when its future is awaited.
pub struct Connection {
    pub(super) sides: Sides,
}

impl Connection {
    pub(super) fn check_runtime() -> Result<()> {
        let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
        if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
            return Ok(());
        }
        let message = "transactions need tokio's multi-thread runtime; write #[tokio::main], or #[tokio::test(flavor \
                       = \"multi_thread\")]";
        Err(Error::new(ErrorKind::Config, message).during("transaction.begin"))
    }
}

impl SimpleAsyncConnection for Connection {
    fn batch_execute(&mut self, query: &str) -> impl Future<Output = QueryResult<()>> + Send {
        ready(block_in_place(|| self.sides.batch_execute(query)))
    }
}

impl AsyncConnectionCore for Connection {
    type ExecuteFuture<'conn, 'query> = Ready<QueryResult<usize>>;
    type LoadFuture<'conn, 'query> = Ready<QueryResult<Self::Stream<'conn, 'query>>>;
    type Stream<'conn, 'query> = stream::Iter<std::vec::IntoIter<QueryResult<Self::Row<'conn, 'query>>>>;
    type Row<'conn, 'query> = MultiRow<'conn, 'query>;
    type Backend = MultiBackend;

    fn load<'conn, 'query, T>(&'conn mut self, source: T) -> Self::LoadFuture<'conn, 'query>
    where
        T: AsQuery + 'query,
        T::Query: QueryFragment<MultiBackend> + QueryId + 'query,
    {
        let rows = block_in_place(|| {
            let rows = LoadConnection::load(&mut self.sides, Untyped(source.as_query()))?;
            Ok(stream::iter(rows.collect::<Vec<_>>()))
        });
        ready(rows)
    }

    fn execute_returning_count<'conn, 'query, T>(
        &'conn mut self,
        source: T,
    ) -> Self::ExecuteFuture<'conn, 'query>
    where
        T: QueryFragment<MultiBackend> + QueryId + 'query,
    {
        ready(block_in_place(|| self.sides.execute_returning_count(&source)))
    }
}

impl AsyncConnection for Connection {
    type TransactionManager = Savepoints;

    async fn establish(_database_url: &str) -> diesel::ConnectionResult<Self> {
        let message = "this connection is had by Module::transaction only";
        Err(diesel::ConnectionError::BadConnection(message.to_owned()))
    }

    fn transaction_state(&mut self) -> &mut TransactionManagerStatus {
        Savepoints::transaction_manager_status_mut(self)
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        self.sides.instrumentation()
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        self.sides.set_instrumentation(instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        self.sides.set_prepared_statement_cache_size(size);
    }
}

/// Transactions within the transaction.
pub struct Savepoints;

impl TransactionManager<Connection> for Savepoints {
    type TransactionStateData = TransactionManagerStatus;

    async fn begin_transaction(conn: &mut Connection) -> QueryResult<()> {
        block_in_place(|| Sides::begin_transaction(&mut conn.sides))
    }

    async fn rollback_transaction(conn: &mut Connection) -> QueryResult<()> {
        block_in_place(|| Sides::rollback_transaction(&mut conn.sides))
    }

    async fn commit_transaction(conn: &mut Connection) -> QueryResult<()> {
        block_in_place(|| Sides::commit_transaction(&mut conn.sides))
    }

    fn transaction_manager_status_mut(conn: &mut Connection) -> &mut TransactionManagerStatus {
        Sides::transaction_manager_status_mut(&mut conn.sides)
    }
}

/// A query whose type is left to the reader of its rows: the door of the asynchronous side does not promise it.
struct Untyped<Q>(Q);

impl<Q> Query for Untyped<Q> {
    type SqlType = diesel::sql_types::Untyped;
}

impl<Q: QueryId> QueryId for Untyped<Q> {
    type QueryId = Q::QueryId;
    const HAS_STATIC_QUERY_ID: bool = Q::HAS_STATIC_QUERY_ID;
}

impl<Q: QueryFragment<MultiBackend>> QueryFragment<MultiBackend> for Untyped<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, MultiBackend>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }
}
