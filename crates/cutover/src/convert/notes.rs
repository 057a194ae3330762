//! What is noted while a row is converted.

use changeover_core::cutover::Reason;

use super::accepted::{Accepted, Loss};

/// What speaks against a row, and what was converted in it.
pub(super) struct Notes {
    pub(super) accepted: Accepted,
    pub(super) reasons: Vec<Reason>,
    /// Conversions, if anybody wants to know them.
    pub(super) converted: Option<Vec<Reason>>,
}

impl Notes {
    pub(super) fn new(accepted: Accepted, conversions: bool) -> Self {
        Self { accepted, reasons: Vec::new(), converted: conversions.then(Vec::new) }
    }

    /// At a column of the old store.
    pub(super) fn at<'a>(&'a mut self, column: &'a str) -> At<'a> {
        At { notes: self, column }
    }
}

/// Notes on one column.
pub(super) struct At<'a> {
    notes: &'a mut Notes,
    column: &'a str,
}

impl At<'_> {
    /// The row stays out. For `return at.bad(..)`.
    pub(super) fn bad<T>(&mut self, hazard: u16, problem: impl Into<String>) -> Option<T> {
        self.notes.reasons.push(Reason { column: self.column.to_owned(), hazard, problem: problem.into() });
        None
    }

    /// Something is lost: converted if that was accepted, else the row stays out. Whether it was accepted.
    pub(super) fn loses(&mut self, loss: Loss, problem: &str) -> bool {
        let accepted = self.notes.accepted.has(loss);
        if accepted {
            self.converted(loss.hazard(), problem);
        } else {
            self.bad::<()>(loss.hazard(), problem);
        }
        accepted
    }

    /// Something was converted that needs no word of anybody's.
    pub(super) fn converted(&mut self, hazard: u16, problem: &str) {
        if let Some(converted) = &mut self.notes.converted {
            converted.push(Reason { column: self.column.to_owned(), hazard, problem: problem.to_owned() });
        }
    }
}
