//! What every index keeps to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use types::TenantId;

use super::{Entries, Entry, Index, Indexes, Memory, Qdrant, Query, Scope};
use crate::attributes::Value;
use crate::filter::{End, Filter};

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn scope(collection: &str) -> Scope {
    Scope { tenant: TenantId::generate(), collection: collection.to_owned(), generation: 0 }
}

fn entries(document: &str, passages: &[(&str, [f32; 2])], fields: &[(&str, Value)]) -> Entries {
    let entry = |((text, vector), at): (&(&str, [f32; 2]), usize)| Entry {
        id: format!("{document}-{at}"),
        text: (*text).to_owned(),
        vector: Some(vector.to_vec()),
    };
    let mut map: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (name, value) in fields {
        map.entry((*name).to_owned()).or_default().push(value.clone());
    }
    Entries { passages: passages.iter().zip(0..).map(entry).collect(), fields: map }
}

/// Returns the documents found by words and those found by vectors.
async fn found(
    index: &dyn Index,
    query: &str,
    vector: Option<[f32; 2]>,
    filter: Option<Filter>,
) -> BTreeSet<String> {
    let vector = vector.map(Vec::from);
    let query = Query { text: query.to_owned(), vector, filter, facets: Vec::new() };
    let candidates = index.search(query).await.unwrap().candidates;
    candidates.into_iter().map(|one| one.document).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn what_one_side_finds_has_both_scores(indexes: &dyn Indexes) {
    let index = indexes.open(&scope("one")).await.unwrap();
    let passages = [("apple", [1.0, 0.0]), ("pear", [0.6, 0.8])];
    index.replace("d", entries("d", &passages, &[])).await.unwrap();
    let vector = Some(vec![0.0, 1.0]);
    let query = Query { text: "apple".to_owned(), vector, ..Query::default() };
    let mut candidates = index.search(query).await.unwrap().candidates;
    candidates.sort_by(|a, b| a.id.cmp(&b.id));
    let [apple, pear] = &candidates[..] else { panic!("{candidates:?}") };
    assert_eq!((apple.id.as_str(), pear.document.as_str()), ("d-0", "d"));
    assert!(apple.keyword > pear.keyword, "{candidates:?}");
    assert!(apple.dense.unwrap().abs() < 1e-6, "{candidates:?}");
    assert!((pear.dense.unwrap() - 0.8).abs() < 1e-6, "{candidates:?}");
    let query = Query { text: "apple".to_owned(), ..Query::default() };
    let candidates = index.search(query).await.unwrap().candidates;
    assert!(candidates.iter().all(|one| one.dense.is_none()), "{candidates:?}");
}

/// What answers a question may go on in other words.
async fn what_stands_beside_the_best_is_found_without_a_word_of_the_query(indexes: &dyn Indexes) {
    let index = indexes.open(&scope("one")).await.unwrap();
    // The document's first words are every passage's context.
    let beginning = "pear ".repeat(40);
    let text = |at| match at {
        0 => &*beginning,
        15 => "apple",
        _ => "pear",
    };
    let passages: Vec<_> = (0..30).map(|at| (text(at), [1.0, 0.0])).collect();
    index.replace("d", entries("d", &passages, &[])).await.unwrap();
    index.replace("e", entries("e", &[("pear", [1.0, 0.0])], &[])).await.unwrap();
    let query = Query { text: "apple".to_owned(), ..Query::default() };
    let candidates = index.search(query).await.unwrap().candidates;
    let found: BTreeSet<String> = candidates.iter().map(|one| one.id.clone()).collect();
    let expected: BTreeSet<String> = (5..=25).map(|at| format!("d-{at}")).collect();
    assert_eq!(found, expected);
    assert!(candidates.iter().all(|one| (one.keyword > 0.0) == (one.id == "d-15")));
}

/// An index may lay them in several places, and add the words of each up in an order of its own.
async fn passages_of_the_same_text_score_alike(indexes: &dyn Indexes) {
    let index = indexes.open(&scope("one")).await.unwrap();
    // The later a word, the rarer.
    let words = "apple pear plum fig kiwi quince grape lime lemon mango olive peach";
    let text = |number: usize| -> String {
        let of = words.split(' ').zip(2..).filter(|(_, rare)| number.is_multiple_of(*rare));
        of.flat_map(|(word, rare)| [word, " "].repeat(1 + number % (rare + 1))).collect()
    };
    let texts: Vec<String> = (1..=30).map(|number| text(number * 7) + "fruit").collect();
    let passages: Vec<_> = texts.iter().map(|text| (text.as_str(), [1.0, 0.0])).collect();
    for document in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        index.replace(document, entries(document, &passages, &[])).await.unwrap();
    }
    let words: Vec<&str> = words.split(' ').collect();
    let mut differ = 0;
    for asked in (3..words.len()).flat_map(|count| words.windows(count)) {
        let query = Query { text: asked.join(" ") + " fruit", ..Query::default() };
        let mut scores: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for one in index.search(query).await.unwrap().candidates {
            let position = one.id.trim_start_matches(char::is_alphabetic).to_owned();
            scores.entry(position).or_default().push(one.keyword.to_bits());
        }
        assert_eq!(scores.len(), texts.len());
        for scores in scores.values() {
            assert_eq!(scores.len(), 8);
            differ += usize::from(scores.iter().any(|one| *one != scores[0]));
        }
    }
    // Of 1,620. Where scores are rounded, two may come to lie on either side of a step.
    assert!(differ <= 3, "{differ}");
}

