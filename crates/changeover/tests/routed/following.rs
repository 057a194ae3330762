//! Subscriptions through a switch and the way back.

use changeover::events::{ReadAll, Subscribe};
use changeover::{ErrorKind, Message, Subscription, Uuid};
use rstest::rstest;

use crate::moving::{Moving, Places};
use crate::{LONG, WHILE, store, write};

/// Takes events until it has so many, with checkpoints that rise.
async fn take(following: &mut Subscription, count: usize) -> Vec<Uuid> {
    let (mut taken, mut last) = (Vec::new(), 0);
    while taken.len() < count {
        let message = tokio::time::timeout(LONG, following.next()).await;
        let message = message.expect("a message in time").unwrap().unwrap();
        assert!(message.checkpoint().position() >= last);
        last = message.checkpoint().position();
        if let Message::Event(event) = message {
            taken.push(event.id);
        }
    }
    taken
}

// A subscription goes on where the module goes, there and back, without gap or repeat.
#[rstest]
#[case::buffered(256)]
#[case::one_at_a_time(1)]
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_goes_on_there_and_back(#[case] buffer: usize) {
    let places = Places::new().await;
    let db = places.process("sqlite").await;
    let store = store(&db).await;
    let mut following = store.subscribe(Subscribe { buffer, ..Subscribe::default() }).await.unwrap();
    let mut written = Vec::new();
    for _ in 0..5 {
        written.push(write(&store).await);
    }
    let mut taken = take(&mut following, 3).await;
    let mut moving = Moving::begin(&places).await;
    moving.cut().await;
    for _ in 0..5 {
        written.push(write(&store).await);
    }
    taken.extend(take(&mut following, 5).await);
    moving.take_back().await;
    moving.give_back().await;
    for _ in 0..5 {
        written.push(write(&store).await);
    }
    taken.extend(take(&mut following, 7).await);
    assert_eq!(taken, written);
    let end = tokio::time::timeout(WHILE, take(&mut following, 1)).await;
    assert!(end.is_err(), "nothing comes twice: {end:?}");
    store.close().await.unwrap();
    loop {
        if let Err(ended) = following.next().await.unwrap() {
            assert_eq!(ended.kind(), ErrorKind::Unavailable, "{ended}");
            break;
        }
    }
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap_err().kind(), ErrorKind::Unavailable);
}
