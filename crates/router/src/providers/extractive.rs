//! Answers without a model: selects and quotes sentences of what was found. Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use proto::router::{Dialect, Grounding};
use serde_json::{Value, json};
use types::CallContext;

use super::{Chunks, Fault, Provider, now};
use crate::config::Model;
use crate::request::ChatRequest;

/// An answer has at most so many sentences.
const SENTENCES: usize = 3;
/// A sentence is left out when it scores less than this share of the best one.
const GOOD: f64 = 0.6;
const NO_MODEL: &str = "No language model is connected, so Baton can only quote your documents: ask \
with documents ingested, or connect a model.";

pub(crate) struct Extractive;

#[async_trait]
impl Provider for Extractive {
    fn dialect(&self) -> Dialect {
        Dialect::ChatCompletions
    }

    async fn complete(
        &self,
        _context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        groundings: &[Grounding],
    ) -> Result<Value, Fault> {
        let text = answer(&request.question(), groundings);
        let mut completion = frame(&model.name, "chat.completion");
        completion["choices"] = json!([{
            "index": 0,
            "message": { "role": "assistant", "content": text },
            "finish_reason": "stop",
        }]);
        completion["usage"] = usage(request, &text);
        Ok(completion)
    }

    async fn list(&self) -> Result<Vec<String>, Fault> {
        Ok(vec!["extractive".to_owned()])
    }

    async fn stream(
        &self,
        _context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        groundings: &[Grounding],
        _patience: Duration,
    ) -> Result<Chunks, Fault> {
        let text = answer(&request.question(), groundings);
        let chunk = |delta: Value, end: Value| {
            let mut chunk = frame(&model.name, "chat.completion.chunk");
            chunk["choices"] = json!([{ "index": 0, "delta": delta, "finish_reason": end }]);
            chunk
        };
        let mut last = frame(&model.name, "chat.completion.chunk");
        last["choices"] = json!([]);
        last["usage"] = usage(request, &text);
        let chunks = [
            chunk(json!({ "role": "assistant", "content": text }), Value::Null),
            chunk(json!({}), "stop".into()),
            last,
        ];
        Ok(stream::iter(chunks.map(|chunk| Ok(Bytes::from(chunk.to_string())))).boxed())
    }
}

fn frame(model: &str, object: &str) -> Value {
    let id = format!("chatcmpl-{}", types::RequestId::generate());
    json!({ "id": id, "object": object, "created": now(), "model": model })
}

/// Nothing was tokenised: words stand for tokens, and cost nothing.
fn usage(request: &ChatRequest, text: &str) -> Value {
    let (input, output) = (words(&request.question()).len(), words(text).len());
    json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output })
}

/// Returns the sentences that share most with the question, each word for word and with the number of
/// its passage, in reading order.
fn answer(question: &str, groundings: &[Grounding]) -> String {
    let wanted: HashSet<String> = words(question).into_iter().collect();
    let sentences: Vec<(usize, &str, Vec<String>)> = groundings
        .iter()
        .enumerate()
        .flat_map(|(index, grounding)| {
            sentences_of(&grounding.text).map(move |s| (index, s, words(s)))
        })
        .collect();
    let mut holding: HashMap<&str, usize> = HashMap::new();
    for (_, _, words) in &sentences {
        for word in words.iter().collect::<HashSet<_>>() {
            *holding.entry(word).or_default() += 1;
        }
    }
    let headings: Vec<Vec<String>> =
        groundings.iter().map(|grounding| words(&grounding.headings.join(" "))).collect();
    let best_score = groundings.iter().map(|g| g.score).fold(f64::MIN_POSITIVE, f64::max);
    #[allow(clippy::cast_precision_loss, reason = "few sentences")]
    let score = |(index, _, words): &(usize, &str, Vec<String>)| {
        let rarity = |word: &String| {
            let holding = holding.get(word.as_str()).copied().unwrap_or(1);
            (1.0 + sentences.len() as f64 / holding as f64).ln()
        };
        let own: HashSet<&String> = words.iter().filter(|word| wanted.contains(*word)).collect();
        if own.is_empty() {
            return 0.0;
        }
        // A heading says for all of its sentences what they are about, if less than they do.
        let above = headings[*index].iter().filter(|word| wanted.contains(*word));
        let above: HashSet<&String> = above.filter(|word| !own.contains(word)).collect();
        let sum = |words: &HashSet<&String>| words.iter().map(|word| rarity(word)).sum::<f64>();
        (sum(&own) + 0.5 * sum(&above)) * (0.5 + 0.5 * groundings[*index].score / best_score)
    };
    let mut ranked: Vec<(f64, usize)> =
        sentences.iter().enumerate().map(|(at, sentence)| (score(sentence), at)).collect();
    ranked.retain(|(score, _)| *score > 0.0);
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let good = ranked.first().map_or(0.0, |best| best.0 * GOOD);
    let mut seen = HashSet::new();
    let mut chosen: Vec<usize> = ranked
        .into_iter()
        .filter(|(score, at)| *score >= good && seen.insert(sentences[*at].1))
        .take(SENTENCES)
        .map(|(_, at)| at)
        .collect();
    chosen.sort_unstable();
    if chosen.is_empty() {
        return match groundings.is_empty() {
            true => NO_MODEL.to_owned(),
            false => "I don't know: the documents say nothing on this.".to_owned(),
        };
    }
    let quoted =
        chosen.into_iter().map(|at| format!("{} [{}]", sentences[at].1, sentences[at].0 + 1));
    quoted.collect::<Vec<_>>().join(" ")
}

