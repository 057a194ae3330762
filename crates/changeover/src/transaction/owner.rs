//! Where a transaction begins, and whether its module was still there when it ended.

use changeover_core::{Applied, Error, ErrorKind, Result};

use super::TxError;
use super::sides::Sides;
use crate::home::{Owner, Patience};
use crate::module::Module;
use crate::routed::is_moved;

impl Module {
    /// The owner, and a transaction of it.
    pub(super) async fn begin(&self) -> Result<(Owner, Sides)> {
        let mut patience = Patience::long();
        loop {
            let generation = self.home().generation();
            match self.begin_once(&mut patience).await {
                Err(error) if is_moved(&error) => {
                    self.home().forget(generation);
                    if !patience.pause().await {
                        return Err(error);
                    }
                }
                answer => return answer,
            }
        }
    }

    async fn begin_once(&self, patience: &mut Patience) -> Result<(Owner, Sides)> {
        self.look_again().await;
        let owner = self.opened(patience).await?;
        match Sides::begin(&*owner.backend, self.scope(), self.tenant()).await {
            Ok(sides) => Ok((owner, sides)),
            Err(error) => Err(error.with("module", self.name().as_str()).with("backend", owner.name)),
        }
    }

    /// Whether a transaction failed because its module is somewhere else by now: then the next one begins there.
    pub(super) async fn judge(&self, failed: TxError, owner: &Owner) -> TxError {
        let unclear = matches!(&failed, TxError::Statement(_)) && failed.kind() == ErrorKind::Unexpected;
        if failed.kind() == ErrorKind::Moved {
            self.home().forget(owner.generation);
        }
        // Diesel does not say that a guard of the database refused a statement of the user's own.
        if unclear && !self.home().is_still(&*owner.backend, owner.generation).await {
            let message =
                "the module was moved while the transaction ran; repeat it, and it begins at the new owner";
            let error = Error::new(ErrorKind::Moved, message).applied(Applied::No);
            return error.with("module", self.name().as_str()).with("backend", &owner.name).into();
        }
        failed
    }
}
