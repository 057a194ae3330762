//! All mistakes at once: each says where, what was found, what is allowed and what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use changeover_core::{
    BackendSettings, Error, ErrorKind, ModuleName, Namespace, Registry, Result, SettingKey, TenantId,
    ValueKind,
};

use super::plan::{ModulePlan, implied_namespace};
use super::{BUILT_IN_NOTICE, BackendPlan, Given, PersistenceOptions, Plan, Value};

pub(super) const PROFILES: &[&str] = &["development", "production"];
pub(super) const DEFAULT_TENANT: &str = "default";
const DRILL_WITHIN: &str = "cutover.drill_within";

pub(super) fn check(options: &PersistenceOptions, registry: &Registry) -> Result<Plan> {
    let entries = options.entries();
    let mut check = Check { entries: &entries, registry, problems: options.problems.clone() };
    check.unknown_sections();
    let production = check.profile();
    if production && options.is_built_in() {
        check.problems.push(
            "the profile production starts only with a backend named for each module, and none is named; \
             add [persistence] and [backends.NAME]"
                .to_owned(),
        );
    }
    let tenant = check.tenant();
    let backends = check.backends();
    let default = check.default_backend(&backends);
    let modules = check.modules(&backends);
    let drill_within = check.drill_within();
    let shadows = check.shadows(&backends);
    let problems = check.problems;
    match tenant {
        Some(tenant) if problems.is_empty() => Ok(Plan {
            tenant,
            production,
            default,
            modules,
            backends,
            drill_within,
            shadows,
            notice: options.is_built_in().then_some(BUILT_IN_NOTICE),
        }),
        _ => {
            let count = problems.len();
            let mistakes = if count == 1 { "a mistake" } else { "mistakes" };
            let message = format!("the settings have {mistakes}:\n- {}", problems.join("\n- "));
            Err(Error::new(ErrorKind::Config, message).with("mistakes", count.to_string()))
        }
    }
}

pub(super) struct Check<'a> {
    pub(super) entries: &'a BTreeMap<String, Given>,
    registry: &'a Registry,
    pub(super) problems: Vec<String>,
}

impl<'a> Check<'a> {
    fn unknown_sections(&mut self) {
        for (key, given) in self.entries {
            let mut parts = key.splitn(2, '.');
            let problem = match (parts.next().unwrap_or_default(), parts.next()) {
                ("profile" | "tenant", None)
                | ("persistence" | "backends" | "shadow", Some(_))
                | ("cutover", Some("drill_within")) => continue,
                ("profile" | "tenant", Some(_)) => "holds a table, allowed is text".to_owned(),
                ("cutover", Some(_)) => format!("unknown key {key:?}; allowed is {DRILL_WITHIN}"),
                ("persistence" | "backends" | "cutover" | "shadow", None) => match given.value {
                    Value::Other(EMPTY_TABLE) => continue,
                    _ => "allowed is a table; write it as a section".to_owned(),
                },
                (section, _) => {
                    let known = ["profile", "tenant", "persistence", "backends", "cutover", "shadow"];
                    format!(
                        "unknown key {section:?}; allowed are {}{}",
                        known.join(", "),
                        meant(section, &known)
                    )
                }
            };
            self.refuse(key, given, &problem);
        }
    }

    fn profile(&mut self) -> bool {
        self.text("profile", ValueKind::OneOf(PROFILES)) == Some("production")
    }

    fn tenant(&mut self) -> Option<TenantId> {
        if !self.entries.contains_key("tenant") {
            return TenantId::new(DEFAULT_TENANT).ok();
        }
        let tenant = self.text("tenant", ValueKind::Text)?;
        TenantId::new(tenant)
            .map_err(|error| self.refuse("tenant", &self.entries["tenant"], error.message()))
            .ok()
    }

    fn drill_within(&mut self) -> Option<Duration> {
        let given = self.entries.get(DRILL_WITHIN)?;
        let within = match &given.value {
            Value::Text(text) => days_or_less(text),
            _ => None,
        };
        if within.is_none() {
            let problem = format!(
                "found {}, allowed is a number and a unit like 7d, 12h or 30m, above zero",
                found(given, false)
            );
            self.refuse(DRILL_WITHIN, given, &problem);
        }
        within
    }

    fn backends(&mut self) -> BTreeMap<String, BackendPlan> {
        let names: BTreeSet<&str> = self.below("backends.").map(first_part).collect();
        let mut backends = BTreeMap::new();
        for name in names {
            if let Err(error) = Namespace::new(name) {
                let (key, given) = self.first_of(&format!("backends.{name}"));
                // The rule of namespaces is also what keeps names reachable by environment variables.
                let rule = error.message().replacen("namespace", "backend", 1);
                self.refuse(key, given, &rule);
            } else if let Some(plan) = self.backend(name) {
                backends.insert(name.to_owned(), plan);
            }
        }
        backends
    }

