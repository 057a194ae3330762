//! Both stores in memory, as witnesses see them, and rows that a faithful copy has in them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use changeover_core::audit::NewAuditEvent;
use changeover_core::cutover::{
    From, Raw, RawKey, SourceColumn, SourceWitness, Table, TargetWitness, Type, Witnessed,
};
use changeover_core::{Json, Result, Timestamp, Uuid, sha256_hex};

use crate::declared::NOTIFICATION;

pub type OldRow = BTreeMap<String, Raw>;
pub type NewRow = BTreeMap<String, Option<String>>;

pub const TENANT: &str = "acme";
pub const NOTIFICATIONS_FROM: i64 = 1_000_000_000_000;
pub fn nonce() -> Uuid {
    Uuid::from_u128(7)
}

/// `rowid` is a column by that name.
#[derive(Clone, Default)]
pub struct Old(pub Arc<Mutex<BTreeMap<String, Vec<OldRow>>>>);

/// Rows, and how each column sorts.
#[derive(Clone, Default)]
pub struct New(pub Arc<Mutex<BTreeMap<String, Vec<NewRow>>>>, pub Arc<BTreeMap<String, Type>>);

fn name(column: &SourceColumn) -> &str {
    match column {
        SourceColumn::Named(name) => name,
        SourceColumn::Rowid => "rowid",
    }
}

/// As SQLite sorts: by storage class, then value.
pub fn raw_order(a: &Raw, b: &Raw) -> Ordering {
    let class = |raw: &Raw| match raw {
        Raw::Null => 0,
        Raw::Integer(_) | Raw::Real(_) => 1,
        Raw::Text(_) => 2,
        Raw::Blob(_) => 3,
    };
    match (a, b) {
        (Raw::Integer(a), Raw::Integer(b)) => a.cmp(b),
        (Raw::Text(a), Raw::Text(b)) | (Raw::Blob(a), Raw::Blob(b)) => a.cmp(b),
        _ => class(a).cmp(&class(b)),
    }
}

