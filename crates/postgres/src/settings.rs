//! What this backend can be told.

use std::time::Duration;

use changeover_core::{BackendSettings, Result, SettingKey, ValueKind};

use crate::url::{Target, with_database};

const fn key(key: &'static str, value: ValueKind, default: &'static str, doc: &'static str) -> SettingKey {
    SettingKey { key, value, default: Some(default), required: false, secret: false, doc }
}

/// Every key, its default, a sentence a key.
pub(crate) const KEYS: &[SettingKey] = &[
    SettingKey {
        key: "url",
        value: ValueKind::Text,
        default: None,
        required: true,
        secret: true,
        doc: "postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=/path/ca.pem",
    },
    SettingKey {
        key: "migrate_url",
        value: ValueKind::Text,
        default: None,
        required: false,
        secret: true,
        doc: "the same for a login that may change the schema; if absent, url",
    },
    key(
        "pooler",
        ValueKind::OneOf(&["none", "session", "transaction"]),
        "none",
        "whether url leads to the server itself, or to a connection pooler in session mode or in transaction mode",
    ),
    SettingKey {
        key: "listen_url",
        value: ValueKind::Text,
        default: None,
        required: false,
        secret: true,
        doc: "with pooler = transaction: the same past the pooler, for word of appends by other processes; if absent, \
              subscriptions look once a second",
    },
    key("pool.max_size", ValueKind::Integer { min: 1, max: 1_000 }, "10", "most connections in use at once"),
    key("pool.min_idle", ValueKind::Integer { min: 0, max: 1_000 }, "5", "connections kept open when idle"),
    key(
        "pool.connect_timeout",
        ValueKind::Duration,
        "30s",
        "longest wait for a connection, then the operation is Unavailable",
    ),
    key(
        "pool.idle_timeout",
        ValueKind::Duration,
        "10m",
        "idle connections above min_idle are closed after it",
    ),
    key("pool.max_lifetime", ValueKind::Duration, "30m", "connections are renewed after it"),
    key("command_timeout", ValueKind::Duration, "30s", "longest run of one statement, then it is a Timeout"),
    key(
        "shared_commits",
        ValueKind::Bool,
        "true",
        "appends of one module and tenant that wait for each other are committed together",
    ),
    key("hash_chain", ValueKind::Bool, "true", "audit records of one correlation id are chained by hash"),
    key("roles.owner", ValueKind::Text, "changeover_owner", "role that owns schemas and functions"),
    key("roles.app", ValueKind::Text, "changeover_app", "role the service acts as"),
    key(
        "roles.copier",
        ValueKind::Text,
        "changeover_copier",
        "role that a cutover sees the rows of all tenants by",
    ),
    SettingKey {
        key: "session.NAME",
        value: ValueKind::Text,
        default: None,
        required: false,
        secret: false,
        doc: "a connection setting of PostgreSQL's or of your own for every connection of the service, like \
              session.lock_timeout or session.app.unit",
    },
    key("migrate_on_start", ValueKind::Bool, "false", "migrate a module's schema when the module is opened"),
];

/// Connection settings that the contract rests on, each with what to do instead. A name that ends with a dot stands for
/// those that begin with it.
const OURS: &[(&str, &str)] = &[
    ("changeover.", "they are set by the store"),
    ("statement_timeout", "set command_timeout"),
    ("timezone", "every session is in UTC"),
    ("role", "set roles.app"),
    ("session_authorization", "name the login in url"),
    ("application_name", "set application_name in url"),
    ("search_path", "write the names of your own tables with their schema"),
    ("row_security", "it keeps tenants apart"),
    ("session_replication_role", "it would turn the triggers off that keep records unchanged"),
    ("synchronous_commit", "what was answered has to survive a crash"),
    ("default_transaction_isolation", "the write functions need read committed"),
    ("default_transaction_read_only", "the store writes"),
    ("default_transaction_deferrable", "the store writes"),
    ("transaction_isolation", "the write functions need read committed"),
    ("transaction_read_only", "the store writes"),
    ("transaction_deferrable", "the store writes"),
    ("client_encoding", "text is UTF-8"),
    ("standard_conforming_strings", "statements are written for its default"),
    ("check_function_bodies", "it concerns migrations"),
];

