//! The months of the audit trail: who makes them, when, and what the plans make of them.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use changeover_core::audit::{AuditFilter, AuditOrder, AuditQuery, NewAuditEvent};
use changeover_core::{ErrorKind, Limit, Timestamp};
use changeover_testkit::TestDatabase;
use common::audit::{all, at, event, event_at, linked, migrated, numbers, one, recorded, scope, text, trail};
use common::{open, settings, tenant};
use rstest::rstest;

async fn texts(db: &TestDatabase, sql: &str) -> Vec<String> {
    db.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// The months that have a partition.
async fn months(db: &TestDatabase) -> Vec<String> {
    texts(
        db,
        "SELECT right(c.relname, 7) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
          WHERE i.inhparent = 'audit_store.audit_events'::regclass ORDER BY 1",
    )
    .await
}

async fn make(db: &TestDatabase, day: &str) -> Vec<String> {
    let sql = format!("SELECT unnest(audit_store.create_audit_events_partition('{day}'))");
    texts(db, &sql).await.iter().map(|name| name.replace("audit_events_", "")).collect()
}

// S3-AUD-010, S3-AUD-011, DEF-14: after migration this month and the next three, of today and of nothing fixed.
#[tokio::test(flavor = "multi_thread")]
async fn after_migration_there_are_this_month_and_the_next_three() {
    let db = migrated().await;
    let expected = texts(
        &db,
        "SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month', 'YYYY_MM')
           FROM generate_series(0, 3) AS n",
    )
    .await;
    assert_eq!(months(&db).await, expected);
    assert!(texts(&db, "SELECT unnest(audit_store.create_audit_events_partition())").await.is_empty());
    let notes = trail(&db).await.ready().await.unwrap().notes.join("\n");
    assert!(notes.contains("partitions are there"), "{notes}");
}

// X-EDGE-113, X-EDGE-114, DEF-14: on the last days of a month and of a leap year's February; after a year without it.
#[tokio::test(flavor = "multi_thread")]
async fn the_job_makes_what_is_missing_on_any_day() {
    let db = migrated().await;
    assert_eq!(make(&db, "2028-02-29").await, ["2028_02", "2028_03", "2028_04", "2028_05"]);
    assert_eq!(make(&db, "2028-03-31").await, ["2028_06"]);
    assert!(make(&db, "2028-03-29").await.is_empty());
    assert_eq!(make(&db, "2028-04-30").await, ["2028_07"]);
    assert_eq!(make(&db, "2029-01-31").await, ["2029_01", "2029_02", "2029_03", "2029_04"]);
    assert_eq!(make(&db, "2030-12-31").await, ["2030_12", "2031_01", "2031_02", "2031_03"]);
    // A month that was lost in between comes back.
    db.execute("DROP TABLE audit_store.audit_events_2029_03").await.unwrap();
    assert_eq!(make(&db, "2029-01-30").await, ["2029_03"]);
    let client = db.client().await.unwrap();
    for day in ["NULL", "'infinity'", "'-infinity'", "'2099-01-01'", "'1969-12-31'"] {
        let sql = format!("SELECT audit_store.create_audit_events_partition({day})");
        let error = client.batch_execute(&sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "CO400", "{day}");
    }
}

// X-EDGE-115, DEF-14: tables of the same name in another schema, also one on the search path, are none of ours.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_same_name_elsewhere_are_ignored() {
    let db = migrated().await;
    db.execute(
        "CREATE SCHEMA other; CREATE TABLE other.audit_events (event_date date) PARTITION BY RANGE (event_date); \
         CREATE TABLE other.audit_events_2028_02 PARTITION OF other.audit_events FOR VALUES FROM ('2028-02-01') TO ('2028-03-01'); \
         CREATE TABLE public.audit_events_2028_03 (x int)",
    )
    .await
    .unwrap();
    let client = db.client().await.unwrap();
    client.batch_execute("SET search_path = other, public").await.unwrap();
    let rows = client
        .query("SELECT unnest(audit_store.create_audit_events_partition('2028-02-01'))", &[])
        .await
        .unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!(
        texts(&db, "SELECT tablename::text FROM pg_tables WHERE schemaname IN ('other', 'public')")
            .await
            .len(),
        3
    );
}

