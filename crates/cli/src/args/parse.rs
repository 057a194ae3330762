//! Text of the command line as values; the error is what clap tells.

use std::time::Duration;

use changeover::audit::{ActorType, AuditToken, Keep, Outcome};
use changeover::backend::Family;
use changeover::cutover::contract::Raw;
use changeover::cutover::convert::Loss;
use changeover::events::{StreamId, Version};
use changeover::playbooks::PlaybookId;
use changeover::{AggregateType, Checkpoint, EventType, Limit, ModuleName, TenantId, Text};

use super::audit::When;

pub fn tenant(text: &str) -> Result<TenantId, String> {
    TenantId::new(text).map_err(told)
}

pub fn module(text: &str) -> Result<ModuleName, String> {
    ModuleName::new(text).map_err(told)
}

pub fn event_type(text: &str) -> Result<EventType, String> {
    EventType::new(text).map_err(told)
}

pub fn aggregate_type(text: &str) -> Result<AggregateType, String> {
    AggregateType::new(text).map_err(told)
}

pub fn stream(text: &str) -> Result<StreamId, String> {
    text.parse().map_err(told)
}

pub fn checkpoint(text: &str) -> Result<Checkpoint, String> {
    text.parse().map_err(told)
}

pub fn version(text: &str) -> Result<Version, String> {
    let number = text.parse().map_err(|_| "not a whole number; allowed is 1 and above".to_owned())?;
    Version::new(number).map_err(told)
}

pub fn family(text: &str) -> Result<Family, String> {
    [Family::Events, Family::Audit, Family::Playbooks]
        .into_iter()
        .find(|family| family.as_str() == text)
        .ok_or_else(|| "allowed is one of events, audit, playbooks".to_owned())
}

pub fn text<const MAX: usize>(text: &str) -> Result<Text<MAX>, String> {
    Text::new("the text", text).map_err(told)
}

pub fn outcome(text: &str) -> Result<Outcome, String> {
    text.parse().map_err(told)
}

pub fn actor_type(text: &str) -> Result<ActorType, String> {
    text.parse().map_err(told)
}

pub fn audit_token(text: &str) -> Result<AuditToken, String> {
    text.parse().map_err(told)
}

pub fn limit(text: &str) -> Result<Limit, String> {
    let number = text.parse().map_err(|_| format!("not a whole number; allowed is 1 to {}", Limit::MAX))?;
    Limit::new(number).map_err(told)
}

pub fn when(text: &str) -> Result<When, String> {
    text.parse()
}

/// `CATEGORY=DAYS`; the category may hold `=` itself.
pub fn keep(text: &str) -> Result<Keep, String> {
    let (category, days) = text.rsplit_once('=').ok_or("allowed is CATEGORY=DAYS, like notification=90")?;
    let category = Text::new("the category", category).map_err(told)?;
    match days.parse() {
        Ok(days @ 1..) => Ok(Keep { category, days }),
        _ => Err(format!("{days:?} is not a number of days; allowed is 1 and above")),
    }
}

pub fn playbook(text: &str) -> Result<PlaybookId, String> {
    PlaybookId::new("the playbook", text).map_err(told)
}

/// `KEY=VALUE`; the value may hold `=` itself, and may be empty.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("allowed is KEY=VALUE, like component=etcd")?;
    Text::<255>::new("the key", key).map_err(told)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Text that can be searched for.
pub fn searched(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_alphanumeric) {
        return Ok(text.to_owned());
    }
    Err("it has no letter and no digit; give some words".to_owned())
}

pub fn confidence(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "allowed is a number from 0 to 1".to_owned())
}

/// `10s`, `500ms`, `2m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse::<u64>().ok();
    let millis = match &text[digits..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let found = number.zip(millis).and_then(|(number, millis)| number.checked_mul(millis));
    found.map(Duration::from_millis).ok_or_else(|| "allowed is a time like 500ms, 10s, 2m".to_owned())
}

/// `512`, `16KiB`, `64MiB`, `1GiB`.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse::<u64>().ok();
    let unit = match &text[digits..] {
        "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let found = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    found.ok_or_else(|| "allowed is a number of bytes, or one like 16KiB, 64MiB, 1GiB".to_owned())
}

pub fn loss(text: &str) -> Result<Loss, String> {
    Loss::ALL.iter().copied().find(|loss| loss.as_str() == text).ok_or_else(|| {
        let allowed: Vec<_> = Loss::ALL.iter().map(|loss| loss.as_str()).collect();
        format!("allowed are {}", allowed.join(", "))
    })
}

pub fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= 1.0);
    number.ok_or_else(|| "allowed is a number above 0 up to 1".to_owned())
}

/// `COLUMN=TEXT`, `COLUMN:int=N`, `COLUMN:real=N`, `COLUMN:hex=BYTES`, `COLUMN:null`.
pub fn value(text: &str) -> Result<(String, Raw), String> {
    const ALLOWED: &str =
        "allowed is COLUMN=TEXT, COLUMN:int=NUMBER, COLUMN:real=NUMBER, COLUMN:hex=BYTES or COLUMN:null";
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let (column, class) = match name.split_once(':') {
        Some((column, class)) => (column, Some(class)),
        None => (name, None),
    };
    let raw = match (class, value) {
        (None, Some(text)) => Some(Raw::Text(text.as_bytes().to_vec())),
        (Some("int"), Some(number)) => number.parse().ok().map(Raw::Integer),
        (Some("real"), Some(number)) => number.parse().ok().map(Raw::Real),
        (Some("hex"), Some(digits)) => bytes(digits).map(Raw::Blob),
        (Some("null"), None) => Some(Raw::Null),
        _ => None,
    };
    match raw {
        Some(raw) if !column.is_empty() => Ok((column.to_owned(), raw)),
        _ => Err(ALLOWED.to_owned()),
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn told(error: changeover::Error) -> String {
    error.message().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_repair_have_the_class_that_is_said() {
        let read = |text| value(text).map(|(column, raw)| (column, raw.class()));
        assert_eq!(value("a=b=c").unwrap(), ("a".to_owned(), Raw::Text(b"b=c".to_vec())));
        assert_eq!(value("a:int=-7").unwrap().1, Raw::Integer(-7));
        assert_eq!(value("a:hex=00fF").unwrap().1, Raw::Blob(vec![0, 255]));
        assert_eq!(read("a:real=0.5"), Ok(("a".to_owned(), "real")));
        assert_eq!(read("a:null"), Ok(("a".to_owned(), "null")));
        assert_eq!(read("a="), Ok(("a".to_owned(), "text")));
        for bad in [
            "a", "=x", "a:int=x", "a:int=", "a:hex=0", "a:hex=zz", "a:hex=+1", "a:null=x", "a:text=x",
            ":int=1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        assert_eq!((size("512"), size("16KiB"), size("2GiB")), (Ok(512), Ok(16 << 10), Ok(2 << 30)));
        for bad in ["", "KiB", "1kb", "-1", "1.5MiB", "1 MiB", "17179869184GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        for bad in ["", "10", "s", "-1s", "1.5s", "1 s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
