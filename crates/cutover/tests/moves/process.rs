//! Other processes of a test: a coordinator that stops at a named place, a service that writes what it is asked to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use changeover_core::backend::Family;
use changeover_core::{Backend, BackendSettings};
use changeover_cutover::{Cutover, Goal, Step};
use changeover_postgres::Postgres;
use changeover_sqlite::Sqlite;
use changeover_testkit::Clock;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::stage::{Stage, new_settings, tables_of, terms};
use crate::support::{scope, tenant};
use crate::under_writers::{id_of, write};

const TASK: &str = "CHANGEOVER_TEST_TASK";

/// How often a process is killed at each place: once, unless a recipe asks for more.
pub fn repeats() -> u32 {
    let asked = std::env::var("CHANGEOVER_KILL_REPEATS").ok().filter(|text| !text.is_empty());
    let times = asked.map_or(1, |text| text.parse().expect("CHANGEOVER_KILL_REPEATS is a number"));
    assert!(times > 0, "CHANGEOVER_KILL_REPEATS is at least 1");
    times
}

/// Does what this process was started for, if a test started it.
pub async fn did_as_asked() -> bool {
    let Ok(task) = std::env::var(TASK) else { return false };
    let parts: Vec<_> = task.split('\n').collect();
    match parts[2] {
        "serve" => serve(parts[0], parts[1]).await,
        what => coordinate(parts[0], parts[1], what).await,
    }
    true
}

/// A coordinator: what it waits for and how it ended goes to its standard output.
async fn coordinate(path: &str, url: &str, what: &str) {
    let old = Sqlite.open(&BackendSettings::new("old").with("path", path)).await.unwrap();
    let new = Postgres.open(&new_settings(url)).await.unwrap();
    let scope = scope("events");
    let side = old.cutover(&scope).unwrap();
    let tables = tables_of(Family::Events, &side).await;
    let cutover = Cutover::new(&scope, tables, side, new.cutover(&scope).unwrap(), "a process").unwrap();
    let cutover = cutover.watching(|step| {
        if let Step::Waiting { why } = step {
            println!("waits: {why}");
        }
    });
    let ended = match what {
        "run" => cutover.run(&terms(), Goal::Switched).await,
        "abort" => cutover.abort(&terms()).await,
        "revert" => cutover.revert(&terms()).await,
        _ => cutover.finalize(&terms()).await,
    };
    match ended {
        Ok(status) => println!("ended: {}", status.phase),
        Err(error) => println!("ended: {error}"),
    }
}

/// A service: each line is the number of a write that somebody asks for, and is answered when a store took it.
async fn serve(path: &str, url: &str) {
    let old = Sqlite.open(&BackendSettings::new("old").with("path", path)).await.unwrap();
    let new = Postgres.open(&new_settings(url)).await.unwrap();
    let (scope, tenant) = (scope("events"), tenant());
    let (old, new) = (old.events(&scope, &tenant).await.unwrap(), new.events(&scope, &tenant).await.unwrap());
    println!("serves");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let number = line.parse().unwrap();
        write(&*old, &*new, 1, id_of(number), number, &AtomicBool::new(false)).await;
        println!("did {number}.");
    }
}

/// Another process. It is killed when it is dropped.
pub struct Process {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Process {
    /// Started; with a place, one at which it stops.
    pub fn start(stage: &Stage, what: &str, place: Option<&str>) -> Self {
        Self::start_in(stage, what, place, Vec::new())
    }

    /// The same, with more of an environment.
    fn start_in(stage: &Stage, what: &str, place: Option<&str>, more: Vec<(&'static str, String)>) -> Self {
        let task = format!("{}\n{}\n{what}", stage.file.path().display(), stage.db.url());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::every_place_is_named", "--nocapture"])
            .env(TASK, task)
            .env("CHANGEOVER_FAILPOINT", place.unwrap_or_default())
            .envs(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let (send, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// A coordinator, started and at a place.
    pub async fn at(stage: &Stage, what: &str, place: &str) -> Self {
        Self::at_in(stage, what, place, Vec::new()).await
    }

    /// The same, of a clock of its own.
    pub async fn at_by(stage: &Stage, what: &str, place: &str, clock: &Clock) -> Self {
        Self::at_in(stage, what, place, clock.environment(true)).await
    }

    async fn at_in(stage: &Stage, what: &str, place: &str, more: Vec<(&'static str, String)>) -> Self {
        let mut process = Self::start_in(stage, what, Some(place), more);
        let name = place.split(':').next().unwrap_or(place);
        process.says(&format!("at {name}")).await;
        process
    }

    /// A service, started and ready.
    pub async fn service(stage: &Stage) -> Self {
        let mut process = Self::start(stage, "serve", None);
        process.says("serves").await;
        process
    }

    /// The same, of a clock of its own.
    pub async fn service_by(stage: &Stage, clock: &Clock) -> Self {
        let mut process = Self::start_in(stage, "serve", None, clock.environment(true));
        process.says("serves").await;
        process
    }

    /// Waits for a line that holds these words; all lines up to it.
    pub async fn says(&mut self, words: &str) -> Vec<String> {
        let mut said = Vec::new();
        let heard = timeout(Duration::from_mins(1), async {
            while let Some(line) = self.lines.recv().await {
                said.push(line);
                if said.last().is_some_and(|line| line.contains(words)) {
                    return true;
                }
            }
            false
        });
        assert!(heard.await.unwrap_or(false), "{words:?} was never said: {said:#?}");
        said
    }

    /// A line to its standard input.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// A signal by its name.
    pub fn signal(&self, name: &str) {
        let order = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &order]).status().unwrap().success());
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
