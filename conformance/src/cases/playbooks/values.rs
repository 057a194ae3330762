//! What may stand in a version of a playbook, and that it stays as it was given.

use std::collections::BTreeMap;

use changeover_core::playbooks::{
    Embedding, ListPlaybooks, Lookup, NewPlaybook, PlaybookId, PlaybookVersion, Put, Rate,
};
use changeover_core::{ErrorKind, Text};

use crate::harness::AnyHarness;
use crate::support::playbooks::{
    assert_stored, exact, get, ids, labels, latest, list, older, open, playbook, put, version_texts, versions,
};
use crate::support::{Must, refused};

/// Playbook ids of 1 to 255 characters of any kind are kept as given and told apart byte by byte; others cannot be made.
/// (P18, X-EDGE-070)
pub async fn playbook_ids_are_kept_as_given(h: &dyn AnyHarness) {
    for bad in [String::new(), "a\0b".to_owned(), "a".repeat(256), "\u{e9}".repeat(256)] {
        refused(PlaybookId::new("playbook_id", bad), ErrorKind::Invalid);
    }
    let catalog = open(h).await;
    let long = "\u{1f980}".repeat(255);
    let given = [
        "a/b",
        "../a",
        ".",
        " a",
        "a ",
        "A",
        "a",
        "a%2Fb",
        "%41",
        "a.b",
        "\u{e9}",
        "e\u{301}",
        "o'brien",
        "\"",
        "\\",
        "; drop table playbook_catalog",
        "line\nbreak",
        "0",
        "null",
        "_",
        "%",
        &long,
    ];
    for playbook_id in given {
        put(&*catalog, vec![playbook(playbook_id, "v1.0.0")]).await;
    }
    for playbook_id in given {
        let found = get(&*catalog, playbook_id, Lookup::Latest).await.must("the playbook");
        assert_stored(&found, &playbook(playbook_id, "v1.0.0"));
        assert_eq!(versions(&*catalog, playbook_id, 10).await.len(), 1, "{playbook_id:?}");
    }
    let mut sorted = given.map(str::to_owned);
    sorted.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(ids(&list(&*catalog, ListPlaybooks::default()).await), sorted);
}

/// Every byte of a content stays: line ends, a byte order mark, tabs, trailing space, an empty content; NUL is Invalid.
/// (P19, S3-EDGE-021)
pub async fn content_keeps_every_byte(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let contents = [
        "",
        " ",
        "\n",
        "\r\n",
        "a\r\nb\nc\r",
        "\u{feff}a",
        "a\tb ",
        "a\n\n",
        "\u{1f980} \u{e9} e\u{301} \u{202e}",
        "\u{1}\u{7f}\u{fffd}\u{fffe}\u{10ffff}",
        "'\"\\%_$1{}:name?",
        "\\x41\\u0041\\\\",
    ];
    for (number, content) in contents.into_iter().enumerate() {
        let at = format!("1.0.{number}");
        let new = NewPlaybook {
            content: content.to_owned(),
            description: content.to_owned(),
            version_notes: Some(content.to_owned()),
            ..older("bytes", &at)
        };
        put(&*catalog, vec![new.clone()]).await;
        assert_stored(&exact(&*catalog, "bytes", &at).await, &new);
    }
    let edits: [fn(&mut NewPlaybook); 5] = [
        |new| new.content.push('\0'),
        |new| new.description.push('\0'),
        |new| new.version_notes = Some("\0".to_owned()),
        |new| new.change_summary = Some("a\0".to_owned()),
        |new| drop(new.labels.insert("a".to_owned(), "\0".to_owned())),
    ];
    for edit in edits {
        let mut bad = playbook("nul", "1.0.0");
        edit(&mut bad);
        refused(catalog.put(Put { versions: vec![bad] }).await, ErrorKind::Invalid);
    }
    refused(Text::<255>::new("name", "a\0b"), ErrorKind::Invalid);
    assert_eq!(get(&*catalog, "nul", Lookup::Latest).await, None);
}

/// What is absent stays absent and what is empty stays empty. (P42)
pub async fn absent_and_empty_are_two_things(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    for (number, value) in [None, Some(""), Some(" "), Some("null")].into_iter().enumerate() {
        let at = format!("1.0.{number}");
        let new = NewPlaybook {
            version_notes: value.map(str::to_owned),
            change_summary: value.map(str::to_owned),
            labels: value.map(|value| ("key".to_owned(), value.to_owned())).into_iter().collect(),
            expected_success_rate: value.map(|_| Rate::from_thousandths(0).must("a rate")),
            expected_duration_seconds: value.map(|_| 0),
            ..older("optional", &at)
        };
        put(&*catalog, vec![new.clone()]).await;
        assert_stored(&exact(&*catalog, "optional", &at).await, &new);
    }
}

