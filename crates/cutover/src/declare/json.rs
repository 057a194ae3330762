//! Declarations as a document.

use changeover_core::cutover::{Also, Column, From, SourceColumn, Table, TimeUnit, Type, Value};
use changeover_core::{Json, Result};
use serde_json::{Map, Value as Node, json};

use crate::convert::shown;

pub(super) fn of(tables: &[Table]) -> Result<Json> {
    Json::of(&json!({ "table": tables.iter().map(table).collect::<Vec<_>>() }))
}

fn table(table: &Table) -> Node {
    let unique = table.unique.iter();
    let references = table.references.iter();
    json!({
        "name": table.name,
        "source": table.source,
        "target": table.target,
        "key": table.key,
        "columns": table.columns.iter().map(column).collect::<Vec<_>>(),
        "unique": unique.map(|it| json!({ "columns": it.columns, "only_where": it.only_where })).collect::<Vec<_>>(),
        "references": references
            .map(|it| json!({ "columns": it.columns, "table": it.table, "to": it.to }))
            .collect::<Vec<_>>(),
        "partition_by": table.partition_by,
        "transform": table.transform,
        "also": table.also.iter().map(also).collect::<Vec<_>>(),
        "reads": table.reads.iter().map(source_name).collect::<Vec<_>>(),
        "rules": table.rules,
        "goes_back": table.goes_back,
    })
}

fn also(also: &Also) -> Node {
    let columns = also.columns.iter().map(|(name, of)| json!({ "name": name, "of": of }));
    json!({ "target": also.target, "columns": columns.collect::<Vec<_>>(), "key": also.key })
}

fn source_name(source: &SourceColumn) -> &str {
    match source {
        SourceColumn::Named(name) => name,
        SourceColumn::Rowid => "rowid",
    }
}

fn column(column: &Column) -> Node {
    let mut node = Map::new();
    let mut set = |key: &str, value: Node| {
        node.insert(key.to_owned(), value);
    };
    set("name", json!(column.name));
    match &column.from {
        From::Source(SourceColumn::Named(name)) => set("from", json!(name)),
        From::Source(SourceColumn::Rowid) => set("rowid", json!(true)),
        From::Tenant => set("tenant", json!(true)),
        From::Computed(name) => set("computed", json!(name)),
    }
    set("nullable", json!(column.nullable));
    if let Some(value) = &column.null_becomes {
        set("null_becomes", json!(if *value == Value::Null { None } else { shown(value) }));
    }
    match &column.to {
        Type::Text { max, not_empty, words } => {
            set("type", json!("text"));
            set("max", json!(max));
            set("not_empty", json!(not_empty));
            set("words", json!(words));
        }
        Type::Uuid => set("type", json!("uuid")),
        Type::Int { min, max } => {
            set("type", json!("int"));
            set("min", json!(min));
            set("max", json!(max));
        }
        Type::Bool => set("type", json!("bool")),
        Type::Double => set("type", json!("double")),
        Type::Decimal { precision, scale } => {
            set("type", json!("decimal"));
            set("precision", json!(precision));
            set("scale", json!(scale));
        }
        Type::Json { object } => {
            set("type", json!("json"));
            set("object", json!(object));
        }
        Type::Timestamp(unit) => {
            set("type", json!("time"));
            let word = match unit {
                TimeUnit::Text { zoneless, epoch_digits } => {
                    set("zoneless", json!(zoneless));
                    set("epoch_digits", json!(epoch_digits));
                    "text"
                }
                TimeUnit::Seconds => "seconds",
                TimeUnit::Millis => "millis",
                TimeUnit::Micros => "micros",
            };
            set("unit", json!(word));
        }
        Type::Date => set("type", json!("date")),
        Type::Bytes { len } => {
            set("type", json!("bytes"));
            set("len", json!(len));
        }
        Type::Vector { dims } => {
            set("type", json!("vector"));
            set("dims", json!(dims));
        }
    }
    Node::Object(node)
}
