//! The binary in a directory of its own, with none of the environment's settings.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Map, Value};
use tempfile::TempDir;

/// A directory in which the command is run.
pub struct Home {
    directory: Arc<TempDir>,
    variables: Vec<(String, String)>,
}

/// What a run left: status, standard output, standard error.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Home {
    /// No settings: SQLite at `var/changeover.db`.
    pub fn new() -> Self {
        Self { directory: Arc::new(tempfile::tempdir().unwrap()), variables: Vec::new() }
    }

    /// Everything on the PostgreSQL database at `url`.
    pub fn on_postgres(url: &str) -> Self {
        Self::new()
            .with("CHANGEOVER_PERSISTENCE__DEFAULT", "main")
            .with("CHANGEOVER_BACKENDS__MAIN__KIND", "postgres")
            .with("CHANGEOVER_BACKENDS__MAIN__URL", url)
    }

    /// A file that is the default, `local`, and the PostgreSQL database at `url` that it can be moved to, `main`.
    pub fn between(url: &str) -> Self {
        Self::new()
            .with("CHANGEOVER_PERSISTENCE__DEFAULT", "local")
            .with("CHANGEOVER_BACKENDS__LOCAL__KIND", "sqlite")
            .with("CHANGEOVER_BACKENDS__LOCAL__PATH", "var/changeover.db")
            .with("CHANGEOVER_BACKENDS__MAIN__KIND", "postgres")
            .with("CHANGEOVER_BACKENDS__MAIN__URL", url)
    }

    pub fn with(mut self, variable: &str, value: &str) -> Self {
        self.variables.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// The same folder and settings, to be given others.
    pub fn beside(&self) -> Self {
        Self { directory: Arc::clone(&self.directory), variables: self.variables.clone() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_changeover"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHANGEOVER_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran {
            status: output.status.code().expect("ended by itself"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// As [`Home::run`]; the status must be 0.
    pub fn ok(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.status, 0, "{arguments:?}: {ran:?}");
        ran
    }

    /// Does to the file what the command would not.
    pub fn sqlite(&self, sql: &str) {
        use diesel::connection::SimpleConnection;
        use diesel::{Connection, SqliteConnection};
        let path = self.path().join("var/changeover.db");
        SqliteConnection::establish(path.to_str().unwrap()).unwrap().batch_execute(sql).unwrap();
    }

    /// A number out of the file, as another program sees it.
    pub fn sqlite_number(&self, sql: &str) -> i64 {
        use diesel::{Connection, RunQueryDsl, SqliteConnection};
        let path = self.path().join("var/changeover.db");
        let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        diesel::dsl::sql::<diesel::sql_types::BigInt>(sql).get_result(&mut file).unwrap()
    }

    /// The whole log, a record a line.
    pub fn export(&self) -> Vec<Map<String, Value>> {
        records(&self.ok(&["events", "export"]).out)
    }
}

impl Ran {
    /// The objects on standard output.
    pub fn objects(&self) -> Vec<Map<String, Value>> {
        records(&self.out)
    }
}

pub fn records(text: &str) -> Vec<Map<String, Value>> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The records of an export without what only a store can know. Their order is compared, their positions are not.
pub fn as_imported(mut records: Vec<Map<String, Value>>) -> Vec<Map<String, Value>> {
    let mut last = 0;
    for record in &mut records {
        let position = record.remove("global_order").and_then(|position| position.as_i64()).unwrap();
        assert!(position > last, "positions rise");
        last = position;
        for added in ["recorded_at", "checkpoint", "event_id"] {
            assert!(record.remove(added).is_some_and(|value| value.is_string()), "{added}");
        }
    }
    records
}

/// The real streams.
pub fn real_streams() -> [String; 2] {
    ["streams_awesome_alerts.jsonl", "streams_openshift_runbooks.jsonl"].map(|name| real_data(name, name))
}

/// The full file of this name where it is, else the sample of this repository, and it says so.
pub fn real_data(full: &str, sample: &str) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = here.join("../../../shared/data").join(full);
    fs::read_to_string(&path).unwrap_or_else(|_| {
        eprintln!("NOT THE FULL DATA: {} is absent, tests/data/{sample} is used instead", path.display());
        fs::read_to_string(here.join("tests/data").join(sample)).unwrap()
    })
}

/// A line of import: version `version` of the stream number `stream`, with `more` members.
pub fn line(stream: u32, version: i64, more: &str) -> String {
    let mut line = String::new();
    write!(
        line,
        r#"{{"aggregate_type":"Order","aggregate_id":"00000000-0000-4000-8000-{stream:012}","aggregate_version":{version},"event_type":"Changed","event_version":1,"event_data":{{"n":{version}}}{more}}}"#
    )
    .unwrap();
    line
}