async fn what_was_replaced_or_removed_is_not_found(indexes: &dyn Indexes) {
    let index = indexes.open(&scope("one")).await.unwrap();
    let index = &*index;
    let one = |word: &'static str| [(word, [1.0, 0.0]), ("common", [1.0, 0.0])];
    index.replace("a", entries("a", &one("apple"), &[])).await.unwrap();
    index.replace("b", entries("b", &one("apple"), &[])).await.unwrap();
    index.replace("a", entries("a", &[("plum", [1.0, 0.0])], &[])).await.unwrap();
    assert_eq!(found(index, "apple", None, None).await, set(&["b"]));
    assert_eq!(found(index, "common", None, None).await, set(&["b"]));
    assert_eq!(found(index, "plum", None, None).await, set(&["a"]));
    index.remove("a").await.unwrap();
    index.remove("a").await.unwrap();
    assert_eq!(found(index, "plum", None, None).await, set(&[]));
    assert_eq!(found(index, "plum", Some([1.0, 0.0]), None).await, set(&["b"]));
}

async fn a_collection_finds_its_own_passages_alone(indexes: &dyn Indexes) {
    let (ours, theirs) = (scope("one"), scope("one"));
    let second = Scope { collection: "two".to_owned(), ..ours.clone() };
    let next = Scope { generation: 1, ..ours.clone() };
    let passages = [("the same secret", [1.0, 0.0])];
    for (scope, document) in [(&ours, "a"), (&theirs, "b"), (&second, "c"), (&next, "d")] {
        let index = indexes.open(scope).await.unwrap();
        index.replace(document, entries(document, &passages, &[])).await.unwrap();
    }
    indexes.remove(&second).await.unwrap();
    indexes.remove(&second).await.unwrap();
    for (scope, expected) in
        [(&ours, &["a"][..]), (&theirs, &["b"]), (&second, &[]), (&next, &["d"])]
    {
        let index = indexes.open(scope).await.unwrap();
        for vector in [None, Some([1.0, 0.0])] {
            assert_eq!(found(&*index, "secret", vector, None).await, set(expected));
        }
    }
}

