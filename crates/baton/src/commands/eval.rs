//! `baton eval DIR`: how well a folder of judged queries is answered, in every configuration.

use std::path::PathBuf;

use anyhow::anyhow;
use indicatif::ProgressBar;
use retriever::embed::Local;
use retriever::evaluate::{Dataset, Report, evaluate};
use retriever::rerank;

use crate::cli::{Common, Failure};

pub(crate) async fn run(
    common: &Common,
    folder: PathBuf,
    model: Option<PathBuf>,
    rerank: Option<PathBuf>,
    onnxruntime: Option<PathBuf>,
) -> Result<(), Failure> {
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
    let report = evaluate(&dataset, model.as_ref(), reranker.as_ref(), progress)
        .await
        .map_err(|fault| anyhow!(fault))?;
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
