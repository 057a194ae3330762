//! The object on a line.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object as they were written, so that numbers stay exact.
pub struct Members<'a> {
    pub values: BTreeMap<String, &'a RawValue>,
    /// Names that stand twice.
    pub problems: Vec<String>,
}

/// Reads one JSON object. The error tells where it is none, without showing what stands there.
pub fn members(bytes: &[u8]) -> Result<Members<'_>, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 from byte {}", error.valid_up_to() + 1))?;
    serde_json::from_str(text).map_err(|error| not_json(&error))
}

/// Serde's own message may quote a value.
fn not_json(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "the JSON ends too early",
        serde_json::error::Category::Data => "not a JSON object",
        _ => "not JSON",
    };
    format!("{what}, at character {}; allowed is one JSON object a line", error.column())
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members { values: BTreeMap::new(), problems: Vec::new() };
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if members.values.insert(name.clone(), value).is_some() {
                        members.problems.push(format!("field {name} stands twice"));
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl Members<'_> {
    /// The object again, in one spelling.
    pub fn text(&self) -> Result<String, String> {
        serde_json::to_string(&self.values).map_err(|_| "not JSON that can be written again".to_owned())
    }
}
