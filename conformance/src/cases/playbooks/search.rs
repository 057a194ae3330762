//! Searching: which versions are offered, how many, in what order.

use std::collections::BTreeMap;

use changeover_core::playbooks::{
    Edit, Embedding, HashingEmbedder, Lookup, Match, NewPlaybook, Playbook, Search, Status, embedding_text,
};
use changeover_core::{ErrorKind, Limit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::AnyHarness;
use crate::support::playbooks::{
    assert_stored, change, embedded, exact, found, get, labels, older, open, playbook, put, search,
    search_for, search_near, text, vector,
};
use crate::support::{Must, limit, refused};

/// The confidence is right and the order is that of confidence, then id.
fn assert_ranked(matches: &[Match]) {
    for pair in matches.windows(2) {
        let (one, next) = (&pair[0], &pair[1]);
        let ids = (&one.playbook.playbook.playbook_id, &next.playbook.playbook.playbook_id);
        let in_order = one.confidence > next.confidence
            || one.confidence.to_bits() == next.confidence.to_bits() && ids.0 < ids.1;
        assert!(in_order, "{} {} before {} {}", ids.0, one.confidence, ids.1, next.confidence);
    }
    assert!(matches.iter().all(|found| (0.0..=1.0).contains(&found.confidence)));
}

fn at(playbook_id: &str, first: &[f32]) -> NewPlaybook {
    NewPlaybook { embedding: Some(vector(first)), ..playbook(playbook_id, "v1.0.0") }
}

/// Only latest versions that are active are found, each whole and as stored. (S3-PB-017)
pub async fn only_active_latest_versions_are_found(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let of = |playbook_id, status| NewPlaybook { status, ..embedded(playbook(playbook_id, "v2.0.0")) };
    let offered = of("offered", Status::Active);
    put(
        &*catalog,
        vec![offered.clone(), embedded(older("offered", "v1.0.0")), embedded(older("offered", "v3.0.0"))],
    )
    .await;
    put(
        &*catalog,
        vec![
            of("disabled", Status::Disabled),
            of("deprecated", Status::Deprecated),
            of("archived", Status::Archived),
        ],
    )
    .await;
    let matches = search(&*catalog, search_for("offered disabled deprecated archived")).await;
    assert_eq!(found(&matches), ["offered"]);
    assert_stored(&matches[0].playbook, &offered);
}

/// Labels narrow a search: all must be there with their values, those of older versions do not count. (P55, S3-PB-017,
/// DEF-27)
pub async fn labels_narrow_a_search(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    for (playbook_id, given) in [
        ("a", labels([("team", "red"), ("app.kubernetes.io/name", "o'brien")])),
        ("b", labels([("team", "red"), ("empty", "")])),
        ("c", labels([("team", "Red")])),
        ("d", labels([])),
    ] {
        let old =
            NewPlaybook { labels: labels([("team", "red"), ("old", "1")]), ..older(playbook_id, "v0.1.0") };
        put(&*catalog, vec![old, NewPlaybook { labels: given, ..embedded(playbook(playbook_id, "v1.0.0")) }])
            .await;
    }
    for (asked, expected) in [
        (labels([]), &["a", "b", "c", "d"][..]),
        (labels([("team", "red")]), &["a", "b"]),
        (labels([("team", "red"), ("empty", "")]), &["b"]),
        (labels([("team", "red"), ("app.kubernetes.io/name", "o'brien")]), &["a"]),
        (labels([("team", "Red"), ("empty", "")]), &[]),
        (labels([("old", "1")]), &[]),
        (labels([("team", "")]), &[]),
    ] {
        // Equal confidence for all, so that the ids give the order.
        let request = Search { labels: asked.clone(), ..search_near(vector(&[])) };
        assert_eq!(found(&search(&*catalog, request).await), expected, "{asked:?}");
    }
    let request = Search { labels: labels([("a\0b", "c")]), ..search_for("a") };
    refused(catalog.search(request).await, ErrorKind::Invalid);
}

/// Confidence is the cosine similarity held to 0..=1: an opposite vector has 0, a longer one the same, a zero vector 0.
/// (S3-PB-019, X-EDGE-076)
pub async fn confidence_is_cosine_similarity_held_to_0_and_1(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(
        &*catalog,
        vec![
            at("a-same", &[3.0, 4.0]),
            at("b-longer", &[6.0e10, 8.0e10]),
            at("c-half", &[4.0, -3.0, 5.0]),
            at("d-orthogonal", &[4.0, -3.0]),
            at("e-opposite", &[-3.0, -4.0]),
            at("f-zero", &[]),
            at("g-near", &[3.0, 4.5]),
            at("h-tiny", &[3.0e-20, 4.0e-20]),
        ],
    )
    .await;
    let matches = search(&*catalog, search_near(vector(&[3.0, 4.0]))).await;
    assert_ranked(&matches);
    let of = |playbook_id: &str| {
        let found = matches.iter().find(|found| found.playbook.playbook.playbook_id.as_str() == playbook_id);
        found.must(playbook_id).confidence
    };
    let near = 27.0 / (5.0 * (9.0_f64 + 20.25).sqrt());
    for (playbook_id, expected) in [
        ("a-same", 1.0),
        ("b-longer", 1.0),
        ("c-half", 0.0),
        ("d-orthogonal", 0.0),
        ("e-opposite", 0.0),
        ("f-zero", 0.0),
        ("g-near", near),
        ("h-tiny", 1.0),
    ] {
        assert!(
            (of(playbook_id) - expected).abs() < 1e-6,
            "{playbook_id}: {} is not {expected}",
            of(playbook_id)
        );
    }
    let of_zero = search(&*catalog, search_near(vector(&[]))).await;
    assert_eq!(of_zero.len(), 8);
    assert!(of_zero.iter().all(|found| found.confidence == 0.0), "near to nothing");
}

/// A threshold of 0 finds everything, in order. (S3-EDGE-027)
pub async fn threshold_of_0_finds_everything(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let all =
        [("a", [-1.0, 0.0]), ("b", [0.0, 1.0]), ("c", [1.0, 0.0]), ("d", [1.0, 1.0]), ("e", [0.0, 0.0])];
    put(&*catalog, all.map(|(playbook_id, first)| at(playbook_id, &first)).into()).await;
    let matches = search(&*catalog, search_near(vector(&[1.0]))).await;
    assert_eq!(found(&matches), ["c", "d", "a", "b", "e"]);
    assert_ranked(&matches);
}

/// A threshold of 1 finds what is equal within 1e-6, and nothing else. (S3-EDGE-028)
pub async fn threshold_of_1_finds_what_is_equal(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    // The cosine is 1 less half the square of the second number.
    let all =
        [("same", [1.0, 0.0]), ("scaled", [0.3, 0.0]), ("near", [1.0, 0.001]), ("not near", [1.0, 0.002])];
    put(&*catalog, all.map(|(playbook_id, first)| at(playbook_id, &first)).into()).await;
    let text = embedded(playbook("text", "v1.0.0"));
    put(&*catalog, vec![text.clone(), embedded(playbook("next", "v1.0.0"))]).await;
    for (query, expected) in
        [(vector(&[1.0]), &["same", "scaled", "near"][..]), (text.embedding.must("a vector"), &["text"])]
    {
        let request = Search { min_confidence: 1.0, ..search_near(query) };
        let mut ids = found(&search(&*catalog, request).await);
        ids.sort_by_key(|id| expected.iter().position(|expected| expected == id));
        assert_eq!(ids, expected);
    }
}

/// What is at the threshold stays, what is below it is dropped, and nothing above it is an empty answer. (S3-EDGE-029,
/// P56)
pub async fn what_is_at_the_threshold_stays(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![at("at", &[3.0, 4.0]), at("below", &[3.0, 4.01]), at("above", &[3.0, 3.99])]).await;
    let near = |min_confidence| Search { min_confidence, ..search_near(vector(&[1.0])) };
    assert_eq!(found(&search(&*catalog, near(0.6)).await), ["above", "at"]);
    assert_eq!(found(&search(&*catalog, near(0.6005)).await), ["above"]);
    assert_eq!(found(&search(&*catalog, near(0.9)).await), Vec::<String>::new());
    for bad in [-0.1, 1.000_001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(catalog.search(near(bad)).await.map(|_| ()), ErrorKind::Invalid);
    }
}

