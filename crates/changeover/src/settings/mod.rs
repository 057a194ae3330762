//! Which backend serves which module, from the program, a file and the environment.
//!
//! A setting is text at a dotted key, with the place it came from. Layering is figment's; the checking is our own,
//! since figment stops at the first mistake and prints numeric secrets.
//!
//! ```
//! use changeover::PersistenceOptions;
//!
//! let options = PersistenceOptions::new()
//!     .with("persistence.default", "main")
//!     .with("backends.main.kind", "memory");
//! options.check(&changeover::registry())?;
//! # Ok::<(), changeover::Error>(())
//! ```

mod check;
mod effective;
#[cfg(feature = "settings")]
mod layers;
mod plan;
mod shadow;
#[cfg(test)]
#[cfg(feature = "settings")]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use changeover_core::{Registry, Result};

pub use effective::EffectiveSetting;
#[cfg(feature = "settings")]
pub use layers::Layers;
pub(crate) use plan::{BackendPlan, ModulePlan, Plan};
pub(crate) use shadow::ShadowPlan;

/// The settings as they were given, not yet checked: text by dotted key, like `backends.main.url`.
///
/// | key | meaning |
/// | --- | --- |
/// | `profile` | `development`, or `production`: every module must name its backend |
/// | `tenant` | the service's one tenant, `default` if nothing is said |
/// | `persistence.default` | the backend of modules without a key of their own |
/// | `persistence.MODULE` | the backend of a module; or `.backend` and `.namespace` below it |
/// | `backends.NAME.kind` | the kind of a backend, one of the registry |
/// | `backends.NAME.KEY` | what that kind of backend understands |
/// | `cutover.drill_within` | a run of a cutover is begun only after a drill that is younger, like `7d`; if absent, without one |
/// | `shadow.MODULE.with` | the backend that reads of the module are compared with before it moves there; `.share`, `.at_once`, `.within` |
///
/// Without any `persistence` and `backends` key everything runs on SQLite at `var/changeover.db`.
#[derive(Clone, Default)]
pub struct PersistenceOptions {
    entries: BTreeMap<String, Given>,
    /// What was wrong before there were keys: a file that cannot be read, a variable that is not text.
    problems: Vec<String>,
}

impl PersistenceOptions {
    /// No settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// The settings of this process: `changeover.toml` (or the file that `CHANGEOVER_CONFIG` names), and above it the
    /// variables `CHANGEOVER_…`. [`Layers`] adds further sources. Mistakes are told by [`PersistenceOptions::check`]
    /// and [`connect_with`](crate::connect_with).
    #[cfg(feature = "settings")]
    pub fn load() -> Self {
        Layers::of_process().load()
    }

    /// The same with `key` set by the program, whatever was there before.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let key = key.into();
        let within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.entries.retain(|other, _| !within(other, &key) && !within(&key, other));
        let given = Given { value: Value::Text(value.into()), source: Source::Program };
        self.entries.insert(key, given);
        self
    }

    /// Every mistake at once as one `Config` error: where it stands, what was found (values from the environment and
    /// secrets are hidden), what is allowed, what to do.
    pub fn check(&self, registry: &Registry) -> Result<()> {
        self.plan(registry).map(drop)
    }

    pub(crate) fn plan(&self, registry: &Registry) -> Result<Plan> {
        check::check(self, registry)
    }

    /// Every setting that holds, defaults included, with its source; secrets and whatever came from the environment
    /// hidden. `Config` with all mistakes if there are any.
    pub fn effective(&self, registry: &Registry) -> Result<Vec<EffectiveSetting>> {
        self.check(registry)?;
        Ok(effective::effective(self, registry))
    }

    /// A settings file with every key of every registered kind, its default and what it means.
    pub fn template(registry: &Registry) -> String {
        effective::template(registry)
    }

    /// The entries, or those of the built-in set-up if nothing names a module or a backend.
    fn entries(&self) -> BTreeMap<String, Given> {
        let mut entries = self.entries.clone();
        if self.is_built_in() {
            for (key, value) in BUILT_IN {
                let given = Given { value: Value::Text(value.to_owned()), source: Source::Default };
                entries.insert(key.to_owned(), given);
            }
        }
        entries
    }

    /// Not for settings that could not be read whole: what is missing may have named a backend.
    fn is_built_in(&self) -> bool {
        self.problems.is_empty()
            && !self.entries.keys().any(|key| {
                let section = key.split('.').next();
                section == Some("persistence") || section == Some("backends")
            })
    }
}

impl fmt::Debug for PersistenceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PersistenceOptions").field("keys", &self.entries.keys()).finish_non_exhaustive()
    }
}

const BUILT_IN: [(&str, &str); 3] = [
    ("persistence.default", "local"),
    ("backends.local.kind", "sqlite"),
    ("backends.local.path", "var/changeover.db"),
];

/// Said first if there are no settings.
const BUILT_IN_NOTICE: &str =
    "no settings: every module is kept in SQLite at var/changeover.db; name a backend in changeover.toml";

#[derive(Clone)]
struct Given {
    value: Value,
    source: Source,
}

/// A value as it was written, so that a number where text belongs can be told apart from text.
#[derive(Clone)]
#[cfg_attr(not(feature = "settings"), expect(dead_code, reason = "a program gives text only"))]
enum Value {
    Text(String),
    Number(String),
    Bool(bool),
    /// A list, an empty table: what no key allows.
    Other(&'static str),
}

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// A settings file.
    File(PathBuf),
    /// The environment variable of this name.
    Environment(String),
    /// [`PersistenceOptions::with`].
    Program,
    /// A provider that the program added, by its own name.
    Provider(String),
}

impl Source {
    /// Whether a value of this source may be shown: programs and files are read by whoever reads the message, the
    /// environment and providers are where secrets live.
    fn is_shown(&self) -> bool {
        matches!(self, Self::Default | Self::File(_) | Self::Program)
    }

    /// The source with the key, as mistakes name it.
    fn place(&self, key: &str) -> String {
        match self {
            Self::Environment(name) => format!("{name} (environment)"),
            other => format!("{other}: {key}"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Program => f.write_str("program"),
            Self::Provider(name) => f.write_str(name),
        }
    }
}
