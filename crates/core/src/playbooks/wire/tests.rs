use rstest::rstest;

use super::*;
use crate::{ErrorKind, Json};

/// A version with every column filled.
pub(crate) fn sample() -> NewPlaybook {
    let text = |value: &str| Text::new("text", value).unwrap();
    let labels = [("kubernetes.io/kind", "pod's"), ("empty", "")];
    let mut playbook = NewPlaybook {
        playbook_id: text("crash/loop 100%"),
        version: PlaybookVersion::new("v1.10.0").unwrap(),
        name: text("Restart the pod"),
        description: "When it \"crashes\" 🦀".to_owned(),
        owner: Some(text("sre")),
        maintainer: Some(text("person-1")),
        content: "\u{feff}line\r\n\ttab\n".to_owned(),
        content_hash: None,
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        embedding: Some(crate::playbooks::HashingEmbedder::vector("restart")),
        status: Status::Deprecated,
        is_latest: true,
        previous_version: Some(PlaybookVersion::new("1.9.0").unwrap()),
        version_notes: Some(String::new()),
        change_summary: Some("shorter".to_owned()),
        approved_by: Some(text("person-2")),
        approved_at: Some(Timestamp::from_micros(1).unwrap()),
        expected_success_rate: Some(Rate::from_thousandths(987).unwrap()),
        expected_duration_seconds: Some(u32::MAX),
        created_at: Some(Timestamp::MAX),
        created_by: Some(text("person-3")),
    };
    playbook.content_hash = Some(playbook.hash());
    playbook
}

/// Nothing but what a version cannot do without.
fn least() -> NewPlaybook {
    NewPlaybook {
        owner: None,
        maintainer: None,
        content_hash: None,
        labels: BTreeMap::new(),
        embedding: None,
        status: Status::Active,
        is_latest: false,
        previous_version: None,
        version_notes: None,
        change_summary: None,
        approved_by: None,
        approved_at: None,
        expected_success_rate: None,
        expected_duration_seconds: None,
        created_at: None,
        created_by: None,
        ..sample()
    }
}

fn stored() -> Playbook {
    Playbook {
        created_at: Timestamp::MAX,
        disabled: Some((Timestamp::MIN, None, Some("broken".to_owned()))),
        deprecation_notice: Some("use another".to_owned()),
        actual_success_rate: Some(Rate::from_thousandths(500).unwrap()),
        total_executions: u64::MAX,
        successful_executions: 3,
        updated_at: Timestamp::MIN,
        updated_by: Some(Text::new("updated_by", "person-4").unwrap()),
        playbook: sample(),
    }
}

// S3-PB-001, P30, P42: every column survives, absent stays absent and empty stays empty.
#[test]
fn every_column_survives_its_line() {
    for playbook in [sample(), least()] {
        let line = playbook.to_json();
        assert_eq!(NewPlaybook::from_json(&line).unwrap(), playbook);
        assert_eq!(NewPlaybook::from_json(Json::parse(&line).unwrap()).unwrap(), playbook);
    }
    let line = stored().to_json();
    assert_eq!(Playbook::from_json(&line).unwrap(), stored());
    let columns: BTreeMap<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
    assert_eq!(columns.len(), 30);
    assert_eq!(columns["expected_success_rate"].to_string(), "0.987");
    assert_eq!(columns["approved_at"], "1970-01-01T00:00:00.000001Z");
    let mut bare = Playbook { disabled: None, playbook: least(), ..stored() };
    bare.playbook.created_at = Some(bare.created_at);
    assert_eq!(Playbook::from_json(bare.to_json()).unwrap(), bare);
}

#[test]
fn what_is_left_out_is_null_and_has_its_default() {
    let line = r#"{"playbook_id":"a","version":"1.0.0","name":"n","description":"","content":""}"#;
    let read = NewPlaybook::from_json(line).unwrap();
    assert_eq!((read.status, read.is_latest, read.labels.len()), (Status::Active, false, 0));
    assert_eq!(NewPlaybook::from_json(read.to_json()).unwrap(), read);
}

// X-EDGE-069: the same label twice is the last one, as everywhere in JSON.
#[test]
fn of_equal_labels_the_last_one_holds() {
    let line = r#"{"playbook_id":"a","version":"1.0.0","name":"n","description":"","content":"","labels":{"k":"1","k":"2"}}"#;
    let read = NewPlaybook::from_json(line).unwrap();
    assert_eq!(read.labels, BTreeMap::from([("k".to_owned(), "2".to_owned())]));
}

// Every number of single precision survives, the smallest too.
#[test]
fn vectors_survive_to_the_bit() {
    let mut numbers = vec![0.1_f32; Embedding::LEN];
    numbers[..6].copy_from_slice(&[f32::MAX, f32::MIN_POSITIVE, 1e-45, -1.0e-7, 16_777_217.0, 1.0 / 3.0]);
    let playbook = NewPlaybook { embedding: Some(Embedding::new(numbers).unwrap()), ..least() };
    for read in [
        NewPlaybook::from_json(playbook.to_json()).unwrap(),
        NewPlaybook::from_json(Json::parse(&playbook.to_json()).unwrap()).unwrap(),
    ] {
        assert_eq!(read.embedding, playbook.embedding);
    }
}

#[rstest]
#[case("playbook_id", "\"\"")]
#[case("playbook_id", "7")]
#[case("playbook_id", "null")]
#[case("version", "\"latest\"")]
#[case("version", "1.0")]
#[case("name", "null")]
#[case("content", "null")]
#[case("description", "[]")]
#[case("owner", "\"\"")]
#[case("labels", "[]")]
#[case("labels", "{\"a\":1}")]
#[case("labels", "{\"a\":null}")]
#[case("embedding", "[1,2,3]")]
#[case("embedding", "\"AAAA\"")]
#[case("status", "\"ACTIVE\"")]
#[case("is_latest_version", "1")]
#[case("is_latest_version", "\"t\"")]
#[case("approved_at", "\"yesterday\"")]
#[case("created_at", "0")]
#[case("expected_success_rate", "1.5")]
#[case("expected_success_rate", "0.1234")]
#[case("expected_success_rate", "\"0.5\"")]
#[case("expected_duration_seconds", "-1")]
#[case("expected_duration_seconds", "1.5")]
#[case("total_executions", "0")]
#[case("updated_at", "null")]
#[case("tenant_id", "\"acme\"")]
#[case("Name", "\"n\"")]
fn what_does_not_fit_is_invalid_and_names_its_column(#[case] column: &str, #[case] value: &str) {
    let mut columns: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&sample().to_json()).unwrap();
    columns.insert(column.to_owned(), RawValue::from_string(value.to_owned()).unwrap());
    let line = serde_json::to_string(&columns).unwrap();
    let error = NewPlaybook::from_json(&line).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains(column), "{error}");
}

#[rstest]
#[case("total_executions", "null")]
#[case("total_executions", "-1")]
#[case("updated_at", "null")]
#[case("created_at", "null")]
#[case("disabled_at", "null")]
fn stored_versions_have_what_the_store_gives(#[case] column: &str, #[case] value: &str) {
    let mut columns: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&stored().to_json()).unwrap();
    columns.insert(column.to_owned(), RawValue::from_string(value.to_owned()).unwrap());
    let error = Playbook::from_json(serde_json::to_string(&columns).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains(column), "{error}");
}

#[test]
fn a_line_that_is_no_object_is_invalid() {
    for bad in ["", "[]", "{", "null", "{\"name\":\"\\ud800\"}", "{\"name\":1} {}"] {
        assert_eq!(NewPlaybook::from_json(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
    }
}
