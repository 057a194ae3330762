//! Declarations: ours, and those of a user's own.

use changeover_core::backend::Family;
use changeover_core::cutover::SourceColumn;
use changeover_core::{ErrorKind, ModuleName, ModuleScope, Namespace, TenantId, Uuid};
use changeover_cutover::convert::Converter;
use changeover_cutover::declare;

fn scope(namespace: Option<&str>) -> ModuleScope {
    ModuleScope {
        module: ModuleName::new("jobs").expect("a name"),
        namespace: namespace.map(|name| Namespace::new(name).expect("a name")),
    }
}

const FAMILIES: [Family; 3] = [Family::Events, Family::Audit, Family::Playbooks];

#[test]
fn every_declaration_of_ours_is_read_and_can_be_converted_by() {
    for family in FAMILIES {
        for adopted in [true, false] {
            let tables = declare::ours(family, adopted, &scope(None));
            Converter::new(&tables, &TenantId::new("default").unwrap(), Uuid::nil()).unwrap();
            for table in &tables {
                assert_eq!(table.source_key().len(), table.key.len(), "{}", table.name);
                assert_eq!(table.goes_back, table.transform.is_none(), "{}", table.name);
            }
        }
    }
}

// One converter serves the file and the module: their names have to be those that the stores give.
#[test]
fn names_of_a_module_with_a_namespace_are_those_its_stores_give() {
    let plain: Vec<_> = FAMILIES.into_iter().flat_map(|it| declare::ours(it, true, &scope(None))).collect();
    let names: Vec<_> = plain.iter().map(|table| (table.source.as_str(), table.target.as_str())).collect();
    assert_eq!(
        names,
        [
            ("event_stream", "event_store.event_stream"),
            ("domain_event", "event_store.domain_event"),
            ("changeover_consumer", "event_store.consumer_position"),
            ("audit_events", "audit_store.audit_events"),
            ("notification_audit", "audit_store.audit_events"),
            ("playbook_catalog", "playbook_store.playbook_catalog"),
        ]
    );
    let spaced = declare::ours(Family::Audit, true, &scope(Some("jobs")));
    assert_eq!(spaced.len(), 1, "the oldest table is the built-in module's");
    assert_eq!(spaced[0].source, "jobs_audit_events");
    assert_eq!(spaced[0].target, "jobs_audit_store.audit_events");
    assert_eq!(spaced[0].also[0].target, "jobs_audit_store.audit_event_id");
}

#[test]
fn all_mistakes_of_a_declaration_are_told_at_once_with_table_key_found_and_allowed() {
    let text = r#"
        [[table]]
        name = "invoice"
        target = "invoice"
        key = ["number"]
        colums = []
        rules = ["nice:total"]
        columns = [
            { name = "id", type = "int", min = 5, max = 1 },
            { name = "total", type = "money" },
            { name = "at", type = "time", unit = "hours" },
            { name = "at", type = "text" },
            { name = "sum", type = "decimal", precision = 3, scale = "2", computed = "sum" },
        ]
        references = [{ table = "customer", columns = ["customer"], to = ["id"] }]
    "#;
    let refused = declare::parse(text, "invoice.toml").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    for part in [
        "mistakes in invoice.toml:",
        r#"table "invoice": target is "invoice", allowed is schema.table"#,
        r#"table "invoice": unknown key "colums"; allowed are name, transform, target,"#,
        r#"table "invoice": key is "number", allowed is one of the columns id, total, at, at, sum"#,
        r#"table "invoice": rules is "nice:total", allowed is not_json_null:COLUMN,"#,
        r#"table "invoice", column "id": min is 5, above max, allowed is at most max"#,
        r#"table "invoice", column "total": type is "money", allowed is one of text, uuid,"#,
        r#"table "invoice", column "at": unit is "hours", allowed is one of text, seconds, millis, micros"#,
        r#"table "invoice", column "at": max is missing, allowed is the largest number of characters, or words"#,
        r#"table "invoice": columns is "at" twice, allowed is each column once"#,
        r#"table "invoice", column "sum": scale is "2", allowed is an integer of 0 to 1000000000"#,
        r#"table "invoice", column "sum": computed is "sum", allowed is same_as:COLUMN,"#,
        r#"table "invoice": table of a reference is "customer", allowed is the name of a declared table"#,
    ] {
        assert!(refused.message().contains(part), "{part}\nis not in\n{}", refused.message());
    }
}

#[test]
fn equal_declarations_have_equal_fingerprints_and_a_changed_type_another() {
    let tables = declare::ours(Family::Playbooks, true, &scope(None));
    let again = declare::ours(Family::Playbooks, true, &scope(None));
    assert_eq!(declare::fingerprint(&tables).unwrap(), declare::fingerprint(&again).unwrap());
    let mut changed = again;
    changed[0].columns[5].nullable = !changed[0].columns[5].nullable;
    assert_ne!(declare::fingerprint(&tables).unwrap(), declare::fingerprint(&changed).unwrap());
    assert!(declare::to_json(&tables).unwrap().as_str().contains(r#""only_where":"is_latest_version""#));
}

#[test]
fn a_table_reads_the_columns_of_its_rules_after_its_own() {
    let audit = &declare::ours(Family::Audit, true, &scope(None))[0];
    let sources = audit.source_columns();
    assert_eq!(sources[0], SourceColumn::Rowid);
    assert_eq!(sources.last(), Some(&SourceColumn::Named("event_date".into())));
    assert_eq!(sources.len(), 21, "rowid, 19 columns and the date");
}
