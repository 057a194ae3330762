//! Who owns a module by what the stores say: the gate in the SQLite file, and the authority in PostgreSQL.
//!
//! The settings are a hint: which of the two is asked first, and which takes a module that nobody has.

use std::sync::Arc;
use std::time::Duration;

use changeover_core::cutover::CutoverSide;
use changeover_core::{Error, ErrorKind, ModuleScope, OpenBackend, Result};

use super::Home;
use crate::db::Shared;

/// The kind that a module is moved from.
pub(crate) const FILE: &str = "sqlite";

/// The kind that it is moved to.
pub(crate) const SERVER: &str = "postgres";

/// The recorded owner of a module that no backend has claimed, or that is on its way back.
const NOBODY: &str = "none";

/// How long a service on a file waits for what the server has to say.
const SERVER_WITHIN: Duration = Duration::from_secs(5);

pub(super) enum Found {
    Owner(String, Arc<dyn OpenBackend>),
    /// Nothing is recorded; the configured backend serves.
    Nothing,
    /// A cutover or its way back is under way, and nobody takes writes: what the stores say.
    Between(String),
}

/// A backend that the settings name, open, and what it says about the module.
struct Asked<'a> {
    name: &'a str,
    backend: Arc<dyn OpenBackend>,
    says: Option<String>,
}

impl Asked<'_> {
    fn says(&self) -> &str {
        self.says.as_deref().unwrap_or("no owner")
    }

    fn found(self) -> Found {
        Found::Owner(self.name.to_owned(), self.backend)
    }
}

/// One look at the stores.
pub(super) async fn find(home: &Home, shared: &Shared) -> Result<Found> {
    let looking = Looking { home, shared };
    let configured = looking.ask(&home.backend).await?;
    match configured.backend.kind() {
        FILE => looking.on_file(configured).await,
        SERVER => looking.on_server(configured).await,
        kind => match configured.says.as_deref() {
            None => Ok(Found::Nothing),
            Some(says) if says == kind => Ok(configured.found()),
            Some(NOBODY) => looking.claim(configured).await,
            Some(_) => Err(looking.not_configured(&configured)),
        },
    }
}

struct Looking<'a> {
    home: &'a Home,
    shared: &'a Shared,
}

