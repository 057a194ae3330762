//! What the catalogue's tables are and refuse, whoever writes.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod catalog;

use changeover_core::ErrorKind;
use changeover_core::backend::Family;
use changeover_core::playbooks::{GetPlaybook, ListPlaybooks, Lookup, PlaybookVersion, VersionsOf};
use changeover_postgres::init_scripts;
use changeover_testkit::TestDatabase;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use catalog::{catalog, catalog_of, code, id, migrated, open, playbook, put, scope, version};

async fn texts(db: &TestDatabase, sql: &str) -> Vec<String> {
    db.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A row by hand; each test replaces what it is about.
const ROW: &str = "INSERT INTO playbook_store.playbook_catalog (playbook_id, version, name, description, content) \
                   VALUES ('a', 'v1.0.0', 'A', 'about a', 'text')";

// S3-PB-001, S3-PB-007, S3-PB-009
#[tokio::test(flavor = "multi_thread")]
async fn the_table_has_its_columns_indexes_and_comments() {
    let db = migrated().await;
    let columns = texts(
        &db,
        "SELECT attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' not null' ELSE '' END
           FROM pg_attribute
          WHERE attrelid = 'playbook_store.playbook_catalog'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    )
    .await;
    let wanted = [
        "tenant_id text not null",
        "playbook_id text not null",
        "version text not null",
        "version_key text",
        "name text not null",
        "description text not null",
        "owner text",
        "maintainer text",
        "content text not null",
        "content_hash text not null",
        "labels jsonb not null",
        "embedding vector(384)",
        "status text not null",
        "disabled_at timestamp with time zone",
        "disabled_by text",
        "disabled_reason text",
        "is_latest_version boolean not null",
        "previous_version text",
        "deprecation_notice text",
        "version_notes text",
        "change_summary text",
        "approved_by text",
        "approved_at timestamp with time zone",
        "expected_success_rate numeric",
        "expected_duration_seconds bigint",
        "actual_success_rate numeric",
        "total_executions bigint not null",
        "successful_executions bigint not null",
        "created_at timestamp with time zone not null",
        "created_by text",
        "updated_at timestamp with time zone not null",
        "updated_by text",
    ];
    assert_eq!(columns, wanted);
    let indexes = texts(
        &db,
        "SELECT regexp_replace(indexdef, '^CREATE (UNIQUE )?INDEX .* USING ', '\\1') FROM pg_indexes
          WHERE schemaname = 'playbook_store' ORDER BY indexname",
    )
    .await;
    assert_eq!(
        indexes,
        [
            "btree (tenant_id, created_at DESC)",
            "hnsw (embedding vector_cosine_ops) WITH (m='16', ef_construction='64') WHERE (is_latest_version AND (status = 'active'::text))",
            "gin (labels jsonb_path_ops) WHERE is_latest_version",
            "UNIQUE btree (tenant_id, playbook_id) WHERE is_latest_version",
            "UNIQUE btree (tenant_id, playbook_id, version)",
            "btree (tenant_id, status)",
            "btree (tenant_id, actual_success_rate DESC) WHERE (actual_success_rate IS NOT NULL)",
            "btree (tenant_id, playbook_id, version_key)",
            "btree (tenant_id, playbook_id) WHERE (is_latest_version AND (status = 'active'::text) AND (embedding IS NULL))",
        ]
    );
    let comments = texts(
        &db,
        "SELECT coalesce(col_description(attrelid, attnum), 'none for ' || attname) FROM pg_attribute
          WHERE attrelid = 'playbook_store.playbook_catalog'::regclass AND attnum > 0",
    )
    .await;
    assert!(comments.iter().all(|comment| !comment.starts_with("none")), "{comments:?}");
    assert!(comments.iter().any(|comment| comment.contains("384 numbers")), "{comments:?}");
    assert!(comments.iter().any(|comment| comment.contains("\"severity\"")), "{comments:?}");
    let bare = "SELECT oid::regprocedure::text FROM pg_proc
                 WHERE pronamespace = 'playbook_store'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL";
    assert_eq!(texts(&db, bare).await, Vec::<String>::new());
}

// S3-PB-002 to S3-PB-005, DEF-22, DEF-23, X-EDGE-069, X-EDGE-073: bad rows are refused by the table itself.
#[tokio::test(flavor = "multi_thread")]
async fn rows_by_hand_are_held_to_the_rules() {
    let db = migrated().await;
    let client = db.client().await.unwrap();
    assert_eq!(code(&client, ROW).await, "CO400", "no tenant");
    client.batch_execute("SET ROLE changeover_owner; SET changeover.tenant_id = 'acme'").await.unwrap();
    client.batch_execute(ROW).await.unwrap();
    let with = |column: &str, value: &str| {
        ROW.replace("content)", &format!("content, {column})"))
            .replace("'text')", &format!("'text', {value})"))
            .replace("'v1.0.0'", "'v2.0.0'")
    };
    for (column, value) in [
        ("status", "'gone'"),
        ("expected_success_rate", "1.001"),
        ("expected_success_rate", "0.1234"),
        ("actual_success_rate", "-0.001"),
        ("actual_success_rate", "'NaN'"),
        ("total_executions", "-1"),
        ("successful_executions", "1"),
        ("content_hash", "repeat('0', 64)"),
        ("labels", "'[]'"),
        ("labels", "'{\"a\": 1}'"),
        ("labels", "'{\"a\": [\"x\"]}'"),
        ("labels", "'{\"a\": null}'"),
        ("labels", "'{\"\": \"x\"}'"),
        ("labels", "jsonb_build_object('a', repeat('x', 256))"),
        ("labels", "(SELECT jsonb_object_agg('k' || n, '') FROM generate_series(1, 101) AS n)"),
        ("previous_version", "'1.0'"),
        ("expected_duration_seconds", "-1"),
        ("created_at", "'infinity'"),
        ("approved_at", "'0001-01-01 00:00:00 BC'"),
        ("disabled_by", "'somebody'"),
        ("owner", "''"),
    ] {
        assert_eq!(code(&client, &with(column, value)).await, "23514", "{column} {value}");
    }
    assert_eq!(code(&client, &with("total_executions", "NULL")).await, "23502");
    assert_eq!(code(&client, &with("embedding", "'[1,2]'")).await, "22000", "a vector of another size");
    assert_eq!(code(&client, &with("version_key", "'x'")).await, "428C9");
    assert_eq!(code(&client, &with("tenant_id", "'other'")).await, "42501", "row security");
    for bad in [
        "''",
        "'latest'",
        "'1.2'",
        "'v1.2.3.4'",
        "'01.2.3'",
        "'1.2.3-01'",
        "'1.2.3 '",
        "'18446744073709551616.0.0'",
    ] {
        assert_eq!(code(&client, &ROW.replace("'v1.0.0'", bad)).await, "23514", "{bad}");
    }

    client.batch_execute(&with("is_latest_version", "true")).await.unwrap();
    let second = with("is_latest_version", "true").replace("v2.0.0", "v3.0.0");
    assert_eq!(code(&client, &second).await, "23505");
    assert_eq!(
        code(&client, "UPDATE playbook_store.playbook_catalog SET is_latest_version = true").await,
        "23505"
    );
    let found =
        catalog(&db).await.get(GetPlaybook { playbook_id: id("a"), which: Lookup::Latest }).await.unwrap();
    assert_eq!(found.unwrap().playbook.version, version("v2.0.0"));
}

// S3-PB-006, S3-PB-008, X-EDGE-118: what a version says never changes, whoever asks; its lifecycle does.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_version_says_never_changes() {
    let db = migrated().await;
    let catalog = catalog(&db).await;
    catalog.put(put([playbook("a", "v1.0.0")])).await.unwrap();
    let client = db.client().await.unwrap();
    for role in
        ["RESET ROLE", "SET ROLE changeover_owner", "SET ROLE changeover_app", "SET ROLE changeover_copier"]
    {
        client.batch_execute(&format!("SET changeover.tenant_id = 'acme'; {role}")).await.unwrap();
        let writes = !role.contains("_app") && !role.contains("_copier");
        for change in [
            "tenant_id = 'b'",
            "playbook_id = 'b'",
            "version = 'v2.0.0'",
            "name = 'b'",
            "description = 'b'",
            "content = 'b'",
            "content = 'b', content_hash = encode(sha256('b'), 'hex')",
            "content_hash = NULL",
            "labels = '{\"a\": \"b\"}'",
            "created_at = now()",
            "created_by = 'b'",
        ] {
            let sql = format!("UPDATE playbook_store.playbook_catalog SET {change}");
            assert_eq!(code(&client, &sql).await, if writes { "COIMM" } else { "42501" }, "{role}: {change}");
        }
        for sql in ["DELETE FROM playbook_store.playbook_catalog", "TRUNCATE playbook_store.playbook_catalog"]
        {
            assert_eq!(code(&client, sql).await, if writes { "COIMM" } else { "42501" }, "{role}: {sql}");
        }
        let insert = ROW.replace("'a'", "'b'");
        if !writes {
            assert_eq!(code(&client, &insert).await, "42501", "{role}");
        }
    }
    let before =
        catalog.get(GetPlaybook { playbook_id: id("a"), which: Lookup::Latest }).await.unwrap().unwrap();
    client
        .batch_execute(
            "SET ROLE changeover_owner;
             UPDATE playbook_store.playbook_catalog SET status = 'disabled', disabled_reason = 'broken', updated_at = '2000-01-01'",
        )
        .await
        .unwrap();
    let after =
        catalog.get(GetPlaybook { playbook_id: id("a"), which: Lookup::Latest }).await.unwrap().unwrap();
    assert!(after.updated_at > before.updated_at);
    assert_eq!(after.disabled, Some((after.updated_at, None, Some("broken".to_owned()))));
    let active = GetPlaybook { playbook_id: id("a"), which: Lookup::LatestActive };
    assert_eq!(catalog.get(active).await.unwrap(), None);
}

