//! A backend of one's own: an event store that journals to a JSON Lines file and answers from memory.
//!
//! It shows what the contract asks of a backend and how little that needs to be. The rules (versions, conflicts, order of
//! judgement, pages) are those of the memory backend; this file adds what makes records last: each accepted append is
//! a line, on the disk before anybody can see it. `tests/your_own_backend.rs` puts it under the conformance suite.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use async_trait::async_trait;
use changeover::events::{
    AllPage, Append, Appended, Expected, Head, HeadOf, NewEvent, ReadAll, ReadStream, Readiness,
    SchemaVersion, StreamAppend, StreamId, StreamPage, Subscribe, Track,
};
use changeover::{
    Applied, Backend as _, BackendSettings, Capabilities, Checkpoint, ConsumerName, Error, ErrorKind,
    EventStore, EventType, Json, LogId, ModuleName, ModuleScope, OpenBackend, Result, Subscription, Support,
    TenantId, Timestamp, Uuid,
};
use changeover_memory::Memory;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

/// An open journal. Clients of it are made by [`Journal::client`].
pub struct Journal {
    /// Judges appends. Ahead of `served` while a line is being written.
    judge: Arc<dyn EventStore>,
    /// Answers readers: holds exactly what is on the disk. Each client has a handle of its own on it.
    served: Arc<dyn OpenBackend>,
    /// The time both give to what they record.
    clock: Arc<AtomicI64>,
    file: Mutex<File>,
    /// A line could not be written, so `judge` knows more than the disk: nothing may be appended any more.
    broken: AtomicBool,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    log: Uuid,
}

/// Every other line: one append.
#[derive(Serialize, Deserialize)]
struct Line {
    recorded_at: Timestamp,
    streams: Vec<(StreamId, Vec<Entry>)>,
    track: Option<(ConsumerName, Checkpoint)>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: Uuid,
    event_type: EventType,
    schema_version: i64,
    data: Json,
    metadata: Json,
    occurred_at: Option<Timestamp>,
    causation_id: Option<Uuid>,
    correlation_id: Option<Uuid>,
}

impl Journal {
    /// Opens the journal at `path`, made if it is not there, and replays it. The end of a line that was being written when
    /// the process died is cut off: nobody was told that it is stored.
    pub async fn open(path: &Path) -> Result<Arc<Self>> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;

        let mut lines = text[..whole].lines();
        let log = if let Some(header) = lines.next() {
            LogId(read::<Header>(header, 1)?.log)
        } else {
            let log = LogId(Uuid::new_v4());
            write(&mut file, &Header { log: log.0 })?;
            log
        };
        let clock = Arc::new(AtomicI64::new(0));
        let served = memory(log, &clock).await?;
        let (judge, replayed) = (store(&*memory(log, &clock).await?).await?, store(&*served).await?);
        for (index, line) in lines.enumerate() {
            let line: Line = read(line, index + 2)?;
            clock.store(line.recorded_at.as_micros(), Ordering::SeqCst);
            let append = line.append()?;
            judge.append(append.clone()).await?;
            replayed.append(append).await?;
        }
        Ok(Arc::new(Self { judge, served, clock, file: Mutex::new(file), broken: AtomicBool::new(false) }))
    }

    /// A client: closing it closes this client only.
    pub async fn client(self: &Arc<Self>) -> Result<Arc<dyn EventStore>> {
        let served = store(&*self.served).await?;
        Ok(Arc::new(Client { journal: Arc::clone(self), served, closed: AtomicBool::new(false) }))
    }

    async fn append(self: Arc<Self>, request: Append) -> Result<Appended> {
        let mut file = self.file.lock().await;
        if self.broken.load(Ordering::SeqCst) {
            let message = "an earlier append could not be written to the journal; open it again";
            return Err(Error::new(ErrorKind::Unavailable, message).applied(Applied::No));
        }
        let now = Timestamp::now();
        self.clock.store(now.as_micros(), Ordering::SeqCst);
        let answer = self.judge.append(request.clone()).await?;
        if !answer.repeated {
            if let Err(error) = write(&mut file, &Line::of(&request, now)) {
                self.broken.store(true, Ordering::SeqCst);
                return Err(error.applied(Applied::Unknown));
            }
            store(&*self.served).await?.append(request).await?;
        }
        Ok(answer)
    }
}

