//! Text, vectors and the embedder between them: what it is given, and what its failures do.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use changeover_core::playbooks::{
    Embedder, Embedding, HashingEmbedder, MAX_EMBEDDED, NewPlaybook, Search, embedding_text,
};
use changeover_core::{ErrorKind, Result};

use crate::harness::AnyHarness;
use crate::support::playbooks::{
    Answers, assert_stored, embedded, exact, found, labels, look, open, playbook, put, search, search_for,
    search_near, text, vector,
};
use crate::support::{Must, or_note, refused};

/// Notes what it is asked to embed.
#[derive(Default)]
struct Notes(Mutex<Vec<Vec<String>>>);

impl Notes {
    fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).concat()
    }
}

#[async_trait]
impl Embedder for Notes {
    fn model(&self) -> &'static str {
        HashingEmbedder::MODEL
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Embedding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(texts.to_vec());
        HashingEmbedder.embed(texts).await
    }
}

/// The texts that a search gives to its embedder, in byte order.
async fn given(h: &dyn AnyHarness, request: Search) -> Vec<String> {
    let notes = Arc::new(Notes::default());
    let embedder: Arc<dyn Embedder> = Arc::<Notes>::clone(&notes);
    search(&*open(h).await, Search { embedder, ..request }).await;
    let mut texts = notes.texts();
    texts.sort();
    texts
}

/// Versions written by hand without a vector are found beside those with one, ranked alike. (S3-PB-014, DEF-25)
pub async fn versions_without_a_vector_are_found(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(
        &*catalog,
        vec![embedded(playbook("drain node", "v1.0.0")), embedded(playbook("renew certificate", "v1.0.0"))],
    )
    .await;
    let by_hand = playbook("restart the pod", "v1.0.0");
    match or_note("writing rows by hand", h.faults().insert_playbook_by_sql(by_hand.clone()).await) {
        Some(answer) => answer.must("insert a version by SQL"),
        None => assert_eq!(put(&*catalog, vec![by_hand.clone()]).await.stored, 1),
    }
    let matches = search(&*catalog, search_for("restart pod")).await;
    assert_eq!(matches.len(), 3);
    assert_eq!(found(&matches)[0], "restart the pod");
    let right = HashingEmbedder::vector("restart pod")
        .confidence(&HashingEmbedder::vector(&embedding_text(&by_hand)));
    assert!((matches[0].confidence - right).abs() < 1e-5, "{} is not {right}", matches[0].confidence);
}

/// A query of text is embedded at each search, and so are the rows without a vector: name and description, with the labels
/// where there is no content; content never. (S3-PB-015, S3-EDGE-017, S3-EDGE-022)
pub async fn query_and_rows_without_a_vector_are_embedded(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let named = |playbook_id, content: &str| NewPlaybook {
        name: text("The name"),
        description: "the description".to_owned(),
        content: content.to_owned(),
        labels: labels([("key", "value"), ("b", "")]),
        ..playbook(playbook_id, "v1.0.0")
    };
    put(&*catalog, vec![named("a", "the content"), named("b", ""), embedded(named("c", "x"))]).await;
    let rows =
        ["The name\nthe description".to_owned(), "The name\nthe description\nb \nkey value".to_owned()];
    for _ in 0..2 {
        let mut expected = rows.to_vec();
        expected.push("a query".to_owned());
        assert_eq!(given(h, search_for("a query")).await, expected);
    }
    assert_eq!(given(h, search_near(vector(&[1.0]))).await, rows);
    let narrow = Search { labels: labels([("key", "other")]), ..search_for("a query") };
    assert_eq!(given(h, narrow).await, ["a query"]);
}

/// Text over 10 KB is cut between characters for embedding; what is stored is not. (S3-EDGE-020, X-EDGE-077)
pub async fn long_text_is_cut_for_embedding_only(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let long = NewPlaybook { description: "\u{1f980} crab".repeat(5_000), ..playbook("long", "v1.0.0") };
    put(&*catalog, vec![long.clone()]).await;
    let texts = given(h, search_for(&"caf\u{e9} ".repeat(17_000))).await;
    assert_eq!(texts.len(), 2);
    assert!(
        texts.iter().all(|text| (MAX_EMBEDDED - 4..=MAX_EMBEDDED).contains(&text.len())),
        "{}",
        texts[0].len()
    );
    assert_stored(&exact(&*catalog, "long", "v1.0.0").await, &long);
    assert_eq!(found(&search(&*catalog, search_for("crab")).await), ["long"]);
}

