//! Declarations out of TOML; the guide `docs/guides/cutover-declarations.md` says what may stand there.

use changeover_core::cutover::{Also, Column, From, Reference, SourceColumn, Table, TimeUnit, Type, Unique};
use changeover_core::{Error, ErrorKind, Result};

use super::keys::{Keys, Mistakes};
use crate::convert::{Computed, Rule, constant};

/// The name under which the rowid is asked for where only a name can stand.
const ROWID: &str = "rowid";
const TYPES: &str = "text, uuid, int, bool, double, decimal, json, time, date, bytes, vector";

/// The tables of a text; all mistakes at once.
pub(super) fn tables(text: &str, place: &str) -> Result<Vec<Table>> {
    let document: toml::Table = toml::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Config, format!("{place} is not TOML: {}", error.to_string().trim_end()))
    })?;
    let mistakes = Mistakes::default();
    let keys = Keys::new("", &document, &mistakes);
    let tables: Vec<_> = keys.tables("table", "table", "name").iter().map(table).collect();
    keys.end();
    if tables.is_empty() {
        mistakes.add("table is missing, allowed is at least one [[table]]".to_owned());
    }
    for (index, table) in tables.iter().enumerate() {
        agrees(table, &tables, &mistakes);
        if tables[..index].iter().any(|earlier| earlier.name == table.name) {
            mistakes.add(format!(
                "table {:?}: name is given twice, allowed is a name of its own for each",
                table.name
            ));
        }
    }
    let mistakes = mistakes.into_vec();
    if mistakes.is_empty() {
        return Ok(tables);
    }
    let list = mistakes.join("\n  ");
    Err(Error::new(ErrorKind::Config, format!("{} mistakes in {place}:\n  {list}", mistakes.len())))
}

fn table(keys: &Keys<'_>) -> Table {
    let name = keys.needed("name");
    let transform = keys.text("transform");
    if let Some(transform) = transform.as_deref().filter(|name| *name != "notification_audit") {
        keys.wrong("transform", &format!("{transform:?}"), "\"notification_audit\"");
    }
    let target = keys.needed("target");
    qualified(keys, &target);
    let made = Table {
        source: keys.text("source").unwrap_or_else(|| name.clone()),
        target,
        key: keys.texts("key"),
        columns: keys.tables("columns", "column", "name").iter().map(column).collect(),
        unique: keys.tables("unique", "unique", "only_where").iter().map(unique).collect(),
        references: keys.tables("references", "reference to", "table").iter().map(reference).collect(),
        partition_by: keys.text("partition_by"),
        transform,
        also: keys.tables("also", "also", "target").iter().map(also).collect(),
        reads: keys.texts("reads").into_iter().map(source_column).collect(),
        rules: keys.texts("rules"),
        goes_back: keys.flag("goes_back"),
        name,
    };
    keys.end();
    made
}

fn qualified(keys: &Keys<'_>, name: &str) {
    let parts: Vec<_> = name.split('.').collect();
    if !name.is_empty() && (parts.len() != 2 || parts.iter().any(|part| part.is_empty())) {
        keys.wrong("target", &format!("{name:?}"), "schema.table");
    }
}

fn source_column(name: String) -> SourceColumn {
    if name == ROWID { SourceColumn::Rowid } else { SourceColumn::Named(name) }
}

