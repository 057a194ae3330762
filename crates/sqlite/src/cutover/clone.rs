//! A copy of the file, taken while others write to it: every row, rowid and byte as it is.
//!
//! `VACUUM INTO` may number rows anew, `INSERT .. SELECT` may convert values, and the backup API has no safe binding here. So
//! the bytes are copied, while a read transaction of ours holds still what they depend on:
//!
//! - WAL mode, our mark above 0: a checkpoint moves no frame past our mark into the main file, and nobody begins the log anew.
//!   Pages that a checkpoint writes while they are copied, torn or not, are in the log, which is copied after them and wins.
//! - WAL mode, our mark 0 (all of the log was in the main file): no checkpoint writes to the main file as long as we read. But
//!   the log may be begun anew under the copy, and a few old frames in front of new ones would put old pages over newer ones. A
//!   log begun anew has another head, written before its first frame: the log is copied again until its head is the same before
//!   and after. That happens once at most, for the next one would need a checkpoint.
//! - The last frames of a copied log may be torn. A frame's checksum goes over all before it, so the copy ends, as after a
//!   crash, with the last commit in front of the first frame that does not fit: ours, or a later one.
//! - Rollback journal: while we read nobody writes to the main file; commits wait. The journal of a writer in flight is left
//!   out, since nothing of what it undoes is in the file yet.
//!
//! Locks of POSIX belong to the process: to close any handle of a file drops all that SQLite holds on it here. The handle
//! of a main file is therefore never closed, one a file for the life of the process. Nobody locks the log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind as Io, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use changeover_core::cutover::Cloned;
use changeover_core::{Error, ErrorKind, Result};
use diesel::SqliteConnection;

use crate::classify::Failure;
use crate::sql;

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// Bytes of a log's head: format, page size, number and salts of the log.
const HEAD: usize = 32;

/// A log that is begun anew more often than this while nobody may has another reason.
const TRIES: usize = 10;

/// In the read transaction of `conn`, which is held to the end.
pub(super) fn clone(
    conn: &mut SqliteConnection,
    path: &Path,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<Cloned, Failure> {
    // The transaction begins with the first read.
    sql::first(conn, "SELECT count(*) FROM sqlite_master", &[])?;
    let mode = sql::first(conn, "SELECT journal_mode FROM pragma_journal_mode", &[])?;
    let is_wal = mode.is_some_and(|row| row.cell(0).as_str() == Some("wal"));
    // SQLite keeps the log beside the file itself, not beside a link to it.
    let path = fs::canonicalize(path).map_err(|error| unreadable(path, &error))?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    let to = folder.join(name);
    let copy = Copy { folder, stop };
    let main = handle(&path)?;
    let mut bytes = copy.whole(&main, &path, &to)?;
    if is_wal {
        bytes += copy.log(&beside(&path), &beside(&to))?;
    }
    Ok(Cloned { path: to, bytes, paused: !is_wal })
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// A handle that stays open, and where its file is: device and number.
struct Opened {
    place: (u64, u64),
    file: Arc<File>,
}

static OPEN: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

/// The handle on a main file.
fn handle(path: &Path) -> Result<Arc<File>> {
    let place = |file: &fs::Metadata| (file.dev(), file.ino());
    let found = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = open.iter().find(|known| known.place == place(&found)) {
        return Ok(Arc::clone(&known.file));
    }
    let file = Arc::new(File::open(path).map_err(|error| unreadable(path, &error))?);
    // Kept whatever it is: the path may lead to another file by now.
    let place = file.metadata().map_or(place(&found), |opened| place(&opened));
    open.push(Opened { place, file: Arc::clone(&file) });
    Ok(file)
}

struct Copy<'a> {
    folder: &'a Path,
    stop: &'a AtomicBool,
}

impl Copy<'_> {
    /// The file to its end, whatever was there before.
    fn whole(&self, from: &File, path: &Path, to: &Path) -> Result<u64> {
        let full = |written: u64, error: &io::Error| self.full(path, written, error);
        let mut open = OpenOptions::new();
        // As the data are nobody else's, so is the copy.
        open.write(true).create(true).truncate(true).mode(0o600);
        let mut out = open.open(to).map_err(|error| full(0, &error))?;
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Unavailable, "the copy of the file was given up"));
            }
            let read = match from.read_at(&mut piece, at) {
                Ok(0) => return Ok(at),
                Ok(read) => read,
                Err(error) if error.kind() == Io::Interrupted => continue,
                Err(error) => return Err(unreadable(path, &error)),
            };
            out.write_all(&piece[..read]).map_err(|error| full(at, &error))?;
            at += read as u64;
        }
    }

    /// The log, all of it from one beginning.
    fn log(&self, path: &Path, to: &Path) -> Result<u64> {
        for _ in 0..TRIES {
            let Some(log) = open_if_there(path)? else { return Ok(0) };
            let before = head(&log, path)?;
            let bytes = self.whole(&log, path, to)?;
            if head(&log, path)? == before {
                return Ok(bytes);
            }
        }
        Err(Error::new(
            ErrorKind::Contention,
            format!(
                "{}: the log was begun anew {TRIES} times while it was copied; try again",
                path.display()
            ),
        ))
    }

    /// What of a copy cannot be written, and where there is room.
    fn full(&self, path: &Path, written: u64, error: &io::Error) -> Error {
        let size = fs::metadata(path).map_or(0, |file| file.len());
        let message = match error.kind() {
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => format!(
                "{} has no room for a copy of {}: {size} bytes are needed, {written} were written; name a folder with more room",
                self.folder.display(),
                path.display(),
            ),
            _ => {
                format!("{}: the copy cannot be written: {error}; name another folder", self.folder.display())
            }
        };
        Error::new(ErrorKind::Unavailable, message)
    }
}

fn open_if_there(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == Io::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// The head of a log; `None` where it is not whole.
fn head(log: &File, path: &Path) -> Result<Option<[u8; HEAD]>> {
    let mut head = [0; HEAD];
    match log.read_exact_at(&mut head, 0) {
        Ok(()) => Ok(Some(head)),
        Err(error) if error.kind() == Io::UnexpectedEof => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{} cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// A log of which each word is the number of its beginning.
    fn write_anew(log: &File, number: u64) {
        let piece = number.to_be_bytes().repeat(PIECE / 8);
        for at in 0..3 {
            log.write_all_at(&piece, at * PIECE as u64).unwrap();
        }
    }

    // What mark 0 needs: a copy never has frames of a later log behind the head of an earlier one.
    #[test]
    fn a_log_that_is_begun_anew_meanwhile_is_copied_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, to) = (folder.path().join("app.db-wal"), folder.path().join("copy"));
        let log = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        write_anew(&log, 0);
        let done = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    number += 1;
                    write_anew(&log, number);
                    std::thread::sleep(Duration::from_millis(3));
                }
            }
        });
        let copy = Copy { folder: folder.path(), stop: &AtomicBool::new(false) };
        let (until, mut copies) = (Instant::now() + Duration::from_secs(3), 0);
        while Instant::now() < until {
            // Begun anew all the time, it may be given up.
            if copy.log(&path, &to).is_err() {
                continue;
            }
            let words: Vec<_> = fs::read(&to).unwrap().chunks_exact(8).map(<[u8]>::to_vec).collect();
            assert!(
                words.iter().all(|word| *word <= words[0]),
                "copy {copies}: a later log behind an earlier head"
            );
            copies += 1;
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        assert!(copies > 0);
    }
}
