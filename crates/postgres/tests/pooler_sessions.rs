//! What is refused on the way to a pooler in transaction mode, and that no state of a session is left there or relied on.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod catalog;
mod common;
mod pooled;

use changeover_core::backend::Family;
use changeover_core::events::{Expected, ReadAll};
use changeover_core::{Backend as _, BackendSettings, ErrorKind, Uuid};
use changeover_postgres::Postgres;
use changeover_testkit::{Pooler, with_user};
use common::{migrated, one, open, scope, settings, stream, tenant};
use diesel_async::SimpleAsyncConnection as _;
use pooled::{LOGIN, Pooled, SIZE, as_postgres, value};

async fn refusal(given: &BackendSettings) -> String {
    let error = Postgres.open(given).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.message().to_owned()
}

// X-TEN-009: a pooler that the settings do not name is found out, whether it refuses start-up options or forgets them;
// else a login that steps down would have its rights back in the next transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_the_settings_do_not_name_is_refused() {
    for more in ["", "ignore_startup_parameters = options"] {
        let pooled = Pooled::with(more).await;
        for url in [pooled.url(), pooled.pooler.url(pooled.db.url())] {
            let said = refusal(&settings(&url)).await;
            assert!(
                said.starts_with("url leads to a connection pooler: set pooler = \"transaction\""),
                "{said}"
            );
        }
        // Nor may what has to go past the pooler lead to it.
        let said = refusal(&pooled.settings().with("listen_url", pooled.url())).await;
        assert!(said.starts_with("listen_url leads to a connection pooler"), "{said}");
        let through = pooled.settings().with("migrate_url", pooled.pooler.url(pooled.db.url()));
        let migrations = open(through).await.migrations(&scope(), Family::Events).unwrap();
        let error = migrations.up().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().starts_with("migrate_url leads to a connection pooler"), "{error}");
    }
}

// X-TEN-009: migrations need a session, so they go past the pooler or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_past_the_pooler_or_not_at_all() {
    let pooled = Pooled::start().await;
    let without = open(pooled.settings()).await.migrations(&scope(), Family::Events).unwrap();
    for error in [without.up().await.unwrap_err(), without.status().await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("set migrate_url to an address of the server itself"), "{error}");
    }
    let with = open(pooled.settings().with("migrate_url", pooled.db.url())).await;
    assert!(with.migrations(&scope(), Family::Events).unwrap().up().await.unwrap().is_empty());
    let checks = with.check().await;
    assert!(checks.iter().all(|check| check.ok), "{checks:?}");
    let said = checks.iter().find(|check| check.name == "pooler").unwrap();
    assert!(said.detail.starts_with("every statement is a transaction of its own"), "{}", said.detail);
}

// X-TEN-009, S2-TEN-005: a login that could bypass row security is refused: a superuser, one with BYPASSRLS, one that may
// act as the owner. So is it where it is found out later.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_could_bypass_row_security_is_refused() {
    let db = migrated().await;
    let names: Vec<_> = (0..4).map(|_| format!("svc_{}", Uuid::new_v4().simple())).collect();
    let rights = ["SUPERUSER", "BYPASSRLS", "IN ROLE changeover_owner", "IN ROLE changeover_app"];
    for (name, rights) in names.iter().zip(rights) {
        db.execute(&format!("CREATE ROLE {name} LOGIN {rights}")).await.unwrap();
    }
    let logins: Vec<_> = names.iter().map(String::as_str).collect();
    let pooler = Pooler::start(db.url(), &logins, 2).await.unwrap();
    let given =
        |login: &str| settings(&pooler.url(&with_user(db.url(), login, None))).with("pooler", "transaction");
    for login in &logins[..3] {
        let said = refusal(&given(login)).await;
        assert!(said.contains("could bypass row security") && said.contains("changeover_app"), "{said}");
    }
    // With `pool.max_size` 1 the connection it has is used again, a second would be looked at.
    let backend = open(given(logins[3])).await;
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    store.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap();
    db.execute(&format!("ALTER ROLE {} BYPASSRLS", names[3])).await.unwrap();
    let error = as_postgres(&backend).begin(&scope(), &tenant("acme")).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    backend.close().await;
    drop(pooler);
    for name in names {
        db.execute(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await.unwrap();
    }
}

