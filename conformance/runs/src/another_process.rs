//! An append in a process of its own: the command `conformance` runs once more, with [`COMMAND`] and the request on its
//! standard input.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use changeover_core::events::{
    Append, Expected, NewEvent, SchemaVersion, StreamAppend, StreamId, Track, Version,
};
use changeover_core::{
    Backend, BackendSettings, ConsumerName, Error, ErrorKind, Json, ModuleScope, Result, TenantId, Timestamp,
    Uuid,
};
use changeover_postgres::Postgres;
use changeover_sqlite::Sqlite;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::sqlite::must;

/// What the command is called with.
const COMMAND: &str = "append-in-another-process";

/// Every kind, for the way back from its name.
const KINDS: [ErrorKind; 15] = [
    ErrorKind::VersionConflict,
    ErrorKind::AlreadyExists,
    ErrorKind::NotFound,
    ErrorKind::Invalid,
    ErrorKind::TooLarge,
    ErrorKind::Unsupported,
    ErrorKind::Config,
    ErrorKind::SchemaMismatch,
    ErrorKind::ReadOnly,
    ErrorKind::Contention,
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::Moved,
    ErrorKind::Corrupt,
    ErrorKind::Unexpected,
];

/// Does the append there; the kind of its error, if it failed.
pub(crate) async fn append(
    backend: &dyn Backend,
    settings: &BackendSettings,
    tenant: &TenantId,
    request: &Append,
) -> Result<(), ErrorKind> {
    let keys = backend.keys();
    let given = keys.iter().filter_map(|key| Some((key.key, settings.text(keys, key.key)?)));
    let given: serde_json::Map<_, _> = given.map(|(key, value)| (key.to_owned(), json!(value))).collect();
    let task = json!({
        "kind": backend.kind(), "settings": given, "tenant": tenant.as_str(), "append": to_json(request),
    });
    let mut child = must(
        "start another process",
        Command::new(program()).arg(COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn(),
    );
    // Asked for above.
    let mut input = child.stdin.take().expect("a pipe");
    must("tell the other process", input.write_all(task.to_string().as_bytes()).await);
    drop(input);
    let output = must("wait for the other process", child.wait_with_output().await);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match said.trim().strip_prefix("refused ") {
        Some(kind) => {
            let kind = KINDS.into_iter().find(|known| known.as_str() == kind);
            Err(must("read the answer of the other process", kind.ok_or(said)))
        }
        None if output.status.success() && said.trim() == "stored" => Ok(()),
        None => panic!("the other process ended with {} and said {said:?}", output.status),
    }
}

/// The command: this program, or the one that was built beside the running test.
fn program() -> PathBuf {
    let here = must("find the running program", std::env::current_exe());
    if here.file_stem().is_some_and(|name| name == "conformance") {
        return here;
    }
    let beside = here.parent().and_then(|deps| deps.parent()).map(|folder| folder.join("conformance"));
    let built = beside.filter(|path| path.is_file());
    must("find the command", built.ok_or("there is no conformance beside the tests; cargo build it"))
}

/// The command's own side: the task from standard input, the outcome on standard output. `None`: it was not asked for.
pub async fn serve(arguments: &[String]) -> Option<ExitCode> {
    if arguments.first().map(String::as_str) != Some(COMMAND) {
        return None;
    }
    let mut task = String::new();
    must("read the task", std::io::stdin().read_to_string(&mut task));
    let task: Value = must("read the task", serde_json::from_str(&task));
    match work(&task).await {
        Ok(()) => println!("stored"),
        Err(error) => println!("refused {}", error.kind()),
    }
    Some(ExitCode::SUCCESS)
}

async fn work(task: &Value) -> Result<()> {
    let backend: &dyn Backend = match text(&task["kind"])? {
        "postgres" => &Postgres,
        _ => &Sqlite,
    };
    let mut settings = BackendSettings::new("other");
    for (key, value) in task["settings"].as_object().into_iter().flatten() {
        settings = settings.with(key, text(value)?);
    }
    let scope = ModuleScope { module: changeover_core::ModuleName::new("events")?, namespace: None };
    let opened = backend.open(&settings).await?;
    let store = opened.events(&scope, &TenantId::new(text(&task["tenant"])?)?).await?;
    let answer = store.append(from_json(&task["append"])?).await;
    opened.close().await;
    answer.map(drop)
}

fn to_json(request: &Append) -> Value {
    let streams = request.streams.iter().map(|part| {
        let events = part.events.iter().map(|event| {
            json!({
                "id": event.id.to_string(), "type": event.event_type.as_str(), "version": event.schema_version.get(),
                // As text, since another parser would not keep every number.
                "data": event.data.as_str(), "metadata": event.metadata.as_str(),
                "occurred_at": event.occurred_at.map(|at| at.to_string()),
                "causation_id": event.causation_id.map(|id| id.to_string()),
                "correlation_id": event.correlation_id.map(|id| id.to_string()),
            })
        });
        json!({
            "type": part.stream.aggregate_type.as_str(), "id": part.stream.aggregate_id.to_string(),
            "expected": match part.expected {
                Expected::Any => json!("any"),
                Expected::NoStream => json!("none"),
                Expected::Exists => json!("exists"),
                Expected::Exactly(version) => json!(version.get()),
            },
            "events": events.collect::<Vec<_>>(),
        })
    });
    let track = request.track.as_ref();
    json!({
        "streams": streams.collect::<Vec<_>>(),
        "consumer": track.map(|track| track.consumer.as_str()),
        "checkpoint": track.map(|track| track.checkpoint.to_string()),
    })
}

fn from_json(request: &Value) -> Result<Append> {
    let mut streams = Vec::new();
    for part in request["streams"].as_array().into_iter().flatten() {
        let mut events = Vec::new();
        for event in part["events"].as_array().into_iter().flatten() {
            let id = |key: &str| event[key].as_str().map(uuid).transpose();
            let mut new = NewEvent::new(text(&event["type"])?, Json::parse(text(&event["data"])?)?)?;
            new.id = uuid(text(&event["id"])?)?;
            new.schema_version = SchemaVersion::new(event["version"].as_i64().unwrap_or_default())?;
            new.metadata = Json::parse(text(&event["metadata"])?)?;
            new.occurred_at = event["occurred_at"].as_str().map(Timestamp::parse).transpose()?;
            (new.causation_id, new.correlation_id) = (id("causation_id")?, id("correlation_id")?);
            events.push(new);
        }
        let expected = match (part["expected"].as_str(), part["expected"].as_i64()) {
            (Some("any"), _) => Expected::Any,
            (Some("none"), _) => Expected::NoStream,
            (Some(_), _) => Expected::Exists,
            (None, version) => Expected::Exactly(Version::new(version.unwrap_or_default())?),
        };
        let stream = StreamId::new(text(&part["type"])?, uuid(text(&part["id"])?)?)?;
        streams.push(StreamAppend { stream, expected, events });
    }
    let track = match (request["consumer"].as_str(), request["checkpoint"].as_str()) {
        (Some(consumer), Some(checkpoint)) => {
            Some(Track { consumer: ConsumerName::new(consumer)?, checkpoint: checkpoint.parse()? })
        }
        _ => None,
    };
    Ok(Append { streams, track })
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().ok_or_else(|| Error::invalid("the task is not one of this program"))
}

fn uuid(text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| Error::invalid("the task holds an id that is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // E120: what the other process is told is the request itself.
    #[test]
    fn a_request_survives_the_way_to_another_process() {
        let stream = |name: &str| StreamId::new(name, Uuid::now_v7()).unwrap();
        let mut event =
            NewEvent::new("Order\u{e9}", Json::parse(r#"{"n":1.000000000000000000001}"#).unwrap()).unwrap();
        let plain = event.clone();
        event.occurred_at = Some(Timestamp::parse("2020-01-02T03:04:05.000006Z").unwrap());
        (event.causation_id, event.correlation_id) = (Some(Uuid::nil()), Some(Uuid::max()));
        let log = changeover_core::LogId(Uuid::now_v7());
        let track = Track {
            consumer: ConsumerName::new("mail").unwrap(),
            checkpoint: changeover_core::Checkpoint::new(log, 7).unwrap(),
        };
        for (expected, track) in [
            (Expected::Any, None),
            (Expected::NoStream, Some(track)),
            (Expected::Exists, None),
            (Expected::Exactly(Version::new(i64::MAX).unwrap()), None),
        ] {
            let events = vec![event.clone(), plain.clone()];
            let request =
                Append { streams: vec![StreamAppend { stream: stream("A"), expected, events }], track };
            assert_eq!(from_json(&to_json(&request)).unwrap(), request);
        }
    }
}
