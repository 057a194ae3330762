//! `[shadow.MODULE]`.

use changeover::{ErrorKind, PersistenceOptions, registry};

fn options() -> PersistenceOptions {
    PersistenceOptions::new()
        .with("persistence.default", "old")
        .with("backends.old.kind", "sqlite")
        .with("backends.old.path", "a.db")
        .with("backends.main.kind", "postgres")
        .with("backends.main.url", "postgres://localhost/app")
}

// S2-CFG-004, X8: all mistakes at once, each with key, found, allowed.
#[test]
fn every_mistake_in_a_shadow_is_told() {
    let wrong = options()
        .with("shadow.events.with", "mian")
        .with("shadow.events.share", "1.5")
        .with("shadow.events.at_once", "0")
        .with("shadow.events.within", "10")
        .with("shadow.events.sahre", "1")
        .with("shadow.audit.share", "0.5")
        .with("shadow.playbooks.with", "old")
        .with("shadow.Orders.with", "main")
        .with("shadow.scheduler", "main");
    let error = wrong.check(&registry()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let mut found: Vec<_> = error.message().split("\n- ").skip(1).collect();
    found.sort_unstable();
    let expected = [
        "program: shadow.Orders.with: module \"Orders\" is not allowed: use a-z, 0-9 and _, beginning with a letter",
        "program: shadow.audit.with is missing; name the backend that the module is moved to",
        "program: shadow.events.at_once: found \"0\", allowed is a whole number from 1 to 64",
        "program: shadow.events.sahre: a shadow has no key \"sahre\"; allowed are with, share, at_once, within",
        "program: shadow.events.share: found \"1.5\", allowed is a number from 0 to 1",
        "program: shadow.events.with: found \"mian\", allowed is a backend that is configured (main, old); add \
         [backends.NAME] or name another",
        "program: shadow.events.within: found \"10\", allowed is a number and a unit like 250ms, 30s, 10m or 1h, above zero",
        "program: shadow.playbooks.with: backend old is of the kind sqlite; allowed is one of the kind postgres, which \
         modules are moved to",
        "program: shadow.scheduler: allowed is a table; write it as a section",
    ];
    assert_eq!(found, expected);
}

// S2-CFG-003: what holds is shown, defaults with it.
#[test]
fn what_holds_for_a_shadow_is_shown() {
    let shown = options().with("shadow.events.with", "main").with("shadow.events.share", "0.5");
    let shown = shown.effective(&registry()).unwrap();
    let shadow = shown.iter().filter(|it| it.key.starts_with("shadow."));
    let shadow: Vec<_> = shadow.map(|it| format!("{} = {} ({})", it.key, it.value, it.source)).collect();
    let expected = [
        "shadow.events.at_once = 2 (default)",
        "shadow.events.share = 0.5 (program)",
        "shadow.events.with = main (program)",
        "shadow.events.within = 10s (default)",
    ];
    assert_eq!(shadow, expected);
}
