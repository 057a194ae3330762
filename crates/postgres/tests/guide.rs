//! The guide to managing playbooks by SQL: every statement for PostgreSQL is run, and the catalog shows what it says.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod catalog;

use changeover_core::playbooks::{GetPlaybook, Lookup, Playbook, PlaybookCatalog, Status, VersionsOf};
use changeover_core::{Limit, Text};

use catalog::{catalog_of, migrated};

const GUIDE: &str = include_str!("../../../docs/guides/playbooks-by-sql.md");

/// The statements for PostgreSQL below each heading.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let mut blocks = Vec::new();
    for section in GUIDE.split("\n## ").skip(1) {
        let heading = section.lines().next().unwrap();
        let parts = section.split("```sql postgres\n").skip(1);
        blocks.extend(parts.map(|part| (heading, part.split("```").next().unwrap())));
    }
    blocks
}

async fn versions(catalog: &dyn PlaybookCatalog) -> Vec<Playbook> {
    let playbook_id = Text::new("playbook_id", "restart-pod").unwrap();
    let request = VersionsOf { playbook_id, below: None, limit: Limit::default() };
    catalog.versions(request).await.unwrap().playbooks
}

async fn offered(catalog: &dyn PlaybookCatalog) -> Option<String> {
    let playbook_id = Text::new("playbook_id", "restart-pod").unwrap();
    let request = GetPlaybook { playbook_id, which: Lookup::LatestActive };
    catalog.get(request).await.unwrap().map(|found| found.playbook.version.to_string())
}

// S3-PB-022
#[tokio::test(flavor = "multi_thread")]
async fn every_statement_of_the_guide_does_what_it_says() {
    let db = migrated().await;
    let catalog = catalog_of(&db, "default").await;
    let shell = db.client().await.unwrap();
    let mut headings = Vec::new();
    for (heading, sql) in blocks() {
        shell.batch_execute(sql).await.unwrap_or_else(|error| panic!("{heading}: {error}\n{sql}"));
        headings.push(heading);
        if heading == "Begin" {
            continue;
        }
        let found = versions(&*catalog).await;
        let last = &found[0];
        let (first, offered) = (found.last().unwrap(), offered(&*catalog).await);
        match heading {
            "A new playbook" | "A new version" => assert_eq!(offered.as_deref(), Some("v1.0.0"), "{heading}"),
            "Switch the latest version" | "Make active again" => {
                assert_eq!(offered.as_deref(), Some("v1.1.0"), "{heading}");
                assert_eq!((last.disabled.is_some(), first.playbook.is_latest), (false, false), "{heading}");
            }
            "Disable" => {
                let (_, by, reason) = last.disabled.clone().unwrap();
                assert_eq!((by.unwrap().as_str(), reason.as_deref()), ("ada", Some("drains for too long")));
                assert_eq!(offered, None);
            }
            "Deprecate" => {
                assert_eq!(last.deprecation_notice.as_deref(), Some("use restart-deployment"));
                assert_eq!((last.playbook.status, offered), (Status::Deprecated, None));
            }
            "Archive" => assert_eq!(first.playbook.status, Status::Archived),
            "Read" => assert_eq!(found.len(), 2),
            other => panic!("no check for {other:?}"),
        }
    }
    let all = [
        "Begin",
        "A new playbook",
        "A new version",
        "Switch the latest version",
        "Disable",
        "Make active again",
    ];
    assert!(
        all.iter().chain(&["Deprecate", "Archive", "Read"]).all(|one| headings.contains(one)),
        "{headings:?}"
    );
}
