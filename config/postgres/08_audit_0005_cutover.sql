-- description: the copier of a cutover is let through; what a cutover moves on at its end

SET ROLE changeover_owner;

-- As before, and the copier of a cutover may replace what it stored until the module is this database's.
CREATE OR REPLACE FUNCTION audit_store.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
    IF TG_OP = 'DELETE' AND TG_ARGV[0] = 'retention'
       AND current_setting('changeover.retention', true) = pg_current_xact_id_if_assigned()::text THEN
        RETURN NULL;
    END IF;
    IF cutover.is_copier(audit_store.module_name()) THEN
        RETURN CASE WHEN TG_LEVEL = 'STATEMENT' THEN NULL WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    RAISE EXCEPTION '% on %.% is refused: what is recorded does not change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'COIMM', HINT = 'Record an event that corrects the earlier one; retention removes what has expired.';
END
$refuse$;
COMMENT ON FUNCTION audit_store.refuse_change() IS 'Refuses to change or remove recorded rows, whoever asks but the copier of a cutover; retention is let through where its name is the argument';

-- As before; while changes are captured for a way back, months go row by row, since a dropped table tells no trigger.
CREATE OR REPLACE FUNCTION audit_store.drop_month(p_partition regclass) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '400ms' AS $drop_month$
BEGIN
    IF cutover.is_captured(audit_store.module_name()) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %s', p_partition);
    RETURN true;
EXCEPTION
    WHEN lock_not_available THEN
        RETURN false;
END
$drop_month$;

-- The next place is above p_high and above every event; the head of each chain is its last link. Again: nothing happens.
CREATE OR REPLACE FUNCTION audit_store.cutover_seal(p_high bigint, p_tenants text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $cutover_seal$
BEGIN
    INSERT INTO audit_store.audit_head AS h (tenant_id, sequence, recorded_at)
    SELECT t.tenant, greatest(p_high, e.sequence, a.sequence), coalesce(e.recorded_at, '1970-01-01 00:00:00+00')
      FROM unnest(p_tenants) AS t (tenant)
     CROSS JOIN LATERAL (SELECT max(x.sequence) AS sequence, max(x.recorded_at) AS recorded_at
                           FROM audit_store.audit_events AS x WHERE x.tenant_id = t.tenant) AS e
     CROSS JOIN LATERAL (SELECT max(x.sequence) AS sequence FROM audit_store.audit_anchor AS x
                          WHERE x.tenant_id = t.tenant) AS a
     WHERE greatest(p_high, e.sequence, a.sequence) > 0
    ON CONFLICT (tenant_id) DO UPDATE SET sequence = greatest(h.sequence, EXCLUDED.sequence),
                                          recorded_at = greatest(h.recorded_at, EXCLUDED.recorded_at);

    INSERT INTO audit_store.audit_chain AS c (tenant_id, correlation_id, sequence, event_id, link)
    SELECT DISTINCT ON (e.tenant_id, e.correlation_id) e.tenant_id, e.correlation_id, e.sequence, e.event_id, e.chain_link
      FROM audit_store.audit_events AS e WHERE e.chain_link IS NOT NULL
     ORDER BY e.tenant_id, e.correlation_id, e.sequence DESC
    ON CONFLICT (tenant_id, correlation_id) DO UPDATE
        SET sequence = EXCLUDED.sequence, event_id = EXCLUDED.event_id, link = EXCLUDED.link
     WHERE EXCLUDED.sequence > c.sequence;
END
$cutover_seal$;
COMMENT ON FUNCTION audit_store.cutover_seal(bigint, text[]) IS 'Moves the heads of tenants and chains on to a high water and to what is stored; part of a cutover';
REVOKE ALL ON FUNCTION audit_store.cutover_seal(bigint, text[]) FROM PUBLIC;

-- For a role of its own, so that the plans of everybody else stay what they were.
DO $policies$
DECLARE
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['audit_event_id', 'audit_events', 'audit_head', 'audit_chain', 'audit_anchor'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_policies AS p
                       WHERE p.schemaname = 'audit_store' AND p.tablename = relation AND p.policyname = 'whole') THEN
            EXECUTE pg_catalog.format(
                'CREATE POLICY whole ON audit_store.%I FOR SELECT TO changeover_copier USING (true)', relation);
        END IF;
    END LOOP;
END
$policies$;

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('audit', 'audit/0005_cutover', 'the copier of a cutover is let through; what a cutover moves on at its end', 'c8d916d8c3b25e56afdfcbdc8b52ae8421bb1db664a5eab9b0a790607e9bdfd8') ON CONFLICT (module, id) DO NOTHING;
