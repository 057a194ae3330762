//! Search: few rows and many, narrow filters, ties, and what the indexes do.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod catalog;

use changeover_core::Limit;
use changeover_core::playbooks::{
    Candidate, Embedding, HashingEmbedder, ListPlaybooks, Query, Search, SearchResult, Status, rank,
};
use changeover_testkit::TestDatabase;
use changeover_testkit::tokio_postgres::Client;

use catalog::{Noise, catalog, id, labels, like_embeddings, migrated, playbook, put, search, version};

const EMBEDDING_INDEX: &str = "DROP INDEX playbook_store.playbook_catalog_embedding";
const NEW_EMBEDDING_INDEX: &str = "CREATE INDEX playbook_catalog_embedding ON playbook_store.playbook_catalog
    USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)
    WHERE is_latest_version AND status = 'active'; ANALYZE playbook_store.playbook_catalog";

fn name(n: usize) -> String {
    format!("pb{n:06}")
}

/// Stores one version a vector; the index is made afterwards, which is quicker.
async fn store(db: &TestDatabase, vectors: &[Embedding], labels_of: impl Fn(usize) -> Vec<(String, String)>) {
    db.execute(EMBEDDING_INDEX).await.unwrap();
    let catalog = catalog(db).await;
    for (chunk, first) in vectors.chunks(1_000).zip((0..).step_by(1_000)) {
        let versions = chunk.iter().zip(first..).map(|(vector, n)| {
            let mut new = playbook(&name(n), "v1.0.0");
            new.embedding = Some(vector.clone());
            new.labels = labels_of(n).into_iter().collect();
            new
        });
        catalog.put(put(versions)).await.unwrap();
    }
    db.execute(NEW_EMBEDDING_INDEX).await.unwrap();
}

fn ids(found: &SearchResult) -> Vec<&str> {
    found.matches.iter().map(|found| found.playbook.playbook.playbook_id.as_str()).collect()
}

/// What comparing everything gives.
fn exact(
    vectors: &[Embedding],
    query: &Embedding,
    wanted: i64,
    takes: impl Fn(usize) -> bool,
) -> Vec<String> {
    let candidates = vectors.iter().enumerate().filter(|(n, _)| takes(*n)).map(|(n, vector)| Candidate {
        playbook_id: id(&name(n)),
        version: version("v1.0.0"),
        confidence: query.confidence(vector),
    });
    let best = rank(candidates, 0.0, Limit::new(wanted).unwrap());
    best.into_iter().map(|candidate| candidate.playbook_id.to_string()).collect()
}

/// How often an index was used by a statement, and how many rows of the table it fetched.
async fn use_of(client: &Client, sql: &str, index: &str) -> (i64, i64) {
    let counts = format!(
        "SELECT pg_stat_get_xact_numscans('playbook_store.{index}'::regclass), (seq_tup_read + idx_tup_fetch)::bigint
           FROM pg_stat_xact_user_tables WHERE relid = 'playbook_store.playbook_catalog'::regclass"
    );
    // The counts are those of the session since it last reported them.
    client.batch_execute("BEGIN; SET LOCAL ROLE changeover_app").await.unwrap();
    let before = client.query_one(&counts, &[]).await.unwrap();
    client.query(sql, &[]).await.unwrap();
    let after = client.query_one(&counts, &[]).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    let count = |at: usize| after.get::<_, i64>(at) - before.get::<_, i64>(at);
    (count(0), count(1))
}

