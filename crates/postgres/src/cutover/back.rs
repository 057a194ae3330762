//! The way back: which rows were changed since the switch, and what they are now.

use changeover_core::cutover::{BackChanges, BackKey, Change};
use changeover_core::{Error, Result};

use super::connections::{Connections, Tx, ident, literal, relation};
use super::lease::last as last_run;
use super::lease::no_run;
use super::locks::lock_module;
use super::shape::{Shape, TableShape};

/// The number of the last captured change; 0 without one.
pub(super) async fn last(tx: &Tx<'_>, module: &str) -> Result<i64> {
    let sql =
        "SELECT coalesce((SELECT seq FROM cutover.capture WHERE module = $1 ORDER BY seq DESC LIMIT 1), 0)";
    Ok(tx.one(sql, &[&module]).await?.get(0))
}

pub(super) async fn changes(
    connections: &Connections,
    module: &str,
    after: i64,
    limit: u32,
) -> Result<BackChanges> {
    // Numbers are given before the commit, so one below those that are seen may still come. Writers hold the module's lock
    // to their end: once it was had alone, all below its last number have come or never will.
    let barrier = connections.begin().await?;
    let seen = async {
        lock_module(&barrier, module).await?;
        last(&barrier, module).await
    }
    .await;
    let last_seq = barrier.end(seen).await?;

    let tx = connections.snapshot().await?;
    let found = read(&tx, module, after, last_seq, limit).await;
    tx.end(found).await
}

async fn read(tx: &Tx<'_>, module: &str, after: i64, last_seq: i64, limit: u32) -> Result<BackChanges> {
    let sql = "SELECT max(c.seq) FROM (SELECT seq FROM cutover.capture \
                WHERE module = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4) AS c";
    let upto: Option<i64> = tx.one(sql, &[&module, &after, &last_seq, &i64::from(limit)]).await?.get(0);
    let Some(upto) = upto else { return Ok(BackChanges { keys: Vec::new(), upto: after, last_seq }) };
    let shape = shape(tx, module).await?;
    // Keys are looked up one by one, whatever the planner thinks of the tables' sizes.
    tx.batch(
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
    )
    .await?;
    let mut keys = Vec::new();
    for (index, table) in shape.tables.iter().enumerate().filter(|(_, table)| table.goes_back) {
        let (sql, width) = statement(table);
        tx.see_all(&table.target).await?;
        let rows = tx.query(&sql, &[&module, &table.name, &after, &upto]).await?;
        tx.see_own().await?;
        for row in rows {
            let (seq, is_there): (i64, bool) = (row.get(0), row.get(1));
            if !row.get::<_, bool>(2) {
                return Err(Error::invalid(format!(
                    "the row {} of table {} belongs to another tenant than the file does, to which it would go back; \
                     take it elsewhere and remove it, or keep this store",
                    row.get::<_, &str>(3),
                    table.target
                )));
            }
            let key = table.values(&row, 4, &table.key)?;
            let row = if is_there { Some(table.values(&row, 4 + width, &table.all())?) } else { None };
            keys.push(BackKey { seq, change: Change { table: index, key, row } });
        }
    }
    keys.sort_by_key(|it| it.seq);
    Ok(BackChanges { keys, upto, last_seq })
}

async fn shape(tx: &Tx<'_>, module: &str) -> Result<Shape> {
    let run = last_run(tx, module).await?.ok_or_else(|| no_run(module, changeover_core::Uuid::nil()))?;
    let row = tx.one("SELECT tables FROM cutover.run WHERE run = $1", &[&run.run]).await?;
    Shape::load(tx, &super::lease::document(&row, 0)?, &run.tenant).await
}

/// Each key once with its last number, whether its row is there, whether it is of the run's tenant, the key for people, the
/// key, and the row.
fn statement(table: &TableShape) -> (String, usize) {
    let part = |place: &usize| {
        let column = table.column(*place);
        format!("(c.key ->> {})::{}", literal(&column.name), column.type_name)
    };
    let key: Vec<_> = table.key.iter().map(part).collect();
    let same: Vec<_> = table
        .key
        .iter()
        .map(|place| format!("t.{} = {}", ident(&table.column(*place).name), part(place)))
        .collect();
    let is_tenants = |place: &usize, tenant: &str| {
        format!("c.key ->> {} = {}", literal(&table.column(*place).name), literal(tenant))
    };
    let is_ours = match &table.tenant {
        Some((places, tenant)) => {
            places.iter().map(|place| is_tenants(place, tenant)).collect::<Vec<_>>().join(" AND ")
        }
        None => "true".to_owned(),
    };
    let sql = format!(
        "SELECT c.seq, t.tableoid IS NOT NULL, {is_ours}, c.key::text, {}, {} \
           FROM (SELECT max(seq) AS seq, key FROM cutover.capture WHERE module = $1 AND tbl = $2 AND seq > $3 AND seq <= $4 \
                  GROUP BY key) AS c \
           LEFT JOIN {} AS t ON {}{} ORDER BY c.seq",
        key.join(", "),
        table.names(&table.all(), "t."),
        relation(&table.target),
        same.join(" AND "),
        table.of_tenant("t.")
    );
    (sql, table.key.len())
}
