//! What is changed between the comparison of all rows and the fence.

use changeover_core::backend::Family;
use changeover_cutover::phase::Owner;

use crate::process::Process;
use crate::stage::{Stage, history};

/// From here on one row is stored as another one.
const WRONG: &str = "CREATE FUNCTION public.wrong() RETURNS trigger LANGUAGE plpgsql AS $$ \
    BEGIN IF NEW.position = 7 THEN NEW.event_data = '{\"n\":-1}'; END IF; RETURN NEW; END $$; \
    CREATE TRIGGER wrong BEFORE INSERT ON event_store.domain_event FOR EACH ROW EXECUTE FUNCTION public.wrong()";

// I6: more rows are changed after the comparison than are left for the pause, so they are compared before it. One that differs
// there is looked at again behind the fence, and is not forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_stored_wrong_after_the_comparison_is_found() {
    let stage = Stage::legacy(Family::Events, &history(10, 200)).await;
    let mut run = Process::at(&stage, "run", "verify.after").await;
    stage.db.execute(WRONG).await.unwrap();
    stage.file.run("UPDATE domain_event SET event_data = json_object('n', -rowid) WHERE rowid <= 1500");
    run.tell("go on");
    let said = run.says("ended:").await.join("\n");
    assert!(said.contains("corrupt") && said.contains("differs in event_data"), "{said}");
    assert!(said.contains("position = 7)"), "{said}");
    let status = stage.cutover().await.status().await.unwrap();
    assert_eq!((status.owner, status.file.unwrap().open), (Owner::Sqlite, true));
}
