//! PostgreSQL: a database for each case, with concurrent appends committed together and without, through a pooler in
//! transaction mode, and after a cutover.

use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use changeover_conformance::{
    AuditTamper, Fault, Faults, Harness, Held, OpenOptions, RawRow, StartError, Unsupported,
};
use changeover_core::audit::Create;
use changeover_core::backend::Family;
use changeover_core::events::Append;
use changeover_core::playbooks::{NewPlaybook, PlaybookId, PlaybookVersion};
use changeover_core::{Backend, BackendSettings, ErrorKind, ModuleScope, OpenBackend, Result};
use changeover_postgres::{OpenPostgres, Postgres, Transaction, migrations_key};
use changeover_testkit::tokio_postgres::Client;
use changeover_testkit::{OnDisk, OwnServer, Pooler, Proxy, TestDatabase, database, with_user};
use tokio::sync::OnceCell;

use crate::another_process;
use crate::attempts::{let_through, on_rows_of};
use crate::sqlite::must;
use crate::{moved, postgres_audit, postgres_playbooks};

/// How a database is made and used.
pub trait SetUp: Send + Sync + 'static {
    /// What the matrix calls it.
    const NAME: &str;
    /// Whether concurrent appends are committed together.
    const SHARED: bool = true;
    /// Whether everything goes through a pooler in transaction mode.
    const POOLED: bool = false;
    /// Whether the modules were moved there from a file.
    const MOVED: bool = false;
    /// Whether the database lies on a disk of its own that can be full.
    const SMALL_DISK: bool = false;
}

/// As a service has it.
pub struct Shared;
/// Every append has a commit of its own.
pub struct Direct;
/// Through a pooler.
pub struct Pooled;
/// Rows of another tenant, copied from a legacy file, are there already.
pub struct Moved;

/// On a server of its own with a small disk: for the one case that fills it, as starting it takes seconds.
pub struct SmallDisk;

impl SetUp for Shared {
    const NAME: &str = "postgres";
}

impl SetUp for Direct {
    const NAME: &str = "postgres-direct";
    const SHARED: bool = false;
}

impl SetUp for Pooled {
    const NAME: &str = "postgres-pooled";
    const POOLED: bool = true;
}

impl SetUp for Moved {
    const NAME: &str = "postgres-moved";
    const MOVED: bool = true;
}

impl SetUp for SmallDisk {
    const NAME: &str = "postgres-small-disk";
    const SMALL_DISK: bool = true;
}

/// A database of a set-up.
pub struct PostgresHarness<S> {
    database: TestDatabase,
    pooler: Option<Pooler>,
    proxy: OnceCell<Proxy>,
    /// Databases without the schema, kept for as long as the case uses them.
    empty: Mutex<Vec<TestDatabase>>,
    /// The server, where it is the case's own.
    own: Option<OwnServer>,
    set_up: PhantomData<S>,
}

/// `postgres`.
pub type PostgresShared = PostgresHarness<Shared>;
/// `postgres-direct`.
pub type PostgresDirect = PostgresHarness<Direct>;
/// `postgres-pooled`.
pub type PostgresPooled = PostgresHarness<Pooled>;
/// `postgres-moved`.
pub type PostgresMoved = PostgresHarness<Moved>;
/// `postgres-small-disk`.
pub type PostgresSmallDisk = PostgresHarness<SmallDisk>;

/// Megabytes: a database and the largest append of the cases.
const DISK_SIZE: u32 = 64;

/// Through a pooler the service needs a login that could not bypass row security.
const LOGIN: &str = "changeover_suite_service";
/// Connections of the pooler to the server: fewer than the clients of a case have to it.
const POOL_SIZE: u32 = 4;

#[async_trait]
impl<S: SetUp> Harness for PostgresHarness<S> {
    const NAME: &str = S::NAME;
    const STORES: &[Family] = &[Family::Events, Family::Audit, Family::Playbooks];

