//! What it takes to work behind a pooler that gives a server's connection away after each transaction.
//!
//! No session of ours is there: the next transaction runs on another connection, in the state its last user left it. So
//! everything a session would carry is set inside of each transaction and ends with it, and no statement is prepared
//! beyond it. What is sent around a statement goes out together with it and costs no round trip of its own.
//!
//! A statement runs as the login. One that may bypass row security is refused: it could step down for a transaction at a
//! time only, and whatever runs outside of one would run with all its rights.

use std::time::Duration;

use changeover_core::{Applied, Error, ErrorKind, Result};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::classify;
use crate::connect::not_set;
use crate::gate::Gate;
use crate::params::Param;
use crate::settings::{Roles, Settings};

/// What surrounds every statement.
pub(crate) struct Around {
    begin: String,
    /// Connection settings of the user's own: their names, their values.
    own: (Vec<String>, Vec<String>),
    roles: Roles,
}

/// Sets the user's own connection settings for the transaction.
pub(crate) const SET_OWN: &str = "SELECT pg_catalog.set_config(name, value, true) \
                                    FROM unnest($1::text[], $2::text[]) AS s (name, value)";

/// Whether the application's role is there, and whether the login could bypass row security.
const LOGIN: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1), \
       EXISTS (SELECT FROM pg_catalog.pg_roles AS me WHERE me.rolname = session_user \
                  AND (me.rolsuper OR me.rolbypassrls OR EXISTS (SELECT FROM pg_catalog.pg_roles AS o \
                       WHERE o.rolname = $2 AND pg_catalog.pg_has_role(me.oid, o.oid, 'MEMBER'))))";

impl Around {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            begin: begin(settings.command_timeout),
            own: settings.session.iter().cloned().unzip(),
            roles: settings.roles.clone(),
        }
    }

    /// Begins a transaction with all it needs but the user's own settings.
    pub(crate) fn begin(&self) -> &str {
        &self.begin
    }

    /// Connection settings of the user's own, if there are any: their names, their values.
    pub(crate) fn own(&self) -> Option<&(Vec<String>, Vec<String>)> {
        (!self.own.0.is_empty()).then_some(&self.own)
    }

    /// Runs one statement in a transaction of its own.
    pub(crate) async fn run(
        &self,
        client: &Client,
        sql: &str,
        params: &[&dyn Param],
        writes: bool,
        gate: Option<&Gate>,
    ) -> Result<Vec<Row>> {
        let params: Vec<_> = params.iter().map(|param| (param.value(), param.of())).collect();
        self.run_typed(client, sql, &params, self.own(), writes, gate).await
    }

    async fn run_typed(
        &self,
        client: &Client,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
        own: Option<&(Vec<String>, Vec<String>)>,
        writes: bool,
        gate: Option<&Gate>,
    ) -> Result<Vec<Row>> {
        let set = async {
            let Some((names, values)) = own else { return Ok(()) };
            let bound: [(&(dyn ToSql + Sync), Type); 2] =
                [(names, Type::TEXT_ARRAY), (values, Type::TEXT_ARRAY)];
            client.query_typed(SET_OWN, &bound).await.map(drop)
        };
        let look = async || {
            let Some(gate) = gate else { return Ok(Vec::new()) };
            client.query_typed(&gate.sql, &[(&gate.module as &(dyn ToSql + Sync), Type::TEXT)]).await
        };
        // Polled in this order, each sends its message before it waits for the answer.
        let (begun, set, before, rows, after, ended) = futures::join!(
            client.batch_execute(&self.begin),
            set,
            look(),
            client.query_typed(sql, params),
            look(),
            client.batch_execute("COMMIT"),
        );
        let stored = rows.is_ok();
        // The first failure is the reason of those that follow.
        let (begun, rows) = (begun.and(set), rows.and_then(|rows| ended.map(|()| rows)));
        let Err(error) = begun else {
            let rows = rows.map_err(|error| {
                if writes { classify::write_error(&error) } else { classify::read_error(&error) }
            })?;
            if let Some(gate) = gate {
                let looked = |error: tokio_postgres::Error| classify::read_error(&error);
                gate.pass(&before.map_err(looked)?, &after.map_err(looked)?)?;
            }
            return Ok(rows);
        };
        match (writes, stored) {
            (false, _) => Err(classify::read_error(&error)),
            (true, false) => Err(classify::write_error(&error)),
            // It was not in a transaction, since none began.
            (true, true) => Err(classify::read_error(&error).applied(Applied::Unknown)),
        }
    }

    /// Looks at the login and at the user's own settings. Says whether the application's role is there.
    pub(crate) async fn check(&self, client: &Client) -> Result<bool> {
        let Roles { app, owner, .. } = &self.roles;
        let named: [(&(dyn ToSql + Sync), Type); 2] = [(app, Type::TEXT), (owner, Type::TEXT)];
        let rows = self.run_typed(client, LOGIN, &named, None, false, None).await?;
        let said = |index| rows.first().and_then(|row| row.try_get::<_, bool>(index).ok());
        if said(1) != Some(false) {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the login of url could bypass row security, and behind a pooler in transaction mode no connection \
                     steps down for good; name a login in url that is a member of {app}, not of {owner}, and neither a \
                     superuser nor with BYPASSRLS"
                ),
            ));
        }
        // One by one, to say which is refused.
        for (name, value) in self.own.0.iter().zip(&self.own.1) {
            let bound: [(&(dyn ToSql + Sync), Type); 2] = [(name, Type::TEXT), (value, Type::TEXT)];
            let set = self.run_typed(
                client,
                "SELECT pg_catalog.set_config($1, $2, true)",
                &bound,
                None,
                false,
                None,
            );
            set.await.map_err(|error| not_set(name, error))?;
        }
        Ok(said(0) == Some(true))
    }
}

/// What the contract rests on is put back as well, since another client may have left it otherwise on the connection.
fn begin(command_timeout: Duration) -> String {
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL role TO DEFAULT; SET LOCAL search_path TO DEFAULT; \
         SET LOCAL synchronous_commit TO DEFAULT; SET LOCAL changeover.tenant_id TO ''; \
         SET LOCAL changeover.labels TO ''; SET LOCAL TimeZone TO 'UTC'; SET LOCAL statement_timeout TO {}",
        command_timeout.as_millis()
    )
}
