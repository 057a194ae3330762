//! What is embedded of a playbook and of a query, and what an embedder's answer must be.

use std::fmt::Write as _;

use super::Embedder;
use super::request::{Query, Search};
use super::values::{Embedding, NewPlaybook};
use crate::error::{Error, ErrorKind, Result};

/// The most bytes of a text that are embedded. What is stored is never cut.
pub const MAX_EMBEDDED: usize = 10 * 1024;
/// The most texts an embedder is given at once.
const BATCH: usize = 256;

/// The text that stands for a playbook when vectors are made: name and description, with the labels if there is no
/// content; at most [`MAX_EMBEDDED`] bytes, cut between characters. The content is never in it.
pub fn embedding_text(playbook: &NewPlaybook) -> String {
    let mut text = format!("{}\n{}", playbook.name, playbook.description);
    if playbook.content.is_empty() {
        for (key, value) in &playbook.labels {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{key} {value}");
        }
    }
    text.truncate(text.floor_char_boundary(MAX_EMBEDDED));
    text
}

/// One vector a text, in order: what every backend uses for rows without a vector.
///
/// # Errors
/// The embedder's own; `Unexpected` if it answers another number of vectors or a zero vector, which would be near to
/// nothing.
pub async fn embed(embedder: &dyn Embedder, texts: &[String]) -> Result<Vec<Embedding>> {
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        let answer = embedder.embed(batch).await?;
        if answer.len() != batch.len() {
            let (found, asked) = (answer.len(), batch.len());
            return Err(wrong(embedder, &format!("answered {found} vectors to {asked} texts")));
        }
        if answer.iter().any(|vector| vector.as_slice().iter().all(|number| *number == 0.0)) {
            return Err(wrong(embedder, "answered a vector of zeros"));
        }
        vectors.extend(answer);
    }
    Ok(vectors)
}

impl Search {
    /// The vector that is searched for: the one given, or that of the text (of its first [`MAX_EMBEDDED`] bytes).
    ///
    /// # Errors
    /// As [`embed`].
    pub async fn vector(&self) -> Result<Embedding> {
        match &self.query {
            Query::Vector(vector) => Ok(vector.clone()),
            Query::Text(text) => {
                let text = text[..text.floor_char_boundary(MAX_EMBEDDED)].to_owned();
                let mut vectors = embed(&*self.embedder, &[text]).await?;
                vectors.pop().ok_or_else(|| wrong(&*self.embedder, "answered no vector"))
            }
        }
    }
}

fn wrong(embedder: &dyn Embedder, problem: &str) -> Error {
    let message = format!("the embedder {problem}; look at the service behind it");
    Error::new(ErrorKind::Unexpected, message).with("model", embedder.model())
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures::executor::block_on;

    use super::*;
    use crate::playbooks::HashingEmbedder;
    use crate::playbooks::wire::tests::sample;

    // S3-PB-015, S3-EDGE-022
    #[test]
    fn name_and_description_stand_for_a_playbook_and_labels_where_there_is_no_content() {
        let mut playbook = sample();
        playbook.content = "the secret of the content".to_owned();
        assert_eq!(embedding_text(&playbook), "Restart the pod\nWhen it \"crashes\" 🦀");
        playbook.content.clear();
        assert_eq!(
            embedding_text(&playbook),
            "Restart the pod\nWhen it \"crashes\" 🦀\nempty \nkubernetes.io/kind pod's"
        );
    }

    // S3-EDGE-020: cut between characters, for embedding only.
    #[test]
    fn long_text_is_cut_between_characters() {
        let mut playbook = sample();
        playbook.description = "🦀".repeat(5_000);
        let text = embedding_text(&playbook);
        assert!(text.len() <= MAX_EMBEDDED && text.len() > MAX_EMBEDDED - 4, "{} bytes", text.len());
        assert!(text.ends_with('🦀'));
    }

    struct Answers(Vec<Embedding>);

    #[async_trait]
    impl Embedder for Answers {
        fn model(&self) -> &'static str {
            "answers"
        }

        async fn embed(&self, _: &[String]) -> Result<Vec<Embedding>> {
            Ok(self.0.clone())
        }
    }

    // S3-EDGE-024
    #[test]
    fn wrong_answers_of_an_embedder_are_errors() {
        let zeros = Embedding::new(vec![0.0; Embedding::LEN]).unwrap();
        let texts = ["a".to_owned(), "b".to_owned()];
        let good = block_on(embed(&HashingEmbedder, &texts)).unwrap();
        for wrong in [vec![], good[..1].to_vec(), vec![good[0].clone(); 3], vec![good[0].clone(), zeros]] {
            let error = block_on(embed(&Answers(wrong), &texts)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unexpected, "{error}");
        }
        assert_eq!(block_on(embed(&Answers(good.clone()), &texts)).unwrap(), good);
    }

    #[test]
    fn many_texts_are_embedded_in_batches_and_keep_their_order() {
        let texts: Vec<_> = (0..600).map(|number| format!("text {number}")).collect();
        let together = block_on(embed(&HashingEmbedder, &texts)).unwrap();
        assert_eq!(together.len(), 600);
        assert_eq!(together[599], HashingEmbedder::vector("text 599"));
    }
}
