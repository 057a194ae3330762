//! A clock that a test moves: of a server of its own, or of a process it starts. By libfaketime, which stands between a program
//! and the system's clock.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::error::{Doing, Error};

/// The clock of those who were started with it. At first it is the system's; what measures time that passes is not moved.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    folder: TempDir,
}

impl Clock {
    /// A clock that nobody has yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no libfaketime on this machine; says what to do.
    pub fn new() -> Result<Self, Error> {
        let doing = "making a clock";
        let library = find()?;
        let folder = tempfile::Builder::new().prefix("changeover-clock-").tempdir().doing(doing)?;
        // As root the server is another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).doing(doing)?;
        let clock = Self { library, folder };
        clock.set(0)?;
        Ok(clock)
    }

    /// So many seconds ahead of the system's clock, or behind it.
    ///
    /// # Errors
    /// [`Error::Io`] if that cannot be told to who has it.
    pub fn set(&self, seconds: i64) -> Result<(), Error> {
        let doing = "moving a clock";
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).doing(doing)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).doing(doing)?;
        // At once: half a file would be another time.
        fs::rename(&new, self.file()).doing(doing)
    }

    /// The environment of a process that has this clock; of one with threads or without.
    pub fn environment(&self, threads: bool) -> Vec<(&'static str, String)> {
        let name = if threads { "libfaketimeMT.so.1" } else { "libfaketime.so.1" };
        vec![
            ("LD_PRELOAD", self.library.join(name).display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // Times of files stay the system's.
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }
}

/// Named by the environment, or where packages put it.
fn find() -> Result<PathBuf, Error> {
    if let Some(named) = std::env::var_os("CHANGEOVER_TEST_FAKETIME").filter(|it| !it.is_empty()) {
        return Ok(named.into());
    }
    let machines = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let usual = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let mut folders = machines.chain(usual).map(|folder| folder.join("faketime"));
    let is_there = |folder: &PathBuf| {
        ["libfaketime.so.1", "libfaketimeMT.so.1"].iter().all(|name| folder.join(name).is_file())
    };
    folders.find(is_there).ok_or_else(|| {
        Error::Invalid(
            "no libfaketime on this machine, by which tests move a clock; install it (Debian: `apt-get install \
             libfaketime`; as root `./test` does it) or name its folder in CHANGEOVER_TEST_FAKETIME"
                .to_owned(),
        )
    })
}
