//! Kill points: named places at which a test stops the program for good.
//!
//! With the feature `failpoints` a process whose environment has `CHANGEOVER_FAILPOINT=NAME` (or `NAME:N` for the N-th time)
//! prints `at NAME` to its standard output when it comes to that place, and stays there until it is killed, or goes on when a
//! line comes on its standard input. Without the feature a place is nothing.

/// Every place, in the order of a run: before a transaction is sent, or after its reply came.
pub const ALL: &[&str] = &[
    "prepare.before",
    "prepare.sqlite",
    "prepare.postgres",
    "copy.read",
    "copy.stored",
    "copy.end",
    "index.after",
    "follow.read",
    "follow.applied",
    "verify.before",
    "verify.after",
    "link.after",
    "fence.before",
    "fence.sqlite",
    "fence.recorded",
    "drain.after",
    "prove.after",
    "seal.after",
    "sealed.after",
    "switch.before",
    "switch.after",
    "unfence.postgres",
    "unfence.sqlite",
    "abort.before",
    "abort.postgres",
    "abort.sqlite",
    "revert.before",
    "revert.read",
    "revert.written",
    "revert.fenced",
    "revert.drained",
    "revert.stayed",
    "revert.postgres",
    "revert.sqlite",
    "finalize.before",
    "finalize.postgres",
    "finalize.sqlite",
    "archive.before",
    "archive.file",
    "archive.recorded",
];

#[cfg(feature = "failpoints")]
pub(super) async fn point(name: &'static str) {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU64, Ordering};

    static SEEN: AtomicU64 = AtomicU64::new(0);
    debug_assert!(ALL.contains(&name), "{name} is not listed");
    let Ok(wanted) = std::env::var("CHANGEOVER_FAILPOINT") else { return };
    let (wanted, times) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    if wanted != name || SEEN.fetch_add(1, Ordering::SeqCst) + 1 != times.parse().unwrap_or(1) {
        return;
    }
    let mut out = std::io::stdout();
    let _ = writeln!(out, "at {name}").and_then(|()| out.flush());
    let heard = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    if !matches!(heard.await, Ok(Ok(bytes)) if bytes > 0) {
        std::future::pending::<()>().await;
    }
}

#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unused_async, reason = "as with the feature")]
pub(super) async fn point(_name: &'static str) {}