impl Line {
    fn of(request: &Append, recorded_at: Timestamp) -> Self {
        let entry = |event: &NewEvent| Entry {
            id: event.id,
            event_type: event.event_type.clone(),
            schema_version: event.schema_version.get().into(),
            data: event.data.clone(),
            metadata: event.metadata.clone(),
            occurred_at: event.occurred_at,
            causation_id: event.causation_id,
            correlation_id: event.correlation_id,
        };
        let streams = request.streams.iter();
        Self {
            recorded_at,
            streams: streams
                .map(|part| (part.stream.clone(), part.events.iter().map(entry).collect()))
                .collect(),
            track: request.track.clone().map(|track| (track.consumer, track.checkpoint)),
        }
    }

    /// The append again. It was judged before it was written, so nothing is expected any more.
    fn append(self) -> Result<Append> {
        let mut streams = Vec::new();
        for (stream, entries) in self.streams {
            let mut events = Vec::new();
            for entry in entries {
                events.push(NewEvent {
                    id: entry.id,
                    event_type: entry.event_type,
                    schema_version: SchemaVersion::new(entry.schema_version)?,
                    data: entry.data,
                    metadata: entry.metadata,
                    occurred_at: entry.occurred_at,
                    causation_id: entry.causation_id,
                    correlation_id: entry.correlation_id,
                });
            }
            streams.push(StreamAppend { stream, expected: Expected::Any, events });
        }
        Ok(Append { streams, track: self.track.map(|(consumer, checkpoint)| Track { consumer, checkpoint }) })
    }
}

fn scope() -> Result<ModuleScope> {
    Ok(ModuleScope { module: ModuleName::new("journal")?, namespace: None })
}

async fn memory(log: LogId, clock: &Arc<AtomicI64>) -> Result<Arc<dyn OpenBackend>> {
    let clock = Arc::clone(clock);
    let now = move || Timestamp::from_micros(clock.load(Ordering::SeqCst)).unwrap_or(Timestamp::MIN);
    Memory::with_clock(now).with_log(scope()?, log).open(&BackendSettings::new("journal")).await
}

/// A new handle.
async fn store(memory: &dyn OpenBackend) -> Result<Arc<dyn EventStore>> {
    memory.events(&scope()?, &TenantId::new("journal")?).await
}

/// One line, on the disk when this returns.
fn write(file: &mut File, line: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(line).map_err(|error| Error::invalid(error.to_string()))?;
    writeln!(file, "{text}").and_then(|()| file.sync_data()).map_err(io)
}

fn read<'a, T: Deserialize<'a>>(line: &'a str, number: usize) -> Result<T> {
    serde_json::from_str(line).map_err(|_| {
        Error::corrupt("journal", format!("line {number}"), "line", "it is not a line of a journal")
    })
}

fn io(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the journal cannot be read or written").caused_by(error)
}

struct Client {
    journal: Arc<Journal>,
    served: Arc<dyn EventStore>,
    closed: AtomicBool,
}

impl Client {
    fn served(&self, operation: &'static str) -> Result<&dyn EventStore> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(
                Error::new(ErrorKind::Unavailable, "the store was closed; open it again").during(operation)
            );
        }
        Ok(&*self.served)
    }
}

#[async_trait]
impl EventStore for Client {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durable: Support::Yes,
            tenants: Support::No("the journal is of one tenant"),
            ..self.served.capabilities()
        }
    }

    async fn append(&self, request: Append) -> Result<Appended> {
        self.served("events.append").map_err(|error| error.applied(Applied::No))?;
        // In a task of its own: a caller that goes away must not leave the judge ahead of the journal.
        let work = tokio::spawn(Arc::clone(&self.journal).append(request));
        let lost = |_| Error::new(ErrorKind::Unexpected, "the append was lost").applied(Applied::Unknown);
        work.await.map_err(lost).flatten().map_err(|error| error.during("events.append"))
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.served("events.read_stream")?.read_stream(request).await
    }

    async fn read_all(&self, request: ReadAll) -> Result<AllPage> {
        self.served("events.read_all")?.read_all(request).await
    }

    async fn head(&self, of: HeadOf) -> Result<Head> {
        self.served("events.head")?.head(of).await
    }

    async fn tracked(&self, consumer: ConsumerName) -> Result<Option<Checkpoint>> {
        self.served("events.tracked")?.tracked(consumer).await
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Subscription> {
        self.served("events.subscribe")?.subscribe(request).await
    }

    async fn ready(&self) -> Result<Readiness> {
        self.served("events.ready")?;
        Ok(Readiness { notes: vec!["records in a journal file, answered from memory".to_owned()] })
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::SeqCst);
        self.served.close().await
    }
}