// S3-EDGE-010, S3-EDGE-012, S3-AUD-014, DEF-11: many at once make one month; nobody fails.
#[tokio::test(flavor = "multi_thread")]
async fn writers_and_jobs_that_make_one_month_at_once_all_succeed() {
    let db = migrated().await;
    let mut tasks = Vec::new();
    for number in 0..12 {
        let (url, shared) = (db.url().to_owned(), number % 2 == 0);
        tasks.push(tokio::spawn(async move {
            let settings = settings(&url).with("shared_commits", shared.to_string());
            let backend = open(settings).await;
            let trail = backend.audit(&scope(), &tenant(&format!("t{}", number % 3))).await.unwrap();
            trail.create(one(event_at(number, "2019-06-15T00:00:00Z"))).await.unwrap().stored
        }));
        let client = db.client().await.unwrap();
        tasks.push(tokio::spawn(async move {
            client
                .batch_execute("SELECT audit_store.create_audit_events_partition('2019-06-30')")
                .await
                .unwrap();
            1
        }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), 1);
    }
    let made: Vec<_> = months(&db).await.into_iter().filter(|month| month.starts_with("2019")).collect();
    assert_eq!(made, ["2019_06", "2019_07", "2019_08", "2019_09"]);
    let stored = texts(&db, "SELECT count(*)::text FROM audit_store.audit_events_2019_06").await;
    assert_eq!(stored, ["12"]);
}

// S3-AUD-013, S3-EDGE-015, DEF-15: partitions are made while writers write and readers read; nobody waits long or fails.
#[tokio::test(flavor = "multi_thread")]
async fn maintenance_fails_no_writer_and_waits_for_no_reader() {
    let db = migrated().await;
    let trail = trail(&db).await;
    trail.create(one(event(0))).await.unwrap();
    let reader = db.client().await.unwrap();
    reader.batch_execute("BEGIN; SELECT * FROM audit_store.audit_events").await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..6)
        .map(|_| {
            let (trail, stop) = (trail.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut written, mut longest) = (0, Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    let begin = std::time::Instant::now();
                    trail.create(one(linked(1, "c"))).await.unwrap();
                    longest = longest.max(begin.elapsed());
                    written += 1;
                }
                (written, longest)
            })
        })
        .collect();
    for year in 2000..2006 {
        for month in [1, 5, 9] {
            assert_eq!(make(&db, &format!("{year}-0{month}-28")).await.len(), 4);
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        let (written, longest) = writer.await.unwrap();
        assert!(written > 3 && longest < Duration::from_secs(5), "{written} written, {longest:?} at most");
    }
    reader.batch_execute("COMMIT").await.unwrap();

    // A writer that never ends is waited for within a bound, and is not harmed.
    let holder = db.client().await.unwrap();
    holder
        .batch_execute("BEGIN; SELECT pg_advisory_xact_lock(changeover.lock_key('audit', 'position'))")
        .await
        .unwrap();
    let client = db.client().await.unwrap();
    let begin = std::time::Instant::now();
    let refused = client
        .batch_execute("SELECT audit_store.create_audit_events_partition('2011-01-01')")
        .await
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "55P03");
    assert!(begin.elapsed() < Duration::from_secs(10));
    holder.batch_execute("COMMIT").await.unwrap();
}

// S3-AUD-011: what is made later is under the same rules as what was there.
#[tokio::test(flavor = "multi_thread")]
async fn new_partitions_have_row_security_triggers_rights_and_indexes() {
    let db = migrated().await;
    trail(&db).await.create(one(event_at(1, "2015-05-05T00:00:00Z"))).await.unwrap();
    let line = "SELECT concat_ws(' ', c.relrowsecurity, pg_get_userbyid(c.relowner), \
                  (SELECT string_agg(tgname, ',' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal), \
                  (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid), \
                  (SELECT count(*) FROM pg_index AS x JOIN pg_inherits AS i ON i.inhrelid = x.indexrelid WHERE x.indrelid = c.oid), \
                  (SELECT count(*) FROM pg_constraint WHERE conrelid = c.oid AND contype = 'f'), \
                  has_table_privilege('changeover_app', c.oid, 'SELECT'), \
                  has_table_privilege('changeover_app', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')) \
                FROM pg_class AS c WHERE c.oid = 'audit_store.audit_events_2015_05'::regclass";
    assert_eq!(texts(&db, line).await, ["t changeover_owner immutable,kept 1 12 1 t f"]);
}

