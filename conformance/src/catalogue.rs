//! The one list of cases. Tests, catalogue and matrix are made from it.

use futures::future::BoxFuture;

use crate::harness::AnyHarness;

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// The subject: the file below `cases/`.
    pub module: &'static str,
    /// The function.
    pub name: &'static str,
    source: &'static str,
    pub(crate) run: for<'a> fn(&'a dyn AnyHarness) -> BoxFuture<'a, ()>,
}

impl Case {
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

/// Every case, in the order of the list.
pub fn cases() -> &'static [Case] {
    crate::event_store_cases!(__catalogue [])
}

/// Makes one test a case for the harness given, in a module `event_store`.
#[macro_export]
macro_rules! event_store_suite {
    ($harness:ty) => {
        mod event_store {
            #[allow(unused_imports, reason = "a harness may be named by its full path")]
            use super::*;
            pub(super) type Subject = $harness;
            $crate::event_store_cases!(__tests []);
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ([] $($module:ident { $($name:ident,)* })*) => { $(
        mod $module {
            $(
                #[test]
                fn $name() {
                    $crate::check::<super::Subject>(stringify!($module), stringify!($name));
                }
            )*
        }
    )* };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __catalogue {
    ([] $($module:ident { $($name:ident,)* })*) => {
        &[ $( $( Case {
            module: stringify!($module),
            name: stringify!($name),
            source: include_str!(concat!("cases/", stringify!($module), ".rs")),
            run: |h| Box::pin($crate::cases::$module::$name(h)),
        }, )* )* ]
    };
}

/// The list: add the case here, and its file to `cases/mod.rs`.
#[doc(hidden)]
#[macro_export]
macro_rules! event_store_cases {
    ($with:ident $arguments:tt) => {
        $crate::$with! { $arguments
            append {
                append_to_a_new_stream_counts_versions_from_one,
            }
        }
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
            assert!(sentence.ends_with('.'), "{}::{}: {sentence:?}", case.module, case.name);
            assert!(!case.id().is_empty(), "{}::{} names no id", case.module, case.name);
            assert!(seen.insert(case.id()), "{}::{}: {} is taken", case.module, case.name, case.id());
        }
    }
}
