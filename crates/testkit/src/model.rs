//! Models of a test's own making, one that embeds and one that reranks: small, and of other weights for another seed.

use std::path::Path;

use serde_json::{Map, Value, json};

/// What a BERT has besides its words.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// It reads so many tokens of a text.
const TOKENS: usize = 32;

/// Writes a BERT of one layer in Hugging Face layout, which knows `words` and whose vectors have `hidden` numbers
/// (a multiple of 8).
///
/// # Errors
/// If it cannot be written.
pub fn write(place: &Path, words: &[&str], hidden: usize, seed: u64) -> std::io::Result<()> {
    std::fs::create_dir_all(place.join("1_Pooling"))?;
    write_bert(place, words, hidden, seed, false)?;
    let write = |name: &str, value: Value| std::fs::write(place.join(name), value.to_string());
    write(
        "modules.json",
        json!([
            { "idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer" },
            { "idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling" },
        ]),
    )?;
    write(
        "1_Pooling/config.json",
        json!({ "word_embedding_dimension": hidden, "pooling_mode_mean_tokens": true }),
    )
}

/// As [`write()`], a cross-encoder of one label.
///
/// # Errors
/// If it cannot be written.
pub fn write_reranker(
    place: &Path,
    words: &[&str],
    hidden: usize,
    seed: u64,
) -> std::io::Result<()> {
    std::fs::create_dir_all(place)?;
    write_bert(place, words, hidden, seed, true)
}

fn write_bert(
    place: &Path,
    words: &[&str],
    hidden: usize,
    seed: u64,
    reranks: bool,
) -> std::io::Result<()> {
    let all: Vec<&str> = SPECIAL.iter().chain(words).copied().collect();
    let vocabulary: Map<String, Value> =
        all.iter().zip(0..).map(|(word, id)| ((*word).to_owned(), id.into())).collect();
    let write = |name: &str, value: Value| std::fs::write(place.join(name), value.to_string());
    write(
        "config.json",
        json!({
            "model_type": "bert", "hidden_size": hidden, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": all.len(),
            "max_position_embeddings": TOKENS, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
            "hidden_act": "gelu", "id2label": { "0": "LABEL_0" },
        }),
    )?;
    write(
        "tokenizer.json",
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": { "type": "Whitespace" }, "decoder": null,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [
                    { "SpecialToken": { "id": "[CLS]", "type_id": 0 } },
                    { "Sequence": { "id": "A", "type_id": 0 } },
                    { "SpecialToken": { "id": "[SEP]", "type_id": 0 } },
                ],
                "pair": [
                    { "SpecialToken": { "id": "[CLS]", "type_id": 0 } },
                    { "Sequence": { "id": "A", "type_id": 0 } },
                    { "SpecialToken": { "id": "[SEP]", "type_id": 0 } },
                    { "Sequence": { "id": "B", "type_id": 1 } },
                    { "SpecialToken": { "id": "[SEP]", "type_id": 1 } },
                ],
                "special_tokens": {
                    "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] },
                    "[SEP]": { "id": "[SEP]", "ids": [3], "tokens": ["[SEP]"] },
                },
            },
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocabulary,
            },
        }),
    )?;
    std::fs::write(place.join("model.safetensors"), weights(all.len(), hidden, seed, reranks))
}

/// Returns weights in the safetensors format: the header's length, the header, the numbers. A model with a head has
/// the rest below its own name.
fn weights(words: usize, hidden: usize, seed: u64, reranks: bool) -> Vec<u8> {
    let mut tensors: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".into(), vec![words, hidden]),
        ("embeddings.position_embeddings.weight".into(), vec![TOKENS, hidden]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, hidden]),
        ("embeddings.LayerNorm.weight".into(), vec![hidden]),
        ("embeddings.LayerNorm.bias".into(), vec![hidden]),
    ];
    for (name, out, inner) in [
        ("attention.self.query", hidden, hidden),
        ("attention.self.key", hidden, hidden),
        ("attention.self.value", hidden, hidden),
        ("attention.output.dense", hidden, hidden),
        ("intermediate.dense", 16, hidden),
        ("output.dense", hidden, 16),
    ] {
        tensors.push((format!("encoder.layer.0.{name}.weight"), vec![out, inner]));
        tensors.push((format!("encoder.layer.0.{name}.bias"), vec![out]));
    }
    for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
        tensors.push((format!("encoder.layer.0.{name}.weight"), vec![hidden]));
        tensors.push((format!("encoder.layer.0.{name}.bias"), vec![hidden]));
    }
    if reranks {
        tensors.push(("pooler.dense.weight".into(), vec![hidden, hidden]));
        tensors.push(("pooler.dense.bias".into(), vec![hidden]));
        tensors.iter_mut().for_each(|(name, _)| name.insert_str(0, "bert."));
        tensors.push(("classifier.weight".into(), vec![1, hidden]));
        tensors.push(("classifier.bias".into(), vec![1]));
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape) in tensors {
        let begin = data.len();
        let count: usize = shape.iter().product();
        (0..count).for_each(|_| data.extend((random.f32() - 0.5).to_le_bytes()));
        let offsets = [begin, data.len()];
        header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": offsets }));
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}
