-- description: runs of cutovers, what stayed out, and the record

-- Row security is forced on tables of tenants, so that their owner sees one tenant as well. A cutover compares and brings
-- back the rows of all: for that it acts as changeover_copier, which the policies "whole" let through. Nothing is
-- inherited from it, so that they mean nothing to anybody who does not ask for it.
DO $copier$
BEGIN
    IF NOT pg_catalog.pg_has_role('changeover_owner', 'changeover_copier', 'SET') THEN
        GRANT changeover_copier TO changeover_owner WITH INHERIT FALSE, SET TRUE;
    END IF;
EXCEPTION
    WHEN unique_violation OR internal_error THEN NULL;   -- another migration of the cluster granted it
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'changeover_copier is not granted to changeover_owner, which a cutover needs: %', SQLERRM;
END
$copier$;

CREATE SCHEMA IF NOT EXISTS cutover AUTHORIZATION changeover_owner;

SET ROLE changeover_owner;

COMMENT ON SCHEMA cutover IS 'Changeover: modules on their way into this database. Who owns a module is said by changeover.module alone';

CREATE TABLE IF NOT EXISTS cutover.run (
    run          uuid PRIMARY KEY,
    module       text COLLATE "C" NOT NULL CHECK (char_length(module) BETWEEN 1 AND 255),
    phase        text COLLATE "C" NOT NULL CHECK (phase IN (
        'idle', 'prepared', 'copying', 'catching_up', 'verifying', 'fenced', 'drained', 'sealed', 'switched',
        'revert_fenced', 'finalized')),
    declarations jsonb NOT NULL,
    tables       jsonb NOT NULL,
    tenant       text COLLATE "C" NOT NULL CHECK (char_length(tenant) BETWEEN 1 AND 255),
    nonce        uuid NOT NULL,
    place        text NOT NULL,
    fingerprint  jsonb NOT NULL,
    terms        jsonb NOT NULL,
    token        bigint NOT NULL CHECK (token > 0),
    holder       text,
    until        timestamptz,
    applied      bigint NOT NULL DEFAULT 0 CHECK (applied >= 0),
    fenced_at    bigint,
    back_seq     bigint NOT NULL DEFAULT 0,
    taken_off    jsonb NOT NULL,
    linked       boolean NOT NULL DEFAULT false,
    started_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT run_lease_check CHECK ((holder IS NULL) = (until IS NULL)),
    CONSTRAINT run_token_key UNIQUE (module, token)
) WITH (fillfactor = 50);   -- changes with every chunk
CREATE UNIQUE INDEX IF NOT EXISTS run_under_way ON cutover.run (module) WHERE phase NOT IN ('idle', 'finalized');
COMMENT ON TABLE cutover.run IS 'One row a run. Whoever moves it on has the token of its lease, which every transaction checks';
COMMENT ON COLUMN cutover.run.run IS 'Identity of the run';
COMMENT ON COLUMN cutover.run.module IS 'Module that is moved; one run at a time';
COMMENT ON COLUMN cutover.run.phase IS 'How far it has come; idle: given up, or reverted to its end';
COMMENT ON COLUMN cutover.run.declarations IS 'The declarations as a document, for programs that go on with the run';
COMMENT ON COLUMN cutover.run.tables IS 'What the declarations say of the tables here';
COMMENT ON COLUMN cutover.run.tenant IS 'Tenant of rows that have none in the old store';
COMMENT ON COLUMN cutover.run.nonce IS 'Identity of the old file';
COMMENT ON COLUMN cutover.run.place IS 'Where the old file is, for people';
COMMENT ON COLUMN cutover.run.fingerprint IS 'Facts about the old store at the plan; a resume refuses one that differs';
COMMENT ON COLUMN cutover.run.terms IS 'What was accepted';
COMMENT ON COLUMN cutover.run.token IS 'Rises with every lease of the module; an older one changes nothing';
COMMENT ON COLUMN cutover.run.holder IS 'Who has the lease; null: nobody';
COMMENT ON COLUMN cutover.run.until IS 'When the lease may be taken by others, by the server''s clock';
COMMENT ON COLUMN cutover.run.applied IS 'Last captured change of the old store that is in the tables';
COMMENT ON COLUMN cutover.run.fenced_at IS 'Last captured change of the old store, once it was fenced';
COMMENT ON COLUMN cutover.run.back_seq IS 'Last captured change of this database that was written back, as far as it was told';
COMMENT ON COLUMN cutover.run.taken_off IS 'What the run took off the tables and puts back: foreign keys, forced row security; and the partitions that were there';
COMMENT ON COLUMN cutover.run.linked IS 'Whether the foreign keys are back, deferred';
COMMENT ON COLUMN cutover.run.started_at IS 'When it was made';

