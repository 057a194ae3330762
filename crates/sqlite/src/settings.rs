//! The keys of `[backends.NAME]` with `kind = "sqlite"`.

use std::path::PathBuf;
use std::time::Duration;

use changeover_core::{BackendSettings, ErrorKind, Result, SettingKey, TenantId, ValueKind};

/// Every key, its default and what it is for.
pub(crate) const KEYS: &[SettingKey] = &[
    key("path", ValueKind::Text, None, "the database file"),
    key("tenant", ValueKind::Text, Some("default"), "the one tenant that an adopted file belongs to"),
    key("create", ValueKind::Bool, Some("true"), "whether a missing file, and its folder, is made"),
    key(
        "migrate_on_start",
        ValueKind::Bool,
        Some("true"),
        "whether the schema is brought up to date when a module is opened",
    ),
    key("shared_commits", ValueKind::Bool, Some("true"), "whether concurrent writes share a transaction"),
    key(
        "hash_chain",
        ValueKind::Bool,
        Some("true"),
        "whether audit events of one correlation id are chained by hash; an adopted file has no room for it",
    ),
    key(
        "epoch_times",
        ValueKind::OneOf(&["refuse", "seconds", "milliseconds", "by_size"]),
        Some("refuse"),
        "what a number means that an old program stored as the time of an audit event; by_size: milliseconds from \
         100000000000 on, seconds below",
    ),
    key(
        "synchronous",
        ValueKind::OneOf(&["full", "normal"]),
        Some("full"),
        "full: a commit survives a power cut; normal: the last ones may not",
    ),
    key(
        "busy_timeout",
        ValueKind::Duration,
        Some("5s"),
        "how long a write waits for writers of other processes",
    ),
    key("pool.readers", ValueKind::Integer { min: 1, max: 64 }, Some("4"), "how many connections read"),
    key(
        "pool.connect_timeout",
        ValueKind::Duration,
        Some("30s"),
        "how long an operation waits for a connection",
    ),
];

const fn key(
    key: &'static str,
    value: ValueKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> SettingKey {
    SettingKey { key, value, default, required: default.is_none(), secret: false, doc }
}

/// What a number means where an adopted file should hold a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Epoch {
    Refuse,
    Seconds,
    Milliseconds,
    BySize,
}

/// The settings, checked.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub(crate) struct Options {
    /// The name of the backend, for messages.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) tenant: TenantId,
    pub(crate) create: bool,
    pub(crate) migrate_on_start: bool,
    pub(crate) shared_commits: bool,
    pub(crate) hash_chain: bool,
    pub(crate) epoch_times: Epoch,
    pub(crate) synchronous: String,
    pub(crate) busy_timeout: Duration,
    pub(crate) readers: u32,
    pub(crate) connect_timeout: Duration,
}

impl Options {
    /// All mistakes at once, as `Config`.
    pub(crate) fn read(settings: &BackendSettings) -> Result<Self> {
        let mut problems = settings.problems(KEYS);
        let mut refuse = |key: &str, problem: String| problems.push(format!("{key}: {problem}"));
        let path = settings.text(KEYS, "path").unwrap_or_default();
        if path.starts_with(':') || path.starts_with("file:") {
            refuse(
                "path",
                "found a name with a meaning of its own in SQLite, allowed is the path of a file; for a store in \
                 memory use kind = \"memory\""
                    .to_owned(),
            );
        }
        let tenant = TenantId::new(settings.text(KEYS, "tenant").unwrap_or_default());
        if let (Err(error), Some(_)) =
            (&tenant, settings.text(KEYS, "tenant").filter(|text| !text.is_empty()))
        {
            refuse("tenant", error.message().to_owned());
        }
        if let (Ok(busy), Ok(acquire)) =
            (settings.duration(KEYS, "busy_timeout"), settings.duration(KEYS, "pool.connect_timeout"))
            && busy >= acquire
        {
            refuse(
                "busy_timeout",
                format!(
                    "found {busy:?}, allowed is less than pool.connect_timeout, {acquire:?}, or waiting \
                         operations fail before the one that is in their way"
                ),
            );
        }
        if !problems.is_empty() {
            let lines: Vec<_> =
                problems.iter().map(|problem| format!("backends.{}.{problem}", settings.name())).collect();
            return Err(changeover_core::Error::new(ErrorKind::Config, lines.join("\n")));
        }
        let readers = settings.integer(KEYS, "pool.readers")?;
        Ok(Self {
            name: settings.name().to_owned(),
            path: PathBuf::from(path),
            tenant: tenant?,
            create: settings.bool(KEYS, "create")?,
            migrate_on_start: settings.bool(KEYS, "migrate_on_start")?,
            shared_commits: settings.bool(KEYS, "shared_commits")?,
            hash_chain: settings.bool(KEYS, "hash_chain")?,
            epoch_times: match settings.text(KEYS, "epoch_times") {
                Some("seconds") => Epoch::Seconds,
                Some("milliseconds") => Epoch::Milliseconds,
                Some("by_size") => Epoch::BySize,
                _ => Epoch::Refuse,
            },
            synchronous: settings.text(KEYS, "synchronous").unwrap_or("full").to_owned(),
            busy_timeout: settings.duration(KEYS, "busy_timeout")?,
            readers: u32::try_from(readers).map_err(|_| settings.bad("pool.readers", "is negative"))?,
            connect_timeout: settings.duration(KEYS, "pool.connect_timeout")?,
        })
    }
}
