//! Reads the URL of a server. Our own reading, since the driver knows no `verify-full` and no certificate files, and
//! since a password should work as people paste it: `@ / : % #` and spaces, percent-encoded or not.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

/// Where the server is and who asks. Shown without secrets.
#[derive(Clone)]
pub(crate) struct Target {
    /// Host name, address, or the directory of a Unix socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<SecretString>,
    pub database: String,
    pub application_name: String,
    /// Longest time for making one connection.
    pub connect_timeout: Duration,
    pub tls: Tls,
}

/// What is asked of the connection's encryption.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub mode: SslMode,
    pub root_cert: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// As in libpq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("tls", &self.tls.mode).finish_non_exhaustive()
    }
}

const PARAMETERS: &str =
    "sslmode, sslrootcert, sslcert, sslkey, host, port, application_name, connect_timeout";

impl Target {
    /// Reads `url`; the error says what is wrong with it and shows none of it but names of parameters.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or("not a URL of PostgreSQL; allowed is postgres://user:password@host:port/database")?;
        // A password may hold '@', '/', '?' and '#' as they are: the host begins behind the last '@' that does not
        // belong to a parameter.
        let limit = rest.find('?').unwrap_or(rest.len());
        let at = rest[..limit].rfind('@').or_else(|| rest.rfind('@'));
        let (user_part, host_part) = at.map_or(("", rest), |at| (&rest[..at], &rest[at + 1..]));
        let (user, password) = match user_part.split_once(':') {
            Some((user, password)) => (user, Some(decode(password)?)),
            None => (user_part, None),
        };
        let (address, parameters) = host_part.split_once('?').unwrap_or((host_part, ""));
        let (address, database) = address.split_once('/').unwrap_or((address, ""));
        let (host, port) = split_port(address)?;

        let mut target = Self {
            host: decode(host)?,
            port,
            user: decode(user)?,
            password: password.map(SecretString::from),
            database: decode(database)?,
            application_name: "changeover".to_owned(),
            connect_timeout: Duration::from_secs(15),
            tls: Tls::default(),
        };
        for pair in parameters.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            target.set(name, decode(value)?)?;
        }
        if target.host.is_empty() {
            "localhost".clone_into(&mut target.host);
        }
        if target.user.is_empty() {
            return Err("no user; write postgres://user@host/database".to_owned());
        }
        if target.database.is_empty() {
            target.database.clone_from(&target.user);
        }
        if target.tls.cert.is_some() != target.tls.key.is_some() {
            return Err("sslcert and sslkey go together; give both or none".to_owned());
        }
        if target.is_socket() && !matches!(target.tls.mode, SslMode::Disable | SslMode::Prefer) {
            return Err("sslmode asks for TLS, but the host is a Unix socket, which has none".to_owned());
        }
        Ok(target)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "sslmode" => {
                self.tls.mode = match value.as_str() {
                    "disable" => SslMode::Disable,
                    "prefer" => SslMode::Prefer,
                    "require" => SslMode::Require,
                    "verify-ca" => SslMode::VerifyCa,
                    "verify-full" => SslMode::VerifyFull,
                    _ => {
                        return Err(
                            "sslmode is none of disable, prefer, require, verify-ca, verify-full".to_owned()
                        );
                    }
                }
            }
            "sslrootcert" => self.tls.root_cert = Some(value.into()),
            "sslcert" => self.tls.cert = Some(value.into()),
            "sslkey" => self.tls.key = Some(value.into()),
            "host" => self.host = value,
            "port" => self.port = value.parse().map_err(|_| "port is not a number from 0 to 65535")?,
            "application_name" => self.application_name = value,
            "connect_timeout" => {
                let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
                self.connect_timeout =
                    Duration::from_secs(seconds.ok_or("connect_timeout is not a number of seconds above 0")?);
            }
            _ => return Err(format!("unknown parameter {name:?}; allowed are {PARAMETERS}")),
        }
        Ok(())
    }

    /// Whether the host is the directory of a Unix socket.
    pub(crate) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

/// The same URL with another database.
pub(crate) fn with_database(url: &str, database: &str) -> Result<String, String> {
    Target::parse(url)?;
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = url.split_at(after_scheme);
    // As it is read: see there.
    let limit = rest.find('?').unwrap_or(rest.len());
    let host = rest[..limit].rfind('@').or_else(|| rest.rfind('@')).map_or(0, |at| at + 1);
    let (user, host) = rest.split_at(host);
    let (address, parameters) = host.split_at(host.find('?').unwrap_or(host.len()));
    let address = address.split('/').next().unwrap_or_default();
    Ok(format!("{scheme}{user}{address}/{database}{parameters}"))
}

