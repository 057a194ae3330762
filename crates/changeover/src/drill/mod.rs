//! The drill: a whole cutover, switch and revert included, on a copy of the file and in a scratch database.
//!
//! The real file is read and not written to, the real new store is looked at and gets one entry in its record. Everything that
//! can go wrong with these data, these declarations and this server goes wrong here first.
//!
//! ```no_run
//! # use changeover::drill::{Drill, Options, Outcome};
//! # async fn example(db: changeover::Db) -> changeover::Result<()> {
//! let terms = changeover::cutover::Terms::new(db.tenant().clone());
//! let drill = Drill::new(&db, changeover::Move::of("events", "an operator"), Options::of(terms));
//! let outcome = drill.run().await;
//! drill.clear().await?;
//! if let Outcome::Done(done) = outcome? {
//!     println!("{} rows, a pause of {} ms", done.drilled.rows(), done.drilled.pause_ms);
//! }
//! # Ok(())
//! # }
//! ```

mod rows;
mod stage;
mod times;
mod writes;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use changeover_core::cutover::{CutoverSide, CutoverSource, CutoverTarget, Quarantined, Table};
use changeover_core::{Error, ErrorKind, Result, Uuid};
use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::plan::{self, Plan, PlanProgress};
use changeover_cutover::report::{self, Manifest, OutRow};
use changeover_cutover::{Cutover, Drilled, DrilledTable, Goal, Step, Terms};

use self::rows::Rows;
use self::stage::{Stage, Staged};
use self::times::Times;
use crate::db::Db;
use crate::moving::{Found, Move};

/// How a drill is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The terms of the run that it is for.
    pub terms: Terms,
    /// A backend of the settings to move to, whose database has nothing of the module; `None`: one is made and dropped.
    pub scratch: Option<String>,
    /// The folder that the copy of the file is made in; `None`: that of temporary files.
    pub folder: Option<PathBuf>,
    /// Whether the copy and the database that was made stay.
    pub keep: bool,
}

impl Options {
    /// In a database that is made, nothing kept.
    pub fn of(terms: Terms) -> Self {
        Self { terms, scratch: None, folder: None, keep: false }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A step of the drill's own, in words.
    Did(String),
    /// The copy of the file is read for the plan.
    Planning(PlanProgress),
    /// A step of a run or of the revert.
    Step(Step),
}

/// How a drill ended.
#[derive(Debug)]
pub enum Outcome {
    /// A run would not begin, or would stop for rows that nobody decided about: the plan says which. Nothing was moved.
    Stopped(Box<Plan>),
    /// The run stopped for rows that nobody decided about.
    Undecided {
        /// The rows.
        rows: Vec<OutRow>,
        /// What the run said.
        error: Error,
    },
    /// There, back, and there again.
    Done(Box<Done>),
}

/// A drill that went to its end, and is in the record.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its id.
    pub drill: Uuid,
    /// What the record of the real new store says of it.
    pub drilled: Drilled,
    /// The number of that entry.
    pub entry: i64,
    /// What was written to the new side and looked for in the file afterwards, each a sentence.
    pub wrote: Vec<String>,
    /// The evidence of the second run, as `cutover report` writes it.
    pub manifest: Manifest,
}

type Tell = Arc<dyn Fn(&Told) + Send + Sync>;

/// One drill.
pub struct Drill {
    db: Db,
    of: Move,
    options: Options,
    id: Uuid,
    stage: Stage,
    tell: Tell,
}

impl Drill {
    /// Of a module; nothing is done yet.
    pub fn new(db: &Db, of: Move, options: Options) -> Self {
        let id = Uuid::new_v4();
        Self { db: db.clone(), of, options, id, stage: Stage::of(id), tell: Arc::new(|_| {}) }
    }

    /// With somebody who is told of every step; called often, and must not block.
    #[must_use]
    pub fn telling(self, tell: impl Fn(&Told) + Send + Sync + 'static) -> Self {
        Self { tell: Arc::new(tell), ..self }
    }

