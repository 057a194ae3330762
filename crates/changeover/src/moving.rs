//! A module on its way from one configured backend to another.

use std::sync::Arc;

use changeover_core::backend::Family;
use changeover_core::cutover::{CutoverSide, SourceColumn, SourceFacts, SourceTable, Table};
use changeover_core::{Error, ErrorKind, ModuleScope, OpenBackend, Result};
use changeover_cutover::{Cutover, declare};

use crate::db::Db;

/// Which module is to be moved, and between which backends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Move {
    /// The module.
    pub module: String,
    /// Name of the backend that it is moved from; `None`: the one of the settings that can be moved from.
    pub old: Option<String>,
    /// Name of the backend that it is moved to; `None`: the one of the settings that can be moved to.
    pub new: Option<String>,
    /// Declarations of the user's own ([`declare::parse`]); `None`: those of the program.
    pub tables: Option<Vec<Table>>,
    /// Who does it, for the record.
    pub who: String,
}

impl Move {
    /// Of a module, by the settings.
    pub fn of(module: impl Into<String>, who: impl Into<String>) -> Self {
        Self { module: module.into(), who: who.into(), ..Self::default() }
    }
}

impl Db {
    /// The cutover of a module, with the tables that it has. Nothing is changed by this; neither store is asked for its owner. Meant
    /// for a [`connect_to_look`](crate::connect_to_look), which makes no file where one is missing.
    ///
    /// # Errors
    ///
    /// - `Config` unless the settings have exactly one backend to move from and one to move to, or they are named; and for a
    ///   module of the user's own whose tables are neither declared nor known.
    /// - `NotFound` if there is no file. `Unsupported` if the file belongs to another tenant.
    /// - Those of opening the backends: all are opened unless both are named.
    pub async fn cutover(&self, of: &Move) -> Result<Cutover> {
        let found = self.find(of).await?;
        Cutover::new(&found.scope, found.tables, found.old.side, found.new.side, of.who.as_str())
    }

    /// What is moved, and both backends.
    pub(crate) async fn find(&self, of: &Move) -> Result<Found> {
        let module = self.module(&of.module)?;
        let scope = module.scope();
        let mut sides = self.sides(scope, of).await?;
        let old = pick(&sides, of.old.as_deref(), &OLD, &of.module)?;
        let new = pick(&sides, of.new.as_deref(), &NEW, &of.module)?;
        let tables = match (&of.tables, &sides[old].side) {
            (None, CutoverSide::Old { source, .. }) => {
                let facts = source.facts().await?;
                let tables = known(scope, &facts)?;
                self.check_tenant(&*sides[old].backend, scope).await?;
                tables
            }
            (tables, _) => tables.clone().unwrap_or_default(),
        };
        // One can be moved from and the other to, so that they are two.
        let later = sides.swap_remove(old.max(new));
        let earlier = sides.swap_remove(old.min(new));
        let (old, new) = if old < new { (earlier, later) } else { (later, earlier) };
        Ok(Found { scope: scope.clone(), tables, old, new })
    }

    async fn sides(&self, scope: &ModuleScope, of: &Move) -> Result<Vec<Candidate>> {
        let names: Vec<_> = match (&of.old, &of.new) {
            (Some(old), Some(new)) => vec![old.clone(), new.clone()],
            _ => self.backends().map(|(name, _)| name.to_owned()).collect(),
        };
        let mut sides = Vec::new();
        for name in names {
            let backend = self.backend(&name).await?;
            match backend.cutover(scope) {
                Ok(side) => sides.push(Candidate { name, side, backend }),
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                Err(error) => return Err(error.with("backend", &name)),
            }
        }
        Ok(sides)
    }

    /// An adopted file has one tenant, which its settings name: its rows become nobody else's.
    async fn check_tenant(&self, old: &dyn OpenBackend, scope: &ModuleScope) -> Result<()> {
        let refused = match family_of(scope) {
            Some(Family::Audit) => old.audit(scope, self.tenant()).await.err(),
            Some(Family::Playbooks) => old.playbooks(scope, self.tenant()).await.err(),
            Some(Family::Events) | None => old.events(scope, self.tenant()).await.err(),
        };
        match refused {
            Some(error) if error.kind() == ErrorKind::Unsupported => Err(error),
            // That the module is fenced, say: no matter here.
            _ => Ok(()),
        }
    }
}

