//! Libraries that keep the retriever from starting. None of them is loaded for good, because a process has only one:
//! what a real one does is in `encoder/onnx.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use retriever::{Config, Embedding};

use super::{serve, tiny_model};

/// Says that it is ONNX Runtime, and of which version.
const OLD: &str = r#"
static const char *version(void) { return "1.16.3"; }
static const void *api(unsigned int wanted) { (void)wanted; return 0; }
static const struct { const void *(*api)(unsigned int); const char *(*version)(void); } base = {api, version};
const void *OrtGetApiBase(void) { return &base; }
"#;

async fn refused(directory: &Path, model: Option<PathBuf>, library: &Path) -> String {
    let route = model.is_none().then(|| "vectors".to_owned());
    let onnxruntime = Some(library.to_owned());
    let embedding = Some(Embedding { model, onnxruntime, route, ..Embedding::default() });
    let config = Config { embedding, ..super::config(directory) };
    serve(config).await.err().unwrap().to_string()
}

#[tokio::test]
async fn a_library_that_is_none_or_old_or_sends_telemetry_keeps_the_retriever_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let (model, library) = (tiny_model(place, 1), place.join("libonnxruntime.so"));
    let told = refused(place, None, &library).await;
    assert!(told.contains("onnxruntime: computes a model (a directory)"), "{told}");
    let told = refused(place, Some(model.clone()), &library).await;
    assert!(told.ends_with("has no onnx/model.onnx"), "{told}");
    // Nothing is wrong with it as far as it is read without a library.
    std::fs::write(model.join("model.onnx"), []).unwrap();

    let named = format!("onnxruntime {}: ", library.display());
    for (bytes, wanted) in [
        (None, "No such file"),
        (Some("no library"), "failed to load from"),
        (Some("https://a.events.data.microsoft.com/"), "and cannot be kept from it"),
        (
            Some("https://a.events.data.microsoft.com/ ORT_DISABLE_TELEMETRY"),
            "unless the environment has ORT_DISABLE_TELEMETRY=1",
        ),
    ] {
        bytes.into_iter().for_each(|bytes| std::fs::write(&library, bytes).unwrap());
        let told = refused(place, Some(model.clone()), &library).await;
        assert!(told.contains(&named) && told.contains(wanted), "{told}");
    }

    let (code, old) = (place.join("old.c"), place.join("old.so"));
    std::fs::write(&code, OLD).unwrap();
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-o"]).arg(&old).arg(&code);
    assert!(compile.status().unwrap().success(), "a C compiler is installed as cc");
    let told = refused(place, Some(model), &old).await;
    assert!(told.contains("expected version >= '1.17.x', but got '1.16.3'"), "{told}");
}
