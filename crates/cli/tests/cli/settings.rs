//! Settings as the command meets them: all mistakes at once, sources told, secrets hidden.

use rstest::rstest;

use crate::common::Home;

// S2-CFG-004, X-EDGE-093: all mistakes at once, each with source, key, found, allowed.
#[rstest]
#[case(&["doctor"])]
#[case(&["config", "show"])]
#[case(&["events", "export"])]
#[case(&["migrate", "status"])]
fn all_mistakes_are_told_at_once(#[case] command: &[&str]) {
    let home = Home::new().with("CHANGEOVER_BACKENDS__MAIN__POOL__MAX_SIZE", "hunter2");
    home.write(
        "changeover.toml",
        r#"
            profile = "testing"
            [persistence]
            default = "lost"
            audit = "main"
            [backends.main]
            kind = "postgres"
            port = 5432
            [backends.old]
            kind = "oracle"
            [persistance]
            events = "main"
        "#,
    );
    let ran = home.run(command);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{ran:?}");
    for expected in [
        "changeover.toml: profile: found \"testing\", allowed is one of development, production",
        "persistence.default: found \"lost\", allowed is a backend that is configured",
        "postgres has no key \"port\"",
        "backends.main.url",
        "found \"oracle\", allowed is one of memory, sqlite, postgres",
        "unknown key \"persistance\"",
        "CHANGEOVER_BACKENDS__MAIN__POOL__MAX_SIZE (environment): found a hidden value",
    ] {
        assert!(ran.err.contains(expected), "{expected}\nin\n{}", ran.err);
    }
    assert!(!ran.err.contains("hunter2"), "{}", ran.err);
}

// S2-CFG-005, S0-SEC-003, X-EDGE-093: the environment wins, sources are told, secrets are not.
#[test]
fn what_holds_is_shown_with_its_source_and_without_secrets() {
    let password = "p@ss/w:o%r#d x";
    let home = Home::new()
        .with("CHANGEOVER_BACKENDS__MAIN__URL", "postgres://me:p%40ss%2Fw%3Ao%25r%23d%20x@localhost/app");
    let config = home.write(
        "other.toml",
        r#"
            [persistence]
            default = "local"
            audit = "main"
            [backends.local]
            kind = "sqlite"
            path = "var/app.db"
            [backends.main]
            kind = "postgres"
            url = "postgres://me:in-the-file@localhost/app"
            pool = { max_size = 7 }
        "#,
    );
    let config = config.to_str().unwrap();
    let ran = home.ok(&["config", "show", "--config", config, "--format", "json"]);
    let of = |key: &str| {
        let found = ran
            .objects()
            .into_iter()
            .find(|setting| setting["key"] == key)
            .unwrap_or_else(|| panic!("{key}"));
        (found["value"].as_str().unwrap().to_owned(), found["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(of("backends.local.path"), ("var/app.db".into(), config.into()));
    assert_eq!(of("backends.main.pool.max_size"), ("7".into(), config.into()));
    assert_eq!(
        of("backends.main.url"),
        ("«hidden»".into(), "environment CHANGEOVER_BACKENDS__MAIN__URL".into())
    );
    assert_eq!(of("tenant"), ("default".into(), "default".into()));
    let table = home.ok(&["config", "show", "--config", config]);
    for text in [&ran.out, &ran.err, &table.out, &table.err] {
        assert!(
            !text.contains(password) && !text.contains("p%40ss") && !text.contains("in-the-file"),
            "{text}"
        );
    }
    assert!(home.path().join("var").exists().eq(&false), "looking makes no file");
}

#[test]
fn a_settings_file_that_is_missing_is_a_mistake() {
    let ran = Home::new().run(&["config", "show", "--config", "none.toml"]);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("none.toml: the settings file cannot be read"), "{}", ran.err);
}
