//! `config show`: what holds and where it came from.

use changeover::{PersistenceOptions, registry};

use crate::exit::{Failure, Status};
use crate::output::Out;

pub fn show(options: &PersistenceOptions, out: &mut Out) -> Result<Status, Failure> {
    let settings = options.effective(&registry())?;
    let rows: Vec<_> = settings
        .into_iter()
        .map(|setting| [setting.key, setting.value, setting.source.to_string()])
        .collect();
    out.rows(["key", "value", "source"], &rows)?;
    Ok(Status::Done)
}
