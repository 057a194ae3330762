//! Digests over rows: the tree of RFC 6962 (Certificate Transparency), grown leaf by leaf.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// SHA-256.
pub type Digest = [u8; 32];

/// The digest of a row: the leaf hash of its bytes.
pub(super) fn leaf(row: &[u8]) -> Digest {
    Sha256::new().chain_update([0]).chain_update(row).finalize().into()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree that grows at its right edge. It keeps the roots of the complete subtrees only, one for each bit of the number of leaves, so
/// the root does not depend on how the leaves were brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tree {
    leaves: u64,
    subtrees: Vec<Digest>,
}

impl Tree {
    pub(super) fn push(&mut self, leaf: Digest) {
        let mut root = leaf;
        for _ in 0..self.leaves.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                root = node(&left, &root);
            }
        }
        self.subtrees.push(root);
        self.leaves += 1;
    }

    /// The root over the leaves so far; of none, the digest of nothing.
    pub(super) fn root(&self) -> Digest {
        let mut from_the_right = self.subtrees.iter().rev().copied();
        match from_the_right.next() {
            Some(last) => from_the_right.fold(last, |right, left| node(&left, &right)),
            None => Sha256::digest([]).into(),
        }
    }

    pub(super) fn extend<'a>(&mut self, leaves: impl IntoIterator<Item = &'a Digest>) {
        for leaf in leaves {
            self.push(*leaf);
        }
    }

    pub(super) fn of<'a>(leaves: impl IntoIterator<Item = &'a Digest>) -> Self {
        let mut tree = Self::default();
        tree.extend(leaves);
        tree
    }
}

/// The digest over all tables of a module: the name, the number of rows and the root of each, in the order of the names' bytes.
pub fn data_root<'a>(tables: impl IntoIterator<Item = (&'a str, u64, Digest)>) -> Digest {
    let mut tables: Vec<_> = tables.into_iter().collect();
    tables.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    let mut hash = Sha256::new().chain_update("changeover data root 1\n");
    for (name, rows, root) in tables {
        let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
        hash = hash.chain_update(length.to_be_bytes()).chain_update(name);
        hash = hash.chain_update(rows.to_be_bytes()).chain_update(root);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of RFC 6962, section 2.1, as it is written there.
    fn by_the_rfc(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node(&by_the_rfc(&leaves[..split]), &by_the_rfc(&leaves[split..]))
            }
        }
    }

    proptest! {
        #[test]
        fn the_root_is_that_of_the_rfc(rows in proptest::collection::vec(any::<Vec<u8>>(), 0..70)) {
            let leaves: Vec<_> = rows.iter().map(|row| leaf(row)).collect();
            let tree = Tree::of(&leaves);
            prop_assert_eq!(tree.root(), by_the_rfc(&leaves));
            prop_assert!(tree.subtrees.len() <= 7, "memory grows with the logarithm");
        }
    }

    // The test vectors of Certificate Transparency.
    #[test]
    fn known_roots() {
        let hex = |digest: Digest| changeover_core::hex(&digest);
        assert_eq!(
            hex(Tree::default().root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(hex(leaf(b"")), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        let rows: [&[u8]; 3] = [b"", b"\x00", b"\x10"];
        assert_eq!(
            hex(Tree::of(&rows.map(leaf)).root()),
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
        );
    }

    #[test]
    fn the_data_root_is_of_names_counts_and_roots_in_any_order() {
        let [a, b] = [[1; 32], [2; 32]];
        let root = data_root([("s.a", 1, a), ("s.b", 2, b)]);
        assert_eq!(root, data_root([("s.b", 2, b), ("s.a", 1, a)]));
        for other in
            [[("s.a", 1, b), ("s.b", 2, a)], [("s.a", 2, a), ("s.b", 1, b)], [("s.c", 1, a), ("s.b", 2, b)]]
        {
            assert_ne!(root, data_root(other));
        }
    }
}