/// Why a connection setting cannot be given.
fn refused(name: &str) -> Option<String> {
    let is_word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    if !name.split('.').all(is_word) || name.len() > 63 {
        return Some("is no name; allowed are 1 to 63 of a-z, 0-9 and _, with dots between words".to_owned());
    }
    let ours = OURS.iter().find(|(ours, _)| name == *ours || (ours.ends_with('.') && name.starts_with(ours)));
    ours.map(|(_, instead)| format!("belongs to the backend; {instead}"))
}

/// The settings, checked and typed.
#[derive(Debug)]
pub(crate) struct Settings {
    pub name: String,
    pub target: Target,
    pub pooler: Pooler,
    /// `None`: there is no way past the pooler.
    pub migrate_target: Option<Target>,
    /// Where word of appends comes from; `None`: there is no way past the pooler.
    pub listen_target: Option<Target>,
    pub max_size: u32,
    pub min_idle: u32,
    pub connect_timeout: Duration,
    pub idle_timeout: Duration,
    pub max_lifetime: Duration,
    pub command_timeout: Duration,
    pub shared_commits: bool,
    /// Connection settings of the user's own, by name.
    pub session: Vec<(String, String)>,
    pub hash_chain: bool,
    pub roles: Roles,
    pub migrate_on_start: bool,
}

/// What stands between this program and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooler {
    /// Nothing that gives one server's connection to several clients.
    None,
    /// A client keeps a server's connection for as long as it stays.
    Session,
    /// For a transaction: each may run on another connection, with whatever session state that has.
    Transaction,
}

/// The names of our roles in this cluster.
#[derive(Clone, Debug)]
pub(crate) struct Roles {
    pub owner: String,
    pub app: String,
    pub copier: String,
}

impl Settings {
    pub(crate) fn read(given: &BackendSettings) -> Result<Self> {
        let mut problems: Vec<String> = given
            .problems(KEYS)
            .into_iter()
            .map(|problem| format!("backends.{}.{problem}", given.name()))
            .collect();
        let mut target = |key: &str| match Target::parse(given.text(KEYS, key).unwrap_or_default()) {
            Ok(target) => Some(target),
            Err(problem) => {
                if given.text(KEYS, key).is_some_and(|text| !text.is_empty()) {
                    problems.push(format!("backends.{}.{key}: {problem}", given.name()));
                }
                None
            }
        };
        let found = target("url");
        let mut direct = |key| if given.text(KEYS, key).is_some() { target(key) } else { None };
        let (migrate, listen) = (direct("migrate_url"), direct("listen_url"));
        let pooler = match given.text(KEYS, "pooler") {
            Some("transaction") => Pooler::Transaction,
            Some("session") => Pooler::Session,
            _ => Pooler::None,
        };
        if pooler == Pooler::Transaction {
            if migrate.is_none() && given.bool(KEYS, "migrate_on_start").unwrap_or(false) {
                problems.push(format!(
                    "backends.{}.migrate_on_start: a pooler in transaction mode carries no migrations; set migrate_url to \
                     an address of the server itself",
                    given.name()
                ));
            }
        } else if listen.is_some() {
            problems.push(format!(
                "backends.{}.listen_url: has a use only with pooler = \"transaction\"; remove it",
                given.name()
            ));
        }
        for role in ["roles.owner", "roles.app", "roles.copier"] {
            let name = given.text(KEYS, role).unwrap_or_default();
            // Rendered into the migrations as it stands.
            if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                || !name.starts_with(|c: char| c.is_ascii_lowercase())
                || name.len() > 63
            {
                problems.push(format!(
                    "backends.{}.{role}: found {name:?}, allowed are 1 to 63 of a-z, 0-9 and _, a letter first",
                    given.name()
                ));
            }
        }
        for (name, _) in given.below("session") {
            if let Some(why) = refused(name) {
                problems.push(format!("backends.{}.session.{name}: {why}", given.name()));
            }
        }
        let (Some(target), true) = (found, problems.is_empty()) else {
            return Err(changeover_core::Error::new(changeover_core::ErrorKind::Config, problems.join("\n")));
        };
        let past_pooler = (pooler != Pooler::Transaction).then(|| target.clone());
        let max_size = u32::try_from(given.integer(KEYS, "pool.max_size")?).unwrap_or(u32::MAX);
        let role = |key: &str| given.text(KEYS, key).unwrap_or_default().to_owned();
        Ok(Self {
            name: given.name().to_owned(),
            target,
            pooler,
            migrate_target: migrate.or_else(|| past_pooler.clone()),
            listen_target: listen.or(past_pooler),
            max_size,
            // A small pool is a plain wish; its default of idle connections follows it.
            min_idle: u32::try_from(given.integer(KEYS, "pool.min_idle")?).unwrap_or(u32::MAX).min(max_size),
            connect_timeout: given.duration(KEYS, "pool.connect_timeout")?,
            idle_timeout: given.duration(KEYS, "pool.idle_timeout")?,
            max_lifetime: given.duration(KEYS, "pool.max_lifetime")?,
            command_timeout: given.duration(KEYS, "command_timeout")?,
            shared_commits: given.bool(KEYS, "shared_commits")?,
            session: given
                .below("session")
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            hash_chain: given.bool(KEYS, "hash_chain")?,
            roles: Roles { owner: role("roles.owner"), app: role("roles.app"), copier: role("roles.copier") },
            migrate_on_start: given.bool(KEYS, "migrate_on_start")?,
        })
    }
}

