//! How well playbooks are found: real runbooks, real alerts as queries, beside what plain BM25 finds (X-PB-023).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use changeover::playbooks::{HashingEmbedder, NewPlaybook, Put, Query, Search};
use changeover::{Db, Json, Limit, PersistenceOptions, PlaybookCatalog, connect_with, registry};
use changeover_testkit::TestDatabase;
use clap::ValueEnum;
use serde::Deserialize;

use crate::AnyError;

/// How many results count.
const AT: usize = 10;
/// What BM25 (k1 1.2, b 0.75) reaches over name, description and content, where it is known: MRR@10, recall@10.
const BASELINE: [(&str, f64, Option<f64>); 3] =
    [("alertname", 0.959, None), ("description", 0.899, Some(1.0)), ("summary", 1.0, None)];

/// The backend that is searched.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Through {
    /// In the process.
    Memory,
    /// A new file.
    Sqlite,
    /// A new database on the server of the testkit.
    Postgres,
}

#[derive(Deserialize)]
struct Asked {
    kind: String,
    query: String,
    relevant: Vec<String>,
}

/// What was reached over some queries, as sums.
#[derive(Default)]
struct Score {
    queries: f64,
    reciprocal_ranks: f64,
    recalls: f64,
}

impl Score {
    fn add(&mut self, found: &[String], relevant: &[String]) {
        let first = (1_u32..).zip(found.iter().take(AT)).find(|(_, id)| relevant.contains(id));
        let hits = relevant.iter().filter(|id| found.iter().take(AT).any(|found| found == *id)).count();
        self.queries += 1.0;
        self.reciprocal_ranks += first.map_or(0.0, |(rank, _)| 1.0 / f64::from(rank));
        self.recalls += count(hits) / count(relevant.len()).max(1.0);
    }

    fn mrr(&self) -> f64 {
        self.reciprocal_ranks / self.queries
    }

    fn recall(&self) -> f64 {
        self.recalls / self.queries
    }
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// The place of the data: the one given, or `../shared/data/retrieval_openshift` beside the repository.
fn folder(given: Option<PathBuf>) -> Result<PathBuf, AnyError> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/retrieval_openshift");
    let folder = given.unwrap_or(beside);
    if folder.join("corpus.jsonl").is_file() && folder.join("queries.jsonl").is_file() {
        return Ok(folder);
    }
    let path = folder.display();
    Err(format!(
        "the retrieval set is absent: {path} has no corpus.jsonl and queries.jsonl; name its folder by --data"
    )
    .into())
}

/// Puts the corpus into a backend, asks the queries, prints what was found.
pub async fn run(through: Through, data: Option<PathBuf>) -> Result<(), AnyError> {
    let folder = folder(data)?;
    let place = Place::open(through).await?;
    let began = Instant::now();
    let stored = load(&*place.catalog, &folder.join("corpus.jsonl")).await?;
    println!("{stored} playbooks stored in {:.1?}, embedded by {}", began.elapsed(), HashingEmbedder::MODEL);
    let began = Instant::now();
    let scores = ask(&*place.catalog, &folder.join("queries.jsonl")).await?;
    println!(
        "{} queries in {:.1?}\n",
        scores.values().map(|score| score.queries).sum::<f64>(),
        began.elapsed()
    );
    println!("kind         queries   MRR@{AT}  recall@{AT}   BM25 MRR@{AT}  BM25 recall@{AT}");
    for (kind, score) in &scores {
        let known = BASELINE.iter().find(|(of, ..)| of == kind);
        let mrr = known.map_or_else(|| "-".to_owned(), |(_, mrr, _)| format!("{mrr:.3}"));
        let recall =
            known.and_then(|known| known.2).map_or_else(|| "-".to_owned(), |recall| format!("{recall:.3}"));
        println!(
            "{kind:<12} {:>7} {:>8.3} {:>10.3} {mrr:>13} {recall:>15}",
            score.queries,
            score.mrr(),
            score.recall()
        );
    }
    place.db.close().await;
    Ok(())
}

