//! `doctor`: every fact that keeps the service from working, found without changing anything.

use changeover::backend::{Check, Family};
use changeover::cutover::contract::CutoverSide;
use changeover::events::Readiness;
use changeover::{Db, Error, ErrorKind, Module, ModuleName, ModuleScope, OpenBackend, TenantId};
use serde::Serialize;

use crate::args::Common;
use crate::exit::{Failure, Status, advice};
use crate::families;
use crate::output::{Out, printable};
use crate::settings;

pub async fn run(common: &Common, out: &mut Out) -> Result<Status, Failure> {
    let db = settings::connect_to_look(common, out)?;
    let mut findings = Findings::default();
    findings.push("settings", "checked", true, "no mistake found");
    for (name, kind) in db.backends() {
        backend(&db, name, kind, &mut findings).await;
    }
    for module in families::modules(&db)? {
        module_of(&db, &module, &mut findings).await;
    }
    db.close().await;
    findings.report(out)
}

async fn backend(db: &Db, name: &str, kind: &str, findings: &mut Findings) {
    let about = format!("backend {name}");
    match db.backend(name).await {
        Ok(open) => {
            findings.push(&about, "reached", true, kind);
            for Check { name, ok, detail } in open.check().await {
                findings.push(&about, &name, ok, &detail);
            }
        }
        Err(error) => findings.failed(&about, "reached", &error),
    }
}

/// Asks the module's backend by the settings. Going through the module itself would claim it.
async fn module_of(db: &Db, name: &ModuleName, findings: &mut Findings) {
    let about = format!("module {name}");
    let module = match db.module(name.as_str()) {
        Ok(module) => module,
        Err(error) => return findings.failed(&about, "settings", &error),
    };
    let configured = module.configured_backend();
    // That it cannot be reached was said above.
    let Ok(backend) = db.backend(configured).await else { return };
    let families = match families_of(db, &module, &*backend, &about, findings).await {
        Ok(families) => families,
        Err(error) => return findings.failed(&about, "schema", &error),
    };
    if families.is_empty() {
        return;
    }
    match cutover(&*backend, module.scope()).await {
        Ok(None) => {}
        Ok(Some(stand)) => findings.push(&about, "cutover", true, &stand),
        Err(error) => findings.failed(&about, "cutover", &error),
    }
    match backend.owner(module.scope()).await {
        Ok(None) => {}
        Ok(Some(owner)) if owner == "none" => {
            return findings.push(&about, "owner", true, "nobody yet; the first start claims it");
        }
        Ok(Some(owner)) if owner == backend.kind() => findings.push(&about, "owner", true, &owner),
        Ok(Some(owner)) => {
            let detail = format!(
                "the stores record {owner}, the settings say {configured} ({}); the stores are followed, correct \
                 persistence.{name}",
                backend.kind()
            );
            return findings.push(&about, "owner", false, &detail);
        }
        Err(error) => return findings.failed(&about, "owner", &error),
    }
    for family in families {
        let check = if family.as_str() == name.as_str() { "ready" } else { family.as_str() };
        match ready(&*backend, module.scope(), db.tenant(), family).await {
            Ok(ready) => findings.push(&about, check, true, &listed(configured, &ready.notes)),
            Err(error) => findings.failed(&about, check, &error),
        }
    }
}

/// Where the module stands in a cutover, as far as this backend knows; `None` if there is nothing to tell.
async fn cutover(backend: &dyn OpenBackend, scope: &ModuleScope) -> Result<Option<String>, Error> {
    let module = &scope.module;
    match backend.cutover(scope) {
        Ok(CutoverSide::Old { source, .. }) => Ok(source.meta().await?.and_then(|file| match (file.open, file.captures) {
            (true, true) => Some(format!(
                "a run is under way, writes to the file are captured; `changeover cutover status {module}` tells more"
            )),
            (true, false) => None,
            (false, _) => Some("the file is closed to writers, the module was moved away or is on its way".to_owned()),
        })),
        Ok(CutoverSide::New { target, .. }) => Ok(target.run().await?.and_then(|run| match &*run.phase {
            "idle" | "finalized" => None,
            phase => Some(format!(
                "run {} is in the phase {phase}; `changeover cutover status {module}` tells more",
                run.run
            )),
        })),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

/// The families to be looked at. A built-in module that the settings do not name need not have its tables.
async fn families_of(
    db: &Db,
    module: &Module,
    backend: &dyn OpenBackend,
    about: &str,
    findings: &mut Findings,
) -> Result<Vec<Family>, Error> {
    let families = families::of(module, backend).await?;
    let optional = families::is_implied(db, module.name()) && families != [Family::Events];
    let [family] = families.as_slice() else { return Ok(families) };
    let has_schema = backend.migrations(module.scope(), *family).is_ok();
    if optional && has_schema && !families::is_there(module, backend, *family).await? {
        let detail = "none yet, and the settings do not name the module; the first use makes it where the settings \
                      migrate on start, `changeover migrate up` everywhere";
        findings.push(about, "schema", true, detail);
        return Ok(Vec::new());
    }
    Ok(families)
}

async fn ready(
    backend: &dyn OpenBackend,
    scope: &ModuleScope,
    tenant: &TenantId,
    family: Family,
) -> Result<Readiness, Error> {
    match family {
        Family::Events => backend.events(scope, tenant).await?.ready().await,
        Family::Audit => backend.audit(scope, tenant).await?.ready().await,
        Family::Playbooks => backend.playbooks(scope, tenant).await?.ready().await,
    }
}

fn listed(backend: &str, notes: &[String]) -> String {
    let mut text = format!("on {backend}");
    for note in notes {
        text.push_str("; ");
        text.push_str(note);
    }
    text
}

/// One fact.
#[derive(Serialize)]
struct Finding {
    about: String,
    check: String,
    ok: bool,
    detail: String,
}

#[derive(Default)]
struct Findings {
    all: Vec<Finding>,
    unreachable: bool,
}

impl Findings {
    fn push(&mut self, about: &str, check: &str, ok: bool, detail: &str) {
        let (about, check, detail) = (about.to_owned(), check.to_owned(), detail.to_owned());
        self.all.push(Finding { about, check, ok, detail });
    }

    fn failed(&mut self, about: &str, check: &str, error: &Error) {
        let kind = error.kind();
        self.unreachable |= Status::from(kind) == Status::Unreachable;
        let mut detail = format!("{kind}: {}", error.message());
        if kind == ErrorKind::SchemaMismatch
            && let Some(advice) = advice(kind)
        {
            detail.push_str("; ");
            detail.push_str(advice);
        }
        self.push(about, check, false, &detail);
    }

    fn report(self, out: &mut Out) -> Result<Status, Failure> {
        let mut bad = 0;
        for finding in &self.all {
            bad += usize::from(!finding.ok);
            if out.is_json() {
                out.object(finding)?;
            } else {
                // No table: details are sentences, and lines of their width would be unreadable.
                let mark = if finding.ok { "ok " } else { "BAD" };
                let Finding { about, check, detail, .. } = finding;
                out.line(&printable(&format!("{mark}  {about}: {check}: {detail}")))?;
            }
        }
        let count = self.all.len();
        if bad == 0 {
            out.note(&format!("all {count} checks are well"))?;
            return Ok(Status::Done);
        }
        let status = if self.unreachable { Status::Unreachable } else { Status::Refused };
        Err(Failure::new(status, format!("{bad} of {count} checks are not well")))
    }
}
