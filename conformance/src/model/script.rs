//! Scripts: made at random from a seed, and cut down to what shows a difference.

use changeover_core::EventStore;

use super::Player;
use crate::support::Must;

pub(super) const STREAMS: usize = 4;
pub(super) const TYPES: [&str; 3] = ["Opened", "opened", "Ope_ed"];
pub(super) const CONSUMERS: [&str; 2] = ["mail", "Mail"];

/// One step. Numbers point into what there is, modulo its size, so that a script stays one when steps are cut out.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Append {
        parts: Vec<Part>,
        track: Option<(usize, usize)>,
    },
    /// An append once more, as it was, whether it was accepted or refused.
    Again(usize),
    ReadStream {
        stream: usize,
        backward: bool,
        first: u8,
        last: u8,
        event_type: Option<usize>,
        limit: u8,
    },
    ReadAll {
        after: usize,
        stream: Option<usize>,
        category: bool,
        event_type: Option<usize>,
        limit: u8,
    },
    HeadOfStream(usize),
    HeadOfLog,
    Tracked(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(super) stream: usize,
    /// 0 any, 1 none, 2 some, 3 and 4 what the stream is at, above: a version.
    pub(super) expected: u8,
    pub(super) events: Vec<Pick>,
}

/// An event of a script: a new one, or one that is stored, as it is or with other content.
#[derive(Clone, Debug)]
pub(crate) enum Pick {
    New { event_type: usize, number: u8 },
    Stored(usize),
    Altered(usize),
}

/// Numbers from a seed, the same everywhere (`SplitMix64`).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    pub(super) fn index(&mut self, sides: u64) -> usize {
        // At most `sides`, which is small.
        usize::try_from(self.below(sides)).must("an index")
    }

    fn byte(&mut self, sides: u8) -> u8 {
        u8::try_from(self.below(sides.into())).must("a byte")
    }

    pub(super) fn maybe<T>(&mut self, one_in: u64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(one_in) == 0).then(|| make(self))
    }
}

/// `length` steps; a third of them write.
pub(crate) fn random_script(seed: u64, length: usize) -> Vec<Op> {
    let mut dice = Dice(seed);
    (0..length).map(|_| random_step(&mut dice)).collect()
}

fn random_step(dice: &mut Dice) -> Op {
    match dice.below(13) {
        0..=4 => Op::Append {
            parts: (0..[1, 1, 1, 2, 3][dice.index(5)]).map(|_| random_part(dice)).collect(),
            track: dice.maybe(4, |dice| (dice.index(2), dice.index(64))),
        },
        5 | 6 => Op::ReadStream {
            stream: dice.index(STREAMS as u64),
            backward: dice.below(2) == 0,
            first: dice.byte(8),
            last: dice.byte(12),
            event_type: dice.maybe(3, |dice| dice.index(3)),
            limit: 1 + dice.byte(5),
        },
        7 | 8 => Op::ReadAll {
            after: dice.index(64),
            stream: dice.maybe(3, |dice| dice.index(STREAMS as u64)),
            category: dice.below(3) == 0,
            event_type: dice.maybe(3, |dice| dice.index(3)),
            limit: 1 + dice.byte(5),
        },
        9 => Op::HeadOfStream(dice.index(STREAMS as u64)),
        10 => Op::HeadOfLog,
        11 => Op::Again(dice.index(64)),
        _ => Op::Tracked(dice.index(2)),
    }
}

fn random_part(dice: &mut Dice) -> Part {
    // Rarely none, which is refused.
    let kinds = if dice.below(8) == 0 { 5 } else { 4 };
    let count = [1, 1, 2, 3, 0][dice.index(kinds)];
    let events = (0..count).map(|_| match dice.below(8) {
        0 => Pick::Stored(dice.index(64)),
        1 => Pick::Altered(dice.index(64)),
        _ => Pick::New { event_type: dice.index(3), number: dice.byte(200) },
    });
    let events = events.collect();
    Part { stream: dice.index(STREAMS as u64), expected: dice.byte(8), events }
}

/// The script with every step left out that is not needed to make a store differ from the model, and how it differs.
pub(crate) async fn shrunk(
    store: &dyn EventStore,
    mut script: Vec<Op>,
    mut why: String,
) -> (Vec<Op>, String) {
    let mut chunk = script.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < script.len() {
            let mut shorter = script.clone();
            shorter.drain(at..(at + chunk).min(script.len()));
            match Player::new(store).await.play(&shorter).await {
                Err(still) => (script, why) = (shorter, still),
                Ok(()) => at += chunk,
            }
        }
        chunk /= 2;
    }
    (script, why)
}
