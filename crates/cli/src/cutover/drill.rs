//! `cutover drill`: all of a cutover, on a copy of the file and in a scratch database.

use changeover::Db;
use changeover::cutover::hazards::Treatment;
use changeover::cutover::plan::Plan;
use changeover::cutover::report::OutRow;
use changeover::drill::{Done, Drill, Options, Outcome, Told};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::steps::View;
use super::{moved, plan, report, run, shown};
use crate::args::CutoverDrill;
use crate::exit::{Failure, Status};
use crate::interrupt::Interrupt;
use crate::output::{Out, printable};

pub async fn drill(options: CutoverDrill, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    let of = moved(options.of.module.as_str(), &options.of.stores)?;
    let (tell, mut told) = mpsc::unbounded_channel();
    let how = Options {
        terms: run::terms(&options.terms, db)?,
        scratch: options.scratch.clone(),
        folder: options.dir.clone(),
        keep: options.keep,
    };
    let drill = Drill::new(db, of, how).telling(move |step| {
        // Nobody listens any more once the command ends.
        let _ = tell.send(step.clone());
    });
    let mut interrupt = Interrupt::listen()?;
    let outcome = watched(&drill, &mut told, &mut interrupt, out).await;
    let cleared = tokio::select! {
        biased;
        cleared = drill.clear() => cleared,
        () = interrupt.wait() => {
            let left = drill.left_behind();
            let left = if left.is_empty() { "nothing".to_owned() } else { left.join(" and ") };
            return Err(Failure::failed(format!("interrupted; the drill left behind {left}: take it away by hand")));
        }
    };
    let (kept, lost) = match cleared {
        Ok(kept) => (kept, None),
        Err(error) => (Vec::new(), Some(error.message().to_owned())),
    };
    let done = match outcome {
        Ok(outcome) => conclude(outcome, &options, &kept, out),
        Err(failure) if kept.is_empty() => Err(failure),
        Err(failure) => {
            Err(Failure::new(failure.status, format!("{failure}\n  kept: {}", kept.join(" and "))))
        }
    };
    match (done, lost) {
        (done, None) => done,
        (Ok(_), Some(lost)) => Err(Failure::failed(lost)),
        (Err(failure), Some(lost)) => Err(Failure::new(failure.status, format!("{failure}\n  {lost}"))),
    }
}

/// Runs it, and tells its steps. What is not done at the first request to end is dropped: nothing of it is worth anything.
async fn watched(
    drill: &Drill,
    told: &mut UnboundedReceiver<Told>,
    interrupt: &mut Interrupt,
    out: &mut Out,
) -> Result<Outcome, Failure> {
    let mut view = View::new(out, false);
    let work = drill.run();
    tokio::pin!(work);
    let done = loop {
        tokio::select! {
            biased;
            () = interrupt.wait() => {
                view.line("stopping; what the drill made is taken away, once more to leave it");
                view.bar.finish();
                return Err(Failure::failed("interrupted; nothing was recorded, and the file is as it was"));
            }
            Some(step) = told.recv() => show(&mut view, &step)?,
            done = &mut work => break done,
        }
    };
    while let Ok(step) = told.try_recv() {
        show(&mut view, &step)?;
    }
    view.bar.finish();
    Ok(done?)
}

fn show(view: &mut View<'_>, told: &Told) -> Result<(), Failure> {
    match told {
        Told::Did(what) => view.line(&printable(what)),
        Told::Planning(read) => {
            view.bar.told(&format!("{}: {} of {} rows read", read.table, read.rows, read.of));
        }
        Told::Step(step) => view.show(step)?,
    }
    Ok(())
}

fn conclude(
    outcome: Outcome,
    options: &CutoverDrill,
    kept: &[String],
    out: &mut Out,
) -> Result<Status, Failure> {
    match outcome {
        Outcome::Stopped(planned) => Err(stopped(&planned, options, kept, out)?),
        Outcome::Undecided { rows, error } => {
            undecided(&rows, kept, out)?;
            Err(Failure::refused(format!(
                "{error}\n  the drill was not recorded; correct the rows in the file, accept losses by name (--accept), or allow so \
                 many (--max-quarantined)"
            )))
        }
        Outcome::Done(done) => {
            if let Some(directory) = &options.out {
                report::into(directory, &done.manifest)?;
            }
            if out.is_json() {
                out.object(&object(&done, kept))?;
            } else {
                drilled(&done, kept, out)?;
            }
            let of = &options.of;
            let same = plan::same(&options.terms.accept);
            out.note(&format!("the file was not written to; to move it: changeover cutover run {of}{same}"))?;
            Ok(Status::Done)
        }
    }
}

