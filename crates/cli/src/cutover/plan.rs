//! `cutover plan`: what a run would meet.

use std::fmt::Write as _;

use changeover::Db;
use changeover::cutover::convert::Accepted;
use changeover::cutover::hazards::{self, Treatment};
use changeover::cutover::plan::{Finding, Histogram, Plan, PlanProgress, Terms, plan as look};

use super::{fingerprint, open, shown, write};
use crate::args::{Accept, CutoverPlan};
use crate::exit::{Failure, Status};
use crate::lines::Progress;
use crate::output::{Out, printable};

/// Bad values that are shown; a file has them all.
const SHOWN: usize = 40;

pub async fn plan(options: CutoverPlan, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    let earlier = options.earlier.as_deref().map(fingerprint).transpose()?;
    let cutover = open(db, &options.of).await?;
    let terms =
        Terms { accepted: Accepted::of(&options.accept.losses), earlier, ..Terms::new(db.tenant().clone()) };
    let mut bar = Progress::new(None, out.is_quiet());
    let mut tell = |PlanProgress { table, rows, of }: PlanProgress| {
        bar.told(&format!("{table}: {rows} of {of} rows read"));
    };
    let planned = look(cutover.source(), cutover.target(), cutover.tables(), &terms, &mut tell).await;
    bar.finish();
    let planned = planned?;
    if let Some(file) = &options.out {
        write(file, &format!("{}\n", planned.summary()?.as_str()))?;
    }
    if let Some(file) = &options.findings {
        write(file, &planned.to_json_lines()?)?;
    }
    if out.is_json() {
        out.bytes(planned.to_json_lines()?.as_bytes())?;
    } else {
        print(&planned, out)?;
    }
    conclude(&planned, &options, out)
}

/// What speaks against a run, and all that was found, counted.
pub(super) fn found(plan: &Plan, out: &mut Out) -> Result<(), Failure> {
    bad_values(plan, out)?;
    counts(plan, out)?;
    for lacking in &plan.lacks {
        out.line(&printable(&format!("the new store lacks: {lacking}")))?;
    }
    Ok(())
}

fn print(plan: &Plan, out: &mut Out) -> Result<(), Failure> {
    bad_values(plan, out)?;
    counts(plan, out)?;
    out.line(&format!(
        "from {} ({}) to {}",
        printable(&plan.source.place),
        shown::bytes(plan.source.bytes),
        printable(&plan.target.place)
    ))?;
    let tables = plan.tables.iter().map(|table| {
        [table.name.clone(), table.rows.to_string(), shown::bytes(table.bytes), table.quarantined.to_string()]
    });
    out.rows(["table", "rows", "content", "stay out"], &tables.collect::<Vec<_>>())?;
    out.line("")?;
    for table in &plan.tables {
        for column in &table.columns {
            if !column.classes.is_empty() {
                out.line(&printable(&format!("{}.{}: {}", table.name, column.column, histogram(column))))?;
            }
        }
    }
    out.line("")?;
    for changed in plan.changed.iter().flatten() {
        out.line(&printable(&format!("since the earlier plan: {changed}")))?;
    }
    for lacking in &plan.lacks {
        out.line(&printable(&format!("the new store lacks: {lacking}")))?;
    }
    if let Some(free) = plan.target.free_bytes {
        out.line(&format!("free in the new store: {}", shown::bytes(free)))?;
    }
    out.line(&format!("copying is expected to take about {}", shown::time(plan.expected)))
}

/// What is refused or stays out, row by row.
fn bad_values(plan: &Plan, out: &mut Out) -> Result<(), Failure> {
    let mut bad: Vec<&Finding> = plan
        .findings
        .iter()
        .filter(|it| matches!(it.treatment, Treatment::Refuse | Treatment::Quarantine))
        .collect();
    if bad.is_empty() {
        return out.line("no bad value\n");
    }
    bad.sort_by_key(|it| it.treatment != Treatment::Refuse);
    let rows = bad.iter().take(SHOWN).map(|it| {
        [
            it.table.clone(),
            it.key.clone(),
            it.column.clone(),
            shown::hex_brief(&it.sample_hex),
            it.hazard.to_string(),
            it.treatment.to_string(),
            it.found.clone(),
        ]
    });
    out.rows(["table", "key", "column", "bytes", "hazard", "treatment", "found"], &rows.collect::<Vec<_>>())?;
    if bad.len() > SHOWN {
        out.line(&format!("and {} more; --findings FILE has them", bad.len() - SHOWN))?;
    }
    out.line("")
}

/// All of them, counted, by what they are.
fn counts(plan: &Plan, out: &mut Out) -> Result<(), Failure> {
    let rows = plan.counts.iter().map(|(group, count)| {
        let name = hazards::get(group.hazard).map_or("", |hazard| hazard.name);
        [
            count.to_string(),
            group.treatment.to_string(),
            group.table.clone(),
            group.column.clone(),
            format!("{} {name}", group.hazard),
        ]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    out.rows(["count", "treatment", "table", "column", "hazard"], &rows)?;
    out.line("")
}

fn histogram(column: &Histogram) -> String {
    let counted = |all: &std::collections::BTreeMap<&'static str, u64>| {
        all.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    let mut text = counted(&column.classes);
    if !column.forms.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(text, "; {}", counted(&column.forms));
    }
    if let Some((least, most)) = column.bytes {
        let _ = write!(text, "; {least} to {most} bytes");
    }
    text
}

/// Why a run would not begin, or would stop before its switch.
pub(super) fn verdict(plan: &Plan, max_quarantined: u64) -> Option<Failure> {
    let refused: u64 = plan
        .counts
        .iter()
        .filter(|(group, _)| group.treatment == Treatment::Refuse)
        .map(|(_, count)| count)
        .sum();
    if plan.refuses() {
        let why = match (refused, plan.lacks.len()) {
            (0, lacks) => format!("the new store lacks {lacks} things"),
            (refused, 0) => format!("{refused} findings speak against it"),
            (refused, lacks) => {
                format!("{refused} findings speak against it and the new store lacks {lacks} things")
            }
        };
        return Some(Failure::refused(format!(
            "a run would not begin: {why}; see above, nothing was touched"
        )));
    }
    let out_rows = plan.quarantined();
    (out_rows > max_quarantined).then(|| {
        Failure::refused(format!(
            "a run would stop before its switch: {out_rows} rows would stay out and have to be decided about; correct them in the \
             file, accept losses by name (--accept), decide when they are in quarantine, or allow so many (--max-quarantined)"
        ))
    })
}

/// The options that a run is to be given, as they were given here.
pub(super) fn same(accept: &Accept) -> String {
    let mut more = String::new();
    if !accept.losses.is_empty() {
        let names: Vec<_> = accept.losses.iter().map(|loss| loss.as_str()).collect();
        more = format!(" --accept {}", names.join(","));
    }
    // Writing to a string cannot fail.
    if accept.max_quarantined > 0 {
        let _ = write!(more, " --max-quarantined {}", accept.max_quarantined);
    }
    more
}

/// What comes next.
fn conclude(plan: &Plan, options: &CutoverPlan, out: &mut Out) -> Result<Status, Failure> {
    if let Some(refused) = verdict(plan, options.accept.max_quarantined) {
        return Err(refused);
    }
    let of = &options.of;
    let plan = options.out.as_ref().map(|file| format!(" --plan {}", file.display())).unwrap_or_default();
    let more = same(&options.accept);
    out.note(&format!("nothing was touched; to move it: changeover cutover run {of}{plan}{more}"))?;
    Ok(Status::Done)
}
