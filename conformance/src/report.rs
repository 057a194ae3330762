//! The matrix of cases by backends, for people, programs and build servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use changeover_core::backend::Family;
use serde::Serialize;

use crate::catalogue::{cases, suite_of};

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As the contract says.
    Passed,
    /// Otherwise, and how.
    Failed(String),
    /// Not asked: the backend does not bring the store.
    NotOffered,
}

/// One case on one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseResult {
    /// The case's id.
    pub id: String,
    /// The case, as [`crate::Case::path`] says.
    pub name: String,
    /// How it ended.
    pub result: Outcome,
    /// Milliseconds it took, without making the place ready.
    pub ms: u64,
    /// Faults the harness could not cause, and why.
    pub notes: Vec<String>,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// All cases of its stores ran.
    Ran(Vec<CaseResult>),
    /// It could not be started, for this reason: a failure.
    NotStarted(String),
    /// The run was told to leave it out.
    NotCertified(String),
}

/// A deliberately broken store and the cases that found it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mutant {
    /// What is broken.
    pub name: String,
    /// The ids of the cases that must fail on it.
    pub expected: Vec<String>,
    /// The ids of the cases that failed.
    pub killed_by: Vec<String>,
}

impl Mutant {
    /// Whether the cases named for it failed on it and no others.
    pub fn killed(&self) -> bool {
        let expected: BTreeSet<_> = self.expected.iter().collect();
        !expected.is_empty() && expected == self.killed_by.iter().collect()
    }
}

/// All that a run found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The backends, in the order they were asked for.
    pub columns: Vec<(String, Column)>,
    /// The mutants, if the run proved itself.
    pub mutants: Vec<Mutant>,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    backends: BTreeMap<&'a str, JsonColumn<'a>>,
    mutants: &'a [Mutant],
}

#[derive(Serialize)]
struct JsonColumn<'a> {
    passed: usize,
    failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_certified: Option<&'a str>,
    cases: Vec<JsonCase<'a>>,
}

#[derive(Serialize)]
struct JsonCase<'a> {
    id: &'a str,
    name: &'a str,
    result: &'static str,
    ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

impl Column {
    fn results(&self) -> &[CaseResult] {
        if let Self::Ran(results) = self { results } else { &[] }
    }

    /// Cases passed and failed. One that could not be started failed all of them.
    pub fn counts(&self) -> (usize, usize) {
        match self {
            Self::Ran(results) => {
                let passed = results.iter().filter(|case| case.result == Outcome::Passed).count();
                (passed, results.len() - passed - self.not_offered())
            }
            Self::NotStarted(_) => (0, cases().len()),
            Self::NotCertified(_) => (0, 0),
        }
    }

    fn not_offered(&self) -> usize {
        self.results().iter().filter(|case| case.result == Outcome::NotOffered).count()
    }

    fn heading(&self) -> String {
        let (passed, failed) = self.counts();
        match self {
            Self::Ran(_) if self.not_offered() > 0 => {
                format!("{passed} passed, {failed} failed, {} not offered", self.not_offered())
            }
            Self::Ran(_) => format!("{passed} passed, {failed} failed"),
            Self::NotStarted(why) => format!("NOT STARTED: {why}"),
            Self::NotCertified(why) => format!("NOT CERTIFIED: {why}"),
        }
    }
}

impl Report {
    /// 0: all passed and every mutant was killed. 1: something failed. 3: nothing failed, but a backend was left out.
    pub fn exit_status(&self) -> u8 {
        let failed = self.columns.iter().any(|(_, column)| column.counts().1 > 0);
        if failed || self.mutants.iter().any(|mutant| !mutant.killed()) {
            return 1;
        }
        let left_out = self.columns.iter().any(|(_, column)| matches!(column, Column::NotCertified(_)));
        if left_out { 3 } else { 0 }
    }

