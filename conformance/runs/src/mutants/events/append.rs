//! Appends that are judged, stored or answered wrongly.

use std::sync::Mutex;

use async_trait::async_trait;
use changeover_conformance::Subject;
use changeover_core::events::{
    Append, Appended, Expected, Head, HeadOf, NewEvent, ReadStream, RecordedEvent, StreamAppend, StreamId,
    Version,
};
use changeover_core::{
    Applied, Checkpoint, ConsumerName, Detail, Error, ErrorKind, EventStore, Json, Result, Timestamp, Uuid,
};

use super::{Flaw, subject};

pub(super) fn subjects() -> Vec<Subject> {
    vec![
        subject::<VersionOffByOne>(),
        subject::<FirstCheckpoint>(),
        subject::<LostUpdate>(),
        subject::<IgnoresNoStream>(),
        subject::<IgnoresExists>(),
        subject::<StoresRepeats>(),
        subject::<ForgetsRepeats>(),
        subject::<LastNamedEnd>(),
        subject::<AcceptsTakenIds>(),
        subject::<StoresHalf>(),
        subject::<WrongKind>(),
        subject::<WrongDetail>(),
        subject::<UnknownOutcome>(),
        subject::<FailureLeavesStream>(),
        subject::<ProgressGoesBack>(),
        subject::<RoundsTimes>(),
        subject::<LosesKeys>(),
        subject::<LosesMetadata>(),
        subject::<LosesCausation>(),
    ]
}

/// Stores these streams in any case, with new ids for events whose ids are taken.
async fn force(store: &dyn EventStore, mut request: Append, keep_ids: bool) -> Result<Appended> {
    request.track = None;
    for part in &mut request.streams {
        part.expected = Expected::Any;
        part.events.iter_mut().filter(|_| !keep_ids).for_each(|event| event.id = Uuid::now_v7());
    }
    store.append(request).await
}

fn replace_expected(request: &mut Append, lost: impl Fn(Expected) -> bool) {
    request.streams.iter_mut().filter(|part| lost(part.expected)).for_each(|p| p.expected = Expected::Any);
}

#[derive(Default)]
struct VersionOffByOne;

#[async_trait]
impl Flaw for VersionOffByOne {
    const NAME: &'static str = "the answer's versions count from 0";

    async fn answered(&self, _: &dyn EventStore, _: Append, answer: Result<Appended>) -> Result<Appended> {
        let mut answer = answer?;
        for part in &mut answer.streams {
            part.first = Version::new(part.first.get() - 1).unwrap_or(part.first);
            part.last = Version::new(part.last.get() - 1).unwrap_or(part.last);
        }
        Ok(answer)
    }
}

#[derive(Default)]
struct FirstCheckpoint;

#[async_trait]
impl Flaw for FirstCheckpoint {
    const NAME: &'static str = "the answer's checkpoint is after the first event, not the last";

    async fn answered(
        &self,
        _: &dyn EventStore,
        asked: Append,
        answer: Result<Appended>,
    ) -> Result<Appended> {
        let mut answer = answer?;
        let more = asked.streams.iter().map(|part| part.events.len()).sum::<usize>().saturating_sub(1);
        let position = answer.checkpoint.position() - i64::try_from(more).unwrap_or(0);
        answer.checkpoint = Checkpoint::new(answer.checkpoint.log(), position)?;
        Ok(answer)
    }
}

#[derive(Default)]
struct LostUpdate;

impl Flaw for LostUpdate {
    const NAME: &'static str = "an exact expectation is not checked";

    fn asked(&self, request: &mut Append) {
        replace_expected(request, |expected| matches!(expected, Expected::Exactly(_)));
    }
}

#[derive(Default)]
struct IgnoresNoStream;

impl Flaw for IgnoresNoStream {
    const NAME: &'static str = "that there be no stream is not checked";

    fn asked(&self, request: &mut Append) {
        replace_expected(request, |expected| expected == Expected::NoStream);
    }
}

#[derive(Default)]
struct IgnoresExists;

impl Flaw for IgnoresExists {
    const NAME: &'static str = "that there be a stream is not checked";

    fn asked(&self, request: &mut Append) {
        replace_expected(request, |expected| expected == Expected::Exists);
    }
}

#[derive(Default)]
struct StoresRepeats;