// S3-AUD-003, S3-AUD-009, S0-ES-012: names, and a comment on everything.
#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_says_what_everything_is() {
    let db = migrated().await;
    let indexes = texts(
        &db,
        "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'audit_store' AND tablename = 'audit_events' ORDER BY 1",
    )
    .await;
    assert_eq!(
        indexes,
        [
            "audit_events_pkey",
            "idx_audit_events_actor",
            "idx_audit_events_chain",
            "idx_audit_events_correlation_id",
            "idx_audit_events_event_category",
            "idx_audit_events_event_data",
            "idx_audit_events_event_timestamp",
            "idx_audit_events_event_type",
            "idx_audit_events_parent",
            "idx_audit_events_resource",
            "idx_audit_events_sequence",
            "idx_audit_events_service_name",
        ]
    );
    let columns = texts(
        &db,
        "SELECT column_name::text FROM information_schema.columns
          WHERE table_schema = 'audit_store' AND table_name = 'audit_events' ORDER BY 1",
    )
    .await;
    for column in changeover_core::audit::COLUMNS {
        assert!(columns.iter().any(|found| found == column), "{column}");
    }
    let missing = texts(
        &db,
        "SELECT c.relname || '.' || a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
          WHERE c.relnamespace = 'audit_store'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0
            AND col_description(c.oid, a.attnum) IS NULL
         UNION ALL SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'audit_store'::regnamespace
            AND c.relkind IN ('r', 'p') AND obj_description(c.oid) IS NULL
         UNION ALL SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'audit_store'::regnamespace
            AND obj_description(p.oid) IS NULL",
    )
    .await;
    assert!(missing.is_empty(), "{missing:?}");
    let date = "INSERT INTO audit_store.audit_events (tenant_id, sequence, event_id, event_type, event_category, event_outcome, \
                  event_timestamp, event_date, service_name, actor_type, resource_type, resource_id, recorded_at, content_digest) \
                SELECT 'acme', 1, gen_random_uuid(), 't', 'c', 'success', now(), (now() AT TIME ZONE 'UTC')::date + n, 's', \
                  'user', 'r', 'i', now(), sha256('') FROM generate_series(1, 1) AS n";
    let client = db.client().await.unwrap();
    let refused = client.batch_execute(date).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "23514", "another date than the time's");
    client.batch_execute(&date.replace("(1, 1)", "(0, 0)")).await.unwrap();
}

