//! Networks in ONNX, computed by the real library, beside our own encoder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use proto::retriever::retriever_service_client::RetrieverServiceClient;
use proto::retriever::{PutDocumentRequest, SearchRequest};
use retriever::embed::{Local, Side};
use retriever::{Config, Embedding, Peers, rerank};
use runtime::context::request;
use runtime::transport::in_process;
use tempfile::TempDir;
use types::{CallContext, TenantId, UserId};

use super::{MINILM, cosine, installed};

const WORDS: [&str; 5] = ["apple", "pear", "plum", "fig", "kiwi"];
/// The tiny model reads so many tokens.
const TOKENS: usize = 32;

/// The last version without telemetry.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    installed("onnxruntime==1.28.0", true).join("onnxruntime/capi/libonnxruntime.so.1.28.0")
});

/// Writes a BERT's `onnx/model.onnx`, and takes its `model.safetensors` away.
fn convert(model: &Path, changes: &[&str]) {
    static ONNX: LazyLock<PathBuf> = LazyLock::new(|| installed("onnx==1.23.2", false));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encoder/bert_to_onnx.py");
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", &*ONNX).arg(script).arg(model).arg(model.join("onnx/model.onnx"));
    assert!(python.args(changes).status().unwrap().success(), "{changes:?}");
    std::fs::remove_file(model.join("model.safetensors")).unwrap();
}

/// Copies a model's directory, with links for what is large.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &place),
            false if entry.metadata().unwrap().len() > 1 << 20 => {
                std::os::unix::fs::symlink(entry.path(), place).unwrap();
            }
            false => drop(std::fs::copy(entry.path(), place).unwrap()),
        }
    }
}

fn tiny() -> TempDir {
    let model = tempfile::tempdir().unwrap();
    testkit::model::write(model.path(), &WORDS, 8, 1).unwrap();
    model
}

fn open(model: &Path) -> Result<Local, String> {
    Local::open(model, Some(&LIBRARY), 2).map_err(|fault| fault.to_string())
}