#[async_trait]
impl Flaw for StoresRepeats {
    const NAME: &'static str = "a repeated append is stored again";

    async fn answered(
        &self,
        store: &dyn EventStore,
        asked: Append,
        answer: Result<Appended>,
    ) -> Result<Appended> {
        let answer = answer?;
        if answer.repeated {
            force(store, asked, false).await?;
        }
        Ok(answer)
    }
}

#[derive(Default)]
struct ForgetsRepeats;

#[async_trait]
impl Flaw for ForgetsRepeats {
    const NAME: &'static str = "a repeated append is refused as a conflict";

    async fn answered(
        &self,
        _: &dyn EventStore,
        asked: Append,
        answer: Result<Appended>,
    ) -> Result<Appended> {
        let answer = answer?;
        match asked.streams.into_iter().zip(&answer.streams).next() {
            Some((part, stored)) if answer.repeated => {
                Err(Error::conflict(part.stream, part.expected, Some(stored.last)).applied(Applied::No))
            }
            _ => Ok(answer),
        }
    }
}

#[derive(Default)]
struct LastNamedEnd;

#[async_trait]
impl Flaw for LastNamedEnd {
    const NAME: &'static str = "a repeated append answers with the end of the stream named last";

    async fn answered(
        &self,
        store: &dyn EventStore,
        _: Append,
        answer: Result<Appended>,
    ) -> Result<Appended> {
        let mut answer = answer?;
        if let (true, Some(part)) = (answer.repeated, answer.streams.last()) {
            let read = ReadStream { first: Some(part.last), ..ReadStream::all(part.stream.clone()) };
            let last = store.read_stream(read).await?.events.into_iter().next();
            answer.checkpoint = last.map_or(answer.checkpoint, |event| event.checkpoint);
        }
        Ok(answer)
    }
}

#[derive(Default)]
struct AcceptsTakenIds;

#[async_trait]
impl Flaw for AcceptsTakenIds {
    const NAME: &'static str = "an event id may be used twice";

    async fn answered(
        &self,
        store: &dyn EventStore,
        asked: Append,
        answer: Result<Appended>,
    ) -> Result<Appended> {
        match answer {
            Err(error) if matches!(error.detail(), Some(Detail::Exists { .. })) => {
                force(store, asked, false).await
            }
            other => other,
        }
    }
}

#[derive(Default)]
struct StoresHalf;

#[async_trait]
impl Flaw for StoresHalf {
    const NAME: &'static str = "the events before a taken id are stored though the append is refused";

    async fn answered(
        &self,
        store: &dyn EventStore,
        asked: Append,
        answer: Result<Appended>,
    ) -> Result<Appended> {
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if let Some(Detail::Exists { id }) = error.detail() {
            let free =
                asked.streams.iter().flat_map(|part| part.events.iter().map(|event| (&part.stream, event)));
            let free: Vec<_> = free.take_while(|(_, event)| event.id != *id).collect();
            for (stream, event) in free {
                let one = Append::one(stream.clone(), Expected::Any, vec![event.clone()]);
                force(store, one, true).await?;
            }
        }
        Err(error)
    }
}

#[derive(Default)]
struct WrongKind;

#[async_trait]
impl Flaw for WrongKind {
    const NAME: &'static str = "a conflict is reported as contention";

    async fn answered(&self, _: &dyn EventStore, _: Append, answer: Result<Appended>) -> Result<Appended> {
        answer.map_err(|error| match error.kind() {
            ErrorKind::VersionConflict => {
                Error::new(ErrorKind::Contention, error.message()).applied(Applied::No)
            }
            _ => error,
        })
    }
}

#[derive(Default)]
struct WrongDetail;

#[async_trait]
impl Flaw for WrongDetail {
    const NAME: &'static str = "a conflict names a wrong actual version";

    async fn answered(&self, _: &dyn EventStore, _: Append, answer: Result<Appended>) -> Result<Appended> {
        answer.map_err(|error| match error.detail().cloned() {
            Some(Detail::Conflict { stream, expected, actual }) => {
                let wrong = Version::new(actual.map_or(1, |version| version.get() + 1)).ok();
                Error::conflict(stream, expected, wrong).applied(Applied::No)
            }
            _ => error,
        })
    }
}

#[derive(Default)]
struct UnknownOutcome;

