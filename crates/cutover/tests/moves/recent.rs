//! What is changed between the comparison of all rows and the fence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use changeover_core::ErrorKind;
use changeover_core::backend::Family;
use changeover_cutover::phase::Owner;
use changeover_cutover::{Goal, Step, Terms};
use diesel::connection::SimpleConnection as _;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::stage::{Stage, history, terms};
use crate::support::program;

/// From here on one row is stored as another one.
const WRONG: &str = "CREATE FUNCTION public.wrong() RETURNS trigger LANGUAGE plpgsql AS $$ \
    BEGIN IF NEW.position = 7 THEN NEW.event_data = '{\"n\":-1}'; END IF; RETURN NEW; END $$; \
    CREATE TRIGGER wrong BEFORE INSERT ON event_store.domain_event FOR EACH ROW EXECUTE FUNCTION public.wrong()";

/// More rows than are left for the pause.
const CHANGED: &str = "UPDATE domain_event SET event_data = json_object('n', -rowid) WHERE rowid <= 1500";

// I6: many rows are changed after all of their table were compared, one of them is stored wrong: the comparison before the fence
// meets it and does not forget it, and the run does not switch.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_stored_wrong_after_the_comparison_is_found() {
    let stage = Stage::legacy(Family::Events, &history(10, 400)).await;
    let (file, client) = (stage.file.path().clone(), stage.db.client().await.unwrap());
    let short = Terms { max_pause: Duration::from_secs(2), attempts: 1, ..terms() };
    let compared = Arc::new(AtomicBool::new(false));
    let cutover = stage.cutover().await.watching({
        let compared = Arc::clone(&compared);
        move |step| match step {
            Step::Compared { table, rows: 4_000.. } if table == "event_store.domain_event" => {
                assert!(!compared.swap(true, Ordering::SeqCst), "the last of its rows are compared once");
                block_in_place(|| Handle::current().block_on(client.batch_execute(WRONG))).unwrap();
                program(&file).batch_execute(CHANGED).unwrap();
                // Too long for all of it to be compared once more when the writers stand still.
                std::thread::sleep(short.max_pause / 4);
            }
            _ => {}
        }
    });
    let found = cutover.run(&short, Goal::Switched).await.unwrap_err();
    assert!(compared.load(Ordering::SeqCst));
    assert_eq!(found.kind(), ErrorKind::Corrupt, "{found}");
    assert!(found.message().contains("position = 7) differs in event_data"), "{found}");
    let status = cutover.status().await.unwrap();
    assert_eq!((status.owner, status.file.unwrap().open), (Owner::Sqlite, true));
}
