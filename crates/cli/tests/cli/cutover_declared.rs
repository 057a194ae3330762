//! The declarations of `examples/declarations`: tables that the program does not know, moved by a file in TOML.

use std::path::Path;

use changeover_testkit::TestDatabase;

use crate::common::{Home, Ran, records};

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/declarations");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

struct Move {
    db: TestDatabase,
    home: Home,
    module: &'static str,
}

impl Move {
    async fn of(folder: &str, module: &'static str) -> Self {
        let db = TestDatabase::empty().await.unwrap();
        let home = Home::between(db.url()).with("CHANGEOVER_PERSISTENCE__ORDERS", "local");
        home.ok(&["migrate", "up", "--backend", "main", "--module", module, "--family", "events"]);
        std::fs::create_dir(home.path().join("var")).unwrap();
        home.sqlite(&example(&format!("{folder}/sqlite.sql")));
        home.write("tables.toml", example(&format!("{folder}/tables.toml")));
        Self { db, home, module }
    }

    fn cutover(&self, command: &[&str], more: &[&str]) -> Ran {
        self.home.run(&[&["cutover"], command, &[self.module], more, &["--tables", "tables.toml"]].concat())
    }

    fn ok(&self, command: &[&str], more: &[&str]) -> Ran {
        let ran = self.cutover(command, more);
        assert_eq!(ran.status, 0, "{command:?}: {ran:?}");
        ran
    }

