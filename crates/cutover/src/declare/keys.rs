//! TOML tables read key by key, all mistakes collected.

use std::cell::RefCell;

/// What is wrong with a text, so far.
#[derive(Debug, Default)]
pub(super) struct Mistakes(RefCell<Vec<String>>);

impl Mistakes {
    pub(super) fn add(&self, mistake: String) {
        self.0.borrow_mut().push(mistake);
    }

    pub(super) fn into_vec(self) -> Vec<String> {
        self.0.into_inner()
    }
}

/// One TOML table.
pub(super) struct Keys<'a> {
    /// Which one, for people.
    pub(super) at: String,
    table: &'a toml::Table,
    known: RefCell<Vec<&'static str>>,
    mistakes: &'a Mistakes,
}

impl<'a> Keys<'a> {
    pub(super) fn new(at: impl Into<String>, table: &'a toml::Table, mistakes: &'a Mistakes) -> Self {
        Self { at: at.into(), table, known: RefCell::default(), mistakes }
    }

    pub(super) fn wrong(&self, key: &str, found: &str, allowed: &str) {
        let at = &self.at;
        self.mistakes.add(format!("{at}: {key} is {found}, allowed is {allowed}"));
    }

    fn get(&self, key: &'static str) -> Option<&'a toml::Value> {
        self.known.borrow_mut().push(key);
        self.table.get(key)
    }

    fn one<T>(
        &self,
        key: &'static str,
        allowed: &str,
        read: impl Fn(&'a toml::Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key)?;
        let read = read(value);
        if read.is_none() {
            self.wrong(key, &found(value), allowed);
        }
        read
    }

    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        let not_empty = |value: &'a toml::Value| value.as_str().filter(|text| !text.is_empty());
        self.one(key, "text that is not empty", not_empty).map(str::to_owned)
    }

    /// The text of a key that has to be there; empty, and a mistake, if it is not.
    pub(super) fn needed(&self, key: &'static str) -> String {
        if !self.table.contains_key(key) {
            self.wrong(key, "missing", "text that is not empty");
        }
        self.text(key).unwrap_or_default()
    }

    pub(super) fn flag(&self, key: &'static str) -> bool {
        self.one(key, "true or false", toml::Value::as_bool).unwrap_or(false)
    }

    pub(super) fn int(&self, key: &'static str) -> Option<i64> {
        self.one(key, "an integer", toml::Value::as_integer)
    }

    /// A number of things: from `least` on.
    pub(super) fn count(&self, key: &'static str, least: usize) -> Option<usize> {
        let number = |value: &toml::Value| {
            let number = usize::try_from(value.as_integer()?).ok()?;
            (number >= least && number <= 1_000_000_000).then_some(number)
        };
        self.one(key, &format!("an integer of {least} to 1000000000"), number)
    }

    pub(super) fn texts(&self, key: &'static str) -> Vec<String> {
        let texts = |value: &toml::Value| {
            let list = value.as_array()?;
            list.iter()
                .map(|one| one.as_str().filter(|text| !text.is_empty()).map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        };
        self.one(key, "a list of texts", texts).unwrap_or_default()
    }

    /// A value in whatever type, as text.
    pub(super) fn literal(&self, key: &'static str) -> Option<String> {
        let literal = |value: &toml::Value| match value {
            toml::Value::String(text) => Some(text.clone()),
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                Some(value.to_string())
            }
            _ => None,
        };
        self.one(key, "text, a number, true or false", literal)
    }

    /// The tables in a list; `what` and the value of `by` name each.
    pub(super) fn tables(&self, key: &'static str, what: &str, by: &str) -> Vec<Keys<'a>> {
        let tables = |value: &'a toml::Value| {
            value.as_array()?.iter().map(toml::Value::as_table).collect::<Option<Vec<_>>>()
        };
        let tables = self.one(key, "a list of tables", tables).unwrap_or_default();
        let named = tables.into_iter().enumerate().map(|(index, table)| {
            let name = table.get(by).and_then(toml::Value::as_str);
            let name = name.map_or_else(|| format!("number {}", index + 1), |name| format!("{name:?}"));
            let at = if self.at.is_empty() { String::new() } else { format!("{}, ", self.at) };
            Keys::new(format!("{at}{what} {name}"), table, self.mistakes)
        });
        named.collect()
    }

    /// Refuses keys that nobody asked for.
    pub(super) fn end(&self) {
        let known = self.known.borrow();
        for key in self.table.keys().filter(|key| !known.contains(&key.as_str())) {
            self.mistakes.add(format!("{}: unknown key {key:?}; allowed are {}", self.at, known.join(", ")));
        }
    }
}

fn found(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => format!("{text:?}"),
        toml::Value::Array(_) => "a list".to_owned(),
        toml::Value::Table(_) => "a table".to_owned(),
        other => other.to_string(),
    }
}