#[async_trait]
impl Flaw for UnknownOutcome {
    const NAME: &'static str = "a refused append does not say that nothing was stored";

    async fn answered(&self, _: &dyn EventStore, _: Append, answer: Result<Appended>) -> Result<Appended> {
        answer.map_err(|error| error.applied(Applied::Unknown))
    }
}

#[derive(Default)]
struct FailureLeavesStream(Mutex<Vec<StreamId>>);

#[async_trait]
impl Flaw for FailureLeavesStream {
    const NAME: &'static str = "a refused append leaves a stream without events";

    async fn answered(
        &self,
        _: &dyn EventStore,
        asked: Append,
        answer: Result<Appended>,
    ) -> Result<Appended> {
        if answer.is_err() {
            let streams = asked.streams.into_iter().map(|StreamAppend { stream, .. }| stream);
            self.0.lock().expect("nobody panics under the lock").extend(streams);
        }
        answer
    }

    async fn head(&self, store: &dyn EventStore, of: HeadOf) -> Result<Head> {
        let mut head = store.head(of.clone()).await?;
        if let HeadOf::Stream(stream) = of
            && head.version.is_none()
            && self.0.lock().expect("nobody panics under the lock").contains(&stream)
        {
            head.version = Some(Version::FIRST);
        }
        Ok(head)
    }
}

#[derive(Default)]
struct ProgressGoesBack(Mutex<Vec<(ConsumerName, Checkpoint)>>);

#[async_trait]
impl Flaw for ProgressGoesBack {
    const NAME: &'static str = "progress is overwritten by earlier progress";

    async fn answered(
        &self,
        store: &dyn EventStore,
        asked: Append,
        answer: Result<Appended>,
    ) -> Result<Appended> {
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let (Some(Detail::Tracked { recorded }), Some(track)) = (error.detail(), asked.track.clone()) else {
            return Err(error);
        };
        let back = Appended { streams: Vec::new(), checkpoint: *recorded, repeated: false };
        self.0.lock().expect("nobody panics under the lock").push((track.consumer, track.checkpoint));
        if asked.streams.is_empty() { Ok(back) } else { force(store, asked, true).await }
    }

    async fn tracked(&self, store: &dyn EventStore, consumer: ConsumerName) -> Result<Option<Checkpoint>> {
        let back = self.0.lock().expect("nobody panics under the lock").clone();
        match back.into_iter().rev().find(|(name, _)| *name == consumer) {
            Some((_, checkpoint)) => Ok(Some(checkpoint)),
            None => store.tracked(consumer).await,
        }
    }
}

fn each_event(request: &mut Append, spoil: impl FnMut(&mut NewEvent)) {
    request.streams.iter_mut().flat_map(|part| &mut part.events).for_each(spoil);
}

#[derive(Default)]
struct RoundsTimes;

impl Flaw for RoundsTimes {
    const NAME: &'static str = "times are rounded to milliseconds";

    fn asked(&self, request: &mut Append) {
        each_event(request, |event| {
            let rounded = event.occurred_at.map(|at| (at.as_micros() + 500).div_euclid(1_000) * 1_000);
            event.occurred_at = rounded.map(|at| Timestamp::from_micros(at).unwrap_or(Timestamp::MAX));
        });
    }
}

#[derive(Default)]
struct LosesKeys;

impl Flaw for LosesKeys {
    const NAME: &'static str = "keys with the value null are lost";

    fn asked(&self, request: &mut Append) {
        each_event(request, |event| {
            if let Some(start) = event.data.as_str().find(":null") {
                let text = event.data.as_str();
                let key = text[..start].trim_end_matches('"').rfind('"').unwrap_or(0);
                let rest = text[start + ":null".len()..].trim_start_matches(',');
                event.data =
                    Json::parse(&format!("{}{rest}", &text[..key])).unwrap_or_else(|_| Json::empty());
            }
        });
    }
}

#[derive(Default)]
struct LosesMetadata;

impl Flaw for LosesMetadata {
    const NAME: &'static str = "metadata is lost";

    fn shown(&self, event: &mut RecordedEvent) {
        event.metadata = Json::empty();
    }
}

#[derive(Default)]
struct LosesCausation;

impl Flaw for LosesCausation {
    const NAME: &'static str = "what caused an event is lost";

    fn shown(&self, event: &mut RecordedEvent) {
        event.causation_id = None;
    }
}
