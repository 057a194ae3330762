//! Rows of the old store as rows of the new one, and back. Pure: no database, no clock, no chance.
//!
//! What cannot be converted without losing something stays out, with every reason, unless the loss was accepted by
//! name ([`Accepted`]). The numbers of the reasons are those of [`crate::hazards`].

mod accepted;
mod back;
mod cell;
mod compute;
mod constant;
mod decimal;
mod json;
mod notes;
mod notification;
mod rules;
mod time;

use changeover_core::cutover::{BackChange, From, Raw, RawKey, Reason, SourceColumn, Table, Type, Value};
use changeover_core::{Error, ErrorKind, Result, TenantId, Uuid};

pub use accepted::{Accepted, Loss};
pub(crate) use compute::Computed;
pub(crate) use constant::{constant, shown};
pub(crate) use rules::Rule;

use self::compute::AuditColumns;
use self::notes::Notes;
use crate::hazards::number;

/// The most bytes of text that an index row of PostgreSQL is sure to hold: a third of a page, without its heads.
const MAX_INDEXED: usize = 2_600;

/// Converts the rows of declared tables.
#[derive(Clone, Debug)]
pub struct Converter {
    tables: Vec<Prepared>,
    tenant: TenantId,
    nonce: Uuid,
    accepted: Accepted,
    base: i64,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its values, in the order of the columns; `None` if a reason speaks against it.
    pub values: Option<Vec<Value>>,
    /// Why it stays out.
    pub reasons: Vec<Reason>,
    /// What was converted in it so that it is not what it was to the last byte: declared, or accepted by name.
    pub converted: Vec<Reason>,
}

/// A declared table with everything found.
#[derive(Clone, Debug)]
struct Prepared {
    table: Table,
    /// Names of the columns of a raw row.
    sources: Vec<String>,
    /// What the columns are called in the old store: for reasons.
    labels: Vec<String>,
    steps: Vec<Step>,
    /// Index of each key column.
    key: Vec<usize>,
    /// The text columns of each index of the new store.
    indexed: Vec<Vec<usize>>,
    rules: Vec<Rule>,
    transform: Option<notification::Transform>,
}

/// How a column gets its value.
#[derive(Clone, Debug)]
enum Step {
    Read {
        at: usize,
        blob_uuid: bool,
    },
    Tenant,
    Constant(Value),
    SameAs(usize),
    DateOf(usize),
    AuditDigest(AuditColumns),
    /// By the transformation of the table.
    Transform,
}

/// What is added to the number of a notification for its place in the recorded order of a file whose audit events have places
/// up to `highest`.
///
/// # Errors
///
/// `Invalid` if there is no place behind them.
pub fn notifications_from(highest: i64) -> Result<i64> {
    notification::base(highest).ok_or_else(|| {
        Error::invalid(format!(
            "no place is left for notifications above that of the last audit event, {highest}"
        ))
    })
}

impl Converter {
    /// Of declared tables. `tenant` is that of a file without tenants, `nonce` that of the file; nothing is accepted.
    ///
    /// # Errors
    ///
    /// `Config` for declarations that [`crate::declare::parse`] would refuse, as far as conversion goes.
    pub fn new(tables: &[Table], tenant: &TenantId, nonce: Uuid) -> Result<Self> {
        Ok(Self {
            tables: tables.iter().map(Prepared::new).collect::<Result<_>>()?,
            tenant: tenant.clone(),
            nonce,
            accepted: Accepted::default(),
            base: notification::base(0).unwrap_or(0),
        })
    }

    /// The same, with losses accepted.
    #[must_use]
    pub fn accepting(self, accepted: Accepted) -> Self {
        Self { accepted, ..self }
    }

    /// The same for a file whose audit events have places up to `highest`: notifications come behind them.
    ///
    /// # Errors
    ///
    /// `Invalid` if there is no place behind them.
    pub fn above(self, highest: i64) -> Result<Self> {
        let base = notifications_from(highest)?;
        Ok(Self { base, ..self })
    }

