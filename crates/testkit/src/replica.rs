//! What follows a server's log from afar, as a replica does, and can be made to fall behind.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::error::{Doing, Error};
use crate::own::OwnServer;

/// How long it may take to be known to the server.
const KNOWN_LIMIT: Duration = Duration::from_secs(30);

/// PostgreSQL's own receiver of the log. It ends when it is dropped.
#[derive(Debug)]
pub struct Replica {
    receiver: Child,
    _folder: TempDir,
}

impl OwnServer {
    /// A replica that follows this server.
    ///
    /// # Errors
    /// [`Error::Invalid`] if its programs have no `pg_receivewal`, or the server does not come to know it.
    pub async fn replica(&self) -> Result<Replica, Error> {
        let folder =
            tempfile::Builder::new().prefix("changeover-replica-").tempdir().doing("making a folder")?;
        let program = self.program("pg_receivewal")?;
        // It tells what it has as soon as it has it.
        let receiver = Command::new(&program)
            .args(["--synchronous", "--no-password", "--dbname", self.url(), "--directory"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| Error::Invalid(format!("{}: {error}", program.display())))?;
        let replica = Replica { receiver, _folder: folder };
        let client = self.connect().await?;
        let known = async {
            let sql = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE flush_lsn IS NOT NULL)";
            while !client.query_one(sql, &[]).await.doing("looking for a replica")?.get::<_, bool>(0) {
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        let known = timeout(KNOWN_LIMIT, known).await;
        known.unwrap_or_else(|_| Err(Error::Invalid("the server knows no replica".to_owned())))?;
        Ok(replica)
    }
}

impl Replica {
    /// From here it falls behind.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it has ended.
    pub fn sleep(&self) -> Result<(), Error> {
        self.signal("-STOP")
    }

    /// From here it catches up.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it has ended.
    pub fn wake(&self) -> Result<(), Error> {
        self.signal("-CONT")
    }

    fn signal(&self, name: &str) -> Result<(), Error> {
        let id = self.receiver.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().doing("telling a replica")?;
        if sent.success() { Ok(()) } else { Err(Error::Invalid("the replica has ended".to_owned())) }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // SIGKILL reaches a sleeper too.
        let _ = self.receiver.kill();
        let _ = self.receiver.wait();
    }
}
