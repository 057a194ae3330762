//! Rows of the old store on their way: converted, with twins told apart from others, and sent until nothing is in their way.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use changeover_core::cutover::{
    Apply, Change, ChunkDone, CopyChunk, Quarantined, Raw, RawKey, RawRow, ReadRows, Reason, Value,
};
use changeover_core::{Error, ErrorKind, Result};

use super::session::Session;
use crate::hazards::number;

/// A row as the old store has it; without content it is gone.
pub(super) struct Row {
    pub table: usize,
    pub key: RawKey,
    pub raw: Option<RawRow>,
}

/// What is known of one row.
struct Item {
    row: Row,
    /// Its key in the new store, where it has one.
    key: Option<Vec<Value>>,
    /// What is stored, or why nothing is.
    values: Result<Vec<Value>, Vec<Reason>>,
}

/// Rows that are stored or stay out together.
pub(super) struct Batch {
    items: Vec<Item>,
    /// Keys of the new store that were found in the way, and were looked for in the old store.
    seen: HashSet<(usize, Vec<u8>)>,
    /// Rows of the new store that are replaced.
    pub replace: Vec<(usize, Vec<Value>)>,
}

/// Values that are unique together under one rule, as bytes: table, rule, values.
pub(super) type Identity = Vec<u8>;

impl Batch {
    /// Rows as they convert.
    pub(super) fn converted(session: &Session<'_>, rows: Vec<Row>) -> Self {
        let items = rows.into_iter().map(|row| session.item(row)).collect();
        Self { items, seen: HashSet::new(), replace: Vec::new() }
    }

    /// Rows that share what has to be unique stay out, all of them; so do those that share it with `twins`.
    pub(super) fn new(session: &Session<'_>, rows: Vec<Row>, twins: &HashSet<Identity>) -> Self {
        let mut batch = Self::converted(session, rows);
        batch.part_twins(session, twins);
        batch
    }

    /// Without a row.
    pub(super) fn empty() -> Self {
        Self { items: Vec::new(), seen: HashSet::new(), replace: Vec::new() }
    }

    /// As [`Batch::new`] does.
    pub(super) fn part_twins(&mut self, session: &Session<'_>, twins: &HashSet<Identity>) {
        let mut first: HashMap<Identity, usize> = HashMap::new();
        let mut out: Vec<(usize, usize)> = Vec::new();
        for (at, item) in self.items.iter().enumerate() {
            let Ok(values) = &item.values else { continue };
            for (rule, identity) in session.identities(item.row.table, values) {
                if twins.contains(&identity) {
                    out.push((at, rule));
                }
                match first.entry(identity) {
                    Entry::Occupied(other) => out.extend([(*other.get(), rule), (at, rule)]),
                    Entry::Vacant(place) => {
                        place.insert(at);
                    }
                }
            }
        }
        for (at, rule) in out {
            let reason = session.shared(self.items[at].row.table, rule);
            self.items[at].refuse(reason);
        }
    }

    /// Rows to be stored, with the place of each in the batch.
    pub(super) fn stored(&self) -> Vec<(usize, usize, &Vec<Value>)> {
        let items = self.items.iter().enumerate();
        items.filter_map(|(at, item)| Some((at, item.row.table, item.values.as_ref().ok()?))).collect()
    }

    /// Rows that stay out.
    pub(super) fn quarantined(&self) -> Vec<Quarantined> {
        let out = |item: &Item| {
            let (Err(reasons), Some(raw)) = (&item.values, &item.row.raw) else { return None };
            Some(Quarantined {
                id: 0,
                table: item.row.table,
                key: item.row.key.clone(),
                row: raw.clone(),
                reasons: reasons.clone(),
                decision: "undecided".to_owned(),
                decided_by: None,
            })
        };
        self.items.iter().filter_map(out).collect()
    }

    /// What becomes of the rows of the new store that the rows of the batch have, or had: each key once.
    pub(super) fn changes(&self) -> Vec<Change<Value>> {
        let mut places: HashMap<(usize, Vec<u8>), usize> = HashMap::new();
        let mut changes: Vec<Change<Value>> = Vec::new();
        let removed = self.replace.iter().map(|(table, key)| (*table, key, None));
        let own = self.items.iter().filter_map(|item| {
            Some((item.row.table, item.key.as_ref()?, item.values.as_ref().ok().cloned()))
        });
        for (table, key, row) in own.chain(removed) {
            let at = *places.entry((table, bytes(key))).or_insert(changes.len());
            if at == changes.len() {
                changes.push(Change { table, key: key.clone(), row });
            } else if row.is_some() {
                changes[at].row = row;
            }
        }
        changes
    }

    /// Rows that are there in the old store, each with its place in the batch.
    pub(super) fn rows_with_content(&self) -> Vec<(usize, RawRow)> {
        let items = self.items.iter().enumerate();
        items.filter_map(|(at, item)| Some((at, item.row.raw.clone()?))).collect()
    }

    /// Leaves a row out.
    pub(super) fn refuse(&mut self, at: usize, reason: Reason) {
        self.items[at].refuse(reason);
    }