fn column(keys: &Keys<'_>) -> Column {
    let name = keys.needed("name");
    let (from, rowid, tenant, computed) =
        (keys.text("from"), keys.flag("rowid"), keys.flag("tenant"), keys.text("computed"));
    let given = usize::from(from.is_some())
        + usize::from(rowid)
        + usize::from(tenant)
        + usize::from(computed.is_some());
    if given > 1 {
        keys.wrong("the source", "given more than once", "one of from, rowid, tenant, computed");
    }
    let from = match (computed, rowid, tenant) {
        (Some(name), ..) => {
            if let Err(allowed) = Computed::parse(&name) {
                keys.wrong("computed", &format!("{name:?}"), &allowed);
            }
            From::Computed(name)
        }
        (None, true, _) => From::Source(SourceColumn::Rowid),
        (None, false, true) => From::Tenant,
        (None, false, false) => From::Source(SourceColumn::Named(from.unwrap_or_else(|| name.clone()))),
    };
    let to = column_type(keys);
    let null_becomes = keys.literal("null_becomes").and_then(|text| {
        let value = constant(&text, &to);
        if value.is_none() {
            keys.wrong("null_becomes", &format!("{text:?}"), "a value of the column's type");
        }
        value
    });
    let made = Column { name, from, to, nullable: keys.flag("nullable"), null_becomes };
    keys.end();
    made
}

fn column_type(keys: &Keys<'_>) -> Type {
    match keys.needed("type").as_str() {
        "text" => {
            let words = keys.texts("words");
            let longest = words.iter().map(|word| word.chars().count()).max();
            let max = keys.count("max", 1);
            if max.is_none() && longest.is_none() {
                keys.wrong("max", "missing", "the largest number of characters, or words");
            }
            Type::Text { max: max.or(longest).unwrap_or(0), not_empty: keys.flag("not_empty"), words }
        }
        "uuid" => Type::Uuid,
        "int" => {
            let (min, max) = (keys.int("min").unwrap_or(i64::MIN), keys.int("max").unwrap_or(i64::MAX));
            if min > max {
                keys.wrong("min", &format!("{min}, above max"), "at most max");
            }
            Type::Int { min, max }
        }
        "bool" => Type::Bool,
        "double" => Type::Double,
        "decimal" => {
            let (precision, scale) = (small(keys, "precision", 1), small(keys, "scale", 0));
            if scale > precision {
                keys.wrong("scale", &format!("{scale}, above precision"), "at most precision");
            }
            Type::Decimal { precision, scale }
        }
        "json" => Type::Json { object: keys.flag("object") },
        "time" => Type::Timestamp(unit(keys)),
        "date" => Type::Date,
        "bytes" => Type::Bytes { len: keys.count("len", 1) },
        "vector" => Type::Vector {
            dims: keys.count("dims", 1).unwrap_or_else(|| {
                keys.wrong("dims", "missing", "the number of dimensions");
                1
            }),
        },
        other => {
            if !other.is_empty() {
                keys.wrong("type", &format!("{other:?}"), &format!("one of {TYPES}"));
            }
            // What else stands there depends on the type.
            Type::Text {
                max: keys.count("max", 1).unwrap_or(1),
                not_empty: keys.flag("not_empty"),
                words: Vec::new(),
            }
        }
    }
}

fn small(keys: &Keys<'_>, key: &'static str, least: usize) -> u32 {
    let number = keys.count(key, least);
    if number.is_none_or(|number| number > 1_000) {
        keys.wrong(key, "missing or too large", &format!("{least} to 1000"));
    }
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or(1)
}

fn unit(keys: &Keys<'_>) -> TimeUnit {
    match keys.needed("unit").as_str() {
        "text" => TimeUnit::Text { zoneless: keys.flag("zoneless"), epoch_digits: keys.flag("epoch_digits") },
        "seconds" => TimeUnit::Seconds,
        "millis" => TimeUnit::Millis,
        "micros" => TimeUnit::Micros,
        other => {
            if !other.is_empty() {
                keys.wrong("unit", &format!("{other:?}"), "one of text, seconds, millis, micros");
            }
            TimeUnit::Micros
        }
    }
}

fn unique(keys: &Keys<'_>) -> Unique {
    let made = Unique { columns: keys.texts("columns"), only_where: keys.text("only_where") };
    keys.end();
    made
}

fn reference(keys: &Keys<'_>) -> Reference {
    let made =
        Reference { columns: keys.texts("columns"), table: keys.needed("table"), to: keys.texts("to") };
    keys.end();
    made
}

