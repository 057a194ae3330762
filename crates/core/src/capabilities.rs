//! What a backend offers beyond the contract that all share.

use crate::error::{Error, ErrorKind};

/// Whether something is offered, and if not, why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Offered: it works.
    Yes,
    /// Not offered, for this reason: it refuses with `Unsupported` and changes nothing.
    No(&'static str),
}

impl Support {
    /// Whether it is offered.
    pub fn is_yes(self) -> bool {
        self == Self::Yes
    }

    /// `Unsupported` with the reason, if it is not offered.
    pub fn require(self, what: &str) -> Result<(), Error> {
        match self {
            Self::Yes => Ok(()),
            Self::No(reason) => {
                Err(Error::new(ErrorKind::Unsupported, format!("{what} is not offered here: {reason}")))
            }
        }
    }
}

/// What a set-up of a backend offers. Two-sided: what is declared works, what is not declared refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Records outlive the process.
    pub durable: Support,
    /// Two processes can use the same records.
    pub shared: Support,
    /// Two open transactions on different streams do not wait for each other before they commit.
    pub concurrent_writers: Support,
    /// The user's own tables can be written in the transaction of the store.
    pub transactions: Support,
    /// Records of more than one tenant can be kept.
    pub tenants: Support,
    /// A subscription is woken by an append of another process; without it, it polls.
    pub push: Support,
    /// The store keeps the time it recorded each event; without it `recorded_at` repeats `occurred_at`.
    pub recorded_time: Support,
    /// Audit records can be chained by hash.
    pub hash_chain: Support,
    /// Expired audit records can be removed.
    pub retention: Support,
}
