//! Opens connections and sets their session up, the same for every use: the pool, the user's transactions, LISTEN and
//! migrations.
//!
//! Row security protects nobody from a login that may bypass it. Where the login is a superuser, has BYPASSRLS or may
//! act as the owner, the session steps down to the application's role before anything else is asked.

use std::time::Duration;

use changeover_core::{Error, ErrorKind, Result};
use secrecy::ExposeSecret;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, SimpleQueryMessage, Socket};

use crate::classify;
use crate::settings::{Roles, Settings};
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
    pub command_timeout: Duration,
    /// [`OLDEST`], but in a test.
    pub oldest: u32,
}

impl Connector {
    /// For the service.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let millis = settings.command_timeout.as_millis();
        let Roles { owner, app, .. } = &settings.roles;
        // SET, not start-up options: a pooler in transaction mode refuses those. The role names are checked words.
        let session = format!(
            "SET statement_timeout = {millis}; SET TimeZone = 'UTC'; \
             SELECT pg_catalog.set_config('role', '{app}', false) FROM pg_catalog.pg_roles AS me \
              WHERE me.rolname = session_user \
                AND EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{app}') \
                AND (me.rolsuper OR me.rolbypassrls OR EXISTS (SELECT FROM pg_catalog.pg_roles AS o \
                     WHERE o.rolname = '{owner}' AND pg_catalog.pg_has_role(me.oid, o.oid, 'MEMBER'))); \
             SELECT (EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{app}'))::text"
        );
        let made = Self::make(&settings.target, session, settings.command_timeout)?;
        Ok(Self { own: settings.session.clone(), ..made })
    }

    /// For migrations: the login as it is, statements as long as they need.
    pub(crate) fn for_migrations(settings: &Settings) -> Result<Self> {
        let session = "SET statement_timeout = 0; SET TimeZone = 'UTC'; SELECT 'true'".to_owned();
        Self::make(&settings.migrate_target, session, Duration::MAX)
    }

    fn make(target: &Target, session: String, command_timeout: Duration) -> Result<Self> {
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
        Ok(Self {
            config,
            tls: connector(&target.tls)?,
            session,
            own: Vec::new(),
            command_timeout,
            oldest: OLDEST,
        })
    }

    /// A connection to a server that will do, and its driver, session not yet set up.
    pub(crate) async fn raw(&self) -> Result<(Client, Driver)> {
        let (client, driver) =
            self.config.connect(self.tls.clone()).await.map_err(|error| refused(&error))?;
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
        let answer =
            client.simple_query(&self.session).await.map_err(|error| classify::read_error(&error))?;
        let with_role = answer.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(|value| value == "true"),
            _ => None,
        });
        for (name, value) in &self.own {
            let bound: [(&(dyn ToSql + Sync), Type); 2] = [(name, Type::TEXT), (value, Type::TEXT)];
            let set = client.query_typed(SET_OWN, &bound).await;
            set.map_err(|error| not_set(name, classify::read_error(&error)))?;
        }
        Ok((client, with_role.unwrap_or(false)))
    }

    /// The statements that set a session up.
    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    /// Connection settings of the user's own, by name.
    pub(crate) fn own(&self) -> &[(String, String)] {
        &self.own
    }

    /// For cancelling a statement.
    pub(crate) fn tls(&self) -> MakeTls {
        self.tls.clone()
    }
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

/// Why no connection was had. What the server said is kept, what the network said is told by its kind.
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
