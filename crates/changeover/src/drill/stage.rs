//! The stage of a drill: a copy of the file in a folder of its own, and a database. Taken away by whatever way the drill ends.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use changeover_core::backend::Family;
use changeover_core::cutover::{Cloned, CutoverSide, CutoverSource, CutoverTarget};
use changeover_core::{Error, ErrorKind, OpenBackend, Result, Uuid};
use changeover_cutover::declare;
use tokio::task::JoinHandle;

use crate::db::Db;
use crate::moving::{FAMILIES, Found, Move};

/// How often a folder is tried to be removed while a copy into it is being given up.
const TRIES: u32 = 40;

type Making = JoinHandle<Result<()>>;

/// What there is of the stage.
#[derive(Default)]
struct Made {
    folder: Option<PathBuf>,
    /// The server, and what is being made there.
    scratch: Option<(Arc<dyn CutoverTarget>, Option<Making>)>,
    opened: Vec<Db>,
    /// A database that somebody named keeps what was moved into it.
    named: Option<String>,
}

pub(super) struct Stage {
    /// Of the database that is made.
    name: String,
    made: Mutex<Made>,
    stop: Arc<AtomicBool>,
}

/// A stage that is set.
pub(super) struct Staged {
    /// As the settings are after the switch.
    pub there: Db,
    /// As they are before it, and after the revert.
    pub back: Db,
    pub of: Move,
    /// Where the module is moved to, for people.
    pub place: String,
    /// A file beside the copy, to be made.
    pub rows: PathBuf,
    pub families: Vec<Family>,
    pub target: Arc<dyn CutoverTarget>,
}

impl Stage {
    pub(super) fn of(drill: Uuid) -> Self {
        let short = &drill.simple().to_string()[..12];
        Self { name: format!("changeover_drill_{short}"), made: Mutex::default(), stop: Arc::default() }
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies the file into a folder that is made for it.
    pub(super) async fn copy(&self, source: &dyn CutoverSource, within: Option<&Path>) -> Result<Cloned> {
        let folder = within.map_or_else(std::env::temp_dir, Path::to_owned).join(self.name.replace('_', "-"));
        let unmade = |error: std::io::Error| {
            let message = format!("{} cannot be made: {error}; name another folder", folder.display());
            Error::new(ErrorKind::Config, message)
        };
        let mut make = DirBuilder::new();
        // The data are nobody else's.
        std::os::unix::fs::DirBuilderExt::mode(&mut make, 0o700);
        make.create(&folder).map_err(unmade)?;
        self.made().folder = Some(folder.clone());
        source.copy_into(&folder, &self.stop).await
    }

    /// The copy, to be read.
    pub(super) async fn source(
        &self,
        db: &Db,
        found: &Found,
        clone: &Path,
    ) -> Result<Arc<dyn CutoverSource>> {
        let old = &found.old.name;
        let backends = [(old.clone(), db.plan_of(old, Some(&text(clone)?))?)].into();
        let looked = db.of_module(&found.scope, old, backends);
        self.made().opened.push(looked.clone());
        match looked.backend(old).await?.cutover(&found.scope)? {
            CutoverSide::Old { source, .. } => Ok(source),
            CutoverSide::New { .. } => Err(Error::new(ErrorKind::Unsupported, "a copy cannot be moved to")),
        }
    }

    /// Makes the database, or takes the one that is named, and migrates it.
    pub(super) async fn set(
        &self,
        db: &Db,
        found: &Found,
        clone: &Path,
        named: Option<&str>,
        real: &Arc<dyn CutoverTarget>,
    ) -> Result<Staged> {
        let old = found.old.name.clone();
        let new = named.unwrap_or(&found.new.name).to_owned();
        let mut backends = BTreeMap::from([(old.clone(), db.plan_of(&old, Some(&text(clone)?))?)]);
        if named.is_some() {
            backends.insert(new.clone(), db.plan_of(&new, None)?);
        } else {
            backends.insert(new.clone(), db.plan_of(&new, Some(&self.name))?);
            self.make(real).await?;
        }
        let back = db.of_module(&found.scope, &old, backends.clone());
        let there = db.of_module(&found.scope, &new, backends);
        self.made().opened.extend([back.clone(), there.clone()]);
        let backend = there.backend(&new).await?;
        let CutoverSide::New { target, .. } = backend.cutover(&found.scope)? else {
            let message = format!("backend {new} cannot be moved to, so there can be no drill in it");
            return Err(Error::new(ErrorKind::Config, message));
        };
        if named.is_some() {
            check_empty(&new, found, &*target, &**real).await?;
            self.made().named = Some(new.clone());
        }
        let families = families(found);
        migrate(&*backend, found, &families).await?;
        let of = Move {
            module: found.scope.module.to_string(),
            old: Some(old),
            new: Some(new),
            tables: Some(found.tables.clone()),
            who: "a drill".to_owned(),
        };
        let place = target.facts(&[]).await?.place;
        let mut rows = clone.as_os_str().to_owned();
        rows.push(".rows");
        let rows = PathBuf::from(rows);
        Ok(Staged { there, back, of, place, rows, families, target })
    }

    /// In a task of its own: a server goes on with it, whether anybody waits or not, and then it has to be taken away.
    async fn make(&self, real: &Arc<dyn CutoverTarget>) -> Result<()> {
        let making = tokio::spawn({
            let (real, name) = (Arc::clone(real), self.name.clone());
            async move { real.make_scratch(&name).await }
        });
        self.made().scratch = Some((Arc::clone(real), Some(making)));
        loop {
            let is_done = match &self.made().scratch {
                Some((_, Some(making))) => making.is_finished(),
                _ => true,
            };
            if is_done {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let making = self.made().scratch.as_mut().and_then(|(_, making)| making.take());
        let Some(making) = making else { return Ok(()) };
        let made = joined(making.await);
        // What was refused is not there.
        if made.as_ref().is_err_and(|error| error.was_applied() == Some(changeover_core::Applied::No)) {
            self.made().scratch = None;
        }
        made
    }

    pub(super) fn left_behind(&self) -> Vec<String> {
        let made = self.made();
        let folder = made.folder.iter().map(|folder| format!("the folder {}", folder.display()));
        let scratch = made.scratch.iter().map(|_| format!("the database {}", self.name));
        let named = made.named.iter().map(|name| format!("the module in the database of backend {name}"));
        folder.chain(scratch).chain(named).collect()
    }

    /// Takes away what was made.
    pub(super) async fn clear(&self, keep: bool) -> Result<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        let opened = std::mem::take(&mut self.made().opened);
        for db in opened {
            db.close().await;
        }
        let making = self.made().scratch.as_mut().and_then(|(_, making)| making.take());
        if let Some(making) = making {
            // Whether it went well is told by the drill.
            let _ = making.await;
        }
        if keep {
            return Ok(self.left_behind());
        }
        let mut problems = Vec::new();
        let scratch = self.made().scratch.as_ref().map(|(target, _)| Arc::clone(target));
        if let Some(target) = scratch {
            match target.drop_scratch(&self.name).await {
                Ok(()) => self.made().scratch = None,
                Err(error) => problems.push(error.message().to_owned()),
            }
        }
        let folder = self.made().folder.clone();
        if let Some(folder) = folder {
            match remove(&folder).await {
                Ok(()) => self.made().folder = None,
                Err(error) => problems.push(error.to_string()),
            }
        }
        let left = self.left_behind();
        if problems.is_empty() {
            return Ok(left);
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "the drill left behind {}: {}; take it away by hand",
                left.join(" and "),
                problems.join("; ")
            ),
        ))
    }
}