async fn filters_hold_on_both_sides(indexes: &dyn Indexes) {
    let index = indexes.open(&scope("one")).await.unwrap();
    let index = &*index;
    let words = [("common word", [0.6, 0.8]), ("another common", [0.8, 0.6])];
    for (document, fields) in [
        ("a", vec![("year", Value::Number(2020.0)), ("tags", text("x")), ("tags", text("y"))]),
        (
            "b",
            vec![
                ("year", Value::Number(2022.5)),
                ("tags", text("y")),
                ("open", Value::Boolean(true)),
            ],
        ),
        ("c", vec![("year", Value::Number(-3.0)), ("open", Value::Boolean(false))]),
        ("d", vec![("tags", text("Ünï ⛵ \"'/\\"))]),
    ] {
        index.replace(document, entries(document, &words, &fields)).await.unwrap();
    }
    let is = |field: &str, values: &[Value]| Filter::In {
        field: field.to_owned(),
        values: values.to_vec(),
    };
    let year = |low: Option<(f64, bool)>, high: Option<(f64, bool)>| {
        let end = |(at, within)| End { at, within };
        Filter::Between { field: "year".to_owned(), low: low.map(end), high: high.map(end) }
    };
    let not = |filter| Filter::Not(Box::new(filter));
    for (filter, expected) in [
        (is("tags", &[text("x")]), "a"),
        (is("tags", &[text("y")]), "ab"),
        (is("tags", &[text("X")]), ""),
        (is("tags", &[text("x"), text("Ünï ⛵ \"'/\\")]), "ad"),
        (is("open", &[Value::Boolean(false)]), "c"),
        (is("year", &[Value::Number(2022.5), Value::Number(-3.0)]), "bc"),
        (is("unheard", &[text("x")]), ""),
        (not(is("tags", &[text("y")])), "cd"),
        (not(is("unheard", &[text("x")])), "abcd"),
        (year(Some((2020.0, true)), None), "ab"),
        (year(Some((2020.0, false)), None), "b"),
        (year(None, Some((2020.0, false))), "c"),
        (year(None, Some((2020.0, true))), "ac"),
        (not(year(None, Some((1e300, true)))), "d"),
        (Filter::All(vec![is("tags", &[text("y")]), year(None, Some((2021.0, true)))]), "a"),
        (Filter::Any(vec![is("tags", &[text("x")]), is("open", &[Value::Boolean(false)])]), "ac"),
        (
            Filter::All(vec![
                not(Filter::Any(vec![
                    is("tags", &[text("x")]),
                    is("open", &[Value::Boolean(false)]),
                ])),
                not(is("year", &[Value::Number(2022.5)])),
            ]),
            "d",
        ),
    ] {
        let expected: BTreeSet<String> = expected.chars().map(String::from).collect();
        let words = found(index, "common", None, Some(filter.clone())).await;
        assert_eq!(words, expected, "by words: {filter:?}");
        let vectors = found(index, "nothing", Some([1.0, 0.0]), Some(filter.clone())).await;
        assert_eq!(vectors, expected, "by vectors: {filter:?}");
    }
}

async fn facets_count_documents_that_the_filter_leaves(indexes: &dyn Indexes) {
    let index = indexes.open(&scope("one")).await.unwrap();
    let words = [("common", [0.6, 0.8]), ("common", [0.8, 0.6])];
    for (document, fields) in [
        ("a", vec![("tags", text("x")), ("tags", text("y")), ("year", Value::Number(1.0))]),
        ("b", vec![("tags", text("y")), ("year", Value::Number(1.0))]),
        ("c", vec![("tags", text("z"))]),
    ] {
        index.replace(document, entries(document, &words, &fields)).await.unwrap();
    }
    index.remove("c").await.unwrap();
    let count = async |filter| {
        let facets = vec!["tags".to_owned(), "year".to_owned(), "unheard".to_owned()];
        let query = Query { text: "common".to_owned(), vector: None, filter, facets };
        index.search(query).await.unwrap().facets
    };
    assert_eq!(
        count(None).await,
        [vec![(text("y"), 2), (text("x"), 1)], vec![(Value::Number(1.0), 2)], vec![]]
    );
    let x = Filter::In { field: "tags".to_owned(), values: vec![text("x")] };
    assert_eq!(
        count(Some(x)).await,
        [vec![(text("x"), 1), (text("y"), 1)], vec![(Value::Number(1.0), 1)], vec![]]
    );
}

/// Filters of any shape leave what the plain meaning of them leaves, whatever was replaced before.
async fn filters_mean_what_they_say(indexes: &dyn Indexes) {
    let index = indexes.open(&scope("one")).await.unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut held: BTreeMap<String, BTreeMap<String, Vec<Value>>> = BTreeMap::new();
    for round in 0..60 {
        let document = format!("d{}", random.u32(0..12));
        if random.u32(0..4) == 0 {
            index.remove(&document).await.unwrap();
            held.remove(&document);
        } else {
            let fields: Vec<(&str, Value)> = (0..random.u32(0..4))
                .map(|_| match random.u32(0..2) {
                    0 => ("tags", text(["x", "y", "z"][random.usize(0..3)])),
                    _ => ("year", Value::Number(random.u32(0..4).into())),
                })
                .collect();
            let mut entries = entries(&document, &[("common", [0.6, 0.8])], &fields);
            for values in entries.fields.values_mut() {
                values.sort();
                values.dedup();
            }
            held.insert(document.clone(), entries.fields.clone());
            index.replace(&document, entries).await.unwrap();
        }
        if round % 3 == 0 {
            let filter = any_filter(&mut random, 3);
            let kept = held.iter().filter(|(_, fields)| holds(&filter, fields));
            let expected: BTreeSet<String> = kept.map(|(document, _)| document.clone()).collect();
            let left = found(&*index, "common", None, Some(filter.clone())).await;
            assert_eq!(left, expected, "{filter:?} over {held:?}");
        }
    }
}

