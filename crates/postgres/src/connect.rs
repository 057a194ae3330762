//! Opens connections and sets their session up, the same for every use: the pool, the user's transactions, LISTEN and
//! migrations.
//!
//! Row security protects nobody from a login that may bypass it. Where the login is a superuser, has BYPASSRLS or may
//! act as the owner, the session steps down to the application's role before anything else is asked.

use std::time::Duration;

use changeover_core::{Error, ErrorKind, Result};
use secrecy::ExposeSecret;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, SimpleQueryMessage, Socket};

use crate::classify;
use crate::pooler::Around;
use crate::settings::{Pooler, Roles, Settings};
use crate::tls::{MakeTls, connector};
use crate::url::{SslMode, Target};

/// The oldest major version of a server that will do.
pub(crate) const OLDEST: u32 = 16;

/// The connection's own half, to be driven by somebody.
pub(crate) type Driver = tokio_postgres::Connection<Socket, <MakeTls as MakeTlsConnect<Socket>>::Stream>;

/// Makes connections of one backend.
pub(crate) struct Connector {
    config: Config,
    tls: MakeTls,
    session: String,
    /// Connection settings of the user's own.
    own: Vec<(String, String)>,
    /// Around every statement, where there is no session of ours.
    around: Option<Around>,
    /// The setting that says where to connect, if a pooler may not be there.
    direct: Option<&'static str>,
    pub command_timeout: Duration,
    /// [`OLDEST`], but in a test.
    pub oldest: u32,
}

impl Connector {
    /// For the service.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let millis = settings.command_timeout.as_millis();
        let Roles { owner, app, .. } = &settings.roles;
        // The role names are checked words.
        let session = format!(
            "SET statement_timeout = {millis}; SET TimeZone = 'UTC'; \
             SELECT pg_catalog.set_config('role', '{app}', false) FROM pg_catalog.pg_roles AS me \
              WHERE me.rolname = session_user \
                AND EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{app}') \
                AND (me.rolsuper OR me.rolbypassrls OR EXISTS (SELECT FROM pg_catalog.pg_roles AS o \
                     WHERE o.rolname = '{owner}' AND pg_catalog.pg_has_role(me.oid, o.oid, 'MEMBER'))); \
             SELECT (EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{app}'))::text, {DIRECT}"
        );
        let direct = (settings.pooler == Pooler::None).then_some("url");
        let made = Self::make(&settings.target, session, settings.command_timeout, direct)?;
        let around = (settings.pooler == Pooler::Transaction).then(|| Around::new(settings));
        Ok(Self { own: settings.session.clone(), around, ..made })
    }

    /// For migrations: the login as it is, statements as long as they need.
    pub(crate) fn for_migrations(settings: &Settings) -> Result<Self> {
        let session = format!("SET statement_timeout = 0; SET TimeZone = 'UTC'; SELECT 'true', {DIRECT}");
        let target = settings.migrate_target.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "a pooler in transaction mode carries no migrations; set migrate_url to an address of the server itself",
            )
        })?;
        let direct = (settings.pooler != Pooler::Session).then_some("migrate_url");
        Self::make(target, session, Duration::MAX, direct)
    }

    /// For cutovers: acts as the owner, prints values in one way, waits for locks only a while, since others wait behind it,
    /// and is soon ended by the server where nobody is at its other end any more.
    pub(crate) fn for_cutover(settings: &Settings, module: &str) -> Result<Self> {
        let owner = &settings.roles.owner;
        let session = format!(
            "SET statement_timeout = 0; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '1min'; \
             SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; \
             SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; \
             SET extra_float_digits = 1; SET synchronous_commit = on; \
             SET default_transaction_isolation = 'read committed'; \
             SELECT pg_catalog.set_config('role', '{owner}', false) FROM pg_catalog.pg_roles WHERE rolname = '{owner}'; \
             SELECT 'true', {DIRECT}"
        );
        let target = settings.migrate_target.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "a pooler in transaction mode carries no cutover; set migrate_url to an address of the server itself",
            )
        })?;
        let direct = (settings.pooler != Pooler::Session).then_some("migrate_url");
        let mut made = Self::make(target, session, Duration::MAX, direct)?;
        made.config
            .application_name(format!("changeover cutover {module}"))
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3);
        Ok(made)
    }

    /// For word of appends; `None` if there is no way past the pooler.
    pub(crate) fn for_listening(settings: &Settings) -> Result<Option<Self>> {
        let Some(target) = &settings.listen_target else { return Ok(None) };
        let direct = (settings.pooler != Pooler::Session).then_some("listen_url");
        Self::make(target, format!("SELECT 'true', {DIRECT}"), settings.command_timeout, direct).map(Some)
    }

    fn make(
        target: &Target,
        session: String,
        command_timeout: Duration,
        direct: Option<&'static str>,
    ) -> Result<Self> {
        let mut config = Config::new();
        config
            .host(&target.host)
            .port(target.port)
            .user(&target.user)
            .dbname(&target.database)
            .application_name(&target.application_name)
            .connect_timeout(target.connect_timeout)
            .ssl_mode(match target.tls.mode {
                SslMode::Disable => tokio_postgres::config::SslMode::Disable,
                SslMode::Prefer if target.is_socket() => tokio_postgres::config::SslMode::Disable,
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                    tokio_postgres::config::SslMode::Require
                }
            });
        if let Some(password) = &target.password {
            config.password(password.expose_secret());
        }
        if direct.is_some() {
            config.options("-c changeover.direct=true");
        }
        Ok(Self {
            config,
            tls: connector(&target.tls)?,
            session,
            own: Vec::new(),
            around: None,
            direct,
            command_timeout,
            oldest: OLDEST,
        })
    }

    /// A connection to a server that will do, and its driver, session not yet set up.
    pub(crate) async fn raw(&self) -> Result<(Client, Driver)> {
        let (client, driver) =
            self.config.connect(self.tls.clone()).await.map_err(|error| self.refused(&error))?;
        // Every server says it as it lets a client in, so looking costs nothing.
        check_version(driver.parameter("server_version").unwrap_or_default(), self.oldest)?;
        Ok((client, driver))
    }

    /// A connection that drives itself, with its session set up. Also says whether the application's role was there to
    /// step down to; where it was not, the connection serves this once.
    pub(crate) async fn client(&self) -> Result<(Client, bool)> {
        let (client, driver) = self.raw().await?;
        tokio::spawn(async move {
            if driver.await.is_err() {
                tracing::debug!("a connection to the database ended with an error");
            }
        });
        if let Some(around) = &self.around {
            let with_role = around.check(&client).await?;
            return Ok((client, with_role));
        }
        let answer =
            client.simple_query(&self.session).await.map_err(|error| classify::read_error(&error))?;
        let last = answer.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((row.get(0) == Some("true"), row.get(1) == Some("true"))),
            _ => None,
        });
        let (with_role, is_direct) = last.unwrap_or_default();
        if let (Some(key), false) = (self.direct, is_direct) {
            return Err(behind_a_pooler(key));
        }
        for (name, value) in &self.own {
            let bound: [(&(dyn ToSql + Sync), Type); 2] = [(name, Type::TEXT), (value, Type::TEXT)];
            let set = client.query_typed(SET_OWN, &bound).await;
            set.map_err(|error| not_set(name, classify::read_error(&error)))?;
        }
        Ok((client, with_role))
    }

    /// What goes around every statement, where there is no session of ours.
    pub(crate) fn around(&self) -> Option<&Around> {
        self.around.as_ref()
    }

    /// The statements that set a session up.
    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    /// Connection settings of the user's own, by name.
    pub(crate) fn own(&self) -> &[(String, String)] {
        &self.own
    }

    /// Why no connection was had. What the server said is kept, what the network said is told by its kind.
    fn refused(&self, error: &tokio_postgres::Error) -> Error {
        match (self.direct, error.code()) {
            // Poolers know few start-up options and refuse the others so; the server has no quarrel with ours.
            (Some(key), Some(&SqlState::PROTOCOL_VIOLATION)) => behind_a_pooler(key),
            _ => refused(error),
        }
    }

    /// For cancelling a statement.
    pub(crate) fn tls(&self) -> MakeTls {
        self.tls.clone()
    }
}