/// A catalog, and what must live as long as it.
struct Place {
    catalog: Arc<dyn PlaybookCatalog>,
    db: Db,
    _file: Option<tempfile::TempDir>,
    _database: Option<TestDatabase>,
}

impl Place {
    async fn open(through: Through) -> Result<Self, AnyError> {
        let options = PersistenceOptions::new().with("persistence.default", "m");
        let (mut file, mut database) = (None, None);
        let options = match through {
            Through::Memory => options.with("backends.m.kind", "memory"),
            Through::Sqlite => {
                let folder = file.insert(tempfile::tempdir()?);
                let path = folder.path().join("retrieval.db");
                options.with("backends.m.kind", "sqlite").with("backends.m.path", path.display().to_string())
            }
            Through::Postgres => {
                let database = database.insert(TestDatabase::empty().await?);
                let options =
                    options.with("backends.m.kind", "postgres").with("backends.m.url", database.url());
                options.with("backends.m.migrate_on_start", "true")
            }
        };
        let db = connect_with(options, registry()).await?;
        let catalog = db.playbooks("playbooks")?.catalog().await?;
        Ok(Self { catalog, db, _file: file, _database: database })
    }
}

async fn load(catalog: &dyn PlaybookCatalog, file: &Path) -> Result<usize, AnyError> {
    let mut stored = 0;
    let text = fs::read_to_string(file)?;
    let lines: Vec<_> = text.lines().collect();
    for batch in lines.chunks(100) {
        let versions: Result<Vec<_>, changeover::Error> = batch.iter().map(|line| latest(line)).collect();
        stored += catalog.put(Put { versions: versions? }).await?.stored;
    }
    Ok(stored)
}

/// A line of the corpus, which holds the latest versions only, with its vector: as a service would put it.
fn latest(line: &str) -> Result<NewPlaybook, changeover::Error> {
    let mut playbook = NewPlaybook::from_json(line)?;
    playbook.is_latest = true;
    let text = changeover::playbooks::embedding_text(&playbook);
    playbook.embedding = Some(HashingEmbedder::vector(&text));
    Ok(playbook)
}

async fn ask(catalog: &dyn PlaybookCatalog, file: &Path) -> Result<BTreeMap<String, Score>, AnyError> {
    let mut scores: BTreeMap<String, Score> = BTreeMap::new();
    for line in fs::read_to_string(file)?.lines() {
        let asked: Asked = Json::parse(line)?.to()?;
        let search = Search {
            query: Query::Text(asked.query),
            embedder: Arc::new(HashingEmbedder),
            labels: BTreeMap::new(),
            min_confidence: 0.0,
            max_results: Limit::new(i64::try_from(AT)?)?,
        };
        let result = catalog.search(search).await?;
        let found: Vec<_> =
            result.matches.iter().map(|found| found.playbook.playbook.playbook_id.to_string()).collect();
        scores.entry(asked.kind).or_default().add(&found, &asked.relevant);
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    // X-PB-023
    #[test]
    fn scores_are_those_of_the_textbook() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let mut score = Score::default();
        score.add(&ids(&["a", "b", "c"]), &ids(&["b"]));
        score.add(&ids(&["a"]), &ids(&["b"]));
        score.add(&ids(&["a", "b"]), &ids(&["a", "z"]));
        let mut late = ids(&["x"; 10]);
        late.push("b".to_owned());
        score.add(&late, &ids(&["b"]));
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(close(score.mrr(), (0.5 + 0.0 + 1.0 + 0.0) / 4.0), "{}", score.mrr());
        assert!(close(score.recall(), (1.0 + 0.0 + 0.5 + 0.0) / 4.0), "{}", score.recall());
    }

    #[test]
    fn absent_data_are_named() {
        let error = folder(Some("/nowhere/at/all".into())).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
