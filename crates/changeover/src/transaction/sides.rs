//! The two SQL backends, behind the features: an open transaction of either, and its connection as a blocking one,
//! which is what diesel's `MultiConnection` composes.

use std::any::Any;

use changeover_core::audit::Create;
use changeover_core::events::Append;
use changeover_core::{
    Checkpoint, ConsumerName, Error, ErrorKind, ModuleScope, OpenBackend, Result, TenantId,
};
use diesel::QueryResult;
use diesel::connection::{
    CacheSize, Instrumentation, LoadConnection, SimpleConnection, TransactionManager,
    TransactionManagerStatus,
};
use diesel::internal::derives::multiconnection::ConnectionSealed;
#[cfg(feature = "sqlite")]
use diesel::internal::derives::multiconnection::MultiConnectionHelper;
use diesel::migration::MigrationConnection;
use diesel::query_builder::{Query, QueryFragment, QueryId};
use diesel_async::{AsyncConnection, AsyncConnectionCore, SimpleAsyncConnection};
use futures::StreamExt;

/// The connection in a transaction on SQLite.
#[cfg(feature = "sqlite")]
pub type SqliteConn = diesel_async::sync_connection_wrapper::SyncConnectionWrapper<diesel::SqliteConnection>;

/// The connection in a transaction on PostgreSQL.
#[cfg(feature = "postgres")]
pub type PostgresConn = diesel_async::AsyncPgConnection;

/// An open transaction of either backend. What diesel derives for it is the backend of [`super::Connection`].
#[derive(diesel::MultiConnection)]
pub enum Sides {
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteSide),
    #[cfg(feature = "postgres")]
    Postgres(PostgresSide),
}

impl Sides {
    pub(super) async fn begin(
        backend: &dyn OpenBackend,
        scope: &ModuleScope,
        tenant: &TenantId,
    ) -> Result<Self> {
        let opened: &dyn Any = backend;
        #[cfg(feature = "sqlite")]
        if let Some(sqlite) = opened.downcast_ref::<changeover_sqlite::OpenSqlite>() {
            return Ok(Self::Sqlite(Side(Box::new(sqlite.begin(scope, tenant).await?))));
        }
        #[cfg(feature = "postgres")]
        if let Some(postgres) = opened.downcast_ref::<changeover_postgres::OpenPostgres>() {
            return Ok(Self::Postgres(Side(Box::new(postgres.begin(scope, tenant).await?))));
        }
        let message = format!("{} has no transactions for tables of your own", backend.kind());
        Err(Error::new(ErrorKind::Unsupported, message).during("transaction.begin"))
    }

    /// Appends, records, then commits.
    pub(super) async fn commit(
        self,
        appends: Vec<Append>,
        records: Vec<(ModuleScope, Create)>,
    ) -> Result<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(Side(mut transaction)) => {
                for append in appends {
                    transaction.append(append)?;
                }
                for (scope, create) in records {
                    transaction.record(&scope, create)?;
                }
                transaction.commit().await.map(drop)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(Side(mut transaction)) => {
                let flushed = async {
                    for append in &appends {
                        transaction.append(append).await?;
                    }
                    for (scope, create) in records {
                        transaction.record(&scope, create).await?;
                    }
                    Ok(())
                };
                if let Err(error) = flushed.await {
                    // Where the line was lost, that takes everything back; the reason is told, not its consequence.
                    if transaction.rollback().await.is_err() {
                        tracing::debug!("a transaction was given up with its connection");
                    }
                    return Err(error);
                }
                transaction.commit().await
            }
        }
    }

    pub(super) async fn turn(&mut self, consumer: &ConsumerName) -> Result<Option<Checkpoint>> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(Side(transaction)) => transaction.turn(consumer).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(Side(transaction)) => transaction.turn(consumer).await,
        }
    }

    /// That the database is still the owner, and is to the end of the transaction. A fenced file lets none begin.
    pub(super) async fn check_owner(&mut self, scope: &ModuleScope) -> Result<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(Side(transaction)) => transaction.check_owner(scope).await,
        }
    }

    pub(super) async fn rollback(self) -> Result<()> {
        match self {
            // Its connection is closed with it, which is what takes everything back.
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(Side(transaction)) => transaction.rollback().await,
        }
    }

    #[cfg(feature = "sqlite")]
    pub(super) fn sqlite(&mut self) -> Option<&mut SqliteConn> {
        match self {
            Self::Sqlite(side) => Some(side.0.conn()),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => None,
        }
    }

    #[cfg(feature = "postgres")]
    pub(super) fn postgres(&mut self) -> Option<&mut PostgresConn> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => None,
            Self::Postgres(side) => Some(side.0.conn()),
        }
    }
}

/// A backend's open transaction.
pub trait Open: Send {
    type Conn: AsyncConnection;

    fn conn(&mut self) -> &mut Self::Conn;
}

#[cfg(feature = "sqlite")]
pub type SqliteSide = Side<changeover_sqlite::Transaction>;

#[cfg(feature = "sqlite")]
impl Open for changeover_sqlite::Transaction {
    type Conn = SqliteConn;

    fn conn(&mut self) -> &mut SqliteConn {
        self.connection()
    }
}

#[cfg(feature = "sqlite")]
impl MultiConnectionHelper for SqliteSide {
    fn to_any<'a>(lookup: &mut ()) -> &mut (dyn Any + 'a) {
        lookup
    }

    fn from_any(lookup: &mut dyn Any) -> Option<&mut ()> {
        lookup.downcast_mut()
    }
}