fn stopped(
    planned: &Plan,
    options: &CutoverDrill,
    kept: &[String],
    out: &mut Out,
) -> Result<Failure, Failure> {
    if out.is_json() {
        let bad = |it: &&changeover::cutover::plan::Finding| {
            matches!(it.treatment, Treatment::Refuse | Treatment::Quarantine)
        };
        out.object(&json!({
            "result": "stopped", "recorded": false, "refuses": planned.refuses(), "quarantined": planned.quarantined(),
            "lacks": planned.lacks, "findings": planned.findings.iter().filter(bad).collect::<Vec<_>>(), "kept": kept,
        }))?;
    } else {
        plan::found(planned, out)?;
        keeps(kept, out)?;
    }
    let why = plan::verdict(planned, options.terms.accept.max_quarantined);
    let why = why.map_or_else(|| "the plan says no".to_owned(), |why| why.to_string());
    Ok(Failure::refused(format!("{why}\n  the drill stopped there and was not recorded")))
}

fn undecided(rows: &[OutRow], kept: &[String], out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(&json!({ "result": "undecided", "recorded": false, "rows": rows, "kept": kept }));
    }
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            let key: Vec<_> = row.key.iter().map(|it| format!("{} {}", it.class, it.content)).collect();
            let reasons: Vec<_> =
                row.reasons.iter().map(|(column, _, why)| format!("{column}: {why}")).collect();
            [row.table.clone(), key.join(", "), reasons.join("; ")]
        })
        .collect();
    out.rows(["table", "key", "reasons"], &cells)?;
    keeps(kept, out)
}

fn object(done: &Done, kept: &[String]) -> Value {
    let mut object = serde_json::to_value(&done.drilled).unwrap_or_default();
    for (name, value) in [
        ("result", json!("drilled")),
        ("recorded", json!(true)),
        ("drill", json!(done.drill.to_string())),
        ("entry", json!(done.entry)),
        ("rows", json!(done.drilled.rows())),
        ("wrote", json!(done.wrote)),
        ("kept", json!(kept)),
    ] {
        object[name] = value;
    }
    object
}

/// What a drill came to, for people.
pub fn drilled(done: &Done, kept: &[String], out: &mut Out) -> Result<(), Failure> {
    let it = &done.drilled;
    let time = |millis| shown::time(std::time::Duration::from_millis(millis));
    let tables: Vec<_> = it.tables.iter().map(|it| format!("{} {}", it.name, it.rows)).collect();
    let losses = if it.accepted.is_empty() { "none".to_owned() } else { it.accepted.join(", ") };
    let mut lines = vec![
        ("drill", done.drill.to_string()),
        ("file", format!("{}, {} copied in {}", it.file, shown::bytes(it.bytes), time(it.clone_ms))),
        ("moved to", it.scratch.clone()),
        ("rows", format!("{}: {}", it.rows(), tables.join(", "))),
        ("copy", time(it.copy_ms)),
        ("compare", time(it.compare_ms)),
        (
            "pause",
            format!(
                "{} at most for a switch, {} for the revert",
                time(it.pause_ms),
                time(it.revert_pause_ms)
            ),
        ),
        ("quarantine", format!("{} rows", it.quarantined)),
        ("losses", losses),
        ("written back", format!("{} rows", it.written_back)),
    ];
    lines.extend(done.wrote.iter().map(|wrote| ("", wrote.clone())));
    lines.push(("data root", it.source_root.clone()));
    lines.push(("record", format!("entry {} of the record of the module: drilled", done.entry)));
    for (name, text) in lines {
        out.line(&printable(&format!("{name:13} {text}")))?;
    }
    keeps(kept, out)
}

fn keeps(kept: &[String], out: &mut Out) -> Result<(), Failure> {
    for it in kept {
        out.line(&printable(&format!("{:13} {it}", "kept")))?;
    }
    Ok(())
}
