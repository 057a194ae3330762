//! A pooler in transaction mode between the code under test and its PostgreSQL: a real pgbouncer.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::error::{Doing, Error};
use crate::programs::{act_as, free_port, is_root, unprivileged};
use crate::url;

const START_LIMIT: Duration = Duration::from_secs(30);
/// Another process may take the port before pgbouncer does.
const ATTEMPTS: u32 = 3;
/// Who may give it orders.
const ADMIN: &str = "changeover_test_pooler";

/// A pgbouncer in transaction mode, in front of every database of a server. Dropping it ends it.
///
/// It hands its connections to the server out in turn, so that hardly any transaction meets the connection of the one
/// before it, and it knows no prepared statements: that is asked of whoever works behind one.
///
/// ```no_run
/// # async fn example(db: changeover_testkit::TestDatabase) -> Result<(), changeover_testkit::Error> {
/// let pooler = changeover_testkit::Pooler::start(db.url(), &["app"], 3).await?;
/// let url = pooler.url(&changeover_testkit::with_user(db.url(), "app", None)); // for the store under test
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    _process: Child,
    _folder: TempDir,
}

impl Pooler {
    /// A pooler on a free port of 127.0.0.1 that keeps at most `size` connections to the server of `target_url` for each
    /// database and login. It lets the `logins` in, without a password, and the server has to do the same.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no pgbouncer on this machine, or it does not start; says what to do.
    pub async fn start(target_url: &str, logins: &[&str], size: u32) -> Result<Self, Error> {
        Self::start_with(target_url, logins, size, "").await
    }

    /// The same with `more` lines in its settings.
    ///
    /// # Errors
    /// As of [`start`](Self::start).
    pub async fn start_with(target_url: &str, logins: &[&str], size: u32, more: &str) -> Result<Self, Error> {
        let program = find()?;
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match Self::try_start(&program, target_url, logins, size, more).await? {
                Ok(pooler) => return Ok(pooler),
                Err(said) => why = said,
            }
        }
        Err(Error::Invalid(format!("{} did not start: {}", program.display(), why.trim())))
    }

    /// `url` through this pooler.
    pub fn url(&self, url: &str) -> String {
        url::with_address(url, "127.0.0.1", self.port)
    }

    /// Takes new connections to the server; each of the old ones is closed when its transaction is over, and is by the time
    /// this returns.
    ///
    /// # Errors
    /// [`Error::Postgres`] with what the pooler said.
    pub async fn reconnect(&self) -> Result<(), Error> {
        let admin =
            crate::server::connect(&format!("postgres://{ADMIN}@127.0.0.1:{}/pgbouncer", self.port)).await?;
        for order in ["RECONNECT", "WAIT_CLOSE"] {
            admin.batch_execute(order).await.doing(format!("ordering the pooler to {order}"))?;
        }
        Ok(())
    }

    async fn try_start(
        program: &Path,
        target_url: &str,
        logins: &[&str],
        size: u32,
        more: &str,
    ) -> Result<Result<Self, String>, Error> {
        let doing = "starting pgbouncer";
        let folder = tempfile::Builder::new().prefix("changeover-pgbouncer-").tempdir().doing(doing)?;
        let port = free_port().doing(doing)?;
        let (host, server_port) = url::address(target_url)
            .rsplit_once(':')
            .ok_or_else(|| Error::Invalid("the server's address has no port".to_owned()))?;
        let (users, config, log) =
            (folder.path().join("users.txt"), folder.path().join("pgbouncer.ini"), folder.path().join("log"));
        let listed: Vec<_> =
            logins.iter().chain([&ADMIN]).map(|login| format!("\"{login}\" \"\"\n")).collect();
        fs::write(&users, listed.concat()).doing(doing)?;
        let text = format!(
            "[databases]\n* = host={host} port={server_port}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = {size}\n\
             max_client_conn = 500\nserver_round_robin = 1\nadmin_users = {ADMIN}\nlogfile = {}\n{more}\n",
            users.display(),
            log.display()
        );
        fs::write(&config, text).doing(doing)?;
        // It refuses to run as root.
        let user = if is_root() { Some(unprivileged().map_err(Error::Invalid)?) } else { None };
        if let Some((uid, gid)) = user {
            for path in [folder.path(), users.as_path(), config.as_path()] {
                chown(path, Some(uid), Some(gid)).doing(doing)?;
            }
        }
        let mut command = Command::new(program);
        command.arg("--quiet").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        act_as(&mut command, user);
        let mut process = command.kill_on_drop(true).spawn().doing(doing)?;
        let address = ("127.0.0.1", port);
        let started = async {
            // A connection is taken only when it listens; whether the server answers is the test's to find out.
            while tokio::net::TcpStream::connect(address).await.is_err() {
                if process.try_wait().doing(doing)?.is_some() {
                    return Ok(Err(fs::read_to_string(&log).unwrap_or_default()));
                }
                sleep(Duration::from_millis(10)).await;
            }
            Ok(Ok(()))
        };
        match timeout(START_LIMIT, started).await {
            Ok(Ok(Ok(()))) => Ok(Ok(Self { port, _process: process, _folder: folder })),
            Ok(Ok(Err(said))) => Ok(Err(said)),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(Err(format!("it did not listen within {} s", START_LIMIT.as_secs()))),
        }
    }
}

/// Named by the environment, on PATH, or where packages put what only root is expected to run.
fn find() -> Result<PathBuf, Error> {
    if let Some(named) = std::env::var_os("CHANGEOVER_TEST_PGBOUNCER").filter(|it| !it.is_empty()) {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(usual).map(|dir| dir.join("pgbouncer"));
    found.into_iter().find(|program| program.is_file()).ok_or_else(|| {
        Error::Invalid(
            "no pgbouncer on this machine, on which the tests of poolers run; install it (Debian: `apt-get install \
             pgbouncer`; as root `./test` does it) or name the program in CHANGEOVER_TEST_PGBOUNCER"
                .to_owned(),
        )
    })
}