#[cfg(feature = "postgres")]
pub type PostgresSide = Side<changeover_postgres::Transaction>;

#[cfg(feature = "postgres")]
impl Open for changeover_postgres::Transaction {
    type Conn = PostgresConn;

    fn conn(&mut self) -> &mut PostgresConn {
        self.conn()
    }
}

#[cfg(feature = "postgres")]
mod lookup {
    use std::any::Any;

    use diesel::internal::derives::multiconnection::MultiConnectionHelper;
    use diesel::pg::{Pg, PgMetadataLookup, PgTypeMetadata};
    use diesel::sql_types::TypeMetadata;

    use super::PostgresSide;

    type Lookup = <Pg as TypeMetadata>::MetadataLookup;

    /// diesel-async's own lookup cannot pass through `MultiConnection` (its `as_any` panics). The types that both
    /// databases have are known by number; of others the server is told nothing and finds out from the statement.
    struct NoLookup;

    impl PgMetadataLookup for NoLookup {
        fn lookup_type(&mut self, _type_name: &str, _schema: Option<&str>) -> PgTypeMetadata {
            PgTypeMetadata::new(0, 0)
        }
    }

    impl MultiConnectionHelper for PostgresSide {
        fn to_any<'a>(_lookup: &mut Lookup) -> &mut (dyn Any + 'a) {
            // Of no size: nothing is allocated and nothing leaks.
            Box::leak(Box::new(NoLookup))
        }

        fn from_any(lookup: &mut dyn Any) -> Option<&mut Lookup> {
            lookup.downcast_mut::<NoLookup>().map(|lookup| lookup as &mut Lookup)
        }
    }
}

/// A transaction as a blocking connection. Called where blocking is announced to the runtime only.
pub struct Side<T>(Box<T>);

/// Not by the runtime's own `block_on`: that one waits on what a `block_on` further out on this thread is woken by, and what
/// happens there meanwhile would never be looked at.
fn wait<F: Future>(future: F) -> F::Output {
    pollster::block_on(future)
}

impl<T: Open> SimpleConnection for Side<T> {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        wait(self.0.conn().batch_execute(query))
    }
}

impl<T: Open> ConnectionSealed for Side<T> {}

impl<T: Open> diesel::Connection for Side<T> {
    type Backend = <T::Conn as AsyncConnectionCore>::Backend;
    type TransactionManager = Self;

    fn establish(_database_url: &str) -> diesel::ConnectionResult<Self> {
        Err(diesel::ConnectionError::BadConnection(
            "the connection of a transaction cannot be opened".to_owned(),
        ))
    }

    fn execute_returning_count<Q>(&mut self, source: &Q) -> QueryResult<usize>
    where
        Q: QueryFragment<Self::Backend> + QueryId,
    {
        wait(self.0.conn().execute_returning_count(source))
    }

    fn transaction_state(&mut self) -> &mut TransactionManagerStatus {
        Self::transaction_manager_status_mut(self)
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        self.0.conn().instrumentation()
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        self.0.conn().set_instrumentation(instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        self.0.conn().set_prepared_statement_cache_size(size);
    }
}

impl<T: Open> LoadConnection for Side<T> {
    type Cursor<'conn, 'query>
        = std::vec::IntoIter<QueryResult<Self::Row<'conn, 'query>>>
    where
        Self: 'conn;
    type Row<'conn, 'query>
        = <T::Conn as AsyncConnectionCore>::Row<'conn, 'query>
    where
        Self: 'conn;

    fn load<'conn, 'query, Q>(&'conn mut self, source: Q) -> QueryResult<Self::Cursor<'conn, 'query>>
    where
        Q: Query + QueryFragment<Self::Backend> + QueryId + 'query,
        Self::Backend: diesel::expression::QueryMetadata<Q::SqlType>,
    {
        let rows = async { Ok(self.0.conn().load(source).await?.collect::<Vec<_>>().await) };
        wait(rows).map(Vec::into_iter)
    }
}

type Manager<T> = <<T as Open>::Conn as AsyncConnection>::TransactionManager;

impl<T: Open> TransactionManager<Self> for Side<T> {
    type TransactionStateData = TransactionManagerStatus;

    fn begin_transaction(conn: &mut Self) -> QueryResult<()> {
        wait(<Manager<T> as diesel_async::TransactionManager<_>>::begin_transaction(conn.0.conn()))
    }

    fn rollback_transaction(conn: &mut Self) -> QueryResult<()> {
        wait(<Manager<T> as diesel_async::TransactionManager<_>>::rollback_transaction(conn.0.conn()))
    }

    fn commit_transaction(conn: &mut Self) -> QueryResult<()> {
        wait(<Manager<T> as diesel_async::TransactionManager<_>>::commit_transaction(conn.0.conn()))
    }

    fn transaction_manager_status_mut(conn: &mut Self) -> &mut TransactionManagerStatus {
        <Manager<T> as diesel_async::TransactionManager<_>>::transaction_manager_status_mut(conn.0.conn())
    }
}

impl<T: Open> MigrationConnection for Side<T> {
    fn setup(&mut self) -> QueryResult<usize> {
        self.batch_execute(diesel::migration::CREATE_MIGRATIONS_TABLE).map(|()| 0)
    }
}
