//! How often changed rows are compared before the writers have to wait.

/// Rounds at most.
const MOST: usize = 8;

/// Rounds of comparing what was changed during the one before, each of which has to be much shorter.
pub(super) struct Rounds {
    few: usize,
    before: usize,
    left: usize,
}

impl Rounds {
    /// Until no more than so many rows are left.
    pub(super) fn until(few: usize) -> Self {
        Self { few, before: usize::MAX, left: MOST }
    }

    /// Whether one more is of use. Writers who change as much as is compared meanwhile would keep this going for ever: they have
    /// to wait.
    pub(super) fn another(&mut self, rows: usize) -> bool {
        let is_of_use = self.left > 0 && rows > self.few && rows <= self.before / 2;
        self.before = rows;
        self.left = self.left.saturating_sub(1);
        is_of_use
    }
}

#[cfg(test)]
mod tests {
    use super::Rounds;

    #[test]
    fn rounds_go_on_while_they_get_shorter() {
        let mut rounds = Rounds::until(500);
        assert!(rounds.another(8_000));
        assert!(rounds.another(4_000));
        assert!(!rounds.another(2_001), "more than half of the one before");
        let mut rounds = Rounds::until(500);
        assert!(!rounds.another(500), "few enough");
    }

    #[test]
    fn rounds_end() {
        let mut rounds = Rounds::until(0);
        let taken = (0..20).filter(|round| rounds.another(1 << (40 - round))).count();
        assert_eq!(taken, 8);
    }
}