// S3-EDGE-013, X-EDGE-117, A34, DEF-12: seconds around a month's end, whatever zone the session, server or day has.
#[rstest]
#[case("Asia/Kolkata")]
#[case("America/St_Johns")]
#[case("Pacific/Kiritimati")]
#[tokio::test(flavor = "multi_thread")]
async fn dates_are_in_utc_in_every_time_zone(#[case] zone: &str) {
    let db = migrated().await;
    db.execute(&format!("ALTER DATABASE {} SET timezone = '{zone}'", db.name())).await.unwrap();
    let trail = trail(&db).await;
    let events = [event_at(1, "2024-02-29T23:59:59Z"), event_at(2, "2024-03-01T00:00:01Z")];
    trail.create(all(&events)).await.unwrap();
    // The functions themselves, by a session that did not set UTC.
    let session = db.client().await.unwrap();
    let zoned = session.query_one("SHOW timezone", &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(zoned, zone);
    session
        .batch_execute(
            "SELECT * FROM audit_store.record('acme', true, '{1,1}', ARRAY[gen_random_uuid(), gen_random_uuid()], '{t,t}', '{c,c}', \
               '{success,success}', '{2024-01-31T23:59:59Z,2024-02-01T00:00:01Z}', '{s,s}', '{NULL,NULL}', '{user,user}', \
               '{NULL,NULL}', '{NULL,NULL}', '{r,r}', '{i,i}', '{NULL,NULL}', ARRAY['{\"n\":3}', '{\"n\":4}']::jsonb[], \
               '{NULL,NULL}', '{NULL,NULL}', '{NULL,NULL}', '{NULL,NULL}', ARRAY['{}', '{}']::jsonb[], \
               ARRAY[sha256('a'), sha256('b')])",
        )
        .await
        .unwrap();
    for (month, count, date) in
        [("2024_01", 1, "2024-01-31"), ("2024_02", 2, "2024-02-01 2024-02-29"), ("2024_03", 1, "2024-03-01")]
    {
        let sql = format!(
            "SELECT string_agg(event_date::text, ' ' ORDER BY event_date) || ' ' || count(*) FROM audit_store.audit_events_{month}"
        );
        assert_eq!(texts(&db, &sql).await, [format!("{date} {count}")]);
    }
    let march = AuditFilter { start: Some(at("2024-03-01T00:00:00Z")), ..AuditFilter::default() };
    assert_eq!(trail.count(march).await.unwrap(), 1);
    let sql =
        "SELECT audit_store.month_of('2024-03-01')::text || ' ' || audit_store.month_of('2024-03-31')::text";
    assert_eq!(session.query_one(sql, &[]).await.unwrap().get::<_, String>(0), "2024-03-01 2024-03-01");
    let read: Vec<Timestamp> =
        recorded(&*trail).await.iter().map(|event| event.event.event_timestamp).collect();
    assert_eq!(read[..2], [at("2024-02-29T23:59:59Z"), at("2024-03-01T00:00:01Z")]);
}

// A41, S3-AUD-025, S3-PERF-007: at 100,000 events every query is by index and looks at the months of its range only.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_events_cost_look_ups_only() {
    let db = migrated().await;
    let session = db.client().await.unwrap();
    for month in ["2023-01-01", "2023-05-01", "2023-09-01", "2024-01-01"] {
        make(&db, month).await;
    }
    session
        .batch_execute(
            "SET changeover.tenant_id = 'acme'; \
             INSERT INTO audit_store.audit_event_id \
               SELECT 'acme', md5('e' || n)::uuid, '2023-01-01'::date + n % 400, sha256('') FROM generate_series(1, 100000) AS n; \
             INSERT INTO audit_store.audit_events (tenant_id, sequence, event_id, event_type, event_category, event_outcome, \
                 event_timestamp, event_date, service_name, actor_type, actor_id, resource_type, resource_id, correlation_id, \
                 recorded_at, content_digest) \
               SELECT 'acme', n, md5('e' || n)::uuid, 't' || n % 50, 'c' || n % 50, 'success', \
                 '2023-01-01 12:00:00+00'::timestamptz + n % 400 * interval '1 day', '2023-01-01'::date + n % 400, \
                 's' || n % 50, 'user', 'a' || n % 500, 'r', 'i' || n % 500, 'x' || n % 1000, now(), sha256('') \
               FROM generate_series(1, 100000) AS n; \
             INSERT INTO audit_store.audit_head VALUES ('acme', 200000, now()); \
             ANALYZE audit_store.audit_events; ANALYZE audit_store.audit_event_id",
        )
        .await
        .unwrap();
    session.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    let base = |values: &str, range: &str, order: &str| {
        format!("SELECT * FROM audit_store.query('acme', '{{{values}}}', {range}, '{order}', 20)")
    };
    let no_values = "NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL";
    let march = "'2023-03-01T00:00:00Z', '2023-04-01T00:00:00Z'";
    // Of the twentieth type (category, service) there are 250 events in March, all of one time: their ids decide.
    let calls = [
        (base(no_values, "NULL, NULL", "newest"), 20, 300),
        (base(no_values, "NULL, NULL", "oldest"), 20, 300),
        (base(no_values, "NULL, NULL", "recorded"), 20, 300),
        (base(no_values, march, "newest"), 1, 100),
        (base(no_values, "'2023-03-30T00:00:00Z', '2023-04-02T00:00:00Z'", "oldest"), 2, 100),
        (base("t20,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL", march, "newest"), 1, 300),
        (base("t7,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL", "NULL, NULL", "newest"), 20, 600),
        (base("NULL,c20,NULL,NULL,NULL,NULL,NULL,NULL,NULL", march, "newest"), 1, 300),
        (base("NULL,NULL,NULL,s20,NULL,NULL,NULL,NULL,NULL", march, "oldest"), 1, 300),
        (base("NULL,NULL,NULL,NULL,NULL,a7,NULL,NULL,NULL", "NULL, NULL", "newest"), 20, 600),
        (base("NULL,NULL,NULL,NULL,NULL,NULL,r,i7,NULL", "NULL, NULL", "newest"), 20, 600),
        (base("NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,x7", "NULL, NULL", "newest"), 20, 300),
        (base("NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,x7", "NULL, NULL", "recorded"), 20, 300),
        ("SELECT * FROM audit_store.get('acme', md5('e77777')::uuid)".to_owned(), 1, 10),
        ("SELECT * FROM audit_store.get('acme', md5('nobody')::uuid)".to_owned(), 0, 10),
        ("SELECT * FROM audit_store.read_chain('acme', 'x7', 0, 500)".to_owned(), 20, 300),
        (
            format!("SELECT audit_store.count('acme', '{{t20,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL}}', {march})"),
            1,
            300,
        ),
        (
            "SELECT * FROM audit_store.record('acme', true, '{1}', ARRAY[gen_random_uuid()], '{t}', '{c}', '{success}', \
               '{2023-03-03T00:00:00Z}', '{s}', '{NULL}', '{user}', '{NULL}', '{NULL}', '{r}', '{i}', '{NULL}', \
               ARRAY['{}']::jsonb[], '{x7}', ARRAY[md5('e77777')::uuid], '{NULL}', '{NULL}', ARRAY['{}']::jsonb[], \
               ARRAY[sha256('a')])"
                .to_owned(),
            // The scans of the last table are of its index; an insert needs none.
            0,
            20,
        ),
    ];
    for (call, months, rows) in &calls {
        session.batch_execute("BEGIN").await.unwrap();
        let found = session.query(call, &[]).await.unwrap();
        assert!(!found.is_empty() || call.contains("nobody"), "nothing is found: {call}");
        let counted = session
            .query_one(
                "SELECT coalesce(sum(seq_scan), 0)::bigint, coalesce(sum(idx_tup_fetch), 0)::bigint, \
                        count(*) FILTER (WHERE relname LIKE 'audit\\_events\\_%' AND idx_scan > 0) \
                   FROM pg_stat_xact_user_tables WHERE schemaname = 'audit_store'",
                &[],
            )
            .await
            .unwrap();
        // Else the next transaction's figures have these in them as well.
        session.batch_execute("SELECT pg_stat_force_next_flush(); COMMIT").await.unwrap();
        let (whole, fetched, touched): (i64, i64, i64) = (counted.get(0), counted.get(1), counted.get(2));
        assert!(
            whole == 0 && fetched <= *rows && touched <= *months,
            "{whole} sequential scans, {fetched} rows fetched, {touched} months: {call}"
        );
    }

    // S3-PERF-007: the plan of a query with a time range names that month alone.
    let explained = session
        .query(
            "EXPLAIN SELECT * FROM audit_store.audit_events AS e WHERE e.tenant_id = 'acme' \
               AND e.event_timestamp >= '2023-03-01T00:00:00Z' AND e.event_date >= '2023-03-01' \
               AND e.event_timestamp < '2023-03-31T00:00:00Z' AND e.event_date <= '2023-03-31' \
             ORDER BY e.event_timestamp DESC, e.event_id LIMIT 20",
            &[],
        )
        .await
        .unwrap();
    let plan: Vec<String> = explained.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(plan.contains("Index") && plan.contains("audit_events_2023_03"), "{plan}");
    assert!(!plan.contains("audit_events_2023_02") && !plan.contains("Seq Scan"), "{plan}");
}