/// The start-up option that a server takes and a pooler refuses or forgets, read back.
const DIRECT: &str = "pg_catalog.current_setting('changeover.direct', true)";

fn behind_a_pooler(key: &str) -> Error {
    let advice = match key {
        "url" => {
            "set pooler = \"transaction\", or pooler = \"session\" if it leaves each client one connection of the server \
             for as long as the client stays"
        }
        _ => "it has to be an address of the server itself",
    };
    Error::new(ErrorKind::Config, format!("{key} leads to a connection pooler: {advice}"))
}

/// Sets one connection setting of the user's own.
pub(crate) const SET_OWN: &str = "SELECT pg_catalog.set_config($1, $2, false)";

/// Why a connection setting of the user's own was not taken.
pub(crate) fn not_set(name: &str, error: Error) -> Error {
    if error.kind().is_transient() {
        return error;
    }
    let message = format!(
        "session.{name}: the server does not know it, or does not let this login set it to this value; correct or remove it"
    );
    Error::new(ErrorKind::Config, message)
}

/// `SchemaMismatch` if the server is older than the schema needs.
fn check_version(version: &str, oldest: u32) -> Result<()> {
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    let found = match version[..digits].parse::<u32>() {
        Ok(major) if major >= oldest => return Ok(()),
        Ok(_) => format!("the server is PostgreSQL {version}"),
        Err(_) => "the server does not say which version of PostgreSQL it is".to_owned(),
    };
    Err(Error::new(
        ErrorKind::SchemaMismatch,
        format!(
            "{found}; version {oldest} or later is needed: upgrade the server, or name another one in url"
        ),
    ))
}

fn refused(error: &tokio_postgres::Error) -> Error {
    if error.code().is_some() {
        return classify::read_error(error);
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return certificate(tls);
        }
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            if let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return certificate(tls);
            }
            return Error::new(
                ErrorKind::Unavailable,
                format!(
                    "no connection to the database: {}; check that it runs and that url is right",
                    io.kind()
                ),
            );
        }
        cause = inner.source();
    }
    Error::new(
        ErrorKind::Unavailable,
        "no connection to the database: it does not answer, or not as url asks (TLS, password); check both",
    )
}

fn certificate(error: &rustls::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("no connection to the database: TLS failed: {error}; check sslmode and sslrootcert"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // S3-MIG-011: the rule over the versions that servers say.
    #[test]
    fn versions_below_sixteen_are_refused_with_what_to_do() {
        for good in ["16.0", "16beta1", "16.4 (Debian 16.4-1.pgdg120+1)", "17", "18.6", "100.1"] {
            check_version(good, OLDEST).unwrap();
        }
        for bad in ["15.9", "15.9 (Debian 15.9-0+deb12u1)", "9.6.24", "1.6"] {
            let error = check_version(bad, OLDEST).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
            let message = format!(
                "the server is PostgreSQL {bad}; version 16 or later is needed: upgrade the server, or name another one \
                 in url"
            );
            assert_eq!(error.message(), message);
        }
        for none in ["", "devel", "99999999999999999999"] {
            let error = check_version(none, OLDEST).unwrap_err();
            assert!(error.message().contains("does not say which version"), "{error}");
        }
    }
}
