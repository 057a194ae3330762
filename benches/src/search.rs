//! Searches by meaning: embedding-like vectors, beside the raw database and beside a matrix product in the process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use changeover::playbooks::{
    Embedding, HashingEmbedder, NewPlaybook, PlaybookVersion, Put, Query, Search, Status,
};
use changeover::{Limit, PlaybookCatalog, Text};
use tokio_postgres::Client;

use crate::AnyError;
use crate::measure::{Goal, Plan, Round, percentile, point, timed};
use crate::target::{Target, durable_database};

/// How many results a search wants.
const WANTED: usize = 10;
/// How many queries are asked in turn.
const QUERIES: usize = 50;
/// Vectors of texts lie in groups: so many there are.
const TOPICS: usize = 200;

/// On every backend, with 50, 1,000 and as many playbooks as asked for.
pub async fn all(plan: Plan, most: usize) -> Result<(), AnyError> {
    for count in [50, 1_000, most] {
        let vectors = vectors(count + QUERIES);
        let (queries, rows) = vectors.split_at(QUERIES);
        println!("search among {count} playbooks, p50 in ms");

        let matrix: Vec<f32> = rows.iter().flat_map(|row| row.as_slice().iter().copied()).collect();
        let folder = tempfile::tempdir()?;
        let memory = Target::memory().await?;
        let sqlite = Target::sqlite(&folder.path().join("search.db"), true).await?;
        for (name, target) in [("memory", &memory), ("SQLite", &sqlite)] {
            let catalog = target.playbooks().await?;
            let filled = fill(&catalog, rows).await?;
            let goal = match count {
                1_000 => Goal::AtMost(1.5),
                50_000 => Goal::AtMost(1.2),
                _ => Goal::None,
            };
            let raw = || async { Ok(product(plan, &matrix, queries)) };
            let name = format!("  {name} / matrix product ({filled:.0} rows/s put)");
            point(plan, &name, "ms", goal, raw, || ask(&catalog, plan, queries)).await?;
        }

        let database = durable_database().await?;
        let target = Target::postgres(database.url(), true).await?;
        let catalog = target.playbooks().await?;
        let filled = fill(&catalog, rows).await?;
        let client = database.client().await?;
        client.batch_execute("ANALYZE playbook_store.playbook_catalog").await?;
        for (name, setting, goal) in [
            ("the same index", "SET enable_seqscan = on", Goal::None),
            (
                "an exact scan",
                "SET enable_indexscan = off",
                if count == 50_000 { Goal::AtMost(0.04) } else { Goal::None },
            ),
        ] {
            client.batch_execute("RESET ALL").await?;
            client.batch_execute(setting).await?;
            let raw = || ask_raw(&client, plan, queries);
            let name = format!("  PostgreSQL / {name} ({filled:.0} rows/s put)");
            point(plan, &name, "ms", goal, raw, || ask(&catalog, plan, queries)).await?;
        }
        println!("  PostgreSQL: recall@{WANTED} {:.4}", recall(&catalog, queries, rows).await?);
    }
    Ok(())
}

