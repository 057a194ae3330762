//! Rows that follow one that stays out: the plan tells of all that a run then leaves out.

use std::collections::BTreeSet;

use changeover_core::backend::Family;
use changeover_core::cutover::{Raw, Table};
use changeover_core::hex;
use changeover_cutover::hazards::Treatment;
use changeover_cutover::phase::Owner;
use changeover_cutover::plan::{self, plan};
use changeover_cutover::{Cutover, Goal, Terms, declare};

use crate::stage::{Stage, terms};
use crate::support::{scope, tenant};

const TABLES: &str = r#"
    [[table]]
    name = "person"
    target = "own.person"
    key = ["id"]
    goes_back = true
    columns = [{ name = "id", type = "uuid" }, { name = "name", type = "text", max = 40, not_empty = true }]
    [[table]]
    name = "account"
    target = "own.account"
    key = ["id"]
    goes_back = true
    references = [{ columns = ["person"], table = "person", to = ["id"] }]
    columns = [{ name = "id", type = "int" }, { name = "person", type = "uuid" }]
    [[table]]
    name = "entry"
    target = "own.entry"
    key = ["id"]
    goes_back = true
    references = [{ columns = ["account"], table = "account", to = ["id"] }]
    columns = [{ name = "id", type = "int" }, { name = "account", type = "int" }]
    [[table]]
    name = "note"
    target = "own.note"
    key = ["id"]
    goes_back = true
    references = [
        { columns = ["entry"], table = "entry", to = ["id"] },
        { columns = ["up"], table = "note", to = ["id"] },
    ]
    columns = [
        { name = "id", type = "int" }, { name = "entry", type = "int", nullable = true },
        { name = "up", type = "int", nullable = true },
    ]
"#;

const NEW: &str = "CREATE SCHEMA own AUTHORIZATION changeover_owner; SET ROLE changeover_owner; \
    CREATE TABLE own.person (id uuid PRIMARY KEY, name text NOT NULL); \
    CREATE TABLE own.account (id bigint PRIMARY KEY, person uuid NOT NULL REFERENCES own.person); \
    CREATE TABLE own.entry (id bigint PRIMARY KEY, account bigint NOT NULL REFERENCES own.account); \
    CREATE TABLE own.note (id bigint PRIMARY KEY, entry bigint REFERENCES own.entry, up bigint REFERENCES own.note); \
    RESET ROLE";

/// The second of four people has no name. Accounts 2 and 6 are hers, 6 by an id in upper case; 9 is nobody's. The notes from 21
/// on are below each other, the first of them below one whose entry is of account 2.
const OLD: &str = "\
    CREATE TABLE person (id TEXT PRIMARY KEY, name TEXT); \
    CREATE TABLE account (id INTEGER PRIMARY KEY, person TEXT); \
    CREATE TABLE entry (id INTEGER PRIMARY KEY, account INTEGER); \
    CREATE TABLE note (id INTEGER PRIMARY KEY, entry INTEGER, up INTEGER); \
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 4) \
      INSERT INTO person SELECT printf('0000000a-0000-4000-8000-%012d', n), CASE n WHEN 2 THEN '' ELSE 'p' END FROM n; \
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 8) \
      INSERT INTO account SELECT n, printf('0000000a-0000-4000-8000-%012d', (n - 1) % 4 + 1) FROM n; \
    UPDATE account SET person = upper(person) WHERE id = 6; \
    INSERT INTO account VALUES (9, '0000000a-0000-4000-8000-000000000099'); \
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20) \
      INSERT INTO entry SELECT n, (n - 1) % 9 + 1 FROM n; \
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30) \
      INSERT INTO note SELECT n, CASE WHEN n <= 20 THEN n END, CASE WHEN n > 20 THEN n - 1 END FROM n;";

fn shown(table: &str, key: &[Raw]) -> (String, String) {
    let one = |raw: &Raw| match raw {
        Raw::Integer(number) => number.to_string(),
        Raw::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
        other => format!("{other:?}"),
    };
    (table.to_owned(), key.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn moved(stage: &Stage, tables: &[Table]) -> Cutover {
    let scope = scope("own");
    let (old, new) = (stage.old.cutover(&scope).unwrap(), stage.new.cutover(&scope).unwrap());
    Cutover::new(&scope, tables.to_vec(), old, new, "a test").unwrap()
}

// Amendment 6: rows that refer to one that stays out follow it, over several tables, over another spelling of an id, and within
// a table. The plan lists them with the parent, counts each once, and a run leaves out exactly these.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_of_every_row_that_follows_another() {
    let stage = Stage::legacy(Family::Events, OLD).await;
    stage.db.execute(NEW).await.unwrap();
    let tables = declare::parse(TABLES, "own.toml").unwrap().tables;
    let cutover = moved(&stage, &tables);
    let small = plan::Terms { chunk_rows: 3, ..plan::Terms::new(tenant()) };
    let made = plan(cutover.source(), cutover.target(), &tables, &small, &mut |_| ()).await.unwrap();
    assert!(!made.refuses(), "{:?}", made.findings);

    let out: Vec<_> = made.tables.iter().map(|it| (it.name.as_str(), it.quarantined)).collect();
    assert_eq!(out, [("person", 1), ("account", 3), ("entry", 7), ("note", 17)]);
    let following: Vec<_> = made.findings.iter().filter(|it| it.hazard == 0).collect();
    assert_eq!(following.len(), 26);
    assert!(following.iter().all(|it| it.treatment == Treatment::Quarantine));
    let told = |table: &str, key: &str| {
        let found = following.iter().find(|it| it.table == table && it.key == key).unwrap();
        (found.column.as_str(), found.found.as_str(), found.sample_hex.as_str())
    };
    let upper = hex(b"0000000A-0000-4000-8000-000000000002");
    assert_eq!(told("account", "6"), ("person", "refers to a row of person that stays out", upper.as_str()));
    assert_eq!(told("note", "30"), ("up", "refers to a row of note that stays out", "3239"));

    // No more than wanted are listed, all are counted.
    let few = plan::Terms { listed: 2, ..small };
    let short = plan(cutover.source(), cutover.target(), &tables, &few, &mut |_| ()).await.unwrap();
    assert_eq!(short.quarantined(), 28);
    let counted: u64 =
        short.counts.iter().filter(|(group, _)| group.hazard == 0).map(|(_, count)| count).sum();
    assert_eq!((counted, short.findings.iter().filter(|it| it.hazard == 0).count()), (26, 8));

    cutover.run(&terms(), Goal::Verified).await.unwrap();
    let left_out = cutover.quarantined(None, None, 0, 1_000).await.unwrap();
    let left_out: BTreeSet<_> = left_out.iter().map(|it| shown(&tables[it.table].name, &it.key)).collect();
    let planned: BTreeSet<_> = made.findings.iter().map(|it| (it.table.clone(), it.key.clone())).collect();
    assert_eq!(left_out, planned);
    cutover.abort(&terms()).await.unwrap();
    let one_less = Terms { max_quarantined: 27, ..terms() };
    assert!(cutover.run(&one_less, Goal::Switched).await.is_err());
    let allowing = Terms { max_quarantined: made.quarantined(), ..terms() };
    assert_eq!(cutover.run(&allowing, Goal::Switched).await.unwrap().owner, Owner::Postgres);
    assert_eq!(
        stage.number("SELECT (SELECT count(*) FROM own.note) * 100 + (SELECT count(*) FROM own.entry)").await,
        1_313
    );
}
