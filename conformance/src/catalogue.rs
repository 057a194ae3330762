//! The cases as data. Tests, catalogue and matrix are made from the lists in [`crate::lists`].

use std::sync::LazyLock;

use changeover_core::backend::Family;
use futures::future::BoxFuture;

use crate::harness::AnyHarness;

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// The store it asks.
    pub store: Family,
    /// The subject: the file below `cases/` and the store's folder.
    pub module: &'static str,
    /// The function.
    pub name: &'static str,
    source: &'static str,
    pub(crate) run: for<'a> fn(&'a dyn AnyHarness) -> BoxFuture<'a, ()>,
}

impl Case {
    /// Its name among the cases of all stores, as in the names of tests: `event_store::append::append_of_nothing_is_invalid`.
    pub fn path(&self) -> String {
        format!("{}::{}::{}", suite_of(self.store), self.module, self.name)
    }

    /// What the contract says: the doc comment of the function, without its ids.
    pub fn sentence(&self) -> String {
        self.comment().0
    }

    /// The ids of the case and of the requirements it checks; the first is the case's own.
    pub fn ids(&self) -> Vec<String> {
        self.comment().1
    }

    /// The case's own id.
    pub fn id(&self) -> String {
        self.ids().into_iter().next().unwrap_or_default()
    }

    /// The first paragraph of the doc comment, `A sentence. (E1, X-ES-024)`, in its two parts. Read from the source,
    /// since no macro can read the comment of a plain function.
    fn comment(&self) -> (String, Vec<String>) {
        let head = format!("pub async fn {}(", self.name);
        let before = self.source.split(&head).next().unwrap_or_default();
        let mut lines: Vec<_> =
            before.trim_end().lines().rev().map_while(|line| line.strip_prefix("///")).collect();
        lines.reverse();
        let paragraph: Vec<_> =
            lines.iter().map(|line| line.trim()).take_while(|line| !line.is_empty()).collect();
        let text = paragraph.join(" ");
        let Some((sentence, ids)) = text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) else {
            return (text, Vec::new());
        };
        (sentence.to_owned(), ids.split(", ").map(str::to_owned).collect())
    }
}

/// The module of a store's tests.
pub(crate) fn suite_of(store: Family) -> &'static str {
    match store {
        Family::Events => "event_store",
        Family::Audit => "audit",
        Family::Playbooks => "playbooks",
    }
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let events: &[Case] = crate::event_store_cases!(__catalogue [events Events]);
    let audit: &[Case] = crate::audit_cases!(__catalogue [audit Audit]);
    let playbooks: &[Case] = crate::playbook_cases!(__catalogue [playbooks Playbooks]);
    [events, audit, playbooks].concat()
});

/// Every case, in the order of the lists.
pub fn cases() -> &'static [Case] {
    &CASES
}

/// Makes one test a case of the event store for the harness given, in a module `event_store`.
#[macro_export]
macro_rules! event_store_suite {
    ($harness:ty) => {
        mod event_store {
            #[allow(unused_imports, reason = "a harness may be named by its full path")]
            use super::*;
            pub(super) type Subject = $harness;
            $crate::event_store_cases!(__tests [events Events]);
        }
    };
}

/// Makes one test a case of the audit repository for the harness given, in a module `audit`.
#[macro_export]
macro_rules! audit_suite {
    ($harness:ty) => {
        mod audit {
            #[allow(unused_imports, reason = "a harness may be named by its full path")]
            use super::*;
            pub(super) type Subject = $harness;
            $crate::audit_cases!(__tests [audit Audit]);
        }
    };
}

/// Makes one test a case of the playbook catalog for the harness given, in a module `playbooks`.
#[macro_export]
macro_rules! playbook_suite {
    ($harness:ty) => {
        mod playbooks {
            #[allow(unused_imports, reason = "a harness may be named by its full path")]
            use super::*;
            pub(super) type Subject = $harness;
            $crate::playbook_cases!(__tests [playbooks Playbooks]);
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ([$folder:ident $store:ident] $($module:ident { $($name:ident,)* })*) => { $(
        mod $module {
            $(
                #[test]
                fn $name() {
                    let store = $crate::Family::$store;
                    $crate::check::<super::Subject>(store, stringify!($module), stringify!($name));
                }
            )*
        }
    )* };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __catalogue {
    ([$folder:ident $store:ident] $($module:ident { $($name:ident,)* })*) => {
        &[ $( $( Case {
            store: Family::$store,
            module: stringify!($module),
            name: stringify!($name),
            source: include_str!(concat!("cases/", stringify!($folder), "/", stringify!($module), ".rs")),
            run: |h| Box::pin($crate::cases::$folder::$module::$name(h)),
        }, )* )* ]
    };
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::cases;

    // X24: every row of the matrix has a sentence and an id of its own.
    #[test]
    fn every_case_has_a_sentence_and_an_id_of_its_own() {
        let mut seen = HashSet::new();
        for case in cases() {
            let sentence = case.sentence();
            assert!(sentence.ends_with('.'), "{}: {sentence:?}", case.path());
            assert!(!case.id().is_empty(), "{} names no id", case.path());
            assert!(seen.insert(case.id()), "{}: {} is taken", case.path(), case.id());
        }
    }
}
