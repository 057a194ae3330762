//! How far the new store is behind the owner, and what it does not have to hold.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use changeover_core::cutover::{
    ChunkRead, CutoverSide, CutoverSource, CutoverTarget, QuarantineFilter, Quarantined, Raw, ReadRows,
    SourceColumn,
};
use changeover_core::{Error, ErrorKind, ModuleScope, OpenBackend, Result, TenantId, Uuid};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// How old an answer about the follower may be where one waits for it: all that wait share it.
const FRESH: Duration = Duration::from_millis(20);

/// Losses of values that the file's store cannot read.
const UNREAD: [&str; 3] = ["zoneless_times", "epoch_times", "uuid_spellings"];

/// Rows of quarantine asked for at once.
const PAGE: u32 = 1_000;

/// The two sides of a run.
pub(super) struct Follower {
    source: Arc<dyn CutoverSource>,
    target: Arc<dyn CutoverTarget>,
    seen: Mutex<Option<(Instant, Option<Seen>)>>,
}

/// What the owner says: the run that captures its changes, and the last of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) run: Uuid,
    seq: i64,
}

/// What the new store says of a run that is copied and follows.
#[derive(Clone, Copy)]
struct Seen {
    run: Uuid,
    applied: i64,
}

pub(super) fn source(owner: &dyn OpenBackend, scope: &ModuleScope) -> Result<Arc<dyn CutoverSource>> {
    match owner.cutover(scope)? {
        CutoverSide::Old { source, .. } => Ok(source),
        CutoverSide::New { .. } => Err(Error::new(ErrorKind::Unsupported, "the owner cannot be moved from")),
    }
}

/// `None` while nothing captures the owner's changes.
pub(super) async fn position(source: &dyn CutoverSource) -> Result<Option<Position>> {
    let meta = source.meta().await?.filter(|meta| meta.open && meta.captures);
    Ok(meta.map(|meta| Position { run: meta.run, seq: meta.seq }))
}

impl Follower {
    pub(super) fn new(
        source: Arc<dyn CutoverSource>,
        new: &dyn OpenBackend,
        scope: &ModuleScope,
    ) -> Result<Self> {
        match new.cutover(scope)? {
            CutoverSide::New { target, .. } => Ok(Self { source, target, seen: Mutex::default() }),
            CutoverSide::Old { .. } => {
                Err(Error::new(ErrorKind::Unsupported, "the module cannot be moved to this backend"))
            }
        }
    }

    pub(super) async fn position(&self) -> Result<Option<Position>> {
        position(&*self.source).await
    }

    /// Waits until everything up to a position is in the new store; `false` if that takes longer. `None`: the run does not
    /// follow.
    pub(super) async fn reached(&self, position: Position, within: Duration) -> Result<Option<bool>> {
        let until = Instant::now() + within;
        loop {
            let Some(seen) = self.seen(FRESH).await?.filter(|seen| seen.run == position.run) else {
                return Ok(None);
            };
            if seen.applied >= position.seq {
                return Ok(Some(true));
            }
            if Instant::now() >= until {
                return Ok(Some(false));
            }
            sleep(FRESH).await;
        }
    }

    /// Whether this is the run that follows.
    pub(super) async fn is_about(&self, run: Uuid) -> Result<bool> {
        Ok(self.seen(FRESH).await?.is_some_and(|seen| seen.run == run))
    }

    /// Whether the run follows still, asked anew: one that was given up has emptied the new store.
    pub(super) async fn is_still(&self, run: Uuid) -> Result<bool> {
        Ok(self.seen(Duration::ZERO).await?.is_some_and(|seen| seen.run == run))
    }

    async fn seen(&self, age: Duration) -> Result<Option<Seen>> {
        let mut last = self.seen.lock().await;
        if let Some((at, seen)) = *last
            && at.elapsed() < age
        {
            return Ok(seen);
        }
        let at = Instant::now();
        let run = self.target.run().await?;
        // Before, the copy has gaps; behind the fence the owner answers nobody.
        let follows = run.filter(|run| matches!(&*run.phase, "catching_up" | "verifying"));
        let seen = follows.map(|run| Seen { run: run.run, applied: run.applied });
        *last = Some((at, seen));
        Ok(seen)
    }

    /// Which of these places of a table the file has a row at, whether or not its store can read it.
    pub(super) async fn held(&self, table: &str, places: impl Iterator<Item = i64>) -> Result<Vec<bool>> {
        let keys: Vec<_> = places.map(|place| vec![Raw::Integer(place)]).collect();
        let run = self.target.run().await?;
        let declared = run.map(|run| run.declarations.to::<Declared>()).transpose()?;
        let Some(table) = declared.and_then(|it| it.table.into_iter().find(|it| it.name == table)) else {
            return Ok(vec![false; keys.len()]);
        };
        let place = vec![SourceColumn::Rowid];
        let read = ReadRows { table: table.source, columns: place.clone(), key: place, keys };
        Ok(self.source.rows(&read).await?.iter().map(Option::is_some).collect())
    }

