//! Tables by declaration: what the engine knows of them, ours and a user's alike.

use super::Value;

/// One table of a module, how it is read from the old store and what it becomes in the new.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// How it is called in reports, records and the capture log; unique in the module.
    pub name: String,
    /// The table in the old store.
    pub source: String,
    /// The table in the new store: `schema.table`.
    pub target: String,
    /// Names of the [`Column`]s (of the new store) that make the key: one to four, each read from a column or the rowid of
    /// the old store, so that a captured key can be converted without its row. The tenant is not among them.
    pub key: Vec<String>,
    /// Every column of the new store that is written, in this order.
    pub columns: Vec<Column>,
    /// Columns whose values together are unique in the new store under rules of its own, beside the key.
    pub unique: Vec<Unique>,
    /// Columns that name a row of a declared table.
    pub references: Vec<Reference>,
    /// The column of type date that decides the monthly partition in the new store, if it is partitioned: rows are copied
    /// into `target` by way of its partitions, which are made when missing.
    pub partition_by: Option<String>,
    /// Name of a transformation of the engine that makes all columns out of the raw row, where rows change their shape
    /// (`notification_audit`); the `from` of the columns is not used then, but for that of the key.
    pub transform: Option<String>,
    /// Other tables of the new store that hold some columns of the same row (a table of ids over all partitions).
    pub also: Vec<Also>,
    /// Columns of the old store that are read with each row beside those that `columns` name: what a rule or the
    /// transformation looks at. One that has the name of a computed column gets that column's value on the way back.
    pub reads: Vec<SourceColumn>,
    /// Names of rules of the engine that a row has to keep beside its types: `semantic_version:COLUMN` and its like.
    pub rules: Vec<String>,
    /// Whether rows written after the switch go back on a revert. Only tables whose columns are all read from columns can.
    pub goes_back: bool,
}

/// Another table of the new store that is written with each row of a declared one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Also {
    /// The table: `schema.table`.
    pub target: String,
    /// Its columns: the name there, and the column of the row that it holds.
    pub columns: Vec<(String, String)>,
    /// Which of them make its key, by their names there.
    pub key: Vec<String>,
}

/// A column of the new store.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name in the new store.
    pub name: String,
    /// Where its value comes from.
    pub from: From,
    /// What it is in the new store; decides what values are allowed.
    pub to: Type,
    /// Whether null is allowed in the new store.
    pub nullable: bool,
    /// What a null of the old store becomes, where that is declared: a conversion, counted and in the record.
    pub null_becomes: Option<Value>,
}

/// Where the value of a column comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// A column of the old table, or its rowid.
    Source(SourceColumn),
    /// The tenant that the file belongs to.
    Tenant,
    /// Computed by the engine out of the other columns, by a name that it knows: `audit_digest`, `date_of:COLUMN`,
    /// `same_as:COLUMN`, `constant:VALUE` (what the old store does not know, and what is found out later).
    Computed(String),
}

/// A column of an old table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SourceColumn {
    /// By name.
    Named(String),
    /// The rowid, which is the order of commits.
    Rowid,
}

/// What a column of the new store holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// `text`, at most so many characters, at least one if `not_empty`. One of `words` if those are given.
    Text {
        /// The largest number of characters.
        max: usize,
        /// Whether the empty text is refused.
        not_empty: bool,
        /// The words allowed; empty: any text.
        words: Vec<String>,
    },
    /// `uuid`, from hyphenated text in one case, or from a blob of 16 bytes.
    Uuid,
    /// `integer` or `bigint`, within bounds.
    Int {
        /// The least value.
        min: i64,
        /// The largest value.
        max: i64,
    },
    /// `boolean`, from 0 and 1 only.
    Bool,
    /// `double precision`, finite.
    Double,
    /// `numeric(precision, scale)`, never rounded.
    Decimal {
        /// Digits in all.
        precision: u32,
        /// Digits after the point.
        scale: u32,
    },
    /// `jsonb`, a value in canonical text.
    Json {
        /// Whether it has to be an object.
        object: bool,
    },
    /// `timestamptz`, to the microsecond.
    Timestamp(TimeUnit),
    /// `date`, from `YYYY-MM-DD`.
    Date,
    /// `bytea`; exactly `len` bytes if given.
    Bytes {
        /// The number of bytes.
        len: Option<usize>,
    },
    /// `vector(n)`, from little-endian 32-bit numbers.
    Vector {
        /// The number of dimensions.
        dims: usize,
    },
}

/// How a time is written in the old store. Anything outside of what is declared is a finding, never a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Text: RFC 3339 with an offset; and `YYYY-MM-DD HH:MM:SS`, which is UTC by `CURRENT_TIMESTAMP`, if `zoneless`.
    Text {
        /// Whether text without an offset is UTC.
        zoneless: bool,
        /// Whether digits alone are epoch seconds (below 10^11) or milliseconds.
        epoch_digits: bool,
    },
    /// Integers: seconds since 1970.
    Seconds,
    /// Integers: milliseconds since 1970.
    Millis,
    /// Integers: microseconds since 1970.
    Micros,
}

/// Columns that are unique together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// Names of columns of the new store.
    pub columns: Vec<String>,
    /// A column that has to be true for the row to count, if it is a partial key.
    pub only_where: Option<String>,
}

/// Columns that name a row of another declared table, or of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Columns of this table, by their names in the new store.
    pub columns: Vec<String>,
    /// [`Table::name`] of the other.
    pub table: String,
    /// Its columns, by their names in the new store.
    pub to: Vec<String>,
}

impl Table {
    /// The column of a name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Where a column stands.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The columns of the old table that are read for a row, each once, in the order of their first use: those of
    /// [`Table::columns`], then [`Table::reads`].
    pub fn source_columns(&self) -> Vec<SourceColumn> {
        let mut found = Vec::new();
        for column in &self.columns {
            if let From::Source(source) = &column.from
                && !found.contains(source)
            {
                found.push(source.clone());
            }
        }
        for source in &self.reads {
            if !found.contains(source) {
                found.push(source.clone());
            }
        }
        found
    }

    /// The columns of the old table that make the key, in the order of [`Table::key`].
    pub fn source_key(&self) -> Vec<SourceColumn> {
        let source = |name: &String| match &self.column(name)?.from {
            From::Source(source) => Some(source.clone()),
            From::Tenant | From::Computed(_) => None,
        };
        self.key.iter().filter_map(source).collect()
    }
}
