//! The tables of the new store that are verified, each with the tables of the old one that its rows come from.

use std::collections::BTreeSet;

use changeover_core::cutover::{Also, Column, From, Raw, RawKey, SourceColumn, Table, Type, Witnessed};
use changeover_core::{Error, Result, TenantId, Uuid};

use super::canon::Canon;
use super::computed::Rule;
use super::notification;
use super::rules::RowRule;
use super::source::{self, Accepted};
use super::tree::{self, Digest};

/// What the rows of a run are made with, beside their tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// The tenant of a file that has none.
    pub tenant: TenantId,
    /// The nonce of the old file.
    pub nonce: Uuid,
    /// What is added to the number of a row of `notification_audit` for its place in the recorded order.
    pub notifications_from: i64,
    /// Losses that were accepted, by name.
    pub accepted: BTreeSet<String>,
}

/// A table of the new store.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) target: String,
    /// Those that hold something of the old store: what a column is given for want of anything else says nothing of it.
    pub(super) columns: Vec<Column>,
    /// The key that orders it, by places in `columns`; the tenant is the first of them, as it is in the indexes.
    pub(super) key: Vec<usize>,
    pub(super) parts: Vec<Part>,
}

/// A table of the old store that rows of a relation come from.
#[derive(Debug)]
pub(super) struct Part {
    /// Name of the declaration.
    pub(super) name: String,
    pub(super) source: String,
    /// The order it is read in.
    pub(super) walk: Vec<SourceColumn>,
    /// The declared key, and where it stands among what is read.
    pub(super) key: Vec<SourceColumn>,
    key_at: Vec<usize>,
    pub(super) read: Vec<SourceColumn>,
    columns: Vec<Column>,
    pub(super) cells: Vec<Cell>,
    /// Places of the relation's columns among `columns`.
    pub(super) shown: Vec<usize>,
    /// None of them is there twice.
    shown_once: bool,
    /// Places of the relation's key among the relation's columns.
    key_shown: Vec<usize>,
    transform: Option<notification::Mapping>,
    rules: Vec<RowRule>,
    accepted: Accepted,
}

/// Where the value of a column comes from.
#[derive(Debug)]
pub(super) enum Cell {
    Read(usize),
    Tenant(Canon),
    Computed(Rule),
    Transformed,
    Constant,
}

/// A row of the old store, as the new one has to hold it.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// Its key in the relation; `None` where the declaration does not allow what stands there.
    pub(super) key: Option<Vec<Canon>>,
    pub(super) leaf: Digest,
    /// The declared key, raw.
    pub(super) declared: RawKey,
    /// The key it was read by.
    pub(super) walk: RawKey,
}

impl Relation {
    /// The relations of the declarations, in the order in which those first name them; with the columns that `counts` lets through.
    pub(super) fn all(tables: &[Table], world: &World, counts: fn(&Column) -> bool) -> Result<Vec<Self>> {
        let mut found: Vec<Self> = Vec::new();
        for table in tables {
            let own: Vec<_> =
                table.columns.iter().map(|column| (column.name.clone(), column.name.clone())).collect();
            let key = walk_key(table);
            add(&mut found, table, &table.target, &own, &key, world, counts)?;
            for Also { target, columns, key } in &table.also {
                add(&mut found, table, target, columns, key, world, counts)?;
            }
        }
        Ok(found)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }

    pub(super) fn key_names(&self) -> Vec<String> {
        self.key.iter().map(|at| self.columns[*at].name.clone()).collect()
    }
}

/// The key with the tenant before it, where the new store has it so.
fn walk_key(table: &Table) -> Vec<String> {
    let names_all_unique = |name: &String| {
        !table.unique.is_empty() && table.unique.iter().all(|unique| unique.columns.contains(name))
    };
    let tenant = table.columns.iter().find(|column| match column.from {
        From::Tenant => true,
        From::Source(_) => column.name == "tenant_id" && names_all_unique(&column.name),
        From::Computed(_) => false,
    });
    let tenant = tenant.map(|column| column.name.clone()).filter(|name| !table.key.contains(name));
    tenant.into_iter().chain(table.key.iter().cloned()).collect()
}