    /// Goes through with it, once. May be dropped anywhere; [`Drill::clear`] has to follow in any case.
    ///
    /// # Errors
    ///
    /// - `Config` for terms that are not allowed and for backends that cannot be moved between.
    /// - `Invalid`: a run of the module is under way, or it has moved; no database may be made (what to do is said); the scratch
    ///   database is not empty; a table of the user's own is not there. And all that a run ends with.
    /// - `Corrupt`: the file did not hold afterwards what it held before.
    /// - Those of the stores. Of an error nothing is recorded.
    pub async fn run(&self) -> Result<Outcome> {
        let terms = Terms { drill_within: None, ..self.options.terms.clone() };
        terms.check()?;
        let found = self.db.find(&self.meant()).await?;
        let (CutoverSide::Old { source, .. }, CutoverSide::New { target, .. }) =
            (&found.old.side, &found.new.side)
        else {
            return Err(Error::new(ErrorKind::Unsupported, "only from an old store to a new one"));
        };
        let real = Cutover::new(
            &found.scope,
            found.tables.clone(),
            found.old.side.clone(),
            found.new.side.clone(),
            self.of.who.as_str(),
        )?;
        check_at_rest(&real).await?;
        if self.options.scratch.is_none() {
            stage::check_ours(&found)?;
        }
        let place = source.facts().await?.place;

        let begin = Instant::now();
        self.did(format!("copying {place}"));
        let cloned = self.stage.copy(&**source, self.options.folder.as_deref()).await?;
        let clone_took = begin.elapsed();
        let waited = if cloned.paused { "; writers waited for as long as that took" } else { "" };
        self.did(format!("copied {} bytes to {}{waited}", cloned.bytes, cloned.path.display()));

        let planned = self.plan(&found, &cloned.path, &**target, &terms).await?;
        if planned.refuses() || planned.quarantined() > terms.max_quarantined {
            return Ok(Outcome::Stopped(Box::new(planned)));
        }
        let staged =
            self.stage.set(&self.db, &found, &cloned.path, self.options.scratch.as_deref(), target).await?;
        self.did(format!("moving to {}", staged.place));
        let went = self.there_and_back(&found, &staged, &terms).await?;
        let (went, times) = match went {
            Went::Undecided { rows, error } => return Ok(Outcome::Undecided { rows, error }),
            Went::Through(went, times) => (went, times),
        };
        let drilled = Drilled {
            fingerprint: planned.fingerprint.clone(),
            accepted: terms.accepted.names().into_iter().map(str::to_owned).collect(),
            max_quarantined: terms.max_quarantined,
            tenant: terms.tenant.to_string(),
            file: place,
            bytes: cloned.bytes,
            tables: planned
                .tables
                .iter()
                .map(|it| DrilledTable { name: it.name.clone(), rows: it.rows })
                .collect(),
            quarantined: went.quarantined,
            written_back: times.wrote_back,
            clone_ms: millis(clone_took),
            copy_ms: millis(times.copy),
            compare_ms: millis(times.compare),
            pause_ms: millis(times.switch),
            revert_pause_ms: millis(times.revert),
            source_root: went.root,
            scratch: staged.place,
        };
        let entry = real.record_drill(self.id, &drilled).await?;
        let (wrote, manifest) = (went.wrote, went.manifest);
        Ok(Outcome::Done(Box::new(Done { drill: self.id, drilled, entry, wrote, manifest })))
    }

    /// Takes away what the drill made, unless it is to be kept; names what is kept. Also after an error, and after a
    /// [`Drill::run`] that was dropped.
    ///
    /// # Errors
    ///
    /// Names everything that is left behind, and why.
    pub async fn clear(&self) -> Result<Vec<String>> {
        self.stage.clear(self.options.keep).await
    }

    /// What there is now of what would have to be taken away by hand.
    pub fn left_behind(&self) -> Vec<String> {
        self.stage.left_behind()
    }

    /// A scratch that is named is not what else could be moved to.
    fn meant(&self) -> Move {
        let mut of = self.of.clone();
        if let (Some(scratch), None) = (&self.options.scratch, &of.new) {
            let kind = self.db.backends().find(|(name, _)| name == scratch).map(|(_, kind)| kind);
            let mut others = self
                .db
                .backends()
                .filter(|(name, of)| name != scratch && Some(*of) == kind)
                .map(|(name, _)| name);
            of.new = others.next().filter(|_| others.next().is_none()).map(str::to_owned);
        }
        of
    }

    fn did(&self, what: String) {
        (self.tell)(&Told::Did(what));
    }

    /// As `cutover plan`, but that the copy is read.
    async fn plan(
        &self,
        found: &Found,
        clone: &std::path::Path,
        target: &dyn CutoverTarget,
        terms: &Terms,
    ) -> Result<Plan> {
        let source = self.stage.source(&self.db, found, clone).await?;
        let looking = plan::Terms {
            accepted: terms.accepted,
            earlier: terms.plan.clone(),
            ..plan::Terms::new(terms.tenant.clone())
        };
        let tell = Arc::clone(&self.tell);
        let mut progress = move |read: PlanProgress| tell(&Told::Planning(read));
        plan::plan(&*source, target, &found.tables, &looking, &mut progress).await
    }

