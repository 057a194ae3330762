//! The vectors that a search looks at, in memory: a product with all of them says which few can be results, and those
//! are judged by core's own figure.
//!
//! A native file counts the changes that a search can see, whoever makes them, so there the matrix is kept until the
//! count moves. An adopted file has no such count; its catalog is read for each search. Of 50,000 rows it holds 80 MB.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use changeover_core::playbooks::{Embedding, PlaybookId, PlaybookVersion, Search, floor};
use changeover_core::{Error, Result};
use diesel::SqliteConnection;

use super::decode::{self, TABLE};
use super::tables::Catalog;
use crate::classify::Failure;
use crate::sql::{self, Bind, Row};
use crate::values::Reader;

/// How far a product of unit vectors in single precision may be from the confidence in double precision: far more than
/// rounding makes of 384 terms.
const MARGIN: f32 = 1e-4;

/// The rows that are marked latest and active.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    /// How often the catalog had changed; `None` where nobody counts.
    changes: Option<i64>,
    rows: Vec<Entry>,
    /// The vectors of `rows`, made one long.
    units: Vec<f32>,
    unembedded: Vec<(Labels, i64)>,
    /// Rows that cannot be judged. One of them may be the best, so a search that it may belong to names it.
    broken: Vec<(Labels, Error)>,
}

/// `None` if they cannot be read; then they pass no filter.
type Labels = Option<BTreeMap<String, String>>;

#[derive(Debug)]
struct Entry {
    playbook: PlaybookId,
    version: PlaybookVersion,
    labels: Labels,
}

/// What may be a result.
pub(super) struct Candidates {
    /// Their confidence is to be computed.
    pub(super) near: Vec<(PlaybookId, PlaybookVersion)>,
    /// Their confidence is 0.
    pub(super) opposite: Vec<(PlaybookId, PlaybookVersion)>,
    /// Their vector is to be made, by place.
    pub(super) unembedded: Vec<i64>,
}

impl Matrix {
    /// Whether it is of a catalog that changed this often.
    pub(super) fn is_of(&self, changes: Option<i64>) -> bool {
        changes.is_some() && self.changes == changes
    }

    pub(super) fn load(
        conn: &mut SqliteConnection,
        catalog: &Catalog<'_>,
        changes: Option<i64>,
    ) -> Result<Self, Failure> {
        let mut matrix = Self { changes, ..Self::default() };
        sql::each(conn, &catalog.sql.candidates, &[Bind::Text(catalog.tenant)], |row| {
            matrix.add(&row);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(matrix)
    }

    fn add(&mut self, row: &Row) {
        let key = decode::key_of(row, 1, 2);
        let read = Reader { table: TABLE, row, key: &key };
        let labels = decode::labels(&read, 6).ok();
        let entry = || {
            decode::is_latest(&read, 3, 4)?;
            let playbook = read.text("playbook_id", 1)?;
            let version = PlaybookVersion::new(read.str("version", 2)?);
            let version = version.map_err(|error| read.corrupt("version", error.message()))?;
            let vector = read.optional("embedding", 5, |read, _, index| decode::embedding(read, index))?;
            Ok::<_, Error>((playbook, version, vector))
        };
        match entry() {
            Err(error) => self.broken.push((labels, error)),
            Ok((_, _, None)) => {
                self.unembedded.push((labels, row.cell(0).as_int().unwrap_or_default()));
            }
            Ok((playbook, version, Some(vector))) => {
                self.units.extend(unit(&vector));
                self.rows.push(Entry { playbook, version, labels });
            }
        }
    }

    pub(super) fn candidates(&self, query: &Embedding, request: &Search) -> Result<Candidates> {
        let passes = |labels: &Labels| match labels {
            _ if request.labels.is_empty() => true,
            None => false,
            Some(labels) => request.labels.iter().all(|(key, value)| labels.get(key) == Some(value)),
        };
        if let Some((_, error)) = self.broken.iter().find(|(labels, _)| passes(labels)) {
            return Err(error.clone());
        }
        let query: Vec<_> = unit(query).collect();
        let products = self.rows.iter().zip(self.units.chunks_exact(Embedding::LEN));
        let mut found: Vec<_> = products
            .filter(|(entry, _)| passes(&entry.labels))
            .map(|(entry, vector)| (dot(&query, vector), entry))
            .collect();
        let wanted = request.max_results.get() as usize;
        let mut least = f64::from(-MARGIN) + floor(request.min_confidence);
        if found.len() > wanted {
            // Whatever is among the wanted ones by its confidence is not below the last of them here by more than this.
            let (_, last, _) = found.select_nth_unstable_by(wanted - 1, |a, b| b.0.total_cmp(&a.0));
            least = least.max(f64::from(last.0.max(0.0) - 2.0 * MARGIN));
        }
        let (mut near, mut opposite) = (Vec::new(), Vec::new());
        for (product, entry) in found {
            let into = if product < -MARGIN { &mut opposite } else { &mut near };
            if f64::from(product.max(0.0)) >= least {
                into.push((entry.playbook.clone(), entry.version.clone()));
            }
        }
        let unembedded = self.unembedded.iter().filter(|(labels, _)| passes(labels));
        Ok(Candidates { near, opposite, unembedded: unembedded.map(|(_, place)| *place).collect() })
    }
}

/// The vector made one long; zeros stay zeros.
#[expect(clippy::cast_possible_truncation, reason = "the margin allows for it")]
fn unit(vector: &Embedding) -> impl Iterator<Item = f32> {
    let squares = vector.as_slice().iter().map(|number| f64::from(*number).powi(2));
    let length = squares.sum::<f64>().sqrt();
    let scale = if length > 0.0 { length.recip() } else { 0.0 };
    vector.as_slice().iter().map(move |number| (f64::from(*number) * scale) as f32)
}

/// In lanes, which the compiler turns into vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(seed: u32) -> Embedding {
        let mut state = seed;
        let numbers = (0..Embedding::LEN).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).unwrap()) / 32_768.0 - 1.0
        });
        Embedding::new(numbers.collect::<Vec<_>>()).unwrap()
    }

    // S3-PB-021: the product is within the margin of core's figure, whatever the length of the vectors.
    #[test]
    fn the_product_of_unit_vectors_is_within_the_margin() {
        let long = |vector: &Embedding, by: f32| {
            Embedding::new(vector.as_slice().iter().map(|number| number * by).collect::<Vec<_>>()).unwrap()
        };
        for seed in 0..300 {
            let (a, b) = (vector(seed), vector(seed / 3 + 1));
            for (a, b) in
                [(a.clone(), b.clone()), (long(&a, 1e30), b.clone()), (long(&a, 1e-30), long(&b, -1e20))]
            {
                let (a_unit, b_unit): (Vec<_>, Vec<_>) = (unit(&a).collect(), unit(&b).collect());
                let product = f64::from(dot(&a_unit, &b_unit).max(0.0));
                let right = a.confidence(&b);
                assert!((product - right).abs() < f64::from(MARGIN) / 10.0, "{product} is not {right}");
            }
        }
        let zeros = Embedding::new(vec![0.0; Embedding::LEN]).unwrap();
        assert!(unit(&zeros).all(|number| number == 0.0));
    }
}
