//! Results on standard output, as a table or as one JSON object a line; remarks on standard error.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Stdout, Write as _};

use changeover::Timestamp;
use serde::Serialize;

use crate::args::Format;
use crate::exit::Failure;

/// Where a command's results go.
pub struct Out {
    format: Format,
    quiet: bool,
    writer: BufWriter<Stdout>,
}

impl Out {
    pub fn new(format: Format, quiet: bool) -> Self {
        Self { format, quiet, writer: BufWriter::new(io::stdout()) }
    }

    /// The same output as a table, whatever was asked for.
    pub fn for_people(&mut self) {
        self.format = Format::Table;
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A line of text.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.writer, "{text}")?)
    }

    /// Text that is complete as it is.
    pub fn bytes(&mut self, text: &[u8]) -> Result<(), Failure> {
        Ok(self.writer.write_all(text)?)
    }

    /// An object on a line of its own.
    pub fn object(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::failed(format!("the result cannot be written as JSON: {error}")))?;
        self.line(&text)
    }

    /// Rows under headings, or an object a row with the headings as names.
    pub fn rows<const N: usize>(&mut self, headings: [&str; N], rows: &[[String; N]]) -> Result<(), Failure> {
        if self.is_json() {
            for row in rows {
                let object: serde_json::Map<_, _> = headings
                    .iter()
                    .zip(row)
                    .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
                    .collect();
                self.object(&object)?;
            }
            return Ok(());
        }
        if !rows.is_empty() {
            let text = table(headings, rows);
            self.bytes(text.as_bytes())?;
        }
        Ok(())
    }

    /// A remark for people, on standard error.
    pub fn note(&mut self, text: &str) -> Result<(), Failure> {
        if !self.quiet {
            // Results first, where both go to one terminal.
            self.flush()?;
            eprintln!("{text}");
        }
        Ok(())
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.writer.flush()?)
    }
}

fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    let mut put = |cells: [&str; N]| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    put(headings);
    for row in &rows {
        put(row.each_ref().map(String::as_str));
    }
    text
}

/// The text with its control characters escaped: stored text must not steer a terminal or break a table.
pub fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Without digits that are zero, as times are mostly written: `2024-01-31T12:00:00Z`.
pub fn short(at: Timestamp) -> String {
    let text = at.to_string();
    let digits = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    // Cannot cut into the seconds: six digits follow their point.
    format!("{digits}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["1".to_owned(), "Größe".to_owned()], ["100".to_owned(), "x".to_owned()]];
        assert_eq!(table(["n", "name"], &rows), "n    name\n1    Größe\n100  x\n");
    }

    #[test]
    fn stored_text_does_not_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\nc\u{202e}d é"), "a\\u{1b}[31mb\\nc\\u{202e}d é");
    }
}
