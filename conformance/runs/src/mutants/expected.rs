//! Which cases must find out which mutant: all of them, and no others.
pub(super) fn of(_name: &str) -> &'static [&'static str] {
    &[]
}