fn key_order(a: &[Raw], b: &[Raw]) -> Ordering {
    a.iter().zip(b).map(|(a, b)| raw_order(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn seen(raw: &Raw) -> Option<(&'static str, Vec<u8>)> {
    let bytes = match raw {
        Raw::Null => return None,
        Raw::Integer(number) => number.to_string().into_bytes(),
        Raw::Real(number) => format!("{number:?}").into_bytes(),
        Raw::Text(bytes) | Raw::Blob(bytes) => bytes.clone(),
    };
    Some((raw.class(), bytes))
}

impl Old {
    fn keyed(&self, table: &str, key: &[SourceColumn]) -> Vec<(RawKey, OldRow)> {
        let rows = self.0.lock().unwrap().get(table).cloned().unwrap_or_default();
        let of = |row: &OldRow| key.iter().map(|column| row[name(column)].clone()).collect();
        let mut rows: Vec<(RawKey, OldRow)> = rows.into_iter().map(|row| (of(&row), row)).collect();
        rows.sort_by(|a, b| key_order(&a.0, &b.0));
        rows
    }
}

fn witnessed(key: RawKey, row: &OldRow, columns: &[SourceColumn]) -> Witnessed {
    Witnessed { key, values: columns.iter().map(|column| seen(&row[name(column)])).collect() }
}

#[async_trait]
impl SourceWitness for Old {
    async fn rows(
        &self,
        table: &str,
        key: &[SourceColumn],
        columns: &[SourceColumn],
        after: Option<&RawKey>,
        until: Option<&RawKey>,
        limit: u32,
    ) -> Result<Vec<Witnessed>> {
        let rows = self.keyed(table, key).into_iter();
        let rows = rows
            .filter(|(key, _)| after.is_none_or(|after| key_order(key, after).is_gt()))
            .filter(|(key, _)| until.is_none_or(|until| key_order(key, until).is_le()));
        Ok(rows.take(limit as usize).map(|(key, row)| witnessed(key, &row, columns)).collect())
    }

    async fn by_keys(
        &self,
        table: &str,
        key: &[SourceColumn],
        columns: &[SourceColumn],
        of: &[RawKey],
    ) -> Result<Vec<Option<Witnessed>>> {
        let rows = self.keyed(table, key);
        let found = of.iter().map(|of| rows.iter().find(|(key, _)| key == of));
        Ok(found.map(|row| row.map(|(key, row)| witnessed(key.clone(), row, columns))).collect())
    }

    async fn count(&self, table: &str) -> Result<u64> {
        Ok(self.keyed(table, &[]).len() as u64)
    }
}

impl New {
    fn order(&self, key: &[String], a: &[String], b: &[String]) -> Ordering {
        let one = |name: &String, a: &String, b: &String| match &self.1[name] {
            Type::Int { .. } => a.parse::<i64>().unwrap().cmp(&b.parse().unwrap()),
            Type::Timestamp(_) => moment(a).cmp(&moment(b)),
            _ => a.cmp(b),
        };
        let all = key.iter().zip(a.iter().zip(b)).map(|(name, (a, b))| one(name, a, b));
        all.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }

    fn keyed(&self, table: &str, key: &[String]) -> Vec<(Vec<String>, NewRow)> {
        let tables = self.0.lock().unwrap();
        let of = |row: &NewRow| key.iter().map(|name| row[name].clone().unwrap_or_default()).collect();
        let rows = tables.get(table).into_iter().flatten();
        let mut rows: Vec<(Vec<String>, NewRow)> = rows.map(|row| (of(row), row.clone())).collect();
        rows.sort_by(|a, b| self.order(key, &a.0, &b.0));
        rows
    }
}

/// As PostgreSQL prints it or as it reads it.
fn moment(text: &str) -> Timestamp {
    Timestamp::parse(&text.replace("+00", "Z").replace("ZZ", "Z")).unwrap()
}

#[async_trait]
impl TargetWitness for New {
    async fn rows(
        &self,
        table: &str,
        key: &[String],
        columns: &[String],
        after: Option<&[String]>,
        until: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<Vec<Option<String>>>> {
        let rows = self.keyed(table, key).into_iter();
        let rows = rows
            .filter(|(of, _)| after.is_none_or(|after| self.order(key, of, after).is_gt()))
            .filter(|(of, _)| until.is_none_or(|until| self.order(key, of, until).is_le()));
        let shown = |row: &NewRow| key.iter().chain(columns).map(|name| row[name].clone()).collect();
        Ok(rows.take(limit as usize).map(|(_, row)| shown(&row)).collect())
    }

    async fn by_keys(
        &self,
        table: &str,
        key: &[String],
        columns: &[String],
        of: &[Vec<String>],
    ) -> Result<Vec<Option<Vec<Option<String>>>>> {
        let rows = self.keyed(table, key);
        let found = of.iter().map(|of| rows.iter().find(|(found, _)| self.order(key, found, of).is_eq()));
        let shown = |row: &NewRow| key.iter().chain(columns).map(|name| row[name].clone()).collect();
        Ok(found.map(|row| row.map(|(_, row)| shown(row))).collect())
    }

    async fn count(&self, table: &str) -> Result<u64> {
        Ok(self.0.lock().unwrap().get(table).map_or(0, Vec::len) as u64)
    }
}

/// Both stores with `rows` rows in every table, the new one as a faithful copy of the old.
pub fn healthy(tables: &[Table], rows: u64) -> (Old, New) {
    let mut types = BTreeMap::from([("digest".to_owned(), Type::Bytes { len: None })]);
    let (old, mut new) = (Old::default(), BTreeMap::<String, Vec<NewRow>>::new());
    for table in tables {
        for column in &table.columns {
            types.insert(column.name.clone(), column.to.clone());
        }
        for n in 1..=rows {
            let (was, is) = if table.transform.is_some() { notification(table, n) } else { row(table, n) };
            old.0.lock().unwrap().entry(table.source.clone()).or_default().push(was);
            for also in &table.also {
                let row = also.columns.iter().map(|(name, of)| (name.clone(), is[of].clone()));
                new.entry(also.target.clone()).or_default().push(row.collect());
            }
            new.entry(table.target.clone()).or_default().push(is);
        }
    }
    (old, New(Arc::new(Mutex::new(new)), Arc::new(types)))
}

fn row(table: &Table, n: u64) -> (OldRow, NewRow) {
    let (mut was, mut is) = (OldRow::new(), NewRow::new());
    for (at, column) in table.columns.iter().enumerate() {
        let seed = n * 1_000 + at as u64;
        let (raw, text) = match &column.from {
            From::Tenant => (None, Some(TENANT.to_owned())),
            From::Computed(rule) => (None, rule.strip_prefix("constant:").map(str::to_owned)),
            From::Source(SourceColumn::Rowid) => (Some(Raw::Integer(n as i64)), Some(n.to_string())),
            From::Source(_) if column.name == "position" => {
                (Some(Raw::Integer(n as i64)), Some(n.to_string()))
            }
            From::Source(_) if column.name == "tenant_id" => {
                let tenant = ["acme", "beta"][(n % 2) as usize];
                (Some(Raw::Text(tenant.into())), Some(tenant.to_owned()))
            }
            From::Source(_) if (column.nullable || column.null_becomes.is_some()) && n.is_multiple_of(5) => {
                (Some(Raw::Null), column.null_becomes.as_ref().map(|_| "{}".to_owned()))
            }
            From::Source(_) => {
                let (raw, text) = value(&column.to, seed);
                (Some(raw), Some(text))
            }
        };
        if let (Some(raw), From::Source(source)) = (raw, &column.from) {
            was.insert(name(source).to_owned(), raw);
        }
        is.insert(column.name.clone(), text);
    }
    compute(table, &mut is);
    (was, is)
}

/// A value in both forms.
fn value(to: &Type, seed: u64) -> (Raw, String) {
    let text = |text: String| (Raw::Text(text.clone().into_bytes()), text);
    let n = seed as i64;
    match to {
        Type::Text { words, .. } if !words.is_empty() => text(words[seed as usize % words.len()].clone()),
        Type::Text { .. } => text(format!("text {seed} é")),
        Type::Uuid => text(Uuid::from_u128(u128::from(seed) * 0x1_0000_0001_0000_0001_0001).to_string()),
        Type::Int { .. } => (Raw::Integer(n), seed.to_string()),
        Type::Bool => (Raw::Integer(n / 1_000 % 2), ["f", "t"][(n / 1_000 % 2) as usize].to_owned()),
        Type::Double => {
            let number = f64::from(n as i32) / 3.0;
            (Raw::Real(number), format!("{number}"))
        }
        Type::Decimal { .. } => {
            let number = f64::from(n as i32) / 1_000.0;
            (Raw::Real(number), format!("{number:.3}"))
        }
        Type::Json { .. } => {
            let (a, b) = (
                format!("{{ \"n\":{seed}, \"a\" : \"x{seed}\"}}"),
                format!("{{\"a\": \"x{seed}\", \"n\": {seed}}}"),
            );
            (Raw::Text(a.into_bytes()), b)
        }
        Type::Timestamp(unit) => {
            let at = Timestamp::from_micros(1_700_000_000_000_000 + n * 3_600_000_001).unwrap();
            let whole = Timestamp::from_micros(at.as_micros() / 1_000_000 * 1_000_000).unwrap();
            let printed = |at: Timestamp| at.to_string().replace('T', " ").replace('Z', "+00");
            match unit {
                changeover_core::cutover::TimeUnit::Seconds => {
                    let shown = printed(whole).replace(".000000", "");
                    (Raw::Integer(whole.as_micros() / 1_000_000), shown)
                }
                _ if seed.is_multiple_of(3) => {
                    let zoneless = whole.to_string()[..19].replace('T', " ");
                    (Raw::Text(zoneless.into_bytes()), printed(whole).replace(".000000", ""))
                }
                _ => (Raw::Text(at.to_string().into_bytes()), printed(at)),
            }
        }
        Type::Date => {
            let at = Timestamp::from_micros(1_700_000_000_000_000 + n * 3_600_000_001).unwrap();
            text(at.date().to_string())
        }
        Type::Bytes { .. } => {
            let bytes = [&seed.to_be_bytes()[..], &[0, 255]].concat();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            (Raw::Blob(bytes), format!("\\x{hex}"))
        }
        Type::Vector { dims } => {
            let numbers: Vec<f32> = (0..*dims).map(|at| (seed as f32 + at as f32) / 7.0).collect();
            let texts: Vec<_> = numbers.iter().map(f32::to_string).collect();
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            (Raw::Blob(bytes), format!("[{}]", texts.join(",")))
        }
    }
}

fn notification(table: &Table, n: u64) -> (OldRow, NewRow) {
    let id = Raw::Integer(n as i64);
    let status = ["pending", "sent", "failed", "skipped"][(n % 4) as usize];
    let mut was: OldRow = NOTIFICATION
        .iter()
        .map(|name| ((*name).to_owned(), Raw::Text(format!("{name} {n}").into_bytes())))
        .collect();
    was.insert("id".into(), id);
    was.insert("status".into(), Raw::Text(status.into()));
    was.insert("sent_at".into(), Raw::Text(format!("2024-03-{:02} 10:00:00", n % 28 + 1).into()));
    was.insert("escalation_level".into(), Raw::Integer(3));
    was.insert("error_message".into(), Raw::Null);
    let data = format!(
        r#"{{"id":{n},"notification_id":"notification_id {n}","remediation_id":"remediation_id {n}","recipient":"recipient {n}",
            "channel":"channel {n}","message_summary":"message_summary {n}","status":"{status}","sent_at":"2024-03-{:02} 10:00:00",
            "delivery_status":"delivery_status {n}","error_message":null,"escalation_level":3,"created_at":"created_at {n}",
            "updated_at":"updated_at {n}"}}"#,
        n % 28 + 1
    );
    let outcome = ["pending", "success", "failure", "skipped"][(n % 4) as usize];
    let mut is: NewRow = table.columns.iter().map(|column| (column.name.clone(), None)).collect();
    let id = Uuid::new_v5(&nonce(), n.to_string().as_bytes()).to_string();
    for (name, text) in [
        ("tenant_id", TENANT.to_owned()),
        ("sequence", (NOTIFICATIONS_FROM + n as i64).to_string()),
        ("event_id", id),
        ("event_type", format!("notification.{status}")),
        ("event_category", "notification".into()),
        ("event_outcome", outcome.into()),
        ("event_timestamp", format!("2024-03-{:02} 10:00:00+00", n % 28 + 1)),
        ("service_name", "notification-service".into()),
        ("actor_type", "service".into()),
        ("resource_type", "notification".into()),
        ("resource_id", format!("notification_id {n}")),
        ("event_data", Json::parse(&data).unwrap().as_str().to_owned()),
        ("correlation_id", format!("remediation_id {n}")),
        ("metadata", "{}".into()),
    ] {
        is.insert(name.into(), Some(text));
    }
    compute(table, &mut is);
    (was, is)
}

/// What the engine computes, done here by core and by hand.
pub fn compute(table: &Table, is: &mut NewRow) {
    for column in &table.columns {
        let From::Computed(rule) = &column.from else { continue };
        let made = match rule.split_once(':') {
            Some(("same_as", of)) => is[of].clone(),
            Some(("date_of", of)) => is[of].as_ref().map(|text| text[..10].to_owned()),
            _ if rule == "audit_digest" => Some(format!("\\x{}", audit_digest(is))),
            _ => continue,
        };
        is.insert(column.name.clone(), made);
    }
}

fn audit_digest(is: &NewRow) -> String {
    let mut object = serde_json::Map::new();
    for name in changeover_core::audit::COLUMNS {
        let node = match (name, &is[name]) {
            (_, None) => serde_json::Value::Null,
            ("event_data" | "metadata", Some(text)) => serde_json::from_str(text).unwrap(),
            ("event_timestamp", Some(text)) => moment(text).to_string().into(),
            (_, Some(text)) => text.as_str().into(),
        };
        object.insert(name.to_owned(), node);
    }
    let event = NewAuditEvent::from_text(&serde_json::Value::Object(object).to_string()).unwrap();
    sha256_hex(event.to_json().as_str().as_bytes())
}
