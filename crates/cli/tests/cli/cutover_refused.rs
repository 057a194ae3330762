//! What a cutover refuses before it touches anything.

use changeover_testkit::TestDatabase;

use crate::common::Home;
use crate::cutover::with_real_streams;

/// Neither store has a trace of a run.
async fn untouched(db: &TestDatabase, home: &Home, rows: i64) {
    assert_eq!(home.sqlite_number("SELECT count(*) FROM sqlite_master WHERE name LIKE '__cut%'"), 0);
    for (table, rows) in [("cutover.run", 0), ("cutover.record", 0), ("event_store.event_stream", rows)] {
        let found = db.query(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap();
        assert_eq!(found[0].get::<_, i64>(0), rows, "{table}");
    }
}

#[tokio::test]
async fn a_target_that_holds_rows_is_refused() {
    let (db, home) = with_real_streams().await;
    db.execute(
        "INSERT INTO event_store.event_stream (tenant_id, stream_id, aggregate_type, aggregate_id, created_at, version) \
         VALUES ('default', gen_random_uuid(), 'Order', gen_random_uuid(), now(), 0)",
    )
    .await
    .unwrap();
    for command in ["plan", "run"] {
        let ran = home.run(&["cutover", command, "events"]);
        assert_eq!(ran.status, 3, "{ran:?}");
        assert!(format!("{}{}", ran.out, ran.err).contains("holds rows"), "{ran:?}");
    }
    untouched(&db, &home, 1).await;
}

#[tokio::test]
async fn a_file_that_changed_since_its_plan_is_refused() {
    let (db, home) = with_real_streams().await;
    home.ok(&["cutover", "plan", "events", "--out", "plan.json"]);
    home.sqlite("ALTER TABLE domain_event ADD COLUMN color TEXT");
    let ran = home.run(&["cutover", "run", "events", "--plan", "plan.json"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(
        ran.err.contains("plan again, nothing was touched") && ran.err.contains("schema was"),
        "{}",
        ran.err
    );
    untouched(&db, &home, 0).await;
    let plan = home.run(&["cutover", "plan", "events", "--plan", "plan.json"]);
    assert_eq!(plan.status, 3, "a column that nobody declared: {plan:?}");
    assert!(plan.out.contains("since the earlier plan: schema was"), "{}", plan.out);
    // Its loss can be accepted by name.
    home.ok(&["cutover", "plan", "events", "--accept", "undeclared_columns"]);
    untouched(&db, &home, 0).await;
}

#[tokio::test]
async fn declarations_that_do_not_fit_are_refused() {
    let (db, home) = with_real_streams().await;
    home.write(
        "other.toml",
        r#"
        [[table]]
        name = "event_stream"
        target = "event_store.event_stream"
        key = ["stream_id"]
        columns = [{ name = "stream_id", type = "uuid" }, { name = "color", type = "text", max = 10 }]
        "#,
    );
    for command in ["plan", "run"] {
        let ran = home.run(&["cutover", command, "events", "--tables", "other.toml"]);
        assert_eq!(ran.status, 3, "{ran:?}");
        assert!(format!("{}{}", ran.out, ran.err).contains("color"), "{ran:?}");
    }
    home.write("wrong.toml", "[[table]]\nname = 1");
    assert_eq!(home.run(&["cutover", "run", "events", "--tables", "wrong.toml"]).status, 2);
    untouched(&db, &home, 0).await;
}

#[tokio::test]
async fn a_module_that_never_moved_has_nothing_to_give_up_revert_or_report() {
    let (db, home) = with_real_streams().await;
    for command in [
        &["abort", "events"][..],
        &["revert", "events"],
        &["finalize", "events"],
        &["verify", "events"],
        &["report", "events", "--out", "evidence"],
        &["quarantine", "show", "events", "1"],
    ] {
        let ran = home.run(&[&["cutover"], command].concat());
        assert_eq!((ran.status, ran.out.as_str()), (3, ""), "{command:?}: {ran:?}");
    }
    assert!(!home.path().join("evidence").exists());
    untouched(&db, &home, 0).await;
}

#[test]
fn a_file_that_is_missing_is_not_made() {
    let home = Home::between("postgres://me@127.0.0.1:9/app");
    let ran = home.run(&["cutover", "status", "events", "--old", "local", "--new", "local"]);
    assert_ne!(ran.status, 0, "{ran:?}");
    assert!(!home.path().join("var").exists());
}

#[test]
fn settings_without_two_stores_are_told_what_is_missing() {
    let home = Home::new();
    home.ok(&["events", "export"]);
    let ran = home.run(&["cutover", "plan", "events"]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.err.contains("no backend that module events could be moved to"), "{}", ran.err);
    let ran = home.run(&["cutover", "plan", "events", "--new", "nowhere"]);
    assert_eq!(ran.status, 2, "{ran:?}");
}
