//! The audit repository on a native file and on an adopted one, as far as SQLite makes a difference; the contract itself
//! is the conformance suite's matter.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use changeover_core::audit::{
    AuditFilter, AuditOrder, AuditQuery, Keep, NewAuditEvent, Outcome, Retain, Retained, VerifyChain,
};
use changeover_core::{
    Applied, Detail, ErrorKind, Limit, ModuleScope, Namespace, OpenBackend, Text, Timestamp, Uuid,
};
use changeover_sqlite::OpenSqlite;
use common::{File, audit, audit_event, correlated, create, module, pages, tenant, text};
use diesel::connection::SimpleConnection;
use rstest::rstest;

fn named<const MAX: usize>(value: &str) -> Option<Text<MAX>> {
    Text::new("field", value).ok()
}

/// An event in which every column has a value of its own.
fn full() -> NewAuditEvent {
    NewAuditEvent {
        service_version: named("1.2"),
        actor_id: named("u-1"),
        actor_name: named("Ünï 🦀"),
        resource_name: named("web"),
        correlation_id: named("c-1"),
        trace_id: named("t-1"),
        span_id: named("s-1"),
        metadata: changeover_core::Json::parse(r#"{"source":"test"}"#).unwrap(),
        ..audit_event("2024-03-31T23:30:00.123456-02:00")
    }
}

// S3-AUD-003, S3-AUD-020, S3-AUD-027, DEF-12: all columns come back; the date is the UTC date; a repetition is one row.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn all_columns_come_back_and_a_repetition_is_one_row(#[case] file: File) {
    let audit = audit(&file.open().await).await;
    let parent = audit_event("2024-01-01T00:00:00Z");
    let child = NewAuditEvent { parent_event_id: Some(parent.event_id), ..full() };
    let both = create(&[parent.clone(), child.clone()]);
    assert_eq!(audit.create(both.clone()).await.unwrap().stored, 2);
    let again = audit.create(both).await.unwrap();
    assert_eq!((again.stored, again.repeated), (0, 2));
    let stored = audit.get(child.event_id).await.unwrap().unwrap();
    assert_eq!(stored.event, child);
    assert_eq!(stored.sequence, 2);
    let date =
        "SELECT event_date || ' ' || event_timestamp FROM audit_events WHERE parent_event_id IS NOT NULL";
    assert_eq!(text(&file, date), "2024-04-01 2024-04-01T01:30:00.123456Z");

    let mut other = child.clone();
    other.event_outcome = Outcome::Failure;
    let refused = audit.create(create(&[audit_event("2024-01-01T00:00:00Z"), other])).await.unwrap_err();
    assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::AlreadyExists, Some(Applied::No)));
    assert_eq!(refused.detail(), Some(&Detail::Exists { id: child.event_id }));
    assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), 2);
}

// S3-AUD-028, X-EDGE-062, DEF-16: a parent that is not there, or comes later in the batch.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_has_to_be_there_first(#[case] file: File) {
    let audit = audit(&file.open().await).await;
    let parent = audit_event("2024-05-01T00:00:00Z");
    let child =
        NewAuditEvent { parent_event_id: Some(parent.event_id), ..audit_event("2024-01-01T00:00:00Z") };
    for batch in [vec![child.clone()], vec![child.clone(), parent.clone()]] {
        let refused = audit.create(create(&batch)).await.unwrap_err();
        assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::NotFound, Some(Applied::No)));
        assert!(refused.message().contains(&parent.event_id.to_string()), "{refused}");
        assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), 0);
    }
    audit.create(create(&[parent])).await.unwrap();
    audit.create(create(&[child])).await.unwrap();
}

// S3-EDGE-007, X-AUD-031's bounds of time: from 1970 until five minutes ahead.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn times_outside_of_the_bounds_are_invalid(#[case] file: File) {
    let audit = audit(&file.open().await).await;
    let ahead = |minutes: i64| {
        Timestamp::from_micros(Timestamp::now().as_micros() + minutes * 60_000_000).unwrap().to_string()
    };
    for bad in ["1969-12-31T23:59:59.999999Z", &ahead(6)] {
        let refused = audit.create(create(&[audit_event(bad)])).await.unwrap_err();
        assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::Invalid, Some(Applied::No)));
    }
    for good in ["1970-01-01T00:00:00Z", &ahead(4)] {
        audit.create(create(&[audit_event(good)])).await.unwrap();
    }
    assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), 2);
}