impl<'a> Looking<'a> {
    fn scope(&self) -> &'a ModuleScope {
        &self.home.scope
    }

    fn config(&self, backend: &str, message: String) -> Error {
        let error = Error::new(ErrorKind::Config, message);
        error.with("module", self.scope().module.as_str()).with("backend", backend)
    }

    async fn ask(&self, name: &'a str) -> Result<Asked<'a>> {
        let backend = self.shared.backend(name).await?;
        let asked = backend.owner(self.scope()).await;
        let place = |error: Error| error.with("module", self.scope().module.as_str()).with("backend", name);
        Ok(Asked { name, says: asked.map_err(place)?, backend })
    }

    /// The configured backends of a kind.
    fn all(&self, kind: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let kind = kind.to_owned();
        let plans = self.shared.plan.backends.iter().filter(move |(_, plan)| plan.kind == kind);
        plans.map(|(name, _)| name.as_str())
    }

    /// The settings name a file.
    async fn on_file(&self, file: Asked<'a>) -> Result<Found> {
        let moved = file.says.as_deref().is_some_and(|says| says != FILE);
        let mut servers = self.all(SERVER);
        let (Some(server), None) = (servers.next(), servers.next()) else {
            return match file.says {
                None => Ok(Found::Nothing),
                Some(_) if moved => Err(self.not_configured(&file)),
                Some(_) => Ok(file.found()),
            };
        };
        let asked = tokio::time::timeout(SERVER_WITHIN, self.ask(server)).await;
        let asked = asked.unwrap_or_else(|_| {
            let message = format!("the database did not answer within {SERVER_WITHIN:?}");
            Err(Error::new(ErrorKind::Timeout, message).with("backend", server))
        });
        let server = match asked {
            Ok(server) => server,
            Err(error) if moved => return Err(error),
            Err(error) => {
                tracing::warn!(
                    module = %self.scope().module,
                    file = file.name,
                    server,
                    %error,
                    "the server was not asked whether the module was moved there; the file says that it was not"
                );
                return Ok(if file.says.is_some() { file.found() } else { Found::Nothing });
            }
        };
        match (file.says.as_deref(), server.says.as_deref()) {
            (Some(FILE), Some(SERVER)) => self.two_owners(&file, &server).await,
            (Some(FILE), _) => Ok(file.found()),
            (_, Some(SERVER)) => Ok(self.follow(server)),
            (None, Some(FILE)) => Err(self.another_file(&server, &[file.name])),
            (None, _) => Ok(Found::Nothing),
            (Some(_), Some(_)) => Ok(between(&file, &server)),
            (Some(_), None) => {
                let message = format!(
                    "backend {} says that module {} was moved to {}, and backend {} has no record of the module; set \
                     the url of backend {} to the database that it was moved to",
                    file.name,
                    self.scope().module,
                    file.says(),
                    server.name,
                    server.name
                );
                Err(self.config(server.name, message))
            }
        }
    }

    /// The settings name a server.
    async fn on_server(&self, server: Asked<'a>) -> Result<Found> {
        match server.says.as_deref() {
            None => return Ok(Found::Nothing),
            Some(SERVER) => return Ok(server.found()),
            Some(_) => {}
        }
        let (mut holders, mut asked) = (Vec::new(), Vec::new());
        for name in self.all(FILE) {
            let file = self.ask(name).await?;
            asked.push(name);
            if file.says.is_some() {
                holders.push(file);
            }
        }
        match (holders.pop(), holders.is_empty(), server.says.as_deref()) {
            (Some(file), true, _) if file.says() == FILE => Ok(self.follow(file)),
            (Some(file), true, _) => Ok(between(&file, &server)),
            (None, _, Some(NOBODY)) => self.claim(server).await,
            (None, _, _) if asked.len() == 1 => Err(self.another_file(&server, &asked)),
            _ => Err(self.not_configured(&server)),
        }
    }

    /// Takes a module that nobody owns, if its tables are empty.
    async fn claim(&self, configured: Asked<'a>) -> Result<Found> {
        let place = |error: Error| {
            error.with("module", self.scope().module.as_str()).with("backend", configured.name)
        };
        if configured.backend.claim(self.scope()).await.map_err(place)? {
            return Ok(configured.found());
        }
        // Somebody was faster, or the tables hold rows that nobody owns.
        match configured.backend.owner(self.scope()).await.map_err(place)?.as_deref() {
            Some(NOBODY) => Err(self.config(
                configured.name,
                "nobody owns the module, and its tables hold rows already; see `changeover doctor`"
                    .to_owned(),
            )),
            Some(owner) if owner == configured.backend.kind() => Ok(configured.found()),
            _ => Ok(Found::Between(format!("the owner of backend {} changes", configured.name))),
        }
    }

    /// The stores win over the settings.
    fn follow(&self, owner: Asked<'_>) -> Found {
        let module = &self.scope().module;
        tracing::warn!(
            %module,
            configured = self.home.backend,
            owner = owner.name,
            "the stores record another owner than the settings name, and are followed; correct persistence.{module}"
        );
        owner.found()
    }

    fn not_configured(&self, asked: &Asked<'_>) -> Error {
        let (module, owner) = (&self.scope().module, asked.says());
        let message = format!(
            "module {module} is owned by {owner} as backend {} records, and the settings have not exactly one backend \
             of this kind that has it; set persistence.{module} to the backend that owns it",
            asked.name
        );
        self.config(asked.name, message)
    }

    fn another_file(&self, server: &Asked<'_>, files: &[&str]) -> Error {
        let (module, file) = (&self.scope().module, files.join(", "));
        let message = format!(
            "backend {} records that a SQLite file owns module {module}, and the file of backend {file} holds nothing \
             of it; set the path of backend {file} to the file that the records are in",
            server.name
        );
        self.config(&file, message)
    }

    /// The file takes writes and the server owns the module. Asked once more, for the owner may have changed between the
    /// two answers; else the file is a copy from before.
    async fn two_owners(&self, file: &Asked<'_>, server: &Asked<'_>) -> Result<Found> {
        for asked in [file, server] {
            if asked.backend.owner(self.scope()).await? != asked.says {
                return Ok(Found::Between(format!("the owner changes, as backend {} says", asked.name)));
            }
        }
        let (module, file_at) = (&self.scope().module, self.place(file).await);
        let message = format!(
            "the file of backend {} takes writes of module {module} ({file_at}), and backend {} records that it owns the \
             module ({}): the file is a copy from before the cutover, or was restored from a backup, and what is \
             written to it would be lost. No record was read or written. Set persistence.{module} to {} and put the file \
             away; if the service is to go on with a file, take the module back by `changeover cutover revert` first",
            file.name,
            server.name,
            self.place(server).await,
            server.name
        );
        Err(self.config(file.name, message))
    }

    /// Place and epoch, as far as they can be had.
    async fn place(&self, asked: &Asked<'_>) -> String {
        let found = match asked.backend.cutover(self.scope()) {
            Ok(CutoverSide::Old { source, .. }) => {
                let place = source.facts().await.ok().map(|facts| facts.place);
                (place, source.meta().await.ok().map(|meta| meta.map(|meta| meta.epoch)))
            }
            Ok(CutoverSide::New { target, .. }) => {
                let place = target.facts(&[]).await.ok().map(|facts| facts.place);
                (place, target.authority().await.ok().map(|found| found.map(|found| found.epoch)))
            }
            Err(_) => (None, None),
        };
        let epoch = match found.1 {
            Some(Some(epoch)) => format!("epoch {epoch}"),
            Some(None) => "without a record of any cutover".to_owned(),
            None => "epoch unknown".to_owned(),
        };
        found.0.map_or_else(|| epoch.clone(), |place| format!("{place}, {epoch}"))
    }
}

fn between(file: &Asked<'_>, server: &Asked<'_>) -> Found {
    Found::Between(format!(
        "the file of backend {} is fenced and names {}, backend {} records {}",
        file.name,
        file.says(),
        server.name,
        server.says()
    ))
}
