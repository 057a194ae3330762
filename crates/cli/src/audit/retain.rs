//! `audit retain`: what is older than its category is kept goes, step by step.

use std::collections::BTreeSet;

use changeover::audit::{AuditFilter, Keep, Retain as Request, Retained};
use changeover::{AuditRepository, Limit, Timestamp};
use serde::Serialize;

use crate::args::Retain;
use crate::exit::{Failure, Status};
use crate::interrupt::Interrupt;
use crate::lines::Progress;
use crate::output::Out;

/// Before anything is asked of the database.
pub fn check(options: &Retain) -> Result<(), Failure> {
    request(options, Timestamp::now()).validate().map_err(|error| usage(error.message()))?;
    if !options.dry_run && !options.yes {
        return Err(usage(
            "records that are removed cannot be had back: give --dry-run to count them, --yes to remove them",
        ));
    }
    Ok(())
}

fn usage(message: &str) -> Failure {
    Failure::usage(format!("{message}\n  `changeover audit retain --help` tells more"))
}

fn request(options: &Retain, now: Timestamp) -> Request {
    Request { rules: options.rules.clone(), now, dry_run: options.dry_run, limit: options.limit }
}

pub async fn retain(
    repository: &dyn AuditRepository,
    options: Retain,
    out: &mut Out,
) -> Result<Status, Failure> {
    let now = Timestamp::now();
    if options.dry_run {
        return dry_run(repository, &options, now, out).await;
    }
    let mut interrupt = Interrupt::listen()?;
    let mut progress = Progress::new(None, out.is_quiet());
    let mut sum = Sum::new(&options.rules);
    loop {
        let step = tokio::select! {
            biased;
            () = interrupt.wait() => {
                progress.finish();
                sum.report(&options, out)?;
                return Err(Failure::failed("interrupted; run the same command again to go on"));
            }
            step = repository.retain(request(&options, now)) => step,
        };
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                progress.finish();
                sum.report(&options, out)?;
                return Err(error.into());
            }
        };
        let removed = sum.add(&step);
        progress.removed(sum.all());
        if step.done {
            break;
        }
        if removed == 0 {
            return Err(Failure::failed(
                "a step removed nothing and is not the last one; this is a defect of the backend",
            ));
        }
    }
    progress.finish();
    sum.report(&options, out)?;
    Ok(Status::Done)
}

/// What has been removed so far.
struct Sum {
    removed: Vec<u64>,
    months: BTreeSet<String>,
    /// Whether fewer may go than is counted.
    at_most: bool,
}

/// A rule and what became of it, as programs read it.
#[derive(Serialize)]
struct Row<'a> {
    category: &'a str,
    days: u32,
    removed: u64,
    dry_run: bool,
    /// Whether fewer may go than is counted.
    at_most: bool,
}

#[derive(Serialize)]
struct Months<'a> {
    months: &'a BTreeSet<String>,
}

impl Sum {
    fn new(rules: &[Keep]) -> Self {
        Self { removed: vec![0; rules.len()], months: BTreeSet::new(), at_most: false }
    }

    /// Returns how many the step removed. Its entries are those of the rules, in their order.
    fn add(&mut self, step: &Retained) -> u64 {
        for (sum, (_, removed)) in self.removed.iter_mut().zip(&step.removed) {
            *sum += removed;
        }
        self.months.extend(step.months.iter().cloned());
        step.removed.iter().map(|(_, removed)| removed).sum()
    }

    fn all(&self) -> u64 {
        self.removed.iter().sum()
    }

    fn report(&self, options: &Retain, out: &mut Out) -> Result<(), Failure> {
        let dry_run = options.dry_run;
        let rows = options.rules.iter().zip(&self.removed);
        if out.is_json() {
            for (Keep { category, days }, removed) in rows {
                let (category, at_most) = (category.as_str(), self.at_most);
                out.object(&Row { category, days: *days, removed: *removed, dry_run, at_most })?;
            }
            return if self.months.is_empty() {
                Ok(())
            } else {
                out.object(&Months { months: &self.months })
            };
        }
        let rows: Vec<_> = rows
            .map(|(rule, removed)| [rule.category.to_string(), rule.days.to_string(), removed.to_string()])
            .collect();
        let last = match (dry_run, self.at_most) {
            (false, _) => "removed",
            (true, false) => "would be removed",
            (true, true) => "would be removed, at most",
        };
        out.rows(["category", "days", last], &rows)?;
        if !self.months.is_empty() {
            let months: Vec<_> = self.months.iter().map(String::as_str).collect();
            out.line(&format!("whole months: {}", months.join(", ")))?;
        }
        Ok(())
    }
}

/// One step tells what a first step would remove. Where more would go, what is due is counted: parents of what stays
/// are among that.
async fn dry_run(
    repository: &dyn AuditRepository,
    options: &Retain,
    now: Timestamp,
    out: &mut Out,
) -> Result<Status, Failure> {
    let step =
        repository.retain(Request { limit: Limit::new(Limit::MAX.into())?, ..request(options, now) }).await?;
    let mut sum = Sum::new(&options.rules);
    sum.add(&step);
    if !step.done {
        sum.at_most = true;
        for (removed, rule) in sum.removed.iter_mut().zip(&options.rules) {
            let filter = AuditFilter {
                event_category: Some(rule.category.clone()),
                end: Some(due_before(now, rule.days)),
                ..AuditFilter::default()
            };
            *removed = repository.count(filter).await?;
        }
    }
    sum.report(options, out)?;
    Ok(Status::Done)
}

/// Records before this time are due: their date lies `days` before that of `now`, or more.
fn due_before(now: Timestamp, days: u32) -> Timestamp {
    const DAY: i64 = 86_400 * 1_000_000;
    let midnight = now.as_micros() - now.as_micros().rem_euclid(DAY);
    let back = (i64::from(days) - 1).saturating_mul(DAY);
    Timestamp::from_micros(midnight.saturating_sub(back)).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    // S3-AUD, X-EDGE-119: a record is due by its date, not by the hour.
    #[test]
    fn what_is_due_ends_at_midnight() {
        let now = Timestamp::parse("2026-03-02T23:59:59Z").unwrap();
        assert_eq!(due_before(now, 1).to_string(), "2026-03-02T00:00:00.000000Z");
        assert_eq!(due_before(now, 2).to_string(), "2026-03-01T00:00:00.000000Z");
        assert_eq!(due_before(now, 30).to_string(), "2026-02-01T00:00:00.000000Z");
        assert_eq!(due_before(now, u32::MAX), Timestamp::MIN);
    }
}
