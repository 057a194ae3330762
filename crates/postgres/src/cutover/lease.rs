//! Who may move a run on: every transaction locks the run's row and compares the token.

use changeover_core::cutover::{Entry, Lease, Run};
use changeover_core::{Applied, Error, ErrorKind, Json, Result, TenantId, Timestamp, Uuid};
use serde_json::Value as Document;
use tokio_postgres::Row;

use super::connections::Tx;
use super::raw::unreadable;
use crate::codec::{JsonIn, JsonOut, Micros};

/// The row of a run, locked to the end of the transaction.
pub(super) struct Held {
    pub run: Uuid,
    pub phase: String,
    pub token: i64,
    pub applied: i64,
    pub tables: Document,
    pub taken_off: Document,
    pub linked: bool,
    pub tenant: TenantId,
    pub holder: Option<(String, Timestamp)>,
    /// Whether the lease has run out by the server's clock.
    pub is_free: bool,
}

const COLUMNS: &str = "run, phase, token, applied, tables, taken_off, linked, tenant, holder, until, \
                       coalesce(until <= clock_timestamp(), true)";

fn held(row: &Row) -> Result<Held> {
    let until: Option<Micros> = row.try_get(9).map_err(|_| unreadable())?;
    let holder: Option<String> = row.try_get(8).map_err(|_| unreadable())?;
    let holder = match (holder, until) {
        (Some(holder), Some(until)) => Some((holder, Timestamp::from_micros(until.0)?)),
        _ => None,
    };
    let tenant: String = row.try_get(7).map_err(|_| unreadable())?;
    Ok(Held {
        run: row.try_get(0).map_err(|_| unreadable())?,
        phase: row.try_get(1).map_err(|_| unreadable())?,
        token: row.try_get(2).map_err(|_| unreadable())?,
        applied: row.try_get(3).map_err(|_| unreadable())?,
        tables: document(row, 4)?,
        taken_off: document(row, 5)?,
        linked: row.try_get(6).map_err(|_| unreadable())?,
        tenant: TenantId::new(tenant)?,
        holder,
        is_free: row.try_get(10).map_err(|_| unreadable())?,
    })
}

pub(super) fn document(row: &Row, place: usize) -> Result<Document> {
    let text: JsonIn<'_> = row.try_get(place).map_err(|_| unreadable())?;
    serde_json::from_slice(text.0).map_err(|_| unreadable())
}

fn json(row: &Row, place: usize) -> Result<Json> {
    let text: JsonIn<'_> = row.try_get(place).map_err(|_| unreadable())?;
    Json::from_bytes(text.0)
}

pub(super) fn to_json(document: &Document) -> Result<Json> {
    Json::parse(&document.to_string())
}

/// Locks the row of a run of the module; `NotFound` if there is none.
pub(super) async fn hold(tx: &Tx<'_>, module: &str, run: Uuid) -> Result<Held> {
    let sql = format!("SELECT {COLUMNS} FROM cutover.run WHERE run = $1 AND module = $2 FOR NO KEY UPDATE");
    match tx.optional(&sql, &[&run, &module]).await? {
        Some(row) => held(&row),
        None => Err(no_run(module, run)),
    }
}

pub(super) fn no_run(module: &str, run: Uuid) -> Error {
    Error::new(ErrorKind::NotFound, format!("module {module} has no run {run} in this database"))
        .applied(Applied::No)
}

/// As [`hold`], if the lease is the current one, and with the key to the tables. A lease past its end that nobody took is
/// current: the token decides, not the clock.
pub(super) async fn hold_leased(tx: &Tx<'_>, module: &str, lease: &Lease) -> Result<Held> {
    let held = hold(tx, module, lease.run).await?;
    if held.token != lease.token || held.holder.is_none() {
        return Err(lost(tx, &held, lease).await?);
    }
    open_tables(tx, &held).await?;
    Ok(held)
}

/// Names the run's current token for this transaction, which lets it replace rows.
pub(super) async fn open_tables(tx: &Tx<'_>, held: &Held) -> Result<()> {
    tx.query("SELECT set_config('changeover.copier', $1, true)", &[&held.token.to_string()]).await.map(drop)
}

/// Names who has it, or had it last.
async fn lost(tx: &Tx<'_>, held: &Held, lease: &Lease) -> Result<Error> {
    let now = if let Some((holder, until)) = &held.holder {
        format!("{holder:?} has it until {until} with the token {}", held.token)
    } else {
        let sql = "SELECT who, what FROM cutover.record WHERE run = $1 ORDER BY number DESC LIMIT 1";
        let last = tx.optional(sql, &[&held.run]).await?;
        let last = last.map(|row| (row.get::<_, String>(0), row.get::<_, String>(1)));
        let last = last.map_or_else(String::new, |(who, what)| format!(", last {what} by {who:?}"));
        format!("nobody has it; the run is in the phase {}{last}", held.phase)
    };
    Ok(Error::new(
        ErrorKind::Contention,
        format!(
            "the lease of run {} with the token {} is not the current one: {now}; stop, or take the lease again",
            lease.run, lease.token
        ),
    )
    .applied(Applied::No))
}

