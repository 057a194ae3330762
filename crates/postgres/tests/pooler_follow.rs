//! Subscriptions behind a pooler, which carries no word of what others append.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod catalog;
mod common;
mod pooled;

use std::sync::Arc;
use std::time::Duration;

use changeover_core::events::{Expected, Subscribe};
use changeover_core::{Message, OpenBackend, Subscription};
use common::{one, open, scope, settings, stream, tenant};
use pooled::{Pooled, as_postgres, wait_for};

async fn next_event(subscription: &mut Subscription) -> String {
    let next = async {
        loop {
            if let Message::Event(event) = subscription.next().await.unwrap().unwrap() {
                return event.data.as_str().to_owned();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), next).await.unwrap()
}

/// A subscription hears of what another client appends.
async fn follows(reader: &Arc<dyn OpenBackend>, writer: &Arc<dyn OpenBackend>) {
    let reader = reader.events(&scope(), &tenant("acme")).await.unwrap();
    let writer = writer.events(&scope(), &tenant("acme")).await.unwrap();
    let mut subscription = reader.subscribe(Subscribe::default()).await.unwrap();
    for number in 0..3 {
        writer.append(one(&stream("Order"), Expected::Any, number)).await.unwrap();
        assert_eq!(next_event(&mut subscription).await, format!("{{\"n\":{number}}}"));
    }
}

const LISTENING: &str = "SELECT count(*) FROM pg_stat_activity \
                         WHERE datname = current_database() AND query ILIKE 'listen%'";

// X-TEN-009, E70: no word comes through the pooler, so a subscription looks by itself, and listens to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_looks_by_itself_where_no_word_comes_through() {
    let pooled = Pooled::start().await;
    follows(&open(pooled.settings()).await, &open(pooled.settings()).await).await;
    let listening: i64 = pooled.db.query(LISTENING, &[]).await.unwrap()[0].get(0);
    assert_eq!(listening, 0);
}

// X-TEN-009: with an address past the pooler it listens there.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_listens_past_the_pooler_if_it_can() {
    let pooled = Pooled::start().await;
    let settings = pooled.settings().with("listen_url", pooled.direct_url());
    let reader = open(settings).await;
    follows(&reader, &open(pooled.settings()).await).await;
    wait_for(&pooled, LISTENING, 1).await;
}

// X-TEN-009: in session mode a client has a connection of its own, and with it all that it has without a pooler.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_session_mode_serves_as_the_server_itself() {
    let pooled = Pooled::with("pool_mode = session\ndefault_pool_size = 20").await;
    let given = settings(&pooled.url()).with("pooler", "session");
    let (reader, writer) = (open(given.clone()).await, open(given).await);
    follows(&reader, &writer).await;
    wait_for(&pooled, LISTENING, 1).await;
    let mut tx = as_postgres(&writer).begin(&scope(), &tenant("acme")).await.unwrap();
    tx.append(&one(&stream("Order"), Expected::Any, 9)).await.unwrap();
    tx.commit().await.unwrap();
}