/// Equal confidence is ordered by id, byte by byte, also where the limit cuts among equals. (S3-PB-020, S3-EDGE-030)
pub async fn equal_confidence_is_ordered_by_id(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let expected = ["10", "9", "B", "a", "a b", "ab", "b", "\u{e9}", "\u{1f980}"];
    let mut shuffled = expected;
    shuffled.sort_by_key(|id| (id.len() * 7 % 5, std::cmp::Reverse(*id)));
    for playbook_id in shuffled {
        put(&*catalog, vec![at(playbook_id, &[1.0, 2.0])]).await;
    }
    for (query, size) in
        [(vector(&[2.0, 4.0]), 9), (vector(&[]), 9), (vector(&[-1.0]), 4), (vector(&[1.0]), 1)]
    {
        let request = Search { max_results: limit(size), ..search_near(query) };
        let matches = search(&*catalog, request).await;
        assert_eq!(found(&matches), expected[..matches.len()]);
        assert_eq!(matches.len(), usize::try_from(size).must("a count"));
    }
}

/// A limit of 0 and one above 10,000 cannot be made; within, as many as match come. (S3-EDGE-025, S3-EDGE-026)
pub async fn limits_are_kept_or_refused(h: &dyn AnyHarness) {
    for bad in [0, -1, i64::from(Limit::MAX) + 1, i64::MAX] {
        refused(Limit::new(bad), ErrorKind::Invalid);
    }
    let catalog = open(h).await;
    put(&*catalog, (0..7).map(|number| embedded(playbook(&format!("p{number}"), "v1.0.0"))).collect()).await;
    for (size, expected) in [(1, 1), (6, 6), (7, 7), (8, 7), (100, 7), (101, 7), (10_000, 7)] {
        let request = Search { max_results: limit(size), ..search_for("what to do") };
        let matches = search(&*catalog, request).await;
        assert_eq!(matches.len(), expected, "at most {size}");
        assert_ranked(&matches);
    }
}

