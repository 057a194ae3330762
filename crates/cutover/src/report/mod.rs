//! The evidence of a run as two files: a manifest that programs check, and a page that people read.
//!
//! A [`Manifest`] holds the module's record, whole, with the hash of each entry, and what the run was made under. [`check`]
//! looks at it alone: every hash is computed anew, every count has to balance, both roots have to be one. That finds what was
//! changed by accident or by somebody careless. It cannot find a record that was written anew from its beginning: nothing
//! is signed. [`against`] is for that: it asks the stores, and computes the data root of the frozen file, or of its archive,
//! once more.

mod against;
mod chain;
mod check;
mod html;
mod manifest;
mod out;

pub use against::against;
pub use check::check;
pub use html::page;
pub use manifest::{FORMAT, Manifest, Proved, ProvedTable, Terms, Word};
pub use out::{Cell, OutRow};

/// What came out of a look at a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What was looked at and is right, each a sentence.
    pub holds: Vec<String>,
    /// What is wrong, each a sentence.
    pub wrong: Vec<String>,
    /// What this look could not tell.
    pub unknown: Vec<String>,
}

impl Checked {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.wrong.is_empty()
    }

    fn judge(&mut self, wrong: Vec<String>, holds: impl Into<String>) {
        if wrong.is_empty() {
            self.holds.push(holds.into());
        } else {
            self.wrong.extend(wrong);
        }
    }
}
