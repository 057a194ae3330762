//! Search by meaning. What comes out is ranked by core's figures in double precision; the database only says which rows
//! are worth ranking.
//!
//! It offers somewhat more rows than are wanted, the nearest by single precision: of a few thousand rows that match the
//! filters all are compared there, of more the vector index is asked. These rows will do if whatever was left out is
//! certain to rank below the last result: the worst one offered is below it by more than single precision could hide, so
//! no tie is cut. Otherwise (many equal vectors, results of confidence 0, a filter too narrow for the index's walk) all
//! rows are ranked here after all, page by page, with no more than a page in memory.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use changeover_core::Result;
use changeover_core::playbooks::{
    Candidate, Embedding, GetPlaybook, Lookup, Match, NewPlaybook, Playbook, PlaybookId, PlaybookVersion,
    Ranking, Search, SearchResult, Status, embed, embedding_text, floor,
};
use tokio_postgres::Row;

use super::Catalog;
use super::codec::{LabelsOut, VectorOut};
use super::read::{Place, get, playbook};

/// From how many matching rows on the index is asked, unless very many results are wanted.
const MANY: u32 = 5_000;
/// How long it is remembered that there are many.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Rows of a page when all are ranked.
const PAGE: i64 = 1_000;
/// Rows of a page of those without a vector, which are embedded together.
const PAGE_WITHOUT_VECTOR: i64 = 256;
/// What single precision may hide.
const IMPRECISION: f64 = 1e-6;
/// How often a search begins anew when versions go while it runs.
const ATTEMPTS: usize = 3;

impl Catalog {
    pub(super) async fn search(&self, request: &Search) -> Result<SearchResult> {
        request.validate()?;
        // Before a connection is held, since an embedder may take its time.
        let query = request.vector().await?;
        let mut attempt = 1;
        loop {
            let best = match self.offered(request, &query).await? {
                Some(best) => best,
                None => self.one_by_one(request, &query).await?,
            };
            let wanted = best.len();
            let matches = self.found(request, &query, best).await?;
            // What is not offered any more leaves its place to another.
            if matches.len() == wanted || attempt == ATTEMPTS {
                return Ok(SearchResult { matches });
            }
            attempt += 1;
        }
    }

    /// The best of the rows that the database offers; `None` where better ones may be among the others.
    async fn offered(&self, request: &Search, query: &Embedding) -> Result<Option<Vec<Candidate>>> {
        let wanted = request.max_results.get();
        let limit = wanted + wanted / 4 + 16;
        let filtered = !request.labels.is_empty();
        // With 0 nothing is counted.
        let at_least =
            if !filtered && self.are_many() { 0 } else { i64::from(wanted.saturating_mul(10).max(MANY) + 1) };
        let mut conn = self.connection().await?;
        let rows = conn
            .read_owned(
                &self.gate,
                &self.statements.candidates,
                &[
                    &self.tenant.as_str(),
                    &LabelsOut(&request.labels),
                    &VectorOut(query),
                    &i32::try_from(limit).unwrap_or(i32::MAX),
                    &at_least,
                    &PAGE_WITHOUT_VECTOR,
                ],
            )
            .await?;
        drop(conn);

        let by_index = rows.first().map(|row| get::<bool>(row, 6)).transpose()?;
        let Offers { with, mut without } = Offers::of(&rows)?;
        let all_wanted = with.len() >= limit as usize;
        if !filtered && by_index == Some(true) {
            self.remember_many(all_wanted);
        }
        // Fewer than wanted are all there are, unless the index left some out.
        if !all_wanted && by_index != Some(false) {
            return Ok(None);
        }
        let mut ranking = Ranking::new(request.min_confidence, request.max_results);
        let worst = offer(&mut ranking, query, with);
        while let Some(last) = without.last() {
            let (after, full) = (last.playbook_id.clone(), is_full(without.len(), PAGE_WITHOUT_VECTOR));
            offer_embedded(&mut ranking, request, query, std::mem::take(&mut without)).await?;
            if full {
                let rows = self.scan(request, after.as_str(), PAGE_WITHOUT_VECTOR, true).await?;
                without = Offers::of(&rows)?.without;
            }
        }
        let best = ranking.into_best();
        let bar = match best.last() {
            Some(last) if best.len() == wanted as usize => last.confidence,
            _ => floor(request.min_confidence),
        };
        Ok((!all_wanted || worst + IMPRECISION < bar).then_some(best))
    }

