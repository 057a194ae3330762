//! What a run takes off the tables for the load, and puts back exactly: foreign keys, indexes that nothing needs until then, and
//! forced row security. On tables that have no gate of their own it puts one meanwhile.

use changeover_core::{Error, ErrorKind, Result};
use serde_json::{Value as Document, json};

use super::connections::{Tx, ident, list, literal, relation};
use super::raw::unreadable;
use super::shape::{Shape, TableShape};

/// The name of the gate on tables that are not of ours.
const GUARD: &str = "changeover_guard";

/// What was taken off.
pub(super) struct TakenOff {
    keys: Vec<ForeignKey>,
    /// Until everything is copied.
    indexes: Vec<Index>,
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

struct Index {
    table: String,
    name: String,
    definition: String,
    comment: Option<String>,
}

impl TakenOff {
    /// Takes off what stands in the way of the copier; names come with their schema. The tables are empty.
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
            indexes: Vec::new(),
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

    /// Takes off the indexes that only readers want: one built over all rows costs a fraction of one kept up row by row. What is
    /// unique stays, and so does what rows are found by their declared key with.
    pub(super) async fn take_indexes(&mut self, tx: &Tx<'_>, shape: &Shape) -> Result<()> {
        let mut targets: Vec<&str> = shape.tables.iter().map(|table| &*table.target).collect();
        targets.sort_unstable();
        targets.dedup();
        for target in targets {
            // Not one of a partition alone, and nothing about it that its definition does not say.
            let rows = tx
                .query(
                    "SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text, pg_catalog.pg_get_indexdef(i.indexrelid), \
                            pg_catalog.obj_description(i.indexrelid, 'pg_class'), \
                            ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(i.indkey) AS k (attnum) \
                                    LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) \
                       FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid \
                      WHERE i.indrelid = pg_catalog.to_regclass($1) AND NOT i.indisunique AND NOT i.indisexclusion \
                        AND i.indisvalid AND NOT i.indisclustered AND NOT i.indisreplident \
                        AND c.reltablespace = 0 AND NOT c.relispartition \
                        AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attstattarget >= 0) \
                      ORDER BY 2",
                    &[&relation(target)],
                )
                .await?;
            for row in rows {
                // An expression has no name.
                let columns: Vec<Option<String>> = row.get(4);
                if of_target(shape, target).any(|table| is_within(&columns, table)) {
                    continue;
                }
                let name: String = row.get(1);
                tx.batch(&format!("DROP INDEX {name}")).await?;
                self.indexes.push(Index {
                    table: row.get(0),
                    name,
                    definition: row.get(2),
                    comment: row.get(3),
                });
            }
        }
        Ok(())
    }

    /// Builds the indexes, and counts rows for the planner: before this it takes a table for empty.
    pub(super) async fn index(&mut self, tx: &Tx<'_>) -> Result<usize> {
        tx.batch("SET LOCAL search_path = pg_catalog, pg_temp").await?;
        let built = self.build(tx).await?;
        tx.batch(&format!("ANALYZE {}", self.tables.join(", "))).await?;
        Ok(built)
    }

    async fn build(&mut self, tx: &Tx<'_>) -> Result<usize> {
        let indexes = std::mem::take(&mut self.indexes);
        for Index { table, name, definition, comment } in &indexes {
            // That of a partitioned table is printed as of it alone; what is made is one for every partition as well.
            tx.batch(&definition.replacen(&format!(" ON ONLY {table} "), &format!(" ON {table} "), 1))
                .await?;
            if let Some(comment) = comment {
                tx.batch(&format!("COMMENT ON INDEX {name} IS {}", literal(comment))).await?;
            }
        }
        Ok(indexes.len())
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
        Ok(())
    }

    /// Takes the foreign keys off again.
    pub(super) async fn unlink(&self, tx: &Tx<'_>) -> Result<()> {
        for key in &self.keys {
            tx.batch(&format!("ALTER TABLE {} DROP CONSTRAINT {}", key.table, ident(&key.name))).await?;
        }
        Ok(())
    }

    /// Everything as it was before the run.
    pub(super) async fn put_back(&mut self, tx: &Tx<'_>, is_linked: bool) -> Result<()> {
        self.build(tx).await?;
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
        let index = |it: &Index| json!({ "table": it.table, "name": it.name, "definition": it.definition, "comment": it.comment });
        json!({
            "keys": self.keys.iter().map(key).collect::<Vec<_>>(),
            "indexes": self.indexes.iter().map(index).collect::<Vec<_>>(), "forced": self.forced, "tables": self.tables,
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
        let index = |it: &Document| {
            Some(Index {
                table: text(it, "table")?,
                name: text(it, "name")?,
                definition: text(it, "definition")?,
                comment: text(it, "comment"),
            })
        };
        // A run of an earlier release took off no indexes.
        let indexes = document.get("indexes").and_then(Document::as_array);
        Some(Self {
            keys: document.get("keys")?.as_array()?.iter().map(key).collect::<Option<_>>()?,
            indexes: indexes.into_iter().flatten().map(index).collect::<Option<_>>()?,
            forced: texts("forced")?,
            tables: texts("tables")?,
            partitions: texts("partitions")?,
            guarded: texts("guarded")?,
        })
    }
}

fn of_target<'a>(shape: &'a Shape, target: &'a str) -> impl Iterator<Item = &'a TableShape> {
    shape.tables.iter().filter(move |table| table.target == target)
}

/// Whether these columns are of the declared key, or say the tenant.
fn is_within(columns: &[Option<String>], table: &TableShape) -> bool {
    let tenant = table.tenant.iter().flat_map(|(places, _)| places);
    let key: Vec<_> = table.key.iter().chain(tenant).map(|at| &table.column(*at).name).collect();
    columns.iter().all(|column| column.as_ref().is_some_and(|column| key.contains(&column)))
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
