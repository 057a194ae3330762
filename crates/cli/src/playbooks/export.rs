//! `playbooks export` and `playbooks versions`.

use changeover::playbooks::{ListPlaybooks, Playbook, PlaybookId, VersionsOf};
use changeover::{Limit, PlaybookCatalog};

use crate::exit::{Failure, Status};
use crate::output::{Out, short};

/// Versions of one page: few, since their contents may be long.
const PAGE: i64 = 100;

pub async fn export(
    catalog: &dyn PlaybookCatalog,
    ids: Vec<PlaybookId>,
    out: &mut Out,
) -> Result<Status, Failure> {
    let (mut playbooks, mut count): (usize, usize) = (0, 0);
    if ids.is_empty() {
        let mut request = ListPlaybooks { limit: Limit::new(PAGE)?, ..ListPlaybooks::default() };
        loop {
            let page = catalog.list(request.clone()).await?;
            for latest in &page.playbooks {
                count += export_one(catalog, &latest.playbook.playbook_id, out).await?;
            }
            playbooks += page.playbooks.len();
            match page.playbooks.into_iter().next_back() {
                Some(last) if page.more => request.after = Some(last.playbook.playbook_id),
                _ => break,
            }
        }
    } else {
        playbooks = ids.len();
        for id in &ids {
            count += export_one(catalog, id, out).await?;
        }
    }
    out.note(&format!("{count} versions of {playbooks} playbooks"))?;
    Ok(Status::Done)
}

/// The oldest version first, so that an import finds every version before the next.
async fn export_one(catalog: &dyn PlaybookCatalog, id: &PlaybookId, out: &mut Out) -> Result<usize, Failure> {
    let versions = all_versions(catalog, id).await?;
    versions.iter().rev().try_for_each(|version| out.line(&version.to_json()))?;
    Ok(versions.len())
}

async fn all_versions(catalog: &dyn PlaybookCatalog, id: &PlaybookId) -> Result<Vec<Playbook>, Failure> {
    let mut request = VersionsOf { playbook_id: id.clone(), below: None, limit: Limit::new(PAGE)? };
    let mut versions: Vec<Playbook> = Vec::new();
    loop {
        let page = catalog.versions(request.clone()).await?;
        versions.extend(page.playbooks);
        match versions.last() {
            Some(last) if page.more => request.below = Some(last.playbook.version.clone()),
            _ => return Ok(versions),
        }
    }
}

pub async fn versions(
    catalog: &dyn PlaybookCatalog,
    id: PlaybookId,
    out: &mut Out,
) -> Result<Status, Failure> {
    let versions = all_versions(catalog, &id).await?;
    if out.is_json() {
        versions.iter().try_for_each(|version| out.line(&version.to_json()))?;
        return Ok(Status::Done);
    }
    let rows: Vec<_> = versions.iter().map(row).collect();
    out.rows(["version", "latest", "status", "created_at", "created_by", "change_summary"], &rows)?;
    Ok(Status::Done)
}

fn row(version: &Playbook) -> [String; 6] {
    let playbook = &version.playbook;
    [
        playbook.version.to_string(),
        if playbook.is_latest { "latest" } else { "" }.to_owned(),
        playbook.status.to_string(),
        short(version.created_at),
        playbook.created_by.as_ref().map_or_else(String::new, ToString::to_string),
        playbook.change_summary.clone().unwrap_or_default(),
    ]
}