CREATE TABLE IF NOT EXISTS cutover.chunk (
    run         uuid NOT NULL REFERENCES cutover.run,
    tbl         integer NOT NULL CHECK (tbl >= 0),
    number      bigint NOT NULL CHECK (number > 0),
    last        jsonb NOT NULL,
    is_end      boolean NOT NULL,
    rows        bigint NOT NULL CHECK (rows >= 0),
    bytes       bigint NOT NULL CHECK (bytes >= 0),
    seq         bigint NOT NULL,
    stored      bigint NOT NULL CHECK (stored >= 0),
    quarantined bigint NOT NULL CHECK (quarantined >= 0),
    stored_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT chunk_pkey PRIMARY KEY (run, tbl, number)
);
COMMENT ON TABLE cutover.chunk IS 'Chunks that were stored, each written in the transaction of its rows';
COMMENT ON COLUMN cutover.chunk.run IS 'Run that it belongs to';
COMMENT ON COLUMN cutover.chunk.tbl IS 'Index of the table in the declarations';
COMMENT ON COLUMN cutover.chunk.number IS 'Number of the chunk in its table, from 1';
COMMENT ON COLUMN cutover.chunk.last IS 'Key of the last row read; {"text_hex": ..} and {"blob": ..} in hexadecimal';
COMMENT ON COLUMN cutover.chunk.is_end IS 'Whether the table was read to its end';
COMMENT ON COLUMN cutover.chunk.rows IS 'Rows read';
COMMENT ON COLUMN cutover.chunk.bytes IS 'Bytes read';
COMMENT ON COLUMN cutover.chunk.seq IS 'Last captured change that the read contains';
COMMENT ON COLUMN cutover.chunk.stored IS 'Rows stored';
COMMENT ON COLUMN cutover.chunk.quarantined IS 'Rows that stayed out';
COMMENT ON COLUMN cutover.chunk.stored_at IS 'When it was stored';

CREATE TABLE IF NOT EXISTS cutover.quarantine (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run        uuid NOT NULL REFERENCES cutover.run,
    tbl        integer NOT NULL CHECK (tbl >= 0),
    key        text NOT NULL,
    -- A key may be longer than an index takes.
    key_hash   bytea NOT NULL CHECK (octet_length(key_hash) = 32),
    row        jsonb NOT NULL,
    reasons    jsonb NOT NULL,
    decision   text COLLATE "C" NOT NULL DEFAULT 'undecided'
               CHECK (decision IN ('undecided', 'approved', 'rejected', 'repaired')),
    decided_by text,
    decided_at timestamptz,
    CONSTRAINT quarantine_key UNIQUE (run, tbl, key_hash)
);
CREATE INDEX IF NOT EXISTS quarantine_decision ON cutover.quarantine (run, decision, id);
COMMENT ON TABLE cutover.quarantine IS 'Rows of the old store that stay out, whole, one row each, with every reason';
COMMENT ON COLUMN cutover.quarantine.id IS 'What people name it by';
COMMENT ON COLUMN cutover.quarantine.run IS 'Run that it belongs to';
COMMENT ON COLUMN cutover.quarantine.tbl IS 'Index of the table in the declarations';
COMMENT ON COLUMN cutover.quarantine.key IS 'Key in the old store, as JSON in one spelling';
COMMENT ON COLUMN cutover.quarantine.key_hash IS 'SHA-256 of the key';
COMMENT ON COLUMN cutover.quarantine.row IS 'The row, value by value, each with its storage class';
COMMENT ON COLUMN cutover.quarantine.reasons IS 'Why: column, number of the hazard, what is wrong';
COMMENT ON COLUMN cutover.quarantine.decision IS 'undecided; approved: it may stay out; rejected: it may not; repaired: other values were stored';
COMMENT ON COLUMN cutover.quarantine.decided_by IS 'Who decided';
COMMENT ON COLUMN cutover.quarantine.decided_at IS 'When it was decided';