/// Text of any script and emoji is embedded, found and returned unchanged. (S3-EDGE-021)
pub async fn any_script_is_embedded_and_returned_unchanged(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let names = [
        "\u{1f980}\u{1f525} crabs on fire",
        "Ärger mit Straßen",
        "データベースの復旧",
        "Восстановление базы",
        "e\u{301}tat",
    ];
    let new = |number: usize| NewPlaybook {
        name: text(names[number]),
        description: String::new(),
        ..playbook(&format!("p{number}"), "v1.0.0")
    };
    put(&*catalog, (0..names.len()).map(new).collect()).await;
    for (number, query) in
        ["\u{1f980} fire", "ärger STRASSEN straßen", "データベース", "базы восстановление", "e\u{301}tat"]
            .into_iter()
            .enumerate()
    {
        let matches = search(&*catalog, search_for(query)).await;
        assert_stored(&matches[0].playbook, &new(number));
        assert_eq!(matches.len(), names.len());
    }
}

/// An empty query, and one of spaces or punctuation only, is Invalid. (S3-EDGE-016, X-EDGE-077)
pub async fn query_without_words_is_invalid(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![embedded(playbook("a", "v1.0.0"))]).await;
    for query in ["", " ", "\n\t \u{3000}", "?!...", "%_'\"", "\u{1f980}"] {
        refused(catalog.search(search_for(query)).await.map(drop), ErrorKind::Invalid);
    }
    assert_eq!(search(&*catalog, search_for("1")).await.len(), 1);
}

/// The failure of an embedder is the failure of the search, of its kind, also where nothing is stored; with a vector and
/// rows that have theirs nothing is embedded. (S3-EDGE-023, S3-EDGE-049)
pub async fn failure_of_the_embedder_fails_the_search(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    for kind in [ErrorKind::Timeout, ErrorKind::Unavailable] {
        let failing = |request| Search { embedder: Answers::failing(kind), ..request };
        refused(catalog.search(failing(search_for("a"))).await, kind);
    }
    put(&*catalog, vec![embedded(playbook("a", "v1.0.0"))]).await;
    let before = look(h, &*catalog, &["a", "b"]).await;
    for kind in [ErrorKind::Timeout, ErrorKind::Unavailable] {
        let failing = |request| Search { embedder: Answers::failing(kind), ..request };
        refused(catalog.search(failing(search_for("a"))).await, kind);
        assert_eq!(search(&*catalog, failing(search_near(vector(&[1.0])))).await.len(), 1);
    }
    assert_eq!(look(h, &*catalog, &["a", "b"]).await, before);
    put(&*catalog, vec![playbook("b", "v1.0.0")]).await;
    let request = Search { embedder: Answers::failing(ErrorKind::Timeout), ..search_near(vector(&[1.0])) };
    refused(catalog.search(request).await, ErrorKind::Timeout);
    assert_eq!(search(&*catalog, search_for("a")).await.len(), 2);
}

/// An embedder that answers another number of vectors, or zeros, is refused as Unexpected, and nothing is stored of it.
/// (S3-EDGE-024)
pub async fn wrong_answers_of_the_embedder_are_refused(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("a", "v1.0.0"), playbook("b", "v1.0.0")]).await;
    let before = look(h, &*catalog, &["a", "b"]).await;
    let good = HashingEmbedder::vector("a");
    for wrong in [vec![], vec![good.clone(); 3], vec![vector(&[])], vec![good, vector(&[])]] {
        for request in [search_for("a"), search_near(vector(&[1.0]))] {
            let embedder = Arc::new(Answers(Ok(wrong.clone())));
            refused(catalog.search(Search { embedder, ..request }).await, ErrorKind::Unexpected);
        }
    }
    assert_eq!(look(h, &*catalog, &["a", "b"]).await, before);
}