/// Events of which many share a time or a value.
fn varied(count: usize) -> Vec<NewAuditEvent> {
    let pick = |index: usize, of: &[&str]| of[index % of.len()].to_owned();
    let events = (0..count).map(|index| {
        let day = 1 + (index * 7) % 9;
        let mut event = audit_event(&format!("2024-02-0{day}T00:00:00.00000{}Z", index % 3));
        // Ids that do not rise with the recorded order.
        event.event_id =
            Uuid::from_u128((index as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) | 1);
        event.event_type = Text::new("event_type", pick(index, &["a.b", "a%b", "a_b'"])).unwrap();
        event.event_category = Text::new("event_category", pick(index, &["workflow", "ai"])).unwrap();
        event.event_outcome = Outcome::ALL[index % 4];
        event.service_name = Text::new("service_name", pick(index / 2, &["s1", "s2"])).unwrap();
        event.actor_id = named(&pick(index, &["x", "y", "z", "\\"])).filter(|_| index % 5 != 0);
        event.resource_type = Text::new("resource_type", pick(index / 3, &["Pod", "Node"])).unwrap();
        event.resource_id = Text::new("resource_id", pick(index, &["r1", "r2", "r3"])).unwrap();
        event.correlation_id = named(&pick(index, &["c1", "c2"])).filter(|_| index % 3 != 0);
        event
    });
    events.collect()
}

fn passes(filter: &AuditFilter, event: &NewAuditEvent) -> bool {
    filter.event_type.as_ref().is_none_or(|wanted| *wanted == event.event_type)
        && filter.event_category.as_ref().is_none_or(|wanted| *wanted == event.event_category)
        && filter.event_outcome.is_none_or(|wanted| wanted == event.event_outcome)
        && filter.service_name.as_ref().is_none_or(|wanted| *wanted == event.service_name)
        && filter.actor_type.is_none_or(|wanted| wanted == event.actor_type)
        && filter.actor_id.as_ref().is_none_or(|wanted| Some(wanted) == event.actor_id.as_ref())
        && filter.resource_type.as_ref().is_none_or(|wanted| *wanted == event.resource_type)
        && filter.resource_id.as_ref().is_none_or(|wanted| *wanted == event.resource_id)
        && filter.correlation_id.as_ref().is_none_or(|wanted| Some(wanted) == event.correlation_id.as_ref())
        && filter.start.is_none_or(|start| event.event_timestamp >= start)
        && filter.end.is_none_or(|end| event.event_timestamp < end)
}

/// One filter for each field, some together, and times at their edges.
fn all_filters() -> Vec<AuditFilter> {
    let at = |text: &str| Some(Timestamp::parse(text).unwrap());
    let none = AuditFilter::default;
    vec![
        none(),
        AuditFilter { event_type: named("a%b"), ..none() },
        AuditFilter { event_category: named("ai"), ..none() },
        AuditFilter { event_outcome: Some(Outcome::Pending), ..none() },
        AuditFilter { service_name: named("s2"), ..none() },
        AuditFilter { actor_type: Some(changeover_core::audit::ActorType::Service), ..none() },
        AuditFilter { actor_type: Some(changeover_core::audit::ActorType::User), ..none() },
        AuditFilter { actor_id: named("\\"), ..none() },
        AuditFilter { resource_type: named("Node"), ..none() },
        AuditFilter { resource_id: named("r3"), ..none() },
        AuditFilter { resource_type: named("Pod"), resource_id: named("r1"), ..none() },
        AuditFilter { correlation_id: named("c2"), ..none() },
        AuditFilter { correlation_id: named("c2"), event_type: named("a_b'"), ..none() },
        AuditFilter { start: at("2024-02-03T00:00:00.000001Z"), ..none() },
        AuditFilter { end: at("2024-02-05T00:00:00.000001Z"), ..none() },
        AuditFilter { start: at("2024-02-02T00:00:00Z"), end: at("2024-02-02T00:00:00.000002Z"), ..none() },
        AuditFilter { start: at("2024-02-02T00:00:00Z"), end: at("2024-02-02T00:00:00Z"), ..none() },
        AuditFilter { end: Some(Timestamp::MIN), ..none() },
        AuditFilter { correlation_id: named("c1"), start: at("2024-02-04T00:00:00Z"), ..none() },
        AuditFilter { event_type: named("nobody"), ..none() },
    ]
}