    async fn text(&self, sql: &str) -> Vec<String> {
        self.db.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

#[tokio::test]
async fn tables_of_ones_own_are_moved_by_the_example_and_go_back() {
    let moved = Move::of("invoices", "orders").await;
    moved.db.execute(&example("invoices/postgres.sql")).await.unwrap();
    let plan = moved.cutover(&["plan"], &["--format", "json"]);
    let found: Vec<_> =
        plan.objects().iter().map(|it| format!("{} {}", it["key"].as_str().unwrap(), it["hazard"])).collect();
    assert_eq!(plan.status, 3, "{plan:?}");
    assert_eq!(found, [r#""F-3" 7"#, r#""F-4" 2"#, r#""F-4", 1 0"#], "the line follows its invoice");
    // Nothing was decided: three rows in quarantine, the file goes on.
    assert_eq!(moved.cutover(&["run"], &[]).status, 3);
    moved.home.sqlite("UPDATE invoice SET amount = 0.3 WHERE number = 'F-3'");
    let ids = |decision: &str| {
        let list = moved.ok(&["quarantine", "list"], &["--decision", decision, "--format", "json"]).objects();
        list.iter().map(|it| it["id"].to_string()).collect::<Vec<_>>()
    };
    // A third program decides: the flag is repaired, and the line that depends on the invoice comes with it.
    assert_eq!(moved.cutover(&["run"], &[]).status, 3);
    let open = ids("undecided");
    assert_eq!(open.len(), 2);
    moved.ok(&["quarantine", "repair"], &[&open[0], "--set", "paid:int=1"]);
    let run = moved.cutover(&["run"], &[]);
    assert_eq!(run.status, 0, "{run:?}");
    let rows = "SELECT concat_ws('|', number, amount, paid, extract(epoch FROM due)::numeric(20, 3), token, note) \
                  FROM billing.invoice ORDER BY number";
    assert_eq!(
        moved.text(rows).await,
        [
            "F-1|10.25|t|1767225600.000|00112233-4455-6677-8899-aabbccddeeff",
            "F-2|99.90|f|1767225600.001|01234567-89ab-cdef-0123-456789abcdef|",
            "F-3|0.30|f|1767225600.002|11112222-3333-4444-5555-666677778888|three digits",
            "F-4|7.00|t|1767225600.003|99990000-aaaa-bbbb-cccc-ddddeeeeffff|what does 2 mean?",
        ]
    );
    let lines = "SELECT concat_ws('|', number, line, what->>'item') FROM billing.invoice_line ORDER BY 1";
    assert_eq!(moved.text(lines).await, ["F-1|1|tea", "F-2|1|paper", "F-2|2|ink", "F-4|1|chairs"]);
    // What the new store takes goes back: the program that made the file finds it as it would have written it.
    moved
        .db
        .execute(
            "INSERT INTO billing.invoice VALUES ('F-5', 'Alan', 1.5, true, '2026-01-02T00:00:00Z', \
                 'aaaabbbb-0000-4000-8000-000000000005', NULL); \
             INSERT INTO billing.invoice_line VALUES ('F-5', 1, '{\"item\": \"tape\"}'); \
             DELETE FROM billing.invoice_line WHERE number = 'F-1'",
        )
        .await
        .unwrap();
    moved.ok(&["revert"], &[]);
    assert_eq!(
        moved.home.sqlite_number(
            "SELECT count(*) FROM invoice WHERE number = 'F-5' AND amount = 1.5 AND paid = 1 AND note IS NULL
             AND due_ms = 1767312000000 AND token = x'aaaabbbb000040008000000000000005'"
        ),
        1
    );
    assert_eq!(moved.home.sqlite_number("SELECT count(*) FROM invoice_line WHERE number = 'F-1'"), 0);
    assert_eq!(moved.home.sqlite_number("SELECT count(*) FROM invoice_line"), 4);
}

#[tokio::test]
async fn a_file_with_other_names_becomes_the_event_store_and_goes_back() {
    let moved = Move::of("renamed_events", "events").await;
    moved.ok(&["plan"], &[]);
    moved.ok(&["run"], &[]);
    // The program that made the file is told where its data went.
    let refused = {
        use diesel::connection::SimpleConnection;
        use diesel::{Connection, SqliteConnection};
        let path = moved.home.path().join("var/changeover.db");
        let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        file.batch_execute("UPDATE Streams SET Last = 3").unwrap_err().to_string()
    };
    assert!(refused.contains("E_FENCED module=events") && refused.contains("moved_to=postgres"), "{refused}");
    let on_main = ["--module", "events"];
    let export = moved.home.ok(&[&["events", "export"], &on_main[..]].concat()).out;
    let seen = |export: &str| {
        let all = records(export);
        let one = |it: &serde_json::Map<String, serde_json::Value>| {
            format!(
                "{} {} {} {} {} {}",
                it["global_order"],
                it["event_type"],
                it["aggregate_version"],
                it["event_data"],
                it["metadata"],
                it["occurred_at"]
            )
        };
        all.iter().map(one).collect::<Vec<_>>()
    };
    let before = [
        r#"3 "Placed" 1 {"total":12.5} {} "2026-01-01T00:00:00Z""#,
        r#"4 "Placed" 1 {"total":3} {"by":"web"} "2026-01-01T00:01:00Z""#,
        r#"9 "Shipped" 2 {"parcels":[1,2]} {} "2026-01-01T01:00:00Z""#,
    ];
    assert_eq!(seen(&export), before);
    // The store takes over where the file stopped: the stream at its version, the log behind its highest number.
    let line = r#"{"aggregate_type":"Order","aggregate_id":"00000000-0000-4000-8000-000000000001","aggregate_version":3,"event_type":"Paid","event_version":1,"event_data":{},"occurred_at":"2026-01-01T02:00:00Z"}"#;
    moved.home.write("more.jsonl", line);
    moved.home.ok(&["events", "import", "more.jsonl"]);
    let after = seen(&moved.home.ok(&["events", "export"]).out);
    assert_eq!(after[..3], before);
    assert_eq!(after[3], r#"10 "Paid" 3 {} {} "2026-01-01T02:00:00Z""#);
    moved.ok(&["revert"], &[]);
    assert_eq!(
        moved.home.sqlite_number(
            "SELECT count(*) FROM Events WHERE No = 10 AND What = 'Paid' AND Version = 3 AND At = 1767232800
             AND Stream = '00000000-0000-4000-8000-00000000000a'"
        ),
        1
    );
    assert_eq!(moved.home.sqlite_number("SELECT Last FROM Streams WHERE Of LIKE '%1'"), 3);
}