/// All that a session could carry of ours.
const STATE: &str = "SELECT concat_ws(' ', current_user, current_setting('TimeZone'), current_setting('statement_timeout'), \
                     current_setting('lock_timeout'), current_setting('search_path'), \
                     current_setting('default_transaction_isolation'), \
                     '<' || current_setting('changeover.tenant_id', true) || '>', \
                     '<' || current_setting('app.unit', true) || '>', \
                     (SELECT count(*) FROM pg_prepared_statements), \
                     (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
                     (SELECT count(*) FROM pg_listening_channels()))";

// X-TEN-009, S2-TEN-003: on no connection anything is left: neither tenant, limits nor statements, whatever the stores and
// the user's transactions did, and however they ended.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_on_a_connection() {
    let pooled = Pooled::start().await;
    let before = pooled.on_each(STATE).await;
    let backend =
        open(pooled.settings().with("session.lock_timeout", "7s").with("session.app.unit", "a")).await;
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    for number in 0..2 * i64::try_from(SIZE).unwrap() {
        store.append(one(&stream("Order"), Expected::Any, number)).await.unwrap();
        store.append(one(&stream("Order"), Expected::Exists, number)).await.unwrap_err();
        let mut tx = as_postgres(&backend).begin(&scope(), &tenant("acme")).await.unwrap();
        tx.append(&one(&stream("Order"), Expected::Any, number)).await.unwrap();
        if number % 2 == 0 {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
    }
    backend.close().await;
    // What a custom setting leaves where it was once set is an empty one.
    let emptied = |state: &String| state.replace("<> <>", "").replace("  ", " ");
    let after: Vec<_> = pooled.on_each(STATE).await.iter().map(emptied).collect();
    assert_eq!(after, before.iter().map(emptied).collect::<Vec<_>>());
}

// X-TEN-009: what the driver prepares to look up types of the user's own is neither left on a connection nor relied on when
// another type is met on another connection.
#[tokio::test(flavor = "multi_thread")]
async fn what_looks_up_types_is_not_left_on_a_connection() {
    for commits in [true, false] {
        let pooled = Pooled::start().await;
        let backend = open(pooled.settings()).await;
        for number in 0..2 * SIZE {
            pooled.db.execute(&format!("CREATE TYPE mood_{number} AS ENUM ('good', 'bad')")).await.unwrap();
            let mut tx = as_postgres(&backend).begin(&scope(), &tenant("acme")).await.unwrap();
            let query = diesel::sql_query(format!("SELECT 'good'::public.mood_{number} AS mood"));
            diesel_async::RunQueryDsl::execute(query, tx.conn()).await.unwrap();
            if commits {
                tx.commit().await.unwrap();
            } else {
                tx.rollback().await.unwrap();
            }
        }
        assert_eq!(pooled.on_each("SELECT count(*) FROM pg_prepared_statements").await, ["0"; SIZE]);
    }
}

