//! `migrate`: the schemas of modules on backends, up, down and their status.

use std::collections::BTreeSet;
use std::sync::Arc;

use changeover::backend::{Family, MigrationStatus, Migrations};
use changeover::{Db, ErrorKind, Module, ModuleName, OpenBackend};
use serde::Serialize;

use crate::args::{Migrate, Target};
use crate::exit::{Failure, Status};
use crate::families;
use crate::output::Out;

pub async fn run(command: Migrate, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    match command {
        Migrate::Up { target } => up(&schemas(db, &target, out).await?, out).await,
        Migrate::Down { target, steps, accept_data_loss } => {
            let schemas = schemas(db, &target, out).await?;
            let [schema] = schemas.as_slice() else { return Err(which(&schemas)) };
            let undone =
                schema.migrations.down(steps, accept_data_loss).await.map_err(|e| schema.place(e))?;
            report(schema, &undone, out)?;
            out.note(&format!("{}: {} taken back", schema.name(), undone.len()))?;
            Ok(Status::Done)
        }
        Migrate::Status { target } => status(&schemas(db, &target, out).await?, out).await,
    }
}

/// The schema of one family of one module on one backend.
struct Schema {
    backend: String,
    module: ModuleName,
    family: Family,
    /// Not named by the settings or the command.
    implied: bool,
    migrations: Arc<dyn Migrations>,
}

impl Schema {
    fn name(&self) -> String {
        if self.family.as_str() == self.module.as_str() {
            return format!("{} on {}", self.module, self.backend);
        }
        format!("{} ({}) on {}", self.module, self.family.as_str(), self.backend)
    }

    fn place(&self, error: changeover::Error) -> changeover::Error {
        error.with("backend", &self.backend).with("module", self.module.as_str())
    }

    async fn is_there(&self) -> Result<bool, changeover::Error> {
        families::is_applied(&*self.migrations).await.map_err(|error| self.place(error))
    }
}

fn is_not_served(error: &changeover::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::SchemaMismatch)
}

async fn schemas(db: &Db, target: &Target, out: &mut Out) -> Result<Vec<Schema>, Failure> {
    let mut schemas = Vec::new();
    let modules = match &target.module {
        Some(module) => BTreeSet::from([module.clone()]),
        None => families::modules(db)?,
    };
    for name in modules {
        let module = db.module(name.as_str())?;
        let backend_name = target.backend.as_deref().unwrap_or(module.configured_backend()).to_owned();
        let backend = db.backend(&backend_name).await?;
        let place =
            |error: changeover::Error| error.with("backend", &backend_name).with("module", name.as_str());
        let implied = target.module.is_none() && families::is_implied(db, &name);
        for family in wanted(&module, &*backend, target).await.map_err(place)? {
            match backend.migrations(module.scope(), family) {
                Ok(migrations) => schemas.push(Schema {
                    backend: backend_name.clone(),
                    module: name.clone(),
                    family,
                    implied,
                    migrations,
                }),
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    out.note(&format!("{name} on {backend_name}: {}", error.message()))?;
                }
                Err(error) => return Err(place(error).into()),
            }
        }
    }
    Ok(schemas)
}

/// A module that is named gets the families that are named; otherwise those that it has, as far as they are meant.
async fn wanted(
    module: &Module,
    backend: &dyn OpenBackend,
    target: &Target,
) -> Result<Vec<Family>, changeover::Error> {
    let named = &target.families;
    if target.module.is_some() && !named.is_empty() {
        return Ok(named.iter().copied().collect::<BTreeSet<_>>().into_iter().collect());
    }
    let mut families = families::of(module, backend).await?;
    families.retain(|family| named.is_empty() || named.contains(family));
    Ok(families)
}

fn which(schemas: &[Schema]) -> Failure {
    if schemas.is_empty() {
        return Failure::usage("there is no schema to take back there");
    }
    let names: Vec<_> = schemas.iter().map(Schema::name).collect();
    Failure::usage(format!(
        "down works on one schema at a time, and several are meant: {}; name one by --module, --family and --backend",
        names.join(", ")
    ))
}

async fn up(schemas: &[Schema], out: &mut Out) -> Result<Status, Failure> {
    for schema in schemas {
        let applied = match schema.migrations.up().await {
            Ok(applied) => applied,
            // Nobody asked for it, and nothing of it is there: a server without pgvector serves everything else.
            Err(error) if schema.implied && is_not_served(&error) && !schema.is_there().await? => {
                out.note(&format!("{}: left out: {}", schema.name(), error.message()))?;
                continue;
            }
            Err(error) => return Err(schema.place(error).into()),
        };
        report(schema, &applied, out)?;
        out.note(&match applied.len() {
            0 => format!("{}: up to date", schema.name()),
            count => format!("{}: {count} applied", schema.name()),
        })?;
    }
    Ok(Status::Done)
}

async fn status(schemas: &[Schema], out: &mut Out) -> Result<Status, Failure> {
    let mut problems = 0;
    for schema in schemas {
        let known = schema.migrations.status().await.map_err(|error| schema.place(error))?;
        problems += known.iter().filter(|migration| migration.problem.is_some()).count();
        report(schema, &known, out)?;
    }
    if problems > 0 {
        return Err(Failure::refused(format!(
            "{problems} applied migrations are not those of this program; use the program that applied them, or \
             restore their text: applied migrations are never changed"
        )));
    }
    Ok(Status::Done)
}

/// A migration, as programs read it.
#[derive(Serialize)]
struct Row<'a> {
    backend: &'a str,
    module: &'a str,
    family: &'a str,
    id: &'a str,
    description: &'a str,
    checksum: &'a str,
    applied_at: Option<changeover::Timestamp>,
    problem: Option<&'a str>,
}

fn report(schema: &Schema, migrations: &[MigrationStatus], out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        return migrations.iter().try_for_each(|migration| {
            out.object(&Row {
                backend: &schema.backend,
                module: schema.module.as_str(),
                family: schema.family.as_str(),
                id: &migration.id,
                description: &migration.description,
                checksum: &migration.checksum,
                applied_at: migration.applied_at,
                problem: migration.problem.as_deref(),
            })
        });
    }
    let rows: Vec<_> = migrations
        .iter()
        .map(|migration| {
            let applied = migration.applied_at.map_or_else(|| "not applied".to_owned(), |at| at.to_string());
            let state = migration.problem.clone().unwrap_or(applied);
            [
                schema.backend.clone(),
                schema.module.to_string(),
                migration.id.clone(),
                state,
                migration.description.clone(),
            ]
        })
        .collect();
    out.rows(["backend", "module", "migration", "applied", "description"], &rows)
}
