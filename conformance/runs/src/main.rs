//! `conformance [backend...]`: runs every case on every set-up, or on those of the backends named, and writes the matrix.
//! `postgres-pooled` (through a pooler in transaction mode) is run only where it is named.
//!
//! Prints the counts and what failed; writes `matrix.md`, `report.json` and `junit.xml` into `conformance/` of the
//! target directory. Exit status: 0 all passed; 1 something failed or could not be started; 2 unknown backend; 3 nothing
//! failed, but `CONFORMANCE_WITHOUT` left a backend out: not certified.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;

use changeover_conformance::{Family, Report, Subject, run};
use changeover_conformance_runs::{mutants, on_request, serve, subjects};

#[tokio::main]
async fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(ended) = serve(&wanted).await {
        return ended;
    }
    let mut subjects = subjects();
    let all = subjects.len();
    let more = on_request();
    let names: Vec<_> = subjects.iter().chain(&more).map(|subject| subject.name).collect();
    if let Some(unknown) = wanted.iter().find(|word| !names.iter().any(|name| is_of(name, word))) {
        eprintln!("unknown backend {unknown:?}; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    subjects.extend(more.into_iter().filter(|subject| wanted.iter().any(|word| word == subject.name)));
    let chosen = |subject: &Subject| wanted.is_empty() || wanted.iter().any(|word| is_of(subject.name, word));
    let mut report = Report::default();
    let parallel = available_parallelism().map_or(4, |cores| cores.get() * 2);
    for subject in subjects.into_iter().filter(chosen) {
        eprintln!("{} ...", subject.name);
        report.columns.push((subject.name.to_owned(), run(subject, parallel).await));
    }
    // Mutants are made of the reference backend: they are tried with it.
    if report.columns.iter().any(|(name, _)| name == "memory") {
        eprintln!("mutants ...");
        report.mutants = mutants(&[Family::Events, Family::Audit, Family::Playbooks], parallel).await;
    }
    print!("{}", report.summary());
    let folder = folder();
    if let Err(error) = write(&report, &folder) {
        eprintln!("{}: the reports could not be written: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    let of = if report.columns.len() < all { " (not all set-ups)" } else { "" };
    println!("reports in {}{of}", folder.display());
    ExitCode::from(report.exit_status())
}

/// Whether a set-up is `word` or belongs to the backend `word`.
fn is_of(name: &str, word: &str) -> bool {
    name == word || name.split('-').next() == Some(word)
}

/// `conformance` in the target directory.
fn folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or(workspace, PathBuf::from).join("conformance")
}

fn write(report: &Report, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("matrix.md"), report.matrix())?;
    std::fs::write(folder.join("report.json"), report.json())?;
    std::fs::write(folder.join("junit.xml"), report.junit())
}