    fn backend(&mut self, name: &str) -> Option<BackendPlan> {
        let at = format!("backends.{name}");
        let kind_key = format!("{at}.kind");
        if !self.entries.contains_key(&kind_key) {
            let kinds = self.registry.kinds().join(", ");
            let (key, given) = self.first_of(&at);
            let place = given.source.place(key);
            self.problems.push(format!("{place}: {kind_key} is missing; allowed is one of {kinds}"));
            return None;
        }
        let kind = self.text(&kind_key, ValueKind::Text)?;
        let Ok(backend) = self.registry.get(kind) else {
            let given = &self.entries[&kind_key];
            let kinds = self.registry.kinds();
            let meant = meant(kind, &kinds);
            let found = found(given, false);
            let problem = format!("found {found}, allowed is one of {}{meant}", kinds.join(", "));
            self.refuse(&kind_key, given, &problem);
            return None;
        };
        let keys = backend.keys();
        let mut settings = BackendSettings::new(name);
        let prefix = format!("{at}.");
        let given_keys: Vec<&str> = self.below(&prefix).filter(|key| *key != "kind").collect();
        for key in given_keys {
            let full = format!("{prefix}{key}");
            let Some(known) = keys.iter().find(|known| known.names(key)) else {
                let names: Vec<_> = keys.iter().map(|known| known.key).chain(["kind"]).collect();
                let meant = meant(key, &names);
                let problem = format!("{kind} has no key {key:?}; allowed are {}{meant}", names.join(", "));
                self.refuse(&full, &self.entries[&full], &problem);
                continue;
            };
            if let Some(value) = self.value(&full, known) {
                settings = settings.with(key, value);
            }
        }
        for known in keys.iter().filter(|known| known.required && known.default.is_none()) {
            if !self.entries.contains_key(&format!("{prefix}{}", known.key)) {
                let variable = variable(&format!("{prefix}{}", known.key));
                let problem =
                    format!("{prefix}{} is missing: {}; set it or {variable}", known.key, known.doc);
                let (_, given) = self.first_of(&at);
                self.problems.push(format!("{}: {problem}", given.source));
            }
        }
        let migrate_on_start = settings.text(keys, "migrate_on_start") == Some("true");
        Some(BackendPlan { kind: kind.to_owned(), settings, migrate_on_start })
    }

    fn default_backend(&mut self, backends: &BTreeMap<String, BackendPlan>) -> Option<String> {
        if self.below("persistence.default.").next().is_some() {
            let (key, given) = self.first_of("persistence.default");
            self.refuse(key, given, "persistence.default is the name of a backend and holds no table");
            return None;
        }
        self.backend_name("persistence.default", backends)
    }

    fn modules(&mut self, backends: &BTreeMap<String, BackendPlan>) -> BTreeMap<ModuleName, ModulePlan> {
        let names: BTreeSet<&str> =
            self.below("persistence.").map(first_part).filter(|name| *name != "default").collect();
        let mut modules = BTreeMap::new();
        let mut taken: BTreeMap<Namespace, &str> = BTreeMap::new();
        for name in names {
            let at = format!("persistence.{name}");
            let module = match ModuleName::new(name) {
                Ok(module) => module,
                Err(error) => {
                    let (key, given) = self.first_of(&at);
                    self.refuse(key, given, error.message());
                    continue;
                }
            };
            let Some((backend, namespace)) = self.module(&at, &module, backends) else { continue };
            if let Some(namespace) = &namespace
                && let Some(other) = taken.insert(namespace.clone(), name)
            {
                let (key, given) = self.first_of(&at);
                let problem = format!(
                    "namespace {namespace} is that of module {other} already; give one of them another namespace"
                );
                self.refuse(key, given, &problem);
                continue;
            }
            modules.insert(module, ModulePlan { backend, namespace });
        }
        modules
    }

    /// `NAME`, or a table of `backend` and `namespace`.
    fn module(
        &mut self,
        at: &str,
        module: &ModuleName,
        backends: &BTreeMap<String, BackendPlan>,
    ) -> Option<(String, Option<Namespace>)> {
        let implied = implied_namespace(module).ok()?;
        if self.entries.contains_key(at) {
            return Some((self.backend_name(at, backends)?, implied));
        }
        let prefix = format!("{at}.");
        let keys: Vec<&str> = self.below(&prefix).collect();
        for key in keys.iter().filter(|key| !["backend", "namespace"].contains(key)) {
            let full = format!("{prefix}{key}");
            let problem = format!("a module has no key {key:?}; allowed are backend, namespace");
            self.refuse(&full, &self.entries[&full], &problem);
        }
        let backend_key = format!("{prefix}backend");
        if !self.entries.contains_key(&backend_key) {
            let (_, given) = self.first_of(at);
            self.problems.push(format!("{}: {backend_key} is missing; name a backend", given.source));
        }
        let backend = self.backend_name(&backend_key, backends);
        let namespace_key = format!("{prefix}namespace");
        if !self.entries.contains_key(&namespace_key) {
            return Some((backend?, implied));
        }
        let namespace = self.text(&namespace_key, ValueKind::Text)?;
        if let Ok(namespace) = Namespace::new(namespace) {
            return Some((backend?, Some(namespace)));
        }
        let given = &self.entries[&namespace_key];
        let found = found(given, false);
        let problem =
            format!("found {found}, allowed are a-z, 0-9 and _, beginning with a letter, at most 40");
        self.refuse(&namespace_key, given, &problem);
        None
    }