// S2-TEN-004, S2-TEN-005, S2-TEN-008, DEF-38: row security is forced; no tenant is shown another's rows.
#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_sees_its_own_rows_only() {
    let db = migrated().await;
    let hostile = "o'brien; DROP TABLE x --\n{\"a\"}";
    for tenant in ["acme", hostile] {
        let catalog = catalog_of(&db, tenant).await;
        catalog.put(put([playbook("a", "v1.0.0")])).await.unwrap();
        assert_eq!(catalog.list(ListPlaybooks::default()).await.unwrap().playbooks.len(), 1, "{tenant}");
    }
    let client = db.client().await.unwrap();
    let count = async |before: &str| -> i64 {
        client.batch_execute(before).await.unwrap();
        client.query_one("SELECT count(*) FROM playbook_store.playbook_catalog", &[]).await.unwrap().get(0)
    };
    for role in ["changeover_owner", "changeover_app"] {
        assert_eq!(count(&format!("RESET ALL; SET ROLE {role}")).await, 0, "{role}, unset");
        assert_eq!(count("SET changeover.tenant_id = ''").await, 0, "{role}, empty");
        assert_eq!(count("SET changeover.tenant_id = 'ACME'").await, 0, "{role}, another");
        assert_eq!(count("SET changeover.tenant_id = 'acme'").await, 1, "{role}");
        // Labels asked for only ever take rows away.
        assert_eq!(count("SET changeover.labels = '{\"a\": \"b\"}'").await, 0, "{role}, labels");
        client.batch_execute("RESET changeover.labels").await.unwrap();
    }
    // A cutover compares the rows of all, by way of the owner alone.
    assert_eq!(count("RESET ALL; SET ROLE changeover_owner; SET ROLE changeover_copier").await, 2);
    let inherits = "SELECT pg_has_role('changeover_owner', 'changeover_copier', 'USAGE') OR pg_has_role('changeover_app', 'changeover_copier', 'MEMBER')";
    assert!(!db.query(inherits, &[]).await.unwrap()[0].get::<_, bool>(0));
    let forced = "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = 'playbook_store.playbook_catalog'::regclass";
    assert!(db.query(forced, &[]).await.unwrap()[0].get::<_, bool>(0));
    client.batch_execute("SET ROLE changeover_app; SET changeover.tenant_id = 'acme'").await.unwrap();
    assert_eq!(code(&client, "SELECT * FROM playbook_store.list('other', '{}', NULL, '', 5)").await, "CO400");
}

