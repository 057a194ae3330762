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
            subscription {
                subscription_goes_from_what_is_there_to_what_comes,
                append_of_another_client_is_delivered_soon,
                append_during_catch_up_is_delivered_once,
                subscription_on_an_empty_store_stays_open,
                dropped_subscription_frees_its_connection,
                slow_reader_is_cut_off_with_a_checkpoint,
                subscription_waits_for_its_reader,
                cut_connection_loses_and_repeats_nothing,
                lost_notification_loses_nothing,
                subscription_announces_only_what_can_be_read,
                progress_moves_on_over_what_does_not_match,
                two_subscriptions_are_independent,
                consumer_resumes_from_a_stored_checkpoint_after_reopening,
            }
            tracking {
                progress_and_its_events_are_stored_together,
                consumers_do_not_share_progress,
            }
            values {
                payload_up_to_the_limit_is_stored_whole,
                largest_append_is_stored_whole,
                names_have_1_to_255_characters,
                every_character_survives_in_a_payload,
                nul_and_lone_surrogates_are_invalid,
                unicode_names_are_kept_as_given,
                names_are_compared_byte_by_byte,
                names_do_not_order_a_log,
                sql_is_text_like_other_text,
                json_is_compared_as_values,
                numbers_at_their_edges_are_exact,
                every_uuid_survives,
                head_is_found_among_thousands_of_streams,
            }
            time {
                times_are_kept_to_the_microsecond,
                every_instant_of_the_years_1_to_9999_survives,
                time_zone_of_a_session_changes_nothing,
                recorded_time_never_goes_backwards,
            }
            cancellation {
                dropped_append_is_stored_whole_or_not_at_all,
                dropped_append_leaves_a_clean_connection,
                giving_up_on_a_connection_leaks_none,
                dropped_read_changes_no_later_answer,
                panic_of_a_caller_leaves_the_store_usable,
                end_of_a_runtime_hangs_nothing,
                operations_of_one_task_do_not_deadlock,
                exhausted_pool_refuses_in_time_and_recovers,
            }
            faults {
                silent_database_ends_operations_in_time,
                ended_sessions_cost_a_transient_error_at_most,
                foreign_lock_ends_an_append_in_time,
                read_only_database_refuses_appends,
                full_database_keeps_no_part_of_an_append,
            }
            lifecycle {
                closed_store_is_unavailable,
                reopened_store_goes_on_where_it_was,
                two_processes_behave_as_two_clients,
                store_without_schema_is_a_schema_mismatch,
                newer_schema_is_refused,
                what_is_not_declared_refuses,
                store_works_behind_any_pointer,
            }
            errors {
                same_cause_is_the_same_kind,
                errors_show_no_secrets,
            }
            parity {
                random_operations_answer_as_the_model_does,
                one_script_leaves_the_same_dump,
                one_script_meets_the_same_errors,
                answers_through_a_layer_are_the_same,
                numbers_agree_after_a_mixed_load,
                engines_differ_and_the_store_does_not,
            }
            migrations {
                migrations_apply_from_nothing,
                records_outlive_a_run_of_the_migrations,
                two_runners_apply_each_migration_once,
                schema_taken_back_and_applied_again_is_the_same,
                schema_itself_keeps_the_rules,
                tables_with_records_go_only_knowingly,
                unknown_migration_is_named_and_nothing_applied,
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
