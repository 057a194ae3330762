//! Mistakes and sources. A backend with every kind of value stands for those that are built in.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::{
    Backend, BackendSettings, Error, ErrorKind, OpenBackend, Registry, Result, SettingKey, ValueKind,
};
use rstest::rstest;

use super::{EffectiveSetting, Layers, PersistenceOptions};

struct Probe;

const fn key(key: &'static str, value: ValueKind, default: Option<&'static str>) -> SettingKey {
    SettingKey { key, value, default, required: false, secret: false, doc: "a key of the test" }
}

const KEYS: &[SettingKey] = &[
    SettingKey { required: true, secret: true, ..key("url", ValueKind::Text, None) },
    key("pool.max_size", ValueKind::Integer { min: 1, max: 100 }, Some("10")),
    key("pool.idle_timeout", ValueKind::Duration, Some("10m")),
    key("migrate_on_start", ValueKind::Bool, Some("true")),
];

#[async_trait]
impl Backend for Probe {
    fn kind(&self) -> &'static str {
        "probe"
    }

    fn keys(&self) -> &'static [SettingKey] {
        KEYS
    }

    async fn open(&self, _settings: &BackendSettings) -> Result<Arc<dyn OpenBackend>> {
        Err(Error::new(ErrorKind::Unexpected, "not opened in these tests"))
    }
}

fn registry() -> Registry {
    Registry::new().with(Probe)
}

fn load(dir: &Path, toml: &str, environment: &[(&str, &str)]) -> PersistenceOptions {
    let file = dir.join("changeover.toml");
    fs::write(&file, toml).unwrap();
    Layers::new().file(file).environment(environment.iter().copied()).load()
}

fn mistakes(toml: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let error = load(dir.path(), toml, environment).check(&registry()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let message = error.message().replace(dir.path().to_str().unwrap(), "");
    message.split("\n- ").skip(1).map(str::to_owned).collect()
}

const MAIN: &str = "[backends.main]\nkind = \"probe\"\nurl = \"u\"\n";

// S2-CFG-004, X8, X-EDGE-093: all at once; source, key, found, allowed.
#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let toml = r#"
        profile = "prod"
        tenant = ""
        Persistence = 1
        [persistence]
        audit = "mian"
        Orders = "main"
        events = { backend = "main", namespce = "e" }
        a = { backend = "main", namespace = "b" }
        b = "main"
        c = { namespace = "2c" }
        [backends.main]
        kind = "probe"
        url = ""
        ulr = "x"
        pool = { max_size = 1000, idle_timeout = 10 }
        [backends.other]
        kind = "Probe"
        [backends.none]
        path = "x"
    "#;
    let mut found = mistakes(toml, &[]);
    let mut expected = [
        "/changeover.toml: Persistence: unknown key \"Persistence\"; allowed are profile, tenant, persistence, \
         backends, cutover, shadow; did you mean persistence? Case counts",
        "/changeover.toml: profile: found \"prod\", allowed is one of development, production",
        "/changeover.toml: tenant: found empty text, allowed is text that is not empty",
        "/changeover.toml: backends.main.pool.idle_timeout: found the number 10, allowed is a number and a unit like \
         250ms, 30s, 10m or 1h, above zero",
        "/changeover.toml: backends.main.pool.max_size: found the number 1000, allowed is a whole number from 1 to 100",
        "/changeover.toml: backends.main.ulr: probe has no key \"ulr\"; allowed are url, pool.max_size, \
         pool.idle_timeout, migrate_on_start, kind",
        "/changeover.toml: backends.main.url: found empty text, allowed is text that is not empty",
        "/changeover.toml: backends.none.path: backends.none.kind is missing; allowed is one of probe",
        "/changeover.toml: backends.other.kind: found \"Probe\", allowed is one of probe; did you mean probe? Case \
         counts",
        "/changeover.toml: persistence.Orders: module \"Orders\" is not allowed: use a-z, 0-9 and _, beginning with a \
         letter",
        "/changeover.toml: persistence.audit: found \"mian\", allowed is a backend that is configured (main, none, \
         other); add [backends.NAME] or name another",
        "/changeover.toml: persistence.b: namespace b is that of module a already; give one of them another namespace",
        "/changeover.toml: persistence.c.backend is missing; name a backend",
        "/changeover.toml: persistence.c.namespace: found \"2c\", allowed are a-z, 0-9 and _, beginning with a letter, \
         at most 40",
        "/changeover.toml: persistence.events.namespce: a module has no key \"namespce\"; allowed are backend, \
         namespace",
    ];
    found.sort();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

// X-EDGE-093: environment over file; empty text is no value; never printed.
#[rstest]
#[case(
    "CHANGEOVER_BACKENDS__MAIN__POOL__MAX_SIZE",
    "5432001",
    "CHANGEOVER_BACKENDS__MAIN__POOL__MAX_SIZE (environment): found a hidden value, allowed is a whole number from 1 to 100"
)]
#[case(
    "CHANGEOVER_BACKENDS__MAIN__URL",
    "",
    "CHANGEOVER_BACKENDS__MAIN__URL (environment): found empty text, allowed is text that is not empty"
)]
#[case(
    "CHANGEOVER_PERSISTENCE__AUDIT",
    "5432001",
    "CHANGEOVER_PERSISTENCE__AUDIT (environment): found a hidden value, allowed is a backend that is configured (main); add [backends.NAME] or name another"
)]
#[case(
    "CHANGEOVER_PERSISTENCES__AUDIT",
    "5432001",
    "CHANGEOVER_PERSISTENCES__AUDIT (environment): unknown key \"persistences\"; allowed are profile, tenant, persistence, backends, cutover, shadow"
)]
#[case(
    "CHANGEOVER_BACKENDS____URL",
    "5432001",
    "CHANGEOVER_BACKENDS____URL (environment): a level is empty; write __ between levels only"
)]
#[case(
    "CHANGEOVER_TENANT__X",
    "5432001",
    "CHANGEOVER_TENANT__X (environment): holds a table, allowed is text"
)]
#[case(
    "CHANGEOVER_PERSISTENCE",
    "5432001",
    "CHANGEOVER_PERSISTENCE (environment): allowed is a table; write it as a section"
)]
fn mistakes_of_the_environment_name_the_variable(
    #[case] name: &str,
    #[case] value: &str,
    #[case] expected: &str,
) {
    let found = mistakes(MAIN, &[(name, value)]);
    assert!(found.contains(&expected.to_owned()), "{found:#?}");
    assert!(!found.concat().contains("5432001"), "{found:#?}");
}