/// A description and notes of 65,536 characters are stored whole; longer ones are Invalid. (P46)
pub async fn long_texts_are_stored_whole_or_refused(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let long = "\u{e9}".repeat(NewPlaybook::MAX_TEXT);
    let new = NewPlaybook {
        description: long.clone(),
        version_notes: Some(long.clone()),
        change_summary: Some(long.clone()),
        name: Text::new("name", "\u{1f980}".repeat(255)).must("a name"),
        ..playbook("long", "1.0.0")
    };
    put(&*catalog, vec![new.clone()]).await;
    assert_stored(&exact(&*catalog, "long", "1.0.0").await, &new);
    let longer = format!("{long}x");
    for bad in [
        NewPlaybook { description: longer.clone(), ..playbook("longer", "1.0.0") },
        NewPlaybook { version_notes: Some(longer.clone()), ..playbook("longer", "1.0.0") },
        NewPlaybook { change_summary: Some(longer.clone()), ..playbook("longer", "1.0.0") },
    ] {
        refused(catalog.put(Put { versions: vec![bad] }).await, ErrorKind::Invalid);
    }
    assert_eq!(latest(&*catalog, "longer").await, None);
}

/// Labels are a set of keys with a value each: 0, 1 and 100 of them are kept, more or impossible ones are refused. (P43)
pub async fn up_to_100_labels_are_kept(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let of = |count: usize| (0..count).map(|number| (format!("key-{number}"), format!("value {number}")));
    for count in [0, 1, 100] {
        let at = format!("1.0.{count}");
        let new = NewPlaybook { labels: of(count).collect(), ..older("labels", &at) };
        put(&*catalog, vec![new.clone()]).await;
        assert_stored(&exact(&*catalog, "labels", &at).await, &new);
    }
    for (bad, kind) in [
        (of(101).collect(), ErrorKind::TooLarge),
        (labels([("", "a")]), ErrorKind::Invalid),
        (labels([("a\0b", "a")]), ErrorKind::Invalid),
        (labels([(&"k".repeat(256), "a")]), ErrorKind::Invalid),
        (labels([("a", &"v".repeat(256))]), ErrorKind::Invalid),
    ] {
        let new = NewPlaybook { labels: bad, ..older("refused", "1.0.0") };
        refused(catalog.put(Put { versions: vec![new] }).await, kind);
    }
    let (key, value) = ("\u{e9}".repeat(255), "\u{1f980}".repeat(255));
    let longest = NewPlaybook { labels: labels([(&key, &value)]), ..playbook("longest", "1.0.0") };
    put(&*catalog, vec![longest.clone()]).await;
    assert_stored(&exact(&*catalog, "longest", "1.0.0").await, &longest);
}

/// Label keys with dots, slashes, quotes and brackets and empty values are found by containment, and only by equality:
/// no wildcards, no case folding, no paths. (X-EDGE-069, S3-PB-017, P17)
pub async fn any_label_key_and_value_is_matched_literally(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let given = [
        ("app.kubernetes.io/name", "shop"),
        ("a.b", "c"),
        ("a", "b.c"),
        ("o'brien", "it's"),
        ("\"", "\""),
        ("\\", "\\"),
        ("{a,b}", "[1]"),
        ("$.a", "*"),
        ("empty", ""),
        ("Empty", "x"),
        ("%", "%"),
        ("_", "_"),
        ("case", "Shop"),
        ("\u{e9}", "\u{1f980}"),
        (" ", " "),
        ("null", "null"),
        ("number", "1"),
        ("true", "true"),
    ];
    for (number, label) in given.into_iter().enumerate() {
        put(
            &*catalog,
            vec![NewPlaybook { labels: labels([label]), ..playbook(&format!("p{number:02}"), "1.0.0") }],
        )
        .await;
    }
    for (number, label) in given.into_iter().enumerate() {
        let request = ListPlaybooks { labels: labels([label]), ..ListPlaybooks::default() };
        assert_eq!(ids(&list(&*catalog, request).await), [format!("p{number:02}")], "{label:?}");
    }
    for missing in [
        ("empty", "x"),
        ("case", "shop"),
        ("CASE", "Shop"),
        ("a", ""),
        ("app", "shop"),
        ("%", "x"),
        ("number", "1.0"),
    ] {
        let request = ListPlaybooks { labels: labels([missing]), ..ListPlaybooks::default() };
        assert_eq!(list(&*catalog, request).await, [], "{missing:?}");
    }
    for impossible in [labels([("a\0b", "c")]), labels([("", "c")])] {
        let request = ListPlaybooks { labels: impossible, ..ListPlaybooks::default() };
        refused(catalog.list(request).await, ErrorKind::Invalid);
    }
}

