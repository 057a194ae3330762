//! The verifier over stores in memory: what it must find, and what it must not.

#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::format_push_string,
    clippy::format_collect,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]

mod alone;
mod broken;
mod data_root;
mod declared;
mod online;
mod order;
mod quarantine;
mod roots;
mod stores;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use changeover_core::TenantId;
use changeover_core::cutover::Table;
use changeover_cutover::verify::{ExcusedKeys, Limits, Mode, Verified, Verifier, World};

use stores::{New, Old};

/// Small pages, so that a few rows are many chunks.
pub(crate) const SMALL: Limits = Limits { rows: 7, bytes: 1 << 20, sorted: 5, listed: 100 };

pub(crate) fn world() -> World {
    World {
        tenant: TenantId::new(stores::TENANT).unwrap(),
        nonce: stores::nonce(),
        notifications_from: stores::NOTIFICATIONS_FROM,
        accepted: BTreeSet::new(),
    }
}

pub(crate) fn verifier(tables: &[Table], old: &Old, new: &New) -> Verifier {
    Verifier::new(tables, &world(), Arc::new(old.clone()), Arc::new(new.clone())).unwrap().within(SMALL)
}

pub(crate) async fn frozen(tables: &[Table], old: &Old, new: &New) -> Verified {
    let nobody = ExcusedKeys::default();
    let verifier = verifier(tables, old, new);
    verifier.run(Mode::Frozen, None, &nobody, &mut |_, _| ControlFlow::Continue(())).await.unwrap()
}