    /// Every row of the batch.
    pub(super) fn looked_at(&self) -> Vec<(usize, RawKey)> {
        self.items.iter().map(|item| (item.row.table, item.row.key.clone())).collect()
    }

    /// The store named two rows that cannot both be stored. The one in the way is looked for in the old store: it may be gone
    /// or changed there by now, or it and the new one stay out together.
    pub(super) async fn part(
        &mut self,
        session: &Session<'_>,
        at: usize,
        stored: (usize, Vec<Value>),
        constraint: &str,
    ) -> Result<()> {
        let (table, key) = stored;
        let place = (table, bytes(&key));
        let is_it = |item: &Item| item.values.is_ok() && item.key.as_ref().is_some_and(|it| *it == key);
        let here = self.items.iter().position(|item| item.row.table == table && is_it(item));
        if let Some(other) = here.filter(|other| *other != at) {
            for at in [at, other] {
                self.items[at].refuse(Reason {
                    column: String::new(),
                    hazard: number::DUPLICATE,
                    problem: format!("has the same values as another row, and they are unique in the new store ({constraint})"),
                });
            }
            return Ok(());
        }
        if !self.seen.insert(place) {
            let name = &session.tables()[table].name;
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "table {name}: a row of the new store is in the way ({constraint}) and cannot be replaced; somebody else \
                     writes there: find out who, and abort the run"
                ),
            ));
        }
        for row in session.read_behind(table, &key).await? {
            let known = |item: &Item| item.row.table == table && item.row.key == row.key;
            if !self.items.iter().any(known) {
                self.items.push(session.item(row));
            }
        }
        self.replace.push((table, key));
        self.part_twins(session, &HashSet::new());
        Ok(())
    }

    /// Which rows share what has to be unique: to know a third one by.
    pub(super) fn twins(&self, session: &Session<'_>) -> Vec<Identity> {
        let mut found = Vec::new();
        for item in &self.items {
            let (Err(reasons), Some(raw)) = (&item.values, &item.row.raw) else { continue };
            if reasons.iter().any(is_twin) {
                found.extend(session.identities_of(item.row.table, &item.row.key, raw));
            }
        }
        found
    }
}

/// Whether a row stays out because of another.
pub(super) fn is_twin(reason: &Reason) -> bool {
    matches!(reason.hazard, number::DUPLICATE | number::SPELLED_TWICE)
}

impl Item {
    fn refuse(&mut self, reason: Reason) {
        match &mut self.values {
            Err(reasons) if reasons.contains(&reason) => {}
            Err(reasons) => reasons.push(reason),
            values @ Ok(_) => *values = Err(vec![reason]),
        }
    }
}

impl Session<'_> {
    fn item(&self, row: Row) -> Item {
        let key = self.converter.key(row.table, &row.key).ok();
        let values = match &row.raw {
            Some(raw) => self.converter.row(row.table, &row.key, raw),
            None => Err(Vec::new()),
        };
        Item { row, key, values }
    }

    /// What has to be unique about a row, each with its rule: 0 is the key, the others are the unique ones of the table.
    fn identities(&self, table: usize, values: &[Value]) -> Vec<(usize, Identity)> {
        let declared = &self.tables()[table];
        let mut found = Vec::with_capacity(declared.unique.len() + 1);
        let mut add = |rule: usize, columns: &[String]| {
            let mut identity = Vec::with_capacity(64);
            identity.extend((table as u64).to_be_bytes());
            identity.extend((rule as u64).to_be_bytes());
            for name in columns {
                match declared.index_of(name).and_then(|at| values.get(at)) {
                    None | Some(Value::Null) => return,
                    Some(value) => put(&mut identity, value),
                }
            }
            found.push((rule, identity));
        };
        add(0, &declared.key);
        for (rule, unique) in (1..).zip(&declared.unique) {
            let counts = unique.only_where.as_ref().is_none_or(|column| {
                declared.index_of(column).and_then(|at| values.get(at)) == Some(&Value::Bool(true))
            });
            if counts {
                add(rule, &unique.columns);
            }
        }
        found
    }

    /// What speaks against a second row with the same values under a rule.
    fn shared(&self, table: usize, rule: usize) -> Reason {
        let declared = &self.tables()[table];
        let (columns, hazard, problem) = match rule.checked_sub(1).and_then(|rule| declared.unique.get(rule))
        {
            Some(unique) => (
                &unique.columns,
                number::DUPLICATE,
                "has the same values as another row, and they are unique in the new store",
            ),
            None => (
                &declared.key,
                number::SPELLED_TWICE,
                "is also there in another spelling, which is the same id in the new store",
            ),
        };
        Reason { column: columns.join(", "), hazard, problem: problem.to_owned() }
    }

    /// The same of a raw row that would convert.
    pub(super) fn identities_of(&self, table: usize, key: &[Raw], raw: &[Raw]) -> Vec<Identity> {
        let values = self.converter.row(table, key, raw);
        let of = |values: Vec<Value>| self.identities(table, &values).into_iter().map(|(_, it)| it).collect();
        values.map(of).unwrap_or_default()
    }

    /// The rows of the old store that a row of the new one can have come from, as they are now; without content if there is
    /// none.
    pub(super) async fn read_behind(&self, table: usize, key: &[Value]) -> Result<Vec<Row>> {
        let keys = self.converter.spellings(table, key)?;
        self.read(table, keys).await
    }

    /// Rows by their keys.
    pub(super) async fn read(&self, table: usize, keys: Vec<RawKey>) -> Result<Vec<Row>> {
        let declared = &self.tables()[table];
        let read = ReadRows {
            table: declared.source.clone(),
            columns: declared.source_columns(),
            key: declared.source_key(),
            keys,
        };
        let found = self.source().rows(&read).await?;
        Ok(read.keys.into_iter().zip(found).map(|(key, raw)| Row { table, key, raw }).collect())
    }
}

