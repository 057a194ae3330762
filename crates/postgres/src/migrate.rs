//! The runner that applies the shipped migrations: alone, each in a transaction, and only onto a schema it knows.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::backend::{Family, MigrationStatus, Migrations};
use changeover_core::{Error, ErrorKind, ModuleScope, Result, Timestamp};
use tokio_postgres::{Client, Row};

use crate::classify;
use crate::codec::Micros;
use crate::connect::Connector;
use crate::settings::Settings;
use crate::shipped::{
    BASE, NO_TRANSACTION, REMOVES_RECORDS, Shipped, plain_schema, replace_words, statements,
};
use crate::statements::schema;

/// The migrations of one family of one module in one database.
pub(crate) struct PostgresMigrations {
    pub settings: Arc<Settings>,
    pub scope: ModuleScope,
    pub family: Family,
    /// All there are, of every family.
    pub known: &'static [Shipped],
}

/// Where a list of migrations stands in the database: the shipped ones in their order, then those unknown here.
struct State {
    statuses: Vec<MigrationStatus>,
}

impl State {
    fn is_applied(&self, it: &Shipped) -> bool {
        self.statuses.iter().any(|status| status.id == it.id && status.applied_at.is_some())
    }
}

impl PostgresMigrations {
    fn shipped(&self) -> Vec<&'static Shipped> {
        self.known.iter().filter(|it| it.family == BASE || it.family == self.family.as_str()).collect()
    }

    fn render(&self, it: &Shipped, sql: &str) -> String {
        let roles = &self.settings.roles;
        let plain = plain_schema(self.family);
        let schema_of_module = schema(&self.scope, plain);
        let module = format!("'{}'", self.scope.module);
        let mut words = vec![
            ("changeover_owner", roles.owner.as_str()),
            ("changeover_app", &roles.app),
            ("changeover_copier", &roles.copier),
        ];
        if it.family != BASE {
            words.push((plain, &schema_of_module));
        }
        let text = replace_words(sql, &words);
        if it.family == BASE { text } else { text.replace(&format!("'{}'", it.family), &module) }
    }

    /// A connection of the login that may change the schema.
    async fn connect(&self) -> Result<Client> {
        Ok(Connector::for_migrations(&self.settings)?.client().await?.0)
    }

    /// As [`Self::connect`], alone among all runners until the connection ends.
    async fn connect_alone(&self) -> Result<Client> {
        let client = self.connect().await?;
        client
            .batch_execute(
                "SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended('changeover/migrate/*', 0))",
            )
            .await
            .map_err(|error| classify::read_error(&error))?;
        Ok(client)
    }

    async fn state(&self, client: &Client) -> Result<State> {
        let shipped = self.shipped();
        let there: bool =
            one(client, "SELECT to_regclass('changeover._migrations') IS NOT NULL").await?.get(0);
        let rows = if there {
            client
                .query(
                    "SELECT module, id, description, checksum, applied_at FROM changeover._migrations \
                     WHERE module IN ('base', $1) ORDER BY module <> 'base', id",
                    &[&self.scope.module.as_str()],
                )
                .await
                .map_err(|error| classify::read_error(&error))?
        } else {
            Vec::new()
        };
        let mut found: HashMap<(String, String), Row> =
            rows.into_iter().map(|row| ((row.get(0), row.get(1)), row)).collect();

        let mut statuses = Vec::new();
        // What all modules share may grow after a family was migrated; the order counts within each.
        let mut gap = None;
        for it in &shipped {
            let row = found.remove(&(it.module(&self.scope).to_owned(), it.id.to_owned()));
            let problem = match &row {
                Some(_) if gap == Some(it.family) => Some("an earlier migration is missing".to_owned()),
                Some(row) if row.get::<_, String>(3) != it.checksum() => {
                    Some("its text has changed since it was applied".to_owned())
                }
                _ => None,
            };
            if row.is_none() {
                gap = Some(it.family);
            }
            statuses.push(MigrationStatus {
                id: it.id.to_owned(),
                description: it.description(),
                checksum: it.checksum(),
                applied_at: row.map(|row| Timestamp::from_micros(row.get::<_, Micros>(4).0)).transpose()?,
                problem,
            });
        }
        let mut unknown: Vec<_> = found
            .into_values()
            // Other families of the same module are not ours to judge.
            .filter(|row| {
                let family = row.get::<_, String>(1);
                family.starts_with("base/") || family.starts_with(&format!("{}/", self.family.as_str()))
            })
            .map(|row| {
                Ok(MigrationStatus {
                    id: row.get(1),
                    description: row.get(2),
                    checksum: row.get(3),
                    applied_at: Some(Timestamp::from_micros(row.get::<_, Micros>(4).0)?),
                    problem: Some("unknown here: the schema is newer than this program".to_owned()),
                })
            })
            .collect::<Result<_>>()?;
        unknown.sort_by(|a, b| a.id.cmp(&b.id));
        statuses.extend(unknown);
        Ok(State { statuses })
    }

    /// The state, if it is one that this program may go on from.
    async fn sound_state(&self, client: &Client) -> Result<State> {
        let state = self.state(client).await?;
        let mut problems = String::new();
        for status in &state.statuses {
            if let Some(problem) = &status.problem {
                // Writing to a String cannot fail.
                let _ = write!(problems, "{}: {problem}; ", status.id);
            }
        }
        if problems.is_empty() {
            return Ok(state);
        }
        Err(Error::new(
            ErrorKind::SchemaMismatch,
            format!("{problems}nothing was applied; use the program that belongs to this schema"),
        ))
    }

    /// The service's login acts as the application's role, where it is not the login that migrates.
    async fn admit_service(&self, client: &Client) -> Result<()> {
        let user = &self.settings.target.user;
        let row = client
            .query_opt(
                "SELECT pg_catalog.format('GRANT %I TO %I', $1::text, r.rolname) FROM pg_catalog.pg_roles AS r \
                  WHERE r.rolname = $2 AND NOT pg_catalog.pg_has_role(r.oid, $1, 'MEMBER')",
                &[&self.settings.roles.app, user],
            )
            .await
            .map_err(|error| classify::read_error(&error))?;
        if let Some(row) = row
            && client.batch_execute(row.get(0)).await.is_err()
        {
            tracing::warn!(
                role = self.settings.roles.app,
                "the login of url was not granted the application's role; grant it by hand"
            );
        }
        Ok(())
    }
}