// S3-PB-018, S3-PB-019, S3-PB-021, DEF-26, X-EDGE-074, X-EDGE-075: above 5,000 rows the index answers, nearly always what
// comparing all would; and however narrow the filter, the page is full.
#[tokio::test(flavor = "multi_thread")]
async fn many_rows_are_searched_by_the_index_and_pages_are_full() {
    let db = migrated().await;
    let vectors = like_embeddings(5_200, 100);
    let group = |n: usize| n / 100;
    store(&db, &vectors, |n| {
        let half = if n % 2 == 0 { "even" } else { "odd" };
        vec![("group".to_owned(), group(n).to_string()), ("half".to_owned(), half.to_owned())]
    })
    .await;
    let catalog = catalog(&db).await;
    let mut noise = Noise::new(7);
    let queries: Vec<_> = (0..20)
        .map(|n| {
            let near = vectors[n * 97].as_slice().iter().map(|number| number + 0.3 * noise.next());
            Embedding::new(near.collect::<Vec<_>>()).unwrap()
        })
        .collect();

    let mut same = 0;
    for query in &queries {
        let found = catalog.search(search(query.clone(), 10)).await.unwrap();
        let wanted = exact(&vectors, query, 10, |_| true);
        assert_eq!(found.matches.len(), 10);
        assert!(found.matches.is_sorted_by(|a, b| a.confidence >= b.confidence));
        same += ids(&found).iter().filter(|id| wanted.iter().any(|wanted| wanted == *id)).count();
        let first = &found.matches[0];
        let stored = first.playbook.playbook.embedding.as_ref().unwrap();
        assert!((first.confidence - query.confidence(stored)).abs() < 1e-12);
    }
    assert!(same >= 198, "{same} of 200");

    for query in &queries[..3] {
        let found = catalog.search(search(query.clone(), 100)).await.unwrap();
        assert_eq!(found.matches.len(), 100);
        let mut narrow = search(query.clone(), 60);
        narrow.labels = labels([("group", "7")]);
        let found = catalog.search(narrow.clone()).await.unwrap();
        assert_eq!(ids(&found), exact(&vectors, query, 60, |n| group(n) == 7));
        narrow.max_results = Limit::new(200).unwrap();
        assert_eq!(catalog.search(narrow.clone()).await.unwrap().matches.len(), 100, "all that match");
        narrow.labels = labels([("half", "odd")]);
        let found = catalog.search(narrow).await.unwrap();
        assert_eq!(found.matches.len(), 200);
        assert!(found.matches.iter().all(|it| it.playbook.playbook.labels["half"] == "odd"));
    }

    let client = db.client().await.unwrap();
    let call = |labels: &str, at_least: u32| {
        format!(
            "SELECT * FROM playbook_store.candidates('acme', '{labels}',
                (SELECT embedding FROM playbook_store.get('acme', '{}', 'latest')), 20, {at_least}, 256)",
            name(1)
        )
    };
    let index = "playbook_catalog_embedding";
    let (used, fetched) = use_of(&client, &call("{}", 1_001), index).await;
    assert!(used >= 1 && fetched < 3_000, "{used} uses, {fetched} rows");
    assert!(use_of(&client, &call("{\"half\":\"odd\"}", 1_001), index).await.0 >= 1);
    assert_eq!(use_of(&client, &call("{}", 5_201), index).await.0, 0, "too few rows to ask it");
}

// S3-PB-020, S3-EDGE-030: thousands of equal vectors: the cut goes by id, also where the index offers any of them.
#[tokio::test(flavor = "multi_thread")]
async fn ties_are_cut_by_id() {
    let db = migrated().await;
    let mut vectors = like_embeddings(1, 1);
    vectors = vec![vectors.remove(0); 1_500];
    store(&db, &vectors, |_| Vec::new()).await;
    let catalog = catalog(&db).await;
    let found = catalog.search(search(vectors[0].clone(), 10)).await.unwrap();
    assert_eq!(ids(&found), (0..10).map(name).collect::<Vec<_>>());
    assert!(found.matches.iter().all(|found| (found.confidence - 1.0).abs() < 1e-12));
}

// S3-PB-019, S3-EDGE-027, S3-EDGE-029, X-EDGE-076: opposite, zero, huge and tiny vectors, among few and among many.
#[tokio::test(flavor = "multi_thread")]
async fn odd_vectors_have_the_confidence_that_core_gives_them() {
    let db = migrated().await;
    let mut vectors = like_embeddings(1_200, 60);
    let query = vectors[0].clone();
    let scaled = |by: f32| {
        Embedding::new(query.as_slice().iter().map(|number| number * by).collect::<Vec<_>>()).unwrap()
    };
    vectors.extend([scaled(-1.0), scaled(0.0), scaled(1e37), scaled(1e-37)]);
    store(&db, &vectors, |n| if n < 1_195 { Vec::new() } else { vec![("odd".to_owned(), String::new())] })
        .await;
    let catalog = catalog(&db).await;
    // How many of the odd ones point where the query does; to a vector of zeros none does.
    for (asked, wanted, same_way) in
        [(query.clone(), 1_300, 2), (scaled(0.0), 40, 0), (scaled(-1.0), 40, 1), (scaled(1e37), 40, 2)]
    {
        let mut request = search(asked.clone(), wanted);
        let found = catalog.search(request.clone()).await.unwrap();
        assert_eq!(ids(&found), exact(&vectors, &asked, wanted, |_| true));
        assert!(found.matches.iter().all(|found| (0.0..=1.0).contains(&found.confidence)));
        request.labels = labels([("odd", "")]);
        let few = catalog.search(request.clone()).await.unwrap();
        assert_eq!(ids(&few), exact(&vectors, &asked, wanted, |n| n >= 1_195));
        request.min_confidence = 1.0;
        let same = catalog.search(request).await.unwrap();
        assert_eq!(same.matches.len(), same_way);
        assert!(same.matches.iter().all(|found| found.confidence >= 1.0 - 1e-6));
    }
}