// S3-PB-011, DEF-24, X-EDGE-071: the database orders versions as core does, and takes the same texts for versions.
#[tokio::test(flavor = "multi_thread")]
async fn versions_are_ordered_in_sql_as_in_core() {
    let db = migrated().await;
    let number = prop_oneof!["0|[1-9]", "[1-9][0-9]{1,3}", Just("18446744073709551615".to_owned())];
    let part = prop_oneof!["0|[1-9][0-9]{0,2}", "[0-9A-Za-z-]{1,4}", "[a-c]-?", Just("1".repeat(40))];
    let parts = || prop::collection::vec(part.clone(), 1..4).prop_map(|parts| parts.join("."));
    let text = (
        prop_oneof![4 => Just(""), 4 => Just("v"), 1 => Just("V"), 1 => Just(" ")],
        prop::collection::vec(number, 3),
        prop::option::of(parts()),
        prop::option::weighted(0.3, parts()),
    )
        .prop_map(|(v, numbers, pre, build)| {
            let pre = pre.map(|pre| format!("-{pre}")).unwrap_or_default();
            let build = build.map(|build| format!("+{build}")).unwrap_or_default();
            format!("{v}{}{pre}{build}", numbers.join("."))
        });
    let mut runner = TestRunner::default();
    let mut given: Vec<String> = (0..5_000).map(|_| text.new_tree(&mut runner).unwrap().current()).collect();
    given.extend(
        [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "v1.0.0",
        ]
        .map(str::to_owned),
    );
    given.extend(
        ["", "v", "1.2", "1.2.3-", "1.2.3+", "1.2.3\n", "1.2.3-a..b", "١.2.3", "1.2.3-é"].map(str::to_owned),
    );
    given.extend([
        format!("1.0.0-{}", "a".repeat(249)),
        format!("1.0.0-{}", "a".repeat(250)),
        format!("1.0.0-{}", "1.".repeat(124) + "1"),
    ]);

    let mut expected: Vec<_> =
        given.iter().filter_map(|text| PlaybookVersion::new(text.as_str()).ok()).collect();
    expected.sort();
    let rows = db
        .query(
            "SELECT v FROM unnest($1::text[]) AS v WHERE playbook_store.version_key(v) IS NOT NULL
              ORDER BY playbook_store.version_key(v) COLLATE \"C\", v COLLATE \"C\"",
            &[&given],
        )
        .await
        .unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let expected: Vec<_> = expected.iter().map(PlaybookVersion::as_str).collect();
    assert!(found.len() > 2_000, "{}", found.len());
    assert_eq!(found, expected);
}

