//! A database behind a pgbouncer in transaction mode that has few connections and hands them out in turn: hardly any
//! transaction meets the connection of the one before it.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use changeover_core::backend::Family;
use changeover_core::{BackendSettings, OpenBackend};
use changeover_postgres::{OpenPostgres, migrations_key};
use changeover_testkit::tokio_postgres::{Client, NoTls, SimpleQueryMessage, connect};
use changeover_testkit::{Pooler, TestDatabase, database, with_user};

use super::{catalog, common};

/// What the service logs in as: nothing but a member of the application's role.
pub const LOGIN: &str = "changeover_test_service";
/// The connections of the pooler to the server.
pub const SIZE: usize = 3;

/// A database with the three modules, and a pooler before it.
pub struct Pooled {
    pub db: TestDatabase,
    pub pooler: Pooler,
}

impl Pooled {
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// With `more` lines in the pooler's settings.
    pub async fn with(more: &str) -> Self {
        let db = migrated().await;
        // Roles belong to the whole server, and another test may be making it at this moment.
        let login = format!(
            "DO $$ BEGIN CREATE ROLE {LOGIN} LOGIN IN ROLE changeover_app; \
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        );
        db.execute(&login).await.unwrap();
        let size = u32::try_from(SIZE).unwrap();
        let pooler = Pooler::start_with(db.url(), &[LOGIN, "postgres"], size, more).await.unwrap();
        Self { db, pooler }
    }

    /// The service's address, past the pooler.
    pub fn direct_url(&self) -> String {
        with_user(self.db.url(), LOGIN, None)
    }

    /// The service's address.
    pub fn url(&self) -> String {
        self.pooler.url(&self.direct_url())
    }

    pub fn settings(&self) -> BackendSettings {
        common::settings(&self.url()).with("pooler", "transaction")
    }

    /// Another program's client, of the same login and so of the same connections.
    pub async fn stranger(&self) -> Client {
        let (client, connection) = connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// What `sql` says on each of the connections to the server: one value each, in their order.
    pub async fn on_each(&self, sql: &str) -> Vec<String> {
        let mut holders = Vec::new();
        let mut found = Vec::new();
        for _ in 0..SIZE {
            let client = self.stranger().await;
            // Held until all have been asked.
            client.batch_execute("BEGIN").await.unwrap();
            found.push(value(&client, sql).await);
            holders.push(client);
        }
        for client in holders {
            client.batch_execute("COMMIT").await.unwrap();
        }
        found.sort();
        found
    }
}

/// The first value of the last row.
pub async fn value(client: &Client, sql: &str) -> String {
    let answer = client.simple_query(sql).await.unwrap();
    let row = answer.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    });
    row.unwrap()
}

async fn migrated() -> TestDatabase {
    database(&format!("{} pooled", migrations_key()), |url: String| async move {
        let backend = common::open(common::settings(&url)).await;
        let modules = [
            (common::scope(), Family::Events),
            (common::audit::scope(), Family::Audit),
            (catalog::scope(), Family::Playbooks),
        ];
        for (scope, family) in modules {
            backend.migrations(&scope, family)?.up().await?;
            assert!(backend.claim(&scope).await?);
        }
        backend.close().await;
        Ok::<_, changeover_core::Error>(())
    })
    .await
    .unwrap()
}

pub fn as_postgres(backend: &std::sync::Arc<dyn OpenBackend>) -> &OpenPostgres {
    let any: &dyn std::any::Any = &**backend;
    any.downcast_ref().unwrap()
}

/// Until the superuser counts so many.
pub async fn wait_for(pooled: &Pooled, sql: &str, wanted: i64) {
    let mut found = 0;
    for _ in 0..400 {
        found = pooled.db.query(sql, &[]).await.unwrap()[0].get(0);
        if found == wanted {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{sql}: {found} instead of {wanted}");
}
