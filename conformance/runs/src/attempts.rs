//! What is tried by SQL on a PostgreSQL database and must be refused.

use changeover_testkit::tokio_postgres::Client;

use crate::sqlite::must;

/// An attempt on the rows of a table: where there is none it is an error, since nothing would be tried.
pub(crate) fn on_rows_of(table: &str, attempt: &str) -> String {
    format!("SELECT 1 / (SELECT count(*) FROM {table}); {attempt}")
}

/// The attempts that were carried out, of those that must be refused. Each is taken back, so that the next finds its rows.
pub(crate) async fn let_through(client: &Client, role: &str, attempts: &[String]) -> Vec<String> {
    must("become the role", client.batch_execute(role).await);
    let mut done = Vec::new();
    for attempt in attempts {
        match client.batch_execute(&format!("BEGIN; {attempt}")).await {
            Ok(()) => done.push(format!("{role}: {attempt}")),
            Err(error) => {
                let code = error.code().map_or("", |code| code.code());
                let refused = matches!(code, "COIMM" | "42501" | "22000") || code.starts_with("23");
                // Row security hides the rows of other tenants; from a superuser it hides nothing.
                let hidden = code == "22012" && role.starts_with("SET ROLE");
                assert!(refused || hidden, "{role}: {attempt}: it is not refused but fails: {error:?}");
            }
        }
        must("take it back", client.batch_execute("ROLLBACK").await);
    }
    done
}