    async fn start() -> Result<Self, StartError> {
        let migrate = |url: String| async move {
            let client = Postgres.open(&settings(&url)).await?;
            for family in Self::STORES {
                let scope = module_of(*family)?;
                client.migrations(&scope, *family)?.up().await?;
                if !S::MOVED {
                    client.claim(&scope).await?;
                }
            }
            if S::MOVED {
                moved::into(&*client, Self::STORES).await?;
            }
            client.close().await;
            Ok::<_, changeover_core::Error>(())
        };
        let kind = if S::MOVED { "moved suite" } else { "suite" };
        let key = format!("{kind} {}", migrations_key());
        let (database, own) = if S::SMALL_DISK {
            let own = OwnServer::with_disk(DISK_SIZE, OnDisk::Databases).await?;
            let database = own.database(&key, migrate).await?;
            own.move_to_disk(&database).await?;
            (database, Some(own))
        } else {
            (database(&key, migrate).await?, None)
        };
        let pooler = if S::POOLED {
            database.execute(&make_login()).await?;
            Some(Pooler::start(database.url(), &[LOGIN], POOL_SIZE).await?)
        } else {
            None
        };
        let (proxy, empty) = (OnceCell::new(), Mutex::default());
        Ok(Self { database, pooler, proxy, empty, own, set_up: PhantomData })
    }

    async fn client(&self) -> Arc<dyn OpenBackend> {
        self.open(self.settings()).await
    }

    fn faults(&self) -> &dyn Faults {
        self
    }
}

pub(crate) fn module_of(family: Family) -> Result<ModuleScope> {
    Ok(ModuleScope { module: changeover_core::ModuleName::new(family.as_str())?, namespace: None })
}

/// Few connections a client: many clients share the server.
fn settings(url: &str) -> BackendSettings {
    BackendSettings::new("postgres").with("url", url).with("pool.min_idle", "0").with("pool.max_size", "5")
}

fn with_options(mut settings: BackendSettings, options: OpenOptions) -> BackendSettings {
    let text = |time: Duration| format!("{}ms", time.as_millis());
    if let Some(size) = options.pool_size {
        settings = settings.with("pool.max_size", size.to_string());
    }
    if let Some(time) = options.acquire_timeout {
        settings = settings.with("pool.connect_timeout", text(time));
    }
    if let Some(time) = options.operation_timeout {
        settings = settings.with("command_timeout", text(time));
    }
    settings
}