CREATE TABLE IF NOT EXISTS cutover.record (
    module   text COLLATE "C" NOT NULL,
    number   bigint NOT NULL CHECK (number > 0),
    run      uuid NOT NULL,
    at       timestamptz NOT NULL,
    what     text COLLATE "C" NOT NULL CHECK (char_length(what) BETWEEN 1 AND 100 AND strpos(what, chr(10)) = 0),
    who      text NOT NULL CHECK (strpos(who, chr(10)) = 0),
    facts    text NOT NULL CHECK (facts IS JSON OBJECT),
    previous text COLLATE "C" NOT NULL CHECK (char_length(previous) = 64),
    hash     text COLLATE "C" NOT NULL CHECK (char_length(hash) = 64),
    CONSTRAINT record_pkey PRIMARY KEY (module, number)
);
CREATE INDEX IF NOT EXISTS record_run ON cutover.record (run, number);
COMMENT ON TABLE cutover.record IS 'What happened, append-only; each entry of a module names the hash of the one before it';
COMMENT ON COLUMN cutover.record.module IS 'Module whose chain it belongs to';
COMMENT ON COLUMN cutover.record.number IS 'Place in the chain, from 1 without gaps';
COMMENT ON COLUMN cutover.record.run IS 'Run that it is about';
COMMENT ON COLUMN cutover.record.at IS 'When it was recorded, by the server''s clock';
COMMENT ON COLUMN cutover.record.what IS 'What happened, a fixed word';
COMMENT ON COLUMN cutover.record.who IS 'Who did it';
COMMENT ON COLUMN cutover.record.facts IS 'Facts, an object in canonical text';
COMMENT ON COLUMN cutover.record.previous IS 'Hash of the entry before; 64 zeros for the first';
COMMENT ON COLUMN cutover.record.hash IS 'SHA-256, in hexadecimal, of previous, number, run, at, what, who and facts, each followed by a newline';

CREATE TABLE IF NOT EXISTS cutover.capture (
    module text COLLATE "C" NOT NULL,
    seq    bigint GENERATED ALWAYS AS IDENTITY,
    tbl    text COLLATE "C" NOT NULL,
    key    jsonb NOT NULL,
    CONSTRAINT capture_pkey PRIMARY KEY (module, seq)
);
COMMENT ON TABLE cutover.capture IS 'Rows that were changed here since the switch, for a way back; written by triggers';
COMMENT ON COLUMN cutover.capture.module IS 'Module that the row belongs to';
COMMENT ON COLUMN cutover.capture.seq IS 'Number of the change; the numbers of open transactions come later than they say';
COMMENT ON COLUMN cutover.capture.tbl IS 'Name of the declared table';
COMMENT ON COLUMN cutover.capture.key IS 'Key of the row, column by column';

CREATE OR REPLACE FUNCTION cutover.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
    RAISE EXCEPTION '% on %.% is refused: what is recorded does not change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'COIMM';
END
$refuse$;
COMMENT ON FUNCTION cutover.refuse_change() IS 'Refuses to change or remove entries of the record, whoever asks';

CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON cutover.record
    FOR EACH STATEMENT EXECUTE FUNCTION cutover.refuse_change();