/// Moves the end of the lease on, as the last statement of what may have taken long.
pub(super) async fn keep(tx: &Tx<'_>, lease: &Lease) -> Result<()> {
    let sql =
        "UPDATE cutover.run SET until = clock_timestamp() + $2 * interval '1 microsecond' WHERE run = $1";
    tx.execute(sql, &[&lease.run, &micros(lease.ttl)]).await.map(drop)
}

pub(super) fn micros(ttl: std::time::Duration) -> f64 {
    ttl.as_secs_f64() * 1e6
}

/// Appends to the record. `fenced_at` and `back_seq` in the facts are kept in the run as well.
pub(super) async fn append(tx: &Tx<'_>, module: &str, run: Uuid, entry: &Entry) -> Result<()> {
    if entry.what.is_empty()
        || entry.what.contains('\n')
        || entry.who.contains('\n')
        || !entry.facts.is_object()
    {
        return Err(Error::invalid(
            "an entry of the record needs a word for what happened, no line breaks in it and in who did it, and an object of facts",
        )
        .applied(Applied::No));
    }
    tx.query(
        "SELECT cutover.append_record($1, $2, $3, $4, $5)",
        &[&module, &run, &entry.what, &entry.who, &entry.facts.as_str()],
    )
    .await?;
    let facts: Document = serde_json::from_str(entry.facts.as_str()).map_err(|_| unreadable())?;
    let number = |name: &str| facts.get(name).and_then(Document::as_i64);
    let (fenced_at, back_seq) = (number("fenced_at"), number("back_seq"));
    if fenced_at.is_some() || back_seq.is_some() {
        let sql = "UPDATE cutover.run SET fenced_at = coalesce($2, fenced_at), back_seq = greatest(back_seq, $3) WHERE run = $1";
        tx.execute(sql, &[&run, &fenced_at, &back_seq]).await?;
    }
    Ok(())
}

/// Takes the lease; see the contract.
pub(super) async fn take(
    tx: &Tx<'_>,
    module: &str,
    run: Uuid,
    holder: &str,
    ttl: std::time::Duration,
) -> Result<Lease> {
    let held = hold(tx, module, run).await?;
    if let (Some((other, until)), false) = (&held.holder, held.is_free)
        && other != holder
    {
        return Err(Error::new(
            ErrorKind::Contention,
            format!("the lease of run {run} is held by {other:?} until {until}; wait, or stop that one"),
        )
        .applied(Applied::No));
    }
    let row = tx
        .one(
            "UPDATE cutover.run SET holder = $3, until = clock_timestamp() + $4 * interval '1 microsecond', \
                    token = 1 + (SELECT max(r.token) FROM cutover.run AS r WHERE r.module = $2) \
              WHERE run = $1 RETURNING token",
            &[&run, &module, &holder, &micros(ttl)],
        )
        .await?;
    Ok(Lease { run, token: row.get(0), ttl })
}

pub(super) async fn enter(
    tx: &Tx<'_>,
    module: &str,
    lease: &Lease,
    from: &[&str],
    to: &str,
    entry: &Entry,
) -> Result<()> {
    /// These are reached by the methods that do what they stand for.
    const OWN: [&str; 4] = ["idle", "switched", "revert_fenced", "finalized"];
    let held = hold_leased(tx, module, lease).await?;
    keep(tx, lease).await?;
    if held.phase == to {
        return Ok(());
    }
    if !from.contains(&&*held.phase) || OWN.contains(&to) || OWN.contains(&&*held.phase) {
        return Err(Error::invalid(format!(
            "run {} is in the phase {}; from there it cannot enter {to}, only from {}",
            held.run,
            held.phase,
            from.join(", ")
        ))
        .applied(Applied::No));
    }
    tx.execute("UPDATE cutover.run SET phase = $2 WHERE run = $1", &[&held.run, &to]).await?;
    append(tx, module, held.run, entry).await
}

/// The last run of a module.
pub(super) async fn last(tx: &Tx<'_>, module: &str) -> Result<Option<Run>> {
    let sql = "SELECT run, phase, declarations, tenant, nonce, place, fingerprint, terms, holder, until, applied, \
                      fenced_at, started_at, back_seq \
                 FROM cutover.run WHERE module = $1 ORDER BY token DESC LIMIT 1";
    let Some(row) = tx.optional(sql, &[&module]).await? else { return Ok(None) };
    let holder: Option<String> = row.get(8);
    let until: Option<Micros> = row.get(9);
    Ok(Some(Run {
        run: row.get(0),
        phase: row.get(1),
        declarations: json(&row, 2)?,
        tenant: TenantId::new(row.get::<_, String>(3))?,
        nonce: row.get(4),
        place: row.get(5),
        fingerprint: json(&row, 6)?,
        terms: json(&row, 7)?,
        holder: match (holder, until) {
            (Some(holder), Some(until)) => Some((holder, Timestamp::from_micros(until.0)?)),
            _ => None,
        },
        applied: row.get(10),
        fenced_at: row.get(11),
        started_at: Timestamp::from_micros(row.get::<_, Micros>(12).0)?,
        back_seq: row.get(13),
    }))
}

/// JSON on its way.
pub(super) fn out(json: &Json) -> JsonOut<'_> {
    JsonOut(json)
}
