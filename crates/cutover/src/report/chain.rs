//! The chain of a record: each entry names the hash of the one before it.

use changeover_core::sha256_hex;

use super::Word;

/// What is wrong with the chain of a whole record.
pub(super) fn broken(record: &[Word]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut previous = "0".repeat(64);
    for (entry, number) in record.iter().zip(1_i64..) {
        if entry.number != number {
            wrong.push(format!(
                "entry {number} of the record is missing: number {} stands in its place",
                entry.number
            ));
            // What follows would be said again for every entry.
            break;
        }
        if entry.previous != previous {
            wrong.push(format!("entry {number} does not follow the entry before it: it names another hash"));
        }
        if entry.hash != hash(entry) {
            wrong.push(format!("entry {number} ({}) was changed: its hash is another", entry.what));
        }
        previous.clone_from(&entry.hash);
    }
    wrong
}

/// As `changeover_core::cutover::Recorded::hash` says.
pub(super) fn hash(entry: &Word) -> String {
    let Word { number, run, at, what, who, facts, previous, hash: _ } = entry;
    let facts = facts.as_str();
    sha256_hex(format!("{previous}\n{number}\n{run}\n{at}\n{what}\n{who}\n{facts}\n").as_bytes())
}
