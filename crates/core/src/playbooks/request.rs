//! What a playbook catalog is asked and what it answers.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::Embedder;
use super::values::{
    Embedding, NewPlaybook, Playbook, PlaybookId, PlaybookVersion, Rate, Status, check_labels, check_text,
};
use crate::error::{Error, ErrorKind, Result};
use crate::text::{Limit, Text};

/// Versions to be stored, all or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// At least one version.
    pub versions: Vec<NewPlaybook>,
}

impl Put {
    /// The most versions of one call.
    pub const MAX_VERSIONS: usize = 1_000;

    /// Something to store, no version twice, at most one latest a playbook, and each [`NewPlaybook::validate`].
    pub fn validate(&self) -> Result<()> {
        if self.versions.is_empty() {
            return Err(Error::invalid("nothing to store: give at least one version of a playbook"));
        }
        if self.versions.len() > Self::MAX_VERSIONS {
            let found = self.versions.len() as u64;
            return Err(Error::too_large("the batch", found, Self::MAX_VERSIONS as u64, "versions"));
        }
        let (mut keys, mut latest) = (HashSet::new(), HashSet::new());
        for new in &self.versions {
            let place = format!("playbook {} {}", new.playbook_id, new.version);
            new.validate().map_err(|error| error.with("at", place.clone()))?;
            if !keys.insert((&new.playbook_id, &new.version)) {
                return Err(Error::invalid(format!("{place} stands twice in one batch")));
            }
            if new.is_latest && !latest.insert(&new.playbook_id) {
                return Err(Error::invalid(format!("playbook {} has two latest versions", new.playbook_id)));
            }
        }
        Ok(())
    }
}

/// The answer to a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutReport {
    /// How many were stored now.
    pub stored: usize,
    /// How many were stored before with equal content.
    pub repeated: usize,
}

/// What is to change in one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The playbook.
    pub playbook_id: PlaybookId,
    /// The version.
    pub version: PlaybookVersion,
    /// What.
    pub edit: Edit,
    /// By whom.
    pub by: Option<Text<255>>,
}

impl Change {
    /// `Invalid` for successes above executions, counts above [`Edit::MAX_COUNT`], a reason with NUL or of more than
    /// [`NewPlaybook::MAX_TEXT`] characters, and one given to a status that keeps none.
    pub fn validate(&self) -> Result<()> {
        match &self.edit {
            Edit::Figures { total, successful, .. } if successful > total => Err(Error::invalid(format!(
                "successful_executions is {successful}, at most total_executions ({total}) is allowed"
            ))),
            Edit::Figures { total, .. } if *total > Edit::MAX_COUNT => Err(Error::invalid(format!(
                "total_executions is {total}, at most {} is allowed",
                Edit::MAX_COUNT
            ))),
            Edit::Status(status @ (Status::Active | Status::Archived), Some(_)) => Err(Error::invalid(
                format!("a reason is given, but {status} keeps none; give it when disabling or deprecating"),
            )),
            Edit::Status(_, Some(reason)) => check_text("the reason", reason),
            _ => Ok(()),
        }
    }

    /// `NotFound`: the error for a version that is not stored.
    pub fn missing(&self) -> Error {
        let message = format!("version {} of playbook {} is not stored", self.version, self.playbook_id);
        Error::new(ErrorKind::NotFound, message)
    }
}

/// One change of lifecycle or figures.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// It is the latest from now on.
    MakeLatest,
    /// Another status, with the reason or notice for people.
    Status(Status, Option<String>),
    /// What was seen when it ran.
    Figures {
        /// Executions in all.
        total: u64,
        /// Of them with success.
        successful: u64,
        /// The share of success; `None`: not known.
        rate: Option<Rate>,
    },
    /// Its vector.
    Embedding(Option<Embedding>),
}

impl Edit {
    /// The most executions that can be counted.
    pub const MAX_COUNT: u64 = i64::MAX as u64;
}