// The demand for a drill: a time in days or less, and no other key beside it.
#[test]
fn the_age_of_a_drill_is_a_time_and_its_mistakes_are_told_with_all_others() {
    let within = |text: &str| {
        let toml = format!("{MAIN}[persistence]\ndefault = \"main\"\n[cutover]\ndrill_within = {text}\n");
        mistakes(&toml, &[])
    };
    let allowed = "allowed is a number and a unit like 7d, 12h or 30m, above zero";
    for (bad, shown) in [
        ("\"7\"", "\"7\""),
        ("\"0d\"", "\"0d\""),
        ("\"9999d\"", "\"9999d\""),
        ("7", "the number 7"),
        ("\"a week\"", "\"a week\""),
    ] {
        let expected = format!("/changeover.toml: cutover.drill_within: found {shown}, {allowed}");
        assert_eq!(within(bad), [expected]);
    }
    let found = mistakes("cutover = 1\n[persistence]\nx = \"nobody\"\n", &[]);
    assert!(
        found.iter().any(|it| it.ends_with("cutover: allowed is a table; write it as a section")),
        "{found:#?}"
    );
    assert_eq!(found.len(), 2, "{found:#?}");
    let found =
        mistakes(&format!("{MAIN}[persistence]\ndefault = \"main\"\n[cutover]\ndrill = \"7d\"\n"), &[]);
    let expected =
        "/changeover.toml: cutover.drill: unknown key \"cutover.drill\"; allowed is cutover.drill_within";
    assert_eq!(found, [expected]);
}

#[test]
fn the_age_of_a_drill_is_none_or_what_is_said() {
    let options = PersistenceOptions::new().with("persistence.default", "m").with("backends.m.kind", "probe");
    let options = options.with("backends.m.url", "u");
    assert_eq!(options.plan(&registry()).unwrap().drill_within, None);
    let week = options.with("cutover.drill_within", "7d");
    assert_eq!(week.plan(&registry()).unwrap().drill_within, Some(std::time::Duration::from_hours(7 * 24)));
    let shown = week.effective(&registry()).unwrap();
    assert!(shown.iter().any(|it| it.key == "cutover.drill_within" && it.value == "7d"), "{shown:?}");
}

// X-EDGE-093: two sources of one secret.
#[test]
fn two_variables_of_one_key_are_refused() {
    let found =
        mistakes(MAIN, &[("CHANGEOVER_BACKENDS__MAIN__URL", "a1"), ("CHANGEOVER_backends__main__url", "b1")]);
    assert_eq!(
        found,
        [
            "CHANGEOVER_backends__main__url (environment): CHANGEOVER_BACKENDS__MAIN__URL sets the same key; unset one of \
          them"
        ]
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![b'x', 0xff]);
    let options = Layers::new().environment([(OsString::from("CHANGEOVER_TENANT"), value)]).load();
    let error = options.check(&registry()).unwrap_err();
    assert!(error.message().contains("CHANGEOVER_TENANT (environment): the name or the value is not UTF-8"));
}

