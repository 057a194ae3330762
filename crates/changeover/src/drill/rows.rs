//! The rows of a file, byte for byte, before a drill and after its revert.
//!
//! A digest a row goes into a file beside the copy, in the order of the keys; so a file of any size is compared with what fits
//! into memory. Rows that the drill wrote itself hold its id in one of their values and are passed over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::PathBuf;

use changeover_core::cutover::{ChunkRead, CutoverSource, Raw, SourceColumn, Table};
use changeover_core::{Error, ErrorKind, Result, Uuid, sha256_hex};

use super::sources;

/// Rows read at once.
const ROWS: u32 = 2_000;

/// Bytes read at once.
const BYTES: u64 = 8 << 20;

/// Hexadecimal digits of a row's digest that are kept.
const DIGITS: usize = 32;

pub(super) struct Rows<'a> {
    source: &'a dyn CutoverSource,
    tables: &'a [Table],
    file: PathBuf,
    /// What the drill's own rows hold.
    mark: String,
}

/// A row that was read.
struct Row<'a> {
    table: &'a Table,
    key: &'a [Raw],
    digest: String,
    is_own: bool,
}

impl<'a> Rows<'a> {
    pub(super) fn of(source: &'a dyn CutoverSource, tables: &'a [Table], file: PathBuf, drill: Uuid) -> Self {
        Self { source, tables, file, mark: drill.to_string() }
    }

    /// Keeps what each row is now; how many there are.
    pub(super) async fn keep(&self) -> Result<u64> {
        let mut out = BufWriter::new(File::create(&self.file).map_err(|error| self.lost(&error))?);
        let mut count = 0;
        self.walk(|row| {
            count += 1;
            out.write_all(row.digest.as_bytes()).map_err(|error| self.lost(&error))
        })
        .await?;
        out.flush().map_err(|error| self.lost(&error))?;
        Ok(count)
    }

    /// Whether each row is as it was, of the tables in `changed` but so many, and none is gone or came from elsewhere; and at
    /// least `own` of the drill's own are there.
    pub(super) async fn compare(&self, before: u64, own: u64, changed: &BTreeMap<String, u64>) -> Result<()> {
        let mut kept = BufReader::new(File::open(&self.file).map_err(|error| self.lost(&error))?);
        let mut left = changed.clone();
        let (mut count, mut mine, mut first) = (0_u64, 0_u64, None);
        self.walk(|row| {
            if row.is_own {
                mine += 1;
                return Ok(());
            }
            count += 1;
            let mut was = [0; DIGITS];
            let there = kept.read_exact(&mut was).is_ok();
            if there && was == row.digest.as_bytes() {
                return Ok(());
            }
            match left.get_mut(&row.table.name) {
                Some(allowed) if *allowed > 0 => *allowed -= 1,
                _ if first.is_none() => {
                    first = Some(format!("{} with the key {:?}", row.table.name, row.key));
                }
                _ => {}
            }
            Ok(())
        })
        .await?;
        if let Some(first) = first {
            let message =
                format!("after the revert the file is not as before: first differs the row of {first}");
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        if mine < own {
            let message = format!(
                "{own} rows were written to the new side, and the file has {mine} of them after the revert"
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        if count != before {
            let message =
                format!("after the revert the file has {count} of its rows, before it had {before}");
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        Ok(())
    }

    async fn walk(&self, mut see: impl FnMut(Row<'_>) -> Result<()>) -> Result<()> {
        let facts = self.source.facts().await?;
        for table in sources(self.tables) {
            let Some(found) = facts.tables.iter().find(|it| it.name.eq_ignore_ascii_case(&table.source))
            else {
                continue;
            };
            let mut columns: Vec<_> =
                found.columns.iter().map(|(name, _)| SourceColumn::Named(name.clone())).collect();
            if !found.without_rowid {
                columns.push(SourceColumn::Rowid);
            }
            let mut read = ChunkRead {
                table: table.source.clone(),
                columns,
                key: table.source_key(),
                after: None,
                rows: ROWS,
                bytes: BYTES,
            };
            loop {
                let chunk = self.source.chunk(&read).await?;
                for (key, values) in &chunk.rows {
                    let is_own = values.iter().any(|value| self.is_marked(value));
                    see(Row { table, key, digest: digest(values), is_own })?;
                }
                if chunk.end {
                    break;
                }
                let Some((last, _)) = chunk.rows.into_iter().next_back() else { break };
                read.after = Some(last);
            }
        }
        Ok(())
    }

    fn is_marked(&self, value: &Raw) -> bool {
        let mark = self.mark.as_bytes();
        match value {
            Raw::Text(bytes) | Raw::Blob(bytes) => bytes.windows(mark.len()).any(|part| part == mark),
            Raw::Null | Raw::Integer(_) | Raw::Real(_) => false,
        }
    }

    fn lost(&self, error: &std::io::Error) -> Error {
        let message = format!("{}: {error}; name a folder with more room", self.file.display());
        Error::new(ErrorKind::Unavailable, message)
    }
}

/// Equal for values of equal classes and bytes.
fn digest(values: &[Raw]) -> String {
    let mut all = Vec::new();
    for value in values {
        let content: &[u8] = match value {
            Raw::Null => &[],
            Raw::Integer(number) => &number.to_be_bytes(),
            Raw::Real(number) => &number.to_bits().to_be_bytes(),
            Raw::Text(bytes) | Raw::Blob(bytes) => bytes,
        };
        all.extend(value.class().as_bytes());
        all.extend((content.len() as u64).to_be_bytes());
        all.extend(content);
    }
    let mut digits = sha256_hex(&all);
    digits.truncate(DIGITS);
    digits
}
