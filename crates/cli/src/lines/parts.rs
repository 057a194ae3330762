//! Batches of which some line is refused.

use changeover::Error;

use super::import::{Report, is_about_the_data};
use crate::exit::Failure;

/// Stores lines in their order by an all-or-nothing `store`, which answers how many it stored and how many were stored
/// before. A batch that is refused is halved until the refused lines stand alone: these are returned with their errors,
/// in their order, and all others are stored.
pub async fn in_parts<L>(
    lines: Vec<(u64, L)>,
    report: &mut Report<'_>,
    store: impl AsyncFn(&[(u64, L)]) -> Result<(usize, usize), Error>,
) -> Result<Parts<L>, Failure> {
    let mut refused = Vec::new();
    let mut parts = vec![(0, lines.len())];
    while let Some((start, end)) = parts.pop() {
        let part = &lines[start..end];
        let Some((first, _)) = part.first() else { continue };
        match store(part).await {
            Ok((stored, repeated)) => report.add(stored, repeated),
            Err(error) if !is_about_the_data(error.kind()) => return Err(report.stopped(error, *first)),
            Err(error) if part.len() == 1 => refused.push((start, error)),
            Err(_) => {
                let middle = start + part.len() / 2;
                parts.push((middle, end));
                parts.push((start, middle));
            }
        }
    }
    let mut refused = refused.into_iter().peekable();
    let mut done = Parts { stored: Vec::new(), refused: Vec::new() };
    for (index, (number, line)) in lines.into_iter().enumerate() {
        match refused.next_if(|(at, _)| *at == index) {
            Some((_, error)) => done.refused.push((number, line, error)),
            None => done.stored.push(line),
        }
    }
    Ok(done)
}

/// What became of a batch.
pub struct Parts<L> {
    /// What is stored now.
    pub stored: Vec<L>,
    /// What was refused, with its number and the reason.
    pub refused: Vec<(u64, L, Error)>,
}
