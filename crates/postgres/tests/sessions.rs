//! What a connection is set up with, and that one which could not be set up is not kept.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use changeover_core::events::{Expected, ReadAll};
use changeover_core::{Backend as _, ErrorKind, OpenBackend, Uuid};
use changeover_postgres::{OpenPostgres, Postgres};
use changeover_testkit::{TestDatabase, tokio_postgres, with_user};
use common::{migrated, one, open, scope, settings, store, stream, tenant};
use diesel_async::SimpleAsyncConnection as _;

/// A login of its own name, with `rights`.
async fn login(db: &TestDatabase, rights: &str) -> String {
    let login = format!("svc_{}", Uuid::new_v4().simple());
    db.execute(&format!("CREATE ROLE {login} LOGIN {rights}")).await.unwrap();
    login
}

/// Logins belong to the whole server: they do not go with the database.
async fn drop_login(db: &TestDatabase, login: &str) {
    db.execute(&format!("DROP OWNED BY {login}; DROP ROLE {login}")).await.unwrap();
}

async fn sessions(db: &TestDatabase, login: &str) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
    db.query(sql, &[&login]).await.unwrap()[0].get(0)
}

/// Waits until the login has no session: the server needs a moment to notice that a client has gone.
async fn until_gone(db: &TestDatabase, login: &str) {
    for _ in 0..100 {
        if sessions(db, login).await == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{} sessions are left", sessions(db, login).await);
}

/// The answer once it comes: the first tries may meet sessions that were ended.
async fn again<T>(work: impl AsyncFn() -> changeover_core::Result<T>) -> T {
    for _ in 0..20 {
        match work().await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.may_retry(true), "{error:?}"),
        }
    }
    panic!("ended sessions are met again and again");
}

fn as_postgres(backend: &std::sync::Arc<dyn OpenBackend>) -> &OpenPostgres {
    let any: &dyn std::any::Any = &**backend;
    any.downcast_ref().unwrap()
}

// S2-TEN-006: a session that cannot be set up (the login may not act as the role it has to step down to) is closed and
// told of at once, however often it is tried; with the right granted a pool of one works.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_set_up_is_closed_and_not_leaked() {
    let db = migrated().await;
    let login = login(&db, "BYPASSRLS CONNECTION LIMIT 1").await;
    let given = settings(&with_user(db.url(), &login, None)).with("pool.max_size", "1");
    for _ in 0..5 {
        let error = Postgres.open(&given).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        until_gone(&db, &login).await;
    }
    db.execute(&format!("GRANT changeover_app TO {login}")).await.unwrap();
    let backend = open(given).await;
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    store.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap();
    assert_eq!(sessions(&db, &login).await, 1);

    // The same while the backend is open: the right is taken, the session ended, the right given back.
    db.execute(&format!("REVOKE changeover_app FROM {login}")).await.unwrap();
    db.kill_backends().await.unwrap();
    for _ in 0..5 {
        let error = store.read_all(ReadAll::default()).await.map(drop).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::Unexpected, "{error}");
        until_gone(&db, &login).await;
    }
    db.execute(&format!("GRANT changeover_app TO {login}")).await.unwrap();
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 1);
    backend.close().await;
    drop_login(&db, &login).await;
}

// S2-TEN-007: connection settings of the user's own hold on the connections of the store and of transactions, as bound
// values, and are there again after the connections were lost.
#[tokio::test(flavor = "multi_thread")]
async fn connection_settings_of_the_users_own_hold_on_every_connection() {
    let db = migrated().await;
    db.execute(
        "CREATE TABLE note (unit text DEFAULT current_setting('app.unit', true), wait text DEFAULT \
         current_setting('lock_timeout')); GRANT ALL ON note TO changeover_app; \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
         'BEGIN INSERT INTO public.note DEFAULT VALUES; RETURN NEW; END'; \
         CREATE TRIGGER note AFTER INSERT ON event_store.domain_event FOR EACH ROW EXECUTE FUNCTION note()",
    )
    .await
    .unwrap();
    let hostile = "o'Brien'); DROP TABLE note; -- \u{e9}";
    let given = settings(db.url()).with("session.app.unit", hostile).with("session.lock_timeout", "7s");
    let backend = open(given).await;
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    for _ in 0..2 {
        store.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap();
        let mut tx = again(async || as_postgres(&backend).begin(&scope(), &tenant("acme")).await).await;
        tx.conn().batch_execute("INSERT INTO note DEFAULT VALUES").await.unwrap();
        tx.commit().await.unwrap();
        db.kill_backends().await.unwrap();
        again(async || store.read_all(ReadAll::default()).await).await;
    }
    let rows = db.query("SELECT unit, wait FROM note", &[]).await.unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (hostile, "7s"));
    }
}

