//! Searches that find, count or order wrongly.

use std::collections::BTreeMap;

use async_trait::async_trait;
use changeover_conformance::Subject;
use changeover_core::playbooks::{
    Embedding, HashingEmbedder, ListPlaybooks, Match, Query, Search, SearchResult, Status, embedding_text,
};
use changeover_core::{ErrorKind, Limit, PlaybookCatalog, Result};

use super::{Flaw, subject};

pub(super) fn subjects() -> Vec<Subject> {
    vec![
        subject::<ThresholdExclusive>(),
        subject::<ExactOne>(),
        subject::<TiesBackwards>(),
        subject::<FirstLabelOnly>(),
        subject::<NegativeConfidence>(),
        subject::<WithoutVectorLost>(),
        subject::<ZeroVectorLost>(),
        subject::<DisabledOffered>(),
        subject::<EndsAt40>(),
        subject::<FiltersLate>(),
        subject::<FailureSwallowed>(),
    ]
}

fn everything(request: &Search) -> Search {
    // Cannot fail: it is the largest limit.
    let max_results = Limit::new(i64::from(Limit::MAX)).expect("a limit");
    Search { max_results, min_confidence: 0.0, ..request.clone() }
}

/// The best of these, as they should be ordered.
fn best(mut matches: Vec<Match>, request: &Search) -> SearchResult {
    matches.sort_by(|a, b| {
        let ids = (&a.playbook.playbook.playbook_id, &b.playbook.playbook.playbook_id);
        b.confidence.total_cmp(&a.confidence).then_with(|| ids.0.cmp(ids.1))
    });
    matches.retain(|found| found.confidence >= request.min_confidence.min(1.0 - 1e-6));
    matches.truncate(request.max_results.get() as usize);
    SearchResult { matches }
}

#[derive(Default)]
struct ThresholdExclusive;

#[async_trait]
impl Flaw for ThresholdExclusive {
    const NAME: &'static str = "what is at the threshold is dropped";

    async fn search(&self, catalog: &dyn PlaybookCatalog, request: Search) -> Result<SearchResult> {
        let min = request.min_confidence;
        let mut result = catalog.search(request).await?;
        result.matches.retain(|found| found.confidence > min || min >= 1.0);
        Ok(result)
    }
}

#[derive(Default)]
struct ExactOne;

#[async_trait]
impl Flaw for ExactOne {
    const NAME: &'static str = "a threshold of 1 finds only what rounds to 1 exactly";

    async fn search(&self, catalog: &dyn PlaybookCatalog, request: Search) -> Result<SearchResult> {
        let min = request.min_confidence;
        let mut result = catalog.search(request).await?;
        result.matches.retain(|found| found.confidence >= min);
        Ok(result)
    }
}

#[derive(Default)]
struct TiesBackwards;

#[async_trait]
impl Flaw for TiesBackwards {
    const NAME: &'static str = "equal confidence is ordered by id backwards";

    async fn search(&self, catalog: &dyn PlaybookCatalog, request: Search) -> Result<SearchResult> {
        request.validate()?;
        let mut matches = catalog.search(everything(&request)).await?.matches;
        matches.reverse();
        // Stable: equals stay as they are now.
        matches.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        matches.retain(|found| found.confidence >= request.min_confidence.min(1.0 - 1e-6));
        matches.truncate(request.max_results.get() as usize);
        Ok(SearchResult { matches })
    }
}

#[derive(Default)]
struct FirstLabelOnly;

#[async_trait]
impl Flaw for FirstLabelOnly {
    const NAME: &'static str = "of the labels asked for only the first counts in a search";

    async fn search(&self, catalog: &dyn PlaybookCatalog, mut request: Search) -> Result<SearchResult> {
        request.validate()?;
        while request.labels.len() > 1 {
            request.labels.pop_last();
        }
        catalog.search(request).await
    }
}

#[derive(Default)]
struct NegativeConfidence;

#[async_trait]
impl Flaw for NegativeConfidence {
    const NAME: &'static str = "confidence is negative for opposite vectors";