// S3-PB-011, P10: versions entered by hand come highest first, in pages.
#[tokio::test(flavor = "multi_thread")]
async fn versions_by_hand_are_listed_by_meaning() {
    let db = migrated().await;
    let client = db.client().await.unwrap();
    client.batch_execute("SET changeover.tenant_id = 'acme'").await.unwrap();
    for text in ["v1.9.0", "v1.10.0-rc.1", "1.10.0", "v1.10.0", "v1.2.0", "v1.10.0+b"] {
        client.batch_execute(&ROW.replace("v1.0.0", text)).await.unwrap();
    }
    let catalog = catalog(&db).await;
    let mut request =
        VersionsOf { playbook_id: id("a"), below: None, limit: changeover_core::Limit::new(2).unwrap() };
    let mut found = Vec::new();
    loop {
        let page = catalog.versions(request.clone()).await.unwrap();
        found.extend(page.playbooks.iter().map(|it| it.playbook.version.to_string()));
        request.below = page.playbooks.last().map(|it| it.playbook.version.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!(found, ["v1.10.0+b", "v1.10.0", "1.10.0", "v1.10.0-rc.1", "v1.9.0", "v1.2.0"]);
    request.below = Some(version("0.0.1"));
    assert!(catalog.versions(request.clone()).await.unwrap().playbooks.is_empty());
    request.playbook_id = id("b");
    assert_eq!(catalog.versions(request).await.unwrap_err().kind(), ErrorKind::NotFound);
}

// S3-MIG-011, X-EDGE-116: without pgvector the message says what to do, and other modules are not touched.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_pgvector_is_told_of() {
    let db = TestDatabase::empty().await.unwrap();
    let scripts = init_scripts(Family::Playbooks);
    let client = db.client().await.unwrap();
    let own = scripts.iter().position(|(name, _)| name.contains("playbooks_0001")).unwrap();
    for (_, shared) in &scripts[..own] {
        client.batch_execute(shared).await.unwrap();
    }
    let catalog = &scripts[own].1;
    let absent = catalog.replace("'vector'", "'no_such_vector'");
    let error = client.batch_execute(&absent).await.unwrap_err();
    let said = error.as_db_error().unwrap();
    assert_eq!(said.code().code(), "42704");
    assert!(said.message().contains("does not offer the extension"), "{said:?}");
    assert!(said.hint().unwrap().contains("Install pgvector 0.8"), "{said:?}");

    // Offered, but not to this login.
    let login = format!("CREATE ROLE {0} LOGIN; GRANT CREATE ON DATABASE {0} TO {0}", db.name());
    db.execute(&login).await.unwrap();
    client.batch_execute(&format!("SET ROLE {}", db.name())).await.unwrap();
    let error = client.batch_execute(catalog).await.unwrap_err();
    let said = error.as_db_error().unwrap();
    assert_eq!(said.code().code(), "42501");
    assert!(said.hint().unwrap().contains("CREATE EXTENSION vector"), "{said:?}");
    client.batch_execute(&format!("RESET ROLE; DROP OWNED BY {0}; DROP ROLE {0}", db.name())).await.unwrap();

    let events = changeover_core::ModuleScope {
        module: changeover_core::ModuleName::new("events").unwrap(),
        namespace: None,
    };
    let backend = open(&db).await;
    backend.migrations(&events, Family::Events).unwrap().up().await.unwrap();
    let checks = backend.check().await;
    let line = checks.iter().find(|check| check.name == "pgvector").unwrap();
    assert!(line.ok && line.detail.contains("not installed"), "{line:?}");
    backend.migrations(&scope(), Family::Playbooks).unwrap().up().await.unwrap();
    let checks = backend.check().await;
    let line = checks.iter().find(|check| check.name == "pgvector").unwrap();
    assert!(line.ok && line.detail.starts_with("0."), "{line:?}");
}

// S0-MIG-018, X-EDGE-089: the scripts run twice without an error.
#[tokio::test(flavor = "multi_thread")]
async fn the_init_scripts_run_twice() {
    let db = TestDatabase::empty().await.unwrap();
    let client = db.client().await.unwrap();
    for _ in 0..2 {
        for (name, script) in init_scripts(Family::Playbooks) {
            assert_eq!(code(&client, &script).await, "", "{name}");
        }
    }
    let backend = open(&db).await;
    assert!(backend.migrations(&scope(), Family::Playbooks).unwrap().up().await.unwrap().is_empty());
}
