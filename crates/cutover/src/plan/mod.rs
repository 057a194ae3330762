//! The plan: the whole old store is read and nothing is written. What a run would convert, leave out or refuse is told by
//! table, column, key and bytes before anything is moved.

mod dependents;
mod finding;
mod fingerprint;
mod histogram;
mod relations;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use changeover_core::cutover::{
    Chunk, ChunkRead, CutoverSource, CutoverTarget, From, Raw, RawKey, SourceColumn, SourceFacts, Table,
    TargetFacts, Type,
};
use changeover_core::{Error, ErrorKind, Json, Result, TenantId, Uuid};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

pub use finding::{Finding, Group};
pub(crate) use fingerprint::of_target;
pub use fingerprint::{differences, fingerprint};
pub use histogram::Histogram;

use self::finding::Findings;
use crate::convert::{Accepted, Converter, Loss};
use crate::declare;
use crate::hazards::{Treatment, number};

/// Rows of a table whose keys are remembered, to count no quarantined row twice and to find those that refer to it.
const REMEMBERED: usize = 1_000_000;

/// The most rows of a table that are looked for under one rule which no row shows by itself.
const LOOKED_FOR: u32 = 100_000;

/// What a plan is made under.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The tenant of a file that has none.
    pub tenant: TenantId,
    /// Losses accepted by name.
    pub accepted: Accepted,
    /// The most findings listed of one table, column, hazard and treatment; all are counted.
    pub listed: u32,
    /// The most rows read at once.
    pub chunk_rows: u32,
    /// The most bytes read at once.
    pub chunk_bytes: u64,
    /// Rows a second that a run is expected to copy.
    pub rows_per_second: u32,
    /// The fingerprint of an earlier plan, to be compared.
    pub earlier: Option<Json>,
}

impl Terms {
    /// For a tenant: nothing accepted, 100 findings of a kind, 2,000 rows or 8 MiB at once, 20,000 rows a second.
    pub fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            accepted: Accepted::default(),
            listed: 100,
            chunk_rows: 2_000,
            chunk_bytes: 8 << 20,
            rows_per_second: 20_000,
            earlier: None,
        }
    }
}

/// How far a plan has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanProgress {
    /// The table that is read.
    pub table: String,
    /// Rows of it that were read.
    pub rows: u64,
    /// Rows that it had at the beginning.
    pub of: u64,
}

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TablePlan {
    /// Name of the declaration.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Rows that would stay out, those that only follow a row that they refer to among them.
    pub quarantined: u64,
    /// What each column of the old store holds.
    pub columns: Vec<Histogram>,
}

/// What a run would meet.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The old store.
    pub source: SourceFacts,
    /// The new store.
    pub target: TargetFacts,
    /// As of [`fingerprint`]: what a run is begun with.
    pub fingerprint: Json,
    /// How it differs from that of an earlier plan; `None` if none was given.
    pub changed: Option<Vec<String>>,
    /// The tables, in the order of the declarations.
    pub tables: Vec<TablePlan>,
    /// What was found, in the order of the tables; at most [`Terms::listed`] of a kind.
    pub findings: Vec<Finding>,
    /// All that was found, counted.
    pub counts: BTreeMap<Group, u64>,
    /// What the new store lacks, each with what to do.
    pub lacks: Vec<String>,
    /// How long copying is expected to take, at the rate of the terms.
    pub expected: Duration,
}

impl Plan {
    /// Rows that would stay out, of all tables.
    pub fn quarantined(&self) -> u64 {
        self.tables.iter().map(|table| table.quarantined).sum()
    }

    /// Whether a run would not begin: something is refused, or the new store lacks something.
    pub fn refuses(&self) -> bool {
        !self.lacks.is_empty() || self.counts.keys().any(|group| group.treatment == Treatment::Refuse)
    }

    /// The findings as JSON Lines: one object a line, with the keys table, key, column, hazard, found, treatment,
    /// `sample_hex`.
    ///
    /// # Errors
    ///
    /// Never with the texts that a plan makes.
    pub fn to_json_lines(&self) -> Result<String> {
        let mut lines = String::new();
        for finding in &self.findings {
            lines.push_str(finding.to_json()?.as_str());
            lines.push('\n');
        }
        Ok(lines)
    }

    /// The rest as one object: fingerprint, tables with their histograms, counts, what is lacking, seconds expected.
    ///
    /// # Errors
    ///
    /// Never with the texts that a plan makes.
    pub fn summary(&self) -> Result<Json> {
        let counts = self.counts.iter().map(|(group, count)| {
            json!({
                "table": group.table,
                "column": group.column,
                "hazard": group.hazard,
                "treatment": group.treatment.as_str(),
                "count": count,
            })
        });
        Json::of(&json!({
            "source": self.source.place,
            "source_bytes": self.source.bytes,
            "target": self.target.place,
            "fingerprint": self.fingerprint,
            "changed": self.changed,
            "tables": self.tables,
            "counts": counts.collect::<Vec<_>>(),
            "lacks": self.lacks,
            "quarantined": self.quarantined(),
            "refuses": self.refuses(),
            "expected_seconds": self.expected.as_secs(),
        }))
    }
}

