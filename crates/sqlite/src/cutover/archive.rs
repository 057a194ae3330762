//! Puts a file away: what it was becomes `<file>.archive`, and a [`tombstone`] stands in its place.
//!
//! The order is such that a kill anywhere leaves a whole file at the path, and that the same call goes on from there:
//!
//! 1. The log goes into the file and the file out of WAL mode, which SQLite refuses while anybody else has it open in that
//!    mode; then the exclusive lock is held to the end. So there is one file, nobody in the middle of anything, and no `-wal` that
//!    a rename would leave behind.
//! 2. The tombstone is written beside it and synced.
//! 3. A second name for the file, `<file>.archive`. It overwrites nothing.
//! 4. The tombstone is renamed over the first name: at once the old file or the new one is there, and never none, which an old
//!    program would fill with an empty one.
//! 5. The archive becomes read-only.
//!
//! Locks of POSIX belong to the process, so the file itself is opened by nobody here but SQLite.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind as Io};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use changeover_core::cutover::{Archive, Archiving};
use changeover_core::{Error, ErrorKind, Result};
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;

use super::door::Door;
use super::{gate, lives, tombstone};
use crate::classify::{Failure, classify};
use crate::connect::Opener;
use crate::sql;

/// How long others are waited for who have the file open.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often is looked whether they have gone.
const PAUSE: Duration = Duration::from_millis(20);

const OPERATION: &str = "cutover.archive";

pub(super) async fn archive(door: &Door) -> Result<Archiving> {
    if let Some(archive) = door.archived(OPERATION).await? {
        if archive.is_there {
            close(&archive.place)?;
        }
        return Ok(Archiving::Before(archive));
    }
    // Most files have other modules: then nobody is disturbed.
    match door.read(OPERATION, lives::why_kept).await {
        Ok(Some(why)) => return Ok(Archiving::Kept(why)),
        Err(error) if error.kind() == ErrorKind::Contention => {
            return Ok(Archiving::Kept(in_use(door.path())));
        }
        looked => drop(looked?),
    }
    let (opener, database) = door.all_of_it();
    let until = Instant::now() + PATIENCE;
    // Those of this process who write wait in line; none are left when the backend was closed.
    let turn = tokio::time::timeout(PATIENCE, database.write_turn()).await;
    database.let_go();
    let path = door.path().to_owned();
    let away = tokio::task::spawn_blocking(move || put_away(&opener, &path, until)).await;
    drop(turn);
    // What was opened meanwhile may be the archive.
    database.let_go();
    away.unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable, "the runtime is shutting down")))
        .map_err(|error| error.during(OPERATION))
}

/// Why it ended before the tombstone was there.
enum Stopped {
    Kept(String),
    Failed(Error),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.into_error())
    }
}

fn put_away(opener: &Opener, path: &Path, until: Instant) -> Result<Archiving> {
    let path = fs::canonicalize(path).map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("{} cannot be found: {error}", path.display()))
    })?;
    let before = fs::metadata(&path).ok();
    let mut conn = opener.open()?;
    let mut was_wal = false;
    let moved = alone(&mut conn, &path, until, &mut was_wal).and_then(|()| {
        // Another process may have put the file away, which this connection would have open then.
        let is = |file: &fs::Metadata| (file.dev(), file.ino());
        if before.as_ref().map(is) != fs::metadata(&path).ok().as_ref().map(is) {
            let message = format!("{} was replaced meanwhile", path.display());
            return Err(Stopped::Failed(Error::new(ErrorKind::Contention, message)));
        }
        exchange(&mut conn, &path)
    });
    match moved {
        Ok(archive) => {
            sync_folder(&path).map_err(|error| {
                let message = format!("the folder of {} cannot be synced: {error}", path.display());
                Error::new(ErrorKind::Unavailable, message)
            })?;
            close(&archive.place)?;
            Ok(Archiving::Done(archive))
        }
        Err(stopped) => {
            // Neither has anything to do where it never came so far.
            let _ = conn.batch_execute("ROLLBACK");
            if was_wal {
                let _ = conn.batch_execute("PRAGMA journal_mode = WAL");
            }
            match stopped {
                Stopped::Kept(why) => Ok(Archiving::Kept(why)),
                Stopped::Failed(error) => Err(error),
            }
        }
    }
}

/// Waits until nobody else has the file open, and locks it: one file, without a log, to the end of the transaction.
/// Whether it was in WAL mode is told in any case.
fn alone(
    conn: &mut SqliteConnection,
    path: &Path,
    until: Instant,
    was_wal: &mut bool,
) -> Result<(), Stopped> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let locked = lock(conn, left, was_wal);
        match locked {
            Ok(true) => return Ok(()),
            Err(error) if error.kind() != ErrorKind::Contention => return Err(Stopped::Failed(error)),
            _ if left.is_zero() => {
                return Err(Stopped::Kept(in_use(path)));
            }
            _ => std::thread::sleep(PAUSE),
        }
    }
}