/// Cuts prose into sentences, each word for word; headings, table rows and code fences are no
/// sentences, and a list's marks are left out. A paragraph's own line ends do not end a sentence.
fn sentences_of(text: &str) -> impl Iterator<Item = &str> {
    let mut sentences = Vec::new();
    let mut fenced = false;
    let mut start: Option<usize> = None;
    let mut close = |start: &mut Option<usize>, end: usize| {
        if let Some(start) = start.take() {
            cut(&text[start..end], &mut sentences);
        }
    };
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        let fence = bare.starts_with("```");
        if fence {
            fenced = !fenced;
        }
        let item = ["- ", "* ", "+ "].iter().any(|mark| bare.starts_with(mark));
        let other = bare.is_empty() || bare.starts_with('#') || bare.starts_with('|');
        if fence || fenced || other || item {
            close(&mut start, at);
        }
        if item {
            start = Some(at + line.find(bare).unwrap_or(0) + 2);
        } else if !(fence || fenced || other) && start.is_none() {
            start = Some(at);
        }
        at += line.len();
    }
    close(&mut start, text.len());
    sentences.into_iter()
}

fn cut<'a>(paragraph: &'a str, sentences: &mut Vec<&'a str>) {
    let mut start = 0;
    for (at, c) in paragraph.char_indices() {
        let after = at + c.len_utf8();
        let ends =
            matches!(c, '.' | '!' | '?') && paragraph[after..].starts_with(char::is_whitespace);
        if ends || after == paragraph.len() {
            let sentence = paragraph[start..after].trim();
            // What only announces a list or an example says nothing without it.
            if !sentence.is_empty() && !sentence.ends_with(':') {
                sentences.push(sentence);
            }
            start = after;
        }
    }
}

/// Returns lower-case words of more than two letters, without a plural's or a past's ending, so that
/// "released" and "releases" meet "release".
fn words(text: &str) -> Vec<String> {
    const STOP: [&str; 22] = [
        "the", "and", "for", "how", "what", "why", "who", "when", "where", "which", "does", "are",
        "can", "you", "your", "that", "this", "with", "from", "into", "was", "not",
    ];
    let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
    let words = words.filter(|word| word.chars().count() > 2 && !STOP.contains(&word.as_str()));
    words.map(|word| stem(&word).to_owned()).collect()
}

fn stem(word: &str) -> &str {
    let endings = ["ing", "ed", "es", "s", "e"];
    let cut = endings.iter().find_map(|ending| word.strip_suffix(ending));
    cut.filter(|stem| stem.chars().count() > 2).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grounding(text: &str, score: f64) -> Grounding {
        Grounding { text: text.to_owned(), score, ..Grounding::default() }
    }

    #[test]
    fn the_answer_quotes_the_sentences_that_fit_word_for_word() {
        let passages = [
            grounding(
                "# Rolling back\n\nIntro here. To roll back a release, run\nthe script. It rains.",
                9.0,
            ),
            grounding("- A release has notes.\n- Bananas.", 3.0),
        ];
        let text = answer("How do I roll back a release?", &passages);
        assert_eq!(text, "To roll back a release, run\nthe script. [1]");
    }

    #[test]
    fn a_heading_tells_what_its_sentences_are_about() {
        let mut under = grounding(
            "Any server that speaks it is a model's home:\n\nOllama is a model server.",
            5.0,
        );
        under.headings = vec!["Connecting a model".to_owned()];
        let other = grounding("It measures a model.", 5.0);
        let text = answer("How do I connect a model?", &[other, under]);
        assert_eq!(text, "Ollama is a model server. [2]");
    }

    #[test]
    fn without_a_fitting_sentence_it_says_so() {
        assert_eq!(answer("Anything?", &[]), NO_MODEL);
        assert!(answer("Zebras?", &[grounding("Nothing here.", 1.0)]).starts_with("I don't know"));
    }
}
