//! Text of the command line as values; the error is what clap tells.

use changeover::audit::{ActorType, AuditToken, Keep, Outcome};
use changeover::backend::Family;
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

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn told(error: changeover::Error) -> String {
    error.message().to_owned()
}
