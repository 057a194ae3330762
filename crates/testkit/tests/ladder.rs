//! The ladder: its order, a forced rung, and what is said when nothing can serve.

use std::path::Path;

use changeover_testkit::{Error, Rung, Settings, acquire};
use rstest::rstest;

/// Settings under which no rung can serve.
fn nothing(state: &Path) -> Settings {
    Settings {
        url: None,
        forced: None,
        image: None,
        docker_host: Some("tcp://127.0.0.1:1".to_owned()),
        program_dirs: vec![],
        python: "no-such-python".to_owned(),
        cache: state.join("cache"),
        state: state.to_path_buf(),
    }
}

async fn refusal(settings: &Settings) -> String {
    match acquire(settings).await {
        Err(Error::NoServer(text)) => text,
        other => panic!("expected NoServer, got {other:?}"),
    }
}

#[tokio::test]
async fn a_missing_server_fails_and_tells_each_rung_in_order_and_what_to_do() {
    let state = tempfile::tempdir().expect("a folder");
    let text = refusal(&nothing(state.path())).await;
    let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part:?} is not in: {text}"));
    let places = [
        place("env: CHANGEOVER_TEST_POSTGRES_URL is not set"),
        place("container: no Docker engine answers"),
        place("local: no initdb and postgres on PATH"),
        place("fetched: `no-such-python -m pip install"),
        place("Do one of these"),
    ];
    assert!(places.is_sorted(), "{text}");
}

#[rstest]
#[case(Rung::Container, "container: no Docker engine answers")]
#[case(Rung::Local, "local: no initdb and postgres")]
#[case(Rung::Fetched, "fetched: `no-such-python -m pip install")]
#[tokio::test]
async fn a_forced_rung_that_cannot_serve_fails_and_no_other_is_tried(#[case] rung: Rung, #[case] why: &str) {
    let state = tempfile::tempdir().expect("a folder");
    let text = refusal(&Settings { forced: Some(rung), ..nothing(state.path()) }).await;
    assert!(text.contains(why), "{text}");
    assert!(text.contains(&format!("CHANGEOVER_TEST_POSTGRES_RUN allows only {}", rung.name())), "{text}");
    for other in ["container:", "local:", "fetched:"].into_iter().filter(|other| !why.starts_with(other)) {
        assert!(!text.contains(other), "{other} was tried: {text}");
    }
}

#[tokio::test]
async fn a_forced_environment_without_an_address_fails() {
    let state = tempfile::tempdir().expect("a folder");
    let text = refusal(&Settings { forced: Some(Rung::Env), ..nothing(state.path()) }).await;
    assert!(text.contains("CHANGEOVER_TEST_POSTGRES_URL is not set"), "{text}");
}

// DEF-47: the port is open, yet no query is ever answered.
#[tokio::test]
async fn an_open_port_is_not_a_server() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            drop(socket);
        }
    });
    let state = tempfile::tempdir().expect("a folder");
    let url = Some(format!("postgres://root:secret@127.0.0.1:{port}/postgres"));
    let text = refusal(&Settings { url, ..nothing(state.path()) }).await;
    assert!(text.contains("CHANGEOVER_TEST_POSTGRES_URL does not serve"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn programs_that_are_too_old_are_named_and_passed_over() {
    use std::os::unix::fs::PermissionsExt;
    let state = tempfile::tempdir().expect("a folder");
    for program in ["initdb", "postgres"] {
        let path = state.path().join(program);
        std::fs::write(&path, "#!/bin/sh\necho 'postgres (PostgreSQL) 15.18'\n").expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a program");
    }
    let dirs = vec![state.path().to_path_buf()];
    let text = refusal(&Settings { program_dirs: dirs, ..nothing(state.path()) }).await;
    assert!(text.contains("PostgreSQL) 15.18 is too old, 16 or later is needed"), "{text}");
    assert!(text.contains("fetched:"), "the ladder went no further: {text}");
}

#[test]
fn an_unknown_rung_is_refused_with_those_allowed() {
    let error = "docker".parse::<Rung>().expect_err("no such rung");
    assert!(error.to_string().contains("env, container, local or fetched"), "{error}");
}
