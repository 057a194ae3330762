//! What a run takes off the tables for the load, and puts back exactly: foreign keys and forced row security. On tables that
//! have no gate of their own it puts one meanwhile.

use changeover_core::{Error, ErrorKind, Result};
use serde_json::{Value as Document, json};

use super::connections::{Tx, ident, list, literal, relation};
use super::raw::unreadable;
use super::shape::Shape;

/// The name of the gate on tables that are not of ours.
const GUARD: &str = "changeover_guard";

/// What was taken off.
pub(super) struct TakenOff {
    keys: Vec<ForeignKey>,
    /// Tables whose row security was forced.
    forced: Vec<String>,
    /// Every table of the module here, those that are derived included.
    pub tables: Vec<String>,
    /// Partitions that were there.
    partitions: Vec<String>,
    guarded: Vec<String>,
}

struct ForeignKey {
    table: String,
    name: String,
    definition: String,
    is_deferrable: bool,
    is_deferred: bool,
    comment: Option<String>,
}

impl TakenOff {
    /// Takes off what stands in the way of the copier; names come with their schema.
    pub(super) async fn take(tx: &Tx<'_>, module: &str, shape: &Shape) -> Result<Self> {
        // Names are printed with their schema where the path does not have it.
        tx.batch("SET LOCAL search_path = pg_catalog, pg_temp").await?;
        let targets: Vec<String> = shape.targets().iter().map(|it| relation(it)).collect();
        // What our own schemas derive from the rows lies beside them and is known by its policy.
        let rows = tx
            .query(
                "SELECT c.oid::regclass::text, c.relforcerowsecurity, p.polname IS NOT NULL, \
                        pg_catalog.to_regproc(pg_catalog.quote_ident(n.nspname) || '.module_name') IS NOT NULL \
                   FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
                   LEFT JOIN pg_catalog.pg_policy AS p ON p.polrelid = c.oid AND p.polname = 'whole' \
                  WHERE c.relkind IN ('r', 'p') \
                    AND (c.oid = ANY (SELECT pg_catalog.to_regclass(t) FROM pg_catalog.unnest($1::text[]) AS t) \
                         OR (n.nspname = ANY ($2) AND p.polname IS NOT NULL \
                             AND pg_catalog.to_regproc(pg_catalog.quote_ident(n.nspname) || '.module_name') IS NOT NULL)) \
                  ORDER BY 1",
                &[&targets, &shape.schemas()],
            )
            .await?;
        let mut taken = Self {
            keys: Vec::new(),
            forced: Vec::new(),
            tables: Vec::new(),
            partitions: Vec::new(),
            guarded: Vec::new(),
        };
        for row in rows {
            let (name, is_forced): (String, bool) = (row.get(0), row.get(1));
            let (is_seen, is_ours): (bool, bool) = (row.get(2), row.get(3));
            if is_forced && !is_seen {
                return Err(Error::invalid(forced_text(&name)));
            }
            if !is_ours {
                tx.batch(&format!(
                    "CREATE TRIGGER {GUARD} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {name} \
                     FOR EACH STATEMENT EXECUTE FUNCTION cutover.guard({})",
                    literal(module)
                ))
                .await?;
                taken.guarded.push(name.clone());
            }
            if is_forced {
                tx.batch(&format!("ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY")).await?;
                taken.forced.push(name.clone());
            }
            taken.tables.push(name);
        }
        taken.partitions = partitions(tx, &taken.tables).await?;
        let rows = tx
            .query(
                "SELECT c.conrelid::regclass::text, c.conname::text, pg_catalog.pg_get_constraintdef(c.oid), c.condeferrable, \
                        c.condeferred, pg_catalog.obj_description(c.oid, 'pg_constraint') \
                   FROM pg_catalog.pg_constraint AS c \
                  WHERE c.contype = 'f' AND c.conparentid = 0 \
                    AND c.conrelid = ANY (SELECT pg_catalog.to_regclass(t) FROM pg_catalog.unnest($1::text[]) AS t) \
                  ORDER BY 1, 2",
                &[&taken.tables],
            )
            .await?;
        for row in rows {
            let key = ForeignKey {
                table: row.get(0),
                name: row.get(1),
                definition: row.get(2),
                is_deferrable: row.get(3),
                is_deferred: row.get(4),
                comment: row.get(5),
            };
            tx.batch(&format!("ALTER TABLE {} DROP CONSTRAINT {}", key.table, ident(&key.name))).await?;
            taken.keys.push(key);
        }
        Ok(taken)
    }

