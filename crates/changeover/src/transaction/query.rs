//! Running queries, under the names diesel gives it.

use diesel::QueryResult;
use diesel::dsl::Limit;
use diesel::query_builder::QueryId;
use diesel::query_dsl::methods::LimitDsl;
use diesel_async::methods::{ExecuteDsl, LoadQuery};
use diesel_async::{AsyncConnectionCore, RunQueryDsl as Everything};

/// `execute`, `load`, `get_result`, `get_results` and `first` of a query on the connection of a transaction.
///
/// Import it in place of `diesel_async::RunQueryDsl`: that one gives these methods to every type there is and so hides
/// those of [`TypedStreams`](crate::TypedStreams), this one gives them to queries only. Both do the same.
pub trait RunQueryDsl<Conn: AsyncConnectionCore>: Sized {
    /// Runs a statement; returns the number of rows it touched.
    fn execute<'conn, 'query>(self, conn: &'conn mut Conn) -> Conn::ExecuteFuture<'conn, 'query>
    where
        Conn: Send,
        Self: ExecuteDsl<Conn> + 'query,
    {
        Everything::execute(self, conn)
    }

    /// All rows.
    fn load<'conn, 'query, U>(self, conn: &'conn mut Conn) -> impl Future<Output = QueryResult<Vec<U>>> + Send
    where
        U: Send,
        Self: LoadQuery<'query, Conn, U> + 'query,
    {
        Everything::load(self, conn)
    }

    /// The first row; `NotFound` if there is none.
    fn get_result<'conn, 'query, U>(
        self,
        conn: &'conn mut Conn,
    ) -> impl Future<Output = QueryResult<U>> + Send
    where
        U: Send + 'conn,
        Self: LoadQuery<'query, Conn, U> + 'query,
    {
        Everything::get_result(self, conn)
    }

    /// All rows, of a statement that returns what it wrote.
    fn get_results<'conn, 'query, U>(
        self,
        conn: &'conn mut Conn,
    ) -> impl Future<Output = QueryResult<Vec<U>>> + Send
    where
        U: Send,
        Self: LoadQuery<'query, Conn, U> + 'query,
    {
        Everything::get_results(self, conn)
    }

    /// The first row, asking for one only; `NotFound` if there is none.
    fn first<'conn, 'query, U>(self, conn: &'conn mut Conn) -> impl Future<Output = QueryResult<U>> + Send
    where
        U: Send + 'conn,
        Self: LimitDsl,
        Limit<Self>: LoadQuery<'query, Conn, U> + Send + 'query,
    {
        Everything::first(self, conn)
    }
}

impl<T: QueryId, Conn: AsyncConnectionCore> RunQueryDsl<Conn> for T {}
