//! Which cases must find out which mutant of the playbook catalog, as in [`super::super::expected`].

pub(in crate::mutants) const EXPECTED: &[(&str, &[&str])] = &[];
