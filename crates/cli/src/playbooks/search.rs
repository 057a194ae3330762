//! `playbooks search`: the nearest in meaning, as far as words tell it.

use std::collections::BTreeMap;
use std::sync::Arc;

use changeover::PlaybookCatalog;
use changeover::playbooks::{HashingEmbedder, Query, Search as Request};
use serde::Serialize;

use crate::args::Search;
use crate::exit::{Failure, Status};
use crate::output::Out;

/// Before anything is asked of the database.
pub fn check(options: &Search) -> Result<(), Failure> {
    let mut keys: Vec<_> = options.labels.iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Failure::usage(format!(
            "--label {}: it is given twice, and a playbook has a label once; give it once\n  `changeover playbooks \
             search --help` tells more",
            pair[0]
        ))),
        None => Ok(()),
    }
}

/// A match, as programs read it.
#[derive(Serialize)]
struct Row<'a> {
    playbook_id: &'a str,
    version: &'a str,
    name: &'a str,
    description: &'a str,
    labels: &'a BTreeMap<String, String>,
    confidence: f64,
}

pub async fn search(
    catalog: &dyn PlaybookCatalog,
    options: Search,
    out: &mut Out,
) -> Result<Status, Failure> {
    let request = Request {
        query: Query::Text(options.text),
        embedder: Arc::new(HashingEmbedder),
        labels: options.labels.into_iter().collect(),
        min_confidence: options.min_confidence,
        max_results: options.max_results,
    };
    let found = catalog.search(request).await?;
    if out.is_json() {
        return found
            .matches
            .iter()
            .try_for_each(|found| {
                out.object(&Row {
                    playbook_id: found.playbook.playbook.playbook_id.as_str(),
                    version: found.playbook.playbook.version.as_str(),
                    name: found.playbook.playbook.name.as_str(),
                    description: &found.playbook.playbook.description,
                    labels: &found.playbook.playbook.labels,
                    confidence: found.confidence,
                })
            })
            .map(|()| Status::Done);
    }
    let rows: Vec<_> = found
        .matches
        .iter()
        .map(|found| {
            let playbook = &found.playbook.playbook;
            [
                format!("{:.4}", found.confidence),
                playbook.playbook_id.to_string(),
                playbook.version.to_string(),
                playbook.name.to_string(),
            ]
        })
        .collect();
    out.rows(["confidence", "playbook_id", "version", "name"], &rows)?;
    Ok(Status::Done)
}
