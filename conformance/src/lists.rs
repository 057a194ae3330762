//! The lists of cases, one a store. A case that is not listed does not compile.

/// The event store: add the case here, and its file to `cases/events/mod.rs`.
#[doc(hidden)]
#[macro_export]
macro_rules! event_store_cases {
    ($with:ident $arguments:tt) => {
        $crate::$with! { $arguments
            append {
                append_to_a_new_stream_counts_versions_from_one,
                appended_events_are_read_back_equal_in_every_field,
                append_to_an_existing_stream_continues_its_versions,
                append_of_nothing_is_invalid,
                batch_is_all_or_nothing,
                event_id_twice_in_one_append_is_invalid,
                large_batch_keeps_its_order,
                interleaved_appends_keep_streams_apart,
                failed_append_leaves_no_trace,
                append_returns_after_others_can_read_it,
                append_to_many_streams_is_atomic,
                append_metadata_is_kept_event_by_event,
                append_after_a_failed_one_leaves_no_hole,
                returned_checkpoint_is_that_of_the_last_event,
                input_can_be_used_again,
            }
            expected_version {
                no_stream_on_a_new_stream_succeeds,
                no_stream_on_an_existing_stream_is_refused,
                exists_on_a_missing_stream_is_refused,
                exactly_the_right_version_succeeds,
                append_with_stale_version_is_refused,
                append_with_version_ahead_is_refused,
                any_appends_to_new_and_existing_streams,
                conflict_is_judged_before_a_taken_id,
                of_racing_writers_exactly_one_wins,
                retrying_writers_lose_no_update,
                losers_leave_nothing_behind,
                huge_versions_are_compared_exactly,
                conflict_is_reported_under_load,
                writers_on_different_streams_do_not_conflict,
            }
            idempotency {
                repeated_append_returns_the_first_answer,
                repeated_append_succeeds_after_later_appends,
                repeated_append_answers_with_the_end_of_what_it_stored,
                stored_id_with_other_content_is_refused,
                stored_id_in_another_stream_is_refused,
                partly_repeated_batch_is_refused,
                append_repeated_after_a_lost_answer_is_stored_once,
                unknown_outcome_may_be_retried_only_with_ids,
                repeated_append_wakes_nobody,
            }
            read_stream {
                missing_stream_is_an_empty_page,
                forward_read_begins_where_asked,
                backward_read_begins_at_the_head,
                bounds_are_inclusive_both_ways,
                limits_are_kept_or_refused,
                joined_pages_equal_one_read,
                last_page_has_no_token,
                appends_between_pages_shift_nothing,
                garbage_page_tokens_are_invalid,
                page_token_of_another_read_is_invalid,
                event_type_filter_gives_those_types_only,
                page_never_shows_half_of_a_batch,
                long_stream_is_read_page_by_page,
            }
            read_all {
                positions_rise_strictly,
                log_keeps_the_order_of_each_stream,
                after_is_exclusive,
                checkpoint_means_the_same_to_every_client,
                checkpoint_of_another_log_is_invalid,
                checkpoint_beyond_the_end_is_invalid,
                checkpoint_survives_its_text,
                caught_up_is_said_at_the_end_only,
                checkpoint_moves_on_over_what_does_not_match,
                filtered_read_equals_the_filtered_log,
            }
            gap_safety {
                concurrent_batches_do_not_mix,
                reader_never_skips_a_late_commit,
                late_roll_back_stalls_no_reader,
                readers_make_progress_while_writers_overlap,
                every_reader_sees_every_event_once_in_one_order,
                head_never_goes_backwards,
                holes_are_no_events,
                unrelated_transaction_hides_nothing,
            }
            immutability {
                stored_events_cannot_be_changed,
                broken_value_is_corrupt_and_named,
            }
            tenants {
                same_stream_in_two_tenants_is_two_streams,
                same_event_id_in_two_tenants_is_accepted,
                repeated_append_is_judged_within_the_tenant,
                stream_of_another_tenant_does_not_exist,
                head_of_the_log_is_the_tenants_own,
                log_shows_the_tenants_own_events_only,
                checkpoint_of_another_tenant_opens_nothing,
                subscription_delivers_the_tenants_own_events_only,
                conflict_tells_nothing_of_another_tenant,
                tracked_progress_is_the_tenants_own,
                hostile_tenant_names_are_names_like_others,
                tenant_names_have_limits,
                tenants_take_turns_on_one_connection,
                filters_do_not_reach_another_tenant,
                tenants_write_at_once_without_conflict,
                tenant_of_the_settings_is_served,
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
                closing_ends_subscriptions,
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

/// The audit repository: add the case here, and its file to `cases/audit/mod.rs`.
#[doc(hidden)]
#[macro_export]
macro_rules! audit_cases {
    ($with:ident $arguments:tt) => {
        $crate::$with! { $arguments
            create {
                recorded_event_is_read_back_equal_in_every_field,
            }
        }
    };
}

/// The playbook catalog: add the case here, and its file to `cases/playbooks/mod.rs`.
#[doc(hidden)]
#[macro_export]
macro_rules! playbook_cases {
    ($with:ident $arguments:tt) => {
        $crate::$with! { $arguments
            put {
                version_put_is_read_back_equal_in_every_field,
            }
        }
    };
}
