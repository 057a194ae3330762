//! The values of a row, each taken for what it is.
//!
//! Old programs checked nothing, and people edited by hand: a value that breaks the contract is named by table, key and
//! column. The value itself is never shown.

use changeover_core::{Error, Json, Result, Text, Timestamp, Uuid};

use crate::sql::{Cell, Row};

/// How a row is named in an error: by its id, else by its place.
pub(crate) fn key_of(row: &Row, id: usize, position: Option<i64>) -> String {
    match (row.cell(id).as_str().filter(|text| !text.is_empty() && text.len() <= 64), position) {
        (Some(id), _) => id.to_owned(),
        (None, Some(position)) => format!("rowid {position}"),
        (None, None) => "without an id".to_owned(),
    }
}

/// An id in its one form: hyphenated, all in lower or all in upper case. Everything else compares wrong in SQL.
pub(crate) fn parse_id(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    spellings(id).iter().any(|spelling| spelling == text).then_some(id)
}

/// The two texts under which a legacy program may have stored an id.
pub(crate) fn spellings(id: Uuid) -> [String; 2] {
    let lower = id.hyphenated().to_string();
    let upper = lower.to_ascii_uppercase();
    [lower, upper]
}

/// RFC 3339, or what `CURRENT_TIMESTAMP` gives: `YYYY-MM-DD HH:MM:SS` in UTC.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    if text.len() == 19 && text.as_bytes()[10] == b' ' {
        return Timestamp::parse(&format!("{}Z", text.replacen(' ', "T", 1))).ok();
    }
    Timestamp::parse(text).ok()
}

/// The columns of one row, each read with the names of its table and of the row at hand.
pub(crate) struct Reader<'a> {
    pub(crate) table: &'a str,
    pub(crate) row: &'a Row,
    pub(crate) key: &'a str,
}

impl Reader<'_> {
    pub(crate) fn corrupt(&self, column: &str, problem: &str) -> Error {
        Error::corrupt(self.table, self.key, column, problem)
    }

    pub(crate) fn is_null(&self, index: usize) -> bool {
        *self.row.cell(index) == Cell::Null
    }

    /// `read` of a value that is there.
    pub(crate) fn optional<T>(
        &self,
        column: &str,
        index: usize,
        read: impl Fn(&Self, &str, usize) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.is_null(index) { Ok(None) } else { read(self, column, index).map(Some) }
    }

    pub(crate) fn str(&self, column: &str, index: usize) -> Result<&str> {
        match self.row.cell(index) {
            Cell::Text(bytes) => std::str::from_utf8(bytes).map_err(|error| {
                let problem = format!("is not UTF-8 from byte {}", error.valid_up_to());
                self.corrupt(column, &problem)
            }),
            other => Err(self.corrupt(column, &format!("is {}, allowed is text", other.class()))),
        }
    }

    pub(crate) fn text<const MAX: usize>(&self, column: &str, index: usize) -> Result<Text<MAX>> {
        Text::new(column, self.str(column, index)?).map_err(|error| self.corrupt(column, error.message()))
    }

    pub(crate) fn int(&self, column: &str, index: usize) -> Result<i64> {
        let cell = self.row.cell(index);
        let problem = || self.corrupt(column, &format!("is {}, allowed is an integer", cell.class()));
        cell.as_int().ok_or_else(problem)
    }

    pub(crate) fn id(&self, column: &str, index: usize) -> Result<Uuid> {
        parse_id(self.str(column, index)?).ok_or_else(|| self.corrupt(column, "is not a hyphenated UUID"))
    }

    pub(crate) fn time(&self, column: &str, index: usize) -> Result<Timestamp> {
        parse_time(self.str(column, index)?).ok_or_else(|| {
            let problem = "is not a time; allowed are RFC 3339 and YYYY-MM-DD HH:MM:SS in UTC";
            self.corrupt(column, problem)
        })
    }

    pub(crate) fn json(&self, column: &str, index: usize) -> Result<Json> {
        // Core's message names the place and the rule, never the value.
        Json::parse(self.str(column, index)?).map_err(|error| self.corrupt(column, error.message()))
    }

    pub(crate) fn object(&self, column: &str, index: usize) -> Result<Json> {
        let json = self.json(column, index)?;
        if json.is_object() { Ok(json) } else { Err(self.corrupt(column, "is not a JSON object")) }
    }
}