fn in_use(path: &Path) -> String {
    format!(
        "{} is in use by another program or connection, which was waited for {PATIENCE:?}; stop the programs that have it open",
        path.display()
    )
}

fn lock(conn: &mut SqliteConnection, left: Duration, was_wal: &mut bool) -> Result<bool> {
    let run =
        |conn: &mut SqliteConnection, sql: &str| conn.batch_execute(sql).map_err(|error| classify(&error));
    run(conn, &format!("PRAGMA busy_timeout = {}", left.as_millis()))?;
    if mode(conn).map_err(Failure::into_error)? == "wal" {
        *was_wal = true;
        run(conn, "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE")?;
    }
    run(conn, "BEGIN EXCLUSIVE")?;
    // Somebody may have come in between, and turned it to WAL again.
    if mode(conn).map_err(Failure::into_error)? == "wal" {
        run(conn, "ROLLBACK")?;
        return Ok(false);
    }
    Ok(true)
}

fn mode(conn: &mut SqliteConnection) -> Result<String, Failure> {
    let row = sql::first(conn, "PRAGMA journal_mode", &[])?;
    Ok(row.and_then(|row| row.cell(0).as_str().map(str::to_owned)).unwrap_or_default())
}

/// In the exclusive transaction: the file under the name of the archive, and the tombstone under its own.
fn exchange(conn: &mut SqliteConnection, path: &Path) -> Result<Archive, Stopped> {
    if tombstone::find(conn, path)?.is_some() {
        let message = format!("{} was put away by another process", path.display());
        return Err(Stopped::Failed(Error::new(ErrorKind::Contention, message)));
    }
    // A module may have been begun meanwhile.
    if let Some(why) = lives::why_kept(conn)? {
        return Err(Stopped::Kept(why));
    }
    let log = with_end(path, "-wal");
    if log.exists() {
        return Err(Stopped::Kept(format!(
            "{} is still there; find out which program keeps it",
            log.display()
        )));
    }
    let place = with_end(path, ".archive");
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let cannot = |what: &str, error: &io::Error| Stopped::Kept(format!("{what}: {error}"));
    let old = fs::metadata(path)
        .map_err(|error| cannot(&format!("{} cannot be looked at", path.display()), &error))?;
    let nonce = gate::nonce(conn)?.unwrap_or_default();
    // By a name that is nobody else's, so that what a killed call left may be taken away.
    let new = with_end(path, &format!(".{nonce}.new"));
    let _ = fs::remove_file(&new);
    let made = tombstone::make(conn, &new, &name, old.len())
        .map_err(|failure| Stopped::Kept(failure.into_error().message().to_owned()))
        .and_then(|()| {
            like(&new, &old).map_err(|error| {
                cannot(
                    &format!(
                        "the owner and the rights of {} cannot be given to what takes its place",
                        path.display()
                    ),
                    &error,
                )
            })
        })
        .and_then(|()| link(path, &place, &old))
        .and_then(|()| {
            fs::rename(&new, path).map_err(|error| {
                let _ = fs::remove_file(&place);
                cannot(&format!("{} cannot be renamed", new.display()), &error)
            })
        });
    if let Err(stopped) = made {
        let _ = fs::remove_file(&new);
        return Err(stopped);
    }
    Ok(Archive { place, bytes: old.len(), is_there: true })
}

/// Whoever could open the file can open what takes its place.
fn like(new: &Path, old: &fs::Metadata) -> io::Result<()> {
    let is = fs::metadata(new)?;
    if (is.uid(), is.gid()) != (old.uid(), old.gid()) {
        chown(new, Some(old.uid()), Some(old.gid()))?;
    }
    fs::set_permissions(new, old.permissions())
}

/// Gives the file its second name, unless a killed call did.
fn link(path: &Path, place: &Path, old: &fs::Metadata) -> Result<(), Stopped> {
    let linked = match fs::hard_link(path, place) {
        Err(error) if error.kind() == Io::AlreadyExists => {
            let is = |file: fs::Metadata| (file.dev(), file.ino());
            if fs::symlink_metadata(place).map(is).ok() != Some((old.dev(), old.ino())) {
                return Err(Stopped::Kept(format!(
                    "{} is there already and is another file, which is not overwritten; move it away",
                    place.display()
                )));
            }
            Ok(())
        }
        linked => linked,
    };
    // Known to the disk before the first name is given away.
    linked.and_then(|()| sync_folder(path)).map_err(|error| {
        Stopped::Kept(format!(
            "{} cannot be made a second name of the file: {error}; the file system may know none (hard links), or the folder take \
             none",
            place.display()
        ))
    })
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Makes the archive read-only.
fn close(place: &Path) -> Result<()> {
    let closed = fs::metadata(place).and_then(|file| match file.permissions().mode() & 0o7777 {
        0o444 => Ok(()),
        _ => fs::set_permissions(place, Permissions::from_mode(0o444)),
    });
    closed.map_err(|error| {
        let message = format!("the archive {} cannot be made read-only: {error}", place.display());
        Error::new(ErrorKind::Unavailable, message)
    })
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}
