//! What a run tells while it is under way, and the place at which it may be stopped.

use changeover::cutover::contract::Archiving;
use changeover::cutover::phase::Phase;
use changeover::cutover::{Copied, Cutover, Pause, Status as Stand, Step};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::shown;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::lines::Progress;
use crate::output::Out;

/// Does something with a cutover, tells its steps, and ends it at the next point where the writers go on when it is asked to.
pub async fn follow<F>(
    cutover: Cutover,
    out: &mut Out,
    again: &str,
    work: impl FnOnce(Cutover) -> F,
) -> Result<Stand, Failure>
where
    F: Future<Output = changeover::Result<Stand>>,
{
    let (tell, mut told) = mpsc::unbounded_channel();
    let watched = cutover.watching(move |step| {
        // Nobody listens any more once the command ends.
        let _ = tell.send(step.clone());
    });
    let mut interrupt = Interrupt::listen()?;
    let objects = out.is_json();
    let mut view = View::new(out, objects);
    let work = work(watched);
    tokio::pin!(work);
    let mut asked = 0;
    let done = loop {
        tokio::select! {
            biased;
            () = interrupt.wait() => {
                asked += 1;
                if asked > 1 {
                    return Err(view.interrupted(again));
                }
                view.line("stopping at the next step; once more to stop at once");
            }
            Some(step) = told.recv() => {
                view.show(&step)?;
                if asked > 0 && is_safe(&step) {
                    return Err(view.interrupted(again));
                }
            }
            done = &mut work => break done,
        }
    };
    while let Ok(step) = told.try_recv() {
        view.show(&step)?;
    }
    view.bar.finish();
    Ok(done?)
}

/// Whether what comes next is not the fence. A captured change that was applied says nothing: the fence may follow it.
fn is_safe(step: &Step) -> bool {
    match step {
        Step::Copied(_)
        | Step::Indexing
        | Step::Compared { .. }
        | Step::Waiting { .. }
        | Step::WentBack { .. } => true,
        Step::Phase(phase) => phase.sqlite_takes_writes(),
        Step::Followed { .. } | Step::WroteBack { .. } | Step::Paused(_) | Step::Archive(_) => false,
    }
}

/// What is told of the steps.
pub(super) struct View<'a> {
    pub(super) bar: Progress,
    phase: Option<Phase>,
    /// Whether each is an object on standard output, else words on standard error.
    objects: bool,
    out: &'a mut Out,
}

impl<'a> View<'a> {
    pub(super) fn new(out: &'a mut Out, objects: bool) -> Self {
        Self { bar: Progress::new(None, out.is_quiet()), phase: None, objects, out }
    }

    pub(super) fn line(&self, text: &str) {
        if !self.out.is_quiet() {
            self.bar.println(text);
        }
    }

    fn interrupted(&self, again: &str) -> Failure {
        self.bar.finish();
        let stand = match self.phase {
            Some(Phase::Fenced | Phase::Drained | Phase::Sealed) => {
                "the file may be closed to writers until then, so do it soon; "
            }
            Some(Phase::RevertFenced) => "nobody owns the module until then, so do it soon; ",
            _ => "",
        };
        Failure::failed(format!(
            "interrupted; {stand}to go on: {again} (it may wait for this run's turn to end)"
        ))
    }

    pub(super) fn show(&mut self, step: &Step) -> Result<(), Failure> {
        if let Step::Phase(phase) = step {
            self.phase = Some(*phase);
        }
        if self.objects {
            self.out.object(&object(step))?;
            return self.out.flush();
        }
        match step {
            Step::Phase(phase) => self.line(&format!("phase: {phase}")),
            Step::Copied(copied) => {
                let text = copied_text(copied);
                // The last chunk of a table is worth a line of its own.
                if copied.rows >= copied.of {
                    self.line(&text);
                } else {
                    self.bar.told(&text);
                }
            }
            Step::Indexing => self.line("everything is copied; indexes are being built"),
            Step::Followed { left } => self.bar.told(&format!("following: {left} changes left")),
            Step::Compared { table, rows } => {
                self.bar.told(&format!("comparing {table}: {rows} rows so far"));
            }
            Step::WroteBack { rows, left } => {
                self.bar.told(&format!("{rows} rows went back, {left} changes left"));
            }
            Step::WentBack { why } => self.line(&format!("the file is open again: {why}")),
            Step::Archive(Archiving::Done(archive) | Archiving::Before(archive)) => self.line(&format!(
                "the file was archived: {}; what stands in its place tells programs where the data went",
                archive.place.display()
            )),
            Step::Archive(Archiving::Kept(why)) => self.line(&format!(
                "the module is finalized; the file stays where it is, closed: {why}. To archive it, finalize once more"
            )),
            Step::Paused(Pause { took, ended }) => {
                self.line(&format!("writers stood still for {}; {ended} takes writes", shown::time(*took)));
            }
            Step::Waiting { why } => self.bar.told(&format!("waiting: {why}")),
        }
        Ok(())
    }
}

fn copied_text(copied: &Copied) -> String {
    let Copied { table, rows, of, bytes, rows_per_second, left } = copied;
    let left = left.filter(|left| left.as_secs() > 0);
    let left = left.map(|left| format!(", {} left", shown::time(left))).unwrap_or_default();
    format!(
        "copied {table}: {rows} of {of} rows, {}, {rows_per_second:.0} rows/s{left}",
        shown::bytes(*bytes)
    )
}

fn object(step: &Step) -> Value {
    match step {
        Step::Phase(phase) => json!({ "step": "phase", "phase": phase.as_str() }),
        Step::Copied(it) => json!({
            "step": "copied", "table": it.table, "rows": it.rows, "of": it.of, "bytes": it.bytes,
            "rows_per_second": it.rows_per_second, "left_seconds": it.left.map(|left| left.as_secs()),
        }),
        Step::Indexing => json!({ "step": "indexing" }),
        Step::Followed { left } => json!({ "step": "followed", "left": left }),
        Step::Compared { table, rows } => json!({ "step": "compared", "table": table, "rows": rows }),
        Step::WroteBack { rows, left } => json!({ "step": "wrote_back", "rows": rows, "left": left }),
        Step::WentBack { why } => json!({ "step": "went_back", "why": why }),
        Step::Archive(Archiving::Done(archive) | Archiving::Before(archive)) => json!({
            "step": "archive", "archive": archive.place.display().to_string(), "bytes": archive.bytes, "kept": null,
        }),
        Step::Archive(Archiving::Kept(why)) => json!({ "step": "archive", "archive": null, "kept": why }),
        Step::Paused(it) => json!({
            "step": "paused", "owner": it.ended.as_str(),
            "milliseconds": u64::try_from(it.took.as_millis()).unwrap_or(u64::MAX),
        }),
        Step::Waiting { why } => json!({ "step": "waiting", "why": why }),
    }
}
