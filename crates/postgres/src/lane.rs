//! Shared commits. Places in a module's order must rise in commit order, so the writers of a module take turns from their
//! first place to the end of their commit. Instead of one commit after another, writes of one module and tenant that have
//! to wait anyway are stored by one call and one commit: each keeps an outcome of its own.
//!
//! A write that finds the lane idle goes straight through. While one call is under way, later ones gather, and the next
//! call takes them all. Two that must not share a call (see [`Key`]) go in different calls, in their order.
//! After a call for many, the lane lets those who were answered run once before it makes the next call: they are likely to
//! come back with the next write, and would otherwise just miss it.

use std::collections::{HashMap, VecDeque};
use std::hash::RandomState;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use changeover_core::{Applied, Error, ErrorKind, Result};
use tokio::sync::oneshot;

/// The most requests of one call.
const MAX_REQUESTS: usize = 256;
/// The most events of one call, unless a single request has more.
const MAX_EVENTS: usize = 4_096;
/// The most bytes of JSON of one call, unless a single request has more.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// The longest wait for those who were just answered.
const GATHER: Duration = Duration::from_micros(300);
/// How often the lane steps aside without a new write before it goes on.
const QUIET: u32 = 3;

/// What the writes of a lane are and where they go.
pub(crate) trait Writes: Send + Sync + 'static {
    /// A write that was validated.
    type Request: Send + Sync + 'static;
    /// What its caller gets.
    type Answer: Send + 'static;

    /// Its number of events, and of bytes of JSON.
    fn size(request: &Self::Request) -> (usize, usize);

    /// What keeps it from sharing a call with others.
    fn keys(request: &Self::Request, hasher: &RandomState) -> Vec<Key>;

    /// Stores the requests by one call, each on its own terms.
    fn store(
        &self,
        requests: &[&Self::Request],
    ) -> impl Future<Output = Result<Vec<Result<Self::Answer>>>> + Send;

    /// Called with the outcomes of each call.
    fn stored(&self, answers: &[Result<Self::Answer>]);
}

/// Two requests with a key of the same hash must not share a call, unless both only refer to it. Two things that have one
/// hash by chance only go in different calls.
pub(crate) struct Key {
    pub hash: u64,
    pub refers: bool,
}

/// The writes of one module and tenant on their way to the database.
pub(crate) struct Lane<W: Writes> {
    to: Arc<W>,
    queue: Mutex<Queue<W>>,
}

struct Queue<W: Writes> {
    under_way: bool,
    waiting: VecDeque<Waiting<W>>,
    hasher: RandomState,
}

impl<W: Writes> Default for Queue<W> {
    fn default() -> Self {
        Self { under_way: false, waiting: VecDeque::new(), hasher: RandomState::new() }
    }
}

struct Waiting<W: Writes> {
    request: W::Request,
    reply: oneshot::Sender<Result<W::Answer>>,
}

impl<W: Writes> Lane<W> {
    pub(crate) fn new(to: Arc<W>) -> Self {
        Self { to, queue: Mutex::default() }
    }