/// An empty catalog answers with an empty list. (S3-EDGE-019)
pub async fn empty_catalog_finds_nothing(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    assert_eq!(search(&*catalog, search_for("anything")).await, []);
    assert_eq!(search(&*catalog, search_near(vector(&[1.0]))).await, []);
    put(&*catalog, vec![older("draft", "v1.0.0")]).await;
    assert_eq!(search(&*catalog, search_for("anything")).await, []);
}

/// Full pages come out of 4,000 playbooks: 100 of all, all 80 that a narrow filter leaves, with and without a threshold.
/// (S3-PB-018, X-EDGE-074, X-EDGE-075, DEF-26)
pub async fn full_pages_come_out_of_thousands(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let mut random = StdRng::seed_from_u64(74);
    let mut all = Vec::new();
    for batch in 0..4 {
        let new: Vec<_> = (0..1_000)
            .map(|number| {
                let rare = number % 50 == 7;
                NewPlaybook {
                    embedding: Some(random_vector(&mut random)),
                    labels: labels([
                        ("rare", if rare { "yes" } else { "no" }),
                        ("batch", &batch.to_string()),
                    ]),
                    ..playbook(&format!("p{batch}-{number:03}"), "v1.0.0")
                }
            })
            .collect();
        put(&*catalog, new.clone()).await;
        all.extend(new);
    }
    let query = random_vector(&mut random);
    for (asked, min_confidence, size, expected) in [
        (labels([]), 0.0, 100, 100),
        (labels([("rare", "yes")]), 0.0, 100, 80),
        (labels([("rare", "yes")]), 0.0, 50, 50),
        (labels([("rare", "yes"), ("batch", "2")]), 0.0, 100, 20),
        (labels([("rare", "no")]), 0.0, 1_000, 1_000),
        (labels([("rare", "yes")]), 0.03, 100, usize::MAX),
    ] {
        let request = Search {
            labels: asked.clone(),
            min_confidence,
            max_results: limit(size),
            ..search_near(query.clone())
        };
        let matches = search(&*catalog, request.clone()).await;
        assert!(
            matches.len() == expected || expected == usize::MAX,
            "{} of {expected} for {asked:?}",
            matches.len()
        );
        assert_is_ranking(&matches, &ranking(&all, &query, &request));
    }
}

