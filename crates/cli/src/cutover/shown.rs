//! Values, sizes and times for people.

use std::time::Duration;

use changeover::cutover::contract::{Raw, SourceColumn};
use changeover::hex;

/// Bytes of a value that a list shows.
const SHORT: usize = 16;

/// A value on one line: its class, and its content as far as there is room.
pub fn brief(raw: &Raw) -> String {
    match raw {
        Raw::Null => "null".to_owned(),
        Raw::Integer(number) => number.to_string(),
        Raw::Real(number) => format!("{number:?}"),
        Raw::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => format!("{text:?}"),
            Err(_) => hex_brief(&hex(bytes)),
        },
        Raw::Blob(bytes) => hex_brief(&hex(bytes)),
    }
}

pub fn key(values: &[Raw]) -> String {
    values.iter().map(brief).collect::<Vec<_>>().join(", ")
}

/// Hex digits, shortened.
pub fn hex_brief(digits: &str) -> String {
    match digits.get(..2 * SHORT) {
        Some(first) if digits.len() > 2 * SHORT => format!("{first}…"),
        _ => digits.to_owned(),
    }
}

pub fn column(column: &SourceColumn) -> &str {
    match column {
        SourceColumn::Named(name) => name,
        SourceColumn::Rowid => "rowid",
    }
}

pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = None;
    let (mut whole, mut rest) = (count, 0);
    for name in UNITS {
        if whole < 1024 {
            break;
        }
        (whole, rest, unit) = (whole / 1024, whole % 1024, Some(name));
    }
    match unit {
        None => format!("{count} B"),
        Some(unit) => format!("{whole}.{} {unit}", rest * 10 / 1024),
    }
}

/// `41 ms`, `3.2 s`, `4 min 5 s`, `2 h 3 min`.
pub fn time(took: Duration) -> String {
    let (millis, seconds) = (took.as_millis(), took.as_secs());
    match seconds {
        0 => format!("{millis} ms"),
        1..=9 => format!("{}.{} s", seconds, millis % 1_000 / 100),
        10..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(
            [0, 1_023, 1_024, 1_536, 5 << 30].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]
        );
        let shown = |millis| time(Duration::from_millis(millis));
        assert_eq!(
            [41, 3_250, 61_000, 245_000, 7_380_000].map(shown),
            ["41 ms", "3.2 s", "61 s", "4 min 5 s", "2 h 3 min"]
        );
        assert_eq!(hex_brief(&"ab".repeat(17)), format!("{}…", "ab".repeat(16)));
        assert_eq!(brief(&Raw::Text(vec![0x50, 0xff])), "50ff");
    }
}