    /// The row of the new store, or every reason why there is none. `row` is in the order of [`Table::source_columns`],
    /// `key` in that of [`Table::source_key`].
    ///
    /// # Errors
    ///
    /// Never none: at least one reason.
    pub fn row(&self, table: usize, key: &[Raw], row: &[Raw]) -> Result<Vec<Value>, Vec<Reason>> {
        let mut notes = Notes::new(self.accepted, false);
        self.run(table, key, row, &mut notes).ok_or(notes.reasons)
    }

    /// As [`Converter::row`], and what was converted on the way.
    pub fn judge(&self, table: usize, key: &[Raw], row: &[Raw]) -> Judged {
        let mut notes = Notes::new(self.accepted, true);
        let values = self.run(table, key, row, &mut notes);
        Judged { values, reasons: notes.reasons, converted: notes.converted.unwrap_or_default() }
    }

    /// A key as the new store has it, in the order of [`Table::key`]; or why it has none.
    ///
    /// # Errors
    ///
    /// Never none: at least one reason.
    pub fn key(&self, table: usize, key: &[Raw]) -> Result<Vec<Value>, Vec<Reason>> {
        let prepared = &self.tables[table];
        let mut notes = Notes::new(self.accepted, false);
        if key.len() != prepared.key.len() {
            return Err(vec![arity(key.len(), prepared.key.len())]);
        }
        let mut values = Vec::with_capacity(key.len());
        for (raw, at) in key.iter().zip(&prepared.key) {
            values.push(if prepared.transform.is_some() {
                match raw {
                    Raw::Integer(id) => Some(Value::Uuid(notification::event_id(self.nonce, *id))),
                    _ => cell::class(raw, number::CLASS, "an integer", &mut notes.at(&prepared.labels[*at])),
                }
            } else {
                prepared.read(*at, raw, &mut notes)
            });
        }
        let values = values.into_iter().collect::<Option<Vec<_>>>();
        values.ok_or(notes.reasons)
    }

    /// What the old store has to write for a row of the new one; `row` in the order of [`Table::columns`], `None` if it is
    /// to go.
    ///
    /// # Errors
    ///
    /// `Invalid` for a table that does not go back, a value that is not of its column's type, and a time that the old
    /// store's unit does not hold.
    pub fn back(&self, table: usize, key: &[Value], row: Option<&[Value]>) -> Result<BackChange> {
        let prepared = &self.tables[table];
        let declared = &prepared.table;
        if !declared.goes_back {
            return Err(Error::invalid(format!("rows of table {:?} do not go back", declared.name)));
        }
        if key.len() != prepared.key.len() || row.is_some_and(|row| row.len() != declared.columns.len()) {
            return Err(Error::invalid(format!(
                "table {:?}: key or row is not of its length",
                declared.name
            )));
        }
        let mut named = Vec::with_capacity(key.len());
        for (value, at) in key.iter().zip(&prepared.key) {
            named.extend(prepared.written(*at, value)?);
        }
        let row = row.map(|row| {
            let mut written: Vec<(SourceColumn, Raw)> = Vec::with_capacity(row.len());
            for (at, value) in row.iter().enumerate() {
                let column = prepared.written(at, value)?;
                written.extend(column.filter(|(name, _)| written.iter().all(|(other, _)| other != name)));
            }
            Ok::<_, Error>(written)
        });
        Ok(BackChange { table: declared.source.clone(), key: named, row: row.transpose()? })
    }

    /// All keys under which the old store may have the row with a key: ids were written in lower and in upper case. The
    /// first is that of [`Converter::back`].
    ///
    /// # Errors
    ///
    /// As [`Converter::back`].
    pub fn spellings(&self, table: usize, key: &[Value]) -> Result<Vec<RawKey>> {
        let mut keys: Vec<RawKey> = vec![Vec::new()];
        for ((_, raw), value) in self.back(table, key, None)?.key.into_iter().zip(key) {
            let upper = match (&raw, value) {
                (Raw::Text(text), Value::Uuid(_)) => Some(Raw::Text(text.to_ascii_uppercase())),
                _ => None,
            };
            let with = |raw: &Raw| keys.iter().map(|key| [key, std::slice::from_ref(raw)].concat()).collect();
            let more: Vec<RawKey> =
                upper.filter(|upper| *upper != raw).map(|upper| with(&upper)).unwrap_or_default();
            keys = with(&raw);
            keys.extend(more);
        }
        Ok(keys)
    }