// S3-EDGE-012, S3-AUD-014: what an operator sees where months are missing, and that nothing depends on them.
#[tokio::test(flavor = "multi_thread")]
async fn missing_months_are_told_of_and_made_when_needed() {
    let db = migrated().await;
    let backend = open(settings(db.url())).await;
    let trail = backend.audit(&scope(), &tenant("acme")).await.unwrap();
    let checks = backend.check().await;
    assert!(checks.iter().all(|check| check.ok), "{checks:?}");
    let of_trail: Vec<_> = checks.iter().filter(|check| check.name.ends_with(" of audit_store")).collect();
    assert_eq!(of_trail.len(), 3, "{checks:?}");
    let this_month = months(&db).await[0].clone();
    db.execute(&format!("DROP TABLE audit_store.audit_events_{this_month}")).await.unwrap();
    let notes = trail.ready().await.unwrap().notes.join("\n");
    assert!(notes.contains(&this_month.replace('_', "-")), "{notes}");
    let partitions =
        backend.check().await.into_iter().find(|check| check.name == "partitions of audit_store").unwrap();
    assert!(!partitions.ok && partitions.detail.contains("create_audit_events_partition"), "{partitions:?}");
    trail.create(one(event(1))).await.unwrap();
    assert_eq!(months(&db).await[0], this_month);

    db.execute("GRANT INSERT ON audit_store.audit_events TO changeover_app").await.unwrap();
    let rights =
        backend.check().await.into_iter().find(|check| check.name == "rights of audit_store").unwrap();
    assert!(!rights.ok && rights.detail.contains("audit_events"), "{rights:?}");
}