/// Which version is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct GetPlaybook {
    /// The playbook.
    pub playbook_id: PlaybookId,
    /// Which of its versions.
    pub which: Lookup,
}

impl GetPlaybook {
    /// `Invalid` for a content hash that is not 64 hex digits in lower case.
    pub fn validate(&self) -> Result<()> {
        match &self.which {
            Lookup::Hash(hash) if !is_sha256(hash) => {
                Err(Error::invalid("the content hash is not a SHA-256 of 64 hex digits in lower case"))
            }
            _ => Ok(()),
        }
    }
}

fn is_sha256(hash: &str) -> bool {
    hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Which version of a playbook.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// The one marked latest.
    Latest,
    /// The one marked latest, if it is active.
    LatestActive,
    /// This one.
    Exact(PlaybookVersion),
    /// The highest version whose content has this SHA-256 (hex).
    Hash(String),
}

/// A page of the catalog.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ListPlaybooks {
    /// Only those of this status.
    pub status: Option<Status>,
    /// All of these labels with these values.
    pub labels: BTreeMap<String, String>,
    /// Only ids after this one (bytes), exclusive.
    pub after: Option<PlaybookId>,
    /// The most versions of the page.
    pub limit: Limit,
}

impl ListPlaybooks {
    /// `Invalid` or `TooLarge` for labels that no version can have.
    pub fn validate(&self) -> Result<()> {
        check_labels(&self.labels)
    }
}

/// A page of the versions of a playbook.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionsOf {
    /// The playbook.
    pub playbook_id: PlaybookId,
    /// Only versions below this one, exclusive.
    pub below: Option<PlaybookVersion>,
    /// The most versions of the page.
    pub limit: Limit,
}

impl VersionsOf {
    /// `NotFound`: the error for a playbook without a version.
    pub fn missing(&self) -> Error {
        Error::new(ErrorKind::NotFound, format!("no version of playbook {} is stored", self.playbook_id))
    }
}

/// A page of versions.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaybookPage {
    /// The versions.
    pub playbooks: Vec<Playbook>,
    /// Whether more follow; go on after the last one.
    pub more: bool,
}

/// What is searched for.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// Text, embedded by the request's embedder.
    Text(String),
    /// A vector.
    Vector(Embedding),
}

/// A search by meaning.
#[derive(Clone)]
pub struct Search {
    /// What is searched for.
    pub query: Query,
    /// Embeds the query and rows without a vector. Its model must be that of the stored vectors: the store cannot tell
    /// vectors of different models apart.
    pub embedder: Arc<dyn Embedder>,
    /// All of these labels with these values.
    pub labels: BTreeMap<String, String>,
    /// The lowest confidence wanted, 0 to 1.
    pub min_confidence: f64,
    /// The most results.
    pub max_results: Limit,
}

impl Search {
    /// `Invalid` for a confidence outside of 0 to 1 (NaN too), for text without a letter or digit, and, as `TooLarge`,
    /// for labels that no version can have.
    pub fn validate(&self) -> Result<()> {
        check_labels(&self.labels)?;
        if !(0.0..=1.0).contains(&self.min_confidence) {
            return Err(Error::invalid(format!(
                "min_confidence is {}, 0 to 1 is allowed",
                self.min_confidence
            )));
        }
        match &self.query {
            Query::Text(text) if !text.chars().any(char::is_alphanumeric) => {
                Err(Error::invalid("the query has no letter and no digit"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("model", &self.embedder.model())
            .field("labels", &self.labels)
            .field("min_confidence", &self.min_confidence)
            .field("max_results", &self.max_results)
            .finish_non_exhaustive()
    }
}

/// The answer to a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchResult {
    /// Best first.
    pub matches: Vec<Match>,
}

/// One playbook that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The playbook's latest version.
    pub playbook: Playbook,
    /// 0 to 1.
    pub confidence: f64,
}
