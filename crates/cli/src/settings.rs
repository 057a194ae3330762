//! The settings as this command reads them: the file of `--config`, the environment, `--tenant`.

use changeover::{Db, Layers, PersistenceOptions, connect_lazily, registry};

use crate::args::Common;
use crate::exit::Failure;
use crate::output::Out;

/// Variables with the prefix that are no settings: of the demo, and of this project's own tests.
const NO_SETTINGS: [&str; 3] = [DEMO_POSTGRES_URL, "CHANGEOVER_TEST_", "CHANGEOVER_WITHOUT_SHARED"];

/// The PostgreSQL database that the demo may use. A variable, since arguments can be read by every user of a machine.
pub const DEMO_POSTGRES_URL: &str = "CHANGEOVER_DEMO_POSTGRES_URL";

/// The settings, not yet checked.
pub fn load(common: &Common) -> PersistenceOptions {
    let variables = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        !NO_SETTINGS.iter().any(|no| name.starts_with(no))
    });
    let layers = Layers::of_process().environment(variables);
    match &common.config {
        Some(file) => layers.file(file).load(),
        None => layers.load(),
    }
}

/// The backends by the settings, each opened at its first use, for the tenant that is meant.
pub fn connect(common: &Common, out: &mut Out) -> Result<Db, Failure> {
    for_tenant(connect_lazily(load(common), registry())?, common, out)
}

/// The same for a look: nothing is made or changed by opening.
pub fn connect_to_look(common: &Common, out: &mut Out) -> Result<Db, Failure> {
    for_tenant(changeover::connect_to_look(load(common), registry())?, common, out)
}

fn for_tenant(db: Db, common: &Common, out: &mut Out) -> Result<Db, Failure> {
    if let Some(notice) = db.notice() {
        out.note(notice)?;
    }
    Ok(match &common.tenant {
        Some(tenant) => db.for_tenant(tenant.clone()),
        None => db,
    })
}