/// The same for another database of the server. What a pooler hands on it knows by name, so it is gone past where there is a way.
pub(crate) fn elsewhere(given: &BackendSettings, database: &str) -> Result<BackendSettings> {
    Settings::read(given)?;
    let there = |url: &str| with_database(url, database).map_err(|problem| given.bad("url", &problem));
    let direct = given.text(KEYS, "migrate_url");
    let is_pooled = given.text(KEYS, "pooler") != Some("none");
    let past = direct.filter(|_| is_pooled);
    let mut made = BackendSettings::new(given.name());
    for known in KEYS.iter().filter(|known| !matches!(known.key, "session.NAME" | "listen_url" | "pooler")) {
        if let Some(value) = given.text(KEYS, known.key) {
            made = made.with(known.key, value);
        }
    }
    for (name, value) in given.below("session") {
        made = made.with(&format!("session.{name}"), value);
    }
    if let Some(direct) = direct {
        made = made.with("migrate_url", there(direct)?);
    }
    if past.is_none() {
        made = made.with("pooler", given.text(KEYS, "pooler").unwrap_or("none"));
    }
    let url = past.or(given.text(KEYS, "url")).unwrap_or_default();
    Ok(made.with("url", there(url)?))
}

#[cfg(test)]
mod tests {
    use changeover_core::ErrorKind;

    use super::*;

    // S2-CFG-004, X8: every mistake at once, values of secrets hidden.
    #[test]
    fn all_mistakes_are_named_at_once_without_the_url() {
        let given = BackendSettings::new("main")
            .with("url", "postgres://u:secret@h/d?sslmode=perhaps")
            .with("roles.app", "App Role")
            .with("pool.max_size", "0")
            .with("pol", "1");
        let error = Settings::read(&given).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        for part in ["backends.main.url", "sslmode", "roles.app", "pool.max_size", "pol: unknown key"] {
            assert!(error.message().contains(part), "{part}: {}", error.message());
        }
        assert!(!error.message().contains("secret"));
    }

    // S2-TEN-007: a module's own connection settings, but none that the contract rests on.
    #[test]
    fn connection_settings_that_are_ours_are_refused() {
        let given = |names: &[&str]| {
            let url = BackendSettings::new("main").with("url", "postgres://u@h/d");
            Settings::read(&names.iter().fold(url, |all, name| all.with(&format!("session.{name}"), "x")))
        };
        let good = given(&["lock_timeout", "app.unit", "work_mem"]).unwrap();
        assert_eq!(good.session.len(), 3);
        for bad in [
            "changeover.tenant_id",
            "role",
            "timezone",
            "synchronous_commit",
            "search_path",
            "TimeZone",
            "a b",
            "a..b",
        ] {
            let error = given(&["lock_timeout", bad]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().starts_with(&format!("backends.main.session.{bad}: ")), "{error}");
            assert_eq!(error.message().lines().count(), 1, "{error}");
        }
    }