/// A module that can be moved.
pub(crate) struct Found {
    pub(crate) scope: ModuleScope,
    pub(crate) tables: Vec<Table>,
    pub(crate) old: Candidate,
    pub(crate) new: Candidate,
}

/// A backend that can be moved from or to.
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) side: CutoverSide,
    backend: Arc<dyn OpenBackend>,
}

/// One of the two ways to look at a backend.
struct Way {
    word: &'static str,
    option: &'static str,
    is: fn(&CutoverSide) -> bool,
}

const OLD: Way = Way { word: "from", option: "old", is: |side| matches!(side, CutoverSide::Old { .. }) };
const NEW: Way = Way { word: "to", option: "new", is: |side| matches!(side, CutoverSide::New { .. }) };

/// The place of the backend that is meant.
fn pick(sides: &[Candidate], named: Option<&str>, way: &Way, module: &str) -> Result<usize> {
    let mut fitting = (0..sides.len()).filter(|at| (way.is)(&sides[*at].side));
    let found = match named {
        Some(name) => fitting.find(|at| sides[*at].name == name),
        None => fitting.next().filter(|_| fitting.next().is_none()),
    };
    found.ok_or_else(|| {
        let fitting: Vec<_> =
            sides.iter().filter(|side| (way.is)(&side.side)).map(|side| &*side.name).collect();
        let Way { word, option, .. } = way;
        let message = match (named, &fitting[..]) {
            (Some(name), []) => format!("module {module} cannot be moved {word} backend {name}"),
            (Some(name), _) => {
                format!("module {module} cannot be moved {word} backend {name}; allowed are {}", fitting.join(", "))
            }
            (None, []) => format!(
                "the settings have no backend that module {module} could be moved {word}; name one under [backends]"
            ),
            (None, _) => format!(
                "the settings have several backends that module {module} could be moved {word}: {}; name one ({option})",
                fitting.join(", ")
            ),
        };
        Error::new(ErrorKind::Config, message)
    })
}

pub(crate) const FAMILIES: [Family; 3] = [Family::Events, Family::Audit, Family::Playbooks];

/// The one family of a built-in module.
fn family_of(scope: &ModuleScope) -> Option<Family> {
    FAMILIES.into_iter().find(|family| family.as_str() == scope.module.as_str())
}

/// The program's own declarations: of a built-in module those of its family, of a user's those of each family that the
/// file has.
fn known(scope: &ModuleScope, facts: &SourceFacts) -> Result<Vec<Table>> {
    let families = family_of(scope).map_or(FAMILIES.to_vec(), |family| vec![family]);
    let mut tables = Vec::new();
    for family in families {
        let native = declare::ours(family, false, scope);
        let is_there = native.first().is_some_and(|table| found(table, facts).is_some());
        if is_there || family_of(scope).is_some() {
            let adopted = native.iter().any(|table| lacks_column(table, facts));
            tables.extend(if adopted { declare::ours(family, true, scope) } else { native });
        }
    }
    if tables.is_empty() {
        let message = format!(
            "module {} has no table in the file that the program knows; declare its tables",
            scope.module
        );
        return Err(Error::new(ErrorKind::Config, message));
    }
    Ok(declare::present(tables, facts))
}

fn found<'a>(table: &Table, facts: &'a SourceFacts) -> Option<&'a SourceTable> {
    facts.tables.iter().find(|found| found.name.eq_ignore_ascii_case(&table.source))
}

/// Whether the file has the table without what `migrate up` gives it: legacy programs made it.
fn lacks_column(table: &Table, facts: &SourceFacts) -> bool {
    let Some(found) = found(table, facts) else { return false };
    table.source_columns().iter().any(|column| match column {
        SourceColumn::Named(name) => !found.columns.iter().any(|(it, _)| it.eq_ignore_ascii_case(name)),
        SourceColumn::Rowid => false,
    })
}
