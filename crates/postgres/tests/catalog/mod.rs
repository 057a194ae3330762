//! A database with the module `playbooks`, and versions to put there.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::collections::BTreeMap;
use std::sync::Arc;

use changeover_core::backend::Family;
use changeover_core::playbooks::{
    Embedding, HashingEmbedder, NewPlaybook, PlaybookId, PlaybookVersion, Put, Query, Search, Status,
};
use changeover_core::{
    Backend, BackendSettings, Limit, ModuleName, ModuleScope, OpenBackend, PlaybookCatalog, TenantId, Text,
};
use changeover_postgres::{Postgres, migrations_key};
use changeover_testkit::{TestDatabase, database};

pub fn scope() -> ModuleScope {
    ModuleScope { module: ModuleName::new("playbooks").unwrap(), namespace: None }
}

pub fn settings(url: &str) -> BackendSettings {
    BackendSettings::new("main").with("url", url).with("pool.min_idle", "0")
}

pub async fn open(db: &TestDatabase) -> Arc<dyn OpenBackend> {
    Postgres.open(&settings(db.url())).await.unwrap()
}

/// A database with the module `playbooks`, owned by PostgreSQL.
pub async fn migrated() -> TestDatabase {
    database(&format!("playbooks {}", migrations_key()), |url: String| async move {
        let backend = Postgres.open(&settings(&url)).await?;
        backend.migrations(&scope(), Family::Playbooks)?.up().await?;
        assert!(backend.claim(&scope()).await?);
        backend.close().await;
        Ok::<_, changeover_core::Error>(())
    })
    .await
    .unwrap()
}

pub async fn catalog_of(db: &TestDatabase, tenant: &str) -> Arc<dyn PlaybookCatalog> {
    open(db).await.playbooks(&scope(), &TenantId::new(tenant).unwrap()).await.unwrap()
}

pub async fn catalog(db: &TestDatabase) -> Arc<dyn PlaybookCatalog> {
    catalog_of(db, "acme").await
}

pub fn id(name: &str) -> PlaybookId {
    Text::new("playbook_id", name).unwrap()
}

pub fn version(text: &str) -> PlaybookVersion {
    PlaybookVersion::new(text).unwrap()
}

/// An active version that is the latest.
pub fn playbook(name: &str, number: &str) -> NewPlaybook {
    NewPlaybook {
        playbook_id: id(name),
        version: version(number),
        name: Text::new("name", format!("Playbook {name}")).unwrap(),
        description: format!("what to do about {name}"),
        owner: None,
        maintainer: None,
        content: format!("content of {name} {number}"),
        content_hash: None,
        labels: BTreeMap::new(),
        embedding: None,
        status: Status::Active,
        is_latest: true,
        previous_version: None,
        version_notes: None,
        change_summary: None,
        approved_by: None,
        approved_at: None,
        expected_success_rate: None,
        expected_duration_seconds: None,
        created_at: None,
        created_by: None,
    }
}

pub fn put(versions: impl IntoIterator<Item = NewPlaybook>) -> Put {
    Put { versions: versions.into_iter().collect() }
}

/// A search for the nearest by vector.
pub fn search(vector: Embedding, max_results: i64) -> Search {
    Search {
        query: Query::Vector(vector),
        embedder: Arc::new(HashingEmbedder),
        labels: BTreeMap::new(),
        min_confidence: 0.0,
        max_results: Limit::new(max_results).unwrap(),
    }
}

pub fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The SQLSTATE that a batch of statements fails with; empty if it succeeds.
pub async fn code(client: &changeover_testkit::tokio_postgres::Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => String::new(),
        Err(error) => error.code().map(|code| code.code().to_owned()).unwrap(),
    }
}

/// Numbers that look random and are the same each time.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Within -1 and 1.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "noise")]
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32
    }

    pub fn vector(&mut self) -> Vec<f32> {
        (0..Embedding::LEN).map(|_| self.next()).collect()
    }
}

/// Vectors like those of texts: gathered around topics, each some way off. Row `n` belongs to topic `n % topics`.
pub fn like_embeddings(count: usize, topics: usize) -> Vec<Embedding> {
    let mut noise = Noise::new(42);
    let centres: Vec<_> = (0..topics).map(|_| noise.vector()).collect();
    (0..count)
        .map(|n| {
            let numbers: Vec<f32> =
                centres[n % topics].iter().map(|number| number + 0.7 * noise.next()).collect();
            Embedding::new(numbers).unwrap()
        })
        .collect()
}