// S3-AUD-021 to S3-AUD-024, A7, A9, A10, A12, A16, A36, X-EDGE-064, X-EDGE-066, X-EDGE-068, DEF-17, DEF-18: every
// filter in every order, in pages and with an offset, is what filtering and sorting gives.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn pages_are_what_filtering_and_sorting_gives(#[case] file: File) {
    let audit = audit(&file.open().await).await;
    let events = varied(120);
    audit.create(create(&events)).await.unwrap();
    for filter in all_filters() {
        let recorded: Vec<_> = events.iter().filter(|event| passes(&filter, event)).cloned().collect();
        let mut newest = recorded.clone();
        newest.sort_by(|a, b| {
            b.event_timestamp.cmp(&a.event_timestamp).then_with(|| a.event_id.cmp(&b.event_id))
        });
        let mut oldest = newest.clone();
        oldest.reverse();
        assert_eq!(audit.count(filter.clone()).await.unwrap(), recorded.len() as u64, "{filter:?}");
        for (order, expected) in [
            (AuditOrder::NewestFirst, &newest),
            (AuditOrder::OldestFirst, &oldest),
            (AuditOrder::Recorded, &recorded),
        ] {
            let query = AuditQuery { filter: filter.clone(), order, ..AuditQuery::default() };
            for limit in [1, 7, 10_000] {
                let found = pages(&*audit, &query, limit).await;
                let found: Vec<_> = found.into_iter().map(|found| found.event).collect();
                assert_eq!(&found, expected, "{order:?} {filter:?} by {limit}");
            }
            for offset in [0, 5, 119, 120, u64::MAX] {
                let query = AuditQuery { offset, ..query.clone() };
                let found = pages(&*audit, &query, 50).await;
                let found: Vec<_> = found.into_iter().map(|found| found.event).collect();
                let skip = usize::try_from(offset).unwrap().min(expected.len());
                assert_eq!(found, expected[skip..], "{order:?} {filter:?} after {offset}");
            }
        }
    }
}

// S3-EDGE-009, A21, X-EDGE-061: creates that share a commit keep their own outcomes; of many with one id one is stored.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_creates_keep_their_own_outcomes(#[case] file: File) {
    let open = file.open().await;
    let audit = audit(&open).await;
    let taken = audit_event("2024-01-01T00:00:00Z");
    let creates = (0..100).map(|index| {
        let audit = audit.clone();
        let mut event = audit_event("2024-01-01T00:00:00Z");
        match index % 4 {
            0 => event = taken.clone(),
            1 => {
                event = taken.clone();
                event.resource_id = Text::new("resource_id", format!("other {index}")).unwrap();
            }
            2 => event.parent_event_id = Some(Uuid::now_v7()),
            _ => event.correlation_id = named("same"),
        }
        tokio::spawn(async move { audit.create(create(&[event])).await.map_err(|error| error.kind()) })
    });
    let (mut stored, mut repeated, mut exists, mut missing) = (0, 0, 0, 0);
    for one in creates.collect::<Vec<_>>() {
        match one.await.unwrap() {
            Ok(done) => (stored, repeated) = (stored + done.stored, repeated + done.repeated),
            Err(ErrorKind::AlreadyExists) => exists += 1,
            Err(ErrorKind::NotFound) => missing += 1,
            Err(other) => panic!("{other}"),
        }
    }
    // Whichever of the 50 with one id came first was stored; the others are repetitions of it or in conflict with it.
    assert_eq!((stored, missing), (26, 25));
    assert_eq!(repeated + exists, 49);
    assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), 26);
    if file_is_native(&open).await {
        let report = audit.verify(chain("same")).await.unwrap();
        assert_eq!((report.events, report.broken), (25, None));
    }
}

async fn file_is_native(open: &OpenSqlite) -> bool {
    audit(open).await.capabilities().hash_chain.is_yes()
}

fn chain(correlation: &str) -> VerifyChain {
    VerifyChain { correlation_id: named(correlation).unwrap() }
}

