//! What a service would do after the switch, and whether the file has it after the revert.

use std::collections::BTreeMap;

use changeover_core::audit::{ActorType, NewAuditEvent, Outcome};
use changeover_core::backend::Family;
use changeover_core::events::{Append, EventStore, Expected, HeadOf, NewEvent, ReadAll, StreamId};
use changeover_core::playbooks::{
    GetPlaybook, Lookup, NewPlaybook, PlaybookId, PlaybookVersion, Put, Status,
};
use changeover_core::{Error, ErrorKind, Json, Limit, Result, Text, Uuid};
use changeover_cutover::Cutover;
use changeover_cutover::declare;
use serde::{Deserialize, Serialize};

use super::stage::Staged;
use crate::moving::Found;
use crate::typed::StreamEvent;

/// Rows of a table of the user's own that are written once more.
const TOUCHED: u32 = 10;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Each a sentence.
    pub told: Vec<String>,
    /// How many rows hold the drill's id, at least.
    pub own: u64,
    /// How many rows that were there before are others in the file afterwards, by declaration.
    pub changed: BTreeMap<String, u64>,
}

/// Events of a stream of the drill's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum DrillEvent {
    Began { drill: Uuid },
    Went { drill: Uuid, note: String },
}

impl StreamEvent for DrillEvent {
    const AGGREGATE_TYPE: &'static str = "ChangeoverDrill";
}

fn events(drill: Uuid) -> [DrillEvent; 2] {
    // No ASCII, so that it is seen if an encoding went wrong on the way.
    let note = "there and back \u{21C4}".to_owned();
    [DrillEvent::Began { drill }, DrillEvent::Went { drill, note }]
}

/// Through the stores of the module, which the new side serves now.
pub(super) async fn write(staged: &Staged, found: &Found, cutover: &Cutover, drill: Uuid) -> Result<Written> {
    let mut written = Written::default();
    for family in &staged.families {
        match family {
            Family::Events => write_events(staged, found, drill, &mut written).await?,
            Family::Audit => {
                let audit = staged.there.audit(found.scope.module.as_str())?;
                audit.record(record(drill)?).await?;
                written.own += 1;
                written.told.push("an audit record was written to the new side".to_owned());
            }
            Family::Playbooks => {
                let catalog = staged.there.playbooks(found.scope.module.as_str())?.catalog().await?;
                catalog.put(Put { versions: vec![playbook(drill)?] }).await?;
                written.own += 1;
                written.told.push("a playbook was written to the new side".to_owned());
            }
        }
    }
    touch(staged, found, cutover, &mut written).await?;
    Ok(written)
}

async fn write_events(staged: &Staged, found: &Found, drill: Uuid, written: &mut Written) -> Result<()> {
    let log = staged.there.events(found.scope.module.as_str())?;
    let own = log.typed::<DrillEvent>();
    let [first, second] = events(drill);
    let appended = own.append(drill, None, [first]).await?;
    own.append(drill, appended.streams.first().map(|it| it.last), [second]).await?;
    // Its head and its events.
    written.own += 3;
    written.told.push("a new stream was written to the new side, in two appends".to_owned());
    let store = log.store().await?;
    let page = store.read_all(ReadAll { limit: Limit::new(1)?, ..ReadAll::default() }).await?;
    let Some(oldest) = page.events.first().map(|event| event.stream.clone()) else { return Ok(()) };
    if oldest.aggregate_type.as_str() == DrillEvent::AGGREGATE_TYPE {
        return Ok(());
    }
    append(&*store, oldest, drill).await?;
    written.own += 1;
    written.told.push("an event was appended to the stream of the oldest event there".to_owned());
    let streams = found.tables.iter().find(|table| table.target.ends_with("event_stream"));
    written.changed.extend(streams.map(|table| (table.name.clone(), 1)));
    Ok(())
}

async fn append(store: &dyn EventStore, stream: StreamId, drill: Uuid) -> Result<()> {
    let head = store.head(HeadOf::Stream(stream.clone())).await?;
    let expected = Expected::loaded(head.version);
    let data = Json::of(&serde_json::json!({ "drill": drill.to_string() }))?;
    store.append(Append::one(stream, expected, vec![NewEvent::new("ChangeoverDrilled", data)?])).await?;
    Ok(())
}