    async fn there_and_back(&self, found: &Found, staged: &Staged, terms: &Terms) -> Result<Went> {
        let times = Arc::new(Mutex::new(Times::default()));
        let cutover = staged.back.cutover(&staged.of).await?.watching({
            let (times, tell) = (Arc::clone(&times), Arc::clone(&self.tell));
            move |step| {
                times.lock().unwrap_or_else(PoisonError::into_inner).see(step);
                // That the copy stays where it is says nothing of the real file.
                if !matches!(step, Step::Archive(_)) {
                    tell(&Told::Step(step.clone()));
                }
            }
        });
        let now = || times.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = Rows::of(cutover.source(), &found.tables, staged.rows.clone(), self.id);
        let before = rows.keep().await?;
        if let Err(error) = cutover.run(terms, Goal::Switched).await {
            return undecided(&cutover, error).await;
        }
        let stand = cutover.status().await?;
        expect(&stand, Phase::Switched, Owner::Postgres)?;
        let quarantined = stand.progress.map_or(0, |progress| progress.quarantined.0);
        let root = root(&cutover).await?;

        let written = writes::write(staged, found, &cutover, self.id).await?;
        for wrote in &written.told {
            self.did(wrote.clone());
        }
        now().back();
        cutover.revert(terms).await?;
        expect(&cutover.status().await?, Phase::Idle, Owner::Sqlite)?;
        rows.compare(before, written.own, &written.changed).await?;
        let asked = writes::read_back(staged, found, self.id).await?;
        sound(cutover.source()).await?;
        let by = if asked { ", read by its stores" } else { "" };
        self.did(format!(
            "the file holds its {before} rows as before, and what was written to the new side{by}"
        ));

        now().there();
        cutover.run(terms, Goal::Switched).await?;
        // What becomes of a file depends on all of its modules, and the copy has to be there for who keeps it.
        cutover.finalize(&Terms { keep_file: true, ..terms.clone() }).await?;
        expect(&cutover.status().await?, Phase::Finalized, Owner::Postgres)?;
        let manifest = Manifest::of(&cutover, None).await?;
        let checked = report::check(&manifest)?;
        if !checked.is_sound() {
            let message = format!("the evidence of the drill does not hold: {}", checked.wrong.join("; "));
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        let times = now().clone();
        let through = Through { quarantined, root, wrote: written.told, manifest };
        Ok(Went::Through(Box::new(through), times))
    }
}

impl fmt::Debug for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drill").field("id", &self.id).field("of", &self.of).finish_non_exhaustive()
    }
}

enum Went {
    Undecided { rows: Vec<OutRow>, error: Error },
    Through(Box<Through>, Times),
}

struct Through {
    quarantined: u64,
    root: String,
    wrote: Vec<String>,
    manifest: Manifest,
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// A module that moves, or has moved, is not drilled any more.
async fn check_at_rest(real: &Cutover) -> Result<()> {
    let stand = real.status().await?;
    let module = real.module();
    if stand.owner == Owner::Postgres {
        return Err(Error::invalid(format!(
            "module {module} is owned by the new store already; there is nothing to drill, and nothing was touched"
        )));
    }
    if !matches!(stand.phase, Phase::Idle | Phase::Finalized) {
        return Err(Error::invalid(format!(
            "a run of module {module} is under way, in the phase {}; a drill comes before it: go on with it, or abort it. Nothing \
             was touched",
            stand.phase
        )));
    }
    Ok(())
}

fn expect(stand: &changeover_cutover::Status, phase: Phase, owner: Owner) -> Result<()> {
    if (stand.phase, stand.owner) == (phase, owner) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        format!(
            "the drill is in the phase {} and {} is the owner; it was to be {phase} and {owner}",
            stand.phase, stand.owner
        ),
    ))
}

/// A run that stopped for rows nobody decided about is an outcome; every other error is an error.
async fn undecided(cutover: &Cutover, error: Error) -> Result<Went> {
    let open = cutover.status().await.ok().and_then(|stand| stand.progress).map_or(0, |it| it.quarantined.1);
    if error.kind() != ErrorKind::Invalid || open == 0 {
        return Err(error);
    }
    let found = cutover.quarantined(None, Some("undecided"), 0, 100).await?;
    let row = |row: &Quarantined| Some(OutRow::of(row, cutover.tables().get(row.table)?));
    Ok(Went::Undecided { rows: found.iter().filter_map(row).collect(), error })
}

/// Of the frozen copy, as the run recorded it.
async fn root(cutover: &Cutover) -> Result<String> {
    let run = cutover.last_run().await?;
    let record = cutover.record(Some(run.run)).await?;
    let frozen = record.iter().rev().find(|it| it.entry.what == "frozen");
    let facts: serde_json::Value = frozen.map(|it| it.entry.facts.to()).transpose()?.unwrap_or_default();
    facts["source_root"].as_str().map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "the run of the drill recorded no data root of the frozen copy")
    })
}

async fn sound(source: &dyn CutoverSource) -> Result<()> {
    let damage = source.check().await?;
    if damage.is_empty() {
        return Ok(());
    }
    let message = format!("the copy is damaged after the revert: {}", damage.join("; "));
    Err(Error::new(ErrorKind::Corrupt, message))
}

/// The tables whose rows come from one table of the file, once each.
fn sources(tables: &[Table]) -> impl Iterator<Item = &Table> {
    let first = move |at: usize, table: &Table| !tables[..at].iter().any(|it| it.source == table.source);
    tables.iter().enumerate().filter(move |(at, table)| first(*at, table)).map(|(_, table)| table)
}
