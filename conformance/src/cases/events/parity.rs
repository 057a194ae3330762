//! The same answers everywhere: random scripts against a model, scripts through a layer, and where engines differ.

use changeover_core::events::{Append, EventFilter, Expected, NewEvent, Version};
use changeover_core::{AggregateType, ErrorKind, EventStore, EventType, Json};

use crate::forward::Forward;
use crate::harness::AnyHarness;
use crate::model::{Op, Player, random_script, shrunk};
use crate::support::{
    Must, append, event, events, head, ids, json, log_head, open, read, read_log, read_on, refused, stream,
    stream_of,
};

/// Plays a script; where the store differs from the model, panics with the shortest script that still shows it.
async fn play(store: &dyn EventStore, seed: u64, script: Vec<Op>) -> Player<'_> {
    let mut player = Player::new(store).await;
    if let Err(why) = player.play(&script).await {
        let (script, why) = shrunk(store, script, why).await;
        panic!("seed {seed}: {why}; shortest script: {script:#?}");
    }
    player
}

/// Random operations answer as the model does: 200 seeds of 100 steps in memory, 12 where records are durable. (E131)
pub async fn random_operations_answer_as_the_model_does(h: &dyn AnyHarness) {
    let store = open(h).await;
    let seeds = if store.capabilities().durable.is_yes() { 12 } else { 200 };
    for seed in 0..seeds {
        play(&*store, seed, random_script(seed, 100)).await;
    }
}

/// One script leaves the same canonical dump on every backend. (X12)
pub async fn one_script_leaves_the_same_dump(h: &dyn AnyHarness) {
    let store = open(h).await;
    let player = play(&*store, 12_012, random_script(12_012, 300)).await;
    let dump = player.dump().await;
    assert!(dump.lines().count() > 50, "the script stored next to nothing");
    assert_eq!(dump, player.model_dump());
}

/// One script meets the same kinds of errors on every backend. (X13)
pub async fn one_script_meets_the_same_errors(h: &dyn AnyHarness) {
    let store = open(h).await;
    let player = play(&*store, 13_013, random_script(13_013, 300)).await;
    for outcome in ["Stored", "Repeated", "Invalid", "conflict", "already exists", "Tracked"] {
        let met = player.transcript.iter().any(|line| line.starts_with(outcome));
        assert!(met, "the script never met {outcome:?}");
    }
}

/// Through a layer that passes everything on, every answer is the same. (E127)
pub async fn answers_through_a_layer_are_the_same(h: &dyn AnyHarness) {
    let direct = open(h).await;
    let layered = Forward(open(h).await);
    let script = random_script(127, 100);
    let one = play(&*direct, 127, script.clone()).await.transcript;
    let other = play(&layered, 127, script).await.transcript;
    assert_eq!(one, other);
    assert_eq!(direct.capabilities(), layered.capabilities());
    layered.ready().await.must("ready");
    layered.close().await.must("close");
    refused(layered.ready().await, ErrorKind::Unavailable);
}

/// After a mixed load heads, streams and log agree in number with what was accepted. (E130)
pub async fn numbers_agree_after_a_mixed_load(h: &dyn AnyHarness) {
    let store = open(h).await;
    let streams: Vec<_> = (0..5).map(|_| stream()).collect();
    let mut accepted = [0; 5];
    for round in 0..20 {
        let at = round % 5;
        let expected = if round % 3 == 0 { Expected::NoStream } else { Expected::Any };
        let count = 1 + round % 4;
        match store.append(Append::one(streams[at].clone(), expected, events(count))).await {
            Ok(_) => accepted[at] += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::VersionConflict, "{error}"),
        }
    }
    for (stream, accepted) in streams.iter().zip(accepted) {
        let version = head(&*store, stream).await.version.map_or(0, Version::get);
        assert_eq!(usize::try_from(version), Ok(accepted));
        assert_eq!(read(&*store, stream).await.len(), accepted);
    }
    let (log, end) = read_log(&*store).await;
    assert_eq!(log.len(), accepted.iter().sum::<usize>());
    assert_eq!(log.last().map(|event| event.checkpoint), Some(end));
    assert_eq!(log_head(&*store).await, end);
}

/// Where engines differ by themselves the store does not: patterns, case, truth values, whole and broken numbers, text
/// that looks like a number, absent and null. (X22, X-EDGE-056)
pub async fn engines_differ_and_the_store_does_not(h: &dyn AnyHarness) {
    let store = open(h).await;
    let payloads =
        ["1", "1.5", "true", "\"1\"", "\"true\"", "{\"a\":null}", "{}", "[null]", "[]", "\" 1 \"", "0.5"];
    let new: Vec<_> =
        payloads.iter().map(|text| NewEvent::new("Value", json(text)).must("an event")).collect();
    let values = stream();
    append(&*store, &values, Expected::NoStream, new).await;
    let stored = read(&*store, &values).await;
    assert_eq!(stored.iter().map(|event| event.data.as_str()).collect::<Vec<_>>(), payloads);

    let names = ["10", "9", "010", "1e1", "TRUE", "true", "NULL", "null", "I", "i", "\u{131}"];
    for (number, name) in names.iter().enumerate() {
        append(&*store, &stream_of(name), Expected::NoStream, vec![event(name, number)]).await;
    }
    for (number, name) in names.iter().enumerate() {
        let filter = EventFilter {
            aggregate_types: Some(vec![AggregateType::new(*name).must("an aggregate type")]),
            event_types: Some(vec![EventType::new(*name).must("an event type")]),
            ..EventFilter::default()
        };
        let (found, _) = read_on(&*store, None, filter).await;
        assert_eq!(found.len(), 1, "{name:?} matched {:?}", ids(&found));
        let expected = Json::parse(&format!(r#"{{"number":{number}}}"#)).must("JSON");
        assert_eq!(found[0].data, expected, "{name:?}");
    }
}
