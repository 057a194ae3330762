//! Shared commits. Positions must rise in commit order, so the writers of a module take turns from their first position
//! to the end of their commit. Instead of one commit after another, appends of one module and tenant that have to wait
//! anyway are stored by one call and one commit: each keeps an outcome of its own.
//!
//! An append that finds the lane idle goes straight through. While one call is under way, later appends gather, and the
//! next call takes them all. Two that share a stream, an event id or a consumer go in different calls, in their order.
//! After a call for many, the lane lets those who were answered run once before it makes the next call: they are likely to
//! come back with the next append, and would otherwise just miss it.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use changeover_core::events::{Append, Appended};
use changeover_core::{Applied, Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::Log;

/// The most requests of one call.
const MAX_REQUESTS: usize = 256;
/// The most events of one call, unless a single request has more.
const MAX_EVENTS: usize = 4_096;
/// The most bytes of JSON of one call, unless a single request has more.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// The longest wait for those who were just answered.
const GATHER: Duration = Duration::from_micros(300);
/// How often the lane steps aside without a new append before it goes on.
const QUIET: u32 = 3;

/// The appends of one module and tenant on their way to the database.
pub(crate) struct Lane {
    log: Arc<Log>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    under_way: bool,
    waiting: VecDeque<Waiting>,
    hasher: RandomState,
}

struct Waiting {
    request: Append,
    reply: oneshot::Sender<Result<Appended>>,
}

impl Lane {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self { log, queue: Mutex::default() }
    }

    /// Appends a request that was validated. A caller that is dropped meanwhile changes nothing for the others.
    pub(crate) async fn append(self: &Arc<Self>, request: Append) -> Result<Appended> {
        let (reply, answer) = oneshot::channel();
        let idle = {
            let mut queue = self.lock();
            queue.waiting.push_back(Waiting { request, reply });
            !std::mem::replace(&mut queue.under_way, true)
        };
        if idle {
            let lane = Arc::clone(self);
            tokio::spawn(async move { lane.run().await });
        }
        answer.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unexpected, "the task that writes has ended").applied(Applied::Unknown))
        })
    }

    async fn run(self: Arc<Self>) {
        let stop = Stop(&self);
        loop {
            let batch = {
                let mut queue = self.lock();
                let batch = queue.take_batch();
                if batch.is_empty() {
                    queue.under_way = false;
                    break;
                }
                batch
            };
            let answered = batch.len();
            self.store(batch).await;
            self.gather(answered).await;
        }
        std::mem::forget(stop);
    }

    /// Lets other tasks run until as many appends wait as were just answered, or no more come.
    async fn gather(&self, answered: usize) {
        let begin = Instant::now();
        let (mut waiting, mut quiet) = (self.lock().waiting.len(), 0);
        while answered > 1 && waiting < answered && quiet < QUIET && begin.elapsed() < GATHER {
            tokio::task::yield_now().await;
            let now = self.lock().waiting.len();
            quiet = if now > waiting { 0 } else { quiet + 1 };
            waiting = now;
        }
    }

    async fn store(&self, batch: Vec<Waiting>) {
        let requests: Vec<_> = batch.iter().map(|waiting| &waiting.request).collect();
        let answers = match self.log.append_all(&requests).await {
            Ok(answers) => answers,
            Err(error) if batch.len() > 1 && !error.kind().is_transient() => {
                // One of them is poison: on its own each fails or succeeds alone.
                let mut answers = Vec::with_capacity(batch.len());
                for request in &requests {
                    let alone = self.log.append_all(&[*request]).await;
                    answers.push(
                        alone.and_then(|mut answers| answers.pop().unwrap_or_else(|| Err(error.clone()))),
                    );
                }
                answers
            }
            Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
        };
        if answers.iter().flatten().any(|answer| !answer.repeated) {
            self.log.announce();
        }
        for (waiting, answer) in batch.into_iter().zip(answers) {
            // Nobody there to hear it: the caller was dropped, what was stored stays stored.
            let _ = waiting.reply.send(answer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever waits is told if the task ends by a panic or with its runtime, and the lane begins anew.
struct Stop<'a>(&'a Lane);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        *self.0.lock() = Queue::default();
    }
}

