//! Judged queries in BEIR's layout: `corpus.jsonl`, `queries.jsonl`, `qrels.tsv`.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Documents, queries, and which answers which.
#[derive(Debug)]
pub struct Dataset {
    pub(super) documents: Vec<Document>,
    /// Those with at least one judgement above 0.
    pub(super) queries: Vec<Query>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Document {
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) title: String,
    pub(super) text: String,
    #[serde(default)]
    pub(super) metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Metadata {
    /// The file that the document was cut from, where corpora are cut already.
    pub(super) doc: Option<String>,
}

#[derive(Debug)]
pub(super) struct Query {
    pub(super) text: String,
    /// Document → how relevant, above 0.
    pub(super) relevant: BTreeMap<String, u32>,
}

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "_id")]
    id: String,
    text: String,
}

/// Why judged queries cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", place.display())]
pub struct Fault {
    place: PathBuf,
    what: String,
}

impl Fault {
    fn new(place: &Path, what: impl ToString) -> Self {
        Self { place: place.to_owned(), what: what.to_string() }
    }
}

impl Dataset {
    /// Reads a folder. Judgements are in `qrels.tsv` or `qrels/test.tsv`, below a line of headings.
    ///
    /// # Errors
    /// If a file is missing, a line cannot be read, an id is there twice or is judged and unknown, or no
    /// query has a judgement.
    pub fn read(directory: &Path) -> Result<Self, Fault> {
        let (mut documents, mut known) = (Vec::<Document>::new(), HashSet::new());
        let corpus = directory.join("corpus.jsonl");
        each_line(&corpus, |line| {
            let document: Document = parse(line)?;
            if !known.insert(document.id.clone()) {
                return Err(format!("document {:?} is there twice", document.id));
            }
            documents.push(document);
            Ok(())
        })?;
        if documents.is_empty() {
            return Err(Fault::new(&corpus, "has no documents"));
        }
        let mut queries = BTreeMap::new();
        let mut order = Vec::new();
        each_line(&directory.join("queries.jsonl"), |line| {
            let Line { id, text } = parse(line)?;
            let query = Query { text, relevant: BTreeMap::new() };
            if queries.insert(id.clone(), query).is_some() {
                return Err(format!("query {id:?} is there twice"));
            }
            order.push(id);
            Ok(())
        })?;
        let flat = directory.join("qrels.tsv");
        let nested = directory.join("qrels/test.tsv");
        let judged = if !flat.exists() && nested.exists() { nested } else { flat };
        let mut first = true;
        each_line(&judged, |line| {
            if std::mem::take(&mut first) && line.split('\t').nth(2) == Some("score") {
                return Ok(());
            }
            let fields: Vec<&str> = line.split('\t').collect();
            let [query, document, score] = fields[..] else {
                return Err(format!("has {} fields, not query, document, score", fields.len()));
            };
            let score: i64 =
                score.trim().parse().map_err(|_| format!("score {score:?} is no number"))?;
            let asked =
                queries.get_mut(query).ok_or_else(|| format!("query {query:?} is unknown"))?;
            if !known.contains(document) {
                return Err(format!("document {document:?} is unknown"));
            }
            if score > 0 {
                asked
                    .relevant
                    .insert(document.to_owned(), u32::try_from(score).unwrap_or(u32::MAX));
            }
            Ok(())
        })?;
        let queries: Vec<Query> = order
            .iter()
            .filter_map(|id| queries.remove(id))
            .filter(|query| !query.relevant.is_empty())
            .collect();
        if queries.is_empty() {
            return Err(Fault::new(&judged, "judges no document relevant to any query"));
        }
        Ok(Self { documents, queries })
    }
}

fn parse<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|fault| fault.to_string())
}

fn each_line(path: &Path, mut of: impl FnMut(&str) -> Result<(), String>) -> Result<(), Fault> {
    let file = std::fs::File::open(path).map_err(|fault| Fault::new(path, fault))?;
    for (line, number) in BufReader::new(file).lines().zip(1..) {
        let line = line.map_err(|fault| Fault::new(path, fault))?;
        if !line.trim().is_empty() {
            of(&line).map_err(|fault| Fault::new(path, format!("line {number}: {fault}")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<Dataset, String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = format!("{}/", directory.path().display());
        Dataset::read(directory.path()).map_err(|fault| fault.to_string().replace(&root, ""))
    }

    const CORPUS: (&str, &str) = ("corpus.jsonl", "{\"_id\":\"d1\",\"text\":\"one\"}\n");
    const QUERIES: (&str, &str) =
        ("queries.jsonl", "{\"_id\":\"q1\",\"text\":\"x\"}\n{\"_id\":\"q2\",\"text\":\"y\"}\n");

    #[test]
    fn judgements_are_found_in_both_places_and_queries_without_any_are_left_out() {
        for name in ["qrels.tsv", "qrels/test.tsv"] {
            let judged = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\td1\t0\n";
            let dataset = read(&[CORPUS, QUERIES, (name, judged)]).unwrap();
            assert_eq!(dataset.queries.len(), 1);
            assert_eq!(dataset.queries[0].relevant["d1"], 2);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let head = "query-id\tcorpus-id\tscore\n";
        let cases = [
            (vec![], "corpus.jsonl: No such file"),
            (vec![("corpus.jsonl", "\n")], "corpus.jsonl: has no documents"),
            (
                vec![("corpus.jsonl", "{\"_id\":\"d1\"}")],
                "corpus.jsonl: line 1: missing field `text`",
            ),
            (vec![CORPUS, QUERIES], "qrels.tsv: No such file"),
            (vec![CORPUS, QUERIES, ("qrels.tsv", head)], "qrels.tsv: judges no document"),
        ];
        let judged = [
            ("q1\td1\n", "line 2: has 2 fields"),
            ("q1\td1\thigh\n", "line 2: score \"high\" is no number"),
            ("q9\td1\t1\n", "line 2: query \"q9\" is unknown"),
            ("q1\td9\t1\n", "line 2: document \"d9\" is unknown"),
        ];
        for (files, fault) in cases {
            let told = read(&files).unwrap_err();
            assert!(told.starts_with(fault), "{told}");
        }
        for (line, fault) in judged {
            let told =
                read(&[CORPUS, QUERIES, ("qrels.tsv", &format!("{head}{line}"))]).unwrap_err();
            assert!(told.starts_with("qrels.tsv: ") && told.contains(fault), "{told}");
        }
    }
}
