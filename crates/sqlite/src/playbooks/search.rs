//! Search: every vector is looked at, and what comes near is ranked by core's figures.

use std::collections::HashMap;

use changeover_core::playbooks::{
    Candidate, Embedding, Match, NewPlaybook, Playbook, PlaybookId, Ranking, Search, SearchResult, embed,
    embedding_text,
};
use changeover_core::{Error, ErrorKind, Result};
use diesel::SqliteConnection;

use super::matrix::Candidates;
use super::tables::{Catalog, PlaybookTables};
use crate::classify::Failure;
use crate::handle::Handle;

/// How often a search begins anew when rows that it found were removed while others were embedded.
const ATTEMPTS: usize = 5;

pub(super) async fn search(handle: &Handle<PlaybookTables>, request: Search) -> Result<SearchResult> {
    let operation = "playbooks.search";
    handle.still_open().and(request.validate()).map_err(|error| handle.place(error, operation))?;
    let vector = request.vector().await.map_err(|error| handle.place(error, operation))?;
    for _ in 0..ATTEMPTS {
        let (query, wanted) = (vector.clone(), request.clone());
        let look = handle.read(operation, move |conn, tables| look(conn, tables, &wanted, &query));
        let Found { mut ranking, mut shown, unembedded } = look.await?;
        if unembedded.is_empty() {
            return Ok(SearchResult { matches: matches(ranking.into_best(), &mut shown) });
        }
        // No connection is held while an embedder may wait.
        let texts: Vec<_> = unembedded.iter().map(|one| one.text.clone()).collect();
        let made = embed(&*request.embedder, &texts).await.map_err(|error| handle.place(error, operation))?;
        for (one, made) in unembedded.into_iter().zip(&made) {
            ranking.offer(Candidate { confidence: vector.confidence(made), ..key(&one.found) });
            shown.insert(one.found.playbook.playbook_id.clone(), one.found);
        }
        let best = ranking.into_best();
        let fill = handle.read(operation, move |conn, tables| {
            let catalog = tables.open(conn)?;
            Ok(fill(conn, &catalog, &best, &mut shown)?.then(|| matches(best, &mut shown)))
        });
        if let Some(matches) = fill.await? {
            return Ok(SearchResult { matches });
        }
    }
    let message = "the catalog was changed again and again while it was searched; try again";
    Err(handle.place(Error::new(ErrorKind::Contention, message), operation))
}

/// What one look at the catalog found: the answer is as of then, whatever changes while rows are embedded.
struct Found {
    /// Candidates with a vector.
    ranking: Ranking,
    /// The best of them, as they are shown. At most one version of a playbook is a candidate.
    shown: HashMap<PlaybookId, Playbook>,
    unembedded: Vec<Unembedded>,
}

/// A candidate without a vector.
struct Unembedded {
    /// Without its content, which may be large and does not change.
    found: Playbook,
    text: String,
}

fn look(
    conn: &mut SqliteConnection,
    tables: &PlaybookTables,
    request: &Search,
    query: &Embedding,
) -> Result<Found, Failure> {
    let catalog = tables.open(conn)?;
    let Candidates { near, opposite, unembedded: places } =
        tables.matrix(conn, &catalog)?.candidates(query, request)?;
    let mut ranking = Ranking::new(request.min_confidence, request.max_results);
    let mut shown = HashMap::with_capacity(near.len());
    for (playbook_id, version) in near {
        // In the same transaction as the matrix, so it is there.
        let Some(found) = catalog.exact(conn, &playbook_id, &version)? else { continue };
        let confidence = found.playbook.embedding.as_ref().map_or(0.0, |vector| query.confidence(vector));
        shown.insert(playbook_id.clone(), found);
        ranking.offer(Candidate { playbook_id, version, confidence });
    }
    for (playbook_id, version) in opposite {
        ranking.offer(Candidate { playbook_id, version, confidence: 0.0 });
    }
    let mut unembedded = Vec::with_capacity(places.len());
    for place in places {
        let Some(mut found) = catalog.at(conn, place)? else { continue };
        let text = embedding_text(&found.playbook);
        found.playbook.content = String::new();
        unembedded.push(Unembedded { found, text });
    }
    // Offered again, for what has no vector yet may push some of them out.
    let best = ranking.into_best();
    let mut ranking = Ranking::new(request.min_confidence, request.max_results);
    for candidate in best {
        if !shown.contains_key(&candidate.playbook_id)
            && let Some(found) = catalog.exact(conn, &candidate.playbook_id, &candidate.version)?
        {
            shown.insert(candidate.playbook_id.clone(), found);
        }
        ranking.offer(candidate);
    }
    Ok(Found { ranking, shown, unembedded })
}

/// Fetches the contents that were left out; `false` if a row is gone.
fn fill(
    conn: &mut SqliteConnection,
    catalog: &Catalog<'_>,
    best: &[Candidate],
    shown: &mut HashMap<PlaybookId, Playbook>,
) -> Result<bool, Failure> {
    let hash = |playbook: &Playbook| playbook.playbook.content_hash.clone();
    for candidate in best {
        let Some(one) = shown.get_mut(&candidate.playbook_id) else { continue };
        if one.playbook.content.is_empty() {
            let now = catalog.exact(conn, &candidate.playbook_id, &candidate.version)?;
            let Some(now) = now.filter(|now| hash(now) == hash(one)) else { return Ok(false) };
            one.playbook.content = now.playbook.content;
        }
    }
    Ok(true)
}

fn matches(best: Vec<Candidate>, shown: &mut HashMap<PlaybookId, Playbook>) -> Vec<Match> {
    let shown = best.into_iter().filter_map(|candidate| {
        let playbook = shown.remove(&candidate.playbook_id)?;
        Some(Match { playbook, confidence: candidate.confidence })
    });
    shown.collect()
}

fn key(found: &Playbook) -> Candidate {
    let NewPlaybook { playbook_id, version, .. } = &found.playbook;
    Candidate { playbook_id: playbook_id.clone(), version: version.clone(), confidence: 0.0 }
}
