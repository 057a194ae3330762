//! What the new store is, and what it lacks for the declared tables.

use changeover_core::cutover::{Column, From, Table, TargetColumn, TargetFacts, TargetTable, Type};
use changeover_core::{Applied, Error, ErrorKind, Result};

use super::connections::{Connections, Tx, relation};
use super::scratch;
use super::structure::forced_text;
use crate::connect::OLDEST;

/// Whether a table is there.
pub(super) async fn is_there(tx: &Tx<'_>, table: &str) -> Result<bool> {
    Ok(tx.one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?.get(0))
}

pub(super) async fn facts(tx: &Tx<'_>, connections: &Connections, tables: &[Table]) -> Result<TargetFacts> {
    // An older server was refused as the connection was made.
    let version: String = tx.one("SELECT current_setting('server_version')", &[]).await?.get(0);
    let identity = scratch::identity(tx).await?;
    let mut facts = TargetFacts { place: connections.place(), version, identity, ..TargetFacts::default() };
    let lacks = &mut facts.lacks;
    if !is_there(tx, "cutover.run").await? {
        lacks.push(format!(
            "the schema cutover is missing: run migrate up (PostgreSQL {OLDEST} or later is there)"
        ));
    }
    for table in tables {
        if facts.tables.iter().any(|it| it.name == table.target) {
            let known = facts.tables.iter().find(|it| it.name == table.target).cloned();
            facts.tables.extend(known);
            continue;
        }
        let found = look(tx, connections, table, &table.target, lacks).await?;
        compare(table, &found, lacks);
        facts.tables.push(found);
        for also in &table.also {
            look(tx, connections, table, &also.target, lacks).await?;
        }
    }
    lacks.dedup();
    Ok(facts)
}

async fn look(
    tx: &Tx<'_>,
    connections: &Connections,
    table: &Table,
    target: &str,
    lacks: &mut Vec<String>,
) -> Result<TargetTable> {
    let name = relation(target);
    let mut found = TargetTable { name: target.to_owned(), ..TargetTable::default() };
    let sql = "SELECT c.oid::regclass::text, c.relowner::regrole::text, pg_has_role(c.relowner, 'USAGE'), \
                      has_schema_privilege(c.relnamespace, 'USAGE'), c.relforcerowsecurity, \
                      EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = 'whole'), \
                      c.relkind::text, current_user::text, \
                      CASE WHEN has_schema_privilege(n.oid, 'USAGE') \
                           THEN to_regprocedure(quote_ident(n.nspname) || '.ensure_month(date)') IS NOT NULL ELSE false END \
                 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
                WHERE n.nspname = $1 AND c.relname = $2";
    let (schema, plain) = target.split_once('.').unwrap_or(("public", target));
    let Some(row) = tx.optional(sql, &[&schema, &plain]).await? else {
        lacks.push(format!("table {target} is missing: run migrate up, or create it"));
        return Ok(found);
    };
    found.exists = true;
    let (owner, user): (String, String) = (row.get(1), row.get(7));
    let (is_owner, sees_schema, is_forced): (bool, bool, bool) = (row.get(2), row.get(3), row.get(4));
    let (is_seen, kind, makes_months): (bool, String, bool) = (row.get(5), row.get(6), row.get(8));
    if kind != "r" && kind != "p" {
        lacks.push(format!("{target} is not a table"));
        return Ok(found);
    }
    if !is_owner {
        lacks.push(format!(
            "table {target} belongs to {owner}, and {user} has to act for it: GRANT {owner} TO {} WITH INHERIT TRUE",
            connections.owner()
        ));
    }
    if !sees_schema {
        lacks.push(format!(
            "{user} may not look into the schema {schema}: GRANT USAGE ON SCHEMA {schema} TO {}",
            connections.owner()
        ));
    }
    if is_forced && !is_seen {
        lacks.push(forced_text(target));
    }
    if table.partition_by.is_some() && kind == "p" && target == table.target && !makes_months {
        lacks.push(format!(
            "table {target} is partitioned by months and its schema has no function ensure_month(date): make every month that \
             the rows need, or a default partition, and leave partition_by out"
        ));
    }
    if is_owner && sees_schema {
        // Not under a forced row security, which would show none: there the size has to do.
        let sql = if is_forced && !is_seen {
            format!("SELECT pg_relation_size('{}'::regclass) > 0", name.replace('\'', "''"))
        } else {
            format!("SELECT EXISTS (SELECT FROM {name})")
        };
        tx.see_all(target).await?;
        found.has_rows = tx.one(&sql, &[]).await?.get(0);
        tx.see_own().await?;
    }
    let rows = tx
        .query(
            "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
                    a.atthasdef OR a.attidentity <> '', a.attgenerated <> '', \
                    CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE format_type(a.atttypid, a.atttypmod) END \
               FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid \
                    JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace \
              WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[&schema, &plain],
        )
        .await?;
    for row in &rows {
        found.columns.push(TargetColumn {
            name: row.get(0),
            type_name: row.get(5),
            not_null: row.get(2),
            has_default: row.get(3),
            generated: row.get(4),
        });
    }
    // By the catalogue's own keys: what looks names up asks for rights.
    let rows = tx
        .query(
            "WITH it AS (SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
                          WHERE n.nspname = $1 AND c.relname = $2) \
             SELECT c.conname || ' ' || pg_get_constraintdef(c.oid) FROM pg_constraint AS c JOIN it ON c.conrelid = it.oid \
              WHERE c.contype IN ('c', 'p', 'u', 'x') \
             UNION ALL \
             SELECT pg_get_indexdef(i.indexrelid) FROM pg_index AS i JOIN it ON i.indrelid = it.oid \
              WHERE i.indisunique AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid) \
             ORDER BY 1",
            &[&schema, &plain],
        )
        .await?;
    found.constraints = rows.iter().map(|row| row.get(0)).collect();
    Ok(found)
}