// X-AUD-029, A3, X-EDGE-118: nobody changes or removes an audit event of a native file, retention's key apart.
#[rstest]
#[case("UPDATE audit_events SET event_data = '{}'")]
#[case("UPDATE OR REPLACE audit_events SET event_id = event_id")]
#[case("DELETE FROM audit_events")]
#[case("REPLACE INTO audit_events SELECT * FROM audit_events")]
#[case("INSERT INTO audit_retention VALUES ('default', 'ai', '9999-12-31'); DELETE FROM audit_events")]
#[case("INSERT INTO audit_retention VALUES ('default', 'workflow', '2023-12-31'); DELETE FROM audit_events")]
#[tokio::test(flavor = "multi_thread")]
async fn stored_audit_events_cannot_be_changed_by_sql(#[case] sql: &str) {
    let file = File::new();
    let audit = audit(&file.open().await).await;
    audit.create(create(&[audit_event("2024-01-01T00:00:00Z")])).await.unwrap();
    let before = pages(&*audit, &AuditQuery::default(), 10).await;
    let refused = file.other_program().batch_execute(sql).unwrap_err();
    assert!(refused.to_string().contains("append-only"), "{refused}");
    assert_eq!(pages(&*audit, &AuditQuery::default(), 10).await, before);
}

// S3-AUD-004 to S3-AUD-006, S3-AUD-008: a native file refuses by itself what the contract refuses.
#[rstest]
#[case("event_type", "''")]
#[case("event_type", "printf('%.*c', 101, 'x')")]
#[case("event_type", "x'4142'")]
#[case("event_outcome", "'done'")]
#[case("actor_type", "'robot'")]
#[case("event_timestamp", "'2024-01-01 00:00:00'")]
#[case("event_timestamp", "1700000000")]
#[case("event_date", "'2024-01-02'")]
#[case("event_data", "'[1]'")]
#[case("event_data", "NULL")]
#[case("metadata", "NULL")]
#[case("parent_event_id", "'01890000-0000-7000-8000-000000000009'")]
#[case("parent_event_id", "event_id")]
#[case("content_digest", "x'00'")]
#[tokio::test(flavor = "multi_thread")]
async fn a_native_file_refuses_bad_values_by_itself(#[case] column: &str, #[case] value: &str) {
    let file = File::new();
    let audit = audit(&file.open().await).await;
    audit.create(create(&[audit_event("2024-01-01T00:00:00Z")])).await.unwrap();
    let columns = "tenant_id, event_type, event_category, event_outcome, event_timestamp, event_date, service_name,
        actor_type, resource_type, resource_id, event_data, metadata, recorded_at, content_digest, parent_event_id";
    let values = columns.split(',').map(str::trim).map(|one| if one == column { value } else { one });
    let values: Vec<_> = values.collect();
    let insert = |values: &str| {
        format!(
            "PRAGMA foreign_keys = ON; INSERT INTO audit_events (event_id, {columns})
             SELECT '01890000-0000-7000-8000-000000000001', {values} FROM audit_events"
        )
    };
    let values = values.join(", ");
    let values = if value == "event_id" {
        values.replace(", event_id", ", '01890000-0000-7000-8000-000000000001'")
    } else {
        values
    };
    file.other_program().batch_execute(&insert(&values)).unwrap_err();
    assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), 1);
    // The same with nothing changed is taken, so it was the value.
    file.raw(&insert(columns));
    assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), 2);
}

/// A chain of five under `c`, with others between.
async fn with_a_chain(
    file: &File,
) -> (std::sync::Arc<dyn changeover_core::AuditRepository>, Vec<NewAuditEvent>) {
    let audit = audit(&file.open().await).await;
    let mut events = Vec::new();
    for index in 0..5 {
        let event = correlated(&format!("2024-01-0{}T00:00:00Z", 5 - index), "c");
        audit.create(create(&[event.clone(), correlated("2024-01-01T00:00:00Z", "other")])).await.unwrap();
        events.push(event);
    }
    (audit, events)
}

