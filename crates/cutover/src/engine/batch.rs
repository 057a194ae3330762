//! Rows of the old store on their way: converted, with twins told apart from others, and sent until nothing is in their way.

use std::collections::{HashMap, HashSet};

use changeover_core::cutover::{
    Apply, Change, Chunk, ChunkDone, CopyChunk, Quarantined, Raw, RawKey, RawRow, ReadRows, Reason, Value,
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
    /// Rows that share what has to be unique stay out, all of them; so do those that share it with `twins`.
    pub(super) fn new(session: &Session<'_>, rows: Vec<Row>, twins: &HashSet<Identity>) -> Self {
        let items = rows.into_iter().map(|row| session.item(row)).collect();
        let mut batch = Self { items, seen: HashSet::new(), replace: Vec::new() };
        batch.part_twins(session, twins);
        batch
    }

    /// Without a row.
    pub(super) fn empty() -> Self {
        Self { items: Vec::new(), seen: HashSet::new(), replace: Vec::new() }
    }

    fn part_twins(&mut self, session: &Session<'_>, twins: &HashSet<Identity>) {
        let mut places: HashMap<Identity, Vec<(usize, Reason)>> = HashMap::new();
        for (at, item) in self.items.iter().enumerate() {
            let Ok(values) = &item.values else { continue };
            for (identity, reason) in session.identities(item.row.table, values) {
                places.entry(identity).or_default().push((at, reason));
            }
        }
        for (identity, found) in places {
            if found.len() > 1 || twins.contains(&identity) {
                for (at, reason) in found {
                    self.items[at].refuse(reason);
                }
            }
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

    /// What has to be unique about a row, each with the reason that speaks against a second one.
    fn identities(&self, table: usize, values: &[Value]) -> Vec<(Identity, Reason)> {
        let declared = &self.tables()[table];
        let mut found = Vec::new();
        let mut add = |rule: usize, columns: &[String], hazard: u16, problem: &str| {
            let mut identity = format!("{table} {rule} ").into_bytes();
            for name in columns {
                match declared.index_of(name).and_then(|at| values.get(at)) {
                    None | Some(Value::Null) => return,
                    Some(value) => put(&mut identity, value),
                }
            }
            let reason = Reason { column: columns.join(", "), hazard, problem: problem.to_owned() };
            found.push((identity, reason));
        };
        let spelled = "is also there in another spelling, which is the same id in the new store";
        add(0, &declared.key, number::SPELLED_TWICE, spelled);
        for (rule, unique) in declared.unique.iter().enumerate() {
            let counts = unique.only_where.as_ref().is_none_or(|column| {
                declared.index_of(column).and_then(|at| values.get(at)) == Some(&Value::Bool(true))
            });
            if counts {
                let shared = "has the same values as another row, and they are unique in the new store";
                add(rule + 1, &unique.columns, number::DUPLICATE, shared);
            }
        }
        found
    }

    /// The same of a raw row that would convert.
    pub(super) fn identities_of(&self, table: usize, key: &[Raw], raw: &[Raw]) -> Vec<Identity> {
        let values = self.converter.row(table, key, raw);
        let of = |values: Vec<Value>| self.identities(table, &values).into_iter().map(|(it, _)| it).collect();
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

/// Where a batch goes.
#[derive(Clone, Copy)]
pub(super) enum Destination<'a> {
    /// Into a table, as a chunk of it.
    Chunk { table: usize, number: i64, chunk: &'a Chunk, bytes: u64 },
    /// As what has become of its rows, up to a captured change.
    Changes(i64),
}

/// Sends a batch until nothing is in its way.
pub(super) async fn send(session: &Session<'_>, batch: &mut Batch, to: Destination<'_>) -> Result<ChunkDone> {
    loop {
        let done = match to {
            Destination::Chunk { table, number, chunk, bytes } => {
                let copy = CopyChunk {
                    table,
                    number,
                    last: chunk.rows.last().map(|(key, _)| key.clone()).unwrap_or_default(),
                    end: chunk.end,
                    source_rows: chunk.rows.len() as u64,
                    source_bytes: bytes,
                    seq: chunk.seq,
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
    let (tag, content): (u8, Vec<u8>) = match value {
        Value::Null => (0, Vec::new()),
        Value::Bool(it) => (1, vec![u8::from(*it)]),
        Value::Int(it) => (2, it.to_be_bytes().to_vec()),
        Value::Double(it) => (3, it.to_bits().to_be_bytes().to_vec()),
        Value::Decimal(it) => (4, it.as_bytes().to_vec()),
        Value::Text(it) => (5, it.as_bytes().to_vec()),
        Value::Uuid(it) => (6, it.as_bytes().to_vec()),
        Value::Json(it) => (7, it.as_str().as_bytes().to_vec()),
        Value::Timestamp(it) => (8, it.as_micros().to_be_bytes().to_vec()),
        Value::Date(it) => (9, it.to_string().into_bytes()),
        Value::Bytes(it) => (10, it.clone()),
        Value::Vector(it) => (11, it.iter().flat_map(|number| number.to_bits().to_be_bytes()).collect()),
    };
    into.push(tag);
    into.extend((content.len() as u64).to_be_bytes());
    into.extend(content);
}