// X-TEN-009: what another program of the same login left on the connections changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_left_on_a_connection_changes_nothing() {
    let pooled = Pooled::start().await;
    pooled
        .db
        .execute(
            "CREATE SCHEMA trap; CREATE FUNCTION trap.current_setting(text) RETURNS text LANGUAGE sql AS \
             'SELECT $$trap$$'; GRANT USAGE ON SCHEMA trap TO changeover_app; \
             CREATE TABLE note (role text DEFAULT current_user, zone text DEFAULT current_setting('TimeZone'), \
               wait text DEFAULT current_setting('statement_timeout'), durable text DEFAULT \
               current_setting('synchronous_commit'), isolation text DEFAULT current_setting('transaction_isolation')); \
             GRANT ALL ON note TO changeover_app; \
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO public.note (role) VALUES (session_user); RETURN NEW; END'; \
             CREATE TRIGGER note AFTER INSERT ON event_store.domain_event FOR EACH ROW EXECUTE FUNCTION note(); \
             GRANT ALL ON note TO changeover_owner",
        )
        .await
        .unwrap();
    let left = "SET role = changeover_app; SET TimeZone = 'Asia/Kolkata'; SET statement_timeout = 1; \
                SET synchronous_commit = local; SET search_path = trap, pg_catalog; \
                SET default_transaction_isolation = 'serializable'; SET changeover.tenant_id = 'globex'; SELECT 1";
    let backend = open(pooled.settings()).await;
    let mut holders = Vec::new();
    for _ in 0..SIZE {
        let client = pooled.stranger().await;
        client.batch_execute("BEGIN").await.unwrap();
        value(&client, left).await;
        holders.push(client);
    }
    for client in &holders {
        client.batch_execute("COMMIT").await.unwrap();
    }
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    for number in 0..2 * i64::try_from(SIZE).unwrap() {
        store.append(one(&stream("Order"), Expected::Any, number)).await.unwrap();
        let mut tx = as_postgres(&backend).begin(&scope(), &tenant("acme")).await.unwrap();
        tx.conn().batch_execute("INSERT INTO public.note DEFAULT VALUES").await.unwrap();
        tx.commit().await.unwrap();
    }
    let notes = store.ready().await.unwrap().notes;
    assert!(notes[0].starts_with("PostgreSQL 1"), "{notes:?}");
    let found = store.read_all(ReadAll::default()).await.unwrap().events;
    assert_eq!(found.len(), 2 * SIZE);
    let sql = "SELECT DISTINCT concat_ws(' ', role, zone, wait, durable, isolation) FROM note";
    let rows = pooled.db.query(sql, &[]).await.unwrap();
    let said: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let durable: String = pooled.db.query("SHOW synchronous_commit", &[]).await.unwrap()[0].get(0);
    assert_eq!(said, [format!("{LOGIN} UTC 30s {durable} read committed")]);
}

// X-TEN-009, S2-TEN-007: connection settings of the user's own hold in every transaction, as bound values; one that the
// server refuses is named, and nothing is served without it.
#[tokio::test(flavor = "multi_thread")]
async fn connection_settings_of_the_users_own_hold_in_every_transaction() {
    let pooled = Pooled::start().await;
    pooled
        .db
        .execute(
            "CREATE TABLE note (unit text DEFAULT current_setting('app.unit', true), wait text DEFAULT \
             current_setting('lock_timeout')); GRANT ALL ON note TO changeover_app; \
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
             'BEGIN INSERT INTO public.note DEFAULT VALUES; RETURN NEW; END'; \
             CREATE TRIGGER note AFTER INSERT ON event_store.domain_event FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .await
        .unwrap();
    let hostile = "o'Brien\\'); DROP TABLE note; -- \u{e9}";
    let given = pooled.settings().with("session.app.unit", hostile).with("session.lock_timeout", "7s");
    let backend = open(given).await;
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    for number in 0..4 {
        store.append(one(&stream("Order"), Expected::Any, number)).await.unwrap();
        let mut tx = as_postgres(&backend).begin(&scope(), &tenant("acme")).await.unwrap();
        tx.conn().batch_execute("INSERT INTO public.note DEFAULT VALUES").await.unwrap();
        tx.commit().await.unwrap();
    }
    let rows = pooled.db.query("SELECT unit, wait FROM public.note", &[]).await.unwrap();
    assert_eq!(rows.len(), 8);
    for row in rows {
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (hostile, "7s"));
    }
    for (name, bad) in [("lock_timeout", "soon"), ("no_such_setting", "1")] {
        let said = refusal(&pooled.settings().with(&format!("session.{name}"), bad)).await;
        assert!(said.starts_with(&format!("session.{name}: ")) && !said.contains("soon"), "{said}");
    }
}
