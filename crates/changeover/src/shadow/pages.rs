//! Pages of records in an order that both stores keep.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::value::RawValue;

use super::compare::Found;
use super::follower::Apart;

/// What a store has shown, in its order.
pub(super) struct Page<'a, T, K> {
    pub(super) records: &'a [T],
    /// The last key that was looked at; `None`: to the end.
    pub(super) until: Option<K>,
}

/// A record that both stores show.
pub(super) trait Record: PartialEq {
    /// Its key, for people.
    fn name(&self) -> String;

    /// What is another as soon as the record is.
    fn state(&self) -> String;

    /// Whether it is not compared.
    fn is_apart(&self, apart: &Apart) -> bool;

    /// The fields that differ.
    fn fields(&self, key: &str, shadow: &Self) -> Vec<Found>;
}

/// What differs in the range that both have looked at: a row that only one of them shows moves the end of its page.
pub(super) fn differences<T: Record, K: Ord>(
    [owner, shadow]: [Page<'_, T, K>; 2],
    key: impl Fn(&T) -> K,
    apart: &Apart,
) -> Vec<Found> {
    let is_sorted = |page: &Page<'_, T, K>| page.records.windows(2).all(|two| key(&two[0]) < key(&two[1]));
    if is_sorted(&owner) != is_sorted(&shadow) {
        let found = differing("the page", "is sorted", is_sorted(&owner), is_sorted(&shadow));
        return found.into_iter().map(Found::uncertain).collect();
    }
    let is_within = |key: &K| {
        [&owner.until, &shadow.until].into_iter().all(|until| until.as_ref().is_none_or(|until| key <= until))
    };
    let by_key = |records: &[T]| -> BTreeMap<K, usize> {
        let places = records.iter().enumerate().filter(|(_, record)| !record.is_apart(apart));
        places.map(|(at, record)| (key(record), at)).filter(|(key, _)| is_within(key)).collect()
    };
    let (left, mut right) = (by_key(owner.records), by_key(shadow.records));
    let mut found = Vec::new();
    for (key, at) in left {
        let record = &owner.records[at];
        match right.remove(&key).map(|at| &shadow.records[at]) {
            None => found.push(Found::missing(&record.name(), record.state())),
            Some(other) if other == record => {}
            Some(other) => found.extend(record.fields(&record.name(), other)),
        }
    }
    found.extend(right.into_values().map(|at| {
        let record = &shadow.records[at];
        Found::extra(&record.name(), record.state())
    }));
    found
}

/// A field, if it differs.
pub(super) fn differing<T: PartialEq + Display>(key: &str, field: &str, owner: T, shadow: T) -> Vec<Found> {
    if owner == shadow { Vec::new() } else { vec![Found::field(key, field, owner, shadow)] }
}

/// The fields of two records in JSON that differ, but for one; there equal values are equal text.
pub(super) fn fields_of(key: &str, owner: &str, shadow: &str, but: &str) -> Vec<Found> {
    let read = |text| serde_json::from_str::<BTreeMap<String, &RawValue>>(text).unwrap_or_default();
    let (left, right): (BTreeMap<_, _>, BTreeMap<_, _>) = (read(owner), read(shadow));
    let text = |value: Option<&&RawValue>| value.map_or("", |value| value.get()).to_owned();
    let names = left.keys().chain(right.keys().filter(|name| !left.contains_key(*name)));
    let fields = names.filter(|name| *name != but);
    fields.flat_map(|name| differing(key, name, text(left.get(name)), text(right.get(name)))).collect()
}