// S0-SEC-003: the line of a broken file may hold a password.
#[test]
fn a_broken_file_is_told_by_line_without_its_text() {
    let found = mistakes("profile = \"development\"\nurl = \"hunter2\" x", &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("/changeover.toml: line 2 is not TOML"), "{found:?}");
    assert!(!found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let error = Layers::new().file("absent/x.toml").load().check(&registry()).unwrap_err();
    assert!(error.message().contains("absent/x.toml: the settings file cannot be read"), "{error}");
}

fn effective(options: &PersistenceOptions) -> Vec<String> {
    let line = |s: EffectiveSetting| format!("{} = {} ({})", s.key, s.value, s.source);
    options.effective(&registry()).unwrap().into_iter().map(line).collect()
}

// S2-CFG-003, S2-CFG-005: later wins; sources are named; secrets and the environment are hidden; numbers are text.
#[test]
fn layers_win_in_order_and_every_value_has_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    fs::write(
        &file,
        format!("{MAIN}pool.max_size = 20\n[persistence]\ndefault = \"other\"\naudit = \"main\"\n"),
    )
    .unwrap();
    let options = Layers::new()
        .file(&file)
        .environment([
            ("CHANGEOVER_BACKENDS__MAIN__URL", "123456789"),
            ("CHANGEOVER_PERSISTENCE__DEFAULT", "main"),
            ("CHANGEOVER_TENANT", "007"),
            ("CHANGEOVER_LOG", "debug"),
            ("CHANGEOVER_EXAMPLE_POSTGRES_URL", "postgres://localhost/orders"),
            ("CHANGEOVER_CONFIG", "elsewhere"),
            ("OTHER", "x"),
        ])
        .merge(figment::providers::Serialized::default("tenant", "vaulted"))
        .load()
        .with("profile", "production");
    let plan = options.plan(&registry()).unwrap();
    assert_eq!(plan.tenant.as_str(), "vaulted");
    assert_eq!(plan.default.as_deref(), Some("main"));
    assert_eq!(plan.backends["main"].settings.text(KEYS, "url"), Some("123456789"));
    assert_eq!(plan.backends["main"].settings.integer(KEYS, "pool.max_size").unwrap(), 20);
    let shown = effective(&options).join("\n").replace(file.to_str().unwrap(), "x.toml");
    let lines: Vec<_> = shown.lines().collect();
    for expected in [
        "backends.main.kind = probe (x.toml)",
        "backends.main.migrate_on_start = true (default)",
        "backends.main.pool.idle_timeout = 10m (default)",
        "backends.main.pool.max_size = 20 (x.toml)",
        "backends.main.url = «hidden» (environment CHANGEOVER_BACKENDS__MAIN__URL)",
        "persistence.audit = main (x.toml)",
        "persistence.default = «hidden» (environment CHANGEOVER_PERSISTENCE__DEFAULT)",
        "profile = production (program)",
    ] {
        assert!(lines.contains(&expected), "{expected} is missing in\n{shown}");
    }
    assert!(!shown.contains("123456789") && !shown.contains("elsewhere"), "{shown}");
}

// X-EDGE-094: whatever a password holds, it arrives as it is.
#[test]
fn values_of_the_environment_arrive_byte_for_byte() {
    for url in ["p@ss/w:o%r#d x", "0123", "true", "[1]", " x ", "\"q\"", "1e5"] {
        let options = Layers::new()
            .environment([
                ("CHANGEOVER_BACKENDS__MAIN__URL", url),
                ("CHANGEOVER_BACKENDS__MAIN__KIND", "probe"),
            ])
            .load();
        let plan = options.plan(&registry()).unwrap();
        assert_eq!(plan.backends["main"].settings.text(KEYS, "url"), Some(url));
    }
}

#[test]
fn one_word_of_the_environment_moves_a_module_that_the_file_describes() {
    let dir = tempfile::tempdir().unwrap();
    let toml = format!(
        "{MAIN}[backends.two]\nkind = \"probe\"\nurl = \"u\"\n[persistence]\nx = {{ backend = \"two\", namespace = \"y\" }}\n"
    );
    let options = load(dir.path(), &toml, &[("CHANGEOVER_PERSISTENCE__X__BACKEND", "main")]);
    let plan = options.plan(&registry()).unwrap();
    let (scope, backend) = plan.module("x").unwrap();
    assert_eq!((backend, scope.namespace.unwrap().as_str()), ("main", "y"));
}

// Design section 4: namespaces and the profile production.
#[test]
fn modules_find_their_backend_and_namespace() {
    let options = PersistenceOptions::new()
        .with("backends.main.kind", "probe")
        .with("backends.main.url", "u")
        .with("persistence.x", "main")
        .with("persistence.x.backend", "main")
        .with("persistence.x.namespace", "taken");
    let plan = options.plan(&registry()).unwrap();
    assert_eq!(plan.module("orders").unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(plan.module("Orders").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(plan.used_backends(), ["main"]);

    let plan = options.clone().with("persistence.default", "main").plan(&registry()).unwrap();
    assert_eq!(plan.module("events").unwrap().0.namespace, None);
    assert_eq!(plan.module("orders").unwrap().0.namespace.unwrap().as_str(), "orders");
    assert!(plan.module("taken").unwrap_err().message().contains("taken by module x"));

    let production = options.with("persistence.default", "main").with("profile", "production");
    let plan = production.plan(&registry()).unwrap();
    assert!(plan.module("x").is_ok());
    assert!(plan.module("events").unwrap_err().message().contains("production"));
}

#[test]
fn production_does_not_start_without_settings() {
    let error = PersistenceOptions::new().with("profile", "production").check(&registry()).unwrap_err();
    assert!(error.message().contains("the profile production starts only with a backend named"), "{error}");
}
