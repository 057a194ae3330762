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
                repeated_event_is_stored_once,
                stored_id_with_other_content_is_refused,
                id_is_taken_in_every_month,
                batch_is_stored_whole_or_not_at_all,
                parent_must_be_there_first,
                taken_ids_are_told_before_missing_parents,
                concurrent_writers_lose_nothing,
                same_id_at_once_is_stored_once,
                failed_create_counts_as_not_stored,
                record_and_business_write_are_stored_together,
            }
            values {
                text_is_kept_as_given,
                data_are_kept_as_values,
                data_have_a_largest_size,
                every_uuid_survives,
                events_of_the_factories_are_stored_as_made,
                data_are_stored_as_given_and_never_shown,
            }
            query {
                start_is_inclusive_and_end_exclusive,
                equal_times_are_ordered_by_id,
                pages_over_equal_times_lose_and_repeat_nothing,
                recording_while_paging_shifts_nothing,
                oldest_first_mirrors_newest_first,
                limits_are_kept_or_refused,
                query_without_a_limit_is_bounded,
                missing_event_is_none,
                page_token_of_another_query_is_invalid,
                offset_passes_over_events,
                inverted_range_is_invalid,
                correlated_events_of_all_services_come_together,
                query_over_several_months_is_complete_and_ordered,
                export_gets_every_event_once_while_writers_run,
                queries_go_by_an_index,
            }
            filters {
                every_filter_and_every_pair_holds,
                count_is_the_number_of_what_a_query_gives,
                filter_without_match_is_an_empty_page,
                no_filter_gives_everything,
                values_of_filters_are_literal,
            }
            recorded_order {
                what_was_shown_in_recorded_order_never_changes,
                late_roll_back_leaves_nothing,
                recorded_order_is_that_of_the_commits,
                ancient_and_future_events_are_recorded_as_they_come,
            }
            times {
                time_zone_of_a_session_moves_no_event,
                times_outside_of_the_range_are_invalid,
                month_that_an_event_needs_is_there,
                month_needed_by_many_at_once_serves_all,
                times_are_kept_to_the_microsecond,
            }
            chain {
                chain_of_untouched_records_holds,
                chain_goes_by_the_recorded_order,
                tampering_is_found_and_named,
                chain_is_continuous_under_many_writers,
            }
            retention {
                only_what_is_due_goes,
                categories_without_a_rule_stay,
                removal_goes_on_where_it_stopped,
                dry_run_counts_and_removes_nothing,
                parents_of_kept_events_stay,
                whole_months_go_only_if_all_of_them_is_due,
                chains_verify_after_removal,
                contradictory_rules_are_invalid,
                removed_id_is_free_again,
            }
            tenants {
                tenant_reads_its_own_records_only,
                same_id_in_two_tenants_is_two_records,
                parent_of_another_tenant_does_not_exist,
                conflict_tells_nothing_of_another_tenant,
                chains_are_each_tenants_own,
                retention_removes_the_tenants_own_records_only,
                page_token_of_another_tenant_opens_nothing,
                hostile_tenant_names_are_names_like_others,
                tenants_take_turns_on_one_connection,
                tenants_record_at_once_without_conflict,
            }
            lifecycle {
                closed_repository_is_unavailable,
                reopened_repository_goes_on_where_it_was,
                repository_without_schema_is_a_schema_mismatch,
                what_is_not_declared_refuses,
                repository_works_behind_any_pointer,
                stored_records_cannot_be_changed,
                broken_value_is_corrupt_and_named,
            }
            faults {
                dropped_create_is_stored_whole_or_not_at_all,
                create_repeated_after_a_lost_answer_is_stored_once,
                cut_connections_lose_and_repeat_nothing,
                read_only_database_refuses_to_record,
                silent_database_ends_operations_in_time,
                foreign_lock_ends_a_create_in_time,
                ended_sessions_cost_a_transient_error_at_most,
            }
            parity {
                random_operations_answer_as_the_model_does,
                one_script_meets_every_outcome,
                same_cause_is_the_same_kind,
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
                stored_version_with_other_content_is_refused,
                equal_version_again_changes_nothing,
                bundle_put_twice_is_stored_once,
                impossible_batches_are_refused,
                content_hash_is_checked,
                refused_put_leaves_no_row,
                previous_version_need_not_be_stored,
                put_is_seen_by_other_clients_at_once,
                content_up_to_the_limit_is_stored_whole,
                times_are_utc_and_to_the_microsecond,
            }
            values {
                playbook_ids_are_kept_as_given,
                content_keeps_every_byte,
                absent_and_empty_are_two_things,
                long_texts_are_stored_whole_or_refused,
                up_to_100_labels_are_kept,
                any_label_key_and_value_is_matched_literally,
                versions_are_ordered_by_meaning,
                vectors_are_kept_to_the_bit,
                case_matters_in_every_script,
            }
            latest {
                new_latest_version_takes_the_mark,
                version_made_latest_takes_the_mark,
                writers_at_once_leave_one_latest_version,
                playbook_without_a_latest_version_is_not_offered,
                latest_version_that_is_not_active_is_not_offered,
                two_latest_rows_are_refused_or_corrupt,
            }
            reads {
                each_lookup_finds_its_version,
                what_is_not_stored_is_not_found,
                versions_come_newest_first_in_pages,
                pages_of_versions_begin_below_the_one_named,
                list_is_ordered_by_the_bytes_of_ids,
                list_pages_shift_with_no_write,
                list_begins_after_the_id_named,
                filters_narrow_the_list_together,
                content_without_its_hash_is_corrupt,
                lookups_use_an_index,
            }
            changes {
                stored_versions_never_change_otherwise,
                each_status_keeps_what_belongs_to_it,
                figures_are_kept_and_checked,
                impossible_reasons_are_refused,
                change_of_a_missing_version_is_not_found,
                updated_at_moves_on_with_every_change,
                changes_at_once_leave_one_of_them_whole,
                tables_keep_the_rules_of_the_catalog,
                versions_written_by_hand_are_like_others,
            }
            search {
                only_active_latest_versions_are_found,
                labels_narrow_a_search,
                confidence_is_cosine_similarity_held_to_0_and_1,
                threshold_of_0_finds_everything,
                threshold_of_1_finds_what_is_equal,
                what_is_at_the_threshold_stays,
                equal_confidence_is_ordered_by_id,
                limits_are_kept_or_refused,
                empty_catalog_finds_nothing,
                full_pages_come_out_of_thousands,
                ranking_is_that_of_an_exact_scan,
                search_sees_what_was_written_before_it,
                playbooks_stay_searchable_without_their_vectors,
                searches_change_nothing,
            }
            embedding {
                versions_without_a_vector_are_found,
                query_and_rows_without_a_vector_are_embedded,
                long_text_is_cut_for_embedding_only,
                any_script_is_embedded_and_returned_unchanged,
                query_without_words_is_invalid,
                failure_of_the_embedder_fails_the_search,
                wrong_answers_of_the_embedder_are_refused,
            }
            tenants {
                same_version_in_two_tenants_is_two_versions,
                playbook_of_another_tenant_does_not_exist,
                search_finds_the_tenants_own_playbooks_only,
                put_is_judged_within_the_tenant,
                change_does_not_reach_another_tenant,
                hostile_tenant_names_are_names_like_others,
                tenants_take_turns_on_one_connection,
                tenants_write_at_once_without_conflict,
                two_modules_do_not_see_each_other,
            }
            lifecycle {
                closed_catalog_is_unavailable,
                reopened_catalog_shows_the_same,
                catalog_without_schema_is_a_schema_mismatch,
                tables_with_playbooks_go_only_knowingly,
                answers_through_a_layer_are_the_same,
                versions_survive_their_lines,
            }
            parity {
                random_operations_answer_as_the_model_does,
                one_script_meets_every_outcome,
            }
            durability {
                dropped_put_is_stored_whole_or_not_at_all,
                dropped_change_is_made_whole_or_not_at_all,
                dropped_search_changes_no_later_answer,
                put_repeated_after_a_lost_answer_is_stored_once,
                ended_sessions_cost_a_transient_error_at_most,
                silent_database_ends_operations_in_time,
                read_only_database_refuses_writes,
                errors_show_no_content,
            }
        }
    };
}
