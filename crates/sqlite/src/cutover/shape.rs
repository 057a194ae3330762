//! What a table is: the names it can be asked by, and everything over which it is unique.

use changeover_core::cutover::SourceColumn;
use changeover_core::{Error, ErrorKind, Result};
use diesel::SqliteConnection;

use crate::classify::Failure;
use crate::sql::{self, Bind};

/// A table of the file.
pub(super) struct Shape {
    pub(super) name: String,
    pub(super) columns: Vec<ShapeColumn>,
    /// In the order of the key.
    pub(super) primary_key: Vec<String>,
    pub(super) unique: Vec<UniqueIndex>,
    pub(super) without_rowid: bool,
    /// The column that is the rowid.
    pub(super) rowid_alias: Option<String>,
    /// How the rowid is called where there is one and no column hides it.
    pub(super) rowid: Option<&'static str>,
}

pub(super) struct ShapeColumn {
    pub(super) name: String,
    pub(super) declared: String,
    pub(super) generated: bool,
}

/// A unique index, that of the primary key included.
pub(super) struct UniqueIndex {
    pub(super) name: String,
    pub(super) terms: Vec<Term>,
    /// What comes after its WHERE.
    pub(super) partial: Option<String>,
}

/// What an index orders by.
pub(super) enum Term {
    Column {
        name: String,
        collation: String,
    },
    /// As it stands in the index.
    Expression(String),
}

/// A name in SQL.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Shape {
    /// The table of a name; `NotFound` if there is none, or it is a view or a virtual one.
    pub(super) fn find(conn: &mut SqliteConnection, table: &str) -> Result<Self, Failure> {
        let sql = "SELECT name, wr FROM pragma_table_list
                   WHERE schema = 'main' AND type = 'table' AND lower(name) = lower(?1)";
        let row = sql::first(conn, sql, &[Bind::Text(table)])?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the file has no table {table}; correct the declaration"))
        })?;
        let name = row.cell(0).as_str().unwrap_or_default().to_owned();
        let without_rowid = row.cell(1).as_int() == Some(1);
        let mut columns = Vec::new();
        let mut primary = Vec::new();
        let sql = "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid";
        for row in sql::rows(conn, sql, &[Bind::Text(&name)])? {
            let text = |index: usize| row.cell(index).as_str().unwrap_or_default().to_owned();
            if let Some(place) = row.cell(2).as_int().filter(|place| *place > 0) {
                primary.push((place, text(0)));
            }
            let generated = row.cell(3).as_int().is_some_and(|hidden| hidden >= 2);
            columns.push(ShapeColumn { name: text(0), declared: text(1), generated });
        }
        primary.sort();
        let primary_key: Vec<_> = primary.into_iter().map(|(_, name)| name).collect();
        let mut shape = Self {
            name,
            columns,
            primary_key,
            unique: Vec::new(),
            without_rowid,
            rowid_alias: None,
            rowid: None,
        };
        shape.find_indexes(conn)?;
        if !without_rowid {
            let names = ["rowid", "_rowid_", "oid"];
            shape.rowid = names.into_iter().find(|name| shape.column_named(name).is_none());
        }
        Ok(shape)
    }

    fn find_indexes(&mut self, conn: &mut SqliteConnection) -> Result<(), Failure> {
        let sql = "SELECT l.name, l.origin, l.partial, m.sql FROM pragma_index_list(?1) AS l
                   LEFT JOIN sqlite_master AS m ON m.type = 'index' AND m.name = l.name
                   WHERE l.\"unique\" = 1 ORDER BY l.name";
        let mut has_key_index = false;
        for row in sql::rows(conn, sql, &[Bind::Text(&self.name)])? {
            let name = row.cell(0).as_str().unwrap_or_default().to_owned();
            has_key_index |= row.cell(1).as_str() == Some("pk");
            let (texts, filter) = split(row.cell(3).as_str().unwrap_or_default());
            let sql = "SELECT cid, name, coll FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno";
            let mut terms = Vec::new();
            for (index, term) in sql::rows(conn, sql, &[Bind::Text(&name)])?.into_iter().enumerate() {
                let column = term.cell(1).as_str().map(str::to_owned);
                let collation = term.cell(2).as_str().unwrap_or("BINARY").to_owned();
                terms.push(match column {
                    Some(name) => Term::Column { name, collation },
                    None => Term::Expression(texts.get(index).copied().map(plain_term).unwrap_or_default()),
                });
            }
            let partial = filter.filter(|_| row.cell(2).as_int() == Some(1)).map(str::to_owned);
            self.unique.push(UniqueIndex { name, terms, partial });
        }
        // The one primary key without an index of its own is the rowid.
        if let [column] = self.primary_key.as_slice()
            && !has_key_index
            && !self.without_rowid
        {
            self.rowid_alias = Some(column.clone());
        }
        Ok(())
    }

    pub(super) fn column_named(&self, name: &str) -> Option<&ShapeColumn> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// How a column is written after `table.`. An unknown name is refused here: SQLite would take it for a text.
    pub(super) fn column(&self, column: &SourceColumn) -> Result<String, Error> {
        match column {
            SourceColumn::Named(name) => self.named(name),
            SourceColumn::Rowid => self.rowid.map(str::to_owned).ok_or_else(|| {
                let why =
                    if self.without_rowid { "was made WITHOUT ROWID" } else { "hides it behind columns" };
                let message = format!(
                    "table {} has no rowid to be asked for: it {why}; declare a key of columns",
                    self.name
                );
                Error::invalid(message)
            }),
        }
    }

    /// As [`Shape::column`], of a name.
    pub(super) fn named(&self, name: &str) -> Result<String, Error> {
        let found = self.column_named(name).ok_or_else(|| {
            let message = format!("table {} has no column {name}; correct the declaration", self.name);
            Error::new(ErrorKind::SchemaMismatch, message)
        })?;
        Ok(quote(&found.name))
    }

    /// Whether these columns are the rowid and nothing else.
    pub(super) fn is_rowid(&self, key: &[SourceColumn]) -> bool {
        match key {
            [SourceColumn::Rowid] => true,
            [SourceColumn::Named(name)] => {
                self.rowid_alias.as_ref().is_some_and(|alias| alias.eq_ignore_ascii_case(name))
            }
            _ => false,
        }
    }
}

