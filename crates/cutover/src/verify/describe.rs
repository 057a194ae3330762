//! What is compared, as a document: all that an independent program needs beside the file.

use std::sync::Arc;

use changeover_core::cutover::{Column, SourceColumn, TimeUnit, Type};
use serde_json::{Value, json};

use super::canon::Canon;
use super::computed::Rule;
use super::relation::{Cell, Part, Relation, World};

/// See `docs/guides/cutover-digests.md`.
pub(super) fn document(relations: &[Arc<Relation>], world: &World) -> Value {
    json!({
        "format": "changeover data root 1",
        "nonce": world.nonce.hyphenated().to_string(),
        "notifications_from": world.notifications_from,
        "accepted": world.accepted,
        "tables": relations.iter().map(|relation| table(relation)).collect::<Vec<_>>(),
    })
}

fn table(relation: &Relation) -> Value {
    json!({
        "name": relation.target,
        "columns": relation.names(),
        "key": relation.key_names(),
        "from": relation.parts.iter().map(part).collect::<Vec<_>>(),
    })
}

fn part(part: &Part) -> Value {
    let cells = part.columns().iter().zip(&part.cells).map(|(column, cell)| {
        let from = match cell {
            Cell::Read(at) => json!({ "read": at }),
            Cell::Tenant(tenant) => json!({ "value": bytes(tenant) }),
            Cell::Constant => json!({ "value": bytes(&Canon::Null) }),
            Cell::Transformed => json!({ "transformed": column.name }),
            Cell::Computed(Rule::SameAs(at)) => json!({ "same_as": at }),
            Cell::Computed(Rule::DateOf(at)) => json!({ "date_of": at }),
            Cell::Computed(Rule::AuditDigest) => json!({ "audit_digest": true }),
        };
        json!({
            "name": column.name,
            "from": from,
            "type": type_of(column),
            "nullable": column.nullable,
            "null_becomes": column.null_becomes.as_ref().map(|value| bytes(&Canon::of(value))),
        })
    });
    json!({
        "declaration": part.name,
        "table": part.source,
        "read": part.read.iter().map(name).collect::<Vec<_>>(),
        "key": part.key.iter().map(name).collect::<Vec<_>>(),
        "cells": cells.collect::<Vec<_>>(),
        "shown": part.shown,
        "transform": part.transform_name(),
    })
}

/// Null is the rowid.
fn name(column: &SourceColumn) -> Value {
    match column {
        SourceColumn::Named(name) => json!(name),
        SourceColumn::Rowid => Value::Null,
    }
}

fn bytes(value: &Canon) -> String {
    let mut out = Vec::new();
    value.encode(&mut out);
    changeover_core::hex(&out)
}

fn type_of(column: &Column) -> Value {
    match &column.to {
        Type::Text { max, not_empty, words } => {
            json!({ "kind": "text", "max": *max as u64, "not_empty": not_empty, "words": words })
        }
        Type::Uuid => json!({ "kind": "uuid" }),
        Type::Int { min, max } => json!({ "kind": "int", "min": min, "max": max }),
        Type::Bool => json!({ "kind": "bool" }),
        Type::Double => json!({ "kind": "double" }),
        Type::Decimal { precision, scale } => {
            json!({ "kind": "decimal", "precision": precision, "scale": scale })
        }
        Type::Json { object } => json!({ "kind": "json", "object": object }),
        Type::Timestamp(unit) => match unit {
            TimeUnit::Text { zoneless, epoch_digits } => {
                json!({ "kind": "time", "unit": "text", "zoneless": zoneless, "epoch_digits": epoch_digits })
            }
            TimeUnit::Seconds => json!({ "kind": "time", "unit": "seconds" }),
            TimeUnit::Millis => json!({ "kind": "time", "unit": "millis" }),
            TimeUnit::Micros => json!({ "kind": "time", "unit": "micros" }),
        },
        Type::Date => json!({ "kind": "date" }),
        Type::Bytes { len } => json!({ "kind": "bytes", "len": len }),
        Type::Vector { dims } => json!({ "kind": "vector", "dims": dims }),
    }
}
