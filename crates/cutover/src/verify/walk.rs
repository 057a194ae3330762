//! The walk over both sides of one relation.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use changeover_core::{Error, Result};

use super::canon::Canon;
use super::cursor::{Place, SavedKey, VerifyCursor, Walk};
use super::excused::{Excuse, Excused};
use super::finding::{Kind, Mismatch, Suspect, TableVerified};
use super::relation::{Relation, digest};
use super::stream::{Entry, Pages, Step, Stream, Window, away};
use super::tree::{Digest, Tree};
use super::{ChunkVerified, Mode, Verifier, target};

/// A row of the new store: its key and its digest.
#[derive(Clone, Debug)]
struct Found {
    key: Vec<Canon>,
    leaf: Digest,
}

/// A page of the new store.
struct Page {
    rows: Vec<Found>,
    /// Whether there may be more in the range.
    more: bool,
}

/// A key on which the sides differ.
pub(super) struct Difference {
    pub(super) key: Option<Vec<Canon>>,
    pub(super) entries: Vec<Entry>,
    pub(super) found: usize,
}

impl Verifier {
    /// Walks one relation from where the cursor says to its end. `Break` if the watcher ended it.
    pub(super) async fn walk(
        &self,
        relation: &Arc<Relation>,
        mode: Mode,
        cursor: &mut VerifyCursor,
        excused: &dyn Excused,
        watch: &mut (dyn FnMut(&ChunkVerified, &VerifyCursor) -> ControlFlow<()> + Send),
    ) -> Result<ControlFlow<()>> {
        let unlisted = cursor.so_far.unlisted;
        let begin = |walk: &Walk| {
            Stream::new(
                &*self.source,
                excused,
                Arc::clone(relation),
                self.limits,
                &walk.places,
                walk.until.as_ref(),
            )
        };
        let mut stream = begin(&cursor.walk);
        let mut pages = Pages::new(&self.limits);
        let mut next = stream.next().await?;
        while let Some(step) = next.take() {
            let window = match step {
                Step::Window(window) => window,
                Step::Disordered(part) => {
                    // From the beginning of the relation, in the other way.
                    let sorted = |at: usize| {
                        at == part || cursor.walk.places.get(at).is_some_and(|place: &Place| place.sorted)
                    };
                    let place = |at| Place { sorted: sorted(at), ..Place::default() };
                    let places = (0..relation.parts.len()).map(place).collect();
                    cursor.walk = Walk { places, ..Walk::default() };
                    let found = &mut cursor.so_far;
                    found.mismatches.retain(|mismatch| mismatch.target != relation.target);
                    found.suspects.retain(|suspect| suspect.target != relation.target);
                    found.unlisted = unlisted;
                    stream = begin(&cursor.walk);
                    next = stream.next().await?;
                    continue;
                }
            };
            let Window { mut entries, until, places } = window;
            let (mut source, mut tree, mut rows) = (Tree::default(), Tree::default(), 0);
            // The first page of this window and the next window of the other side are read at once.
            let first = self.page(relation, cursor.walk.until.as_deref(), until.as_deref(), &mut pages);
            let (first, ahead) = tokio::join!(first, stream.next());
            let mut page = first?;
            next = ahead?;
            loop {
                let edge =
                    if page.more { page.rows.last().map(|row| row.key.clone()) } else { until.clone() };
                let upto = up_to(&mut entries, edge.as_ref());
                rows += upto.len() as u64;
                let (old, new) = self.compare(relation, mode, cursor, upto, &page.rows).await?;
                source.extend(&old);
                tree.extend(&new);
                if !page.more {
                    break;
                }
                page = self.page(relation, edge.as_deref(), until.as_deref(), &mut pages).await?;
            }
            (cursor.walk.until, cursor.walk.places) = (until, places);
            let chunk = ChunkVerified {
                target: relation.target.clone(),
                rows,
                source: source.root(),
                target_digest: tree.root(),
            };
            // Behind the last window the table is done, and the cursor stands at the next.
            if next.is_some() && watch(&chunk, cursor).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.close(relation, mode, cursor).await?;
        Ok(ControlFlow::Continue(()))
    }

    /// The account of a relation that was walked to its end.
    async fn close(&self, relation: &Relation, mode: Mode, cursor: &mut VerifyCursor) -> Result<()> {
        let walk = std::mem::take(&mut cursor.walk);
        let mut counted = None;
        if mode == Mode::Frozen {
            let mut old = 0;
            for part in &relation.parts {
                old += self.source.count(&part.source).await?;
            }
            counted = Some((old, self.target.count(&relation.target).await?));
        }
        cursor.so_far.tables.push(TableVerified {
            target: relation.target.clone(),
            source_rows: walk.source_rows,
            target_rows: walk.target_rows,
            quarantined: walk.quarantined,
            repaired: walk.repaired,
            counted,
            source_root: walk.source.root(),
            target_root: walk.target.root(),
        });
        Ok(())
    }

    /// Rows of the new store with keys in a range.
    async fn page(
        &self,
        relation: &Arc<Relation>,
        after: Option<&[Canon]>,
        until: Option<&[Canon]>,
        pages: &mut Pages,
    ) -> Result<Page> {
        let (columns, key) = (relation.names(), relation.key_names());
        let (from, to) = (after.map(as_key), until.map(as_key));
        // One more than the other side reads at once, so that a page of as many rows is seen to be the last.
        let limit = pages.rows().max(16) + 1;
        let rows =
            self.target.rows(&relation.target, &key, &columns, from.as_deref(), to.as_deref(), limit).await?;
        let largest = rows.iter().map(|row| row.iter().flatten().map(|text| text.len() + 24).sum()).max();
        pages.saw(largest.unwrap_or(0), &self.limits);
        let more = rows.len() >= limit as usize;
        let of = Arc::clone(relation);
        let rows: Vec<Found> = away(move || {
            let found = |row: Vec<Option<String>>| {
                let row = decode(&of, row)?;
                let key: Vec<_> = of.key.iter().map(|at| row[*at].clone()).collect();
                Ok(Found { leaf: digest(&row), key })
            };
            rows.into_iter().map(found).collect::<Result<_>>()
        })
        .await??;
        let disordered = |rows: &[Found]| rows.windows(2).any(|pair| pair[0].key > pair[1].key);
        let outside = |row: &Found| {
            after.is_some_and(|after| *row.key <= *after) || until.is_some_and(|until| *row.key > *until)
        };
        if disordered(&rows) || rows.iter().any(outside) {
            return Err(Error::invalid(format!(
                "{} does not come in the order of its key ({}); a text in a key needs COLLATE \"C\"",
                relation.target,
                key.join(", ")
            )));
        }
        Ok(Page { rows, more })
    }

    /// Compares the rows of one range, and gives the leaves that count on each side.
    async fn compare(
        &self,
        relation: &Relation,
        mode: Mode,
        cursor: &mut VerifyCursor,
        entries: Vec<Entry>,
        found: &[Found],
    ) -> Result<(Vec<Digest>, Vec<Digest>)> {
        let excused = |excuse| entries.iter().filter(|entry| entry.excuse == Some(excuse)).count() as u64;
        let walk = &mut cursor.walk;
        walk.source_rows += entries.len() as u64;
        walk.target_rows += found.len() as u64;
        walk.quarantined += excused(Excuse::Out);
        walk.repaired += excused(Excuse::Repaired);
        let live = |entry: &&Entry| entry.excuse.is_none() && entry.row.key.is_some();
        let old: Vec<Digest> = entries.iter().filter(live).map(|entry| entry.row.leaf).collect();
        let mut new: Vec<Digest> = found.iter().map(|row| row.leaf).collect();
        // Nothing was repaired and nothing is without a key: equal digests of the chunk are equal rows.
        let plain = entries.iter().all(|entry| {
            entry.excuse != Some(Excuse::Repaired) && (entry.row.key.is_some() || entry.excuse.is_some())
        });
        if !plain || Tree::of(&old).root() != Tree::of(&new).root() {
            let (differences, repaired) = differences(entries, found);
            new = found.iter().filter(|row| !repaired.contains(&row.key)).map(|row| row.leaf).collect();
            for difference in differences {
                self.note(relation, mode, cursor, difference).await?;
            }
        }
        cursor.walk.source.extend(&old);
        cursor.walk.target.extend(&new);
        Ok((old, new))
    }

    async fn note(
        &self,
        relation: &Relation,
        mode: Mode,
        cursor: &mut VerifyCursor,
        difference: Difference,
    ) -> Result<()> {
        let found = &mut cursor.so_far;
        if found.mismatches.len().max(found.suspects.len()) >= self.limits.listed {
            found.unlisted += 1;
            return Ok(());
        }
        match (mode, difference.key.clone()) {
            (Mode::Online, Some(key)) => {
                let rows = difference.entries.iter().map(|entry| {
                    (relation.parts[entry.part].name.clone(), SavedKey::of(&entry.row.declared))
                });
                let target = relation.target.clone();
                found.suspects.push(Suspect { target, key, rows: rows.collect() });
            }
            // What is without a key now may be mended or put into quarantine later; it is found again then.
            (Mode::Online, None) => {}
            (Mode::Frozen, _) => {
                let mismatch = self.judge(relation, &difference).await?;
                cursor.so_far.mismatches.push(mismatch);
            }
        }
        Ok(())
    }

    /// What is wrong with a key on which the sides differ.
    pub(super) async fn judge(&self, relation: &Relation, difference: &Difference) -> Result<Mismatch> {
        let live: Vec<_> = difference.entries.iter().filter(|entry| entry.excuse.is_none()).collect();
        let repaired = difference.entries.iter().any(|entry| entry.excuse == Some(Excuse::Repaired));
        let kind = match (&difference.key, live.len(), difference.found) {
            (None, _, _) => Kind::NoKey,
            (_, 2.., _) | (_, _, 2..) => Kind::Twice,
            (_, 1, 0) => Kind::Missing,
            (_, 0, 0) if repaired => Kind::RepairMissing,
            (_, 0, _) if difference.entries.is_empty() => Kind::Extra,
            (_, 0, _) => Kind::NotOut,
            (_, 1, _) => Kind::Changed,
        };
        let entry = live.first().copied().or(difference.entries.first());
        let (fields, not_allowed) = match entry {
            Some(entry) => self.fields(relation, kind, difference.key.as_deref(), entry).await?,
            None => (Vec::new(), Vec::new()),
        };
        Ok(Mismatch {
            target: relation.target.clone(),
            table: entry.map(|entry| relation.parts[entry.part].name.clone()).unwrap_or_default(),
            key: super::look::named(relation, difference.key.as_deref(), entry),
            kind,
            fields,
            not_allowed,
        })
    }
}

/// The row as the store printed it, its key before its columns, as canonical values.
pub(super) fn decode(relation: &Relation, row: Vec<Option<String>>) -> Result<Vec<Canon>> {
    let expected = relation.key.len() + relation.columns.len();
    if row.len() != expected {
        return Err(Error::new(
            changeover_core::ErrorKind::Unexpected,
            format!("{}: a row of {} values, {expected} were asked for", relation.target, row.len()),
        ));
    }
    let values = relation.columns.iter().zip(row.into_iter().skip(relation.key.len()));
    Ok(values.map(|(column, text)| target::decode(&column.to, text)).collect())
}

/// The key as the new store reads it.
pub(super) fn as_key(key: &[Canon]) -> Vec<String> {
    // A key always has a text: others are not made to one.
    key.iter().map(|value| value.as_key().unwrap_or_default()).collect()
}

/// Takes the entries up to a key.
fn up_to(entries: &mut VecDeque<Entry>, edge: Option<&Vec<Canon>>) -> Vec<Entry> {
    let Some(edge) = edge else { return entries.drain(..).collect() };
    let count = entries.partition_point(|entry| entry.row.key.as_ref() <= Some(edge));
    entries.drain(..count).collect()
}

/// Merges both sides by key: the keys on which they differ, and the keys of repaired rows.
fn differences(entries: Vec<Entry>, found: &[Found]) -> (Vec<Difference>, Vec<Vec<Canon>>) {
    let (mut differences, mut repaired) = (Vec::new(), Vec::new());
    let mut entries = VecDeque::from(entries);
    let mut found = VecDeque::from_iter(found);
    while let Some(entry) = entries.pop_front_if(|entry| entry.row.key.is_none()) {
        if entry.excuse.is_none() {
            differences.push(Difference { key: None, entries: vec![entry], found: 0 });
        }
    }
    loop {
        let old = entries.front().and_then(|entry| entry.row.key.clone());
        let new = found.front().map(|row| row.key.clone());
        let key = match (old, new) {
            (None, None) => break,
            (Some(one), None) | (None, Some(one)) => one,
            (Some(old), Some(new)) => old.min(new),
        };
        let mut ours = Vec::new();
        while let Some(entry) = entries.pop_front_if(|entry| entry.row.key.as_ref() == Some(&key)) {
            ours.push(entry);
        }
        let mut theirs = Vec::new();
        while let Some(row) = found.pop_front_if(|row| row.key == key) {
            theirs.push(row.leaf);
        }
        let live: Vec<_> = ours.iter().filter(|entry| entry.excuse.is_none()).collect();
        let is_repaired = ours.iter().any(|entry| entry.excuse == Some(Excuse::Repaired));
        let equal = match (live.as_slice(), theirs.as_slice()) {
            ([], []) => !is_repaired,
            ([], [_]) => is_repaired,
            ([one], [row]) => one.row.leaf == *row,
            _ => false,
        };
        if is_repaired && live.is_empty() {
            repaired.push(key.clone());
        }
        if !equal {
            differences.push(Difference { key: Some(key), entries: ours, found: theirs.len() });
        }
    }
    (differences, repaired)
}