/// The terms of a CREATE INDEX, and what comes after its WHERE.
fn split(sql: &str) -> (Vec<&str>, Option<&str>) {
    let (mut terms, mut depth, mut start, mut at) = (Vec::new(), 0_usize, 0, 0);
    let mut listed = false;
    while at < sql.len() {
        let end = token_end(sql, at);
        match &sql[at..end] {
            "(" => {
                depth += 1;
                if depth == 1 && !listed {
                    start = end;
                }
            }
            ")" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && !listed {
                    terms.push(&sql[start..at]);
                    listed = true;
                }
            }
            "," if depth == 1 && !listed => {
                terms.push(&sql[start..at]);
                start = end;
            }
            word if listed && depth == 0 && word.eq_ignore_ascii_case("where") => {
                return (terms, Some(&sql[end..]));
            }
            _ => {}
        }
        at = end;
    }
    (terms, None)
}

/// A term without the ASC or DESC at its end.
fn plain_term(term: &str) -> String {
    let (mut at, mut last) = (0, 0..0);
    while at < term.len() {
        let end = token_end(term, at);
        let token = &term[at..end];
        if !token.trim().is_empty() && !token.starts_with("--") && !token.starts_with("/*") {
            last = at..end;
        }
        at = end;
    }
    let word = &term[last.clone()];
    let end = if word.eq_ignore_ascii_case("asc") || word.eq_ignore_ascii_case("desc") {
        last.start
    } else {
        last.end
    };
    term[..end].to_owned()
}

/// Where the token that begins at `at` ends: something quoted, a comment, a word, or one character.
fn token_end(sql: &str, at: usize) -> usize {
    let rest = &sql[at..];
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let after =
        |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |place| from + place + end.len());
    let length = match rest.chars().next() {
        // A doubled quote is the end of one text and the beginning of another: the same for this purpose.
        Some(quote @ ('\'' | '"' | '`')) => after(&quote.to_string(), 1),
        Some('[') => after("]", 1),
        Some('-') if rest.starts_with("--") => after("\n", 2),
        Some('/') if rest.starts_with("/*") => after("*/", 2),
        Some(first) if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
        Some(first) => first.len_utf8(),
        None => 0,
    };
    at + length
}

#[cfg(test)]
mod tests {
    use super::{plain_term, split};

    #[test]
    fn the_terms_of_an_index_are_found_between_quotes_and_comments() {
        let sql = "CREATE UNIQUE INDEX \"a (b\" ON [t,(x] (lower(e, ')') /* , ( */ DESC, \"we,ird\" -- desc, (\n\
                   , substr(n, 1, 2) || 'it''s (' ASC) WHERE x = 'where' AND (y > 1)";
        let (terms, filter) = split(sql);
        let terms: Vec<_> = terms.into_iter().map(plain_term).collect();
        let terms: Vec<_> = terms.iter().map(|term| term.trim()).collect();
        assert_eq!(terms, ["lower(e, ')') /* , ( */", "\"we,ird\"", "substr(n, 1, 2) || 'it''s ('"], "{sql}");
        assert_eq!(filter.map(str::trim), Some("x = 'where' AND (y > 1)"));
        assert_eq!(split("CREATE UNIQUE INDEX i ON t(a)"), (vec!["a"], None));
    }
}
