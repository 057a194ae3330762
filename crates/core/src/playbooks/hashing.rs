//! An embedder without a model: words and their parts hashed into buckets.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::Embedder;
use super::values::Embedding;
use crate::error::Result;

/// Makes vectors of text in the process, without a model or a service: equal on every machine, of unit length, good
/// enough to find runbooks by their name and description. It knows words, not meanings: synonyms are far apart.
///
/// ```
/// use changeover_core::playbooks::HashingEmbedder;
///
/// let query = HashingEmbedder::vector("pods crash loop");
/// let near = query.confidence(&HashingEmbedder::vector("KubePodCrashLooping"));
/// let far = query.confidence(&HashingEmbedder::vector("EtcdHighCommitDurations"));
/// assert!(near > far + 0.2);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HashingEmbedder;

impl HashingEmbedder {
    /// The name of this way to make vectors. Another way gets another name.
    pub const MODEL: &str = "hashing-384-v1";

    /// The vector of one text.
    pub fn vector(text: &str) -> Embedding {
        let mut features = Features::default();
        for word in words(text) {
            features.word(&word);
        }
        features.into_vector(text)
    }
}

#[async_trait]
impl Embedder for HashingEmbedder {
    fn model(&self) -> &str {
        Self::MODEL
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Embedding>> {
        Ok(texts.iter().map(|text| Self::vector(text)).collect())
    }
}

/// Words that say nothing about what a text is about.
const COMMON: &[&str] = &[
    "a",
    "about",
    "after",
    "all",
    "also",
    "an",
    "and",
    "any",
    "are",
    "as",
    "at",
    "be",
    "been",
    "because",
    "but",
    "by",
    "can",
    "could",
    "do",
    "does",
    "for",
    "from",
    "has",
    "have",
    "if",
    "in",
    "into",
    "is",
    "it",
    "its",
    "may",
    "might",
    "more",
    "no",
    "not",
    "of",
    "on",
    "or",
    "other",
    "please",
    "should",
    "so",
    "some",
    "such",
    "than",
    "that",
    "the",
    "their",
    "them",
    "then",
    "there",
    "these",
    "they",
    "this",
    "to",
    "was",
    "were",
    "when",
    "where",
    "which",
    "while",
    "will",
    "with",
    "within",
    "would",
    "you",
    "your",
    "alert",
    "alerts",
    "fires",
    "fired",
    "triggered",
];

/// What a text has, with weights: a feature counts by the square root of how often it is there.
#[derive(Default)]
struct Features(BTreeMap<u64, (f64, f64)>);

impl Features {
    fn word(&mut self, word: &str) {
        let common = if COMMON.contains(&word) { COMMON_WEIGHT } else { 1.0 };
        self.add(b'w', word, common);
        let padded: Vec<char> = format!("<{word}>").chars().collect();
        let grams: Vec<&[char]> = GRAMS.flat_map(|size| padded.windows(size)).collect();
        for gram in &grams {
            let gram: String = gram.iter().collect();
            self.add(b'g', &gram, common * GRAM_WEIGHT);
        }
    }

    fn add(&mut self, kind: u8, feature: &str, weight: f64) {
        let (count, kept) = self.0.entry(hash(kind, feature)).or_insert((0.0, 0.0));
        *count += 1.0;
        *kept = weight.max(*kept);
    }

