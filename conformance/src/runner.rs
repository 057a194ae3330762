//! Runs cases: one by name for a test, or all of them for several backends at once.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use changeover_core::backend::Family;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use crate::catalogue::{Case, cases};
use crate::harness::{AnyHarness, Harness};
use crate::report::{CaseResult, Column, Outcome};
use crate::support::NOTES;

/// How long a case may take.
const CASE_LIMIT: Duration = Duration::from_mins(1);
/// How long a place may take to be made ready: the first one may have to fetch a server.
const START_LIMIT: Duration = Duration::from_mins(5);

type Started = Result<Arc<dyn AnyHarness>, String>;

/// A backend that can be put under the suite.
#[derive(Clone, Copy)]
pub struct Subject {
    /// The name of its column.
    pub name: &'static str,
    /// The stores that are asked.
    pub stores: &'static [Family],
    start: fn() -> BoxFuture<'static, Started>,
}

impl Subject {
    /// The set-up that `H` brings.
    pub fn of<H: Harness>() -> Self {
        Self { name: H::NAME, stores: H::STORES, start: || start::<H>().boxed() }
    }
}

async fn start<H: Harness>() -> Started {
    match tokio::time::timeout(START_LIMIT, AssertUnwindSafe(H::start()).catch_unwind()).await {
        Ok(Ok(Ok(harness))) => Ok(Arc::new(harness)),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(panic)) => Err(message(&*panic)),
        Err(_) => Err(format!("not ready after {START_LIMIT:?}")),
    }
}

/// Runs one case as a test: panics if it fails. A backend left out by `CONFORMANCE_WITHOUT` is said to be NOT CERTIFIED.
///
/// # Panics
/// If the case fails, there is no such case, the backend does not bring the store, or it cannot be started.
pub fn check<H: Harness>(store: Family, module: &str, name: &str) {
    if left_out(H::NAME) {
        println!("{}: NOT CERTIFIED, left out by CONFORMANCE_WITHOUT", H::NAME);
        return;
    }
    let this = |case: &&Case| case.store == store && case.module == module && case.name == name;
    let case = cases().iter().find(this).unwrap_or_else(|| panic!("no case {module}::{name}"));
    assert!(H::STORES.contains(&store), "{} brings no store of {}", H::NAME, store.as_str());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    // Only fails where no thread can be had.
    let result = runtime.expect("a runtime").block_on(one(case, Subject::of::<H>()));
    if let Outcome::Failed(why) = result.result {
        panic!("{} {} on {}: {why}", result.id, result.name, H::NAME);
    }
}

/// Whether the environment leaves a backend out: `CONFORMANCE_WITHOUT` names it, or its first word, among others.
pub fn left_out(name: &str) -> bool {
    let word = name.split('-').next().unwrap_or(name);
    std::env::var("CONFORMANCE_WITHOUT")
        .is_ok_and(|names| names.split(',').map(str::trim).any(|left| left == name || left == word))
}

/// Runs every case of a backend's stores against it, `parallel` at a time.
pub async fn run(subject: Subject, parallel: usize) -> Column {
    if left_out(subject.name) {
        return Column::NotCertified("left out by CONFORMANCE_WITHOUT".to_owned());
    }
    // A backend that cannot be started fails once, with its reason, and not once a case.
    if let Err(why) = (subject.start)().await {
        return Column::NotStarted(why);
    }
    let results = futures::stream::iter(cases()).map(|case| async move {
        if subject.stores.contains(&case.store) {
            one(case, subject).await
        } else {
            CaseResult { result: Outcome::NotOffered, ..unasked(case) }
        }
    });
    let results = results.buffered(parallel.max(1));
    Column::Ran(results.collect().await)
}

fn unasked(case: &Case) -> CaseResult {
    CaseResult { id: case.id(), name: case.path(), result: Outcome::Passed, ms: 0, notes: Vec::new() }
}

async fn one(case: &'static Case, subject: Subject) -> CaseResult {
    let mut result = unasked(case);
    let harness = match (subject.start)().await {
        Ok(harness) => harness,
        Err(why) => {
            result.result = Outcome::Failed(format!("no place for the case: {why}"));
            return result;
        }
    };
    let began = Instant::now();
    // In a task of its own, so that a case that blocks its thread does not stop the clock.
    let task = tokio::spawn(NOTES.scope(RefCell::default(), async move {
        let outcome =
            tokio::time::timeout(CASE_LIMIT, AssertUnwindSafe((case.run)(&*harness)).catch_unwind());
        let outcome = match outcome.await {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(panic)) => Outcome::Failed(message(&*panic)),
            Err(_) => Outcome::Failed(format!("not done after {CASE_LIMIT:?}")),
        };
        (outcome, NOTES.with(RefCell::take))
    }));
    match tokio::time::timeout(CASE_LIMIT * 2, task).await {
        Ok(Ok((outcome, notes))) => (result.result, result.notes) = (outcome, notes),
        Ok(Err(error)) => result.result = Outcome::Failed(error.to_string()),
        Err(_) => result.result = Outcome::Failed("blocks its thread for ever".to_owned()),
    }
    result.ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    result
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panicked without a message")
        .to_owned()
}
