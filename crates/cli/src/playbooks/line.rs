//! One version of a playbook as one line of JSON.

use changeover::playbooks::NewPlaybook;

use crate::lines::{Members, members};

/// Fields that an export adds and only a store can know.
const OWN: [&str; 9] = [
    "disabled_at",
    "disabled_by",
    "disabled_reason",
    "deprecation_notice",
    "actual_success_rate",
    "total_executions",
    "successful_executions",
    "updated_at",
    "updated_by",
];

/// A version that is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionLine {
    pub playbook: NewPlaybook,
    /// Whether the line says if it is the latest.
    pub says_latest: bool,
    /// Whether it tells of what happened to the version in another store.
    pub has_history: bool,
}

/// Reads a line, without its line break.
pub fn parse(bytes: &[u8]) -> Result<VersionLine, String> {
    let mut members: Members = members(bytes)?;
    if !members.problems.is_empty() {
        return Err(members.problems.join("; "));
    }
    let given =
        |name: &str| members.values.get(name).map(|value| value.get()).filter(|value| *value != "null");
    let says_latest = given("is_latest_version").is_some();
    // Every version was updated once, when it was stored.
    let told = OWN.iter().filter(|name| !name.starts_with("updated_"));
    let has_history = told.into_iter().any(|name| given(name).is_some_and(|value| value != "0"));
    members.values.retain(|name, _| !OWN.contains(&name.as_str()));
    let playbook = NewPlaybook::from_json(members.text()?).map_err(|error| error.message().to_owned())?;
    Ok(VersionLine { playbook, says_latest, has_history })
}

#[cfg(test)]
mod tests {
    use changeover::Timestamp;
    use rstest::rstest;

    use super::*;

    /// A good line with `field` set to the JSON `value`; an empty value leaves the field out.
    fn line(field: &str, value: &str) -> String {
        let good = [
            ("playbook_id", r#""etcd""#),
            ("version", r#""v1.0.0""#),
            ("name", r#""Etcd""#),
            ("description", r#""What to do""#),
            ("content", r##""# Etcd\r\n""##),
        ];
        let others = good.iter().filter(|(name, _)| *name != field).copied();
        let members: Vec<_> = others
            .chain([(field, value)])
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name:?}:{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    }

    #[rstest]
    #[case("playbook_id", "", "column playbook_id: it is missing")]
    #[case("playbook_id", r#""""#, "playbook_id is empty")] // X-EDGE-070
    #[case("version", r#""1.2""#, "column version: ")] // X-EDGE-071
    #[case("version", r#""latest""#, "column version: ")] // X-EDGE-071
    #[case("name", "7", "column name: ")]
    #[case("labels", r#"{"a":1}"#, "column labels: ")]
    #[case("status", r#""on""#, "column status: ")] // S3-PB-002
    #[case("expected_success_rate", "1.001", "column expected_success_rate: ")] // S3-PB-003
    #[case("embedding", "[1]", "column embedding: ")] // S3-EDGE-018
    #[case("is_latest_version", "1", "column is_latest_version: ")]
    #[case("created_at", r#""2016-12-31T23:59:60Z""#, "column created_at: ")] // X-EDGE-053
    #[case("colour", "1", "column colour: there is no such column")]
    #[case("name", r#""a","name":"b""#, "field name stands twice")]
    fn a_bad_field_is_named(#[case] field: &str, #[case] value: &str, #[case] expected: &str) {
        let problem = parse(line(field, value).as_bytes()).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }

    #[test]
    fn what_an_export_prints_can_be_imported() {
        let read = parse(line("", "").as_bytes()).unwrap();
        assert!(!read.says_latest && !read.has_history);
        let mut stored = read.playbook.stored(Timestamp::MAX);
        let again = parse(stored.to_json().as_bytes()).unwrap();
        assert!(again.says_latest && !again.has_history);
        assert_eq!(again.playbook, stored.playbook);
        assert_eq!(again.playbook.content, "# Etcd\r\n");
        stored.total_executions = 1;
        assert!(parse(stored.to_json().as_bytes()).unwrap().has_history);
    }
}