    async fn search(&self, catalog: &dyn PlaybookCatalog, request: Search) -> Result<SearchResult> {
        let mut result = catalog.search(request.clone()).await?;
        let Query::Vector(query) = &request.query else { return Ok(result) };
        for found in &mut result.matches {
            if let Some(own) = &found.playbook.playbook.embedding {
                let both = query.as_slice().iter().zip(own.as_slice());
                let dot: f64 = both.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                found.confidence = if dot < -1e-9 { -0.5 } else { found.confidence };
            }
        }
        Ok(result)
    }
}

#[derive(Default)]
struct WithoutVectorLost;

#[async_trait]
impl Flaw for WithoutVectorLost {
    const NAME: &'static str = "versions without a vector are not found";

    async fn search(&self, catalog: &dyn PlaybookCatalog, request: Search) -> Result<SearchResult> {
        request.validate()?;
        let mut matches = catalog.search(everything(&request)).await?.matches;
        matches.retain(|found| found.playbook.playbook.embedding.is_some());
        Ok(best(matches, &request))
    }
}

#[derive(Default)]
struct ZeroVectorLost;

#[async_trait]
impl Flaw for ZeroVectorLost {
    const NAME: &'static str = "versions with a vector of zeros are not found";

    async fn search(&self, catalog: &dyn PlaybookCatalog, request: Search) -> Result<SearchResult> {
        let zero = |vector: &Embedding| vector.as_slice().iter().all(|number| *number == 0.0);
        request.validate()?;
        let mut matches = catalog.search(everything(&request)).await?.matches;
        matches.retain(|found| !found.playbook.playbook.embedding.as_ref().is_some_and(zero));
        Ok(best(matches, &request))
    }
}

#[derive(Default)]
struct DisabledOffered;

#[async_trait]
impl Flaw for DisabledOffered {
    const NAME: &'static str = "a disabled latest version is offered";

    async fn search(&self, catalog: &dyn PlaybookCatalog, request: Search) -> Result<SearchResult> {
        request.validate()?;
        let mut matches = catalog.search(everything(&request)).await?.matches;
        let query = match &request.query {
            Query::Text(text) => HashingEmbedder::vector(text),
            Query::Vector(vector) => vector.clone(),
        };
        let status = Some(Status::Disabled);
        let asked = ListPlaybooks { status, labels: request.labels.clone(), ..ListPlaybooks::default() };
        for playbook in catalog.list(asked).await?.playbooks {
            let own = playbook.playbook.embedding.clone();
            let own = own.unwrap_or_else(|| HashingEmbedder::vector(&embedding_text(&playbook.playbook)));
            matches.push(Match { confidence: query.confidence(&own), playbook });
        }
        Ok(best(matches, &request))
    }
}

#[derive(Default)]
struct EndsAt40;

#[async_trait]
impl Flaw for EndsAt40 {
    const NAME: &'static str = "a search ends at 40 results";

    async fn search(&self, catalog: &dyn PlaybookCatalog, request: Search) -> Result<SearchResult> {
        let mut result = catalog.search(request).await?;
        result.matches.truncate(40);
        Ok(result)
    }
}

#[derive(Default)]
struct FiltersLate;

#[async_trait]
impl Flaw for FiltersLate {
    const NAME: &'static str = "labels are asked for after the nearest 40 were found";

    async fn search(&self, catalog: &dyn PlaybookCatalog, request: Search) -> Result<SearchResult> {
        request.validate()?;
        if request.labels.is_empty() {
            return catalog.search(request).await;
        }
        let near = Search { labels: BTreeMap::new(), ..everything(&request) };
        let near = catalog.search(near).await?.matches.into_iter().take(40);
        let has = |own: &BTreeMap<String, String>| {
            request.labels.iter().all(|(key, value)| own.get(key) == Some(value))
        };
        Ok(best(near.filter(|found| has(&found.playbook.playbook.labels)).collect(), &request))
    }
}

#[derive(Default)]
struct FailureSwallowed;

#[async_trait]
impl Flaw for FailureSwallowed {
    const NAME: &'static str = "where the embedder fails nothing is found";

    async fn search(&self, catalog: &dyn PlaybookCatalog, request: Search) -> Result<SearchResult> {
        match catalog.search(request).await {
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unexpected) => {
                Ok(SearchResult { matches: Vec::new() })
            }
            other => other,
        }
    }
}
