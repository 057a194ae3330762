//! Whether declarations fit the two stores.

use changeover_core::cutover::{
    Column, From, SourceColumn, SourceFacts, SourceTable, Table, TargetColumn, TargetFacts, Type,
};

use crate::hazards::{Treatment, number};
use crate::plan::Finding;

/// The longest name in PostgreSQL, in bytes.
const MAX_NAME: usize = 63;

/// Tables whose rowid is a value that the stores know: the place in the log or in the trail (an engine writes rowids
/// explicitly, and a VACUUM while a run is under way is found).
const ROWID_IS_A_PLACE: [&str; 2] = ["event_store.domain_event", "audit_store.audit_events"];

/// What of the declarations does not fit what the stores are: `Refuse` for what a run cannot begin with, `Convert` for
/// what it can, `Quarantine` for a column of the old store that no declaration names, which somebody has to accept.
pub fn check(tables: &[Table], source: &SourceFacts, target: &TargetFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    if source.encoding != "UTF-8" {
        let problem = format!("the file keeps text as {}", source.encoding);
        found.push(finding("", "", number::UTF16, problem, Treatment::Convert));
    }
    for (index, table) in tables.iter().enumerate() {
        let mut at = Checked { table, found: &mut found };
        at.names(&tables[..index]);
        let named: Vec<_> = source.tables.iter().filter(|it| same(&it.name, &table.source)).collect();
        match named[..] {
            [] => at.refuse("", number::COLUMNS, format!("the old store has no table {:?}", table.source)),
            [of, ..] => at.source(of),
        }
        match target.tables.iter().find(|of| of.name == table.target) {
            Some(of) if of.exists => {
                if of.has_rows {
                    let problem = format!("{} holds rows; empty it, or take another database", table.target);
                    at.refuse("", number::NOT_EMPTY, problem);
                }
                at.target(&of.columns);
            }
            _ => at.refuse("", number::COLUMNS, format!("the new store has no table {}", table.target)),
        }
    }
    found
}

fn finding(table: &str, column: &str, hazard: u16, found: String, treatment: Treatment) -> Finding {
    let key = String::new();
    let (table, column) = (table.to_owned(), column.to_owned());
    Finding { table, key, column, hazard, found, treatment, sample_hex: String::new() }
}

/// As SQLite compares names.
fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

struct Checked<'a> {
    table: &'a Table,
    found: &'a mut Vec<Finding>,
}

impl Checked<'_> {
    fn add(&mut self, column: &str, hazard: u16, problem: String, treatment: Treatment) {
        self.found.push(finding(&self.table.name, column, hazard, problem, treatment));
    }

    fn refuse(&mut self, column: &str, hazard: u16, problem: String) {
        self.add(column, hazard, problem, Treatment::Refuse);
    }

    fn names(&mut self, earlier: &[Table]) {
        let table = self.table;
        let source = table.source.to_ascii_lowercase();
        let kept = ["_migrations", "schema_migrations", "__diesel_schema_migrations", "_sqlx_migrations"];
        if kept.contains(&source.as_str()) || source.starts_with("sqlite_") || source.starts_with("__cut_") {
            let problem =
                format!("{:?} is a record of migrations or of SQLite itself and is not moved", table.source);
            self.refuse("", number::BOOKKEEPING, problem);
        }
        let own = table.columns.iter().map(|column| column.name.as_str());
        let names: Vec<_> = table.target.split('.').chain(own).collect();
        for long in names.iter().filter(|name| name.len() > MAX_NAME) {
            self.refuse(
                long,
                number::NAMES,
                format!("has {} bytes, at most {MAX_NAME} are allowed", long.len()),
            );
        }
        for (index, column) in table.columns.iter().enumerate() {
            if let Some(other) = table.columns[..index].iter().find(|other| same(&other.name, &column.name)) {
                let problem = format!("differs from {:?} by case only", other.name);
                self.refuse(&column.name, number::NAMES, problem);
            }
        }
        for other in earlier {
            let transformed = table.transform.is_some() || other.transform.is_some();
            if same(&other.source, &table.source) || (same(&other.target, &table.target) && !transformed) {
                let problem = format!("names the same table as {:?}", other.name);
                self.refuse("", number::NAMES, problem);
            }
        }
    }

    fn source(&mut self, of: &SourceTable) {
        let table = self.table;
        let read = table.source_columns();
        for column in &read {
            match column {
                SourceColumn::Rowid if of.without_rowid => {
                    self.refuse("rowid", number::ODD_TABLE, "the table has no rowid".to_owned());
                }
                SourceColumn::Named(name) if !of.columns.iter().any(|(there, _)| same(there, name)) => {
                    self.refuse(
                        name,
                        number::COLUMNS,
                        "is declared, and the old table does not have it".to_owned(),
                    );
                }
                SourceColumn::Named(name) if of.generated.iter().any(|there| same(there, name)) => {
                    let treatment = if table.goes_back { Treatment::Refuse } else { Treatment::Convert };
                    let problem = "is a generated column, which cannot be written on the way back".to_owned();
                    self.add(name, number::ODD_TABLE, problem, treatment);
                }
                SourceColumn::Rowid | SourceColumn::Named(_) => {}
            }
        }
        for (name, _) in &of.columns {
            let known = read.iter().any(|column| matches!(column, SourceColumn::Named(it) if same(it, name)));
            let is_rowid = of.rowid_alias.as_deref() == Some(name) && read.contains(&SourceColumn::Rowid);
            if !known && !is_rowid && !of.generated.contains(name) {
                let problem =
                    "is in the old table and in no declaration: declare it, or accept undeclared_columns"
                        .to_owned();
                self.add(name, number::COLUMNS, problem, Treatment::Quarantine);
            }
        }
        for index in &of.odd_indexes {
            let problem =
                format!("the unique index {index:?} is partial or over expressions; it is not made anew");
            self.add("", number::ODD_TABLE, problem, Treatment::Convert);
        }
        self.key(of);
    }

    fn key(&mut self, of: &SourceTable) {
        let table = self.table;
        let key = table.source_key();
        let alias = |name: &str| of.rowid_alias.as_deref().is_some_and(|alias| same(alias, name));
        let names: Vec<_> = key
            .iter()
            .filter_map(
                |column| if let SourceColumn::Named(name) = column { Some(name.as_str()) } else { None },
            )
            .collect();
        if names.len() < key.len() {
            let is_a_place = ROWID_IS_A_PLACE.iter().any(|known| table.target.ends_with(known));
            if of.rowid_alias.is_none() && !is_a_place {
                let problem =
                    "the rowid is the key, and VACUUM may change it; declare columns with a unique index"
                        .to_owned();
                self.refuse("rowid", number::NO_KEY, problem);
            }
            return;
        }
        let covers = |index: &Vec<String>| {
            index.len() == names.len() && index.iter().all(|there| names.iter().any(|name| same(name, there)))
        };
        let is_alias = names.len() == 1 && alias(names[0]);
        if !is_alias && !covers(&of.primary_key) && !of.unique.iter().any(covers) {
            self.refuse(
                &names.join(", "),
                number::NO_KEY,
                "are the key, and no unique index is over them".to_owned(),
            );
        }
    }

    fn target(&mut self, there: &[TargetColumn]) {
        let table = self.table;
        for column in &table.columns {
            match there.iter().find(|it| it.name == column.name) {
                None => {
                    let problem = format!("is declared, and {} does not have it", table.target);
                    self.refuse(&column.name, number::COLUMNS, problem);
                }
                Some(found) => self.column(column, found),
            }
        }
        for found in there.iter().filter(|it| it.not_null && !it.has_default && !it.generated) {
            if table.column(&found.name).is_none() {
                let problem = format!("has to be given in {}, and no declaration gives it", table.target);
                self.refuse(&found.name, number::COLUMNS, problem);
            }
        }
    }

    fn column(&mut self, column: &Column, there: &TargetColumn) {
        let name = &column.name;
        if there.generated {
            self.refuse(
                name,
                number::ODD_TABLE,
                "is generated in the new store; do not declare it".to_owned(),
            );
        }
        if there.not_null && column.nullable && !matches!(column.from, From::Computed(_)) {
            let problem = "is declared nullable, and the new store refuses null".to_owned();
            self.refuse(name, number::MISSING, problem);
        }
        if let Some(hazard) = misfit(&column.to, &there.type_name) {
            let problem =
                format!("is {} in the new store, which does not hold what is declared", there.type_name);
            self.refuse(name, hazard, problem);
        }
    }
}

