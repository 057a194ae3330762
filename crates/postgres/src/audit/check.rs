//! What an operator wants to know about the audit trails of a database.

use changeover_core::Result;
use changeover_core::backend::Check;

use super::read::get;
use crate::client::PgClient;
use crate::settings::Roles;

/// Three lines for each schema with an audit trail; none where there is no trail.
pub(crate) async fn check(conn: &mut PgClient, roles: &Roles) -> Result<Vec<Check>> {
    let schemas = "SELECT quote_ident(n.nspname) FROM pg_catalog.pg_proc AS p \
                     JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace \
                    WHERE p.proname = 'create_audit_events_partition' AND pg_get_userbyid(p.proowner) = $1 ORDER BY 1";
    let rows = conn.read(&schemas.into(), &[&roles.owner]).await?;
    let mut checks = Vec::new();
    for row in &rows {
        let schema: String = get(row, 0)?;
        for (name, ok, detail) in [
            partitions(conn, &schema).await?,
            direct_writes(conn, &schema, &roles.app).await?,
            time_zone(conn).await?,
        ] {
            checks.push(Check { name: format!("{name} of {schema}"), ok, detail });
        }
    }
    Ok(checks)
}

type Line = (&'static str, bool, String);

async fn partitions(conn: &mut PgClient, schema: &str) -> Result<Line> {
    let sql = format!(
        "SELECT {schema}.missing_months(), (SELECT count(*) FROM pg_catalog.pg_inherits AS i \
          WHERE i.inhparent = to_regclass('{schema}.audit_events'))"
    );
    let rows = conn.read(&sql.into(), &[]).await?;
    let row = rows.first().ok_or_else(crate::module::unreadable)?;
    let (missing, there): (Vec<String>, i64) = (get(row, 0)?, get(row, 1)?);
    let detail = if missing.is_empty() {
        format!("{there}, this month and the next three among them")
    } else {
        format!(
            "none for {}; run SELECT {schema}.create_audit_events_partition() now and once a month",
            missing.join(", ")
        )
    };
    Ok(("partitions", missing.is_empty(), detail))
}

async fn direct_writes(conn: &mut PgClient, schema: &str, app: &str) -> Result<Line> {
    let sql = "SELECT c.relname::text FROM pg_catalog.pg_class AS c \
                WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p') \
                  AND (has_table_privilege($2, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') OR NOT c.relrowsecurity) \
                ORDER BY 1";
    let rows = conn.read(&sql.into(), &[&schema, &app]).await?;
    let open = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<String>>>()?;
    let detail = if open.is_empty() {
        format!("{app} writes through the functions only, rows are under row security")
    } else {
        format!("{app} can write to, or row security is off on: {}; revoke it, enable it", open.join(", "))
    };
    Ok(("rights", open.is_empty(), detail))
}

async fn time_zone(conn: &mut PgClient) -> Result<Line> {
    let sql = "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'TimeZone'".into();
    let rows = conn.read(&sql, &[]).await?;
    let zone: String = get(rows.first().ok_or_else(crate::module::unreadable)?, 0)?;
    Ok(("dates", true, format!("in UTC, whatever zone a session has; by default it has {zone}")))
}