impl Queue {
    /// Takes from the front what can go in one call, and leaves the rest in its order.
    fn take_batch(&mut self) -> Vec<Waiting> {
        if self.waiting.len() < 2 {
            return self.waiting.drain(..).collect();
        }
        let (mut batch, mut rest) = (Vec::new(), VecDeque::new());
        let (mut events, mut bytes) = (0, 0);
        // Hashes: two things that share one by chance only go in different calls.
        let mut keys: HashSet<u64> = HashSet::new();
        while let Some(waiting) = self.waiting.pop_front() {
            let (its_events, its_bytes) = size(&waiting.request);
            let fits = batch.is_empty()
                || (batch.len() < MAX_REQUESTS
                    && events + its_events <= MAX_EVENTS
                    && bytes + its_bytes <= MAX_BYTES);
            let its_keys = self.keys_of(&waiting.request);
            let free = its_keys.iter().all(|key| !keys.contains(key));
            // Also those of the ones left behind: nobody overtakes on a stream.
            keys.extend(its_keys);
            if fits && free {
                events += its_events;
                bytes += its_bytes;
                batch.push(waiting);
            } else {
                rest.push_back(waiting);
            }
        }
        self.waiting = rest;
        batch
    }

    /// What no two requests of one call may share.
    fn keys_of(&self, request: &Append) -> Vec<u64> {
        let streams = request.streams.iter().map(|part| self.hasher.hash_one(&part.stream));
        let events =
            request.streams.iter().flat_map(|part| &part.events).map(|it| self.hasher.hash_one(it.id));
        let consumer = request.track.iter().map(|track| self.hasher.hash_one(&track.consumer));
        streams.chain(events).chain(consumer).collect()
    }
}

fn size(request: &Append) -> (usize, usize) {
    let events = request.streams.iter().flat_map(|part| &part.events);
    events.fold((0, 0), |(count, bytes), event| {
        (count + 1, bytes + event.data.as_str().len() + event.metadata.as_str().len())
    })
}

#[cfg(test)]
mod tests {
    use changeover_core::events::{Expected, NewEvent, StreamId};
    use changeover_core::{Json, Uuid};

    use super::*;

    fn waiting(stream: u128, event: u128) -> Waiting {
        let mut new = NewEvent::new("Placed", Json::empty()).unwrap();
        new.id = Uuid::from_u128(event);
        let stream = StreamId::new("Order", Uuid::from_u128(stream)).unwrap();
        Waiting { request: Append::one(stream, Expected::Any, vec![new]), reply: oneshot::channel().0 }
    }

    fn ids(batch: &[Waiting]) -> Vec<u128> {
        batch.iter().map(|it| it.request.streams[0].events[0].id.as_u128()).collect()
    }

    #[test]
    fn requests_that_share_a_stream_or_an_event_go_in_different_calls_in_their_order() {
        let mut queue = Queue::default();
        queue.waiting.extend([waiting(1, 1), waiting(1, 2), waiting(2, 3), waiting(1, 4), waiting(3, 3)]);
        assert_eq!(ids(&queue.take_batch()), [1, 3]);
        assert_eq!(ids(&queue.take_batch()), [2, 3]);
        assert_eq!(ids(&queue.take_batch()), [4]);
        assert!(queue.take_batch().is_empty());
    }

    #[test]
    fn a_call_takes_a_bounded_number_of_requests() {
        let mut queue = Queue::default();
        queue.waiting.extend((0..300).map(|n| waiting(n, n)));
        assert_eq!(queue.take_batch().len(), MAX_REQUESTS);
        assert_eq!(queue.take_batch().len(), 300 - MAX_REQUESTS);
    }
}
