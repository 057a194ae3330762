//! The gate that reads look at: whether the module was this database's for as long as the read took.
//!
//! A revert empties the tables in the transaction that names another owner, and a later run fills them anew before it
//! names this database. `TRUNCATE` empties a table for older snapshots as well, so the owner is looked at in snapshots of
//! its own, before the read and after it: the same epoch in both says that nothing of this came between. Both go out with
//! the read and cost no round trip.
//!
//! While nobody owns the module its tables are whole: behind the first step of a revert nobody writes, and a module that
//! was never claimed is empty.

use std::sync::Arc;

use changeover_core::{Detail, Error, ErrorKind, ModuleScope, Result};
use tokio_postgres::Row;

use crate::module::{no_module, unreadable};

/// The gate of a module.
pub(crate) struct Gate {
    pub(crate) module: String,
    pub(crate) sql: Arc<str>,
    /// Whether it is looked at.
    pub(crate) looks: bool,
}

impl Gate {
    pub(crate) fn new(scope: &ModuleScope, looks: bool) -> Self {
        let sql = "SELECT owner, epoch FROM changeover.module WHERE module = $1".into();
        Self { module: scope.module.to_string(), sql, looks }
    }

    /// `Moved` unless the rows of both looks say that the module was here all the time.
    pub(crate) fn pass(&self, before: &[Row], after: &[Row]) -> Result<()> {
        let (was, is) = (self.owner(before)?, self.owner(after)?);
        if was == is && is.0 != "sqlite" {
            return Ok(());
        }
        let (module, owner) = (&self.module, is.0.to_owned());
        let message = if was == is {
            format!("module {module} is not owned by this backend but by: {owner}")
        } else {
            format!("module {module} changed its owner while it was read: {} before, {owner} now", was.0)
        };
        Err(Error::new(ErrorKind::Moved, message).with_detail(Detail::Moved { owner }))
    }

    fn owner<'a>(&self, rows: &'a [Row]) -> Result<(&'a str, i64)> {
        let row = rows.first().ok_or_else(|| no_module(&self.module))?;
        match (row.try_get(0), row.try_get(1)) {
            (Ok(owner), Ok(epoch)) => Ok((owner, epoch)),
            _ => Err(unreadable()),
        }
    }
}