    fn are_many(&self) -> bool {
        let until = *self.many_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn remember_many(&self, many: bool) {
        *self.many_until.lock().unwrap_or_else(PoisonError::into_inner) =
            many.then(|| Instant::now() + REMEMBERED);
    }

    /// The best of all rows that match the filters.
    async fn one_by_one(&self, request: &Search, query: &Embedding) -> Result<Vec<Candidate>> {
        let mut ranking = Ranking::new(request.min_confidence, request.max_results);
        let mut after = String::new();
        loop {
            let rows = self.scan(request, &after, PAGE, false).await?;
            let Offers { with, without } = Offers::of(&rows)?;
            let last = rows.last().filter(|_| is_full(rows.len(), PAGE));
            let next = last.map(|row| get(row, 0)).transpose()?;
            drop(rows);
            offer(&mut ranking, query, with);
            offer_embedded(&mut ranking, request, query, without).await?;
            match next {
                Some(next) => after = next,
                None => return Ok(ranking.into_best()),
            }
        }
    }

    async fn scan(
        &self,
        request: &Search,
        after: &str,
        limit: i64,
        without_vector: bool,
    ) -> Result<Vec<Row>> {
        let tenant = self.tenant.as_str();
        let labels = LabelsOut(&request.labels);
        let mut conn = self.connection().await?;
        conn.read_owned(
            &self.gate,
            &self.statements.scan,
            &[&tenant, &labels, &after, &limit, &without_vector],
        )
        .await
    }

    /// The rows of the best, in their order. A version that lost its mark meanwhile is answered for by the one that took
    /// it, in the place that one has.
    async fn found(&self, request: &Search, query: &Embedding, best: Vec<Candidate>) -> Result<Vec<Match>> {
        if best.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = best.iter().map(|candidate| candidate.playbook_id.as_str()).collect();
        let versions: Vec<_> = best.iter().map(|candidate| candidate.version.as_str()).collect();
        let mut conn = self.connection().await?;
        let rows = conn
            .read_owned(&self.gate, &self.statements.found, &[&self.tenant.as_str(), &ids, &versions])
            .await?;
        drop(conn);
        // One version of a playbook is the latest, so its id names it.
        let mut found: HashMap<PlaybookId, Playbook> = HashMap::with_capacity(rows.len());
        for row in &rows {
            let playbook = playbook(row)?;
            found.insert(playbook.playbook.playbook_id.clone(), playbook);
        }
        let mut ranking = Ranking::new(request.min_confidence, request.max_results);
        for mut candidate in best {
            if !found.contains_key(&candidate.playbook_id) {
                let playbook_id = candidate.playbook_id.clone();
                let now = self.get(&GetPlaybook { playbook_id, which: Lookup::LatestActive }).await?;
                // Another version may have other labels.
                let fits = |new: &Playbook| {
                    request.labels.iter().all(|(key, value)| new.playbook.labels.get(key) == Some(value))
                };
                let Some(now) = now.filter(fits) else { continue };
                let vector = match &now.playbook.embedding {
                    Some(vector) => vector.clone(),
                    None => match embed(&*request.embedder, &[embedding_text(&now.playbook)]).await?.pop() {
                        Some(vector) => vector,
                        None => continue,
                    },
                };
                candidate.version = now.playbook.version.clone();
                candidate.confidence = query.confidence(&vector);
                found.insert(candidate.playbook_id.clone(), now);
            }
            ranking.offer(candidate);
        }
        let matches = ranking.into_best().into_iter().filter_map(|candidate| {
            let playbook = found.remove(&candidate.playbook_id)?;
            Some(Match { playbook, confidence: candidate.confidence })
        });
        Ok(matches.collect())
    }
}

/// What rows offer to a search.
struct Offers {
    with: Vec<(PlaybookId, PlaybookVersion, Embedding)>,
    /// Without a vector: as much of the version as one is made of.
    without: Vec<NewPlaybook>,
}

impl Offers {
    fn of(rows: &[Row]) -> Result<Self> {
        let mut offers = Self { with: Vec::new(), without: Vec::new() };
        for row in rows {
            let place = Place::of(row);
            match place.embedding(2)? {
                Some(vector) => offers.with.push((place.id()?, place.version()?, vector)),
                None => offers.without.push(embedded_part(row)?),
            }
        }
        Ok(offers)
    }
}

fn is_full(rows: usize, limit: i64) -> bool {
    i64::try_from(rows).is_ok_and(|rows| rows >= limit)
}

/// Offers rows with vectors; says what confidence the worst of them has.
fn offer(
    ranking: &mut Ranking,
    query: &Embedding,
    rows: Vec<(PlaybookId, PlaybookVersion, Embedding)>,
) -> f64 {
    let mut worst = 1.0_f64;
    for (playbook_id, version, vector) in rows {
        let confidence = query.confidence(&vector);
        worst = worst.min(confidence);
        ranking.offer(Candidate { playbook_id, version, confidence });
    }
    worst
}

/// Offers rows without a vector, with one made now.
async fn offer_embedded(
    ranking: &mut Ranking,
    request: &Search,
    query: &Embedding,
    rows: Vec<NewPlaybook>,
) -> Result<()> {
    let texts: Vec<_> = rows.iter().map(embedding_text).collect();
    let vectors = embed(&*request.embedder, &texts).await?;
    for (row, vector) in rows.into_iter().zip(vectors) {
        let confidence = query.confidence(&vector);
        ranking.offer(Candidate { playbook_id: row.playbook_id, version: row.version, confidence });
    }
    Ok(())
}

/// What a vector is made of; the rest is left empty, and the content says only whether there is one.
fn embedded_part(row: &Row) -> Result<NewPlaybook> {
    let place = Place::of(row);
    let labels = place.labels(5)?;
    Ok(NewPlaybook {
        playbook_id: place.id()?,
        version: place.version()?,
        name: place.text(3, "name")?,
        description: get(row, 4)?,
        owner: None,
        maintainer: None,
        content: if labels.is_some() { String::new() } else { "content".to_owned() },
        content_hash: None,
        labels: labels.unwrap_or_default(),
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
    })
}
