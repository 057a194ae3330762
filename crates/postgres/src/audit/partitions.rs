//! The months that audit events are kept in.

use changeover_core::backend::Family;
use changeover_core::{ModuleScope, Result};

use crate::OpenPostgres;
use crate::module::unreadable;
use crate::shipped::plain_schema;
use crate::statements::schema;

impl OpenPostgres {
    /// The months of a module's audit events that have a partition, like `2024-01` in their order, each with the bytes
    /// that its partition takes for all tenants.
    pub async fn audit_months(&self, scope: &ModuleScope) -> Result<Vec<(String, u64)>> {
        let schema = schema(scope, plain_schema(Family::Audit));
        let sql = format!(
            "SELECT replace(substr(c.relname, length('audit_events_') + 1), '_', '-'), pg_total_relation_size(c.oid) \
               FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid \
              WHERE i.inhparent = '{schema}.audit_events'::regclass ORDER BY c.relname"
        );
        let rows = self.pools.get().await?.read(&sql.into(), &[]).await;
        let rows = rows.map_err(|error| error.during("audit.months"))?;
        let month = |row: &tokio_postgres::Row| {
            let bytes: i64 = row.try_get(1).map_err(|_| unreadable())?;
            Ok((row.try_get(0).map_err(|_| unreadable())?, u64::try_from(bytes).unwrap_or(0)))
        };
        rows.iter().map(month).collect()
    }

    /// Of this month and the next three, those that have no partition.
    pub async fn missing_audit_months(&self, scope: &ModuleScope) -> Result<Vec<String>> {
        let sql = format!("SELECT {}.missing_months()", schema(scope, plain_schema(Family::Audit)));
        let rows = self.pools.get().await?.read(&sql.into(), &[]).await;
        first(&rows.map_err(|error| error.during("audit.missing_months"))?)
    }

    /// Makes them; returns which it made. Again it makes none; two at once make each one once.
    pub async fn create_audit_months(&self, scope: &ModuleScope) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT ARRAY(SELECT replace(substr(name, length('audit_events_') + 1), '_', '-') \
                            FROM unnest({}.create_audit_events_partition()) AS name)",
            schema(scope, plain_schema(Family::Audit))
        );
        let rows = self.pools.get().await?.write(&sql.into(), &[]).await;
        first(&rows.map_err(|error| error.during("audit.create_months"))?)
    }
}

fn first(rows: &[tokio_postgres::Row]) -> Result<Vec<String>> {
    rows.first().ok_or_else(unreadable)?.try_get(0).map_err(|_| unreadable())
}