    // X-TEN-009: what a pooler in transaction mode cannot carry goes past it, or is refused.
    #[test]
    fn migrations_and_listening_go_past_a_pooler_in_transaction_mode() {
        let url = || BackendSettings::new("main").with("url", "postgres://u@pooler/d");
        let direct = Settings::read(&url()).unwrap();
        assert!(direct.migrate_target.is_some() && direct.listen_target.is_some());
        let pooled = Settings::read(&url().with("pooler", "transaction")).unwrap();
        assert_eq!(pooled.pooler, Pooler::Transaction);
        assert!(pooled.migrate_target.is_none() && pooled.listen_target.is_none());
        let past = url().with("pooler", "transaction").with("migrate_url", "postgres://o@server/d");
        let past = Settings::read(&past.with("listen_url", "postgres://u@server/d")).unwrap();
        let host = |target: Option<Target>| target.map(|target| target.host);
        assert_eq!(host(past.migrate_target).as_deref(), Some("server"));
        assert_eq!(host(past.listen_target).as_deref(), Some("server"));

        for (bad, key) in [
            (url().with("pooler", "statement"), "pooler"),
            (url().with("pooler", "transaction").with("migrate_on_start", "true"), "migrate_on_start"),
            (url().with("listen_url", "postgres://u:secret@server/d"), "listen_url"),
        ] {
            let error = Settings::read(&bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().starts_with(&format!("backends.main.{key}: ")), "{error}");
            assert_eq!(error.message().lines().count(), 1, "{error}");
            assert!(!error.message().contains("secret"), "{error}");
        }
    }

    // A drill's database: reached as the real one, past a pooler where there is a way.
    #[test]
    fn another_database_is_reached_as_this_one_and_past_a_pooler() {
        let url = |url: &str| BackendSettings::new("main").with("url", url);
        let given =
            url("postgres://u:secret@h/d").with("pool.max_size", "3").with("session.lock_timeout", "1s");
        let there = Settings::read(&elsewhere(&given, "x").unwrap()).unwrap();
        assert_eq!((there.target.database.as_str(), there.max_size), ("x", 3));
        assert_eq!(there.session, [("lock_timeout".to_owned(), "1s".to_owned())]);
        let pooled = url("postgres://u@pooler/d")
            .with("pooler", "transaction")
            .with("migrate_url", "postgres://o@server/d?sslmode=disable")
            .with("listen_url", "postgres://u@server/d");
        let there = Settings::read(&elsewhere(&pooled, "x").unwrap()).unwrap();
        let target = |it: &Target| (it.host.clone(), it.user.clone(), it.database.clone());
        let server = ("server".to_owned(), "o".to_owned(), "x".to_owned());
        assert_eq!(target(&there.target), server);
        assert_eq!(there.migrate_target.as_ref().map(target), Some(server));
        assert_eq!(there.pooler, Pooler::None);
        let session = url("postgres://u@pooler/d").with("pooler", "session");
        assert_eq!(Settings::read(&elsewhere(&session, "x").unwrap()).unwrap().pooler, Pooler::Session);
    }

    // S0-CFG-006: the defaults.
    #[test]
    fn defaults_are_those_of_the_requirements() {
        let found = Settings::read(&BackendSettings::new("main").with("url", "postgres://u@h/d")).unwrap();
        assert_eq!((found.max_size, found.min_idle), (10, 5));
        assert_eq!(found.connect_timeout, Duration::from_secs(30));
        assert_eq!(found.idle_timeout, Duration::from_mins(10));
        assert_eq!(found.max_lifetime, Duration::from_mins(30));
        assert_eq!(found.command_timeout, Duration::from_secs(30));
        assert!(found.shared_commits);
        assert_eq!(found.pooler, Pooler::None);
        let small = BackendSettings::new("main").with("url", "postgres://u@h/d").with("pool.max_size", "2");
        assert_eq!(Settings::read(&small).unwrap().min_idle, 2);
    }
}