fn joined(ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Unexpected, "the making of the scratch database broke off"))
    })
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let message = format!("{}: the path is no text; name another folder", path.display());
        Error::new(ErrorKind::Config, message)
    })
}

async fn remove(folder: &Path) -> std::io::Result<()> {
    let mut tries = 1;
    loop {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == Io::NotFound => return Ok(()),
            // A copy that is being given up may still make a file in it.
            Err(_) if tries < TRIES => tokio::time::sleep(Duration::from_millis(50)).await,
            done => return done,
        }
        tries += 1;
    }
}

/// The families whose tables are among the declared ones.
fn families(found: &Found) -> Vec<Family> {
    let declared = |family: &Family| {
        let ours = declare::ours(*family, false, &found.scope);
        ours.iter().any(|table| found.tables.iter().any(|it| it.target == table.target))
    };
    FAMILIES.into_iter().filter(declared).collect()
}

/// `Invalid` for tables that no migration makes: a database that is made has none of them.
pub(super) fn check_ours(found: &Found) -> Result<()> {
    let ours: Vec<_> = FAMILIES
        .into_iter()
        .flat_map(|family| declare::ours(family, false, &found.scope))
        .flat_map(|table| table.also.into_iter().map(|also| also.target).chain([table.target]))
        .collect();
    let mut others: Vec<_> = found
        .tables
        .iter()
        .map(|table| &*table.target)
        .filter(|target| !ours.iter().any(|it| it == target))
        .collect();
    others.dedup();
    if others.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{}: tables of your own, which no migration makes, so that a database that is made for the drill has none of them; make a \
         database with them, empty, name it as a backend of the settings, and give that: --scratch BACKEND",
        others.join(", ")
    )))
}

/// The named database is another than the real one, however both are reached, and has nothing of the module.
async fn check_empty(
    name: &str,
    found: &Found,
    scratch: &dyn CutoverTarget,
    real: &dyn CutoverTarget,
) -> Result<()> {
    let refuse = |what: &str| {
        Err(Error::invalid(format!(
            "backend {name} cannot be the scratch of the drill: {what}; nothing was touched"
        )))
    };
    let facts = scratch.facts(&found.tables).await?;
    if facts.identity == real.facts(&[]).await?.identity {
        return refuse("its database is the one that the module is to be moved to");
    }
    if let Some(table) = facts.tables.iter().find(|table| table.has_rows) {
        return refuse(&format!("its table {} holds rows", table.name));
    }
    if scratch.run().await?.is_some() {
        return refuse("a cutover of the module was there before, and the record of it stays; make it anew");
    }
    match scratch.authority().await? {
        Some(authority) if authority.owner != "none" => {
            refuse(&format!("the module is owned there, by {}", authority.owner))
        }
        _ => Ok(()),
    }
}

/// As `migrate up`; what all modules share comes with each family.
async fn migrate(backend: &dyn OpenBackend, found: &Found, families: &[Family]) -> Result<()> {
    let families = if families.is_empty() { &[Family::Events][..] } else { families };
    for family in families {
        backend.migrations(&found.scope, *family)?.up().await?;
    }
    Ok(())
}
