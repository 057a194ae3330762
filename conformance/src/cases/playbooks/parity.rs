//! The same answers everywhere: random scripts against a model.

use crate::harness::AnyHarness;
use crate::model::playbooks::{Player, random_script};
use crate::support::playbooks::open;

/// Random operations answer as the model does, searches within 1e-5: 20 scripts of 100 steps in memory, 4 where records
/// are durable. (P77, E131, X12, S3-PB-021)
pub async fn random_operations_answer_as_the_model_does(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let mut player = Player::new(&*catalog);
    let scripts = if catalog.capabilities().durable.is_yes() { 4 } else { 20 };
    for seed in 0..scripts {
        player.play(seed, &random_script(seed, 100)).await;
    }
}

/// One script meets every outcome that there is, the same on every backend. (P78, X13)
pub async fn one_script_meets_every_outcome(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let mut player = Player::new(&*catalog);
    player.play(13, &random_script(13, 200)).await;
    let outcomes =
        ["stored", "repeated", "invalid", "taken", "changed", "missing", "got", "nothing", "listed", "found"];
    for outcome in outcomes {
        assert!(player.transcript.contains(&outcome), "the script never met {outcome:?}");
    }
}
