//! What the stores of a module share: its record in the database, its schema, what it offers, whether it is ready.

use std::time::Duration;

use changeover_core::backend::Family;
use changeover_core::events::Readiness;
use changeover_core::{Capabilities, Detail, Error, ErrorKind, ModuleScope, Result, Support};
use tokio_postgres::Row;

use crate::client::PgClient;
use crate::shipped;
use crate::statements;

/// What `ready` waits for an answer.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// What PostgreSQL offers.
pub(crate) fn capabilities(chained: bool) -> Capabilities {
    Capabilities {
        durable: Support::Yes,
        shared: Support::Yes,
        concurrent_writers: Support::No(
            "writers of a module take turns from their first append to their commit, so that positions rise in the \
             order of commits",
        ),
        transactions: Support::Yes,
        tenants: Support::Yes,
        push: Support::Yes,
        recorded_time: Support::Yes,
        hash_chain: if chained { Support::Yes } else { Support::No("hash_chain is false in the settings") },
        retention: Support::Yes,
    }
}

/// The recorded owner of a module; `None` without a record.
pub(crate) async fn owner_by(conn: &mut PgClient, scope: &ModuleScope) -> Result<Option<String>> {
    let sql = "SELECT owner FROM changeover.module WHERE module = $1".into();
    match conn.read(&sql, &[&scope.module.as_str()]).await {
        Ok(rows) => Ok(rows.first().and_then(|row| row.try_get(0).ok())),
        Err(error) if error.kind() == ErrorKind::SchemaMismatch => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds who owns the module now, to an error that says it is not this backend.
pub(crate) async fn explained(conn: &mut PgClient, scope: &ModuleScope, error: Error) -> Error {
    if error.kind() != ErrorKind::Moved {
        return error;
    }
    match owner_by(conn, scope).await {
        Ok(Some(owner)) => error.with_detail(Detail::Moved { owner }),
        _ => error,
    }
}

/// The migrations this program needs, if they are the ones that are applied.
pub(crate) fn check_schema(family: Family, module: &str, applied: Option<&str>) -> Result<String> {
    let known = shipped::ids(family).join(" ");
    if applied == Some(&*known) {
        return Ok(known);
    }
    Err(Error::new(
        ErrorKind::SchemaMismatch,
        format!(
            "module {module} has the migrations {:?}, this program needs {known:?}; run migrate up, or a newer program",
            applied.unwrap_or_default()
        ),
    ))
}

/// The applied migrations in a row of the statement `ready`.
pub(crate) fn applied_ids(row: &Row) -> Result<Option<String>> {
    row.try_get(2).map_err(|_| unreadable())
}

/// Facts about a module whose schema is this program's and whose owner is this backend; an error if that is not so.
pub(crate) async fn facts(conn: &mut PgClient, scope: &ModuleScope, family: Family) -> Result<Vec<String>> {
    let module = scope.module.as_str();
    let rows = conn.read(&statements::ready(family), &[&module]).await?;
    let row = rows.first().ok_or_else(unreadable)?;
    let column = |index: usize| row.try_get::<_, Option<String>>(index).map_err(|_| unreadable());
    let (version, owner, applied) = (column(0)?, column(1)?, applied_ids(row)?);
    let waiting = row.try_get::<_, i64>(3).map_err(|_| unreadable())?;

    let known = check_schema(family, module, applied.as_deref())?;
    match owner {
        Some(owner) if owner != "postgres" => {
            let message = format!("module {module} is not owned by this backend but by: {owner}");
            return Err(Error::new(ErrorKind::Moved, message).with_detail(Detail::Moved { owner }));
        }
        None => return Err(no_module(module)),
        Some(_) => {}
    }
    Ok(vec![
        format!("PostgreSQL {}", version.unwrap_or_default()),
        format!("schema: {known}"),
        format!("{waiting} transactions wait for an advisory lock"),
    ])
}

/// `Timeout` if a store does not say soon whether it is ready.
pub(crate) async fn soon(
    ready: impl Future<Output = Result<Readiness>>,
    operation: &'static str,
) -> Result<Readiness> {
    let answer = tokio::time::timeout(READY_WITHIN, ready).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Timeout,
            format!("the database did not answer within {READY_WITHIN:?}; check that it runs"),
        ))
    });
    answer.map_err(|error| error.during(operation))
}

pub(crate) fn no_module(module: &str) -> Error {
    Error::new(
        ErrorKind::SchemaMismatch,
        format!("module {module} is not in this database; run migrate up for it"),
    )
}

pub(crate) fn unreadable() -> Error {
    Error::new(
        ErrorKind::SchemaMismatch,
        "the database answers in another form than this program knows; run migrate status",
    )
}
