//! `cutover status` and `cutover verify`.

use changeover::cutover::phase::Phase;
use changeover::cutover::verify::Kind;
use changeover::cutover::{Cutover, Status as Stand};
use changeover::hex;
use serde_json::json;

use super::shown;
use crate::exit::{Failure, Status};
use crate::output::{Out, printable, short};

/// Mismatches that are shown.
const SHOWN: usize = 40;

pub async fn status(cutover: &Cutover, out: &mut Out) -> Result<Status, Failure> {
    print(&cutover.status().await?, cutover.module(), out)?;
    Ok(Status::Done)
}

pub fn print(stand: &Stand, module: &str, out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        let mut object = stand.to_json();
        object["module"] = json!(module);
        return out.object(&object);
    }
    let mut lines = vec![
        ("module", module.to_owned()),
        ("phase", stand.phase.to_string()),
        ("owner", stand.owner.to_string()),
        ("epoch", stand.epoch.to_string()),
    ];
    if let Some(file) = &stand.file {
        let gate = match (file.open, file.captures) {
            (true, true) => "takes writes, which are captured",
            (true, false) => "takes writes",
            (false, _) => "is closed to writers",
        };
        lines.push(("file", format!("{gate}; epoch {}", file.epoch)));
    }
    if let Some(archive) = &stand.archive {
        let gone = if archive.is_there { "" } else { ", which is not there any more" };
        lines
            .push(("archive", format!("{}, {}{gone}", archive.place.display(), shown::bytes(archive.bytes))));
    }
    if let Some(run) = &stand.run {
        lines.push(("run", format!("{} of {}, begun {}", run.run, run.place, short(run.started_at))));
    }
    if let Some((who, until)) = stand.holder()
        && !matches!(stand.phase, Phase::Idle | Phase::Finalized)
    {
        lines.push(("held by", format!("{who} until {}", short(*until))));
    }
    if let Some(left) = stand.left() {
        lines.push(("left to follow", format!("{left} changes")));
    }
    if let Some(progress) = &stand.progress {
        let (all, open) = progress.quarantined;
        lines.push(("quarantine", format!("{all} rows, {open} undecided")));
    }
    for (name, text) in lines {
        out.line(&printable(&format!("{name:15} {text}")))?;
    }
    let tables = stand.progress.iter().flat_map(|progress| &progress.tables).zip(&stand.tables);
    let rows: Vec<_> = tables
        .map(|(done, name)| {
            let copied = if done.end { "whole" } else { "in part" };
            [name.clone(), done.rows.to_string(), shown::bytes(done.bytes), copied.to_owned()]
        })
        .collect();
    if rows.is_empty() || stand.phase == Phase::Idle {
        return Ok(());
    }
    out.line("")?;
    out.rows(["table", "rows copied", "content", "copied"], &rows)
}

pub async fn verify(cutover: &Cutover, out: &mut Out) -> Result<Status, Failure> {
    let is_online = cutover.status().await?.phase.sqlite_takes_writes();
    let verified = cutover.verify().await?;
    if out.is_json() {
        for table in &verified.tables {
            out.object(&json!({
                "table": table.target, "source_rows": table.source_rows, "target_rows": table.target_rows,
                "quarantined": table.quarantined, "repaired": table.repaired,
                "source_root": hex(&table.source_root), "target_root": hex(&table.target_root),
            }))?;
        }
        for wrong in &verified.mismatches {
            out.object(wrong)?;
        }
    } else {
        let rows = verified.tables.iter().map(|table| {
            [
                table.target.clone(),
                table.source_rows.to_string(),
                table.target_rows.to_string(),
                table.quarantined.to_string(),
            ]
        });
        out.rows(["table", "old store", "new store", "in quarantine"], &rows.collect::<Vec<_>>())?;
        let wrong = verified.mismatches.iter().take(SHOWN).map(|it| {
            let key: Vec<_> = it.key.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            [it.target.clone(), key.join(", "), kind(it.kind).to_owned(), it.fields.join(", ")]
        });
        out.rows(["table", "key", "wrong", "fields"], &wrong.collect::<Vec<_>>())?;
    }
    let count = verified.mismatches.len() as u64 + verified.unlisted;
    // While writers are on the counts of the two sides are of different moments.
    if count > 0 || (!is_online && !verified.is_sound()) {
        return Err(Failure::refused(format!("the stores differ: {count} rows are not the same")));
    }
    let online = if is_online { "; writers are on, so this is of the moment" } else { "" };
    out.note(&format!("both stores hold the same{online}"))?;
    Ok(Status::Done)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Missing => "missing in the new store",
        Kind::Extra => "in the new store only",
        Kind::Changed => "differs",
        Kind::NotOut => "in quarantine and in the new store",
        Kind::RepairMissing => "repaired and missing",
        Kind::Twice => "there twice",
        Kind::NoKey => "without a key",
    }
}
