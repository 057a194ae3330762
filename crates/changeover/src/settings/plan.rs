//! What the settings come to after they were checked.

use std::collections::BTreeMap;
use std::time::Duration;

use changeover_core::{
    BackendSettings, Error, ErrorKind, ModuleName, ModuleScope, Namespace, Result, TenantId,
};

use super::ShadowPlan;

/// Modules whose tables have the plain names.
pub(crate) const BUILT_IN_MODULES: [&str; 3] = ["events", "audit", "playbooks"];

pub(crate) struct Plan {
    pub(crate) tenant: TenantId,
    pub(crate) production: bool,
    pub(crate) default: Option<String>,
    pub(crate) modules: BTreeMap<ModuleName, ModulePlan>,
    pub(crate) backends: BTreeMap<String, BackendPlan>,
    /// How young the drill of a cutover has to be before a run is begun; `None`: none is needed.
    pub(crate) drill_within: Option<Duration>,
    /// The modules whose reads are compared.
    pub(crate) shadows: BTreeMap<ModuleName, ShadowPlan>,
    /// What to say first.
    pub(crate) notice: Option<&'static str>,
}

pub(crate) struct ModulePlan {
    pub(crate) backend: String,
    pub(crate) namespace: Option<Namespace>,
}

#[derive(Clone)]
pub(crate) struct BackendPlan {
    pub(crate) kind: String,
    pub(crate) settings: BackendSettings,
    pub(crate) migrate_on_start: bool,
}

impl Plan {
    /// The module as a backend sees it, and the name of the backend that the settings give it.
    pub(crate) fn module(&self, name: &str) -> Result<(ModuleScope, &str)> {
        let module = ModuleName::new(name)?;
        if let Some(plan) = self.modules.get(&module) {
            return Ok((ModuleScope { module, namespace: plan.namespace.clone() }, &plan.backend));
        }
        let refuse = |why: &str| {
            let message = format!("module {name}: {why}; set persistence.{name} to the name of a backend");
            Err(Error::new(ErrorKind::Config, message))
        };
        if self.production {
            return refuse("the profile production wants a backend named for each module");
        }
        let Some(default) = &self.default else {
            return refuse("no backend is named for it and there is no persistence.default");
        };
        let namespace = implied_namespace(&module)?;
        let taken =
            self.modules.iter().find(|(_, plan)| plan.namespace.is_some() && plan.namespace == namespace);
        if let Some((other, _)) = taken {
            return refuse(&format!("its namespace is taken by module {other}"));
        }
        Ok((ModuleScope { module, namespace }, default))
    }

    /// The backends that some module is on.
    pub(crate) fn used_backends(&self) -> Vec<&str> {
        let named = self.modules.values().map(|module| module.backend.as_str());
        let mut used: Vec<_> = named.chain(self.default.as_deref()).collect();
        used.sort_unstable();
        used.dedup();
        used
    }
}

/// The namespace of a module that the settings give none.
pub(crate) fn implied_namespace(module: &ModuleName) -> Result<Option<Namespace>> {
    if BUILT_IN_MODULES.contains(&module.as_str()) {
        return Ok(None);
    }
    Namespace::new(module.as_str()).map(Some)
}
