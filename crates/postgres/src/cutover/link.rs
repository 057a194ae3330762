//! From rows to a store: references checked, foreign keys back, sequences and heads moved on.

use changeover_core::cutover::{Entry, Lease, Reference, Seal, Table, Value};
use changeover_core::{Applied, Error, Result, TenantId};

use super::connections::{Tx, ident, literal, relation};
use super::lease::{Held, append, keep, out, to_json};
use super::load::check_phase;
use super::shape::{self, Shape};
use super::structure::TakenOff;

pub(super) async fn unlinked(
    tx: &Tx<'_>,
    tenant: &TenantId,
    table: &Table,
    reference: usize,
    parent: &Table,
    limit: u32,
) -> Result<Vec<Vec<Value>>> {
    let reference: &Reference = table.references.get(reference).ok_or_else(|| {
        Error::invalid(format!(
            "table {} declares {} references, not one more",
            table.name,
            table.references.len()
        ))
    })?;
    let shape = Shape::load(tx, &shape::to_json(&[table.clone(), parent.clone()]), tenant).await?;
    let (child, of) = (shape.table_at(0)?, shape.table_at(1)?);
    let is_given: Vec<_> =
        reference.columns.iter().map(|it| format!("t.{} IS NOT NULL", ident(it))).collect();
    let same: Vec<_> = reference
        .columns
        .iter()
        .zip(&reference.to)
        .map(|(from, to)| format!("p.{} = t.{}", ident(to), ident(from)))
        .collect();
    // A table of ids answers at once where the table itself would look into every month.
    let ids = parent.also.iter().find(|also| {
        let holds = |it: &String| also.columns.iter().any(|(name, of)| name == it && of == it);
        also.key.iter().all(&holds) && reference.to.iter().all(|it| also.key.contains(it) && holds(it))
    });
    let in_table = ids.map_or(&parent.target, |also| &also.target);
    let of_tenant = |place: &usize| {
        let (name, tenant) = (&of.column(*place).name, of.tenant.as_ref().map_or("", |(_, tenant)| tenant));
        let is_asked = !reference.to.contains(name)
            && ids.is_none_or(|also| also.columns.iter().any(|(there, _)| there == name));
        is_asked.then(|| format!(" AND p.{} = {}", ident(name), literal(tenant)))
    };
    let places = of.tenant.iter().flat_map(|(places, _)| places);
    let of_tenant = places.filter_map(of_tenant).collect::<Vec<_>>().concat();
    let sql = format!(
        "SELECT {} FROM {} AS t WHERE {}{} AND NOT EXISTS (SELECT FROM {} AS p WHERE {}{of_tenant}) ORDER BY 1 LIMIT {limit}",
        child.names(&child.key, "t."),
        relation(&table.target),
        is_given.join(" AND "),
        child.of_tenant("t."),
        relation(in_table),
        same.join(" AND "),
    );
    let rows = tx.query(&sql, &[]).await?;
    rows.iter().map(|row| child.values(row, 0, &child.key)).collect()
}

pub(super) async fn index(
    tx: &Tx<'_>,
    module: &str,
    held: &Held,
    lease: &Lease,
    entry: &Entry,
) -> Result<usize> {
    check_phase(held)?;
    let mut taken = TakenOff::from_json(&held.taken_off)?;
    let built = taken.index(tx).await?;
    if built > 0 {
        let taken = to_json(&taken.to_json())?;
        tx.execute("UPDATE cutover.run SET taken_off = $2 WHERE run = $1", &[&held.run, &out(&taken)])
            .await?;
        append(tx, module, held.run, entry).await?;
    }
    keep(tx, lease).await?;
    Ok(built)
}

pub(super) async fn link(tx: &Tx<'_>, module: &str, held: &Held, lease: &Lease, entry: &Entry) -> Result<()> {
    check_phase(held)?;
    if held.linked {
        return keep(tx, lease).await;
    }
    TakenOff::from_json(&held.taken_off)?.link(tx).await?;
    tx.execute("UPDATE cutover.run SET linked = true WHERE run = $1", &[&held.run]).await?;
    append(tx, module, held.run, entry).await?;
    keep(tx, lease).await
}

pub(super) async fn seal(
    tx: &Tx<'_>,
    module: &str,
    held: &Held,
    shape: &Shape,
    lease: &Lease,
    seal: &Seal,
    entry: &Entry,
) -> Result<()> {
    check_phase(held)?;
    if seal.high_water.len() != shape.tables.len() {
        return Err(Error::invalid(format!(
            "{} high waters were given for {} tables",
            seal.high_water.len(),
            shape.tables.len()
        ))
        .applied(Applied::No));
    }
    let mut tenants: Vec<&str> = seal.tenants.iter().map(TenantId::as_str).collect();
    if !tenants.contains(&held.tenant.as_str()) {
        tenants.push(held.tenant.as_str());
    }
    for schema in shape.schemas() {
        let knows = "SELECT to_regprocedure(quote_ident($1) || '.cutover_seal(bigint, text[])') IS NOT NULL";
        if tx.one(knows, &[&schema]).await?.get(0) {
            let of_tables = shape.tables.iter().zip(&seal.high_water);
            let high = of_tables
                .filter(|(table, _)| table.target.split_once('.').is_some_and(|(it, _)| it == schema))
                .filter_map(|(_, high)| *high)
                .chain(seal.log_high_water)
                .max();
            let sql = format!("SELECT {}.cutover_seal($1, $2)", ident(&schema));
            tx.query(&sql, &[&high, &tenants]).await?;
        }
    }
    for (table, high) in shape.tables.iter().zip(&seal.high_water) {
        for column in &table.columns {
            let (table, name) = (relation(&table.target), ident(&column.name));
            let owned = tx.one("SELECT pg_get_serial_sequence($1, $2)", &[&table, &column.name]).await?;
            let Some(sequence) = owned.get::<_, Option<String>>(0) else { continue };
            let sql = format!(
                "SELECT setval({}, h.high) FROM (SELECT greatest($1, (SELECT max({name})::bigint FROM {table}), \
                        (SELECT s.last_value FROM {sequence} AS s WHERE s.is_called)) AS high) AS h WHERE h.high > 0",
                literal(&sequence)
            );
            tx.query(&sql, &[high]).await?;
        }
    }
    append(tx, module, held.run, entry).await?;
    keep(tx, lease).await
}
