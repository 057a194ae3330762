//! The lines of a file, read and checked on a thread of their own so that reading never holds up an interruption.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::thread;

use tokio::sync::mpsc;

use crate::exit::Failure;

/// The longest line. Above what any event can need: data and metadata of 4 MiB, each byte as an escape of six.
const MAX_LINE: usize = 64 * 1024 * 1024;
/// Lines that wait for the store.
const AHEAD: usize = 1_024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a line without its line break; the error tells every mistake in it, without showing values of the payload.
pub type Parse<T> = fn(&[u8]) -> Result<T, String>;

/// What stands on a line.
pub enum Content<T> {
    Record(Box<T>),
    /// Nothing but white space.
    Blank,
    /// Why it is no record.
    Malformed(String),
}

/// A line that was read.
pub struct Numbered<T> {
    /// 1 for the first.
    pub number: u64,
    /// Bytes up to and including this line.
    pub read: u64,
    pub content: Content<T>,
}

/// The lines to come, or why no further one can be read.
pub struct Source<T> {
    pub lines: mpsc::Receiver<io::Result<Numbered<T>>>,
    /// The size of the file in bytes, if it is one.
    pub size: Option<u64>,
}

/// Opens a file, or standard input for `-`.
pub fn open<T: Send + 'static>(path: &Path, parse: Parse<T>) -> Result<Source<T>, Failure> {
    if path == Path::new("-") {
        return Ok(Source { lines: spawn(io::stdin(), parse), size: None });
    }
    let cannot =
        |error: io::Error| Failure::usage(format!("{}: the file cannot be read: {error}", path.display()));
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!("{}: a directory; give a file of JSON Lines", path.display())));
    }
    Ok(Source { lines: spawn(file, parse), size: metadata.is_file().then_some(metadata.len()) })
}

/// The lines of a text that the program holds.
pub fn of<T: Send + 'static>(text: &'static str, parse: Parse<T>) -> Source<T> {
    Source { lines: spawn(text.as_bytes(), parse), size: Some(text.len() as u64) }
}

/// The thread ends with its input or with its receiver; one that waits for standard input ends with the process.
fn spawn<T: Send + 'static>(
    input: impl Read + Send + 'static,
    parse: Parse<T>,
) -> mpsc::Receiver<io::Result<Numbered<T>>> {
    let (sender, lines) = mpsc::channel(AHEAD);
    thread::spawn(move || {
        let mut reader = Lines { input: BufReader::with_capacity(256 * 1024, input), number: 0, read: 0 };
        while let Some(line) = reader.next_line(parse).transpose() {
            let over = line.is_err();
            if sender.blocking_send(line).is_err() || over {
                break;
            }
        }
    });
    lines
}

struct Lines<R> {
    input: R,
    number: u64,
    read: u64,
}

impl<R: BufRead> Lines<R> {
    fn next_line<T>(&mut self, parse: Parse<T>) -> io::Result<Option<Numbered<T>>> {
        let mut line = Vec::new();
        let found = (&mut self.input).take(MAX_LINE as u64 + 2).read_until(b'\n', &mut line)?;
        if found == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.read += found as u64;
        let ended = line.last() == Some(&b'\n');
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let mut text = text.strip_suffix(b"\r").unwrap_or(text);
        if self.number == 1 {
            text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        }
        let content = if text.len() > MAX_LINE {
            if !ended {
                self.read += self.input.skip_until(b'\n')? as u64;
            }
            Content::Malformed(format!("the line is too long; at most {MAX_LINE} bytes are allowed"))
        } else if text.iter().all(u8::is_ascii_whitespace) {
            Content::Blank
        } else {
            parse(text).map_or_else(Content::Malformed, |record| Content::Record(Box::new(record)))
        };
        Ok(Some(Numbered { number: self.number, read: self.read, content }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(line: &[u8]) -> Result<u32, String> {
        let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
        text.parse().map_err(|_| "no number".to_owned())
    }

    fn kinds(input: &[u8]) -> Vec<(u64, &'static str)> {
        let mut lines = Lines { input, number: 0, read: 0 };
        let mut kinds = Vec::new();
        while let Some(line) = lines.next_line(number).unwrap() {
            let kind = match line.content {
                Content::Record(_) => "record",
                Content::Blank => "blank",
                Content::Malformed(_) => "malformed",
            };
            kinds.push((line.number, kind));
        }
        assert_eq!(lines.read, input.len() as u64);
        kinds
    }

    // X-EDGE-108: line ends of both kinds, a byte order mark, no line end at the end.
    #[test]
    fn line_ends_and_the_byte_order_mark_are_not_content() {
        let text = "\u{feff}1\r\n\n \t\r\n2\n3";
        let expected = [(1, "record"), (2, "blank"), (3, "blank"), (4, "record"), (5, "record")];
        assert_eq!(kinds(text.as_bytes()), expected);
        assert_eq!(kinds("1\n\u{feff}2\n".as_bytes()), [(1, "record"), (2, "malformed")]);
    }

    #[test]
    fn a_line_that_is_too_long_is_one_line() {
        let mut text = vec![b' '; MAX_LINE];
        text.extend(b"xx\n1");
        assert_eq!(kinds(&text), [(1, "malformed"), (2, "record")]);
    }
}
