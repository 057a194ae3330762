//! What is done to audit records and playbooks past their stores.

use std::path::Path;

use changeover_core::Uuid;
use changeover_core::playbooks::NewPlaybook;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Double, Integer, Nullable, Text};
use diesel::{RunQueryDsl, SqliteConnection, sql_query};

use super::{Count, let_through, must, raw, rows};

/// A connection that the rules of the tables do not hold up.
fn without_rules(path: &Path) -> SqliteConnection {
    let mut conn = raw(path);
    let sql = "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;
               DROP TRIGGER IF EXISTS audit_events_no_update; DROP TRIGGER IF EXISTS audit_events_no_delete;
               DROP TRIGGER IF EXISTS playbook_catalog_keeps_its_content";
    must("take the rules away", conn.batch_execute(sql));
    conn
}

fn one_row(conn: &mut SqliteConnection, sql: &str) {
    assert_eq!(must("tamper", sql_query(sql).execute(conn)), 1, "one row is changed: {sql}");
}

pub(super) fn edit(path: &Path, id: Uuid) {
    let sql = format!("UPDATE audit_events SET event_data = '{{\"tampered\":true}}' WHERE event_id = '{id}'");
    one_row(&mut without_rules(path), &sql);
}

pub(super) fn remove(path: &Path, id: Uuid) {
    one_row(&mut without_rules(path), &format!("DELETE FROM audit_events WHERE event_id = '{id}'"));
}

pub(super) fn swap(path: &Path, one: Uuid, other: Uuid) {
    let mut conn = without_rules(path);
    let mut place = |id: Uuid| {
        let sql = format!("SELECT sequence AS count FROM audit_events WHERE event_id = '{id}'");
        rows::<Count>(&mut conn, &sql).first().map(|row| row.count).unwrap_or_default()
    };
    let places = (place(one), place(other));
    for (id, to) in [(one, -1), (other, places.0), (one, places.1)] {
        let sql = format!("UPDATE audit_events SET sequence = {to} WHERE event_id = '{id}'");
        one_row(&mut conn, &sql);
    }
}

/// The statements that were carried out, of those that a native file must refuse.
pub(super) fn change_audit(path: &Path) -> Vec<String> {
    let_through(
        path,
        &[
            "UPDATE audit_events SET event_data = '{}'",
            "UPDATE audit_events SET recorded_at = '2000-01-01T00:00:00.000000Z'",
            "UPDATE OR REPLACE audit_events SET event_type = 'other'",
            "DELETE FROM audit_events",
            "REPLACE INTO audit_events SELECT * FROM audit_events",
        ],
    )
}

/// Inserts a version as people do: what is absent is left out, and has its default.
pub(super) fn insert_playbook(path: &Path, adopted: bool, new: &NewPlaybook) -> Result<(), String> {
    let (tenant, value) = if adopted { ("", "") } else { ("tenant_id, ", "'default', ") };
    let times = if new.created_at.is_some() { (", created_at", ", ?") } else { ("", "") };
    let sql = format!(
        "INSERT INTO playbook_catalog ({tenant}playbook_id, version, name, description, owner, maintainer, content,
         content_hash, labels, status, is_latest_version, previous_version, version_notes, change_summary, approved_by,
         approved_at, expected_success_rate, expected_duration_seconds, created_by{})
         VALUES ({value}?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?{})",
        times.0, times.1
    );
    let text = |text: Option<&str>| text.map(str::to_owned);
    let labels = must("write labels", changeover_core::Json::of(&new.labels));
    let rate = new.expected_success_rate.map(|rate| f64::from(rate.thousandths()) / 1_000.0);
    let insert = sql_query(sql)
        .into_boxed::<diesel::sqlite::Sqlite>()
        .bind::<Text, _>(new.playbook_id.to_string())
        .bind::<Text, _>(new.version.to_string())
        .bind::<Text, _>(new.name.to_string())
        .bind::<Text, _>(new.description.clone())
        .bind::<Nullable<Text>, _>(text(new.owner.as_ref().map(changeover_core::Text::as_str)))
        .bind::<Nullable<Text>, _>(text(new.maintainer.as_ref().map(changeover_core::Text::as_str)))
        .bind::<Text, _>(new.content.clone())
        .bind::<Text, _>(new.content_hash.clone().unwrap_or_else(|| new.hash()))
        .bind::<Text, _>(labels.to_string())
        .bind::<Text, _>(new.status.to_string())
        .bind::<Integer, _>(i32::from(new.is_latest))
        .bind::<Nullable<Text>, _>(new.previous_version.as_ref().map(ToString::to_string))
        .bind::<Nullable<Text>, _>(new.version_notes.clone())
        .bind::<Nullable<Text>, _>(new.change_summary.clone())
        .bind::<Nullable<Text>, _>(text(new.approved_by.as_ref().map(changeover_core::Text::as_str)))
        .bind::<Nullable<Text>, _>(new.approved_at.map(|at| at.to_string()))
        .bind::<Nullable<Double>, _>(rate)
        .bind::<Nullable<BigInt>, _>(new.expected_duration_seconds.map(i64::from))
        .bind::<Nullable<Text>, _>(text(new.created_by.as_ref().map(changeover_core::Text::as_str)));
    let insert = match new.created_at {
        Some(at) => insert.bind::<Text, _>(at.to_string()),
        None => insert,
    };
    insert.execute(&mut raw(path)).map(drop).map_err(|error| error.to_string())
}

pub(super) fn overwrite_content(path: &Path, playbook: &str, version: &str, content: &str) {
    let sql = "UPDATE playbook_catalog SET content = ? WHERE playbook_id = ? AND version = ?";
    let update = sql_query(sql)
        .bind::<Text, _>(content.to_owned())
        .bind::<Text, _>(playbook.to_owned())
        .bind::<Text, _>(version.to_owned());
    assert_eq!(must("overwrite", update.execute(&mut without_rules(path))), 1, "one version is changed");
}

/// The statements that were carried out, of those that a native file must refuse.
pub(super) fn break_playbooks(path: &Path) -> Vec<String> {
    let_through(
        path,
        &[
            "UPDATE playbook_catalog SET content = 'other'",
            "UPDATE playbook_catalog SET name = 'other'",
            "UPDATE playbook_catalog SET description = 'other'",
            "UPDATE playbook_catalog SET labels = '{}'",
            "UPDATE playbook_catalog SET content_hash = lower(hex(zeroblob(32)))",
            "DELETE FROM playbook_catalog",
            "REPLACE INTO playbook_catalog SELECT * FROM playbook_catalog",
            "UPDATE playbook_catalog SET is_latest_version = 1",
            "UPDATE OR REPLACE playbook_catalog SET is_latest_version = 1 WHERE is_latest_version = 0",
            "UPDATE playbook_catalog SET status = 'none'",
            "UPDATE playbook_catalog SET actual_success_rate = 1.001",
            "UPDATE playbook_catalog SET actual_success_rate = 0.1234",
            "UPDATE playbook_catalog SET total_executions = 1, successful_executions = 2",
            "UPDATE playbook_catalog SET total_executions = NULL",
            "UPDATE playbook_catalog SET successful_executions = -1",
            "UPDATE playbook_catalog SET embedding = zeroblob(1532)",
        ],
    )
}