/// The ranking is that of an exact scan in double precision: the same ids, and confidences within 1e-5, whatever the
/// threshold, the labels and the limit. (S3-PB-021)
pub async fn ranking_is_that_of_an_exact_scan(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let mut random = StdRng::seed_from_u64(21);
    let mut all: Vec<_> = (0..400)
        .map(|number| NewPlaybook {
            // Some without a vector, some equal to others, some zero.
            embedding: match number % 10 {
                0 => None,
                1 => Some(vector(&[1.0, 1.0, 1.0])),
                2 => Some(vector(&[])),
                _ => Some(random_vector(&mut random)),
            },
            status: Status::ALL[usize::from(number % 7 == 0) + usize::from(number % 14 == 0)],
            is_latest: number % 5 != 4,
            labels: labels([("team", ["red", "blue"][number % 2]), ("tier", &(number % 3).to_string())]),
            ..playbook(&format!("p{number}"), "v1.0.0")
        })
        .collect();
    put(&*catalog, all.clone()).await;
    all.retain(|new| new.is_latest && new.status == Status::Active);
    for number in 0..24_i64 {
        let query = if number % 6 == 0 { vector(&[1.0, 1.0]) } else { random_vector(&mut random) };
        let request = Search {
            labels: if number % 2 == 0 { labels([]) } else { labels([("team", "red")]) },
            min_confidence: [0.0, 0.02, 0.1][usize::try_from(number).must("a number") % 3],
            max_results: limit([1, 10, 41, 1_000][usize::try_from(number).must("a number") % 4]),
            ..search_near(query.clone())
        };
        let matches = search(&*catalog, request.clone()).await;
        assert_ranked(&matches);
        assert_is_ranking(&matches, &ranking(&all, &query, &request));
    }
}

fn random_vector(random: &mut StdRng) -> Embedding {
    let numbers: Vec<f32> = (0..Embedding::LEN).map(|_| random.random_range(-1.0..1.0)).collect();
    Embedding::new(numbers).must("a vector")
}

/// A second opinion on the order: everything computed, everything sorted.
fn ranking(all: &[NewPlaybook], query: &Embedding, request: &Search) -> Vec<(String, f64)> {
    let has = |new: &NewPlaybook, asked: &BTreeMap<String, String>| {
        asked.iter().all(|(key, value)| new.labels.get(key) == Some(value))
    };
    let mut ranked: Vec<_> = all
        .iter()
        .filter(|new| has(new, &request.labels))
        .map(|new| {
            let own = new.embedding.clone().unwrap_or_else(|| HashingEmbedder::vector(&embedding_text(new)));
            (new.playbook_id.to_string(), cosine(query.as_slice(), own.as_slice()))
        })
        .filter(|(_, confidence)| *confidence >= request.min_confidence)
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.as_bytes().cmp(b.0.as_bytes())));
    ranked.truncate(request.max_results.get() as usize);
    ranked
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths == 0.0 { 0.0 } else { (dot(a, b) / lengths).clamp(0.0, 1.0) }
}

