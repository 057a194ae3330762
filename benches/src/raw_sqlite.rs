//! The raw limit of SQLite: diesel on a bare connection, statements prepared once, one transaction an append.

use std::path::Path;
use std::time::Instant;

use changeover::{Timestamp, Uuid};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::AnyError;
use crate::measure::{Plan, Round};

diesel::table! {
    event_stream (tenant_id, stream_id) {
        tenant_id -> Text,
        stream_id -> Text,
        aggregate_type -> Text,
        aggregate_id -> Text,
        created_at -> Text,
        version -> BigInt,
    }
}

diesel::table! {
    domain_event (position) {
        position -> BigInt,
        tenant_id -> Text,
        event_id -> Text,
        stream_id -> Text,
        event_type -> Text,
        event_version -> Integer,
        aggregate_version -> BigInt,
        event_data -> Text,
        metadata -> Text,
        occurred_at -> Text,
        recorded_at -> Text,
    }
}

diesel::table! {
    audit_events (sequence) {
        sequence -> BigInt,
        tenant_id -> Text,
        event_id -> Text,
        event_type -> Text,
        event_category -> Text,
        event_outcome -> Text,
        event_timestamp -> Text,
        event_date -> Text,
        service_name -> Text,
        actor_type -> Text,
        actor_id -> Text,
        resource_type -> Text,
        resource_id -> Text,
        event_data -> Text,
        correlation_id -> Text,
        metadata -> Text,
        recorded_at -> Text,
        content_digest -> Binary,
    }
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = diesel::sql_types::Text)]
    version: String,
}

fn open(file: &Path) -> Result<SqliteConnection, AnyError> {
    let mut connection = SqliteConnection::establish(&file.display().to_string())?;
    connection.batch_execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;")?;
    Ok(connection)
}

/// The version of the library.
pub fn version(file: &Path) -> Result<String, AnyError> {
    Ok(diesel::sql_query("SELECT sqlite_version() AS version")
        .get_result::<Version>(&mut open(file)?)?
        .version)
}

/// Appends for a round, each `batch` events to a new stream.
pub fn appends(file: &Path, batch: usize, plan: Plan) -> Result<Round, AnyError> {
    let mut connection = open(file)?;
    let begin = Instant::now();
    let mut count = 0_usize;
    while begin.elapsed() < plan.round() {
        connection.immediate_transaction(|connection| append(connection, batch))?;
        count += batch;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of events")]
    let figure = count as f64 / begin.elapsed().as_secs_f64();
    Ok(Round { figure, errors: 0 })
}

fn append(connection: &mut SqliteConnection, batch: usize) -> QueryResult<()> {
    let (stream, now) = (Uuid::now_v7().to_string(), Timestamp::now().to_string());
    diesel::insert_into(event_stream::table)
        .values((
            event_stream::tenant_id.eq("default"),
            event_stream::stream_id.eq(&stream),
            event_stream::aggregate_type.eq("Order"),
            event_stream::aggregate_id.eq(Uuid::now_v7().to_string()),
            event_stream::created_at.eq(&now),
            event_stream::version.eq(i64::try_from(batch).unwrap_or(i64::MAX)),
        ))
        .execute(connection)?;
    for version in (1..).take(batch) {
        let data = format!(r#"{{"n":"{}","pad":"{}"}}"#, Uuid::new_v4(), "x".repeat(240));
        diesel::insert_into(domain_event::table)
            .values((
                domain_event::tenant_id.eq("default"),
                domain_event::event_id.eq(Uuid::now_v7().to_string()),
                domain_event::stream_id.eq(&stream),
                domain_event::event_type.eq("OrderPlaced"),
                domain_event::event_version.eq(1),
                domain_event::aggregate_version.eq(version),
                domain_event::event_data.eq(data),
                domain_event::metadata.eq("{}"),
                domain_event::occurred_at.eq(&now),
                domain_event::recorded_at.eq(&now),
            ))
            .execute(connection)?;
    }
    Ok(())
}

/// Audit records for a round, `batch` of them in a transaction, chains left out.
pub fn records(file: &Path, batch: usize, plan: Plan) -> Result<Round, AnyError> {
    let mut connection = open(file)?;
    let begin = Instant::now();
    let mut count = 0_usize;
    while begin.elapsed() < plan.round() {
        connection.immediate_transaction(|connection| (0..batch).try_for_each(|_| record(connection)))?;
        count += batch;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of records")]
    let figure = count as f64 / begin.elapsed().as_secs_f64();
    Ok(Round { figure, errors: 0 })
}

fn record(connection: &mut SqliteConnection) -> QueryResult<()> {
    let (id, now) = (Uuid::now_v7(), Timestamp::now().to_string());
    let data = format!(r#"{{"n":"{}","pad":"{}"}}"#, Uuid::new_v4(), "x".repeat(240));
    diesel::insert_into(audit_events::table)
        .values((
            audit_events::tenant_id.eq("default"),
            audit_events::event_id.eq(id.to_string()),
            audit_events::event_type.eq("workflow.step"),
            audit_events::event_category.eq("workflow"),
            audit_events::event_outcome.eq("success"),
            audit_events::event_timestamp.eq(&now),
            audit_events::event_date.eq(&now[..10]),
            audit_events::service_name.eq("orders"),
            audit_events::actor_type.eq("service"),
            audit_events::actor_id.eq("worker-1"),
            audit_events::resource_type.eq("order"),
            audit_events::resource_id.eq(Uuid::new_v4().to_string()),
            audit_events::event_data.eq(data),
            audit_events::correlation_id.eq(format!("order-{}", id.as_u128() % 2_000)),
            audit_events::metadata.eq("{}"),
            audit_events::recorded_at.eq(&now),
            audit_events::content_digest.eq([&id.as_bytes()[..], &id.as_bytes()[..]].concat()),
        ))
        .execute(connection)
        .map(drop)
}
