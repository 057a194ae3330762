//! The rows that a relation has to hold, in the order of its key, out of the old tables that they come from.
//!
//! An old table is read in its own order: by storage class, then bytes. Where that is the order of the keys as well (nearly
//! always), rows are passed on as they come. As soon as one comes that is not above the one before it (an id in upper
//! case among those in lower case, a blob behind texts, a key made by a transformation), the walk begins again with
//! that table *sorted in passes*: each pass reads it whole and keeps the next [`Limits::sorted`] keys. Slower, but right,
//! and in bounded memory. Several old tables of one relation are merged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use changeover_core::cutover::{RawKey, SourceWitness, Witnessed};
use changeover_core::{Error, Result};

use super::Limits;
use super::canon::Canon;
use super::cursor::{Place, SavedKey};
use super::excused::{Excuse, Excused};
use super::relation::{Expected, Relation};

/// A row that the relation has to hold, or must not if it is excused.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) row: Expected,
    pub(super) part: usize,
    pub(super) excuse: Option<Excuse>,
}

/// Rows up to a key, in its order; those without a key come first.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) entries: VecDeque<Entry>,
    /// `None`: to the end.
    pub(super) until: Option<Vec<Canon>>,
    /// Where the old tables are to be read on behind it.
    pub(super) places: Vec<Place>,
}

/// What comes next.
pub(super) enum Step {
    Window(Window),
    /// A part does not come in the order of the keys: begin again with this one sorted.
    Disordered(usize),
}

pub(super) struct Stream<'a> {
    source: &'a dyn SourceWitness,
    excused: &'a dyn Excused,
    relation: Arc<Relation>,
    limits: Limits,
    parts: Vec<Reading>,
    done: bool,
}

/// The reading of one old table.
struct Reading {
    place: Place,
    /// The last row read, behind those in the buffer.
    read: Option<RawKey>,
    /// The page behind a row, read while the one before it was computed with.
    ahead: Option<(RawKey, Vec<Witnessed>)>,
    /// The highest key read.
    highest: Option<Vec<Canon>>,
    buffer: VecDeque<Entry>,
    ended: bool,
    pages: Pages,
}

/// How many rows to ask for, so that a page has the bytes it may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages {
    rows: u32,
}