    /// Stores a request that was validated. A caller that is dropped meanwhile changes nothing for the others.
    pub(crate) async fn write(self: &Arc<Self>, request: W::Request) -> Result<W::Answer> {
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

    /// Lets other tasks run until as many writes wait as were just answered, or no more come.
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

    async fn store(&self, batch: Vec<Waiting<W>>) {
        let requests: Vec<_> = batch.iter().map(|waiting| &waiting.request).collect();
        let answers = match self.to.store(&requests).await {
            Ok(answers) => answers,
            Err(error) if batch.len() > 1 && !error.kind().is_transient() => {
                // One of them is poison: on its own each fails or succeeds alone.
                let mut answers = Vec::with_capacity(batch.len());
                for request in &requests {
                    let alone = self.to.store(&[*request]).await;
                    answers.push(
                        alone.and_then(|mut answers| answers.pop().unwrap_or_else(|| Err(error.clone()))),
                    );
                }
                answers
            }
            Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
        };
        self.to.stored(&answers);
        for (waiting, answer) in batch.into_iter().zip(answers) {
            // Nobody there to hear it: the caller was dropped, what was stored stays stored.
            let _ = waiting.reply.send(answer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue<W>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever waits is told if the task ends by a panic or with its runtime, and the lane begins anew.
struct Stop<'a, W: Writes>(&'a Lane<W>);

impl<W: Writes> Drop for Stop<'_, W> {
    fn drop(&mut self) {
        *self.0.lock() = Queue::default();
    }
}

impl<W: Writes> Queue<W> {
    /// Takes from the front what can go in one call, and leaves the rest in its order.
    fn take_batch(&mut self) -> Vec<Waiting<W>> {
        if self.waiting.len() < 2 {
            return self.waiting.drain(..).collect();
        }
        let (mut batch, mut rest) = (Vec::new(), VecDeque::new());
        let (mut events, mut bytes) = (0, 0);
        // Of each hash, whether all only refer to it.
        let mut keys: HashMap<u64, bool> = HashMap::new();
        while let Some(waiting) = self.waiting.pop_front() {
            let (its_events, its_bytes) = W::size(&waiting.request);
            let fits = batch.is_empty()
                || (batch.len() < MAX_REQUESTS
                    && events + its_events <= MAX_EVENTS
                    && bytes + its_bytes <= MAX_BYTES);
            let its_keys = W::keys(&waiting.request, &self.hasher);
            let free =
                its_keys.iter().all(|key| keys.get(&key.hash).is_none_or(|refer| *refer && key.refers));
            // Also those of the ones left behind: nobody overtakes on a stream.
            for key in its_keys {
                keys.entry(key.hash).and_modify(|refer| *refer &= key.refers).or_insert(key.refers);
            }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests are their keys: a number of one's own, or one that is referred to.
    struct Numbers;

    impl Writes for Numbers {
        type Request = Vec<(u32, bool)>;
        type Answer = ();

        fn size(_: &Self::Request) -> (usize, usize) {
            (1, 1)
        }

        fn keys(request: &Self::Request, _: &RandomState) -> Vec<Key> {
            request.iter().map(|(name, refers)| Key { hash: u64::from(*name), refers: *refers }).collect()
        }

        async fn store(&self, requests: &[&Self::Request]) -> Result<Vec<Result<()>>> {
            Ok(requests.iter().map(|_| Ok(())).collect())
        }

        fn stored(&self, _: &[Result<()>]) {}
    }

    fn queue(requests: impl IntoIterator<Item = Vec<(u32, bool)>>) -> Queue<Numbers> {
        let waiting = requests.into_iter().map(|request| Waiting { request, reply: oneshot::channel().0 });
        Queue { waiting: waiting.collect(), ..Queue::default() }
    }

    fn firsts(batch: &[Waiting<Numbers>]) -> Vec<u32> {
        batch.iter().map(|it| it.request[0].0).collect()
    }

    #[test]
    fn requests_that_share_a_key_go_in_different_calls_in_their_order() {
        let own = |a, b| vec![(a, false), (b, false)];
        let mut queue = queue([own(1, 90), own(2, 90), own(3, 91), own(4, 90), own(5, 2)]);
        assert_eq!(firsts(&queue.take_batch()), [1, 3]);
        assert_eq!(firsts(&queue.take_batch()), [2]);
        assert_eq!(firsts(&queue.take_batch()), [4, 5]);
        assert!(queue.take_batch().is_empty());
    }

    #[test]
    fn requests_that_only_refer_to_the_same_go_together_but_not_with_what_they_refer_to() {
        let child = |own, parent| vec![(own, false), (parent, true)];
        let mut queue = queue([child(1, 9), child(2, 9), vec![(9, false)], child(3, 9), child(4, 8)]);
        assert_eq!(firsts(&queue.take_batch()), [1, 2, 4]);
        assert_eq!(firsts(&queue.take_batch()), [9]);
        assert_eq!(firsts(&queue.take_batch()), [3]);
    }

    #[test]
    fn a_call_takes_a_bounded_number_of_requests() {
        let mut queue = queue((0..300).map(|n| vec![(n, false)]));
        assert_eq!(queue.take_batch().len(), MAX_REQUESTS);
        assert_eq!(queue.take_batch().len(), 300 - MAX_REQUESTS);
    }
}
