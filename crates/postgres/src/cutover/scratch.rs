//! What a drill needs of the server: a database of its own, and entries in the record about what was done there.

use std::time::Duration;

use changeover_core::cutover::{Entry, Table};
use changeover_core::{Applied, Error, ErrorKind, Result, Timestamp, Uuid};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connections::{Connections, Tx, ident, list, literal, relation};
use super::facts::is_there;
use super::lease::append;
use crate::classify;
use crate::codec::Micros;

/// Names of databases that are made, and may be removed.
const PREFIX: &str = "changeover_drill_";

/// How often it is tried to remove a database that somebody is connected to.
const TRIES: u32 = 10;

/// Only names that nobody else gives: no mistake in a name can remove a database of somebody's.
fn check(name: &str) -> Result<()> {
    let is_word = |rest: &str| rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    match name.strip_prefix(PREFIX) {
        Some(rest) if !rest.is_empty() && rest.len() <= 40 && is_word(rest) => Ok(()),
        _ => Err(Error::invalid(format!(
            "{name:?} is no name of a scratch database; allowed is {PREFIX} and 1 to 40 of a-z and 0-9"
        ))),
    }
}

/// An empty database like this one: the same encoding and collation.
pub(super) async fn make(connections: &Connections, name: &str) -> Result<()> {
    check(name)?;
    let client = connections.as_login().await?;
    let sql = "SELECT current_user::text, r.rolcreatedb OR r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user";
    let row = client.query_one(sql, &[]).await.map_err(|error| classify::read_error(&error))?;
    let (login, may): (String, bool) = (row.get(0), row.get(1));
    if !may {
        return Err(Error::invalid(format!(
            "{login} may make no database, so that there is none to drill in: ALTER ROLE {} CREATEDB; or make an empty one by \
             hand, name it as a backend of the settings, and give that: --scratch BACKEND",
            ident(&login)
        ))
        .applied(Applied::No));
    }
    let create = format!("CREATE DATABASE {} TEMPLATE template0 {}", ident(name), like_this(&client).await?);
    client.batch_execute(&create).await.map_err(|error| unmade(name, &error))?;
    let comment = "Changeover: the drill of a cutover was here. It can be dropped";
    let comment = format!("COMMENT ON DATABASE {} IS {}", ident(name), literal(comment));
    client.batch_execute(&comment).await.map_err(|error| classify::write_error(&error))
}

async fn like_this(client: &Client) -> Result<String> {
    // The column of the locale has another name from version 17 on.
    let sql = "SELECT pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text, d.datlocprovider::text, \
                      coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') \
                 FROM pg_database AS d WHERE d.datname = current_database()";
    let row = client.query_one(sql, &[]).await.map_err(|error| classify::read_error(&error))?;
    let (encoding, collate, ctype): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    let (provider, locale): (String, Option<String>) = (row.get(3), row.get(4));
    let of_provider = match (&*provider, locale) {
        ("i", Some(locale)) => format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(&locale)),
        ("b", Some(locale)) => format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(&locale)),
        _ => " LOCALE_PROVIDER libc".to_owned(),
    };
    Ok(format!(
        "ENCODING {} LC_COLLATE {} LC_CTYPE {}{of_provider}",
        literal(&encoding),
        literal(&collate),
        literal(&ctype)
    ))
}

fn unmade(name: &str, error: &tokio_postgres::Error) -> Error {
    let classified = classify::write_error(error);
    let Some(said) = error.as_db_error() else { return classified };
    Error::new(
        classified.kind(),
        format!("the scratch database {name} could not be made: {}", said.message()),
    )
}

/// Ends what is connected to it, too.
pub(super) async fn remove(connections: &Connections, name: &str) -> Result<()> {
    check(name)?;
    let client = connections.as_login().await?;
    let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(name));
    let mut tries = 1;
    loop {
        let error = match client.batch_execute(&sql).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // Connections of another login cannot be ended by this one, but are about to end: the drill is over.
        let busy = matches!(error.code(), Some(&SqlState::OBJECT_IN_USE | &SqlState::INSUFFICIENT_PRIVILEGE));
        if !busy || tries >= TRIES {
            let said = error.as_db_error().map(|said| said.message().to_owned()).unwrap_or_default();
            let kind = classify::write_error(&error).kind();
            return Err(Error::new(
                kind,
                format!("the scratch database {name} could not be dropped: {said}"),
            ));
        }
        tokio::time::sleep(Duration::from_millis(50) * tries).await;
        tries += 1;
    }
}

/// What tells this database from every other one, whatever address leads to it.
pub(super) async fn identity(tx: &Tx<'_>) -> Result<String> {
    let sql = "SELECT extract(epoch FROM pg_postmaster_start_time())::text, oid::bigint, \
                      (SELECT setting FROM pg_settings WHERE name = 'port') \
                 FROM pg_database WHERE datname = current_database()";
    let row = tx.one(sql, &[]).await?;
    Ok(format!("{}/{}/{}", row.get::<_, String>(0), row.get::<_, String>(2), row.get::<_, i64>(1)))
}

pub(super) async fn record(tx: &Tx<'_>, module: &str, about: Uuid, entry: &Entry) -> Result<i64> {
    if !is_there(tx, "cutover.record").await? {
        let message = "the schema cutover is missing in the new store: run migrate up there";
        return Err(Error::new(ErrorKind::SchemaMismatch, message).applied(Applied::No));
    }
    append(tx, module, about, entry).await?;
    // Entries of a module take turns up to their commit, so the last one is ours.
    let sql = "SELECT max(number) FROM cutover.record WHERE module = $1 AND run = $2";
    Ok(tx.one(sql, &[&module, &about]).await?.get(0))
}

pub(super) async fn now(tx: &Tx<'_>) -> Result<Timestamp> {
    let row = tx.one("SELECT clock_timestamp()", &[]).await?;
    Timestamp::from_micros(row.get::<_, Micros>(0).0)
}

/// Writes the first rows by key once more.
pub(super) async fn touch(tx: &Tx<'_>, table: &Table, rows: u32) -> Result<u64> {
    let target = relation(&table.target);
    let key = list(&table.key, |name| ident(name));
    let itself = list(&table.key, |name| format!("{0} = {0}", ident(name)));
    let sql = format!(
        "UPDATE {target} SET {itself} WHERE ({key}) IN (SELECT {key} FROM {target} ORDER BY {key} LIMIT {rows})"
    );
    tx.execute(&sql, &[]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    // Nothing but what a drill made can be made or dropped by these.
    #[test]
    fn only_names_of_scratch_databases_are_taken() {
        check("changeover_drill_0a1b2c3d").unwrap();
        for bad in ["postgres", "app", "changeover_drill_", "changeover_drill_A", "changeover_drill_a b", ""]
        {
            assert_eq!(check(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }
}
