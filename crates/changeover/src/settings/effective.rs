//! What holds and where it came from, and the settings file that says what could be set.

use std::fmt::Write as _;

use changeover_core::{Registry, SettingKey, ValueKind};

use super::check::{DEFAULT_TENANT, PROFILES};
use super::shadow;
use super::{BUILT_IN, Given, PersistenceOptions, Source, Value};

/// A setting that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The dotted key.
    pub key: String,
    /// Its value, `«hidden»` for secrets and for what came from the environment.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

const HIDDEN: &str = "«hidden»";

pub(super) fn effective(options: &PersistenceOptions, registry: &Registry) -> Vec<EffectiveSetting> {
    let entries = options.entries();
    let kind = |name: &str| match entries.get(&format!("backends.{name}.kind")).map(|given| &given.value) {
        Some(Value::Text(kind)) => registry.get(kind).ok(),
        _ => None,
    };
    let mut settings = Vec::new();
    for (key, given) in &entries {
        let secret = match key.strip_prefix("backends.").and_then(|rest| rest.split_once('.')) {
            Some((name, key)) => kind(name)
                .is_some_and(|kind| kind.keys().iter().any(|known| known.names(key) && known.secret)),
            None => false,
        };
        if let Some(value) = shown(given, secret) {
            settings.push(EffectiveSetting { key: key.clone(), value, source: given.source.clone() });
        }
    }
    let mut default = |key: String, value: &str| {
        if !entries.contains_key(&key) {
            settings.push(EffectiveSetting { key, value: value.to_owned(), source: Source::Default });
        }
    };
    default("profile".to_owned(), PROFILES[0]);
    default("tenant".to_owned(), DEFAULT_TENANT);
    let names = entries.keys().filter_map(|key| key.strip_prefix("backends.")?.strip_suffix(".kind"));
    for name in names {
        for known in kind(name).map(changeover_core::Backend::keys).unwrap_or_default() {
            if let Some(value) = known.default {
                default(format!("backends.{name}.{}", known.key), value);
            }
        }
    }
    let shadows = entries.keys().filter_map(|key| key.strip_prefix("shadow.")?.strip_suffix(".with"));
    for module in shadows {
        for known in shadow::KEYS {
            if let Some(value) = known.default {
                default(format!("shadow.{module}.{}", known.key), value);
            }
        }
    }
    settings.sort_by(|a, b| a.key.cmp(&b.key));
    settings
}

fn shown(given: &Given, secret: bool) -> Option<String> {
    let value = match &given.value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Other(_) => return None,
    };
    Some(if secret || !given.source.is_shown() { HIDDEN.to_owned() } else { value })
}

const HEAD: &str = r#"# Every key, its default and what it means. What stands here holds also without a file.
# A variable CHANGEOVER_… wins over the file, __ stands between levels: CHANGEOVER_BACKENDS__MAIN__URL.

# `development`, or `production`: every module used must be named below.
profile = "development"

# The tenant whose records a single-tenant service keeps.
tenant = "default"

[persistence]
# The backend of every module without a key of its own.
default = "local"

# One key a module: events, audit, playbooks, or one of your own, whose namespace (a prefix of its tables) is its name
# unless another is given.
# audit = "main"
# scheduler = { backend = "main", namespace = "scheduler" }

[cutover]
# A run is begun only if a drill of the same cutover is younger; without it none is asked for. (a number and a unit like 7d,
# 12h or 30m, above zero)
# drill_within = "7d"
"#;

const SHADOW: &str = "
# While a module is moved: some of its reads are asked of the new store as well, in the background, and compared. Without
# this section none are. One section a module.
# [shadow.events]
";

pub(super) fn template(registry: &Registry) -> String {
    let mut text = HEAD.to_owned();
    for kind in registry.kinds() {
        let Ok(backend) = registry.get(kind) else { continue };
        let local = BUILT_IN.contains(&("backends.local.kind", kind));
        let (name, mark) = if local { ("local", "") } else { (kind, "# ") };
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{mark}[backends.{name}]\n{mark}kind = \"{kind}\"\n");
        for key in backend.keys() {
            let full = format!("backends.{name}.{}", key.key);
            let built_in = BUILT_IN.iter().find(|(key, _)| local && *key == full).map(|(_, value)| *value);
            let _ = write!(text, "\n# {}\n{}\n", sentence(key), line(key, mark, built_in));
        }
    }
    text.push_str(SHADOW);
    for key in shadow::KEYS {
        let _ = write!(text, "\n# {}\n# {}\n", sentence(key), line(key, "", None).trim_start_matches("# "));
    }
    text
}

fn sentence(key: &SettingKey) -> String {
    let required = if key.required { "required; " } else { "" };
    format!("{} ({required}{})", key.doc, key.value)
}

fn line(key: &SettingKey, mark: &str, built_in: Option<&str>) -> String {
    match (built_in.or(key.default), key.value) {
        (Some(value), ValueKind::Bool | ValueKind::Integer { .. } | ValueKind::Share) => {
            format!("{mark}{} = {value}", key.key)
        }
        (Some(value), _) => format!("{mark}{} = {value:?}", key.key),
        (None, _) => format!("# {} = \"\"", key.key),
    }
}