/// `shown`: the name in the relation, and the column of the declaration.
fn add(
    found: &mut Vec<Relation>,
    table: &Table,
    target: &str,
    shown: &[(String, String)],
    key: &[String],
    world: &World,
    counts: fn(&Column) -> bool,
) -> Result<()> {
    let wrong = |what: String| Error::invalid(format!("the declaration of {}: {what}", table.name));
    let known = found.iter().position(|relation| relation.target == target);
    if known.is_none() {
        let mut columns = Vec::new();
        for (name, of) in shown {
            let column = table.column(of).ok_or_else(|| wrong(format!("no column {of}")))?;
            if counts(column) {
                columns.push(Column { name: name.clone(), ..column.clone() });
            }
        }
        let place = |name: &String| {
            let at = columns.iter().position(|column| column.name == *name);
            let at = at.ok_or_else(|| wrong(format!("the key {name} is no column")))?;
            match columns[at].to {
                Type::Double | Type::Decimal { .. } | Type::Json { .. } | Type::Vector { .. } => {
                    Err(wrong(format!("the key {name} is of a type whose values have no order of their own")))
                }
                _ => Ok(at),
            }
        };
        let key = key.iter().map(place).collect::<Result<_>>()?;
        found.push(Relation { target: target.to_owned(), columns, key, parts: Vec::new() });
    }
    let at = known.unwrap_or(found.len() - 1);
    let relation = &mut found[at];
    let source_of = |column: &Column| {
        let of = shown.iter().find(|(name, _)| *name == column.name).map(|(_, of)| of);
        let of = of.and_then(|of| table.index_of(of));
        of.ok_or_else(|| wrong(format!("no column for {} of {target}", column.name)))
    };
    let places = relation.columns.iter().map(source_of).collect::<Result<Vec<_>>>()?;
    relation.parts.push(Part::new(table, relation, places, world)?);
    Ok(())
}

fn is_constant(column: &Column) -> bool {
    matches!(&column.from, From::Computed(rule) if rule.starts_with("constant:"))
}

/// Whether the old store says something of a column.
pub(super) fn is_told(column: &Column) -> bool {
    !is_constant(column)
}

/// Whether the old store can hold what the new one has in a column: not where another one's value was taken for want of it.
pub(super) fn goes_back(column: &Column) -> bool {
    let is_copy = matches!(&column.from, From::Computed(rule) if rule.starts_with("same_as:"));
    is_told(column) && !is_copy
}

impl Part {
    fn new(table: &Table, relation: &Relation, shown: Vec<usize>, world: &World) -> Result<Self> {
        let wrong = |what: String| Error::invalid(format!("the declaration of {}: {what}", table.name));
        let transform = match table.transform.as_deref() {
            None => None,
            Some("notification_audit") => Some(notification::Mapping::new(world)),
            Some(other) => {
                return Err(wrong(format!("the verifier does not know the transformation {other:?}")));
            }
        };
        let key = table.source_key();
        if key.len() != table.key.len() {
            return Err(wrong("a key is not read from the old table".to_owned()));
        }
        let mut read = table.source_columns();
        read.extend(key.iter().filter(|column| !read.contains(column)).cloned().collect::<Vec<_>>());
        let read_at = |wanted: &SourceColumn| read.iter().position(|column| column == wanted);
        let mut cells = Vec::new();
        for column in &table.columns {
            cells.push(match &column.from {
                From::Tenant => Cell::Tenant(Canon::Text(world.tenant.to_string())),
                _ if is_constant(column) => Cell::Constant,
                From::Computed(rule) => match Rule::parse(rule, &table.columns) {
                    Some(rule) => Cell::Computed(rule),
                    None if transform.is_some() => match notification::rule(&column.name) {
                        Some(rule) => {
                            Rule::parse(rule, &table.columns).map_or(Cell::Transformed, Cell::Computed)
                        }
                        None => Cell::Transformed,
                    },
                    None => {
                        return Err(wrong(format!("the verifier does not know how {rule:?} is computed")));
                    }
                },
                From::Source(_) if transform.is_some() => Cell::Transformed,
                From::Source(source) => {
                    Cell::Read(read_at(source).ok_or_else(|| wrong(format!("{} is not read", column.name)))?)
                }
            });
        }
        // In the order of the relation where the old table has its key; else in that of the declared one.
        let mut walk = Vec::new();
        for at in &relation.key {
            match &table.columns[shown[*at]].from {
                From::Source(source) if transform.is_none() => walk.push(source.clone()),
                From::Tenant => {}
                From::Source(_) | From::Computed(_) => {
                    walk.clone_from(&key);
                    break;
                }
            }
        }
        Ok(Self {
            name: table.name.clone(),
            source: table.source.clone(),
            key_at: key.iter().filter_map(read_at).collect(),
            walk,
            key,
            columns: table.columns.clone(),
            cells,
            shown_once: shown.iter().collect::<BTreeSet<_>>().len() == shown.len(),
            shown,
            key_shown: relation.key.clone(),
            transform,
            rules: table.rules.iter().map(|rule| RowRule::new(rule)).collect(),
            accepted: Accepted::of(&world.accepted),
            read,
        })
    }