fn assert_is_ranking(matches: &[Match], expected: &[(String, f64)]) {
    let ids: Vec<_> = expected.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(found(matches), ids);
    for (found, (id, confidence)) in matches.iter().zip(expected) {
        assert!(
            (found.confidence - confidence).abs() < 1e-5,
            "{id}: {} is not {confidence}",
            found.confidence
        );
    }
}

/// A search sees what was put and changed before it, by whichever client. (P57)
pub async fn search_sees_what_was_written_before_it(h: &dyn AnyHarness) {
    let (catalog, other) = (open(h).await, open(h).await);
    for round in 0..5 {
        let (new, was) = (format!("new{round}"), format!("new{}", round - 1));
        put(&*other, vec![embedded(playbook(&new, "v1.0.0"))]).await;
        let ids = found(&search(&*catalog, search_for(&new)).await);
        assert_eq!(ids.first(), Some(&new));
        if round > 0 {
            change(&*other, &was, "v2.0.0", Edit::Status(Status::Disabled, None)).await;
            assert!(!found(&search(&*catalog, search_for(&was)).await).contains(&was), "{was} is disabled");
        }
        change(&*other, &new, "v1.0.0", Edit::Embedding(Some(vector(&[1.0])))).await;
        let nearest = search(&*catalog, search_near(vector(&[1.0]))).await;
        assert_eq!(nearest[0].confidence.to_bits(), 1.0_f64.to_bits(), "the new vector of {new}");
        put(&*other, vec![embedded(older(&new, "v2.0.0"))]).await;
        change(&*other, &new, "v2.0.0", Edit::MakeLatest).await;
        let latest = search(&*catalog, search_for(&new)).await;
        assert_eq!(latest[0].playbook.playbook.version.as_str(), "v2.0.0");
    }
}

/// Vectors that are taken away leave their playbooks searchable, with the same ranking as with vectors of their texts.
/// (X-PB-024)
pub async fn playbooks_stay_searchable_without_their_vectors(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let names = ["restart the pod", "drain the node", "renew certificates", "clear the queue"];
    let new = |number: usize| NewPlaybook {
        name: text(names[number]),
        ..playbook(&format!("p{number}"), "v1.0.0")
    };
    put(&*catalog, (0..4).map(|number| embedded(new(number))).collect()).await;
    let with = search(&*catalog, search_for("certificates of a node")).await;
    let shown = |matches: &[Match]| {
        matches.iter().map(|m| (m.playbook.playbook.playbook_id.clone(), m.confidence)).collect::<Vec<_>>()
    };
    for number in 0..4 {
        change(&*catalog, &format!("p{number}"), "v1.0.0", Edit::Embedding(None)).await;
    }
    let without = search(&*catalog, search_for("certificates of a node")).await;
    assert_eq!(found(&with)[..2], ["p2", "p1"]);
    for (one, other) in shown(&with).into_iter().zip(shown(&without)) {
        assert!(one.0 == other.0 && (one.1 - other.1).abs() < 1e-5, "{one:?} {other:?}");
    }
    assert!(without.iter().all(|found| found.playbook.playbook.embedding.is_none()));
}

/// Searches leave everything as it was: no vector is stored, no time moves. (S3-PB-013)
pub async fn searches_change_nothing(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("a", "v1.0.0"), embedded(playbook("b", "v1.0.0"))]).await;
    let all = async || -> [Playbook; 2] {
        [exact(&*catalog, "a", "v1.0.0").await, exact(&*catalog, "b", "v1.0.0").await]
    };
    let before = all().await;
    for query in ["a", "b", "what to do"] {
        assert_eq!(search(&*catalog, search_for(query)).await.len(), 2);
    }
    assert_eq!(all().await, before);
    assert_eq!(get(&*catalog, "a", Lookup::Latest).await.must("a").playbook.embedding, None);
}