    fn run(&self, table: usize, key: &[Raw], raw: &[Raw], notes: &mut Notes) -> Option<Vec<Value>> {
        let prepared = &self.tables[table];
        for (found, wanted) in [(raw.len(), prepared.sources.len()), (key.len(), prepared.key.len())] {
            if found != wanted {
                notes.reasons.push(arity(found, wanted));
                return None;
            }
        }
        if let Some(transform) = &prepared.transform {
            return transform.row(raw, (&self.tenant, self.nonce, self.base), notes);
        }
        let mut row: Vec<Option<Value>> = Vec::with_capacity(prepared.steps.len());
        for (at, step) in prepared.steps.iter().enumerate() {
            row.push(match step {
                Step::Read { at: place, .. } => prepared.read(at, &raw[*place], notes),
                Step::Tenant => Some(Value::Text(self.tenant.as_str().to_owned())),
                Step::Constant(value) => Some(value.clone()),
                Step::SameAs(_) | Step::DateOf(_) | Step::AuditDigest(_) | Step::Transform => None,
            });
        }
        for rule in &prepared.rules {
            rule.check(raw, &row, &prepared.sources, &prepared.labels, notes);
        }
        prepared.check_indexes(&row, notes);
        if !notes.reasons.is_empty() {
            return None;
        }
        for (at, step) in prepared.steps.iter().enumerate() {
            let made = match step {
                Step::SameAs(other) => row[*other].clone(),
                Step::DateOf(other) => match &row[*other] {
                    Some(Value::Timestamp(time)) => Some(Value::Date(time.date())),
                    _ => Some(Value::Null),
                },
                Step::AuditDigest(columns) => match columns.digest(&row) {
                    Some(digest) => Some(Value::Bytes(digest.to_vec())),
                    None => notes.at("").bad(number::LIMIT, "is not an audit event"),
                },
                Step::Read { .. } | Step::Tenant | Step::Constant(_) | Step::Transform => continue,
            };
            row[at] = made;
        }
        row.into_iter().collect()
    }
}

fn arity(found: usize, wanted: usize) -> Reason {
    Reason {
        column: String::new(),
        hazard: number::CLASS,
        problem: format!("has {found} values, {wanted} are declared"),
    }
}

