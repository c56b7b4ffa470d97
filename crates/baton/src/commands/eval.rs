//! `baton eval DIR`: how well a folder of judged queries is answered, in every configuration.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{ArgGroup, Args};
use indicatif::ProgressBar;
use retriever::embed::Local;
use retriever::evaluate::{Broken, Dataset, Report, With, evaluate};
use retriever::{Error, Qdrant, rerank};

use crate::cli::{Common, Failure};

/// What is to be measured.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("models").args(["model", "rerank"]).multiple(true)))]
pub(crate) struct Eval {
    /// A folder with corpus.jsonl, queries.jsonl and qrels.tsv
    folder: PathBuf,
    /// An embedding model: a directory in Hugging Face layout
    #[arg(long)]
    model: Option<PathBuf>,
    /// A reranker: a directory of a cross-encoder in Hugging Face layout
    #[arg(long)]
    rerank: Option<PathBuf>,
    /// A shared library of ONNX Runtime, which computes the directories' ONNX models
    #[arg(long, requires = "models")]
    onnxruntime: Option<PathBuf>,
    /// A Qdrant's gRPC interface, in which to measure everything a second time
    #[arg(long)]
    qdrant: Option<String>,
    /// That Qdrant's key, better from the environment than from here
    #[arg(long, env = "BATON_RETRIEVER__QDRANT__API_KEY", hide_env_values = true)]
    qdrant_key: Option<String>,
}

pub(crate) async fn run(common: &Common, wanted: Eval) -> Result<(), Failure> {
    let Eval { folder, model, rerank, onnxruntime, qdrant, qdrant_key } = wanted;
    let api_key = qdrant_key.map(Into::into);
    let qdrant = qdrant.map(|url| Qdrant { url, api_key });
    let opened = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let dataset = Dataset::read(&folder)?;
        let library = onnxruntime.as_deref();
        let model = model.map(|directory| Local::open(&directory, library, 0)).transpose()?;
        let reranker =
            rerank.map(|directory| rerank::Local::open(&directory, library, 0)).transpose()?;
        Ok((dataset, model, reranker))
    });
    let (dataset, model, reranker) = opened.await.map_err(|fault| anyhow!(fault))??;
    // Models take minutes; words do not take a second.
    let bar = if model.is_some() || reranker.is_some() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    let progress = |done| bar.set_message(done);
    let with = With { model: model.as_ref(), reranker: reranker.as_ref(), qdrant: qdrant.as_ref() };
    let report = evaluate(&dataset, with, progress).await.map_err(|fault| match fault {
        Broken::Index(Error::Index(fault)) => Failure::unreachable(format!("qdrant: {fault}")),
        fault => anyhow!(fault).into(),
    })?;
    bar.finish_and_clear();
    match common.json {
        true => println!("{}", serde_json::to_string(&report).map_err(|fault| anyhow!(fault))?),
        false => print!("{}", table(&report)),
    }
    Ok(())
}

fn table(report: &Report) -> String {
    let Report { documents, passages, queries, .. } = report;
    let mut text = format!("{documents} documents in {passages} passages, {queries} queries\n\n");
    let widths = report.configurations.iter().map(|one| one.name.len());
    let width = widths.max().unwrap_or_default();
    text += &format!("{:width$}  nDCG@10  Recall@100  MRR@10        p\n", "configuration");
    for one in &report.configurations {
        let (name, measures) = (&one.name, one.measures);
        let p = one.p_value.map_or("default".to_owned(), |p| format!("{p:.4}"));
        text += &format!(
            "{name:width$}  {:7.4}  {:10.4}  {:6.4}  {p:>7}\n",
            measures.ndcg_10, measures.recall_100, measures.mrr_10
        );
    }
    text +=
        "\np: how likely a difference of nDCG@10 from the default as large as this is by chance\n";
    if let Some(tuned) = &report.fusion {
        text += &format!(
            "best dense weight {:.1}; chosen by other queries it gives nDCG@10 {:.4} (p {:.4})\n",
            tuned.dense_weight, tuned.ndcg_10, tuned.p_value
        );
    }
    text
}
