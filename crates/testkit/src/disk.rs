//! A disk that is soon full: a file system of a few megabytes, in memory, for a server of a test's own.
//!
//! It is mounted in a mount namespace of its own, which a program keeps that reads from this process. When this process ends,
//! however it does, so does that program, and nothing stays mounted; nobody else ever sees it. A namespace takes root, or a
//! system that gives every user namespaces of their own.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::error::{Doing, Error};
use crate::programs::{is_root, unprivileged};

/// A small file system. It goes when it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    keeper: Child,
    /// As this process and the server come to it.
    root: PathBuf,
    _folder: TempDir,
}

impl SmallDisk {
    /// Of a size, for whom a server of this machine runs as.
    pub(crate) fn make(mebibytes: u32) -> Result<Self, Error> {
        let folder =
            tempfile::Builder::new().prefix("changeover-disk-").tempdir().doing("making a folder")?;
        let at = folder.path().display();
        let mut command = Command::new("unshare");
        if is_root() {
            let (uid, gid) = unprivileged().map_err(Error::Invalid)?;
            // The server comes to it through this program, so both are of one user.
            command.args(["--mount", "sh", "-c"]).arg(format!(
                "mount -t tmpfs -o size={mebibytes}m,mode=0700,uid={uid},gid={gid} tmpfs {at} && echo ready && \
                 exec setpriv --reuid {uid} --regid {gid} --clear-groups cat"
            ));
        } else {
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]).arg(format!(
                "mount -t tmpfs -o size={mebibytes}m,mode=0700 tmpfs {at} && echo ready && exec cat"
            ));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = command.spawn().map_err(|error| missing(&error.to_string()))?;
        let mut said = String::new();
        if let Some(out) = keeper.stdout.take() {
            BufReader::new(out).read_line(&mut said).doing("mounting a small file system")?;
        }
        if said.trim() != "ready" {
            let mut why = String::new();
            if let Some(mut out) = keeper.stderr.take() {
                let _ = out.read_to_string(&mut why);
            }
            let _ = keeper.wait();
            return Err(missing(why.trim()));
        }
        let root = Path::new("/proc").join(keeper.id().to_string()).join("root");
        let inside = folder.path().strip_prefix("/").unwrap_or(folder.path());
        Ok(Self { root: root.join(inside), keeper, _folder: folder })
    }

    /// A folder in it for the server.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        fs::create_dir(&path).doing(format!("making {}", path.display()))?;
        if is_root() {
            let (uid, gid) = unprivileged().map_err(Error::Invalid)?;
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).doing("giving a folder away")?;
        }
        Ok(path)
    }

    /// Takes all the room that is left; how many bytes that were.
    ///
    /// # Errors
    /// [`Error::Io`] for anything else than a disk that is full.
    pub fn fill(&self) -> Result<u64, Error> {
        let doing = "filling a small file system";
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).doing(doing)?;
        let mut taken = 0;
        for size in [256 * 1024, 4096, 1] {
            loop {
                match ballast.write(&vec![1; size]) {
                    Ok(written) => taken += written as u64,
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).doing(doing),
                }
            }
        }
        Ok(taken)
    }

    /// Gives the room back that [`fill`](Self::fill) took.
    ///
    /// # Errors
    /// [`Error::Io`] if it was not filled.
    pub fn make_room(&self) -> Result<(), Error> {
        fs::remove_file(self.ballast()).doing("making room in a small file system")
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn missing(why: &str) -> Error {
    Error::Invalid(format!(
        "a test needs a small file system to fill, and none can be had: `unshare --mount` and `mount -t tmpfs` said: {why}\n\
         Do one of these: run the tests as root (in a container with CAP_SYS_ADMIN); let users have namespaces of their own \
         (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0) and install util-linux."
    ))
}
