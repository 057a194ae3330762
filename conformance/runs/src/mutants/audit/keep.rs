//! Verifications that overlook something, and retention that removes too much.

use async_trait::async_trait;
use changeover_conformance::Subject;
use changeover_core::audit::{ChainReport, Retain, Retained, VerifyChain};
use changeover_core::{AuditRepository, Result};

use super::{Flaw, subject};

pub(super) fn subjects() -> Vec<Subject> {
    vec![
        subject::<OrderUnchecked>(),
        subject::<EndUnchecked>(),
        subject::<DryRunRemoves>(),
        subject::<DayTooEarly>(),
    ]
}

/// A report that keeps quiet about some breaks.
async fn quiet(store: &dyn AuditRepository, request: VerifyChain, about: &str) -> Result<ChainReport> {
    let mut report = store.verify(request).await?;
    report.broken = report.broken.filter(|broken| !broken.problem.contains(about));
    Ok(report)
}

#[derive(Default)]
struct OrderUnchecked;

#[async_trait]
impl Flaw for OrderUnchecked {
    const NAME: &'static str = "a verification looks at each record alone, not at their order";

    async fn verify(&self, store: &dyn AuditRepository, request: VerifyChain) -> Result<ChainReport> {
        quiet(store, request, "does not follow").await
    }
}

#[derive(Default)]
struct EndUnchecked;

#[async_trait]
impl Flaw for EndUnchecked {
    const NAME: &'static str = "a verification does not notice a missing end";

    async fn verify(&self, store: &dyn AuditRepository, request: VerifyChain) -> Result<ChainReport> {
        quiet(store, request, "ends before").await
    }
}

#[derive(Default)]
struct DryRunRemoves;

#[async_trait]
impl Flaw for DryRunRemoves {
    const NAME: &'static str = "a dry run removes";

    async fn retain(&self, store: &dyn AuditRepository, request: Retain) -> Result<Retained> {
        store.retain(Retain { dry_run: false, ..request }).await
    }
}

#[derive(Default)]
struct DayTooEarly;

#[async_trait]
impl Flaw for DayTooEarly {
    const NAME: &'static str = "events go a day before they are due";

    async fn retain(&self, store: &dyn AuditRepository, mut request: Retain) -> Result<Retained> {
        for rule in &mut request.rules {
            // 0 days stay what they are: a mistake of the caller.
            rule.days = rule.days.saturating_sub(1).max(rule.days.min(1));
        }
        store.retain(request).await
    }
}
