//! `cutover report`: the evidence of a run, written and checked.

use std::fs;
use std::path::{Path, PathBuf};

use changeover::Db;
use changeover::cutover::report::{self, Checked, Manifest};
use serde_json::json;

use super::{open_module, read, write};
use crate::args::Report;
use crate::exit::{Failure, Status};
use crate::output::{Out, printable};

pub async fn report(options: Report, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    // Without one there is nothing but a check, which needs no store.
    let Some(module) = &options.module else { return Err(Failure::usage("which module?")) };
    let cutover = open_module(db, module.as_str(), &options.stores).await?;
    if let Some(file) = &options.against {
        let manifest = manifest(file)?;
        let mut checked = report::check(&manifest)?;
        let compared = report::against(&manifest, &cutover).await?;
        checked.holds.extend(compared.holds);
        checked.wrong.extend(compared.wrong);
        checked.unknown.extend(compared.unknown);
        return told(&checked, file, out);
    }
    let Some(directory) = &options.out else { return Err(Failure::usage("where to? give --out DIR")) };
    let manifest = Manifest::of(&cutover, options.run).await?;
    let (checked, file) = into(directory, &manifest)?;
    told(&checked, &file, out)
}

/// Writes manifest and page.
pub(super) fn into(directory: &Path, manifest: &Manifest) -> Result<(Checked, PathBuf), Failure> {
    let checked = report::check(manifest)?;
    fs::create_dir_all(directory)
        .map_err(|error| Failure::failed(format!("{} cannot be made: {error}", directory.display())))?;
    let file = directory.join("manifest.json");
    write(&file, &manifest.to_text()?)?;
    write(&directory.join("report.html"), &report::page(manifest, &checked))?;
    Ok((checked, file))
}

pub fn check(file: &Path, out: &mut Out) -> Result<Status, Failure> {
    told(&report::check(&manifest(file)?)?, file, out)
}

fn manifest(file: &Path) -> Result<Manifest, Failure> {
    let text = read(file)?;
    Manifest::parse(&text)
        .map_err(|error| Failure::refused(format!("{}: {}", file.display(), error.message())))
}

fn told(checked: &Checked, file: &Path, out: &mut Out) -> Result<Status, Failure> {
    if out.is_json() {
        out.object(&json!({
            "manifest": file.display().to_string(), "sound": checked.is_sound(),
            "holds": checked.holds, "wrong": checked.wrong, "unknown": checked.unknown,
        }))?;
    } else {
        for (mark, sentences) in [("BAD", &checked.wrong), ("ok ", &checked.holds), ("?  ", &checked.unknown)]
        {
            for sentence in sentences {
                out.line(&printable(&format!("{mark}  {sentence}")))?;
            }
        }
    }
    if checked.is_sound() {
        out.note(&format!("{} holds", file.display()))?;
        return Ok(Status::Done);
    }
    Err(Failure::refused(format!("{} does not hold: {}", file.display(), checked.wrong.join("; "))))
}
