//! A manifest against the stores that it is about.

use changeover_core::{ErrorKind, Result, hex};

use super::{Checked, Manifest, Word};
use crate::phase::Phase;
use crate::{Cutover, declare};

/// Whether the stores say what the manifest says: the record in the new one, entry by entry, and the data root of the
/// frozen file, or of its archive, computed anew.
///
/// # Errors
///
/// Those of the stores.
pub async fn against(manifest: &Manifest, cutover: &Cutover) -> Result<Checked> {
    let mut checked = Checked::default();
    if manifest.module != cutover.module() {
        checked.wrong.push(format!(
            "the manifest is of module {}, asked for is {}",
            manifest.module,
            cutover.module()
        ));
        return Ok(checked);
    }
    let record: Vec<Word> = cutover.record(None).await?.into_iter().map(Word::from).collect();
    let added = record.len().saturating_sub(manifest.record.len());
    let holds = format!(
        "the record in the new store has the same {} entries, and {added} since",
        manifest.record.len()
    );
    checked.judge(different(&manifest.record, &record), holds);
    root(manifest, cutover, &mut checked).await?;
    Ok(checked)
}

fn different(said: &[Word], stored: &[Word]) -> Vec<String> {
    let mut wrong = Vec::new();
    if stored.len() < said.len() {
        wrong.push(format!(
            "the record in the new store has {} entries, the manifest {}",
            stored.len(),
            said.len()
        ));
    }
    let differ = said.iter().zip(stored).filter(|(said, stored)| said != stored);
    wrong.extend(differ.map(|(said, _)| format!("entry {} is another in the new store", said.number)));
    wrong
}

async fn root(manifest: &Manifest, cutover: &Cutover, checked: &mut Checked) -> Result<()> {
    let unknown = |why: &str| format!("the data root of the file was not compared: {why}");
    let Some(said) = manifest.frozen().and_then(|frozen| frozen.source_root) else {
        checked.unknown.push(unknown(
            "the manifest has none, since the run did not switch or was cut off before it was recorded",
        ));
        return Ok(());
    };
    let run = match cutover.last_run().await {
        Ok(run) if run.run == manifest.run => run,
        Ok(_) => {
            checked.unknown.push(unknown("another run came after this one, and the file took writes since"));
            return Ok(());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            checked.wrong.push("the new store knows no run of the module".to_owned());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if !matches!(Phase::parse(&run.phase)?, Phase::Switched | Phase::Finalized) {
        checked.unknown.push(unknown("the run was reverted, and the file takes writes since"));
        return Ok(());
    }
    if declare::to_json(cutover.tables())? != run.declarations {
        checked.unknown.push(unknown("the declarations are not those of the run; give its own"));
        return Ok(());
    }
    let archive = cutover.source().archived().await?;
    let file = match &archive {
        Some(archive) if !archive.is_there => {
            let why = format!("the archive {} is not there; put it back", archive.place.display());
            checked.unknown.push(unknown(&why));
            return Ok(());
        }
        Some(archive) => format!("archive {}", archive.place.display()),
        None => "file".to_owned(),
    };
    let verified = cutover.source_root().await?;
    let found = hex(&verified.source_root());
    let wrong =
        (found != said).then(|| format!("the data root of the {file} is {found}, the manifest says {said}"));
    checked.judge(wrong.into_iter().collect(), format!("the {file} has the data root {said}, computed anew"));
    Ok(())
}