// X-AUD-030, A24, A25: what is done past the triggers shows in the chain, at the place where it was done.
#[rstest]
#[case::edited("UPDATE audit_events SET event_data = '{\"x\":1}' WHERE sequence = 5", Some(2))]
#[case::edited_with_its_digest(
    "UPDATE audit_events SET event_data = '{}', content_digest = zeroblob(32) WHERE sequence = 5",
    Some(2)
)]
#[case::removed("DELETE FROM audit_events WHERE sequence = 3", Some(2))]
#[case::first_removed("DELETE FROM audit_events WHERE sequence = 1", Some(1))]
#[case::tail_removed("DELETE FROM audit_events WHERE sequence = 9", Some(4))]
#[case::swapped(
    "UPDATE audit_events SET sequence = 100 WHERE sequence = 3; UPDATE audit_events SET sequence = 3 WHERE sequence = 5;
     UPDATE audit_events SET sequence = 5 WHERE sequence = 100",
    Some(2)
)]
#[case::moved_to_another("UPDATE audit_events SET correlation_id = 'other' WHERE sequence = 7", Some(4))]
#[case::without_link("UPDATE audit_events SET link = NULL WHERE sequence = 7", Some(3))]
#[case::head_lost("DELETE FROM audit_chain", Some(4))]
#[case::untouched("DELETE FROM audit_events WHERE sequence = 4", None)]
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_shows_what_was_done_to_it(#[case] sql: &str, #[case] broken_at: Option<usize>) {
    let file = File::new();
    let (audit, events) = with_a_chain(&file).await;
    let report = audit.verify(chain("c")).await.unwrap();
    assert_eq!((report.events, report.broken), (5, None));
    assert!(report.head.is_some());
    file.raw(&format!("DROP TRIGGER audit_events_no_update; DROP TRIGGER audit_events_no_delete; {sql}"));
    let report = audit.verify(chain("c")).await.unwrap();
    let found = report.broken.map(|broken| broken.event_id);
    assert_eq!(found, broken_at.map(|index| events[index].event_id));
}

// Decision on chains: off, nothing is linked; on again, what has no link shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_link_shows_when_chains_are_on_again() {
    let file = File::new();
    let off = OpenSqlite::open(&file.settings().with("hash_chain", "false")).await.unwrap();
    let without = audit(&off).await;
    assert!(!without.capabilities().hash_chain.is_yes());
    let event = correlated("2024-01-01T00:00:00Z", "c");
    without.create(create(std::slice::from_ref(&event))).await.unwrap();
    let refused = without.verify(chain("c")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    let on = audit(&file.open().await).await;
    on.create(create(&[correlated("2024-01-01T00:00:00Z", "c")])).await.unwrap();
    let report = on.verify(chain("c")).await.unwrap();
    assert_eq!(report.broken.unwrap().event_id, event.event_id);
    assert_eq!(on.verify(chain("nobody")).await.unwrap().events, 0);
}

fn retain(rules: &[(&str, u32)], limit: i64, dry_run: bool) -> Retain {
    Retain {
        rules: rules
            .iter()
            .map(|(name, days)| Keep { category: named(name).unwrap(), days: *days })
            .collect(),
        now: Timestamp::parse("2024-06-30T12:00:00Z").unwrap(),
        dry_run,
        limit: Limit::new(limit).unwrap(),
    }
}

fn counts(done: &Retained) -> Vec<u64> {
    done.removed.iter().map(|(_, count)| *count).collect()
}

fn of_category(at: &str, category: &str) -> NewAuditEvent {
    NewAuditEvent { event_category: named(category).unwrap(), ..correlated(at, "c") }
}

// X-AUD-031, A28, A30, A31, X-EDGE-119: only what is due goes, whole months, then the oldest; a dry run counts the same;
// parents of kept events stay; the chain still holds.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_what_is_due_and_nothing_else(#[case] file: File) {
    let open = file.open().await;
    let audit = audit(&open).await;
    let parent = of_category("2024-04-01T00:00:00Z", "ai");
    let kept = of_category("2024-06-29T00:00:00Z", "ai");
    let events = [
        of_category("2024-05-30T23:59:59Z", "ai"), // due: its date lies 31 days before
        of_category("2024-05-31T00:00:00Z", "ai"), // due: 30 days
        of_category("2024-06-01T00:00:00Z", "ai"), // not due
        of_category("2024-01-01T00:00:00Z", "gateway"), // no rule
        of_category("2024-02-01T00:00:00Z", "ai"), // a whole month
        of_category("2024-02-03T00:00:00Z", "workflow"),
        parent.clone(),
        NewAuditEvent { parent_event_id: Some(parent.event_id), ..kept.clone() },
        of_category("2024-03-01T00:00:00Z", "workflow"), // with its child: children go first
    ];
    let last = events[8].clone();
    let child =
        NewAuditEvent { parent_event_id: Some(last.event_id), ..of_category("2024-03-05T00:00:00Z", "ai") };
    audit.create(create(&events)).await.unwrap();
    audit.create(create(std::slice::from_ref(&child))).await.unwrap();
    let rules = [("ai", 30), ("workflow", 90), ("nobody", 1)];
    let native = file_is_native(&open).await;
    let mut removed = vec![0; 3];
    for limit in [1, 2, 1, 10] {
        let dry = audit.retain(retain(&rules, limit, true)).await.unwrap();
        let before = audit.count(AuditFilter::default()).await.unwrap();
        let done = audit.retain(retain(&rules, limit, false)).await.unwrap();
        assert_eq!(dry, done);
        let count: u64 = counts(&done).iter().sum();
        assert_eq!(audit.count(AuditFilter::default()).await.unwrap(), before - count);
        assert_eq!(done.done, limit == 10, "{done:?}");
        removed.iter_mut().zip(counts(&done)).for_each(|(sum, count)| *sum += count);
        if native {
            assert_eq!(audit.verify(chain("c")).await.unwrap().broken, None);
        }
    }
    assert_eq!(removed, [4, 2, 0]);
    let again = audit.retain(retain(&rules, 10, false)).await.unwrap();
    assert_eq!((counts(&again), again.done), (vec![0, 0, 0], true));
    let query = AuditQuery { order: AuditOrder::Recorded, ..AuditQuery::default() };
    let left: Vec<_> = pages(&*audit, &query, 10).await.into_iter().map(|left| left.event.event_id).collect();
    assert_eq!(left, [2, 3, 6, 7].map(|index: usize| events[index].event_id));
    // A removed id is free again.
    audit.create(create(std::slice::from_ref(&child))).await.unwrap_err();
    audit.create(create(&[last, child])).await.unwrap();
    if native {
        let report = audit.verify(chain("c")).await.unwrap();
        assert_eq!((report.events, report.broken), (6, None));
        assert_eq!(text(&file, "SELECT count(*) || '' FROM audit_retention"), "0");
    } else {
        assert_eq!(text(&file, "SELECT count(*) || '' FROM temp.sqlite_master"), "0");
    }
}

