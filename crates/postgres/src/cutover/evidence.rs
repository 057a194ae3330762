//! What is told about a run: how far it has come, what stays out and what was decided about it, the record.

use changeover_core::cutover::{
    Decision, Entry, Progress, QuarantineFilter, Quarantined, Recorded, TableProgress,
};
use changeover_core::{Applied, Error, Json, Result, Timestamp, Uuid};

use super::connections::Tx;
use super::lease::{append, document, hold, no_run, open_tables};
use super::load::{Refused, check_phase, store};
use super::raw::{self, unreadable};
use super::shape::Shape;
use crate::codec::Micros;

pub(super) async fn progress(tx: &Tx<'_>, module: &str, run: Uuid) -> Result<Progress> {
    let sql = "SELECT applied, jsonb_array_length(tables) FROM cutover.run WHERE run = $1 AND module = $2";
    let row = tx.optional(sql, &[&run, &module]).await?.ok_or_else(|| no_run(module, run))?;
    let (applied, tables): (i64, i32) = (row.get(0), row.get(1));
    let mut progress = Progress {
        tables: vec![TableProgress::default(); usize::try_from(tables).unwrap_or_default()],
        applied,
        ..Progress::default()
    };
    let sql = "SELECT c.tbl, max(c.number), sum(c.rows)::bigint, sum(c.bytes)::bigint, bool_or(c.is_end), min(c.seq), \
                      (SELECT l.last FROM cutover.chunk AS l WHERE l.run = $1 AND l.tbl = c.tbl ORDER BY l.number DESC LIMIT 1) \
                 FROM cutover.chunk AS c WHERE c.run = $1 GROUP BY c.tbl ORDER BY c.tbl";
    for row in tx.query(sql, &[&run]).await? {
        let index = usize::try_from(row.get::<_, i32>(0)).map_err(|_| unreadable())?;
        let number = |column: usize| u64::try_from(row.get::<_, i64>(column)).map_err(|_| unreadable());
        let last = raw::from_json(&document(&row, 6)?)?;
        let table = progress.tables.get_mut(index).ok_or_else(unreadable)?;
        *table = TableProgress {
            chunks: row.get(1),
            // The only chunk of an empty table names no key.
            last: (!last.is_empty()).then_some(last),
            end: row.get(4),
            rows: number(2)?,
            bytes: number(3)?,
        };
        let seq: i64 = row.get(5);
        progress.first_seq = Some(progress.first_seq.map_or(seq, |first| first.min(seq)));
    }
    let sql = "SELECT count(*), count(*) FILTER (WHERE decision = 'undecided') FROM cutover.quarantine WHERE run = $1";
    let row = tx.one(sql, &[&run]).await?;
    let count = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
    progress.quarantined = (count(0), count(1));
    Ok(progress)
}

/// Of the last run.
pub(super) async fn quarantined(
    tx: &Tx<'_>,
    module: &str,
    filter: &QuarantineFilter,
) -> Result<Vec<Quarantined>> {
    let table = filter
        .table
        .map(i32::try_from)
        .transpose()
        .map_err(|_| Error::invalid("a run has not so many tables"))?;
    let ids = (!filter.ids.is_empty()).then_some(&filter.ids);
    let rows = tx
        .query(
            "SELECT id, tbl, key::jsonb, row, reasons, decision, decided_by FROM cutover.quarantine \
              WHERE run = (SELECT run FROM cutover.run WHERE module = $1 ORDER BY token DESC LIMIT 1) AND id > $2 \
                AND ($3::integer IS NULL OR tbl = $3) AND ($4::text IS NULL OR decision = $4) \
                AND ($5::bigint[] IS NULL OR id = ANY ($5)) ORDER BY id LIMIT $6",
            &[&module, &filter.after, &table, &filter.decision, &ids, &i64::from(filter.limit)],
        )
        .await?;
    let one = |row: &tokio_postgres::Row| {
        Ok(Quarantined {
            id: row.get(0),
            table: usize::try_from(row.get::<_, i32>(1)).map_err(|_| unreadable())?,
            key: raw::from_json(&document(row, 2)?)?,
            row: raw::from_json(&document(row, 3)?)?,
            reasons: raw::reasons_from_json(&document(row, 4)?)?,
            decision: row.get(5),
            decided_by: row.get(6),
        })
    };
    rows.iter().map(one).collect()
}

pub(super) async fn decide(
    tx: &Tx<'_>,
    module: &str,
    run: Uuid,
    ids: &[i64],
    decision: &Decision,
    entry: &Entry,
) -> Result<u64, Refused> {
    let held = hold(tx, module, run).await?;
    check_phase(&held)?;
    let invalid = |message: String| Refused::Other(Error::invalid(message).applied(Applied::No));
    let sql = "SELECT id, tbl, decision FROM cutover.quarantine WHERE run = $1 AND id = ANY ($2) FOR UPDATE";
    let found = tx.query(sql, &[&run, &ids]).await?;
    let mut tables = Vec::new();
    for id in ids {
        let row = found.iter().find(|row| row.get::<_, i64>(0) == *id);
        let row = row
            .ok_or_else(|| invalid(format!("run {run} has no quarantined row {id}; nothing was decided")))?;
        if row.get::<_, &str>(2) == "repaired" {
            return Err(invalid(format!(
                "row {id} is repaired, its new values are stored; nothing was decided"
            )));
        }
        tables.push(usize::try_from(row.get::<_, i32>(1)).map_err(|_| unreadable())?);
    }
    let word = match decision {
        Decision::Approve => "approved",
        Decision::Reject => "rejected",
        Decision::Repair(rows) => {
            if rows.len() != ids.len() {
                return Err(invalid(format!("{} rows were given for {} numbers", rows.len(), ids.len())));
            }
            open_tables(tx, &held).await?;
            let shape = Shape::load(tx, &held.tables, &held.tenant).await?;
            tx.batch("SET CONSTRAINTS ALL DEFERRED").await?;
            for (table, row) in tables.iter().zip(rows) {
                let table = shape.table_at(*table)?;
                store(tx, table, &[row.as_slice()]).await.map_err(|refused| match refused {
                    Refused::Row(by) => invalid(format!(
                        "table {} refuses {by} of a repaired row; nothing was decided",
                        table.target
                    )),
                    other => other,
                })?;
            }
            "repaired"
        }
    };
    let sql = "UPDATE cutover.quarantine SET decision = $3, decided_by = $4, decided_at = clock_timestamp() \
                WHERE run = $1 AND id = ANY ($2)";
    let count = tx.execute(sql, &[&run, &ids, &word, &entry.who]).await?;
    append(tx, module, run, entry).await?;
    Ok(count)
}

pub(super) async fn entries(
    tx: &Tx<'_>,
    module: &str,
    run: Option<Uuid>,
    after: i64,
    limit: u32,
) -> Result<Vec<Recorded>> {
    let rows = tx
        .query(
            "SELECT number, run, at, what, who, facts, previous, hash FROM cutover.record \
              WHERE module = $1 AND number > $2 AND ($3::uuid IS NULL OR run = $3) ORDER BY number LIMIT $4",
            &[&module, &after, &run, &i64::from(limit)],
        )
        .await?;
    let one = |row: &tokio_postgres::Row| {
        Ok(Recorded {
            number: row.get(0),
            run: row.get(1),
            at: Timestamp::from_micros(row.get::<_, Micros>(2).0)?,
            entry: Entry { what: row.get(3), who: row.get(4), facts: Json::parse(row.get(5))? },
            previous: row.get(6),
            hash: row.get(7),
        })
    };
    rows.iter().map(one).collect()
}
