//! The failing network and the server behind TLS.

use std::sync::Arc;
use std::time::Duration;

use changeover_testkit::{Proxy, TestDatabase, tls_server, tokio_postgres};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

const SOON: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(10);

async fn through(proxy: &Proxy, db: &TestDatabase) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&proxy.url(db.url()), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn setting() -> (TestDatabase, Proxy, Client) {
    let db = TestDatabase::empty().await.expect("a database");
    db.execute("create table t (i int)").await.expect("a table");
    let proxy = Proxy::start(db.url()).await.expect("a proxy");
    let client = through(&proxy, &db).await.expect("a connection");
    (db, proxy, client)
}

async fn rows(db: &TestDatabase) -> usize {
    db.query("select i from t", &[]).await.expect("read").len()
}

#[tokio::test]
async fn a_cut_ends_what_is_open_and_lets_new_connections_in() {
    let (db, proxy, client) = setting().await;
    client.batch_execute("insert into t values (1)").await.expect("the proxy forwards");
    proxy.cut();
    timeout(LONG, client.batch_execute("select 1"))
        .await
        .expect("no hang")
        .expect_err("the connection is reset");
    through(&proxy, &db).await.expect("let in").batch_execute("select 1").await.expect("the proxy forwards");
    assert_eq!(rows(&db).await, 1);
}

#[tokio::test]
async fn a_frozen_network_answers_nobody_and_loses_nothing() {
    let (db, proxy, client) = setting().await;
    proxy.freeze();
    let insert = client.batch_execute("insert into t values (1)");
    tokio::pin!(insert);
    timeout(SOON, &mut insert).await.expect_err("no answer");
    timeout(SOON, through(&proxy, &db)).await.expect_err("no new connection either");
    assert_eq!(rows(&db).await, 0, "nothing reached the server");
    proxy.thaw();
    timeout(LONG, insert).await.expect("an answer").expect("done");
    assert_eq!(rows(&db).await, 1);
}

#[tokio::test]
async fn a_network_that_is_down_refuses_until_it_is_up() {
    let (db, proxy, client) = setting().await;
    proxy.down();
    timeout(LONG, client.batch_execute("select 1")).await.expect("no hang").expect_err("reset");
    timeout(LONG, through(&proxy, &db)).await.expect("no hang").expect_err("refused");
    proxy.up();
    through(&proxy, &db).await.expect("let in").batch_execute("select 1").await.expect("the proxy forwards");
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_has_happened() {
    let (db, proxy, client) = setting().await;
    proxy.cut_before_reply_to_commit();
    client.batch_execute("BEGIN").await.expect("forwarded");
    client.batch_execute("insert into t values (1)").await.expect("forwarded");
    assert!(!proxy.reply_was_dropped());
    timeout(LONG, client.batch_execute("COMMIT")).await.expect("no hang").expect_err("the reply is lost");
    assert!(proxy.reply_was_dropped());
    assert_eq!(rows(&db).await, 1, "the server did it");
    let again = through(&proxy, &db).await.expect("let in");
    again.batch_execute("BEGIN; COMMIT").await.expect("it happens once");
}

#[tokio::test]
async fn a_lost_reply_is_chosen_by_the_bytes_of_a_parameter() {
    let (db, proxy, client) = setting().await;
    let insert = client.prepare("insert into t select length($1::text)").await.expect("prepared");
    proxy.drop_reply_after("needle");
    client.execute(&insert, &[&"hay"]).await.expect("another message is answered");
    timeout(LONG, client.execute(&insert, &[&"a needle"])).await.expect("no hang").expect_err("lost");
    assert_eq!(rows(&db).await, 2);
}

fn client_trusting(authority: &CertificateDer<'static>) -> MakeRustlsConnect {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    MakeRustlsConnect::new(config)
}

#[tokio::test]
async fn the_tls_server_shakes_hands_with_its_certificate_and_refuses_plain_connections() {
    let cert = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let server = tls_server(&cert.cert.pem(), &cert.signing_key.serialize_pem()).await.expect("a server");
    let db = TestDatabase::empty().await.expect("a database");
    let url = format!("{}?sslmode=require", server.url_of(db.url()));

    let (client, connection) =
        tokio_postgres::connect(&url, client_trusting(cert.cert.der())).await.expect("a handshake");
    tokio::spawn(connection);
    let name: String = client.query_one("select current_database()::text", &[]).await.expect("a row").get(0);
    assert_eq!(name, db.name());

    tokio_postgres::connect(&url, client_trusting(other.cert.der()))
        .await
        .err()
        .expect("an unknown authority");
    let plain =
        tokio_postgres::connect(&server.url_of(db.url()), NoTls).await.err().expect("no plain connection");
    assert_eq!(plain.code().map(SqlState::code), Some("28000"));
}

#[tokio::test]
async fn a_key_that_is_not_of_the_certificate_is_refused() {
    let one = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let two = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let refused = tls_server(&one.cert.pem(), &two.signing_key.serialize_pem()).await;
    assert!(matches!(refused, Err(changeover_testkit::Error::Invalid(_))), "{refused:?}");
}