fn change(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// Texts of every length from none to more than is read, shortest and longest in turn.
fn texts(words: &[&str], longest: usize, count: usize) -> Vec<String> {
    let length = |at: usize| match at % 2 {
        0 => at * longest / count,
        _ => longest - at * longest / count,
    };
    let text =
        |at: usize| (0..length(at)).map(move |word| words[(at * 7 + word * word) % words.len()]);
    (0..count).map(|at| text(at).collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test]
async fn the_librarys_vectors_are_those_of_our_own_encoder() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("minilm");
    copy(&MINILM, &model);
    convert(&model, &[]);
    let (own, onnx) = (Local::open(&MINILM, None, 2).unwrap(), open(&model).unwrap());
    assert_eq!(own.dimension(), onnx.dimension());
    assert_ne!(own.identity(), onnx.identity());
    assert!(onnx.identity().starts_with("onnx:"), "{}", onnx.identity());

    let words =
        ["the", "valve", "turns", "slowly", "Überdruck", "ventil", "漏れ", "🚰", "3.5", "bar"];
    let mut all = texts(&words, 150, 14);
    all.extend(["", "valve", "Ⅷ ﬁn — “naïve” café", "Вентиль закрыт"].map(str::to_owned));
    // More than are computed at once.
    all.extend((0..20).map(|number| format!("valve {number}")));
    let wanted = own.embed(all.clone(), Side::Document).await.unwrap();
    let together = onnx.embed(all.clone(), Side::Document).await.unwrap();
    assert_eq!(together.len(), all.len());
    for ((text, wanted), vector) in all.into_iter().zip(&wanted).zip(&together) {
        assert!(cosine(wanted, vector) >= 0.9999, "{text:?}: {}", cosine(wanted, vector));
        let alone = onnx.embed(vec![text.clone()], Side::Query).await.unwrap();
        assert!(cosine(&alone[0], vector) >= 0.99999, "{text:?}: padding changes its vector");
    }
    assert!(onnx.embed(Vec::new(), Side::Document).await.unwrap().is_empty());
}

#[tokio::test]
async fn weights_beside_the_network_are_read_and_are_of_its_identity() {
    let (one, other) = (tiny(), tiny());
    testkit::model::write(other.path(), &WORDS, 8, 2).unwrap();
    let own = Local::open(one.path(), None, 1).unwrap();
    for model in [&one, &other] {
        convert(model.path(), &["external=model.onnx_data"]);
    }
    let onnx = open(one.path()).unwrap();
    let texts = texts(&WORDS, 40, 10);
    let wanted = own.embed(texts.clone(), Side::Document).await.unwrap();
    let vectors = onnx.embed(texts, Side::Document).await.unwrap();
    assert!(wanted.iter().zip(&vectors).all(|(wanted, is)| cosine(wanted, is) >= 0.9999));
    // Their networks are the same file: what differs is beside it.
    let network = |model: &TempDir| std::fs::read(model.path().join("onnx/model.onnx")).unwrap();
    assert_eq!(network(&one), network(&other));
    assert_ne!(onnx.identity(), open(other.path()).unwrap().identity());
    std::fs::remove_file(other.path().join("onnx/model.onnx_data")).unwrap();
    let told = open(other.path()).unwrap_err();
    assert!(told.contains("its weights in model.onnx_data: No such file"), "{told}");
}

#[tokio::test]
async fn other_architectures_are_computed() {
    let texts = texts(&WORDS, 2 * TOKENS, 10);
    // DistilBERT has no types, and other names.
    let model = tiny();
    let own = Local::open(model.path(), None, 1).unwrap();
    convert(model.path(), &["without=token_type_ids"]);
    let config = model.path().join("config.json");
    let said = format!(
        r#"{{ "model_type": "distilbert", "dim": 8, "max_position_embeddings": {TOKENS} }}"#
    );
    std::fs::write(&config, said).unwrap();
    let wanted = own.embed(texts.clone(), Side::Document).await.unwrap();
    let vectors = open(model.path()).unwrap().embed(texts.clone(), Side::Document).await.unwrap();
    assert!(wanted.iter().zip(&vectors).all(|(wanted, is)| cosine(wanted, is) >= 0.9999));

    // RoBERTa's first positions belong to the padding: two tokens fewer are read.
    let model = tiny();
    convert(model.path(), &["without=token_type_ids", "padded"]);
    let config = model.path().join("config.json");
    change(&config, r#""bert""#, r#""xlm-roberta""#);
    let onnx = open(model.path()).unwrap();
    let vectors = onnx.embed(texts.clone(), Side::Document).await.unwrap();
    for (text, vector) in texts.into_iter().zip(vectors) {
        let alone = onnx.embed(vec![text.clone()], Side::Document).await.unwrap();
        assert!(cosine(&alone[0], &vector) >= 0.99999, "{text:?}: padding changes its vector");
    }
    change(&config, "xlm-roberta", "of an unknown kind");
    let told = open(model.path()).unwrap_err();
    let wanted = format!("it was tried with a text of {TOKENS} tokens and one of 1: ");
    assert!(told.contains(&wanted), "{told}");
}

#[test]
fn a_network_that_takes_or_gives_something_else_is_named() {
    for (changes, wanted) in [
        ("without=attention_mask", r#"it has no input "attention_mask""#),
        ("with=position_ids", r#"it has an input "position_ids", only input_ids, "#),
        ("int32", r#"its input "input_ids" is Tensor<i32>"#),
        (
            "pooled",
            r#"it has no output Tensor<f32>(texts, tokens, 8); it has "sentence_embedding""#,
        ),
    ] {
        let model = tiny();
        convert(model.path(), &[changes]);
        let told = open(model.path()).unwrap_err();
        assert!(told.starts_with("model ") && told.contains(wanted), "{told}");
    }
    let model = tiny();
    convert(model.path(), &[]);
    let at = |name: &str| model.path().join(name);
    change(&at("config.json"), r#""hidden_size":8"#, r#""hidden_size":16"#);
    change(&at("1_Pooling/config.json"), ":8", ":16");
    let told = open(model.path()).unwrap_err();
    let wanted =
        r#"its output "last_hidden_state" is (texts, tokens, 8) and not (texts, tokens, 16)"#;
    assert!(told.contains(wanted), "{told}");
    std::fs::write(at("onnx/model.onnx"), "no network").unwrap();
    let told = open(model.path()).unwrap_err();
    assert!(told.contains("onnx/model.onnx: "), "{told}");
    change(&at("config.json"), r#""hidden_size":16"#, r#""hidden":16"#);
    assert!(open(model.path()).unwrap_err().contains("config.json has no hidden_size"));
}

#[tokio::test]
async fn a_reranker_in_onnx_scores_as_our_own() {
    let model = tempfile::tempdir().unwrap();
    testkit::model::write_reranker(model.path(), &WORDS, 8, 3).unwrap();
    let own = rerank::Local::open(model.path(), None, 1).unwrap();
    convert(model.path(), &[]);
    let onnx = rerank::Local::open(model.path(), Some(&LIBRARY), 2).unwrap();
    let passages = texts(&WORDS, 2 * TOKENS, 50);
    let wanted = own.score("apple pear", passages.clone()).await.unwrap();
    let scores = onnx.score("apple pear", passages).await.unwrap();
    assert_eq!(scores.len(), 50);
    for (wanted, score) in wanted.into_iter().zip(scores) {
        assert!((wanted - score).abs() < 1e-5, "{wanted} {score}");
    }
    // What embeds is no reranker.
    let model = tiny();
    convert(model.path(), &[]);
    let told = rerank::Local::open(model.path(), Some(&LIBRARY), 1).unwrap_err().to_string();
    assert!(told.contains("it has no output Tensor<f32>(texts, 1); it has "), "{told}");
}

#[test]
fn a_process_has_one_library() {
    let (model, other) = (tiny(), tempfile::tempdir().unwrap());
    convert(model.path(), &[]);
    open(model.path()).unwrap();
    let library = other.path().join("libonnxruntime.so");
    std::os::unix::fs::symlink(&*LIBRARY, &library).unwrap();
    Local::open(model.path(), Some(&library), 1).unwrap();
    std::fs::remove_file(&library).unwrap();
    std::fs::copy(&*LIBRARY, &library).unwrap();
    let told = Local::open(model.path(), Some(&library), 1).unwrap_err().to_string();
    let loaded = LIBRARY.canonicalize().unwrap();
    let wanted = format!("this process has loaded {}", loaded.display());
    assert!(told.contains(&wanted), "{told}");
}

#[tokio::test]
async fn a_retriever_finds_by_a_network_in_onnx() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model");
    testkit::model::write(&model, &WORDS, 8, 1).unwrap();
    convert(&model, &[]);
    let onnxruntime = Some(LIBRARY.clone());
    let embedding =
        Embedding { model: Some(model), onnxruntime, threads: 1, ..Embedding::default() };
    let place = directory.path().join("documents.db");
    let config = Config { embedding: Some(embedding), ..Config::at(&place) };
    let peers = Peers::remote(&config.peers).unwrap();
    let peer = in_process(retriever::server(config, peers).await.unwrap());
    let mut client = RetrieverServiceClient::new(peer);
    let context = CallContext::new(TenantId::new("t").unwrap(), UserId::new("u").unwrap());
    for (source, text) in [("a.txt", "apple pear"), ("b.txt", "plum fig")] {
        let (source, content) = (source.to_owned(), text.as_bytes().to_vec().into());
        let message = PutDocumentRequest { source, content, ..PutDocumentRequest::default() };
        client.put_document(request(&context, message)).await.unwrap();
    }
    let message = SearchRequest { query: "plum fig".to_owned(), ..SearchRequest::default() };
    let found = client.search(request(&context, message)).await.unwrap().into_inner().hits;
    assert_eq!(found.len(), 2, "vectors find what has no word of the query");
    assert_eq!(found[0].passage.as_ref().unwrap().text, "plum fig");
    let dense = found[0].explanation.as_ref().unwrap().dense.unwrap();
    assert!((dense - 1.0).abs() < 1e-3, "{dense}");
}