-- Appends an entry. Entries of a module take turns up to their commit, so that numbers have no gaps.
CREATE OR REPLACE FUNCTION cutover.append_record(p_module text, p_run uuid, p_what text, p_who text, p_facts text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $append_record$
DECLARE
    v_number   bigint;
    v_previous text;
    v_at       constant timestamptz := clock_timestamp();
BEGIN
    PERFORM pg_advisory_xact_lock(changeover.lock_key(p_module, 'record'));
    SELECT r.number, r.hash INTO v_number, v_previous
      FROM cutover.record AS r WHERE r.module = p_module ORDER BY r.number DESC LIMIT 1;
    v_number := coalesce(v_number, 0) + 1;
    v_previous := coalesce(v_previous, repeat('0', 64));
    INSERT INTO cutover.record (module, number, run, at, what, who, facts, previous, hash)
    VALUES (p_module, v_number, p_run, v_at, p_what, p_who, p_facts, v_previous,
            encode(sha256(convert_to(concat_ws(chr(10), v_previous, v_number, p_run,
                to_char(v_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), p_what, p_who, p_facts, ''), 'UTF8')), 'hex'));
    RETURN v_number;
END
$append_record$;
COMMENT ON FUNCTION cutover.append_record(text, uuid, text, text, text) IS 'Appends an entry to the record of a module and returns its number';

-- The key to tables whose rows do not change: a transaction that names the current token of the module's run, while the
-- module is not owned by this database. A setting that somebody forgot opens nothing once the token has moved on.
CREATE OR REPLACE FUNCTION cutover.is_copier(p_module text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $is_copier$
DECLARE
    v_token constant text := coalesce(current_setting('changeover.copier', true), '');
BEGIN
    RETURN v_token <> '' AND EXISTS (
        SELECT FROM cutover.run AS r JOIN changeover.module AS m ON m.module = r.module
         WHERE r.module = p_module AND r.phase NOT IN ('idle', 'finalized') AND m.owner <> 'postgres'
           AND r.token::text = v_token);
END
$is_copier$;
COMMENT ON FUNCTION cutover.is_copier(text) IS 'Whether this transaction has the current lease of a run of the module, which this database does not own';

CREATE OR REPLACE FUNCTION cutover.is_captured(p_module text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM cutover.run AS r WHERE r.module = p_module AND r.phase = 'switched');
COMMENT ON FUNCTION cutover.is_captured(text) IS 'Whether changes of the module are captured for a way back';

-- On the tables of a user's own, from begin to the end of the way back: writers go through the same gate as those of the
-- built-in modules, whose functions have it in them.
CREATE OR REPLACE FUNCTION cutover.guard() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $guard$
DECLARE
    v_module constant text := TG_ARGV[0];
    v_owner  text;
BEGIN
    IF cutover.is_copier(v_module) THEN
        RETURN NULL;
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'module "%" is written in READ COMMITTED transactions during a cutover, not in %', v_module,
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'feature_not_supported', HINT = 'Begin the transaction with ISOLATION LEVEL READ COMMITTED.';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(changeover.lock_key(v_module, 'module'));
    SELECT m.owner INTO v_owner FROM changeover.module AS m WHERE m.module = v_module;
    IF v_owner IS DISTINCT FROM 'postgres' THEN
        RAISE EXCEPTION 'module "%" is not owned by this database but by: %', v_module, coalesce(v_owner, 'nobody known')
            USING ERRCODE = 'COMVD', HINT = 'Ask changeover.module for the owner.';
    END IF;
    RETURN NULL;
END
$guard$;
COMMENT ON FUNCTION cutover.guard() IS 'Refuses writes to a table of a module that this database does not own';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA cutover FROM PUBLIC;
-- Triggers and policies ask these as whoever writes.
GRANT USAGE ON SCHEMA cutover TO PUBLIC;
GRANT EXECUTE ON FUNCTION cutover.is_copier(text), cutover.is_captured(text) TO PUBLIC;
GRANT SELECT ON cutover.capture TO changeover_copier;

RESET ROLE;
