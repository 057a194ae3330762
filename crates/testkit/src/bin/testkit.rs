//! Starts the run's PostgreSQL once, for a command or until it is told to stop.

use std::process::{ExitCode, ExitStatus, Stdio};

use changeover_testkit::{Error, Server, Settings, acquire, stop_all};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

const HELP: &str = "\
PostgreSQL for tests.

  testkit run -- COMMAND…   run a command with CHANGEOVER_TEST_POSTGRES_URL set; stop a server it started
  testkit serve             print the address of a server and keep it until interrupted
  testkit stop              stop what runs of tests without `testkit run` have left running

CHANGEOVER_TEST_POSTGRES_URL    use this server (superuser's address)
CHANGEOVER_TEST_POSTGRES_RUN   allow only one of: env, container, local, fetched
CHANGEOVER_TEST_POSTGRES_IMAGE  image of the container rung (changeover-test-postgres:18)
";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["run", "--", program, rest @ ..] => run(program, rest).await,
        ["serve"] => serve().await,
        ["stop"] => stop().await,
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprint!("{HELP}");
            Ok(ExitCode::from(2))
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("testkit: {error}");
        ExitCode::FAILURE
    })
}

async fn run(program: &str, arguments: &[&str]) -> Result<ExitCode, Error> {
    let settings = Settings::from_env()?;
    let mut signals = Signals::listen()?;
    let server = acquire(&settings).await?;
    if !server.started_here() {
        eprintln!("testkit: {server}");
    }
    let command = Command::new(program)
        .args(arguments)
        .env("CHANGEOVER_TEST_POSTGRES_URL", server.url())
        // The address is settled: the rung was chosen here.
        .env_remove("CHANGEOVER_TEST_POSTGRES_RUN")
        .spawn();
    let status = match command {
        Ok(mut child) => signals.wait_for(&mut child).await,
        Err(error) => Err(error),
    };
    leave(&server, &settings).await?;
    match status {
        Ok(status) => Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))),
        Err(error) => Err(Error::Invalid(format!("running {program}: {error}"))),
    }
}

async fn serve() -> Result<ExitCode, Error> {
    let settings = Settings::from_env()?;
    let mut signals = Signals::listen()?;
    let server: Server = acquire(&settings).await?;
    eprintln!("testkit: {server}; interrupt to stop it");
    println!("{}", server.url());
    signals.next().await;
    leave(&server, &settings).await?;
    Ok(ExitCode::SUCCESS)
}

async fn stop() -> Result<ExitCode, Error> {
    for server in stop_all(&Settings::from_env()?).await? {
        eprintln!("testkit: stopped {server}");
    }
    Ok(ExitCode::SUCCESS)
}

/// A server that was found is left to those who use it.
async fn leave(server: &Server, settings: &Settings) -> Result<(), Error> {
    if server.started_here() { server.stop(&settings.state).await } else { Ok(()) }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Error> {
        let listen = |kind| {
            signal(kind).map_err(|source| Error::Io { doing: "listening for signals".to_owned(), source })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "-INT",
            _ = self.terminate.recv() => "-TERM",
            _ = self.hangup.recv() => "-HUP",
        }
    }

    /// Hands signals on, and always outlives the child, since it has the server to stop.
    async fn wait_for(&mut self, child: &mut Child) -> std::io::Result<ExitStatus> {
        loop {
            let signal = tokio::select! {
                status = child.wait() => return status,
                signal = self.next() => signal,
            };
            if let Some(id) = child.id() {
                let _ =
                    Command::new("kill").args([signal, &id.to_string()]).stderr(Stdio::null()).status().await;
            }
        }
    }
}