/// Reads the whole old store, in chunks, and writes nothing. Tables that are not in both stores are not read; that they
/// are not is among the findings.
///
/// # Errors
///
/// Those of the stores; `Config` for declarations that cannot be converted by; `Invalid` if the schema of the old store
/// changes meanwhile, and for one that was archived.
pub async fn plan(
    source: &dyn CutoverSource,
    target: &dyn CutoverTarget,
    tables: &[Table],
    terms: &Terms,
    progress: &mut (dyn FnMut(PlanProgress) + Send),
) -> Result<Plan> {
    refuse_archived(source).await?;
    let facts = source.facts().await?;
    let target = target.facts(tables).await?;
    let now = fingerprint(tables, &facts)?;
    let changed = terms.earlier.as_ref().map(|earlier| differences(earlier, &now)).transpose()?;
    let mut findings = Findings::new(terms.listed);
    for problem in source.check().await? {
        findings.add(about("", "", number::CORRUPT, problem, Treatment::Refuse));
    }
    for finding in checked(tables, &facts, &target, terms.accepted) {
        findings.add(finding);
    }
    let converter = converter(tables, terms, &facts)?;
    let (mut planned, mut outs) = (Vec::with_capacity(tables.len()), Vec::with_capacity(tables.len()));
    let reading =
        |index| Reading { source, facts: &facts, table: &tables[index], index, terms, converter: &converter };
    for index in 0..tables.len() {
        let mut out = Out::default();
        planned.push(reading(index).run(tables, &mut out, &mut findings, progress).await?);
        outs.push(out);
    }
    let readings: Vec<_> = (0..tables.len()).map(reading).collect();
    dependents::follow(&readings, &mut outs, &mut findings).await?;
    for (table, out) in planned.iter_mut().zip(&outs) {
        table.quarantined = out.count;
    }
    let rows: u64 = planned.iter().map(|table| table.rows).sum();
    Ok(Plan {
        lacks: target.lacks.clone(),
        source: facts,
        target,
        fingerprint: now,
        changed,
        tables: planned,
        findings: findings.listed,
        counts: findings.counts,
        expected: Duration::from_secs(rows.div_ceil(u64::from(terms.rows_per_second.max(1)))),
    })
}

/// `Invalid` if there is nothing but a tombstone.
pub(crate) async fn refuse_archived(source: &dyn CutoverSource) -> Result<()> {
    let Some(archive) = source.archived().await? else { return Ok(()) };
    Err(Error::invalid(format!(
        "the file was archived as {} when its last module was finalized, and what is left of it holds nothing that could be moved; \
         give the module its new backend in the settings",
        archive.place.display()
    )))
}

/// What speaks against the declarations.
fn checked(tables: &[Table], facts: &SourceFacts, target: &TargetFacts, accepted: Accepted) -> Vec<Finding> {
    let mut found = declare::check(tables, facts, target);
    for finding in &mut found {
        if finding.hazard == number::COLUMNS && finding.treatment == Treatment::Quarantine {
            // Nothing of a row is bad: without a word of somebody's the column would be left behind.
            let accepted = accepted.has(Loss::UndeclaredColumns);
            finding.treatment = if accepted { Treatment::Convert } else { Treatment::Refuse };
        }
    }
    found
}

/// Why a run would not begin, as far as tables and databases go: each a text.
pub(crate) fn refusals(
    tables: &[Table],
    facts: &SourceFacts,
    target: &TargetFacts,
    accepted: Accepted,
) -> Vec<String> {
    let found = checked(tables, facts, target, accepted).into_iter();
    let found = found.filter(|it| it.treatment == Treatment::Refuse).map(|it| {
        let place: Vec<_> =
            [&it.table, &it.column].into_iter().filter(|it| !it.is_empty()).cloned().collect();
        format!("{} {} (hazard {})", place.join("."), it.found, it.hazard)
    });
    let mut all: Vec<_> = target.lacks.iter().cloned().chain(found).collect();
    all.dedup();
    all
}

/// The highest place that the file gave to an audit event.
pub(crate) fn highest_audit_place(tables: &[Table], facts: &SourceFacts) -> i64 {
    let found =
        |table: &Table| facts.tables.iter().find(|found| found.name.eq_ignore_ascii_case(&table.source));
    let audit = tables.iter().filter(|table| table.transform.is_none() && table.partition_by.is_some());
    audit.filter_map(|table| found(table)?.max_rowid.max(found(table)?.sequence)).max().unwrap_or(0)
}

/// A converter as a run makes it; before the file has a nonce any will do.
fn converter(tables: &[Table], terms: &Terms, facts: &SourceFacts) -> Result<Converter> {
    Converter::new(tables, &terms.tenant, facts.nonce.unwrap_or(Uuid::nil()))?
        .accepting(terms.accepted)
        .above(highest_audit_place(tables, facts))
}

fn about(table: &str, column: &str, hazard: u16, found: String, treatment: Treatment) -> Finding {
    Finding {
        table: table.to_owned(),
        key: String::new(),
        column: column.to_owned(),
        hazard,
        found,
        treatment,
        sample_hex: String::new(),
    }
}