    /// The name of a backend that is configured.
    pub(super) fn backend_name(
        &mut self,
        key: &str,
        backends: &BTreeMap<String, BackendPlan>,
    ) -> Option<String> {
        let name = self.text(key, ValueKind::Text)?;
        let configured: BTreeSet<&str> = self.below("backends.").map(first_part).collect();
        if configured.contains(name) {
            // A mistake within the backend is told there.
            return backends.contains_key(name).then(|| name.to_owned());
        }
        let given = &self.entries[key];
        let known: Vec<&str> = configured.into_iter().collect();
        let names = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
        let problem = format!(
            "found {}, allowed is a backend that is configured ({names}){}; add [backends.NAME] or name another",
            found(given, false),
            meant(name, &known),
        );
        self.refuse(key, given, &problem);
        None
    }

    /// The text at `key`, if it is there and allowed.
    fn text(&mut self, key: &str, allowed: ValueKind) -> Option<&'a str> {
        let given = self.entries.get(key)?;
        match &given.value {
            Value::Text(text) if allowed.allows(text) => Some(text),
            _ => {
                self.refuse(key, given, &format!("found {}, allowed is {allowed}", found(given, false)));
                None
            }
        }
    }

    /// The value of a key as text, if it is allowed.
    pub(super) fn value(&mut self, full: &str, known: &SettingKey) -> Option<String> {
        let given = &self.entries[full];
        let text = match (&given.value, known.value) {
            (Value::Text(text), _) => Some(text.clone()),
            (Value::Number(number), ValueKind::Integer { .. } | ValueKind::Share) => Some(number.clone()),
            (Value::Bool(value), ValueKind::Bool) => Some(value.to_string()),
            _ => None,
        };
        let text = text.filter(|text| known.value.allows(text));
        if text.is_none() {
            let problem = format!("found {}, allowed is {}", found(given, known.secret), known.value);
            self.refuse(full, given, &problem);
        }
        text
    }

    pub(super) fn refuse(&mut self, key: &str, given: &Given, problem: &str) {
        self.problems.push(format!("{}: {problem}", given.source.place(key)));
    }

    /// What follows `prefix` in the keys that begin with it.
    pub(super) fn below<'p>(&self, prefix: &'p str) -> impl Iterator<Item = &'a str> + use<'a, 'p> {
        let entries: &'a BTreeMap<String, Given> = self.entries;
        entries.keys().filter_map(move |key| key.strip_prefix(prefix))
    }

    /// The first entry at or below `at`; callers found `at` among the keys.
    pub(super) fn first_of(&self, at: &str) -> (&'a str, &'a Given) {
        let entries: &'a BTreeMap<String, Given> = self.entries;
        let mut found = entries.iter().filter(|(key, _)| {
            key.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        // Cannot fail: see above.
        let (key, given) = found.next().expect("a key at or below a name that came from the keys");
        (key, given)
    }
}

/// A number of days, hours, minutes or seconds, above zero and not above ten years.
fn days_or_less(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..unit].parse().ok()?;
    let seconds = match &text[unit..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let total = number.checked_mul(seconds)?;
    (1..=3_650 * 86_400).contains(&total).then(|| Duration::from_secs(total))
}

pub(super) const EMPTY_TABLE: &str = "an empty table";

pub(super) fn first_part(key: &str) -> &str {
    key.split('.').next().unwrap_or(key)
}

fn found(given: &Given, secret: bool) -> String {
    match &given.value {
        Value::Text(text) if text.is_empty() => "empty text".to_owned(),
        Value::Other(what) => (*what).to_owned(),
        _ if secret || !given.source.is_shown() => "a hidden value".to_owned(),
        Value::Text(text) => format!("{text:?}"),
        Value::Number(number) => format!("the number {number}"),
        Value::Bool(value) => format!("the truth value {value}"),
    }
}

/// The one of `known` that differs in case only.
fn meant(found: &str, known: &[&str]) -> String {
    let near = known.iter().find(|known| **known != found && known.eq_ignore_ascii_case(found));
    near.map_or_else(String::new, |near| format!("; did you mean {near}? Case counts"))
}

/// The environment variable of a key.
pub(super) fn variable(key: &str) -> String {
    format!("CHANGEOVER_{}", key.to_ascii_uppercase().replace('.', "__"))
}