// S2-TEN-007: one that the server refuses is a mistake in the settings, named, and nothing is served without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_setting_that_the_server_refuses_is_named() {
    let db = migrated().await;
    for (name, value) in [("lock_timeout", "soon"), ("no_such_setting", "1")] {
        let given = settings(db.url()).with(&format!("session.{name}"), value);
        let error = Postgres.open(&given).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.message().starts_with(&format!("session.{name}: ")), "{error}");
        assert!(!error.to_string().contains("soon"), "{error}");
    }
    store(&db).await.ready().await.unwrap();
}

// X-EDGE-120: 53300: no connection left is Unavailable and says what to do; once clients leave it serves.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_connection_left_serves_when_clients_leave() {
    let db = migrated().await;
    let login = login(&db, "CONNECTION LIMIT 2 IN ROLE changeover_app").await;
    let url = with_user(db.url(), &login, None);
    let backend = open(settings(&url)).await;
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    db.kill_backends().await.unwrap();
    let mut others = Vec::new();
    for _ in 0..2 {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        others.push((client, tokio::spawn(connection)));
    }
    let mut full = 0;
    for request in [1, 2, 3].map(|number| one(&stream("Order"), Expected::Any, number)) {
        let error = store.append(request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        full += i32::from(error.message().contains("lower pool.max_size"));
    }
    // The first may have met a session that was ended.
    assert!(full >= 2, "{full}");
    let error = Postgres.open(&settings(&url)).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("no connection left") && error.to_string().contains("53300"), "{error}");

    drop(others);
    until_gone(&db, &login).await;
    store.append(one(&stream("Order"), Expected::Any, 4)).await.unwrap();
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 1);
    backend.close().await;
    drop_login(&db, &login).await;
}

// X-EDGE-102: 57P01 again and again under load. Writers that repeat what failed with the same ids lose nothing and double
// nothing: each event that was acknowledged is there once, at the version that was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_ended_under_load_lose_and_double_nothing() {
    const WRITERS: usize = 8;
    const EACH: i64 = 60;
    let db = std::sync::Arc::new(migrated().await);
    let store = store(&db).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let (stream, mut acknowledged, mut failed) = (stream("Order"), Vec::new(), 0);
                for number in 0..EACH {
                    let request = one(&stream, Expected::Any, number);
                    loop {
                        match store.append(request.clone()).await {
                            Ok(answer) => {
                                acknowledged.push((request.streams[0].events[0].id, answer.streams[0].last));
                                break;
                            }
                            Err(error) => {
                                assert!(error.may_retry(true), "{error:?}");
                                failed += 1;
                            }
                        }
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                (acknowledged, failed)
            })
        })
        .collect();
    let mut ended = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(std::time::Duration::from_millis(40)).await;
        ended += db.kill_backends().await.unwrap();
    }
    let (mut acknowledged, mut failed) = (Vec::new(), 0);
    for writer in writers {
        let (its, failures) = writer.await.unwrap();
        acknowledged.extend(its);
        failed += failures;
    }
    assert!(ended >= 5 && failed > 0, "{ended} sessions ended, {failed} appends failed: no load");
    let client = db.client().await.unwrap();
    let rows =
        client.query("SELECT event_id, aggregate_version FROM event_store.domain_event", &[]).await.unwrap();
    let mut stored: Vec<(Uuid, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut told: Vec<_> = acknowledged.into_iter().map(|(id, version)| (id, version.get())).collect();
    stored.sort_unstable();
    told.sort_unstable();
    assert_eq!(told.len(), WRITERS * usize::try_from(EACH).unwrap());
    assert_eq!(stored, told);
}
