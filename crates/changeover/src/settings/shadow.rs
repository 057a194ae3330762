//! `[shadow.MODULE]`: which reads are compared with the store that a module is moved to.

use std::collections::{BTreeMap, BTreeSet};

use changeover_core::{BackendSettings, ModuleName, SettingKey, ValueKind};

use super::BackendPlan;
use super::check::{Check, first_part};
use crate::home::SERVER;

/// What stands below `shadow.MODULE`.
pub(super) const KEYS: &[SettingKey] = &[
    key("with", ValueKind::Text, None, "the backend that the module is moved to"),
    key("share", ValueKind::Share, Some("0.1"), "the share of the reads that is compared"),
    key(
        "at_once",
        ValueKind::Integer { min: 1, max: 64 },
        Some("2"),
        "the most comparisons at once; a read beyond is not compared, and counted",
    ),
    key("within", ValueKind::Duration, Some("10s"), "the longest a comparison may take"),
];

const fn key(
    key: &'static str,
    value: ValueKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> SettingKey {
    SettingKey { key, value, default, required: default.is_none(), secret: false, doc }
}

/// The budget of a module.
#[derive(Clone, Debug)]
pub(crate) struct ShadowPlan {
    pub(crate) with: String,
    pub(crate) share: f64,
    pub(crate) at_once: usize,
    pub(crate) within: std::time::Duration,
}

impl Check<'_> {
    pub(super) fn shadows(
        &mut self,
        backends: &BTreeMap<String, BackendPlan>,
    ) -> BTreeMap<ModuleName, ShadowPlan> {
        let names: BTreeSet<&str> = self.below("shadow.").map(first_part).collect();
        let mut shadows = BTreeMap::new();
        for name in names {
            let at = format!("shadow.{name}");
            match ModuleName::new(name) {
                Err(error) => {
                    let (key, given) = self.first_of(&at);
                    self.refuse(key, given, error.message());
                }
                Ok(module) => shadows.extend(self.shadow(&at, backends).map(|plan| (module, plan))),
            }
        }
        shadows
    }

    fn shadow(&mut self, at: &str, backends: &BTreeMap<String, BackendPlan>) -> Option<ShadowPlan> {
        if let Some(given) = self.entries.get(at) {
            self.refuse(at, given, "allowed is a table; write it as a section");
            return None;
        }
        let prefix = format!("{at}.");
        let (mut settings, before) = (BackendSettings::new(at), self.problems.len());
        let given: Vec<&str> = self.below(&prefix).collect();
        for key in given {
            let full = format!("{prefix}{key}");
            let Some(known) = KEYS.iter().find(|known| known.names(key)) else {
                let names: Vec<_> = KEYS.iter().map(|known| known.key).collect();
                let problem = format!("a shadow has no key {key:?}; allowed are {}", names.join(", "));
                self.refuse(&full, &self.entries[&full], &problem);
                continue;
            };
            // The name of a backend has a rule of its own.
            if known.required {
                continue;
            }
            if let Some(value) = self.value(&full, known) {
                settings = settings.with(key, value);
            }
        }
        let with = self.server(&format!("{prefix}with"), at, backends);
        if self.problems.len() > before {
            return None;
        }
        // The values were checked, and what is not given has a default.
        Some(ShadowPlan {
            with: with?,
            share: settings.share(KEYS, "share").ok()?,
            at_once: usize::try_from(settings.integer(KEYS, "at_once").ok()?).ok()?,
            within: settings.duration(KEYS, "within").ok()?,
        })
    }

    /// The name of a configured backend that a module can be moved to.
    fn server(&mut self, key: &str, at: &str, backends: &BTreeMap<String, BackendPlan>) -> Option<String> {
        let Some(given) = self.entries.get(key) else {
            let (_, given) = self.first_of(at);
            let problem =
                format!("{}: {key} is missing; name the backend that the module is moved to", given.source);
            self.problems.push(problem);
            return None;
        };
        let name = self.backend_name(key, backends)?;
        if backends[&name].kind == SERVER {
            return Some(name);
        }
        let problem = format!(
            "backend {name} is of the kind {}; allowed is one of the kind {SERVER}, which modules are moved to",
            backends[&name].kind
        );
        self.refuse(key, given, &problem);
        None
    }
}
