//! `cutover quarantine`: rows that stay out, and what is decided about them.

use changeover::Db;
use changeover::cutover::contract::{Quarantined, Raw, Reason, Table};
use changeover::cutover::report::OutRow;
use changeover::cutover::{Cutover, hazards};

use super::{open, shown};
use crate::args::{Decided, Of, Quarantine};
use crate::exit::{Failure, Status};
use crate::output::{Out, printable};

pub async fn run(command: Quarantine, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    match command {
        Quarantine::List { of, table, decision, after, limit } => {
            let cutover = open(db, &of).await?;
            let decision = decision.map(Decided::as_str);
            let rows = cutover.quarantined(table.as_deref(), decision, after, limit).await?;
            list(&rows, &cutover, limit, out)?;
        }
        Quarantine::Show { of, id } => {
            let cutover = open(db, &of).await?;
            show(&cutover.quarantined_row(id).await?, &cutover, out)?;
        }
        Quarantine::Approve { of, ids } => {
            let count = open(db, &of).await?.approve(&ids).await?;
            decided(&format!("{count} approved"), &of, out)?;
        }
        Quarantine::Reject { of, ids } => {
            let count = open(db, &of).await?.reject(&ids).await?;
            decided(&format!("{count} rejected"), &of, out)?;
        }
        Quarantine::Repair { of, id, values } => {
            open(db, &of).await?.repair(id, &values).await?;
            decided(&format!("row {id} is repaired: its new values are in the new store"), &of, out)?;
        }
    }
    Ok(Status::Done)
}

fn decided(what: &str, of: &Of, out: &mut Out) -> Result<(), Failure> {
    out.note(&format!("{what}; to go on: changeover cutover run {of}"))
}

fn name<'a>(row: &Quarantined, cutover: &'a Cutover) -> &'a str {
    cutover.tables().get(row.table).map_or("", |table| &table.name)
}

fn list(rows: &[Quarantined], cutover: &Cutover, limit: u32, out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        for row in rows {
            object(row, cutover, out)?;
        }
        return Ok(());
    }
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            [
                row.id.to_string(),
                name(row, cutover).to_owned(),
                shown::key(&row.key),
                row.decision.clone(),
                row.reasons.iter().map(reason).collect::<Vec<_>>().join("; "),
            ]
        })
        .collect();
    out.rows(["id", "table", "key", "decision", "reasons"], &cells)?;
    match rows.last() {
        None => out.note("no row is in quarantine, or none that was asked for"),
        Some(last) if rows.len() >= limit as usize => {
            out.note(&format!("there may be more: --after {}", last.id))
        }
        Some(_) => Ok(()),
    }
}

fn object(row: &Quarantined, cutover: &Cutover, out: &mut Out) -> Result<(), Failure> {
    match cutover.tables().get(row.table) {
        Some(table) => out.object(&OutRow::of(row, table)),
        None => Err(Failure::refused(format!(
            "row {} is of a table that is not declared now; give the run's own declarations (--tables)",
            row.id
        ))),
    }
}

fn reason(reason: &Reason) -> String {
    let Reason { column, hazard, problem } = reason;
    let column = if column.is_empty() { String::new() } else { format!("{column}: ") };
    let hazard = if *hazard == 0 { "dependent".to_owned() } else { format!("hazard {hazard}") };
    format!("{column}{problem} ({hazard})")
}

fn show(row: &Quarantined, cutover: &Cutover, out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        return object(row, cutover, out);
    }
    let by = row.decided_by.as_ref().map(|who| format!(" by {who}")).unwrap_or_default();
    for (name, text) in [
        ("row", row.id.to_string()),
        ("table", name(row, cutover).to_owned()),
        ("key", shown::key(&row.key)),
        ("decision", format!("{}{by}", row.decision)),
    ] {
        out.line(&printable(&format!("{name:10} {text}")))?;
    }
    for why in &row.reasons {
        out.line(&printable(&format!("{:10} {}", "reason", reason(why))))?;
        if let Some(hazard) = hazards::get(why.hazard) {
            out.line(&format!("{:10} hazard {}: {}", "", hazard.number, hazard.name))?;
        }
    }
    out.line("")?;
    let columns = cutover.tables().get(row.table).map(Table::source_columns).unwrap_or_default();
    let values: Vec<_> = columns
        .iter()
        .zip(&row.row)
        .map(|(column, raw)| {
            let (text, hex) = both(raw);
            [shown::column(column).to_owned(), raw.class().to_owned(), raw.size().to_string(), text, hex]
        })
        .collect();
    out.rows(["column", "class", "bytes", "as text", "in hex"], &values)
}

/// As text where it can be read, and in hex.
fn both(raw: &Raw) -> (String, String) {
    match raw {
        Raw::Null => (String::new(), String::new()),
        Raw::Integer(_) | Raw::Real(_) => (shown::brief(raw), String::new()),
        Raw::Text(bytes) | Raw::Blob(bytes) => {
            let text = std::str::from_utf8(bytes).map_or_else(|_| "-".to_owned(), str::to_owned);
            (text, changeover::hex(bytes))
        }
    }
}
