-- description: retention

SET ROLE changeover_owner;

-- Drops a month at once if nobody reads there: the lock that it takes would let readers wait, so it is given up soon and
-- before it could be in a deadlock. False where it was not had.
CREATE OR REPLACE FUNCTION audit_store.drop_month(p_partition regclass) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '400ms' AS $drop_month$
BEGIN
    EXECUTE format('DROP TABLE %s', p_partition);
    RETURN true;
EXCEPTION
    WHEN lock_not_available THEN
        RETURN false;
END
$drop_month$;
COMMENT ON FUNCTION audit_store.drop_month(regclass) IS 'Drops a partition; false if the locks for it were not had soon';

-- What goes with removed events: their ids, and their links but the last of each gap in a chain.
CREATE OR REPLACE FUNCTION audit_store.forget(
    p_tenant text, p_ids uuid[], p_correlations text[], p_sequences bigint[], p_links bytea[]
) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $forget$
BEGIN
    DELETE FROM audit_store.audit_event_id AS k WHERE k.tenant_id = p_tenant AND k.event_id = ANY (p_ids);

    INSERT INTO audit_store.audit_anchor (tenant_id, correlation_id, sequence, link)
    SELECT p_tenant, r.correlation, r.sequence, r.link
      FROM unnest(p_correlations, p_sequences, p_links) AS r (correlation, sequence, link) WHERE r.link IS NOT NULL;

    DELETE FROM audit_store.audit_anchor AS a
     USING (SELECT DISTINCT r.correlation FROM unnest(p_correlations, p_links) AS r (correlation, link)
             WHERE r.link IS NOT NULL) AS r
     WHERE a.tenant_id = p_tenant AND a.correlation_id = r.correlation
       AND (SELECT b.sequence FROM audit_store.audit_anchor AS b
             WHERE b.tenant_id = p_tenant AND b.correlation_id = r.correlation AND b.sequence > a.sequence
             ORDER BY b.sequence LIMIT 1)
           < coalesce((SELECT e.sequence FROM audit_store.audit_events AS e
                        WHERE e.tenant_id = p_tenant AND e.correlation_id = r.correlation AND e.sequence > a.sequence
                        ORDER BY e.sequence LIMIT 1), 9223372036854775807);
END
$forget$;
COMMENT ON FUNCTION audit_store.forget(text, uuid[], text[], bigint[], bytea[]) IS 'Removes what is kept beside events that retention removed, and leaves an anchor in each gap of a chain';