    /// Only sums, products and square roots: those are the same on every machine.
    fn into_vector(self, text: &str) -> Embedding {
        let mut sums = vec![0.0_f64; Embedding::LEN];
        for (hash, (count, weight)) in self.0 {
            let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
            sums[bucket(hash)] += sign * weight * count.sqrt();
        }
        let mut length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
        if length == 0.0 {
            // A text without a word, or one whose features cancel each other out.
            sums.fill(0.0);
            sums[bucket(hash(b't', text))] = 1.0;
            length = 1.0;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a vector holds single precision")]
        let numbers: Vec<f32> = sums.iter().map(|sum| (sum / length) as f32).collect();
        // Cannot fail: 384 numbers, none above 1.
        Embedding::new(numbers).expect("a vector of 384 finite numbers")
    }
}

const COMMON_WEIGHT: f64 = 0.15;
const GRAM_WEIGHT: f64 = 0.3;
const GRAMS: std::ops::RangeInclusive<usize> = 3..=4;

fn bucket(hash: u64) -> usize {
    // Cannot fail: the remainder is below 384.
    usize::try_from(hash % Embedding::LEN as u64).unwrap_or(0)
}

/// FNV-1a, stirred so that all bits depend on all bytes. Part of the model: it may never change.
fn hash(kind: u8, text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in std::iter::once(kind).chain(text.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

/// Lower-case words: letters and digits that stand together, split where a letter meets a digit and at `camelCase` and
/// `HTTPServer`; other characters beyond ASCII (emoji) are words of their own.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let characters: Vec<char> = text.chars().collect();
    for (at, &character) in characters.iter().enumerate() {
        if !character.is_alphanumeric() {
            end(&mut words, &mut word);
            if !character.is_ascii() && !character.is_whitespace() {
                words.push(character.to_string());
            }
            continue;
        }
        let next = characters.get(at + 1);
        if let Some(&before) = at.checked_sub(1).and_then(|before| characters.get(before)) {
            let camel = character.is_uppercase()
                && (before.is_lowercase()
                    || before.is_uppercase() && next.is_some_and(|next| next.is_lowercase()));
            if camel || before.is_alphanumeric() && before.is_numeric() != character.is_numeric() {
                end(&mut words, &mut word);
            }
        }
        word.extend(character.to_lowercase());
    }
    end(&mut words, &mut word);
    words
}

fn end(words: &mut Vec<String>, word: &mut String) {
    if !word.is_empty() {
        words.push(std::mem::take(word));
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_split_where_a_reader_would() {
        for (text, expected) in [
            ("KubePodCrashLooping", &["kube", "pod", "crash", "looping"][..]),
            ("HTTPServer is down", &["http", "server", "is", "down"]),
            ("etcd3-backup_FAILED", &["etcd", "3", "backup", "failed"]),
            ("ÄRGER mit Straße", &["ärger", "mit", "straße"]),
            ("日本語 🦀!", &["日本語", "🦀"]),
            (" ... ", &[]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    // S3-PB-016: the vectors of this model are the same for ever, on every machine.
    #[test]
    fn vectors_do_not_change_between_versions_of_the_program() {
        let vector = HashingEmbedder::vector("KubePodCrashLooping: pods restart, 🦀 Ärger");
        let bytes: Vec<u8> = vector.as_slice().iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(
            crate::sha256_hex(&bytes),
            "2c15282944ac5b33fff531452b02aa4c56376263170302cd7bdbec2228e0752e"
        );
    }

    // S3-EDGE-021, X-EDGE-077: whatever the text, the vector has unit length.
    #[test]
    fn text_without_words_has_a_vector_too() {
        for text in ["", "   ", "?!", "🦀🦀", "\u{301}", "the"] {
            let vector = HashingEmbedder::vector(text);
            assert!((vector.confidence(&vector) - 1.0).abs() < 1e-6, "{text:?}");
        }
        let (a, b) = (HashingEmbedder::vector("?"), HashingEmbedder::vector("!"));
        assert!(a.confidence(&b) < 1.0);
    }

    proptest! {
        // S3-PB-015: 384 finite numbers of unit length, the same each time and in each batch.
        #[test]
        fn vectors_are_of_unit_length_and_repeatable(text in ".*") {
            let vector = HashingEmbedder::vector(&text);
            let length: f64 = vector.as_slice().iter().map(|number| f64::from(*number).powi(2)).sum();
            prop_assert!((length - 1.0).abs() < 1e-5, "{}", length);
            let batch = block_on(HashingEmbedder.embed(&["other".to_owned(), text])).unwrap();
            prop_assert_eq!(&batch[1], &vector);
        }
    }
}