    /// Whether a table of the file has a row.
    async fn has_any(&self, table: &DeclaredTable) -> Result<bool> {
        let place = vec![SourceColumn::Rowid];
        let read = ChunkRead {
            table: table.source.clone(),
            columns: place.clone(),
            key: place,
            after: None,
            rows: 1,
            bytes: 1,
        };
        Ok(!self.source.chunk(&read).await?.rows.is_empty())
    }

    /// The rows that the new store holds otherwise, or not at all, by decision.
    pub(super) async fn apart(&self, tenant: &TenantId) -> Result<Apart> {
        let Some(run) = self.target.run().await? else { return Ok(Apart::default()) };
        let (tables, terms) = (run.declarations.to::<Declared>()?, run.terms.to::<Terms>()?);
        let unread = terms.accepted.iter().any(|loss| UNREAD.contains(&&**loss));
        let mut apart = Apart { unread, ..Apart::default() };
        if let Some(old) = tables.table.iter().find(|table| table.name == "notification_audit")
            && self.has_any(old).await?
        {
            apart.notifications_from = Some(terms.notifications_from);
        }
        let mut filter = QuarantineFilter { limit: PAGE, ..QuarantineFilter::default() };
        loop {
            let page = self.target.quarantined(&filter).await?;
            let Some(last) = page.last() else { return Ok(apart) };
            filter.after = last.id;
            for row in &page {
                apart.add(tables.table.get(row.table).map_or("", |table| &table.name), row, tenant);
            }
        }
    }
}

/// As much of the declarations of a run as is needed.
#[derive(Deserialize)]
struct Declared {
    table: Vec<DeclaredTable>,
}

#[derive(Deserialize)]
struct DeclaredTable {
    name: String,
    source: String,
}

#[derive(Deserialize)]
struct Terms {
    accepted: Vec<String>,
    notifications_from: i64,
}

/// Rows that are not compared: those in quarantine, repaired ones among them, and what the new store has from a table that
/// no store of the old one reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Apart {
    /// Positions in the log.
    events: BTreeSet<i64>,
    /// Whether a whole stream is among them.
    streams: bool,
    /// Places in the recorded order of the audit trail.
    audit: BTreeSet<i64>,
    /// Above it they are those of old notifications.
    notifications_from: Option<i64>,
    /// Ids and versions of playbooks.
    playbooks: BTreeSet<(Vec<u8>, Vec<u8>)>,
    /// Whether the new store may hold what the file's store cannot read, by a loss that was accepted.
    unread: bool,
}

impl Apart {
    fn add(&mut self, table: &str, row: &Quarantined, tenant: &TenantId) {
        match (table, &row.key[..]) {
            ("event_stream", _) => self.streams = true,
            ("domain_event", [Raw::Integer(place)]) => drop(self.events.insert(*place)),
            ("audit_events", [Raw::Integer(place)]) => drop(self.audit.insert(*place)),
            ("playbook_catalog", [Raw::Text(of), Raw::Text(_), Raw::Text(_)])
                if of != tenant.as_str().as_bytes() => {}
            ("playbook_catalog", [.., Raw::Text(id), Raw::Text(version)]) => {
                self.playbooks.insert((id.clone(), version.clone()));
            }
            _ => {}
        }
    }

    pub(super) fn join(&mut self, other: Self) {
        self.events.extend(other.events);
        self.streams |= other.streams;
        self.audit.extend(other.audit);
        self.notifications_from = self.notifications_from.or(other.notifications_from);
        self.playbooks.extend(other.playbooks);
        self.unread |= other.unread;
    }

    pub(super) fn has_event(&self, position: i64) -> bool {
        self.events.contains(&position)
    }

    pub(super) fn any_event(&self) -> bool {
        !self.events.is_empty()
    }

    pub(super) fn any_stream(&self) -> bool {
        self.streams
    }

    pub(super) fn has_audit(&self, place: i64) -> bool {
        self.audit.contains(&place) || self.notifications_from.is_some_and(|from| place > from)
    }

    /// How many audit events may be missing, or be others.
    pub(super) fn audit_events(&self) -> u64 {
        self.audit.len() as u64
    }

    pub(super) fn any_notification(&self) -> bool {
        self.notifications_from.is_some()
    }

    pub(super) fn any_unread(&self) -> bool {
        self.unread
    }

    pub(super) fn has_playbook(&self, id: &str, version: &str) -> bool {
        !self.playbooks.is_empty() && self.playbooks.contains(&(id.into(), version.into()))
    }

    pub(super) fn any_playbook(&self) -> bool {
        !self.playbooks.is_empty()
    }
}