#[async_trait]
impl Migrations for PostgresMigrations {
    async fn status(&self) -> Result<Vec<MigrationStatus>> {
        let client = self.connect().await.map_err(|error| error.during("migrate.status"))?;
        Ok(self.state(&client).await.map_err(|error| error.during("migrate.status"))?.statuses)
    }

    async fn up(&self) -> Result<Vec<MigrationStatus>> {
        let work = async {
            let client = self.connect_alone().await?;
            let state = self.sound_state(&client).await?;
            let missing: Vec<_> = self.shipped().into_iter().filter(|it| !state.is_applied(it)).collect();
            for it in &missing {
                let record = "INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ($1, $2, $3, $4)";
                let module = it.module(&self.scope);
                run(
                    &client,
                    it.id,
                    it.up,
                    &self.render(it, it.up),
                    record,
                    &[&module, &it.id, &it.description(), &it.checksum()],
                )
                .await?;
            }
            self.admit_service(&client).await?;
            let mut statuses = self.state(&client).await?.statuses;
            statuses.retain(|status| missing.iter().any(|it| it.id == status.id));
            Ok(statuses)
        };
        work.await.map_err(|error: Error| error.during("migrate.up"))
    }

    async fn down(&self, steps: u32, accept_data_loss: bool) -> Result<Vec<MigrationStatus>> {
        let work = async {
            let client = self.connect_alone().await?;
            let state = self.sound_state(&client).await?;
            let applied: Vec<_> = self.shipped().into_iter().filter(|it| state.is_applied(it)).collect();
            let back: Vec<_> = applied.iter().rev().take(steps as usize).collect();
            let is_shared = back.iter().any(|it| it.family == BASE);
            self.refuse_moving(&client, is_shared).await?;
            if back.iter().any(|it| it.down.starts_with(REMOVES_RECORDS)) && !accept_data_loss {
                self.refuse_loss(&client).await?;
            }
            if is_shared {
                self.refuse_shared(&client).await?;
            }
            for it in &back {
                let module = it.module(&self.scope);
                // With the first of all goes the table of records itself.
                let record = if self.known.first().is_some_and(|first| first.id == it.id) {
                    "SELECT $1::text, $2::text"
                } else {
                    "DELETE FROM changeover._migrations WHERE module = $1 AND id = $2"
                };
                run(&client, it.id, it.down, &self.render(it, &it.down_sql()), record, &[&module, &it.id])
                    .await?;
            }
            let ids: Vec<_> = back.iter().map(|it| it.id).collect();
            let mut statuses: Vec<_> =
                state.statuses.into_iter().filter(|status| ids.contains(&status.id.as_str())).collect();
            statuses.reverse();
            for status in &mut statuses {
                status.applied_at = None;
            }
            Ok(statuses)
        };
        work.await.map_err(|error: Error| error.during("migrate.down"))
    }
}