impl Prepared {
    fn new(table: &Table) -> Result<Self> {
        let refuse = |allowed: String| {
            let name = &table.name;
            Error::new(ErrorKind::Config, format!("table {name:?}: allowed is {allowed}"))
        };
        let sources = table.source_columns();
        let rules: Vec<_> = table
            .rules
            .iter()
            .map(|rule| Rule::parse(rule, table))
            .collect::<Result<_, _>>()
            .map_err(refuse)?;
        let blob_uuid = |at: usize| rules.contains(&Rule::BlobUuid(at));
        let mut steps = Vec::with_capacity(table.columns.len());
        for (index, column) in table.columns.iter().enumerate() {
            steps.push(match &column.from {
                From::Source(source) => {
                    let at = sources.iter().position(|other| other == source).unwrap_or_default();
                    Step::Read { at, blob_uuid: blob_uuid(index) }
                }
                From::Tenant => Step::Tenant,
                From::Computed(name) => {
                    let computed = Computed::parse(name).map_err(refuse)?;
                    computed.fits(table, column).map_err(refuse)?;
                    let at = |name: &str| table.index_of(name).unwrap_or_default();
                    match computed {
                        Computed::SameAs(other) => Step::SameAs(at(&other)),
                        Computed::DateOf(other) => Step::DateOf(at(&other)),
                        Computed::AuditDigest => Step::AuditDigest(AuditColumns::of(table).map_err(refuse)?),
                        Computed::Constant(value) => {
                            Step::Constant(constant(&value, &column.to).unwrap_or(Value::Null))
                        }
                        Computed::Transform => Step::Transform,
                    }
                }
            });
        }
        let find = |name: &String| {
            table
                .index_of(name)
                .ok_or_else(|| refuse(format!("a column for {name:?}, which is none of the table's")))
        };
        let key: Vec<_> = table.key.iter().map(find).collect::<Result<_>>()?;
        let is_text = |at: &usize| matches!(table.columns[*at].to, Type::Text { .. });
        let tenants = || (0..table.columns.len()).filter(|at| table.columns[*at].from == From::Tenant);
        let mut indexed = vec![key.iter().copied().chain(tenants()).filter(is_text).collect()];
        for unique in &table.unique {
            let columns: Vec<_> = unique.columns.iter().map(find).collect::<Result<_>>()?;
            indexed.push(columns.into_iter().chain(tenants()).filter(is_text).collect());
        }
        let transform = match &table.transform {
            None => None,
            Some(name) if name == "notification_audit" => Some(
                notification::Transform::of(table).map_err(|lacks| Error::new(ErrorKind::Config, lacks))?,
            ),
            Some(name) => return Err(refuse(format!("the transform notification_audit, not {name:?}"))),
        };
        let label = |source: &SourceColumn| match source {
            SourceColumn::Named(name) => name.clone(),
            SourceColumn::Rowid => "rowid".to_owned(),
        };
        let labels = table.columns.iter().map(|column| match &column.from {
            From::Source(source) => label(source),
            From::Tenant | From::Computed(_) => column.name.clone(),
        });
        Ok(Self {
            labels: labels.collect(),
            sources: sources.iter().map(label).collect(),
            steps,
            key,
            indexed,
            rules,
            transform,
            table: table.clone(),
        })
    }

    /// A value for the column at a place.
    fn read(&self, at: usize, raw: &Raw, notes: &mut Notes) -> Option<Value> {
        let column = &self.table.columns[at];
        let mut notes = notes.at(&self.labels[at]);
        if *raw == Raw::Null {
            return match &column.null_becomes {
                Some(value) => {
                    notes.converted(number::MISSING, "is null, for which a value is declared");
                    Some(value.clone())
                }
                None if column.nullable => Some(Value::Null),
                None if self.key.contains(&at) => notes.bad(number::NULL_KEY, "is null"),
                None => notes.bad(number::MISSING, "is null"),
            };
        }
        let blob_uuid = matches!(self.steps[at], Step::Read { blob_uuid: true, .. });
        cell::convert(raw, &column.to, blob_uuid, &mut notes)
    }

    /// Refuses what an index of the new store cannot hold.
    fn check_indexes(&self, row: &[Option<Value>], notes: &mut Notes) {
        for columns in &self.indexed {
            let size = |at: &usize| if let Some(Value::Text(text)) = &row[*at] { text.len() } else { 0 };
            let bytes: usize = columns.iter().map(size).sum();
            if let Some(longest) = columns.iter().max_by_key(|at| size(at))
                && bytes > MAX_INDEXED
            {
                let problem = format!("makes a key of {bytes} bytes, at most {MAX_INDEXED} are allowed");
                notes.at(&self.labels[*longest]).bad::<()>(number::LONG_KEY, problem);
            }
        }
    }

    /// The column of the old store that the one at a place is written to, and what is written; `None` for what the old
    /// store does not have.
    fn written(&self, at: usize, value: &Value) -> Result<Option<(SourceColumn, Raw)>> {
        let column = &self.table.columns[at];
        let named = SourceColumn::Named(column.name.clone());
        let source = match &column.from {
            From::Source(source) => source.clone(),
            From::Computed(_) if self.table.reads.contains(&named) => named,
            From::Tenant | From::Computed(_) => return Ok(None),
        };
        let blob_uuid = matches!(self.steps[at], Step::Read { blob_uuid: true, .. });
        let raw = back::raw(value, &column.to, blob_uuid, &column.name)?;
        Ok(Some((source, raw)))
    }
}