/// Roles belong to the whole server, and another case may be making it at this moment.
fn make_login() -> String {
    format!(
        "DO $$ BEGIN CREATE ROLE {LOGIN} LOGIN IN ROLE changeover_app; \
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
}

impl<S: SetUp> PostgresHarness<S> {
    fn settings(&self) -> BackendSettings {
        self.settings_for(self.database.url())
    }

    /// For a database by its superuser's address.
    fn settings_for(&self, url: &str) -> BackendSettings {
        let settings = match &self.pooler {
            None => settings(url),
            Some(pooler) => settings(&pooler.url(&with_user(url, LOGIN, None)))
                .with("pooler", "transaction")
                .with("migrate_url", url),
        };
        settings.with("shared_commits", S::SHARED.to_string())
    }

    async fn open(&self, settings: BackendSettings) -> Arc<dyn OpenBackend> {
        must("open the database", Postgres.open(&settings).await)
    }

    async fn proxy(&self) -> &Proxy {
        let url =
            self.pooler.as_ref().map_or(self.database.url().to_owned(), |it| it.url(self.database.url()));
        let start = || async { must("start the proxy", Proxy::start(&url).await) };
        self.proxy.get_or_init(start).await
    }

    /// Of the superuser, which may do what the store's users may not.
    async fn raw(&self) -> Client {
        must("connect", self.database.client().await)
    }

    /// A transaction of another program in which `sql` was done.
    async fn hold(&self, sql: &str) -> Box<dyn Held> {
        let client = self.raw().await;
        must("begin", client.batch_execute(&format!("BEGIN; {sql}")).await);
        Box::new(HeldSession(client))
    }

    /// A client as this backend has it, for what the core's traits do not offer.
    async fn on_postgres<T>(&self, work: impl AsyncFnOnce(&OpenPostgres) -> T) -> T {
        let client = self.client().await;
        let client: &dyn Any = &*client;
        let Some(client) = client.downcast_ref::<OpenPostgres>() else {
            panic!("the kind `postgres` opened another backend");
        };
        work(client).await
    }

    async fn lines(&self, sql: &str) -> Vec<String> {
        let rows = must("read raw", self.database.query(sql, &[]).await);
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The attempts that were carried out, of those that every role must be refused, with the case's tenant and without.
    async fn let_through(&self, attempts: &[String]) -> Vec<String> {
        let mut done = Vec::new();
        for role in ["RESET ROLE", "SET ROLE changeover_owner", "SET ROLE changeover_app"] {
            for tenant in ["RESET changeover.tenant_id", "SET changeover.tenant_id = 'default'"] {
                done.extend(let_through(&self.raw().await, &format!("{role}; {tenant}"), attempts).await);
            }
        }
        done
    }
}

struct HeldWrite(Transaction);

#[async_trait]
impl Held for HeldWrite {
    async fn commit(self: Box<Self>) {
        must("commit the held write", self.0.commit().await);
    }

    async fn roll_back(self: Box<Self>) {
        must("roll the held write back", self.0.rollback().await);
    }
}

struct HeldSession(Client);

#[async_trait]
impl Held for HeldSession {
    async fn commit(self: Box<Self>) {
        must("commit", self.0.batch_execute("COMMIT").await);
    }

    async fn roll_back(self: Box<Self>) {
        must("roll back", self.0.batch_execute("ROLLBACK").await);
    }
}

/// Every relation of ours.
const TABLES: &str = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables \
                      WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1";

#[async_trait]
impl<S: SetUp> Faults for PostgresHarness<S> {
    fn otherwise(&self) -> Unsupported {
        Unsupported("the server's own clock and disk are not the suite's to touch")
    }

    async fn hold_append(&self, append: Append) -> Fault<Box<dyn Held>> {
        let begun = self.on_postgres(async |client| client.begin(&self.scope(), &self.tenant()).await);
        let mut transaction = must("begin", begun.await);
        must("append", transaction.append(&append).await);
        Ok(Box::new(HeldWrite(transaction)))
    }

    async fn hold_create(&self, request: Create) -> Fault<Box<dyn Held>> {
        let scope = self.scope_of(Family::Audit);
        let begun = self.on_postgres(async |client| client.begin(&scope, &self.tenant()).await);
        let mut transaction = must("begin", begun.await);
        must("record", transaction.record(&scope, request).await);
        Ok(Box::new(HeldWrite(transaction)))
    }

    async fn business_write(&self, request: Create, commit: bool) -> Fault<(Result<()>, u64)> {
        let table = "CREATE TABLE IF NOT EXISTS public.business (x int); GRANT ALL ON public.business TO changeover_app";
        must("make a table", self.database.execute(table).await);
        let (scope, tenant) = (self.scope_of(Family::Audit), self.tenant());
        let work = async |client: &OpenPostgres| {
            postgres_audit::business_write(client, &scope, &tenant, request, commit).await
        };
        let ended = self.on_postgres(work).await;
        let counted = self.lines("SELECT count(*)::text FROM public.business").await;
        Ok((ended, must("count", counted[0].parse())))
    }

    async fn tamper_audit(&self, tamper: AuditTamper) -> Fault<()> {
        postgres_audit::tamper(&self.raw().await, &self.tenant(), tamper).await;
        Ok(())
    }

    async fn change_audit(&self) -> Fault<Vec<String>> {
        Ok(self.let_through(&postgres_audit::changes()).await)
    }

    async fn audit_full_scans(&self, rows: u64) -> Fault<Vec<String>> {
        Ok(postgres_audit::full_scans(&self.raw().await, &self.tenant(), rows).await)
    }

    async fn hold_unrelated_transaction(&self) -> Fault<Box<dyn Held>> {
        Ok(self
            .hold("CREATE TABLE public.unrelated (number int); INSERT INTO public.unrelated VALUES (1)")
            .await)
    }

    async fn hold_write_lock(&self) -> Fault<Box<dyn Held>> {
        Ok(self.hold("SELECT pg_advisory_xact_lock(changeover.lock_key('events', 'module'))").await)
    }

    async fn fragile_client(&self, options: OpenOptions) -> Fault<Arc<dyn OpenBackend>> {
        let login = if S::POOLED {
            with_user(self.database.url(), LOGIN, None)
        } else {
            self.database.url().to_owned()
        };
        let settings = self.settings().with("url", self.proxy().await.url(&login));
        Ok(self.open(with_options(settings, options)).await)
    }

    async fn cut_connections(&self) -> Fault<()> {
        self.proxy().await.cut();
        Ok(())
    }

    async fn cut_at_commit(&self) -> Fault<()> {
        // A write function is one statement, so its commit has no message of its own, but for that through a pooler; the
        // cases' events have this type.
        if S::POOLED {
            self.proxy().await.drop_reply_until("OrderPlaced", "COMMIT");
        } else {
            self.proxy().await.drop_reply_after("OrderPlaced");
        }
        Ok(())
    }

    async fn freeze(&self) -> Fault<()> {
        self.proxy().await.freeze();
        Ok(())
    }

    async fn thaw(&self) -> Fault<()> {
        self.proxy().await.thaw();
        Ok(())
    }

    async fn kill_sessions(&self) -> Fault<()> {
        must("end the sessions", self.database.kill_backends().await);
        Ok(())
    }

    async fn kill_listeners(&self) -> Fault<()> {
        let sql = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity \
                   WHERE datname = current_database() AND query ILIKE 'listen%'";
        self.lines(sql).await;
        Ok(())
    }

    async fn set_read_only(&self, on: bool) -> Fault<()> {
        let client = self.raw().await;
        // In a session of its own mode: the database may be read-only already.
        must("write", client.batch_execute("SET default_transaction_read_only = off").await);
        let value =
            if on { "SET default_transaction_read_only = on" } else { "RESET default_transaction_read_only" };
        let sql = format!("ALTER DATABASE {} {value}", self.database.name());
        must("set the mode", client.batch_execute(&sql).await);
        if let Some(pooler) = &self.pooler {
            // It holds for new connections.
            must("have the pooler reconnect", pooler.reconnect().await);
        }
        Ok(())
    }

    async fn set_disk_full(&self, on: bool) -> Fault<()> {
        let Some(own) = &self.own else { return Err(self.otherwise()) };
        let disk = must("a small disk", own.disk());
        if on {
            must("fill it", disk.fill());
        } else {
            must("make room", disk.make_room());
        }
        Ok(())
    }

    async fn unmigrated_client(&self) -> Fault<Arc<dyn OpenBackend>> {
        let empty = must("an empty database", TestDatabase::empty().await);
        let client = self.open(self.settings_for(empty.url())).await;
        self.empty.lock().unwrap_or_else(PoisonError::into_inner).push(empty);
        Ok(client)
    }

    async fn make_schema_newer(&self) -> Fault<()> {
        let sql = "INSERT INTO changeover._migrations (module, id, description, checksum) \
                   VALUES ('events', 'events/9999_future', 'of a newer program', repeat('0', 64))";
        must("record a migration", self.database.execute(sql).await);
        Ok(())
    }

    async fn row_counts(&self) -> Fault<BTreeMap<String, u64>> {
        let client = self.raw().await;
        let mut counts = BTreeMap::new();
        for table in self.lines(TABLES).await {
            let row = must("count", client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await);
            counts.insert(table, row.get::<_, i64>(0).unsigned_abs());
        }
        Ok(counts)
    }

    async fn plant(&self, _row: RawRow) -> Fault<()> {
        Err(Unsupported("the types of the columns refuse such a value"))
    }

    async fn tamper(&self) -> Fault<Vec<String>> {
        let (events, streams) = ("event_store.domain_event", "event_store.event_stream");
        let attempts = [
            on_rows_of(events, &format!("UPDATE {events} SET event_data = '{{}}'")),
            on_rows_of(events, &format!("DELETE FROM {events}")),
            on_rows_of(streams, &format!("UPDATE {streams} SET aggregate_type = 'Other'")),
            on_rows_of(streams, &format!("DELETE FROM {streams}")),
            // Row security does not hold this up, so it is tried without rows to be seen too.
            format!("TRUNCATE {events} CASCADE"),
            format!("TRUNCATE {streams} CASCADE"),
        ];
        Ok(self.let_through(&attempts).await)
    }

    async fn client_in_time_zone(&self, zone: &str) -> Fault<Arc<dyn OpenBackend>> {
        let sql = format!("ALTER DATABASE {} SET timezone = '{zone}'", self.database.name());
        must("set the time zone", self.database.execute(&sql).await);
        Ok(self.client().await)
    }

    async fn try_client(&self) -> Fault<Result<Arc<dyn OpenBackend>>> {
        Ok(Postgres.open(&self.settings()).await)
    }

    async fn append_in_another_process(&self, append: Append) -> Fault<Result<(), ErrorKind>> {
        Ok(another_process::append(&Postgres, &self.settings(), &self.tenant(), &append).await)
    }

    async fn schema(&self) -> Fault<Vec<String>> {
        let sql = "WITH ours AS (SELECT oid FROM pg_namespace \
                     WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema') \
                   SELECT format('column %s.%s.%s %s %s %s', table_schema, table_name, column_name, data_type, is_nullable, \
                                 column_default) AS line FROM information_schema.columns \
                     WHERE to_regnamespace(table_schema) IN (SELECT oid FROM ours) \
                   UNION ALL SELECT format('index %s', pg_get_indexdef(oid)) FROM pg_class \
                     WHERE relkind = 'i' AND relnamespace IN (SELECT oid FROM ours) \
                   UNION ALL SELECT format('rule %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) \
                     FROM pg_constraint WHERE connamespace IN (SELECT oid FROM ours) \
                   UNION ALL SELECT format('trigger %s', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal \
                   UNION ALL SELECT format('policy %s %s %s', tablename, policyname, qual) FROM pg_policies \
                   UNION ALL SELECT format('function %s %s', oid::regprocedure, md5(prosrc)) FROM pg_proc \
                     WHERE pronamespace IN (SELECT oid FROM ours) \
                   ORDER BY line";
        let client = self.raw().await;
        // Names are written in full only where no search path finds them.
        must("set the search path", client.batch_execute("SET search_path = pg_catalog").await);
        let rows = must("read the schema", client.query(sql, &[]).await);
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn break_rules(&self) -> Fault<Vec<String>> {
        let copy = |id: &str, stream: &str, version: &str, data: &str| {
            format!(
                "INSERT INTO event_store.domain_event (tenant_id, position, event_id, stream_id, event_type, event_version, \
                 aggregate_version, event_data, metadata, occurred_at, recorded_at) \
                 SELECT tenant_id, position + 1000, {id}, {stream}, event_type, event_version, {version}, {data}, metadata, \
                 occurred_at, recorded_at FROM event_store.domain_event LIMIT 1"
            )
        };
        let new = "gen_random_uuid()";
        let attempts = [
            copy("event_id", "stream_id", "99", "event_data"),
            copy(new, "stream_id", "aggregate_version", "event_data"),
            copy(new, "stream_id", "0", "event_data"),
            copy(new, new, "99", "event_data"),
            copy(new, "stream_id", "99", "'null'::jsonb"),
        ];
        Ok(let_through(&self.raw().await, "RESET ROLE", &attempts).await)
    }

    async fn insert_playbook_by_sql(&self, playbook: NewPlaybook) -> Fault<Result<(), String>> {
        Ok(postgres_playbooks::insert(&self.database, self.tenant().as_str(), &playbook).await)
    }

    async fn overwrite_playbook_content(
        &self,
        playbook_id: &PlaybookId,
        version: &PlaybookVersion,
        content: &str,
    ) -> Fault<()> {
        postgres_playbooks::overwrite(&self.database, playbook_id, version, content).await;
        Ok(())
    }

    async fn break_playbook_rules(&self) -> Fault<Vec<String>> {
        Ok(postgres_playbooks::break_rules(&self.database).await)
    }

    async fn playbook_full_scans(&self) -> Fault<Vec<String>> {
        Ok(postgres_playbooks::full_scans(&self.database).await)
    }

    async fn client_with(&self, options: OpenOptions) -> Fault<Arc<dyn OpenBackend>> {
        Ok(self.open(with_options(self.settings(), options)).await)
    }
}