impl PostgresMigrations {
    /// `Invalid` if a cutover of the module is under way; of any module, where what all share would go. As long as the
    /// connection lasts none begins: whoever begins one takes the module's lock alone, which writers do not.
    async fn refuse_moving(&self, client: &Client, is_shared: bool) -> Result<()> {
        let module = self.scope.module.as_str();
        let is_there = "SELECT to_regclass('cutover.run') IS NOT NULL";
        if !one(client, is_there).await?.get::<_, bool>(0) {
            return Ok(());
        }
        let lock = "SELECT pg_catalog.pg_advisory_lock_shared(changeover.lock_key($1, 'module'))";
        client.query(lock, &[&module]).await.map_err(|error| classify::read_error(&error))?;
        let under_way = "SELECT module, run::text, phase FROM cutover.run \
                          WHERE phase NOT IN ('idle', 'finalized') AND ($2 OR module = $1) ORDER BY module LIMIT 1";
        let row = client.query_opt(under_way, &[&module, &is_shared]).await;
        let Some(row) = row.map_err(|error| classify::read_error(&error))? else { return Ok(()) };
        let (module, run, phase): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let first = match phase.as_str() {
            "switched" => "finalize it, or revert it, first",
            "revert_fenced" => "finish the revert first",
            _ => "abort it first, or let it end",
        };
        Err(Error::invalid(format!(
            "run {run} of the cutover of module {module} is in the phase {phase} and needs these tables; nothing was taken \
             back; {first}"
        )))
    }

    /// `Invalid` if the module's tables of this family hold anything.
    async fn refuse_loss(&self, client: &Client) -> Result<()> {
        let row = client
            .query_opt(
                "SELECT t FROM changeover.module AS m CROSS JOIN LATERAL unnest(m.tables) AS t \
                  WHERE m.module = $1 AND starts_with(t, $2) AND pg_catalog.pg_relation_size(to_regclass(t)) > 0 LIMIT 1",
                &[&self.scope.module.as_str(), &format!("{}.", schema(&self.scope, plain_schema(self.family)))],
            )
            .await
            .map_err(|error| classify::read_error(&error))?;
        match row {
            Some(row) => Err(Error::invalid(format!(
                "the table {} holds records, which would be lost; nothing was taken back; accept the loss to go on",
                row.get::<_, String>(0)
            ))),
            None => Ok(()),
        }
    }

    /// `Invalid` if another module uses what all share.
    async fn refuse_shared(&self, client: &Client) -> Result<()> {
        let row = client
            .query_opt(
                "SELECT module FROM changeover._migrations WHERE module NOT IN ('base', $1) LIMIT 1",
                &[&self.scope.module.as_str()],
            )
            .await
            .map_err(|error| classify::read_error(&error))?;
        match row {
            Some(row) => Err(Error::invalid(format!(
                "module {} uses what all modules share; nothing was taken back; take its migrations back first",
                row.get::<_, String>(0)
            ))),
            None => Ok(()),
        }
    }
}

async fn one(client: &Client, sql: &str) -> Result<Row> {
    client.query_one(sql, &[]).await.map_err(|error| classify::read_error(&error))
}

/// Runs one file and keeps its record, in one transaction unless the file cannot have one. Then its statements are run
/// one by one, and an error says what it leaves behind.
async fn run(
    client: &Client,
    id: &str,
    shipped: &str,
    sql: &str,
    record: &str,
    params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<()> {
    if shipped.starts_with(NO_TRANSACTION) {
        let statements = statements(sql);
        for (statement, number) in statements.iter().zip(1..) {
            client.batch_execute(statement).await.map_err(|error| {
                let place = format!(
                    "; its statement {number} of {} failed, those before it stay, since they cannot run in a \
                     transaction; remove the cause and run the same again, which begins with the first",
                    statements.len()
                );
                failed(id, &error, &place)
            })?;
        }
        let recorded = client.execute(record, params).await;
        let place = "; all of it ran, but that could not be recorded; run the same again";
        return recorded.map(drop).map_err(|error| failed(id, &error, place));
    }
    let work = async {
        client.batch_execute("BEGIN").await?;
        client.batch_execute(sql).await?;
        client.execute(record, params).await?;
        client.batch_execute("COMMIT").await
    };
    let Err(error) = work.await else { return Ok(()) };
    if client.batch_execute("ROLLBACK").await.is_err() {
        tracing::debug!("the connection of the migration was lost, which takes it back as well");
    }
    Err(failed(id, &error, "; it was rolled back"))
}

/// Our own SQL holds no data, so what the server says about it may be shown.
fn failed(id: &str, error: &tokio_postgres::Error, place: &str) -> Error {
    let said = error.as_db_error().map_or_else(String::new, |db| {
        format!(": {}{}", db.message(), db.hint().map(|hint| format!(" ({hint})")).unwrap_or_default())
    });
    Error::new(classify::read_error(error).kind(), format!("migration {id} failed{said}{place}"))
        .with("sqlstate", error.code().map_or("none", |code| code.code()))
}

#[cfg(test)]
mod tests;