fn any_filter(random: &mut fastrand::Rng, depth: u32) -> Filter {
    let kind = if depth == 0 { random.u32(3..5) } else { random.u32(0..5) };
    let parts = |random: &mut fastrand::Rng| {
        (0..random.u32(1..4)).map(|_| any_filter(random, depth - 1)).collect()
    };
    match kind {
        0 => Filter::All(parts(random)),
        1 => Filter::Any(parts(random)),
        2 => Filter::Not(Box::new(any_filter(random, depth - 1))),
        3 => Filter::In {
            field: "tags".to_owned(),
            values: vec![text(["x", "y", "z"][random.usize(0..3)])],
        },
        _ => {
            let end = End { at: random.u32(0..4).into(), within: random.bool() };
            let (low, high) = if random.bool() { (Some(end), None) } else { (None, Some(end)) };
            Filter::Between { field: "year".to_owned(), low, high }
        }
    }
}

fn holds(filter: &Filter, fields: &BTreeMap<String, Vec<Value>>) -> bool {
    match filter {
        Filter::All(parts) => parts.iter().all(|part| holds(part, fields)),
        Filter::Any(parts) => parts.iter().any(|part| holds(part, fields)),
        Filter::Not(part) => !holds(part, fields),
        Filter::In { field, values } => {
            fields.get(field).is_some_and(|held| held.iter().any(|value| values.contains(value)))
        }
        Filter::Between { field, low, high } => fields.get(field).is_some_and(|held| {
            held.iter().any(|value| {
                let Value::Number(number) = value else { return false };
                low.is_none_or(|end| *number > end.at || end.within && *number == end.at)
                    && high.is_none_or(|end| *number < end.at || end.within && *number == end.at)
            })
        }),
    }
}

async fn all(indexes: Arc<dyn Indexes>) {
    what_one_side_finds_has_both_scores(&*indexes).await;
    what_stands_beside_the_best_is_found_without_a_word_of_the_query(&*indexes).await;
    passages_of_the_same_text_score_alike(&*indexes).await;
    what_was_replaced_or_removed_is_not_found(&*indexes).await;
    a_collection_finds_its_own_passages_alone(&*indexes).await;
    filters_hold_on_both_sides(&*indexes).await;
    facets_count_documents_that_the_filter_leaves(&*indexes).await;
    filters_mean_what_they_say(&*indexes).await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    all(Arc::new(Memory::default())).await;
}

#[tokio::test]
async fn qdrant_keeps_the_contract() {
    let server = testkit::Qdrant::start().await.unwrap();
    all(Arc::new(Qdrant::new(&server.url, None).unwrap())).await;
}

/// What another process made is found, also where nothing was asked of this one before.
#[tokio::test]
async fn qdrant_keeps_what_it_has_after_the_process() {
    let server = testkit::Qdrant::start().await.unwrap();
    let scope = scope("one");
    let tags = [("tags", text("x"))];
    for round in 0..2 {
        let indexes = Qdrant::new(&server.url, None).unwrap();
        let index = indexes.open(&scope).await.unwrap();
        if round == 0 {
            let passages = [("apple", [1.0, 0.0]), ("pear", [0.0, 1.0])];
            index.replace("a", entries("a", &passages, &tags)).await.unwrap();
        }
        assert_eq!(index.len().await.unwrap(), 2);
        let facets = vec!["tags".to_owned()];
        let vector = Some(vec![0.0, 1.0]);
        let query = Query { text: "pear".to_owned(), vector, filter: None, facets };
        let found = index.search(query).await.unwrap();
        assert_eq!((found.candidates.len(), found.facets), (2, vec![vec![(text("x"), 1)]]));
    }
}
