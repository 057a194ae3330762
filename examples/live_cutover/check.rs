//! The comparison: what was acknowledged, beside what PostgreSQL holds.

use std::collections::BTreeMap;
use std::fmt::Display;

use changeover::audit::{AuditOrder, AuditQuery, AuditRepositoryExt, NewAuditEvent};
use changeover::events::ReadAll;
use changeover::{Db, Result};

use crate::service::{Acknowledged, Event, OrderEvent, Record};

/// What came out for one module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    acknowledged: usize,
    stored: usize,
    missing: usize,
    /// Stored more than once.
    twice: usize,
    changed: usize,
    /// Stored, and acknowledged to nobody.
    others: usize,
}

const COLUMNS: [&str; 7] =
    ["acknowledged", "after move", "in PostgreSQL", "missing", "twice", "changed", "others"];

pub fn heading() -> String {
    row("module", &COLUMNS)
}

/// A line of the table, each cell as wide as the head of its column.
fn row(module: &str, cells: &[impl Display; 7]) -> String {
    let cells = cells.iter().zip(COLUMNS).map(|(cell, head)| format!("  {cell:>width$}", width = head.len()));
    format!("{module:<8}{}", cells.collect::<String>())
}

impl Counts {
    pub fn line(&self, module: &str, after: usize) -> String {
        let Self { acknowledged, stored, missing, twice, changed, others } = *self;
        row(module, &[acknowledged, after, stored, missing, twice, changed, others])
    }

    /// Whether everything is there, once and unchanged, and nothing else. A module without a write proves nothing.
    pub fn is_right(&self) -> bool {
        self.acknowledged > 0 && self.missing + self.twice + self.changed + self.others == 0
    }
}

/// Of the module `events`, as `db` reads it.
pub async fn events(db: &Db, acknowledged: &[Event]) -> Result<Counts> {
    let orders = db.events("events")?.typed::<OrderEvent>();
    let store = orders.events().store().await?;
    let (mut request, mut stored) = (ReadAll::default(), Vec::new());
    loop {
        let page = store.read_all(request.clone()).await?;
        for event in &page.events {
            stored.push(((event.stream.clone(), event.version), orders.decode(event)?));
        }
        if page.events.is_empty() && page.caught_up {
            return Ok(compare(acknowledged, stored));
        }
        request.after = Some(page.checkpoint);
    }
}

/// Of the module `audit`.
pub async fn audit(db: &Db, acknowledged: &[Record]) -> Result<Counts> {
    let repository = db.audit("audit")?.repository().await?;
    let mut pages = repository.pages(AuditQuery { order: AuditOrder::Recorded, ..AuditQuery::default() });
    let mut stored: Vec<(_, NewAuditEvent)> = Vec::new();
    while let Some(page) = pages.next().await? {
        stored.extend(page.events.into_iter().map(|it| (it.event.event_id, it.event)));
    }
    Ok(compare(acknowledged, stored))
}

fn compare<K: Ord + Clone, V: PartialEq>(acknowledged: &[Acknowledged<K, V>], stored: Vec<(K, V)>) -> Counts {
    let mut counts = Counts { acknowledged: acknowledged.len(), stored: stored.len(), ..Counts::default() };
    let mut there: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for (key, value) in stored {
        there.entry(key).or_default().push(value);
    }
    for it in acknowledged {
        match there.remove(&it.key).as_deref() {
            None => counts.missing += 1,
            Some([value]) => counts.changed += usize::from(*value != it.value),
            Some(_) => counts.twice += 1,
        }
    }
    counts.others = there.values().map(Vec::len).sum();
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::acknowledged;

    #[test]
    fn each_difference_is_counted_as_what_it_is() {
        let written: Vec<_> =
            (1..=4).map(|key| acknowledged(key, "as it was", std::time::Instant::now())).collect();
        let same = |keys: &[i32]| keys.iter().map(|key| (*key, "as it was")).collect::<Vec<_>>();
        let right = Counts { acknowledged: 4, stored: 4, ..Counts::default() };
        assert_eq!(compare(&written, same(&[4, 2, 3, 1])), right);
        assert!(right.is_right());

        let mut stored = same(&[2, 2, 3, 9]);
        stored.push((4, "another"));
        let wrong = compare(&written, stored);
        assert_eq!(wrong, Counts { acknowledged: 4, stored: 5, missing: 1, twice: 1, changed: 1, others: 1 });
        for one in [
            Counts { missing: 1, ..right },
            Counts { twice: 1, ..right },
            Counts { changed: 1, ..right },
            Counts { others: 1, ..right },
            Counts { acknowledged: 0, stored: 0, ..right },
        ] {
            assert!(!one.is_right(), "{one:?}");
        }
    }
}