fn compare(table: &Table, found: &TargetTable, lacks: &mut Vec<String>) {
    if !found.exists {
        return;
    }
    for column in &table.columns {
        let place = format!("column {} of table {}", column.name, table.target);
        match found.columns.iter().find(|it| it.name == column.name) {
            None => lacks.push(format!("{place} is missing: add it, or take it out of the declaration")),
            Some(it) if it.generated => {
                lacks.push(format!(
                    "{place} is generated and cannot be written: take it out of the declaration"
                ));
            }
            Some(it) => {
                if let Some(allowed) = misfit(&column.to, &it.type_name) {
                    lacks.push(format!(
                        "{place} is of type {}, in which declared values could change: it has to be {allowed}",
                        it.type_name
                    ));
                }
                if it.not_null && may_be_null(column) {
                    lacks.push(format!(
                        "{place} refuses null, and the declaration allows it: change one of them"
                    ));
                }
            }
        }
    }
    for it in &found.columns {
        if it.not_null && !it.has_default && !it.generated && table.column(&it.name).is_none() {
            lacks.push(format!(
                "column {} of table {} needs a value and the declaration has none for it: declare it, or give it a default",
                it.name, table.target
            ));
        }
    }
}

fn may_be_null(column: &Column) -> bool {
    column.nullable && column.null_becomes.is_none() && column.from != From::Tenant
}

/// What type it has to be, if values of the declared type do not all go into a column of this one as they are.
fn misfit(declared: &Type, found: &str) -> Option<String> {
    let (base, arguments) = match found.split_once('(') {
        Some((base, rest)) => {
            let inside = rest.split(')').next().unwrap_or_default();
            (base, inside.split(',').filter_map(|it| it.trim().parse::<i64>().ok()).collect())
        }
        None => (found, Vec::new()),
    };
    let base = base.rsplit('.').next().unwrap_or(base);
    let plain = |name: &str| (base == name && arguments.is_empty(), name.to_owned());
    let (fits, allowed) = match declared {
        Type::Text { max, .. } => {
            let long = i64::try_from(*max).unwrap_or(i64::MAX);
            let is_other = !matches!(
                base,
                "character"
                    | "integer"
                    | "bigint"
                    | "smallint"
                    | "boolean"
                    | "double precision"
                    | "numeric"
                    | "uuid"
                    | "jsonb"
                    | "json"
                    | "bytea"
                    | "date"
                    | "timestamp"
                    | "timestamp with time zone"
                    | "vector"
                    | "real"
            );
            (is_other && arguments.first().is_none_or(|n| *n >= long), "text".to_owned())
        }
        Type::Uuid => plain("uuid"),
        Type::Int { min, max } => {
            let (low, high) = match base {
                "bigint" => (i64::MIN, i64::MAX),
                "integer" => (i64::from(i32::MIN), i64::from(i32::MAX)),
                "smallint" => (i64::from(i16::MIN), i64::from(i16::MAX)),
                _ => (1, 0),
            };
            (low <= *min && *max <= high, "bigint".to_owned())
        }
        Type::Bool => plain("boolean"),
        Type::Double => plain("double precision"),
        Type::Decimal { precision, scale } => {
            let (precision, scale) = (i64::from(*precision), i64::from(*scale));
            let fits = match arguments[..] {
                [] => true,
                [of] => scale == 0 && of >= precision,
                [of, after, ..] => after >= scale && of - after >= precision - scale,
            };
            (base == "numeric" && fits, format!("numeric or numeric({precision},{scale})"))
        }
        Type::Json { .. } => plain("jsonb"),
        Type::Timestamp(_) => (found == "timestamp with time zone", "timestamp with time zone".to_owned()),
        Type::Date => plain("date"),
        Type::Bytes { .. } => plain("bytea"),
        Type::Vector { dims } => {
            let dims = i64::try_from(*dims).unwrap_or(i64::MAX);
            (base == "vector" && arguments.first().is_none_or(|n| *n == dims), format!("vector({dims})"))
        }
    };
    (!fits).then_some(allowed)
}

/// How far the replica furthest behind is. One that only receives the log replays nothing: what it has written counts.
pub(super) async fn replicas_behind(tx: &Tx<'_>) -> Result<u64> {
    let sql = "SELECT bool_or(state IS NULL), current_user::text, coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), \
                      coalesce(replay_lsn, flush_lsn, write_lsn, sent_lsn))), 0)::bigint FROM pg_stat_replication";
    let row = tx.one(sql, &[]).await?;
    if row.get::<_, Option<bool>>(0) == Some(true) {
        let role: &str = row.get(1);
        let message = format!(
            "role {role} may not see how far the replicas of the new store are: GRANT pg_read_all_stats TO {role}, or set no limit"
        );
        return Err(Error::new(ErrorKind::Config, message).applied(Applied::No));
    }
    Ok(u64::try_from(row.get::<_, i64>(2)).unwrap_or(0))
}
