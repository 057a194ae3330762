//! Databases of tests: made from one template, dropped with their value.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use changeover_testkit::{
    Error, PASSWORD_ROLE, Rung, TestDatabase, database, shared, tokio_postgres, with_user,
};
use tokio_postgres::NoTls;

async fn make_orders(url: String) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("create table orders (id int primary key); insert into orders values (7)").await
}

/// A key no other run has used, so that its template is made here.
fn fresh_key() -> String {
    format!("testkit {:?} {}", std::time::SystemTime::now(), std::process::id())
}

async fn databases_named(name: &str) -> i64 {
    let client = shared().await.expect("a server").connect("postgres").await.expect("a connection");
    let count = "select count(*) from pg_database where datname = $1";
    client.query_one(count, &[&name]).await.expect("a count").get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_made_once_by_concurrent_callers_and_its_copies_are_apart() {
    let made = Arc::new(AtomicUsize::new(0));
    let key = fresh_key();
    let one = || {
        let (made, key) = (Arc::clone(&made), key.clone());
        tokio::spawn(async move {
            database(&key, async |url| {
                made.fetch_add(1, Ordering::SeqCst);
                make_orders(url).await
            })
            .await
        })
    };
    let (first, second) = (one(), one());
    let first = first.await.expect("no panic").expect("a database");
    let second = second.await.expect("no panic").expect("a database");
    assert_eq!(made.load(Ordering::SeqCst), 1);
    assert_ne!(first.name(), second.name());
    first.execute("insert into orders values (8)").await.expect("written");
    let rows = second.query("select id from orders", &[]).await.expect("read");
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), [7]);
}

#[tokio::test]
async fn a_failing_migration_is_reported_and_leaves_no_template() {
    let key = fresh_key();
    let failed = database(&key, async |_| Err(std::io::Error::other("no such table"))).await;
    let error = failed.expect_err("the migration failed");
    assert!(
        matches!(&error, Error::Migration { source, .. } if source.to_string() == "no such table"),
        "{error}"
    );
    let db = database(&key, make_orders).await.expect("the next one succeeds");
    assert_eq!(db.query("select id from orders", &[]).await.expect("read").len(), 1);
}

#[tokio::test]
async fn a_dropped_database_is_gone_even_while_somebody_is_connected() {
    let db = TestDatabase::empty().await.expect("a database");
    let name = db.name().to_owned();
    let client = db.client().await.expect("a connection");
    client.batch_execute("begin; create table t (i int)").await.expect("an open transaction");
    assert_eq!(databases_named(&name).await, 1);
    drop(db);
    assert_eq!(databases_named(&name).await, 0);
}

#[tokio::test]
async fn killed_backends_lose_their_connection_and_the_database_stays() {
    let db = TestDatabase::empty().await.expect("a database");
    let client = db.client().await.expect("a connection");
    assert_eq!(db.kill_backends().await.expect("ended"), 1);
    client.batch_execute("select 1").await.expect_err("the connection is gone");
    db.execute("select 1").await.expect("a new one works");
}

#[tokio::test]
async fn a_failing_statement_tells_the_servers_message_and_code() {
    let db = TestDatabase::empty().await.expect("a database");
    let error = db.execute("select * from nowhere").await.expect_err("no such table").to_string();
    assert!(error.contains("\"nowhere\" does not exist (SQLSTATE 42P01)"), "{error}");
}

#[tokio::test]
async fn members_of_the_password_role_are_asked_for_their_password() {
    let db = TestDatabase::empty().await.expect("a database");
    let known = "select 1 from pg_roles where rolname = $1";
    if db.query(known, &[&PASSWORD_ROLE]).await.expect("read").is_empty() {
        // Its access rules are not ours to write.
        assert_eq!(shared().await.expect("a server").rung(), Rung::Env);
        return;
    }
    let role = format!("{}_role", db.name());
    let password = "p@ss w:/%#é'?";
    let quoted = password.replace('\'', "''");
    db.execute(&format!("create role {role} login password '{quoted}' in role {PASSWORD_ROLE}"))
        .await
        .expect("a role");
    let connect =
        async |password| tokio_postgres::connect(&with_user(db.url(), &role, Some(password)), NoTls).await;
    let right = connect(password).await;
    let wrong = connect("guess").await;
    db.execute(&format!("drop role {role}")).await.expect("dropped");
    assert!(right.is_ok(), "{:?}", right.err());
    let code = wrong.err().and_then(|error| error.code().map(|code| code.code().to_owned()));
    assert_eq!(code.as_deref(), Some("28P01"));
}