// S3-AUD-004: what the columns refuse when somebody gets past the values of the core.
#[tokio::test(flavor = "multi_thread")]
async fn lengths_and_words_are_held_by_the_table() {
    let db = migrated().await;
    let trail = trail(&db).await;
    let long: String = "é".repeat(100);
    trail.create(one(NewAuditEvent { event_type: text(&long), ..event(1) })).await.unwrap();
    let client = db.client().await.unwrap();
    client.batch_execute("SET session_replication_role = replica").await.unwrap();
    for change in [
        "event_type = repeat('é', 101)",
        "event_type = ''",
        "event_category = repeat('x', 51)",
        "event_outcome = 'Success'",
        "service_name = repeat('x', 101)",
        "service_version = repeat('x', 51)",
        "actor_type = 'robot'",
        "actor_id = repeat('x', 256)",
        "actor_name = repeat('x', 256)",
        "resource_type = repeat('x', 101)",
        "resource_id = repeat('x', 256)",
        "resource_name = repeat('x', 256)",
        "correlation_id = repeat('x', 256)",
        "trace_id = repeat('x', 256)",
        "span_id = repeat('x', 256)",
        "event_data = '[]'",
        "event_data = NULL",
        "metadata = '1'",
        "content_digest = ''",
        "chain_link = sha256('')",
        "parent_event_id = event_id",
    ] {
        let error =
            client.batch_execute(&format!("UPDATE audit_store.audit_events SET {change}")).await.unwrap_err();
        let code = error.code().unwrap().code();
        assert!(code == "23514" || code == "23502", "{change}: {code}");
    }
    let limited =
        AuditQuery { order: AuditOrder::OldestFirst, limit: Limit::new(1).unwrap(), ..AuditQuery::default() };
    assert_eq!(numbers(&trail.query(limited).await.unwrap().events), [1]);
    assert_eq!(trail.verify(common::audit::chain("x")).await.unwrap().events, 0);
    assert_eq!(
        trail.create(changeover_core::audit::Create { events: vec![] }).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

// S0-MIG-018: the init scripts of both families run together by their names, and again; the program takes the result.
#[tokio::test(flavor = "multi_thread")]
async fn init_scripts_can_be_run_together_and_twice() {
    use changeover_core::backend::Family;
    let db = TestDatabase::empty().await.unwrap();
    let of = [Family::Events, Family::Audit].map(changeover_postgres::init_scripts);
    let scripts: std::collections::BTreeMap<_, _> = of.into_iter().flatten().collect();
    for (name, text) in scripts.iter().chain(&scripts) {
        db.execute(text).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let backend = open(settings(db.url())).await;
    assert!(backend.migrations(&scope(), Family::Audit).unwrap().up().await.unwrap().is_empty());
    assert!(backend.claim(&scope()).await.unwrap());
    backend.audit(&scope(), &tenant("acme")).await.unwrap().ready().await.unwrap();
}