-- Removes events of the tenant whose date is not after their category's last day: p_last_days are days since 1970, one
-- for each of p_categories; categories that are not named stay. At most p_limit events go (null: any number). First the
-- months that go whole, then single events; an event goes only when no other names it as its parent.
--
-- A dry run does the same in a subtransaction and takes it back, so that it counts what would go and nothing else.
CREATE OR REPLACE FUNCTION audit_store.retain(
    p_tenant text, p_categories text[], p_last_days integer[], p_limit bigint DEFAULT NULL, p_dry_run boolean DEFAULT true
) RETURNS TABLE (removed bigint[], months text[], done boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $retain$
#variable_conflict use_variable
DECLARE
    v_last    constant date := '1970-01-01'::date + (SELECT max(d) FROM unnest(p_last_days) AS d);
    v_lasts   constant date[] := ARRAY(SELECT '1970-01-01'::date + d FROM unnest(p_last_days) WITH ORDINALITY AS l (d, i) ORDER BY i);
    v_left    bigint := coalesce(p_limit, 9223372036854775807);
    v_removed bigint[] := array_fill(0::bigint, ARRAY[cardinality(p_categories)]);
    v_months  text[] := '{}';
    v_done    boolean;
    v_more    boolean;
    v_at_once boolean;
    v_again   boolean;
    v_month   record;
    -- Events without children, in the order they go; and parents that lost their last child.
    v_free      uuid[];
    v_dates     date[];
    v_times     timestamptz[];
    v_place     integer := 1;
    v_orphans   uuid[] := '{}';
    v_parent    record;
    v_next      uuid;
    v_next_date date;
    v_event     audit_store.audit_events;
    -- What was removed and is still to be forgotten.
    v_ids          uuid[];
    v_categories   text[];
    v_correlations text[];
    v_sequences    bigint[];
    v_links        bytea[];
BEGIN
    IF p_categories IS NULL OR cardinality(p_categories) = 0 OR cardinality(p_last_days) IS DISTINCT FROM cardinality(p_categories)
       OR array_position(p_categories, NULL) IS NOT NULL OR array_position(p_last_days, NULL) IS NOT NULL OR v_left < 1 THEN
        RAISE EXCEPTION 'categories, a last day for each, and a limit above zero are required' USING ERRCODE = 'CO400';
    END IF;
    PERFORM audit_store.begin_write(p_tenant);

    BEGIN
        PERFORM set_config('changeover.retention', pg_current_xact_id()::text, true);

        LOOP
            v_more := false;
            FOR v_month IN
                SELECT m.partition, m.first, audit_store.month_of(m.first + 31) AS next
                  FROM (SELECT i.inhrelid::regclass AS partition,
                               -- Guarded, since the plan may look at other names first.
                               CASE WHEN c.relname ~ '^audit_events_\d{4}_\d{2}$'
                                    THEN to_date(right(c.relname, 7), 'YYYY_MM') END AS first
                          FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
                         WHERE i.inhparent = to_regclass('audit_store.audit_events')) AS m
                 WHERE m.first <= v_last ORDER BY m.first
            LOOP
                EXIT WHEN v_left = 0;
                SELECT array_agg(e.event_id), array_agg(e.event_category), array_agg(e.correlation_id),
                       array_agg(e.sequence), array_agg(e.chain_link), bool_or(e.parent_event_id IS NOT NULL)
                  INTO v_ids, v_categories, v_correlations, v_sequences, v_links, v_again
                  FROM (SELECT e.* FROM audit_store.audit_events AS e
                         WHERE e.tenant_id = p_tenant AND e.event_date >= v_month.first AND e.event_date < v_month.next
                           -- One more than may go says that not all may.
                         LIMIT CASE WHEN v_left < 9223372036854775807 THEN v_left + 1 END) AS e
                HAVING count(*) <= v_left AND bool_and(audit_store.is_due(e.event_category, e.event_date, p_categories, v_lasts));
                CONTINUE WHEN v_ids IS NULL OR EXISTS (
                    SELECT FROM audit_store.audit_events AS child
                     WHERE child.tenant_id = p_tenant AND child.parent_event_id = ANY (v_ids)
                       AND NOT (child.event_date >= v_month.first AND child.event_date < v_month.next));

                -- Read from the partition itself, where the owner sees every tenant.
                EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s AS e WHERE e.tenant_id <> $1)', v_month.partition)
                   INTO v_at_once USING p_tenant;
                IF v_at_once AND NOT p_dry_run THEN
                    v_at_once := audit_store.drop_month(v_month.partition);
                END IF;
                IF v_at_once THEN
                    v_months := v_months || to_char(v_month.first::timestamp, 'YYYY-MM');
                END IF;
                IF NOT v_at_once OR p_dry_run THEN
                    DELETE FROM audit_store.audit_events AS e
                     WHERE e.tenant_id = p_tenant AND e.event_date >= v_month.first AND e.event_date < v_month.next;
                END IF;
                PERFORM audit_store.forget(p_tenant, v_ids, v_correlations, v_sequences, v_links);
                v_removed := audit_store.add_counts(v_removed, p_categories, v_categories);
                v_left := v_left - cardinality(v_ids);
                v_more := true;
                -- Without its children an older month may go whole now.
                EXIT WHEN v_again;
            END LOOP;
            EXIT WHEN NOT v_more;
        END LOOP;

        SELECT array_agg(e.event_id), array_agg(e.event_date), array_agg(e.event_timestamp)
          INTO v_free, v_dates, v_times
          FROM (SELECT e.event_id, e.event_date, e.event_timestamp FROM audit_store.audit_events AS e
                 WHERE e.tenant_id = p_tenant AND e.event_date <= v_last
                   AND audit_store.is_due(e.event_category, e.event_date, p_categories, v_lasts)
                   AND NOT EXISTS (SELECT FROM audit_store.audit_events AS child
                                    WHERE child.tenant_id = p_tenant AND child.parent_event_id = e.event_id)
                 ORDER BY e.event_timestamp, e.event_id LIMIT nullif(v_left, 9223372036854775807)) AS e;
        v_ids := '{}'; v_categories := '{}'; v_correlations := '{}'; v_sequences := '{}'; v_links := '{}';
        WHILE v_left > 0 LOOP
            v_next := v_free[v_place];
            v_next_date := v_dates[v_place];
            IF cardinality(v_orphans) > 0 THEN
                SELECT e.event_id, e.event_date, e.event_timestamp INTO v_parent
                  FROM unnest(v_orphans) AS o (id)
                  JOIN audit_store.audit_event_id AS k ON k.tenant_id = p_tenant AND k.event_id = o.id
                  JOIN audit_store.audit_events AS e
                    ON e.tenant_id = p_tenant AND e.event_id = k.event_id AND e.event_date = k.event_date
                 ORDER BY e.event_timestamp, e.event_id LIMIT 1;
                IF v_next IS NULL OR (v_parent.event_timestamp, v_parent.event_id) < (v_times[v_place], v_next) THEN
                    v_next := v_parent.event_id;
                    v_next_date := v_parent.event_date;
                END IF;
            END IF;
            EXIT WHEN v_next IS NULL;
            IF v_next = v_free[v_place] THEN
                v_place := v_place + 1;
            ELSE
                v_orphans := array_remove(v_orphans, v_next);
            END IF;

            DELETE FROM audit_store.audit_events AS e
             WHERE e.tenant_id = p_tenant AND e.event_id = v_next AND e.event_date = v_next_date
            RETURNING e.* INTO v_event;
            v_ids := v_ids || v_event.event_id;
            v_categories := v_categories || v_event.event_category;
            v_correlations := v_correlations || v_event.correlation_id;
            v_sequences := v_sequences || v_event.sequence;
            v_links := v_links || v_event.chain_link;
            v_left := v_left - 1;
            IF v_event.parent_event_id IS NOT NULL AND EXISTS (
                SELECT FROM audit_store.audit_event_id AS k
                  JOIN audit_store.audit_events AS e
                    ON e.tenant_id = p_tenant AND e.event_id = k.event_id AND e.event_date = k.event_date
                 WHERE k.tenant_id = p_tenant AND k.event_id = v_event.parent_event_id
                   AND audit_store.is_due(e.event_category, e.event_date, p_categories, v_lasts)
                   AND NOT EXISTS (SELECT FROM audit_store.audit_events AS child
                                    WHERE child.tenant_id = p_tenant AND child.parent_event_id = e.event_id))
            THEN
                v_orphans := v_orphans || v_event.parent_event_id;
            END IF;
        END LOOP;
        PERFORM audit_store.forget(p_tenant, v_ids, v_correlations, v_sequences, v_links);
        v_removed := audit_store.add_counts(v_removed, p_categories, v_categories);

        v_done := v_left > 0 OR NOT EXISTS (
            SELECT FROM audit_store.audit_events AS e
             WHERE e.tenant_id = p_tenant AND e.event_date <= v_last
               AND audit_store.is_due(e.event_category, e.event_date, p_categories, v_lasts)
               AND NOT EXISTS (SELECT FROM audit_store.audit_events AS child
                                WHERE child.tenant_id = p_tenant AND child.parent_event_id = e.event_id));
        PERFORM set_config('changeover.retention', '', true);
        IF p_dry_run THEN
            RAISE EXCEPTION USING ERRCODE = 'CODRY', MESSAGE = 'the dry run is taken back';
        END IF;
    EXCEPTION
        WHEN SQLSTATE 'CODRY' THEN NULL;
    END;
    RETURN QUERY SELECT v_removed, v_months, v_done;