// S3-PB-013, S3-PB-014, S3-PB-017, DEF-25, X-EDGE-072, X-PB-024: rows without a vector are found, more than a page of
// them, beside more rows with one than are compared one by one; and all are when the vectors are dropped.
#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_vector_are_found_like_others() {
    let db = migrated().await;
    let texts: Vec<_> = (0..2_000).map(|n| format!("alert number {n} of service {}", n % 13)).collect();
    let vectors: Vec<_> =
        texts.iter().map(|text| HashingEmbedder::vector(&format!("name\n{text}"))).collect();
    let catalog = catalog(&db).await;
    for first in [0, 1_000] {
        let versions = (first..first + 1_000).map(|n| {
            let mut new = playbook(&name(n), "v1.0.0");
            new.name = changeover_core::Text::new("name", "name").unwrap();
            new.description.clone_from(&texts[n]);
            new.embedding = (n % 3 != 0).then(|| vectors[n].clone());
            new.status = if n % 100 == 6 { Status::Disabled } else { Status::Active };
            new.is_latest = n % 100 != 9;
            new
        });
        catalog.put(put(versions)).await.unwrap();
    }
    let offered = |n: usize| n % 100 != 6 && n % 100 != 9;
    let query = HashingEmbedder::vector("alert 999 of service 11");
    let ask =
        || Search { query: Query::Text("alert 999 of service 11".to_owned()), ..search(query.clone(), 20) };
    let wanted = exact(&vectors, &query, 20, offered);
    assert_eq!(ids(&catalog.search(ask()).await.unwrap()), wanted);
    assert!(wanted.iter().any(|id| id[2..].parse::<usize>().unwrap() % 3 == 0), "one has no vector");

    db.execute("ALTER TABLE playbook_store.playbook_catalog DROP COLUMN embedding").await.unwrap();
    db.execute("ALTER TABLE playbook_store.playbook_catalog ADD COLUMN embedding public.vector(384)")
        .await
        .unwrap();
    let found = catalog.search(ask()).await.unwrap();
    assert_eq!(ids(&found), wanted);
    assert_eq!(found.matches[0].playbook.playbook.embedding, None, "a search stores nothing");
    assert_eq!(catalog.list(ListPlaybooks::default()).await.unwrap().playbooks.len(), 500);
}

// S3-PB-007, DEF-27, P41, X-EDGE-068: GIN finds the few rows with a label among many; look-ups read single rows.
#[tokio::test(flavor = "multi_thread")]
async fn labels_and_look_ups_are_served_by_indexes() {
    let db = migrated().await;
    db.execute(
        "SET changeover.tenant_id = 'acme';
         INSERT INTO playbook_store.playbook_catalog (playbook_id, version, name, description, content, labels, is_latest_version)
         SELECT 'pb' || lpad(n::text, 6, '0'), 'v1.0.0', 'n', 'd', '', jsonb_build_object('a.b/\"c', (n % 400)::text), true
           FROM generate_series(0, 19999) AS n;
         ANALYZE playbook_store.playbook_catalog",
    )
    .await
    .unwrap();
    let client = db.client().await.unwrap();
    let label = r#"{"a.b/\"c":"7"}"#;
    for call in [
        format!("list('acme', '{label}', 'active', '', 10)"),
        format!("list('acme', '{label}', NULL, 'pb000400', 10)"),
        format!("scan('acme', '{label}', '', 1000, false)"),
        format!(
            "candidates('acme', '{label}', (SELECT array_agg(1)::real[]::public.vector FROM generate_series(1, 384)), 20, 1001, 256)"
        ),
    ] {
        let (used, fetched) =
            use_of(&client, &format!("SELECT * FROM playbook_store.{call}"), "playbook_catalog_labels").await;
        assert!(used >= 1 && fetched <= 200, "{used} uses, {fetched} rows: {call}");
    }
    for (call, most) in [
        ("get('acme', 'pb000777', 'exact', 'v1.0.0')", 1),
        ("get('acme', 'pb000777', 'hash', encode(sha256(''), 'hex'))", 1),
        ("get('acme', 'pb000777', 'latest')", 1),
        ("get('acme', 'pb000777', 'active')", 1),
        ("versions('acme', 'pb000777', NULL, 10)", 1),
        ("list('acme', '{}', NULL, 'pb000777', 10)", 10),
        ("found('acme', '{pb000777,pb000778}', '{v1.0.0,v1.0.0}')", 2),
    ] {
        let (_, fetched) =
            use_of(&client, &format!("SELECT * FROM playbook_store.{call}"), "playbook_catalog_latest").await;
        assert!((1..=most).contains(&fetched), "{fetched} rows: {call}");
    }

    let catalog = catalog(&db).await;
    let mut request = ListPlaybooks {
        status: None,
        labels: labels([("a.b/\"c", "7")]),
        after: Some(id("pb000407")),
        limit: Limit::new(30).unwrap(),
    };
    let page = catalog.list(request.clone()).await.unwrap();
    let found: Vec<_> = page.playbooks.iter().map(|it| it.playbook.playbook_id.as_str()).collect();
    assert_eq!((found.len(), found[0], page.more), (30, "pb000807", true));
    request.labels = labels([("a.b/\"c", "%")]);
    assert!(catalog.list(request).await.unwrap().playbooks.is_empty());
}

// S3-PERF-003: fifty at once.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_searches_at_once_all_find_what_one_finds() {
    let db = migrated().await;
    let vectors = like_embeddings(1_100, 50);
    store(&db, &vectors, |_| Vec::new()).await;
    let catalog = catalog(&db).await;
    let one = catalog.search(search(vectors[3].clone(), 10)).await.unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (catalog, request) = (std::sync::Arc::clone(&catalog), search(vectors[3].clone(), 10));
            tokio::spawn(async move { catalog.search(request).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), one);
    }
}