impl Pages {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { rows: limits.rows.clamp(1, 200) }
    }

    pub(super) fn rows(self) -> u32 {
        self.rows
    }

    /// After a page whose largest row had so many bytes.
    pub(super) fn saw(&mut self, largest: usize, limits: &Limits) {
        let fit = limits.bytes / largest.max(1);
        let grown = self.rows.saturating_mul(2);
        self.rows = u32::try_from(fit).unwrap_or(u32::MAX).min(grown).min(limits.rows).max(1);
    }
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        source: &'a dyn SourceWitness,
        excused: &'a dyn Excused,
        relation: Arc<Relation>,
        limits: Limits,
        places: &[Place],
        until: Option<&Vec<Canon>>,
    ) -> Self {
        let parts = (0..relation.parts.len()).map(|at| {
            let place = places.get(at).cloned().unwrap_or_default();
            let read = place.after.as_ref().map(SavedKey::raw);
            let (buffer, pages) = (VecDeque::new(), Pages::new(&limits));
            Reading { place, read, ahead: None, highest: until.cloned(), buffer, ended: false, pages }
        });
        let parts = parts.collect();
        Self { source, excused, relation, limits, parts, done: false }
    }

    /// The next window; `None` behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<Step>> {
        if self.done {
            return Ok(None);
        }
        for part in 0..self.parts.len() {
            while !self.parts[part].ended
                && !self.parts[part].buffer.iter().any(|entry| entry.row.key.is_some())
            {
                let in_order = if self.parts[part].place.sorted {
                    self.pass(part).await?;
                    true
                } else {
                    self.page(part).await?
                };
                if !in_order {
                    return Ok(Some(Step::Disordered(part)));
                }
            }
        }
        let open = self.parts.iter().filter(|reading| !reading.ended);
        // Of each table that goes on, what is behind the last row in the buffer is not known yet.
        let until = open
            .filter_map(|reading| reading.buffer.iter().rev().find_map(|entry| entry.row.key.clone()))
            .min();
        let mut entries: Vec<Entry> = Vec::new();
        for reading in &mut self.parts {
            while let Some(entry) = reading.buffer.front() {
                if until.is_some() && entry.row.key > until {
                    break;
                }
                if reading.place.sorted {
                    reading.place.floor = entry.row.key.clone().or(reading.place.floor.take());
                } else {
                    reading.place.after = Some(SavedKey::of(&entry.row.walk));
                }
                entries.extend(reading.buffer.pop_front());
            }
        }
        // Stable: rows of one key stay in the order of the parts.
        entries.sort_by(|a, b| a.row.key.cmp(&b.row.key));
        self.done = until.is_none();
        let places = self.parts.iter().map(|reading| reading.place.clone()).collect();
        Ok(Some(Step::Window(Window { entries: entries.into(), until, places })))
    }

    /// Reads the next page of a part in its own order; whether that was the order of the keys.
    async fn page(&mut self, at: usize) -> Result<bool> {
        let rows = self.read(at, self.parts[at].read.clone()).await?;
        let reading = &mut self.parts[at];
        let Some(last) = rows.last() else {
            reading.ended = true;
            return Ok(true);
        };
        reading.read = Some(last.walk.clone());
        for row in &rows {
            if row.key.is_none() {
                continue;
            }
            if row.key <= reading.highest {
                return Ok(false);
            }
            reading.highest.clone_from(&row.key);
        }
        let entries = self.judged(at, rows).await?;
        self.parts[at].buffer.extend(entries);
        Ok(true)
    }

    /// Reads the whole part once and keeps the rows with the next keys.
    async fn pass(&mut self, at: usize) -> Result<()> {
        let floor = self.parts[at].place.floor.clone();
        let mut kept: BTreeMap<(Vec<Canon>, usize), Expected> = BTreeMap::new();
        let mut keyless = Vec::new();
        // The lowest key that did not fit: of those from it on, some rows may be missing.
        let mut cut: Option<Vec<Canon>> = None;
        let (mut after, mut number) = (None, 0);
        loop {
            let rows = self.read(at, after).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.walk.clone());
            for row in rows {
                number += 1;
                let is_above = |key: &Vec<Canon>| floor.as_ref().is_none_or(|floor| key > floor);
                let fits = |key: &Vec<Canon>| cut.as_ref().is_none_or(|cut| key < cut);
                match row.key.clone() {
                    None if floor.is_none() => keyless.push(row),
                    Some(key) if is_above(&key) && fits(&key) => {
                        kept.insert((key, number), row);
                    }
                    _ => {}
                }
                if kept.len() > self.limits.sorted.max(1)
                    && let Some(((key, _), _)) = kept.pop_last()
                {
                    cut = Some(key);
                }
            }
        }
        if let Some(cut) = &cut {
            kept.retain(|(key, _), _| key < cut);
            if kept.is_empty() {
                let part = &self.relation.parts[at];
                return Err(Error::invalid(format!("{}: too many rows have one key", part.source)));
            }
        }
        self.parts[at].ended = cut.is_none();
        let rows = keyless.into_iter().chain(kept.into_values()).collect();
        let entries = self.judged(at, rows).await?;
        self.parts[at].buffer.extend(entries);
        Ok(())
    }

    /// A page of the old table, made into what the relation has to hold, away from the threads that wait for the stores. The
    /// page behind it is read meanwhile.
    async fn read(&mut self, at: usize, after: Option<RawKey>) -> Result<Vec<Expected>> {
        let (source, part) = (self.source, &self.relation.parts[at]);
        let reading = &mut self.parts[at];
        let page = |after: Option<RawKey>, rows| async move {
            source.rows(&part.source, &part.walk, &part.read, after.as_ref(), None, rows).await
        };
        let rows = match reading.ahead.take() {
            Some((behind, rows)) if Some(&behind) == after.as_ref() => rows,
            _ => page(after, reading.pages.rows()).await?,
        };
        reading.pages.saw(rows.iter().map(size).max().unwrap_or(0), &self.limits);
        let Some(last) = rows.last().map(|row| row.key.clone()) else { return Ok(Vec::new()) };
        let relation = Arc::clone(&self.relation);
        let made = away(move || rows.iter().map(|row| relation.parts[at].expected(row)).collect());
        let (made, ahead) = tokio::try_join!(made, page(Some(last.clone()), reading.pages.rows()))?;
        reading.ahead = Some((last, ahead));
        Ok(made)
    }

    async fn judged(&self, at: usize, rows: Vec<Expected>) -> Result<Vec<Entry>> {
        let keys: Vec<_> = rows.iter().map(|row| row.declared.clone()).collect();
        let excuses = self.excused.which(&self.relation.parts[at].name, &keys).await?;
        let entries = rows.into_iter().zip(excuses).map(|(row, excuse)| Entry { row, part: at, excuse });
        Ok(entries.collect())
    }
}

fn size(row: &Witnessed) -> usize {
    row.values.iter().flatten().map(|(_, bytes)| bytes.len() + 32).sum()
}

/// Runs computing work on a thread for it.
pub(super) async fn away<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(changeover_core::ErrorKind::Unexpected, format!("digests: {error}")))
}