/// How far a chunk of a table goes.
pub(super) struct ChunkEnd {
    /// Key of the last row read.
    pub last: Option<RawKey>,
    /// Whether it is the last of its table.
    pub end: bool,
    pub rows: u64,
    pub bytes: u64,
    /// The last captured change that the read contains.
    pub seq: i64,
}

/// Where a batch goes.
#[derive(Clone, Copy)]
pub(super) enum Destination<'a> {
    /// Into a table, as a chunk of it.
    Chunk { table: usize, number: i64, of: &'a ChunkEnd },
    /// As what has become of its rows, up to a captured change.
    Changes(i64),
}

/// Sends a batch until nothing is in its way.
pub(super) async fn send(session: &Session<'_>, batch: &mut Batch, to: Destination<'_>) -> Result<ChunkDone> {
    loop {
        let done = match to {
            Destination::Chunk { table, number, of } => {
                let copy = CopyChunk {
                    table,
                    number,
                    last: of.last.clone().unwrap_or_default(),
                    end: of.end,
                    source_rows: of.rows,
                    source_bytes: of.bytes,
                    seq: of.seq,
                    rows: batch.stored().into_iter().map(|(_, _, values)| values.clone()).collect(),
                    quarantined: batch.quarantined(),
                    replace: batch.replace.iter().map(|(_, key)| key.clone()).collect(),
                };
                session.target().copy(&session.lease, &copy).await?
            }
            Destination::Changes(upto) => {
                let apply = Apply {
                    changes: batch.changes(),
                    looked_at: batch.looked_at(),
                    quarantined: batch.quarantined(),
                    upto,
                };
                session.target().apply(&session.lease, &apply).await?
            }
        };
        let place = |batch: &Batch, row: usize| match to {
            Destination::Chunk { .. } => batch.stored().get(row).map_or(0, |(at, _, _)| *at),
            Destination::Changes(_) => batch.place_of_change(row),
        };
        match done {
            ChunkDone::Conflict { row, stored, constraint } => {
                batch.part(session, place(batch, row), stored, &constraint).await?;
            }
            ChunkDone::Refused(rows) => {
                let places: Vec<_> = rows.into_iter().map(|it| (place(batch, it.row), it.by)).collect();
                for (at, by) in places {
                    let problem = format!("is refused by {by} of the new store");
                    batch.refuse(at, Reason { column: String::new(), hazard: number::LIMIT, problem });
                }
            }
            done => return Ok(done),
        }
    }
}

impl Batch {
    /// The place in the batch of a change, by its index among [`Batch::changes`].
    pub(super) fn place_of_change(&self, change: usize) -> usize {
        let changes = self.changes();
        let Some(found) = changes.get(change) else { return 0 };
        let is_it = |item: &Item| {
            item.row.table == found.table
                && item.values.is_ok()
                && item.key.as_ref().is_some_and(|key| *key == found.key)
        };
        self.items.iter().position(is_it).unwrap_or(0)
    }
}

/// Values as bytes that are equal exactly if the values are.
fn bytes(values: &[Value]) -> Vec<u8> {
    let mut all = Vec::new();
    for value in values {
        put(&mut all, value);
    }
    all
}

fn put(into: &mut Vec<u8>, value: &Value) {
    let mut part = |tag: u8, content: &[u8]| {
        into.push(tag);
        into.extend((content.len() as u64).to_be_bytes());
        into.extend(content);
    };
    match value {
        Value::Null => part(0, &[]),
        Value::Bool(it) => part(1, &[u8::from(*it)]),
        Value::Int(it) => part(2, &it.to_be_bytes()),
        Value::Double(it) => part(3, &it.to_bits().to_be_bytes()),
        Value::Decimal(it) => part(4, it.as_bytes()),
        Value::Text(it) => part(5, it.as_bytes()),
        Value::Uuid(it) => part(6, it.as_bytes()),
        Value::Json(it) => part(7, it.as_str().as_bytes()),
        Value::Timestamp(it) => part(8, &it.as_micros().to_be_bytes()),
        Value::Date(it) => part(9, it.to_string().as_bytes()),
        Value::Bytes(it) => part(10, it),
        Value::Vector(it) => {
            part(11, &it.iter().flat_map(|number| number.to_bits().to_be_bytes()).collect::<Vec<_>>());
        }
    }
}
