//! Search: every vector is looked at, exactly, and ranked by core's figures.

use std::ops::ControlFlow;

use changeover_core::playbooks::{
    Candidate, Embedding, Match, Playbook, PlaybookId, PlaybookVersion, Ranking, Search, SearchResult,
    Status, embed, embedding_text,
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

/// How often a search begins anew when what it found was changed while rows without a vector were embedded.
const ATTEMPTS: usize = 5;

pub(super) async fn search(handle: &Handle<PlaybookTables>, request: Search) -> Result<SearchResult> {
    let operation = "playbooks.search";
    handle.still_open().and(request.validate()).map_err(|error| handle.place(error, operation))?;
    let vector = request.vector().await.map_err(|error| handle.place(error, operation))?;
    for _ in 0..ATTEMPTS {
        let (query, wanted) = (vector.clone(), request.clone());
        let found = handle
            .read(operation, move |conn, tables| {
                let catalog = tables.open(conn)?;
                look(conn, &catalog, &wanted, &query)
            })
            .await?;
        let (mut ranking, unembedded) = match found {
            Found::All(matches) => return Ok(SearchResult { matches }),
            Found::Some(ranking, unembedded) => (ranking, unembedded),
        };
        // No connection is held while an embedder may wait.
        let texts: Vec<_> = unembedded.iter().map(|one| one.text.clone()).collect();
        let made = embed(&*request.embedder, &texts).await.map_err(|error| handle.place(error, operation))?;
        for (one, made) in unembedded.into_iter().zip(&made) {
            let confidence = vector.confidence(made);
            ranking.offer(Candidate { playbook_id: one.playbook, version: one.version, confidence });
        }
        let (best, wanted) = (ranking.into_best(), request.clone());
        let matches = handle.read(operation, move |conn, tables| {
            let catalog = tables.open(conn)?;
            show(conn, &catalog, &wanted, best)
        });
        if let Some(matches) = matches.await? {
            return Ok(SearchResult { matches });
        }
    }
    let message = "the catalog was changed again and again while it was searched; try again";
    Err(handle.place(Error::new(ErrorKind::Contention, message), operation))
}

/// What one look found.
enum Found {
    /// Every candidate had a vector.
    All(Vec<Match>),
    /// These have none yet.
    Some(Ranking, Vec<Unembedded>),
}

/// A candidate without a vector.
struct Unembedded {
    playbook: PlaybookId,
    version: PlaybookVersion,
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
        if let Some(Playbook { playbook, .. }) = catalog.at(conn, place)? {
            let text = embedding_text(&playbook);
            unembedded.push(Unembedded { playbook: playbook.playbook_id, version: playbook.version, text });
        }
    }
    if !unembedded.is_empty() {
        return Ok(Found::Some(ranking, unembedded));
    }
    // In the same transaction nothing can have changed.
    Ok(Found::All(show(conn, catalog, request, ranking.into_best())?.unwrap_or_default()))
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

/// What was found, as it is shown; `None` if something of it is no match any more.
fn show(
    conn: &mut SqliteConnection,
    catalog: &Catalog<'_>,
    request: &Search,
    best: Vec<Candidate>,
) -> Result<Option<Vec<Match>>, Failure> {
    let mut matches = Vec::with_capacity(best.len());
    for Candidate { playbook_id, version, confidence } in best {
        let found = catalog.exact(conn, &playbook_id, &version)?;
        let still = |Playbook { playbook, .. }: &Playbook| {
            let labels = &playbook.labels;
            playbook.is_latest
                && playbook.status == Status::Active
                && request.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let Some(playbook) = found.filter(still) else { return Ok(None) };
        matches.push(Match { playbook, confidence });
    }
    Ok(Some(matches))
}
