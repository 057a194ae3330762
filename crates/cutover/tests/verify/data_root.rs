//! The data root, computed again by a program that knows the guide only.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use changeover_core::cutover::Raw;
use changeover_cutover::verify::{Excuse, ExcusedKeys, Mode, Verifier};

use crate::stores::{Old, healthy};
use crate::{declared, verifier, world};

fn python(arguments: &[&str], input: &str) -> String {
    let started = Command::new("python3")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.expect("python3 is needed for this test: install it and have it on the PATH");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The old store as a file, in columns without a type, so that every value stays what it is.
fn file(old: &Old, path: &Path) {
    let mut sql = String::from("BEGIN;");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (table, rows) in &*old.0.lock().unwrap() {
        let names: Vec<_> = rows[0].keys().cloned().collect();
        let own: Vec<_> = names.iter().filter(|name| *name != "rowid").map(String::as_str).collect();
        sql += &format!("CREATE TABLE {table} ({});", own.join(", "));
        for row in rows {
            let values = row.values().map(|raw| match raw {
                Raw::Null => "NULL".to_owned(),
                Raw::Integer(number) => number.to_string(),
                Raw::Real(number) => format!("{number:?}"),
                Raw::Text(bytes) => format!("CAST(x'{}' AS TEXT)", hex(bytes)),
                Raw::Blob(bytes) => format!("x'{}'", hex(bytes)),
            });
            let values: Vec<_> = values.collect();
            sql += &format!("INSERT INTO {table} ({}) VALUES ({});", names.join(", "), values.join(", "));
        }
    }
    sql += "COMMIT;";
    let make = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.stdin.read())";
    python(&["-c", make, path.to_str().unwrap()], &sql);
}

// Amendment 10: an independent program comes to the same root.
#[tokio::test]
async fn an_independent_program_computes_the_same_data_root_from_the_file() {
    let tables = declared::all();
    let (old, new) = healthy(&tables, 25);
    let mut excused = ExcusedKeys::default();
    {
        let (mut old, mut new) = (old.0.lock().unwrap(), new.0.lock().unwrap());
        let events = old.get_mut("domain_event").unwrap();
        // One row is in quarantine.
        events[4].insert("event_data".into(), Raw::Text(b"{".to_vec()));
        new.get_mut("event_store.domain_event").unwrap().remove(4);
        excused.insert("domain_event", &[Raw::Integer(5)], Excuse::Out);
        // Numbers, escapes and names that have several spellings.
        let json = r#" {"z":1E2, "a\u0041":[-1.50e-3, 0.0, 12345678901234567890.10, true,null], "\u00e9\n\u001f\"":"\ud83d\ude00/\/"}"#;
        events[6].insert("event_data".into(), Raw::Text(json.into()));
        new.get_mut("event_store.domain_event").unwrap()[5].insert("event_data".into(), Some(json.into()));
        // A key in upper case, another as bytes; a time with an offset.
        let streams = old.get_mut("event_stream").unwrap();
        let Raw::Text(id) = streams[2]["stream_id"].clone() else { panic!() };
        streams[2].insert("stream_id".into(), Raw::Text(id.to_ascii_uppercase()));
        let Raw::Text(id) = streams[12]["stream_id"].clone() else { panic!() };
        let id = changeover_core::Uuid::try_parse_ascii(&id).unwrap();
        streams[12].insert("stream_id".into(), Raw::Blob(id.as_bytes().to_vec()));
        streams[3].insert("created_at".into(), Raw::Text(b"2024-02-29T23:30:00.5-02:00".to_vec()));
        let copied = &mut new.get_mut("event_store.event_stream").unwrap()[3];
        copied.insert("created_at".into(), Some("2024-03-01 01:30:00.5+00".into()));
    }
    let found = verifier(&tables, &old, &new)
        .run(Mode::Frozen, None, &excused, &mut |_, _| std::ops::ControlFlow::Continue(()))
        .await
        .unwrap();
    assert!(found.is_sound(), "{found:?}");

    let folder = tempfile::tempdir().unwrap();
    let (path, document) = (folder.path().join("frozen.db"), folder.path().join("document.json"));
    file(&old, &path);
    let mut described = Verifier::describe(&tables, &world()).unwrap();
    described["out"] = serde_json::json!({ "domain_event": [[5]] });
    std::fs::write(&document, described.to_string()).unwrap();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data_root.py");
    let shown = python(&[program, path.to_str().unwrap(), document.to_str().unwrap()], "");
    let hex = |digest: [u8; 32]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for table in &found.tables {
        let rows = table.source_rows - table.quarantined;
        let line = format!("{} {rows} {}", table.target, hex(table.source_root));
        assert!(shown.lines().any(|found| found == line), "{line}\nis not among\n{shown}");
    }
    assert_eq!(shown.lines().last(), Some(&*hex(found.source_root())));
    assert_eq!(found.source_root(), found.target_root());
}
