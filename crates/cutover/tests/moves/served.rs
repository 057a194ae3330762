//! Services that are killed between a write and the word of it, in every part of a move.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use changeover_core::Uuid;
use changeover_core::backend::Family;
use changeover_cutover::Goal;
use changeover_cutover::phase::Owner;

use crate::process::Process;
use crate::stage::{Stage, history, terms};
use crate::under_writers::{check, id_of};

/// Somebody who asks a service for writes, and asks again until he is answered.
struct Client<'a> {
    stage: &'a Stage,
    asked: u64,
    answered: BTreeMap<Uuid, u64>,
}

impl Client<'_> {
    /// Asks for one more write of a service that is killed: so long after it was asked, or when it did the write and its answer
    /// was not heard.
    async fn asks_one_that_is_killed(&mut self, after: Option<Duration>) {
        self.asked += 1;
        let mut service = Process::service(self.stage).await;
        service.tell(&self.asked.to_string());
        match after {
            Some(after) => tokio::time::sleep(after).await,
            None => drop(service.says(&format!("did {}.", self.asked)).await),
        }
        service.kill();
    }

    /// Asks for everything that was not answered, under the ids that it had.
    async fn asks_again(&mut self) {
        let mut service = Process::service(self.stage).await;
        for number in 1..=self.asked {
            if let Entry::Vacant(answer) = self.answered.entry(id_of(number)) {
                service.tell(&number.to_string());
                service.says(&format!("did {number}.")).await;
                answer.insert(number);
            }
        }
    }

    /// Three services in a row.
    async fn loses_answers(&mut self) {
        self.asks_one_that_is_killed(None).await;
        self.asks_one_that_is_killed(Some(Duration::ZERO)).await;
        self.asks_one_that_is_killed(Some(Duration::from_millis(4))).await;
    }
}

// Fault 2: every write that was asked for is there once, whichever store took it when its service died.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_service_died_is_there_once() {
    let stage = Stage::legacy(Family::Events, &history(5, 60)).await;
    let mut client = Client { stage: &stage, asked: 0, answered: BTreeMap::new() };
    client.loses_answers().await;
    // Asked again at once, or when the module has moved.
    client.asks_again().await;
    for place in ["copy.stored:2", "verify.after"] {
        let coordinator = Process::at(&stage, "run", place).await;
        client.loses_answers().await;
        coordinator.kill();
        stage.lease_runs_out().await;
    }
    let coordinator = Process::at(&stage, "run", "drain.after").await;
    client.asks_one_that_is_killed(Some(Duration::from_millis(50))).await;
    coordinator.kill();
    stage.lease_runs_out().await;

    let cutover = stage.cutover().await;
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    client.asks_again().await;
    client.loses_answers().await;
    let coordinator = Process::at(&stage, "revert", "revert.fenced").await;
    client.asks_one_that_is_killed(Some(Duration::from_millis(50))).await;
    coordinator.kill();
    stage.lease_runs_out().await;
    assert_eq!(cutover.revert(&terms()).await.unwrap().owner, Owner::Sqlite);
    client.asks_again().await;
    check(&*stage.old_events().await, &client.answered, 300).await;
    let there = "SELECT count(*) FROM domain_event WHERE stream_id IN \
        (SELECT stream_id FROM event_stream WHERE aggregate_id LIKE '%abc0%')";
    assert_eq!(stage.file.number(there), i64::try_from(client.asked).unwrap());
    assert_eq!(client.answered.len() as u64, client.asked);

    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    check(&*stage.new_events().await, &client.answered, 300).await;
}