    /// The counts a backend and what failed, for the terminal.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        for (name, column) in &self.columns {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(out, "{name:20} {}", column.heading());
            for case in column.results() {
                if let Outcome::Failed(why) = &case.result {
                    let _ = writeln!(out, "  FAILED {} {} ({} ms): {why}", case.id, case.name, case.ms);
                }
            }
        }
        for mutant in self.mutants.iter().filter(|mutant| !mutant.killed()) {
            let _ = writeln!(
                out,
                "  MUTANT {}: expected to fail are {:?}, failed are {:?}",
                mutant.name, mutant.expected, mutant.killed_by
            );
        }
        out
    }

    /// The matrix in Markdown, a table a store.
    pub fn matrix(&self) -> String {
        let mut out = "# Conformance\n\n".to_owned();
        for (name, column) in &self.columns {
            let _ = writeln!(out, "- {name}: {}", column.heading());
        }
        for store in [Family::Events, Family::Audit, Family::Playbooks] {
            self.matrix_table(store, &mut out);
        }
        self.matrix_notes(&mut out);
        self.matrix_mutants(&mut out);
        out
    }

    fn matrix_table(&self, store: Family, out: &mut String) {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let listed: Vec<_> = cases().iter().filter(|case| case.store == store).collect();
        let _ = writeln!(out, "\n## {} ({} cases)\n", suite_of(store).replace('_', " "), listed.len());
        let _ = writeln!(out, "| case | what holds | {} |", names.join(" | "));
        let _ = writeln!(out, "|---|---|{}", "---|".repeat(names.len()));
        for case in listed {
            let name = case.path();
            let marks: Vec<_> = self.columns.iter().map(|(_, column)| mark(column, &name)).collect();
            let ids = case.ids().join(", ");
            let sentence = case.sentence().replace('|', "\\|");
            let _ = writeln!(out, "| {ids} | {sentence} | {} |", marks.join(" | "));
        }
    }

    /// Why cases asked for the other side of the contract.
    fn matrix_notes(&self, out: &mut String) {
        let mut notes: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for (name, column) in &self.columns {
            for case in column.results() {
                for note in &case.notes {
                    notes.entry((name, note)).or_default().push(&case.id);
                }
            }
        }
        if !notes.is_empty() {
            out.push_str("\n## Faults that a harness does not cause\n\n| backend | fault and reason | cases |\n|---|---|---|\n");
        }
        for ((backend, note), ids) in notes {
            let _ = writeln!(out, "| {backend} | {} | {} |", note.replace('|', "\\|"), ids.join(", "));
        }
    }

    fn matrix_mutants(&self, out: &mut String) {
        if !self.mutants.is_empty() {
            out.push_str("\n## Mutants\n\n| broken on purpose | must fail | failed |\n|---|---|---|\n");
        }
        for mutant in &self.mutants {
            let (expected, by) = (mutant.expected.join(", "), mutant.killed_by.join(", "));
            let _ = writeln!(out, "| {} | {expected} | {by} |", mutant.name);
        }
    }

    /// `report.json`.
    ///
    /// # Panics
    /// Never: plain values always become JSON.
    pub fn json(&self) -> String {
        let backends = self.columns.iter().map(|(name, column)| (name.as_str(), json_column(column)));
        let report = JsonReport { backends: backends.collect(), mutants: &self.mutants };
        // Cannot fail: all keys are text and nothing is written but memory.
        serde_json::to_string_pretty(&report).expect("a report of plain values")
    }

    /// `junit.xml`: a test suite a backend.
    pub fn junit(&self) -> String {
        let mut out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
        for (name, column) in &self.columns {
            let (passed, failed) = column.counts();
            let (skipped, backend) = (column.not_offered(), escaped(name));
            let tests = passed + failed + skipped;
            let _ = writeln!(
                out,
                "<testsuite name=\"{backend}\" tests=\"{tests}\" failures=\"{failed}\" skipped=\"{skipped}\">"
            );
            for case in column.results() {
                let (name, seconds) =
                    (escaped(&case.name), f64::from(u32::try_from(case.ms).unwrap_or(u32::MAX)) / 1e3);
                let _ =
                    write!(out, "<testcase classname=\"{backend}\" name=\"{name}\" time=\"{seconds:.3}\"");
                let _ = match &case.result {
                    Outcome::Passed => writeln!(out, "/>"),
                    Outcome::NotOffered => writeln!(out, "><skipped message=\"not offered\"/></testcase>"),
                    Outcome::Failed(why) => {
                        writeln!(out, "><failure message=\"{}\"/></testcase>", escaped(why))
                    }
                };
            }
            if let Column::NotStarted(why) = column {
                let _ = writeln!(out, "<system-err>{}</system-err>", escaped(why));
            }
            out.push_str("</testsuite>\n");
        }
        out.push_str("</testsuites>\n");
        out
    }
}