fn record(drill: Uuid) -> Result<NewAuditEvent> {
    let record = NewAuditEvent::new(
        "changeover.drilled",
        "changeover",
        Outcome::Success,
        "changeover",
        ActorType::Service,
        "Drill",
        drill.to_string(),
    )?;
    let correlation_id = Some(Text::new("correlation_id", format!("changeover-drill-{drill}"))?);
    // Found again by its id.
    Ok(NewAuditEvent { event_id: drill, correlation_id, ..record })
}

fn playbook(drill: Uuid) -> Result<NewPlaybook> {
    Ok(NewPlaybook {
        playbook_id: playbook_id(drill)?,
        version: PlaybookVersion::new("v1.0.0")?,
        name: Text::new("name", "Drill of a cutover")?,
        description: "Written to the new side by a drill".to_owned(),
        owner: None,
        maintainer: None,
        content: format!("# \u{21C4} {drill}\r\n"),
        content_hash: None,
        labels: BTreeMap::new(),
        embedding: None,
        status: Status::Active,
        is_latest: true,
        previous_version: None,
        version_notes: None,
        change_summary: None,
        approved_by: None,
        approved_at: None,
        expected_success_rate: None,
        expected_duration_seconds: None,
        created_at: None,
        created_by: None,
    })
}

fn playbook_id(drill: Uuid) -> Result<PlaybookId> {
    PlaybookId::new("playbook_id", format!("changeover-drill-{drill}"))
}

/// Rows of the user's own tables, as they are: what they mean is not ours to know.
async fn touch(staged: &Staged, found: &Found, cutover: &Cutover, written: &mut Written) -> Result<()> {
    let ours: Vec<_> =
        staged.families.iter().flat_map(|family| declare::ours(*family, false, &found.scope)).collect();
    for table in cutover.tables().iter().filter(|table| !ours.iter().any(|it| it.target == table.target)) {
        let name = &table.name;
        if !table.goes_back {
            written.told.push(format!("{name} does not go back, and nothing was written to it"));
            continue;
        }
        match staged.target.touch(table, TOUCHED).await {
            Ok(rows) => {
                written.told.push(format!("{rows} rows of {name} were written once more as they are"));
                *written.changed.entry(name.clone()).or_default() += rows;
            }
            // A trigger or a rule of the user's own.
            Err(error) if !error.kind().is_transient() => {
                let why = error.message();
                written.told.push(format!(
                    "nothing was written back to {name}: its rows cannot be written once more: {why}"
                ));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Through the stores of the module, which the file serves again; whether they could be asked: a file that nobody migrated has
/// none.
pub(super) async fn read_back(staged: &Staged, found: &Found, drill: Uuid) -> Result<bool> {
    for family in &staged.families {
        match is_there(staged, found, *family, drill).await {
            Ok(true) => {}
            Ok(false) => {
                let family = family.as_str();
                let message = format!(
                    "what the drill wrote to the new side ({family}) is not in the file after the revert"
                );
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            Err(error) if error.kind() == ErrorKind::SchemaMismatch => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

async fn is_there(staged: &Staged, found: &Found, family: Family, drill: Uuid) -> Result<bool> {
    let module = found.scope.module.as_str();
    match family {
        Family::Events => {
            let own = staged.back.events(module)?.typed::<DrillEvent>();
            let keep = |all: &mut Vec<DrillEvent>, event| all.push(event);
            Ok(own.load(drill, keep).await?.state == events(drill))
        }
        Family::Audit => {
            let stored = staged.back.audit(module)?.repository().await?.get(drill).await?;
            let wrote = record(drill)?;
            Ok(stored.is_some_and(|stored| {
                (stored.event.resource_id, stored.event.correlation_id)
                    == (wrote.resource_id, wrote.correlation_id)
            }))
        }
        Family::Playbooks => {
            let catalog = staged.back.playbooks(module)?.catalog().await?;
            let which = Lookup::Exact(PlaybookVersion::new("v1.0.0")?);
            let stored = catalog.get(GetPlaybook { playbook_id: playbook_id(drill)?, which }).await?;
            let content = playbook(drill)?.content;
            Ok(stored.is_some_and(|stored| stored.playbook.content == content))
        }
    }
}
