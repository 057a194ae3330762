//! Every sort of module can be moved by command: ours, one of the user's own with our tables, and tables of the user's own.

use changeover_testkit::TestDatabase;

use crate::common::{Home, line, real_data, real_streams};

/// What a module's exports tell, in a file and, after the move, in PostgreSQL.
fn moves(home: &Home, module: &str, stores: &[&str]) {
    let export = |store: &&str| home.ok(&[store, "export", "--module", module]).out;
    let before: Vec<_> = stores.iter().map(export).collect();
    assert!(before.iter().all(|text| !text.is_empty()));
    home.ok(&["cutover", "plan", module]);
    home.ok(&["cutover", "run", module]);
    assert_eq!(stores.iter().map(export).collect::<Vec<_>>(), before, "{module}");
    home.ok(&["cutover", "report", module, "--out", module]);
}

pub async fn on_both(modules: &[&[&str]]) -> (TestDatabase, Home) {
    let db = TestDatabase::empty().await.unwrap();
    let home = Home::between(db.url()).with("CHANGEOVER_PERSISTENCE__ORDERS", "local");
    for module in modules {
        home.ok(&[&["migrate", "up", "--backend", "main", "--module"], *module].concat());
    }
    (db, home)
}

#[tokio::test]
async fn audit_records_and_playbooks_are_the_same_after_a_move() {
    let (_db, home) = on_both(&[&["audit"], &["playbooks"]]).await;
    let name = "audit_github_webhooks.jsonl";
    home.write("audit.jsonl", real_data(name, name));
    home.ok(&["audit", "import", "audit.jsonl"]);
    let text = real_data("retrieval_openshift/versions.jsonl", "playbooks_openshift_runbooks.jsonl");
    home.write("playbooks.jsonl", text);
    home.ok(&["playbooks", "import", "playbooks.jsonl"]);
    moves(&home, "audit", &["audit"]);
    moves(&home, "playbooks", &["playbooks"]);
    // The chains go on where they were.
    let chain = home.ok(&["audit", "query", "--limit", "1", "--format", "json"]).objects();
    if let Some(correlation) = chain[0]["correlation_id"].as_str() {
        home.ok(&["audit", "verify", correlation]);
    }
}

#[tokio::test]
async fn a_module_of_ones_own_takes_all_of_its_families_along() {
    let families = ["orders", "--family", "events", "--family", "audit"];
    let (_db, home) = on_both(&[&families]).await;
    home.ok(&[&["migrate", "up", "--module"], &families[..]].concat());
    home.write("events.jsonl", &real_streams()[0]);
    home.ok(&["events", "import", "events.jsonl", "--module", "orders"]);
    home.write("audit.jsonl", crate::audit::line(1, ""));
    home.ok(&["audit", "import", "audit.jsonl", "--module", "orders"]);
    // Another module of the same file stays where it is.
    home.write("own.jsonl", line(1, 1, ""));
    home.ok(&["events", "import", "own.jsonl"]);
    moves(&home, "orders", &["events", "audit"]);
    home.write("own.jsonl", line(1, 2, ""));
    home.ok(&["events", "import", "own.jsonl"]);
    assert_eq!(home.sqlite_number("SELECT count(*) FROM domain_event"), 2);
}

pub const INVOICES: &str = r#"
[[table]]
name = "invoice"
target = "billing.invoice"
key = ["number"]
goes_back = true
columns = [
    { name = "number", type = "int", min = 1 },
    { name = "amount", type = "decimal", precision = 10, scale = 2 },
    { name = "paid", type = "bool" },
]
"#;

#[tokio::test]
async fn a_table_of_ones_own_goes_there_and_back() {
    let (db, home) = on_both(&[&["orders"]]).await;
    db.execute(
        "CREATE SCHEMA billing; CREATE TABLE billing.invoice \
         (number bigint PRIMARY KEY, amount numeric(10, 2) NOT NULL, paid boolean NOT NULL)",
    )
    .await
    .unwrap();
    std::fs::create_dir(home.path().join("var")).unwrap();
    home.sqlite(
        "CREATE TABLE invoice (number INTEGER PRIMARY KEY, amount REAL, paid INTEGER);
         INSERT INTO invoice VALUES (1, 10.25, 1), (2, 0.305, 0), (3, 7, 2)",
    );
    home.write("billing.toml", INVOICES);
    let cutover =
        |command: &[&str]| home.run(&[&["cutover"], command, &["--tables", "billing.toml"]].concat());
    let closed = cutover(&["plan", "orders"]);
    assert_eq!(closed.status, 3, "{closed:?}");
    assert!(closed.out.contains("GRANT USAGE ON SCHEMA billing TO changeover_owner"), "{}", closed.out);
    db.execute("ALTER SCHEMA billing OWNER TO changeover_owner; ALTER TABLE billing.invoice OWNER TO changeover_owner")
        .await
        .unwrap();
    let plan = cutover(&["plan", "orders", "--format", "json"]);
    let found: Vec<_> = plan.objects().iter().map(|it| (it["key"].clone(), it["hazard"].clone())).collect();
    assert_eq!(found, [("2".into(), 7.into()), ("3".into(), 2.into())], "{plan:?}");
    assert_eq!(cutover(&["run", "orders"]).status, 3);
    home.sqlite(
        "UPDATE invoice SET amount = 0.3 WHERE number = 2; UPDATE invoice SET paid = 1 WHERE number = 3",
    );
    let run = cutover(&["run", "orders"]);
    assert_eq!(run.status, 0, "{run:?}");
    db.execute("UPDATE billing.invoice SET paid = true WHERE number = 2; DELETE FROM billing.invoice WHERE number = 1")
        .await
        .unwrap();
    let revert = cutover(&["revert", "orders"]);
    assert_eq!(revert.status, 0, "{revert:?}");
    assert_eq!(home.sqlite_number("SELECT count(*) FROM invoice WHERE paid = 1 AND number IN (2, 3)"), 2);
    assert_eq!(home.sqlite_number("SELECT count(*) FROM invoice"), 2);
}

#[tokio::test]
async fn a_legacy_file_becomes_nobody_elses() {
    let (db, home) = on_both(&[&["events"]]).await;
    std::fs::create_dir(home.path().join("var")).unwrap();
    home.sqlite(include_str!("../../../sqlite/tests/legacy.sql"));
    let ran = home.run(&["cutover", "run", "events", "--tenant", "acme"]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.err.contains("\"acme\"") && ran.err.contains("\"default\""), "{}", ran.err);
    let runs = db.query("SELECT count(*) FROM cutover.run", &[]).await.unwrap();
    assert_eq!(runs[0].get::<_, i64>(0), 0);
    home.ok(&["cutover", "run", "events"]);
}