fn mark(column: &Column, name: &str) -> &'static str {
    match column {
        Column::Ran(results) => match results.iter().find(|case| case.name == name) {
            Some(CaseResult { result: Outcome::Passed, .. }) => "pass",
            Some(CaseResult { result: Outcome::NotOffered, .. }) => "not offered",
            Some(_) => "**FAIL**",
            None => "not run",
        },
        Column::NotStarted(_) => "**not started**",
        Column::NotCertified(_) => "not certified",
    }
}

fn json_column(column: &Column) -> JsonColumn<'_> {
    let (passed, failed) = column.counts();
    let not_certified = match column {
        Column::Ran(_) => None,
        Column::NotStarted(why) | Column::NotCertified(why) => Some(why.as_str()),
    };
    let cases = column.results().iter().map(|case| {
        let (result, message) = match &case.result {
            Outcome::Passed => ("passed", None),
            Outcome::Failed(why) => ("failed", Some(why.as_str())),
            Outcome::NotOffered => ("not_offered", None),
        };
        JsonCase { id: &case.id, name: &case.name, result, ms: case.ms, message }
    });
    JsonColumn { passed, failed, not_certified, cases: cases.collect() }
}

/// Text within XML. Control characters have no place there, escaped or not.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(result: Outcome) -> (String, Column) {
        let case =
            CaseResult { id: "E1".into(), name: "a::b".into(), result, ms: 5, notes: vec!["n".into()] };
        ("memory".into(), Column::Ran(vec![case]))
    }

    // X24: what failed, what could not be started and what was left out are told apart.
    #[test]
    fn exit_status_tells_failed_from_not_certified() {
        let passed = Report { columns: vec![ran(Outcome::Passed)], mutants: vec![] };
        assert_eq!(passed.exit_status(), 0);
        let left_out = ("postgres".to_owned(), Column::NotCertified("asked for".into()));
        let without = Report { columns: vec![ran(Outcome::Passed), left_out], mutants: vec![] };
        assert_eq!(without.exit_status(), 3);
        assert!(without.summary().contains("NOT CERTIFIED"));
        let failed = Report { columns: vec![ran(Outcome::Failed("x".into()))], mutants: vec![] };
        assert_eq!(failed.exit_status(), 1);
        let absent = ("postgres".to_owned(), Column::NotStarted("no server".into()));
        assert_eq!(Report { columns: vec![absent], mutants: vec![] }.exit_status(), 1);
    }

    // X23: a mutant that lives, or that unrelated cases kill, fails the run.
    #[test]
    fn a_mutant_must_be_killed_by_its_cases_and_no_others() {
        let mutant = |killed_by: &[&str]| Mutant {
            name: "m".into(),
            expected: vec!["E1".into(), "E3".into()],
            killed_by: killed_by.iter().map(|id| (*id).to_owned()).collect(),
        };
        assert!(mutant(&["E3", "E1"]).killed());
        assert!(!mutant(&["E1"]).killed());
        assert!(!mutant(&["E1", "E3", "E4"]).killed());
    }

    // X24: a store that a backend does not bring is neither passed nor failed.
    #[test]
    fn what_is_not_offered_is_neither_passed_nor_failed() {
        let report = Report { columns: vec![ran(Outcome::NotOffered)], mutants: vec![] };
        assert_eq!((report.columns[0].1.counts(), report.exit_status()), ((0, 0), 0));
        assert!(report.summary().contains("0 passed, 0 failed, 1 not offered"));
        assert!(report.junit().contains("skipped=\"1\""));
        assert!(report.json().contains("\"not_offered\""));
        let matrix = report.matrix();
        assert!(["## event store", "## audit", "## playbooks"].iter().all(|store| matrix.contains(store)));
    }

    #[test]
    fn hostile_messages_stay_within_their_format() {
        let report =
            Report { columns: vec![ran(Outcome::Failed("a < \"b\" & \u{1}\n".into()))], mutants: vec![] };
        assert!(report.junit().contains("message=\"a &lt; &quot;b&quot; &amp; \u{fffd}&#10;\""));
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["backends"]["memory"]["failed"], 1);
        assert_eq!(json["backends"]["memory"]["cases"][0]["result"], "failed");
    }
}