/// One table that is read.
struct Reading<'a> {
    source: &'a dyn CutoverSource,
    facts: &'a SourceFacts,
    table: &'a Table,
    index: usize,
    terms: &'a Terms,
    converter: &'a Converter,
}

impl Reading<'_> {
    async fn run(
        &self,
        all: &[Table],
        out: &mut Out,
        findings: &mut Findings,
        progress: &mut (dyn FnMut(PlanProgress) + Send),
    ) -> Result<TablePlan> {
        let table = self.table;
        let columns = table.source_columns();
        let names: Vec<_> = columns.iter().map(name).collect();
        let mut planned = TablePlan {
            name: table.name.clone(),
            rows: 0,
            bytes: 0,
            quarantined: 0,
            columns: names.iter().map(|column| Histogram::new(column)).collect(),
        };
        let Some(of) = self.rows_if_readable(&columns) else { return Ok(planned) };
        let types: Vec<_> = columns.iter().map(|column| type_of(table, column)).collect();
        let mut read = ChunkRead {
            table: table.source.clone(),
            columns: columns.clone(),
            key: table.source_key(),
            after: None,
            rows: self.terms.chunk_rows,
            bytes: self.terms.chunk_bytes,
        };
        loop {
            let chunk = self.chunk(&read).await?;
            for (key, row) in &chunk.rows {
                planned.rows += 1;
                for ((raw, histogram), to) in row.iter().zip(&mut planned.columns).zip(&types) {
                    planned.bytes += raw.size() as u64;
                    histogram.add(raw, *to);
                }
                self.judge(key, row, &names, out, findings);
            }
            self.twins(&chunk.rows, &columns, out, findings).await?;
            progress(PlanProgress { table: table.name.clone(), rows: planned.rows, of });
            if chunk.end {
                break;
            }
            let Some((last, _)) = chunk.rows.into_iter().next_back() else { break };
            read.after = Some(last);
        }
        self.duplicates(out, findings).await?;
        self.orphans(all, out, findings).await?;
        Ok(planned)
    }

    async fn chunk(&self, read: &ChunkRead) -> Result<Chunk> {
        let chunk = self.source.chunk(read).await?;
        if chunk.schema_cookie == self.facts.schema_cookie {
            return Ok(chunk);
        }
        Err(Error::new(
            ErrorKind::Invalid,
            "the schema of the old store changed while it was read, or VACUUM ran; plan again",
        ))
    }

    /// The number of rows, if the file has the table and all that is read of it.
    fn rows_if_readable(&self, columns: &[SourceColumn]) -> Option<u64> {
        let same = |found: &str, wanted: &str| found.eq_ignore_ascii_case(wanted);
        let found = self.facts.tables.iter().find(|found| same(&found.name, &self.table.source))?;
        let has = |column: &SourceColumn| match column {
            SourceColumn::Rowid => !found.without_rowid,
            SourceColumn::Named(name) => found.columns.iter().any(|(column, _)| same(column, name)),
        };
        columns.iter().all(has).then_some(found.rows)
    }

    fn judge(&self, key: &RawKey, row: &[Raw], names: &[String], out: &mut Out, findings: &mut Findings) {
        let judged = self.converter.judge(self.index, key, row);
        let value = |column: &str| names.iter().position(|name| name == column).map(|at| &row[at]);
        for reason in &judged.reasons {
            findings.row(&self.table.name, key, reason, Treatment::Quarantine, value(&reason.column));
        }
        for reason in &judged.converted {
            findings.row(&self.table.name, key, reason, Treatment::Convert, value(&reason.column));
        }
        if judged.values.is_none() {
            out.add(key);
        }
    }
}

/// Rows that stay out, each counted once as far as they are remembered.
#[derive(Debug, Default)]
struct Out {
    seen: HashSet<Mark>,
    count: u64,
}

/// A key, in few bytes.
type Mark = [u8; 16];

fn mark(key: &[Raw]) -> Mark {
    let digest: [u8; 32] = Sha256::digest(finding::shown(key)).into();
    let mut mark = [0; 16];
    mark.copy_from_slice(&digest[..16]);
    mark
}

impl Out {
    fn add(&mut self, key: &[Raw]) {
        if !self.follow(key) && self.is_full() {
            self.count += 1;
        }
    }

    /// Adds one that can be remembered; whether it is new.
    fn follow(&mut self, key: &[Raw]) -> bool {
        let new = !self.is_full() && self.seen.insert(mark(key));
        self.count += u64::from(new);
        new
    }

    fn is_full(&self) -> bool {
        self.seen.len() >= REMEMBERED
    }
}

fn name(column: &SourceColumn) -> String {
    match column {
        SourceColumn::Named(name) => name.clone(),
        SourceColumn::Rowid => "rowid".to_owned(),
    }
}

/// What a column of the old store becomes.
fn type_of<'a>(table: &'a Table, source: &SourceColumn) -> Option<&'a Type> {
    let reads = |from: &From| matches!(from, From::Source(found) if found == source);
    table.columns.iter().find(|column| reads(&column.from)).map(|column| &column.to)
}