/// Stores a playbook a vector; rows a second.
async fn fill(catalog: &Arc<dyn PlaybookCatalog>, rows: &[Embedding]) -> Result<f64, AnyError> {
    let begin = Instant::now();
    for (batch, vectors) in rows.chunks(500).enumerate() {
        let versions =
            vectors.iter().enumerate().map(|(place, vector)| playbook(batch * 500 + place, vector));
        catalog.put(Put { versions: versions.collect::<Result<_, _>>()? }).await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    let rows = rows.len() as f64;
    Ok(rows / begin.elapsed().as_secs_f64())
}

fn playbook(number: usize, vector: &Embedding) -> Result<NewPlaybook, changeover::Error> {
    Ok(NewPlaybook {
        playbook_id: Text::new("playbook_id", format!("playbook-{number:06}"))?,
        version: PlaybookVersion::new("v1.0.0")?,
        name: Text::new("name", format!("Playbook {number}"))?,
        description: "What to do.".to_owned(),
        owner: None,
        maintainer: None,
        content: format!("# Playbook {number}\n"),
        content_hash: None,
        labels: BTreeMap::new(),
        embedding: Some(vector.clone()),
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
    })
}

fn search(vector: &Embedding) -> Result<Search, AnyError> {
    Ok(Search {
        query: Query::Vector(vector.clone()),
        embedder: Arc::new(HashingEmbedder),
        labels: BTreeMap::new(),
        min_confidence: 0.0,
        max_results: Limit::new(i64::try_from(WANTED)?)?,
    })
}

async fn ask(
    catalog: &Arc<dyn PlaybookCatalog>,
    plan: Plan,
    queries: &[Embedding],
) -> Result<Round, AnyError> {
    let mut next = queries.iter().cycle();
    timed(plan, async || {
        let Some(vector) = next.next() else { return Ok(0) };
        Ok(catalog.search(search(vector)?).await?.matches.len())
    })
    .await
}

async fn ask_raw(client: &Client, plan: Plan, queries: &[Embedding]) -> Result<Round, AnyError> {
    let sql = "SELECT playbook_id, version, name, description, 1 - (embedding <=> $1::text::vector) \
                 FROM playbook_store.playbook_catalog \
                WHERE tenant_id = 'default' AND is_latest_version AND status = 'active' \
                ORDER BY embedding <=> $1::text::vector LIMIT 10";
    let statement = client.prepare(sql).await?;
    let texts: Vec<String> = queries.iter().map(literal).collect();
    let mut next = texts.iter().cycle();
    timed(plan, async || {
        let Some(text) = next.next() else { return Ok(0) };
        Ok(client.query(&statement, &[text]).await?.len())
    })
    .await
}

fn literal(vector: &Embedding) -> String {
    let mut text = String::from("[");
    for (place, number) in vector.as_slice().iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{number}");
    }
    text.push(']');
    text
}

/// The share of the exact best that is found.
async fn recall(
    catalog: &Arc<dyn PlaybookCatalog>,
    queries: &[Embedding],
    rows: &[Embedding],
) -> Result<f64, AnyError> {
    let mut hits = 0;
    for query in queries {
        let mut exact: Vec<_> = rows.iter().map(|row| query.confidence(row)).enumerate().collect();
        exact.sort_by(|a, b| b.1.total_cmp(&a.1));
        let best: Vec<String> =
            exact.iter().take(WANTED).map(|(number, _)| format!("playbook-{number:06}")).collect();
        let found = catalog.search(search(query)?).await?.matches;
        hits += found
            .iter()
            .filter(|it| best.iter().any(|id| id == it.playbook.playbook.playbook_id.as_str()))
            .count();
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of results")]
    let share = hits as f64 / (queries.len() * WANTED) as f64;
    Ok(share)
}

/// The limit in the process: the products of the query with every row of a matrix, and the best of them.
fn product(plan: Plan, matrix: &[f32], queries: &[Embedding]) -> Round {
    let begin = Instant::now();
    let mut latencies = Vec::new();
    for query in queries.iter().cycle() {
        if begin.elapsed() >= plan.round() {
            break;
        }
        let sent = Instant::now();
        let products = matrix.chunks_exact(Embedding::LEN).map(|row| dot(row, query.as_slice()));
        let mut scores: Vec<(f32, usize)> = products.zip(0..).collect();
        let last = WANTED.min(scores.len()) - 1;
        scores.select_nth_unstable_by(last, |a, b| b.0.total_cmp(&a.0));
        std::hint::black_box(&scores);
        latencies.push(sent.elapsed().as_secs_f64() * 1_000.0);
    }
    Round { figure: percentile(&mut latencies, 0.5), errors: 0 }
}

/// In eight sums, so that the compiler can do them at once.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

/// Vectors as models make them: of unit length, in groups of texts about one thing. The same in every run.
fn vectors(count: usize) -> Vec<Embedding> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let topics: Vec<Vec<f32>> =
        (0..TOPICS).map(|_| (0..Embedding::LEN).map(|_| random.next()).collect()).collect();
    (0..count)
        .filter_map(|number| {
            let topic = &topics[number % TOPICS];
            let mut numbers: Vec<f32> = topic.iter().map(|number| number + 0.6 * random.next()).collect();
            let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
            for number in &mut numbers {
                *number /= length;
            }
            Embedding::new(numbers).ok()
        })
        .collect()
}

/// xorshift64*: numbers of -1 to 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
        #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
        let share = bits as f32 / 8_388_608.0;
        share - 1.0
    }
}
