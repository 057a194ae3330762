//! `audit verify`: the hash chain of a correlation id.

use changeover::audit::{Break, VerifyChain};
use changeover::{AuditRepository, Text, Uuid, hex};
use serde::Serialize;

use crate::exit::{Failure, Status};
use crate::output::{Out, printable};

/// What was found, as programs read it.
#[derive(Serialize)]
struct Chain<'a> {
    correlation_id: &'a str,
    events: u64,
    head: Option<&'a str>,
    holds: bool,
    broken_at: Option<Uuid>,
    problem: Option<&'a str>,
}

pub async fn verify(
    repository: &dyn AuditRepository,
    correlation_id: Text<255>,
    out: &mut Out,
) -> Result<Status, Failure> {
    let report = repository.verify(VerifyChain { correlation_id: correlation_id.clone() }).await?;
    let head = report.head.as_ref().map(|link| hex(link));
    let broken = report.broken.as_ref();
    if out.is_json() {
        out.object(&Chain {
            correlation_id: correlation_id.as_str(),
            events: report.events,
            head: head.as_deref(),
            holds: broken.is_none(),
            broken_at: broken.map(|broken| broken.event_id),
            problem: broken.map(|broken| broken.problem.as_str()),
        })?;
    }
    let chain = printable(&format!("the chain of {correlation_id}"));
    if let Some(Break { event_id, problem }) = broken {
        return Err(Failure::refused(format!(
            "{chain} is broken at event {event_id}: {problem}; {} records were looked at",
            report.events
        )));
    }
    if !out.is_json() {
        let head = head.map_or_else(String::new, |head| format!(", its last link is {head}"));
        out.line(&format!("{chain} holds: {} records{head}", report.events))?;
    }
    Ok(Status::Done)
}
