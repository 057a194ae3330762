//! Changing one part of a PostgreSQL address: tests point the same address at another database, at a
//! proxy, or at another role.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// The parts of `scheme://userinfo@address/database?query`.
struct Parts<'a> {
    scheme: &'a str,
    userinfo: &'a str,
    address: &'a str,
    database: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        Self { scheme, userinfo, address, database, query }
    }

    fn join(&self) -> String {
        let at = if self.userinfo.is_empty() { "" } else { "@" };
        let mark = if self.query.is_empty() { "" } else { "?" };
        let Self { scheme, userinfo, address, database, query } = self;
        format!("{scheme}://{userinfo}{at}{address}/{database}{mark}{query}")
    }
}

/// `url` with another database.
pub fn with_database(url: &str, database: &str) -> String {
    Parts { database: &utf8_percent_encode(database, NON_ALPHANUMERIC).to_string(), ..Parts::of(url) }.join()
}

/// `url` with another host and port.
pub fn with_address(url: &str, host: &str, port: u16) -> String {
    Parts { address: &format!("{host}:{port}"), ..Parts::of(url) }.join()
}

/// `url` with another role, and its password if it has one; both are percent-encoded here.
pub fn with_user(url: &str, user: &str, password: Option<&str>) -> String {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let userinfo = match password {
        Some(password) => format!("{}:{}", encode(user), encode(password)),
        None => encode(user),
    };
    Parts { userinfo: &userinfo, ..Parts::of(url) }.join()
}

/// Host and port without the secret part, for messages.
pub(crate) fn address(url: &str) -> &str {
    Parts::of(url).address
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "postgres://app:p%40ss@db.example:6000/app?sslmode=prefer";

    #[test]
    fn one_part_changes_and_the_others_stay() {
        assert_eq!(with_database(URL, "other"), "postgres://app:p%40ss@db.example:6000/other?sslmode=prefer");
        assert_eq!(with_address(URL, "localhost", 1), "postgres://app:p%40ss@localhost:1/app?sslmode=prefer");
        assert_eq!(with_user(URL, "me", None), "postgres://me@db.example:6000/app?sslmode=prefer");
        assert_eq!(address(URL), "db.example:6000");
    }

    #[test]
    fn a_password_of_reserved_characters_survives_the_driver() {
        let password = "@ /:%#?&é";
        let url = with_user("postgres://x@localhost:5432/d", "a b", Some(password));
        let config: tokio_postgres::Config = url.parse().expect("the driver reads it");
        assert_eq!(config.get_user(), Some("a b"));
        assert_eq!(config.get_password(), Some(password.as_bytes()));
        assert_eq!(config.get_dbname(), Some("d"));
    }
}