END
$retain$;
COMMENT ON FUNCTION audit_store.retain(text, text[], integer[], bigint, boolean) IS 'Removes expired audit events of a tenant; see the migration for the arguments';

CREATE OR REPLACE FUNCTION audit_store.is_due(p_category text, p_date date, p_categories text[], p_lasts date[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(p_date <= p_lasts[array_position(p_categories, p_category)], false);
COMMENT ON FUNCTION audit_store.is_due(text, date, text[], date[]) IS 'Whether an event of a category and date has expired';

CREATE OR REPLACE FUNCTION audit_store.add_counts(p_counts bigint[], p_categories text[], p_found text[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(SELECT c.n + (SELECT count(*) FROM unnest(p_found) AS f WHERE f = c.category)
               FROM unnest(p_counts, p_categories) WITH ORDINALITY AS c (n, category, i) ORDER BY c.i);
COMMENT ON FUNCTION audit_store.add_counts(bigint[], text[], text[]) IS 'The counts of categories with those found added';

REVOKE ALL ON FUNCTION audit_store.drop_month, audit_store.forget, audit_store.retain, audit_store.is_due,
    audit_store.add_counts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_store.retain TO changeover_app;

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('audit', 'audit/0004_retention', 'retention', '521f0b355d58bf764ffc2826cd888b355d519b9e5f8313d086acfb856584d293') ON CONFLICT (module, id) DO NOTHING;
