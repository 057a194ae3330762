//! Search: every vector is looked at, exactly, and ranked by core's figures.

use std::collections::HashMap;
use std::ops::ControlFlow;

use changeover_core::playbooks::{
    Candidate, Embedding, Match, NewPlaybook, Playbook, PlaybookId, PlaybookVersion, Ranking, Search,
    SearchResult, embed, embedding_text,
};
use changeover_core::{Error, ErrorKind, Result};
use diesel::SqliteConnection;

use super::decode::{self, TABLE};
use super::read::has_labels;
use super::tables::{Catalog, PlaybookTables};
use crate::classify::Failure;
use crate::handle::Handle;
use crate::sql::{self, Bind, Row};
use crate::values::Reader;

/// How often a search begins anew when rows that it found were removed while others were embedded.
const ATTEMPTS: usize = 5;

pub(super) async fn search(handle: &Handle<PlaybookTables>, request: Search) -> Result<SearchResult> {
    let operation = "playbooks.search";
    handle.still_open().and(request.validate()).map_err(|error| handle.place(error, operation))?;
    let vector = request.vector().await.map_err(|error| handle.place(error, operation))?;
    for _ in 0..ATTEMPTS {
        let (query, wanted) = (vector.clone(), request.clone());
        let look = handle.read(operation, move |conn, tables| {
            let catalog = tables.open(conn)?;
            look(conn, &catalog, &wanted, &query)
        });
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
    catalog: &Catalog<'_>,
    request: &Search,
    query: &Embedding,
) -> Result<Found, Failure> {
    let mut ranking = Ranking::new(request.min_confidence, request.max_results);
    let mut places = Vec::new();
    sql::each(conn, &catalog.sql.candidates, &[Bind::Text(catalog.tenant)], |row| {
        if has_labels(&row, &request.labels, 6) {
            match candidate(&row, query)? {
                Some(candidate) => ranking.offer(candidate),
                None => places.push(row.cell(0).as_int().unwrap_or_default()),
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mut unembedded = Vec::with_capacity(places.len());
    for place in places {
        let Some(mut found) = catalog.at(conn, place)? else { continue };
        let text = embedding_text(&found.playbook);
        found.playbook.content = String::new();
        unembedded.push(Unembedded { found, text });
    }
    // Offered again, for what has no vector yet may push some of them out.
    let best = ranking.into_best();
    let mut shown = HashMap::with_capacity(best.len());
    let mut ranking = Ranking::new(request.min_confidence, request.max_results);
    for candidate in best {
        if let Some(found) = catalog.exact(conn, &candidate.playbook_id, &candidate.version)? {
            shown.insert(candidate.playbook_id.clone(), found);
            ranking.offer(candidate);
        }
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

/// `None` without a vector. A row that cannot be judged may be the best one, so it is named instead of passed over.
fn candidate(row: &Row, query: &Embedding) -> Result<Option<Candidate>> {
    let key = decode::key_of(row, 1, 2);
    let read = Reader { table: TABLE, row, key: &key };
    decode::is_latest(&read, 3, 4)?;
    if read.is_null(5) {
        return Ok(None);
    }
    let version = PlaybookVersion::new(read.str("version", 2)?);
    Ok(Some(Candidate {
        playbook_id: read.text("playbook_id", 1)?,
        version: version.map_err(|error| read.corrupt("version", error.message()))?,
        confidence: query.confidence(&decode::embedding(&read, 5)?),
    }))
}