fn also(keys: &Keys<'_>) -> Also {
    let target = keys.needed("target");
    qualified(keys, &target);
    let pair = |keys: Keys<'_>| {
        let name = keys.needed("name");
        let of = keys.text("of").unwrap_or_else(|| name.clone());
        keys.end();
        (name, of)
    };
    let columns = keys.tables("columns", "column", "name").into_iter().map(pair).collect();
    let made = Also { target, columns, key: keys.texts("key") };
    keys.end();
    made
}

/// Whether the parts of a table fit each other.
fn agrees(table: &Table, all: &[Table], mistakes: &Mistakes) {
    let wrong = |key: &str, found: &str, allowed: &str| {
        mistakes.add(format!("table {:?}: {key} is {found}, allowed is {allowed}", table.name));
    };
    let names: Vec<_> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let known = format!("one of the columns {}", names.join(", "));
    let check = |key: &str, column: &String, names: &[&str], known: &str| {
        if !names.contains(&column.as_str()) {
            wrong(key, &format!("{column:?}"), known);
        }
    };
    if table.columns.is_empty() {
        wrong("columns", "empty or missing", "at least one");
    }
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            wrong("columns", &format!("{name:?} twice"), "each column once");
        }
    }
    if table.key.is_empty() || table.key.len() > 4 {
        wrong("key", &format!("of {} columns", table.key.len()), "one to four columns");
    }
    for name in &table.key {
        check("key", name, &names, &known);
        match table.column(name).map(|column| &column.from) {
            Some(From::Tenant | From::Computed(_)) => {
                wrong(
                    "key",
                    &format!("{name:?}, which is no column of the old table"),
                    "columns that are read",
                );
            }
            Some(From::Source(_)) | None => {}
        }
    }
    for unique in &table.unique {
        unique
            .columns
            .iter()
            .chain(&unique.only_where)
            .for_each(|name| check("unique", name, &names, &known));
        if unique.columns.is_empty() {
            wrong("unique", "without columns", "at least one column");
        }
    }
    if let Some(name) = &table.partition_by {
        check("partition_by", name, &names, &known);
        if table.column(name).is_some_and(|column| column.to != Type::Date) {
            wrong("partition_by", &format!("{name:?}, which is no date"), "a column of type date");
        }
    }
    for also in &table.also {
        also.columns.iter().for_each(|(_, of)| check("also", of, &names, &known));
        let there: Vec<_> = also.columns.iter().map(|(name, _)| name.as_str()).collect();
        let known = format!("one of the columns {}", there.join(", "));
        also.key.iter().for_each(|name| check("key of also", name, &there, &known));
        if also.key.is_empty() {
            wrong("key of also", "empty or missing", "at least one column");
        }
    }
    for reference in &table.references {
        reference.columns.iter().for_each(|name| check("columns of a reference", name, &names, &known));
        if reference.columns.len() != reference.to.len() || reference.columns.is_empty() {
            wrong("to of a reference", "of another length than its columns", "a column for each");
        }
        match all.iter().find(|other| other.name == reference.table) {
            None => wrong(
                "table of a reference",
                &format!("{:?}", reference.table),
                "the name of a declared table",
            ),
            Some(other) => {
                let there: Vec<_> = other.columns.iter().map(|column| column.name.as_str()).collect();
                let known = format!("one of the columns {}", there.join(", "));
                reference.to.iter().for_each(|name| check("to of a reference", name, &there, &known));
            }
        }
    }
    for rule in &table.rules {
        if let Err(allowed) = Rule::parse(rule, table) {
            wrong("rules", &format!("{rule:?}"), &allowed);
        }
    }
    for column in &table.columns {
        if let From::Computed(name) = &column.from
            && let Ok(computed) = Computed::parse(name)
            && let Err(allowed) = computed.fits(table, column)
        {
            wrong(&format!("computed of {:?}", column.name), &format!("{name:?}"), &allowed);
        }
    }
    if table.transform.is_some() && table.goes_back {
        wrong("goes_back", "true in a table with a transform", "false");
    }
}
