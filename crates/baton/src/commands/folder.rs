//! Ingests a folder.

use std::path::{Path, PathBuf};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use proto::retriever::PutDocumentRequest;
use proto::retriever::retriever_service_client::RetrieverServiceClient;
use runtime::transport::Peer;
use types::CallContext;

/// What became of a folder's files.
#[derive(Debug, Default)]
pub(crate) struct Ingested {
    pub(crate) changed: usize,
    pub(crate) unchanged: usize,
    /// Files that were refused, each with the reason.
    pub(crate) refused: Vec<String>,
}

/// Stores every file that can be read (docs/documents.md lists them) below `folder` that ignore files do
/// not exclude. One bad file never stops the others.
///
/// # Errors
/// If the folder is missing or holds no such file, or the retriever fails.
pub(crate) async fn ingest(
    folder: &Path,
    retriever: Peer,
    context: &CallContext,
) -> anyhow::Result<Ingested> {
    let files = files(folder)?;
    let bar = bar(files.len())?;
    let mut client = RetrieverServiceClient::new(retriever);
    let mut done = Ingested::default();
    for file in files {
        let source = file.display().to_string();
        bar.inc(1);
        let content = match tokio::fs::read(&file).await {
            Ok(content) => content,
            Err(fault) => {
                done.refused.push(format!("{source}: {fault}"));
                continue;
            }
        };
        let request =
            PutDocumentRequest { source, content: content.into(), ..PutDocumentRequest::default() };
        match client.put_document(runtime::context::request(context, request)).await {
            Ok(reply) if reply.get_ref().changed => done.changed += 1,
            Ok(_) => done.unchanged += 1,
            Err(status) => match runtime::error::kind_of(&status) {
                types::ErrorKind::Invalid => {
                    done.refused.push(format!("{}: {}", file.display(), status.message()));
                }
                _ => bail!("{}: {}", file.display(), status.message()),
            },
        }
    }
    bar.finish_and_clear();
    Ok(done)
}

/// Returns a bar that shows how many of so many files are done, on a terminal.
pub(crate) fn bar(files: usize) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}")?;
    Ok(ProgressBar::new(files as u64).with_style(style).with_message("reading"))
}

/// Returns the files below `folder` that can be read and that ignore files do not exclude, by name.
///
/// # Errors
/// If the folder is missing or holds no such file.
pub(crate) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        bail!("{} is not a folder", folder.display());
    }
    let mut files = Vec::new();
    for entry in ignore::WalkBuilder::new(folder).require_git(false).build() {
        let path = entry?.into_path();
        if path.is_file() && path.to_str().is_some_and(retriever::is_document) {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{} holds no file that can be read, such as Markdown", folder.display());
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_documents_is_one_clear_line() {
        let folder = tempfile::tempdir().unwrap();
        let fault = files(folder.path()).unwrap_err().to_string();
        assert!(fault.ends_with("holds no file that can be read, such as Markdown"), "{fault}");
        let fault = files(&folder.path().join("none")).unwrap_err().to_string();
        assert!(fault.ends_with("none is not a folder"), "{fault}");
    }

    #[test]
    fn ignored_and_other_files_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in
            [(".gitignore", "secret.md"), ("a.md", ""), ("b.png", ""), ("secret.md", "")]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        assert_eq!(files(folder.path()).unwrap(), [folder.path().join("a.md")]);
    }
}