/// Versions are semantic versions, kept as they are written and ordered by meaning: v1.10.0 after v1.9.0, a release after
/// its pre-releases; others cannot be made. (S3-PB-011, X-EDGE-071, DEF-24)
pub async fn versions_are_ordered_by_meaning(h: &dyn AnyHarness) {
    for bad in [
        "", "v", "1.2", "1.2.3.4", "vv1.2.3", "V1.2.3", "01.2.3", "latest", " 1.2.3", "1.2.3 ", "1.2.3-",
        "1.2.-3",
    ] {
        refused(PlaybookVersion::new(bad), ErrorKind::Invalid);
    }
    let catalog = open(h).await;
    let ascending = [
        "0.0.0",
        "v0.9.10",
        "v1.0.0-alpha",
        "v1.0.0-alpha.1",
        "v1.0.0-alpha.beta",
        "v1.0.0-beta.2",
        "v1.0.0-beta.11",
        "v1.0.0-rc.1",
        "1.0.0",
        "1.0.0+build.2",
        "v1.0.0",
        "v1.2.0",
        "v1.9.0",
        "v1.10.0",
        "v2.0.0-0",
        "2.0.0",
        "18446744073709551615.0.0",
    ];
    // In an order of no meaning.
    let mut shuffled = ascending;
    shuffled.sort_by_key(|text| (text.len(), text.chars().rev().collect::<String>()));
    for text in shuffled {
        put(&*catalog, vec![older("order", text)]).await;
    }
    let mut descending = ascending;
    descending.reverse();
    for page in [1, 3, 100] {
        assert_eq!(version_texts(&versions(&*catalog, "order", page).await), descending, "pages of {page}");
    }
    for text in ascending {
        assert_stored(&exact(&*catalog, "order", text).await, &older("order", text));
    }
    assert_eq!(
        get(&*catalog, "order", Lookup::Exact(PlaybookVersion::new("v0.0.0").must("a version"))).await,
        None
    );
}

/// Vectors are kept to the bit; one of another size or with a number that is not finite cannot be made. (S3-EDGE-018)
pub async fn vectors_are_kept_to_the_bit(h: &dyn AnyHarness) {
    for bad in [vec![], vec![0.5; 383], vec![0.5; 385], vec![f32::NAN; 384], vec![f32::INFINITY; 384]] {
        refused(Embedding::new(bad), ErrorKind::Invalid);
    }
    let catalog = open(h).await;
    let mut numbers = vec![1.0 / 3.0; Embedding::LEN];
    numbers[..6].copy_from_slice(&[f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, 16_777_217.0, 0.0]);
    for (at, numbers) in [("1.0.0", numbers), ("1.0.1", vec![0.0; Embedding::LEN])] {
        let embedding = Some(Embedding::new(numbers).must("a vector"));
        let new = NewPlaybook { embedding, ..older("vector", at) };
        put(&*catalog, vec![new.clone()]).await;
        assert_stored(&exact(&*catalog, "vector", at).await, &new);
    }
}

/// Labels asked for with letters of another case match nothing, also beyond ASCII. (P16)
pub async fn case_matters_in_every_script(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    for value in ["straße", "STRASSE", "ÄRGER", "ärger", "İ", "i"] {
        let new = NewPlaybook { labels: labels([("word", value)]), ..playbook(value, "1.0.0") };
        put(&*catalog, vec![new]).await;
    }
    for value in ["straße", "STRASSE", "ÄRGER", "ärger", "İ", "i"] {
        let labels = BTreeMap::from([("word".to_owned(), value.to_owned())]);
        let found = list(&*catalog, ListPlaybooks { labels, ..ListPlaybooks::default() }).await;
        assert_eq!(ids(&found), [value]);
    }
}