    /// The first of the tables that holds a row.
    pub(super) async fn filled(&self, tx: &Tx<'_>) -> Result<Option<&str>> {
        for table in &self.tables {
            if tx.one(&format!("SELECT EXISTS (SELECT FROM {table})"), &[]).await?.get(0) {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    /// Puts the foreign keys back, checked against all rows; until [`TakenOff::put_back`] at the commit only.
    pub(super) async fn link(&self, tx: &Tx<'_>) -> Result<()> {
        for key in &self.keys {
            let add = format!(
                "ALTER TABLE {0} ADD CONSTRAINT {1} {2}; ALTER TABLE {0} ALTER CONSTRAINT {1} DEFERRABLE INITIALLY DEFERRED",
                key.table,
                ident(&key.name),
                key.definition
            );
            tx.answer(tx.client().batch_execute(&add)).await?.map_err(|error| {
                let made = super::connections::failed(&error);
                if made.kind() != ErrorKind::Invalid {
                    return made;
                }
                Error::invalid(format!(
                    "rows of {} name rows that are not there, which the constraint {} forbids; settle them first",
                    key.table, key.name
                ))
                .applied(changeover_core::Applied::No)
            })?;
        }
        // Statistics for the readers of the first minute, while nobody waits.
        tx.batch(&format!("ANALYZE {}", self.tables.join(", "))).await
    }

    /// Takes the foreign keys off again.
    pub(super) async fn unlink(&self, tx: &Tx<'_>) -> Result<()> {
        for key in &self.keys {
            tx.batch(&format!("ALTER TABLE {} DROP CONSTRAINT {}", key.table, ident(&key.name))).await?;
        }
        Ok(())
    }

    /// Everything as it was before the run.
    pub(super) async fn put_back(&self, tx: &Tx<'_>, is_linked: bool) -> Result<()> {
        for key in &self.keys {
            let (table, name) = (&key.table, ident(&key.name));
            if !is_linked {
                tx.batch(&format!("ALTER TABLE {table} ADD CONSTRAINT {name} {}", key.definition)).await?;
            }
            if is_linked {
                let timing = match (key.is_deferrable, key.is_deferred) {
                    (false, _) => "NOT DEFERRABLE",
                    (true, false) => "DEFERRABLE INITIALLY IMMEDIATE",
                    (true, true) => "DEFERRABLE INITIALLY DEFERRED",
                };
                tx.batch(&format!("ALTER TABLE {table} ALTER CONSTRAINT {name} {timing}")).await?;
            }
            if let Some(comment) = &key.comment {
                tx.batch(&format!("COMMENT ON CONSTRAINT {name} ON {table} IS {}", literal(comment))).await?;
            }
        }
        for table in &self.forced {
            tx.batch(&format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY")).await?;
        }
        Ok(())
    }

    /// Takes the gates of the run off again, with the way back.
    pub(super) async fn remove_guards(&self, tx: &Tx<'_>) -> Result<()> {
        for table in &self.guarded {
            tx.batch(&format!("DROP TRIGGER IF EXISTS {GUARD} ON {table}")).await?;
        }
        Ok(())
    }

    /// Empties every table of the module, and removes the partitions that were not there before the run.
    pub(super) async fn empty(&self, tx: &Tx<'_>) -> Result<()> {
        tx.batch("SET LOCAL search_path = pg_catalog, pg_temp").await?;
        let referenced: bool = tx
            .one(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint AS c WHERE c.contype = 'f' AND c.conparentid = 0 \
                    AND c.confrelid = ANY (SELECT pg_catalog.to_regclass(t) FROM pg_catalog.unnest($1::text[]) AS t) \
                    AND NOT c.conrelid = ANY (SELECT pg_catalog.to_regclass(t) FROM pg_catalog.unnest($1::text[]) AS t))",
                &[&self.tables],
            )
            .await?
            .get(0);
        if referenced {
            // TRUNCATE refuses a table that another one refers to, even an empty one.
            tx.batch("SET CONSTRAINTS ALL DEFERRED").await?;
            for table in self.tables.iter().rev() {
                tx.batch(&format!("DELETE FROM {table}")).await?;
            }
            tx.batch("SET CONSTRAINTS ALL IMMEDIATE").await?;
        } else {
            tx.batch(&format!("TRUNCATE {}", self.tables.join(", "))).await?;
        }
        for partition in partitions(tx, &self.tables).await? {
            if !self.partitions.contains(&partition) {
                tx.batch(&format!("DROP TABLE {partition}")).await?;
            }
        }
        Ok(())
    }

    pub(super) fn to_json(&self) -> Document {
        let key = |it: &ForeignKey| {
            json!({ "table": it.table, "name": it.name, "definition": it.definition, "deferrable": it.is_deferrable,
                    "deferred": it.is_deferred, "comment": it.comment })
        };
        json!({
            "keys": self.keys.iter().map(key).collect::<Vec<_>>(), "forced": self.forced, "tables": self.tables,
            "partitions": self.partitions, "guarded": self.guarded,
        })
    }

    pub(super) fn from_json(document: &Document) -> Result<Self> {
        Self::read(document).ok_or_else(unreadable)
    }

    fn read(document: &Document) -> Option<Self> {
        let text = |of: &Document, field: &str| Some(of.get(field)?.as_str()?.to_owned());
        let texts = |field: &str| {
            document
                .get(field)?
                .as_array()?
                .iter()
                .map(|it| Some(it.as_str()?.to_owned()))
                .collect::<Option<Vec<_>>>()
        };
        let key = |it: &Document| {
            Some(ForeignKey {
                table: text(it, "table")?,
                name: text(it, "name")?,
                definition: text(it, "definition")?,
                is_deferrable: it.get("deferrable")?.as_bool()?,
                is_deferred: it.get("deferred")?.as_bool()?,
                comment: text(it, "comment"),
            })
        };
        Some(Self {
            keys: document.get("keys")?.as_array()?.iter().map(key).collect::<Option<_>>()?,
            forced: texts("forced")?,
            tables: texts("tables")?,
            partitions: texts("partitions")?,
            guarded: texts("guarded")?,
        })
    }
}

pub(super) fn forced_text(table: &str) -> String {
    format!(
        "row security is forced on table {table}, so that a cutover would not see its rows; let it: CREATE POLICY whole ON \
         {table} FOR SELECT TO changeover_copier USING (true), GRANT SELECT ON {table} TO changeover_copier, or take the force off"
    )
}

async fn partitions(tx: &Tx<'_>, tables: &[String]) -> Result<Vec<String>> {
    let rows = tx
        .query(
            "SELECT i.inhrelid::regclass::text FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhparent \
              WHERE c.relkind = 'p' \
                AND c.oid = ANY (SELECT pg_catalog.to_regclass(t) FROM pg_catalog.unnest($1::text[]) AS t) ORDER BY 1",
            &[&tables],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The triggers that log the keys of changed rows for the way back, one function a table.
pub(super) async fn capture_on(
    tx: &Tx<'_>,
    module: &str,
    run: changeover_core::Uuid,
    shape: &Shape,
) -> Result<()> {
    for (place, table) in shape.tables.iter().enumerate().filter(|(_, table)| table.goes_back) {
        let mut places = table.key.clone();
        places.extend(
            table.tenant.iter().flat_map(|(places, _)| places).filter(|place| !table.key.contains(place)),
        );
        let key = |of: &str| {
            let pairs = list(&places, |place| {
                let name = &table.column(*place).name;
                format!("{}, {of}.{}", literal(name), ident(name))
            });
            format!(
                "INSERT INTO cutover.capture (module, tbl, key) VALUES ({}, {}, jsonb_build_object({pairs}));",
                literal(module),
                literal(&table.name)
            )
        };
        let function = capture_function(run, place);
        tx.batch(&format!(
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql VOLATILE SECURITY DEFINER \
             SET search_path = pg_catalog, pg_temp AS {} ",
            literal(&format!(
                "BEGIN IF TG_OP <> 'INSERT' THEN {} END IF; \
                 IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND ({}) IS DISTINCT FROM ({})) THEN {} END IF; RETURN NULL; END",
                key("OLD"),
                table.names(&places, "NEW."),
                table.names(&places, "OLD."),
                key("NEW")
            ))
        ))
        .await?;
        tx.batch(&format!(
            "REVOKE ALL ON FUNCTION {function}() FROM PUBLIC; \
             CREATE TRIGGER changeover_capture AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION {function}()",
            relation(&table.target)
        ))
        .await?;
    }
    Ok(())
}

/// Takes them off, with what they logged.
pub(super) async fn capture_off(
    tx: &Tx<'_>,
    module: &str,
    run: changeover_core::Uuid,
    shape: &Shape,
) -> Result<()> {
    for place in 0..shape.tables.len() {
        tx.batch(&format!("DROP FUNCTION IF EXISTS {}() CASCADE", capture_function(run, place))).await?;
    }
    tx.execute("DELETE FROM cutover.capture WHERE module = $1", &[&module]).await.map(drop)
}

fn capture_function(run: changeover_core::Uuid, place: usize) -> String {
    format!("cutover.capture_{}_{place}", run.simple())
}