fn split_port(address: &str) -> Result<(&str, u16), String> {
    // An IPv6 address stands in brackets since it has colons of its own.
    if let Some(inner) = address.strip_prefix('[') {
        let (host, port) = inner.split_once(']').ok_or("the host begins with '[' and has no ']'")?;
        return Ok((host, port.strip_prefix(':').map_or(Ok(5432), str::parse).map_err(|_| BAD_PORT)?));
    }
    match address.rsplit_once(':') {
        Some((host, port)) => Ok((host, port.parse().map_err(|_| BAD_PORT)?)),
        None => Ok((address, 5432)),
    }
}

const BAD_PORT: &str = "the port is not a number from 0 to 65535";

fn decode(text: &str) -> Result<String, String> {
    let decoded =
        percent_decode_str(text).decode_utf8().map_err(|_| "percent-encoded bytes are not UTF-8")?;
    if decoded.contains('\0') {
        return Err("it holds a NUL character".to_owned());
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::ExposeSecret;

    use super::*;

    // X-EDGE-094: a password with @ / : % # and space, encoded and as it is.
    #[rstest]
    #[case("postgres://app:p%40s%2Fs%3Aw%25o%23r%20d@db:5433/orders", "p@s/s:w%o#r d")]
    #[case("postgres://app:p@s/s:w%o#r d@db:5433/orders", "p@s/s:w%o#r d")]
    #[case("postgres://app:p?w@db:5433/orders?sslmode=require", "p?w")]
    #[case("postgresql://app:12345@db:5433/orders?application_name=a%40b", "12345")]
    #[case("postgres://app:x@db:5433/orders?application_name=a@b", "x")]
    fn passwords_work_as_people_write_them(#[case] url: &str, #[case] password: &str) {
        let target = Target::parse(url).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.database.as_str()), ("db", 5433, "orders"));
        assert_eq!(target.user, "app");
        assert_eq!(target.password.as_ref().unwrap().expose_secret(), password);
        assert!(!format!("{target:?}").contains(password));
    }

    #[rstest]
    #[case("postgres://u@h", "h", 5432, "u")]
    #[case("postgres://u@[::1]:6000/d", "::1", 6000, "d")]
    #[case("postgres://u@/d?host=%2Fvar%2Frun", "/var/run", 5432, "d")]
    #[case("postgres://u@/d", "localhost", 5432, "d")]
    fn what_is_left_out_has_a_default(
        #[case] url: &str,
        #[case] host: &str,
        #[case] port: u16,
        #[case] db: &str,
    ) {
        let target = Target::parse(url).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.database.as_str()), (host, port, db));
        assert_eq!(target.tls.mode, SslMode::Prefer);
    }

    // The rest of an address stays as it was written.
    #[rstest]
    #[case("postgres://app:p@s/s:w%o#r d@db:5433/orders", "postgres://app:p@s/s:w%o#r d@db:5433/other")]
    #[case(
        "postgres://app:p?w@db:5433/orders?sslmode=require",
        "postgres://app:p?w@db:5433/other?sslmode=require"
    )]
    #[case("postgresql://u@h", "postgresql://u@h/other")]
    #[case("postgres://u@[::1]:6000/d", "postgres://u@[::1]:6000/other")]
    #[case("postgres://u@/d?host=%2Fvar%2Frun", "postgres://u@/other?host=%2Fvar%2Frun")]
    fn another_database_of_the_same_server_has_the_same_address(#[case] url: &str, #[case] expected: &str) {
        let there = with_database(url, "other").unwrap();
        assert_eq!(there, expected);
        let (was, is) = (Target::parse(url).unwrap(), Target::parse(&there).unwrap());
        let told = |it: &Target| {
            let password = it.password.as_ref().map(|it| it.expose_secret().to_owned());
            (it.host.clone(), it.port, it.user.clone(), password, it.tls.mode)
        };
        assert_eq!((told(&is), is.database.as_str()), (told(&was), "other"));
    }

    #[rstest]
    #[case("mysql://u:secret@h/d")]
    #[case("postgres://u:secret@h/d?sslmode=allow")]
    #[case("postgres://u:secret@h:port/d")]
    #[case("postgres://u:secret@h/d?sslcert=/c.pem")]
    #[case("postgres://u:secret@h/d?pool=3")]
    #[case("postgres://h/d")]
    #[case("postgres://u:secret@/d?host=/tmp&sslmode=verify-full")]
    fn what_is_wrong_is_said_without_the_secret(#[case] url: &str) {
        let problem = Target::parse(url).unwrap_err();
        assert!(!problem.contains("secret"), "{problem}");
    }
}