/// The hazard of keeping a declared type in a column of another.
fn misfit(to: &Type, found: &str) -> Option<u16> {
    let (base, sizes) = found.split_once('(').map_or((found, Vec::new()), |(base, sizes)| {
        let sizes = sizes.trim_end_matches(|c: char| c != ')' && !c.is_ascii_digit()).trim_end_matches(')');
        (base, sizes.split(',').filter_map(|size| size.trim().parse::<usize>().ok()).collect())
    });
    let size = |at: usize| sizes.get(at).copied();
    let fits = |fits: bool, hazard: u16| (!fits).then_some(hazard);
    match to {
        Type::Text { .. } if base == "character" => Some(number::PADDED),
        Type::Text { max, .. } if base == "character varying" => {
            fits(size(0).is_none_or(|size| size >= *max), number::SHORTER)
        }
        Type::Text { .. } => fits(base == "text", number::COLUMNS),
        Type::Uuid => fits(base == "uuid", number::COLUMNS),
        Type::Int { min, max } => match base {
            "bigint" => None,
            "integer" => fits(i32::try_from(*min).is_ok() && i32::try_from(*max).is_ok(), number::RANGE),
            _ => Some(number::COLUMNS),
        },
        Type::Bool => fits(base == "boolean", number::COLUMNS),
        Type::Double if base == "real" => Some(number::SINGLE_PRECISION),
        Type::Double => fits(base == "double precision", number::COLUMNS),
        Type::Decimal { precision, scale } => match (base, size(0)) {
            ("numeric", None) => None,
            ("numeric", Some(digits)) => {
                let behind = size(1).unwrap_or(0);
                let (precision, scale) = (*precision as usize, *scale as usize);
                fits(
                    behind >= scale && digits.saturating_sub(behind) >= precision.saturating_sub(scale),
                    number::DIGITS,
                )
            }
            _ => Some(number::COLUMNS),
        },
        Type::Json { .. } => fits(base == "jsonb", number::COLUMNS),
        Type::Timestamp(_) => fits(found == "timestamp with time zone", number::COLUMNS),
        Type::Date => fits(base == "date", number::COLUMNS),
        Type::Bytes { .. } => fits(base == "bytea", number::COLUMNS),
        Type::Vector { dims } => fits(
            base.rsplit('.').next() == Some("vector") && size(0).is_none_or(|size| size == *dims),
            number::COLUMNS,
        ),
    }
}
