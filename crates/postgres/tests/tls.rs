//! TLS with a real handshake against a test certificate authority, and passwords with hostile characters.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use std::path::Path;

use changeover_core::{Backend, BackendSettings, Error, ErrorKind};
use changeover_postgres::Postgres;
use changeover_testkit::tls_server;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rstest::rstest;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// A certificate for a host, and its key, as PEM.
    fn issue(&self, host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn write(&self, path: &Path) {
        std::fs::write(path, self.issuer.pem()).unwrap();
    }
}

async fn open(url: &str, parameters: &str) -> Result<(), Error> {
    let separator = if url.contains('?') { '&' } else { '?' };
    let settings = BackendSettings::new("main")
        .with("url", format!("{url}{separator}{parameters}"))
        .with("pool.min_idle", "0")
        .with("pool.connect_timeout", "5s");
    let backend = Postgres.open(&settings).await?;
    let checks = backend.check().await;
    assert!(checks.iter().any(|check| check.name == "connection" && check.ok), "{checks:?}");
    backend.close().await;
    Ok(())
}

// TLS to verify-full: what each mode accepts, of a server whose certificate names this host or another.
#[rstest]
#[case("localhost", "require", "none", true)]
#[case("localhost", "prefer", "none", true)]
#[case("localhost", "verify-full", "right", true)]
#[case("localhost", "verify-ca", "right", true)]
#[case("localhost", "verify-full", "wrong", false)]
#[case("localhost", "verify-ca", "wrong", false)]
#[case("localhost", "require", "wrong", false)]
#[case("elsewhere.example", "verify-ca", "right", true)]
#[case("elsewhere.example", "verify-full", "right", false)]
#[case("elsewhere.example", "require", "none", true)]
#[case("localhost", "disable", "none", false)]
#[tokio::test(flavor = "multi_thread")]
async fn every_mode_accepts_what_it_says(
    #[case] host: &str,
    #[case] mode: &str,
    #[case] root: &str,
    #[case] accepted: bool,
) {
    let (right, wrong) = (Authority::new(), Authority::new());
    let (cert, key) = right.issue(host);
    let server = tls_server(&cert, &key).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let mut parameters = format!("sslmode={mode}");
    if root != "none" {
        if root == "right" {
            right.write(&path);
        } else {
            wrong.write(&path);
        }
        parameters = format!("{parameters}&sslrootcert={}", path.display());
    }
    match open(&server.url, &parameters).await {
        Ok(()) => assert!(accepted, "{mode} took a server for {host} with the {root} root"),
        Err(error) => {
            assert!(!accepted, "{error}");
            // Without TLS it is the server that refuses, and says that the login may not come in this way.
            let kind = if mode == "disable" { ErrorKind::Config } else { ErrorKind::Unavailable };
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}

// A file that cannot be used is a mistake in the settings, and named.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_root_certificate_is_named() {
    let error = open("postgres://u@localhost/d", "sslmode=verify-full&sslrootcert=/nowhere/ca.pem")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("/nowhere/ca.pem"), "{error}");
}

// A server that is not there is Unavailable at once, with its reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_unavailable_at_once() {
    let before = std::time::Instant::now();
    let error = open("postgres://u:secret@127.0.0.1:1/d", "sslmode=disable").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("refused") && !error.to_string().contains("secret"), "{error}");
    assert!(before.elapsed().as_secs() < 3);
}