// A31: gaps in the middle and at the end; a record that goes missing beside them still shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_goes_on_over_what_retention_took() {
    let file = File::new();
    let audit = audit(&file.open().await).await;
    let kept = |day: u32| of_category(&format!("2024-01-0{day}T00:00:00Z"), "kept");
    let gone = |day: u32| of_category(&format!("2024-01-0{day}T00:00:00Z"), "ai");
    for event in [gone(1), kept(2), gone(3), gone(4), kept(5), kept(6), gone(7)] {
        audit.create(create(&[event])).await.unwrap();
    }
    let before = audit.verify(chain("c")).await.unwrap();
    for _ in 0..2 {
        audit.retain(retain(&[("ai", 1)], 2, false)).await.unwrap();
        let report = audit.verify(chain("c")).await.unwrap();
        assert_eq!((report.head, report.broken), (before.head, None));
    }
    assert_eq!(text(&file, "SELECT group_concat(sequence) FROM audit_anchor"), "1,4,7");
    file.raw("DROP TRIGGER audit_events_no_delete; DELETE FROM audit_events WHERE sequence = 5");
    let report = audit.verify(chain("c")).await.unwrap();
    assert!(report.broken.is_some());
}

// Section 4 of the design, P44, S2-TEN-008, X-EDGE-086: namespaces and tenants are kept apart, with equal ids.
#[rstest]
#[case::native(File::new())]
#[case::legacy(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn namespaces_and_tenants_are_kept_apart(#[case] file: File) {
    let open = file.open().await;
    let own = ModuleScope { namespace: Some(Namespace::new("jobs").unwrap()), ..module("jobs") };
    let hostile = changeover_core::TenantId::new("a'; DROP TABLE jobs_audit_events; --\n\u{1f980}").unwrap();
    let stores = [
        audit(&open).await,
        open.audit(&own, &tenant()).await.unwrap(),
        open.audit(&own, &hostile).await.unwrap(),
    ];
    let event = correlated("2024-01-01T00:00:00Z", "c");
    for (index, store) in stores.iter().enumerate() {
        assert_eq!(store.get(event.event_id).await.unwrap(), None);
        let mut event = event.clone();
        event.resource_id = named(&format!("{index}")).unwrap();
        assert_eq!(store.create(create(&[event])).await.unwrap().stored, 1);
        assert_eq!(store.count(AuditFilter::default()).await.unwrap(), 1);
    }
    for (index, store) in stores.iter().enumerate() {
        let found = store.get(event.event_id).await.unwrap().unwrap();
        assert_eq!(found.event.resource_id.as_str(), index.to_string());
        let rules = retain(&[("workflow", 1)], 10, false);
        assert_eq!(counts(&store.retain(rules).await.unwrap()), [1]);
    }
    assert_eq!(text(&file, "SELECT count(*) || '' FROM jobs_audit_events"), "0");
}
