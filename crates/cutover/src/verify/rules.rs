//! Rules of a row beside the types of its columns: one that breaks them should be in quarantine.

use changeover_core::cutover::{Column, SourceColumn, Witnessed};
use changeover_core::playbooks::PlaybookVersion;
use changeover_core::sha256_hex;

use super::calendar;
use super::canon::Canon;
use super::source::bad;

/// A rule by its words: `name:COLUMN...`.
#[derive(Clone, Debug)]
pub(super) struct RowRule(Vec<String>);

impl RowRule {
    pub(super) fn new(text: &str) -> Self {
        Self(text.split(':').map(str::to_owned).collect())
    }

    /// Marks the column of a rule that the row breaks as one that is not allowed. Names that say nothing here are rules of
    /// types, or of what the verifier cannot see.
    pub(super) fn hold(
        &self,
        columns: &[Column],
        row: &mut [Canon],
        read: &[SourceColumn],
        seen: &Witnessed,
    ) {
        let words: Vec<_> = self.0.iter().map(String::as_str).collect();
        let place = |name: &str| columns.iter().position(|column| column.name == name);
        let value = |name: &str| place(name).map_or(&Canon::Null, |at| &row[at]);
        let text = |name: &str| if let Canon::Text(text) = value(name) { Some(text.as_str()) } else { None };
        let null = |name: &str| *value(name) == Canon::Null;
        let (broken, blamed) = match words[..] {
            ["not_json_null", name] => (matches!(value(name), Canon::Json(json) if json.is_null()), name),
            ["date_of", old, time] => (!is_date_of(columns, value(time), old, time, read, seen), time),
            ["from_1970", name] => (matches!(value(name), Canon::Timestamp(micros) if *micros < 0), name),
            ["differs", name, other] => (!null(name) && value(name) == value(other), name),
            ["semantic_version", name] => {
                (text(name).is_some_and(|text| PlaybookVersion::new(text.to_owned()).is_err()), name)
            }
            ["max_bytes", name, most] => {
                let most = most.parse().unwrap_or(usize::MAX);
                (text(name).is_some_and(|text| text.len() > most), name)
            }
            ["sha256_of", hash, name] => {
                let expected = text(name).map(|text| sha256_hex(text.as_bytes()));
                (expected.is_some() && text(hash) != expected.as_deref(), hash)
            }
            ["texts", name] => match value(name) {
                Canon::Json(json) => {
                    let texts = json.to::<std::collections::BTreeMap<String, String>>();
                    (texts.is_err(), name)
                }
                _ => (false, name),
            },
            ["share", name] => match value(name) {
                Canon::Decimal(digits) => {
                    (!(digits == "0" || digits == "1" || digits.starts_with("0.")), name)
                }
                _ => (false, name),
            },
            ["needs", name, other] => (!null(name) && null(other), name),
            ["not_above", name, other] => match (value(name), value(other)) {
                (Canon::Int(a), Canon::Int(b)) => (a > b, name),
                _ => (false, name),
            },
            _ => return,
        };
        if let (true, Some(at)) = (broken, place(blamed)) {
            row[at] = bad("rule", &[]);
        }
    }
}

/// Whether the old date is that of the time, in UTC or as the time is written.
fn is_date_of(
    columns: &[Column],
    time: &Canon,
    old: &str,
    name: &str,
    read: &[SourceColumn],
    seen: &Witnessed,
) -> bool {
    let Canon::Timestamp(micros) = time else { return true };
    let held = |wanted: &SourceColumn| {
        let (class, bytes) = seen.values.get(read.iter().position(|column| column == wanted)?)?.as_ref()?;
        (*class == "text").then(|| bytes.clone())
    };
    let written = columns.iter().find(|column| column.name == name).and_then(|column| match &column.from {
        changeover_core::cutover::From::Source(source) => held(source),
        _ => None,
    });
    let Some(date) = held(&SourceColumn::Named(old.to_owned())) else { return false };
    let utc = calendar::date_text(micros.div_euclid(86_400_000_000));
    date == utc.as_bytes() || (date.len() == 10 && written.is_some_and(|text| text.get(..10) == Some(&*date)))
}
