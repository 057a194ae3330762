//! Paired rounds and what is printed of them.

use std::time::{Duration, Instant};

use crate::AnyError;

/// How a point is measured.
#[derive(Clone, Copy)]
pub struct Plan {
    /// One round of one side.
    pub seconds: f64,
    /// Pairs of rounds.
    pub rounds: usize,
}

impl Plan {
    /// One round.
    pub fn round(self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// What one round of one side gave.
#[derive(Clone, Copy)]
pub struct Round {
    /// The figure: events a second, or milliseconds.
    pub figure: f64,
    /// How many operations failed.
    pub errors: u64,
}

/// What is wanted of a ratio.
#[derive(Clone, Copy)]
pub enum Goal {
    /// Ours over raw, more is better.
    AtLeast(f64),
    /// Ours over raw, less is better.
    AtMost(f64),
    /// Printed for knowledge.
    None,
}

/// Measures one point and prints its line.
pub async fn point<A, B>(
    plan: Plan,
    name: &str,
    unit: &str,
    goal: Goal,
    mut raw: impl FnMut() -> A,
    mut ours: impl FnMut() -> B,
) -> Result<(), AnyError>
where
    A: Future<Output = Result<Round, AnyError>>,
    B: Future<Output = Result<Round, AnyError>>,
{
    // One round each that is not counted: caches, connections, statements.
    raw().await?;
    ours().await?;
    let (mut raws, mut own, mut ratios, mut errors) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 0..plan.rounds {
        let (a, b) = if round % 2 == 0 {
            let a = raw().await?;
            (a, ours().await?)
        } else {
            let b = ours().await?;
            (raw().await?, b)
        };
        errors += a.errors + b.errors;
        raws.push(a.figure);
        own.push(b.figure);
        ratios.push(b.figure / a.figure);
    }
    let (raws, own, ratios) = (Spread::of(raws), Spread::of(own), Spread::of(ratios));
    let verdict = match goal {
        Goal::AtLeast(goal) => {
            format!("goal >= {goal}: {}", if ratios.median >= goal { "met" } else { "missed" })
        }
        Goal::AtMost(goal) => {
            format!("goal <= {goal}: {}", if ratios.median <= goal { "met" } else { "missed" })
        }
        Goal::None => "no goal".to_owned(),
    };
    println!(
        "{name:<44} raw {:>9.1} ({:.1}-{:.1}) ours {:>9.1} ({:.1}-{:.1}) {unit}  ratio {:.2} ({:.2}-{:.2})  {verdict}{}",
        raws.median,
        raws.low,
        raws.high,
        own.median,
        own.low,
        own.high,
        ratios.median,
        ratios.low,
        ratios.high,
        if errors == 0 { String::new() } else { format!("  {errors} ERRORS") },
    );
    Ok(())
}

struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let middle = figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN);
        Self {
            low: figures.first().copied().unwrap_or(f64::NAN),
            median: middle,
            high: figures.last().copied().unwrap_or(f64::NAN),
        }
    }
}

/// The value below which this share of the figures lies.
pub fn percentile(figures: &mut [f64], share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = ((figures.len() as f64 - 1.0) * share).round() as usize;
    figures.get(index).copied().unwrap_or(f64::NAN)
}

/// The median time of an operation repeated for a round.
pub async fn timed(
    plan: Plan,
    mut operation: impl AsyncFnMut() -> Result<usize, AnyError>,
) -> Result<Round, AnyError> {
    let begin = Instant::now();
    let mut latencies = Vec::new();
    while begin.elapsed() < plan.round() {
        let sent = Instant::now();
        operation().await?;
        latencies.push(sent.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(Round { figure: percentile(&mut latencies, 0.5), errors: 0 })
}