    /// The columns of the declaration.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Its transformation.
    pub(super) fn transform_name(&self) -> Option<&'static str> {
        self.transform.as_ref().map(|_| "notification_audit")
    }

    /// The row as the relation has to hold it, in the order of its columns.
    pub(super) fn row(&self, seen: &Witnessed) -> Vec<Canon> {
        let mut row: Vec<Canon> = match &self.transform {
            Some(mapping) => mapping.row(&self.columns, &self.read, seen),
            None => Vec::new(),
        };
        row.resize(self.columns.len(), Canon::Null);
        for (at, (cell, column)) in self.cells.iter().zip(&self.columns).enumerate() {
            match cell {
                Cell::Read(from) => {
                    let nothing = None;
                    let value = seen.values.get(*from).unwrap_or(&nothing);
                    row[at] = source::decode(column, value, &self.accepted);
                }
                Cell::Tenant(tenant) => row[at].clone_from(tenant),
                Cell::Computed(_) | Cell::Transformed | Cell::Constant => {}
            }
        }
        for rule in &self.rules {
            rule.hold(&self.columns, &mut row, &self.read, seen);
        }
        for (at, cell) in self.cells.iter().enumerate() {
            if let Cell::Computed(rule) = cell {
                row[at] = rule.value(&self.columns, &row);
            }
        }
        let taken = |at: &usize| {
            if self.shown_once { std::mem::replace(&mut row[*at], Canon::Null) } else { row[*at].clone() }
        };
        self.shown.iter().map(taken).collect()
    }

    /// The declared key of a row, raw.
    pub(super) fn declared(&self, seen: &Witnessed) -> RawKey {
        let raw = |at: &usize| seen.values.get(*at).and_then(source::raw);
        self.key_at.iter().filter_map(raw).collect()
    }

    /// The key of a row in the relation.
    pub(super) fn key_of(&self, row: &[Canon]) -> Option<Vec<Canon>> {
        let key: Vec<_> = self.key_shown.iter().map(|at| row[*at].clone()).collect();
        key.iter().all(|value| value.as_key().is_some()).then_some(key)
    }

    /// The key in the relation of a row that is not there any more, where its declared key says it.
    pub(super) fn key_from_raw(&self, declared: &[Raw]) -> Option<Vec<Canon>> {
        if self.transform.is_some() {
            return None;
        }
        let value = |shown: &usize| {
            let at = self.shown[*shown];
            match (&self.cells[at], &self.columns[at].from) {
                (Cell::Tenant(tenant), _) => Some(tenant.clone()),
                (Cell::Read(_), From::Source(of)) => {
                    let raw = declared.get(self.key.iter().position(|column| column == of)?)?;
                    Some(source::decode(&self.columns[at], &source::seen(raw), &self.accepted))
                }
                _ => None,
            }
        };
        let key: Vec<_> = self.key_shown.iter().map(value).collect::<Option<_>>()?;
        key.iter().all(|value| value.as_key().is_some()).then_some(key)
    }

    /// Declared keys whose rows have this key in the relation; `None` where they cannot be told.
    pub(super) fn spellings(&self, key: &[Canon]) -> Option<Vec<RawKey>> {
        if self.transform.is_some() {
            return None;
        }
        let mut found: Vec<RawKey> = vec![Vec::new()];
        for wanted in &self.key {
            let is_it = |shown: &usize| self.columns[self.shown[*shown]].from == From::Source(wanted.clone());
            let place = self.key_shown.iter().position(is_it)?;
            let to = &self.columns[self.shown[self.key_shown[place]]].to;
            let values = super::look::spellings(to, key.get(place)?)?;
            let longer = |known: &RawKey, value: &Raw| known.iter().cloned().chain([value.clone()]).collect();
            found = found
                .iter()
                .flat_map(|known| values.iter().map(|value| longer(known, value)).collect::<Vec<_>>())
                .collect();
        }
        Some(found)
    }

    pub(super) fn expected(&self, seen: &Witnessed) -> Expected {
        let row = self.row(seen);
        Expected {
            key: self.key_of(&row),
            leaf: digest(&row),
            declared: self.declared(seen),
            walk: seen.key.clone(),
        }
    }
}

/// The digest of a row.
pub(super) fn digest(row: &[Canon]) -> Digest {
    let mut bytes = Vec::with_capacity(1_024);
    for value in row {
        value.encode(&mut bytes);
    }
    tree::leaf(&bytes)
}
