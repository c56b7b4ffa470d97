//! Differences between two states, as patches.

use git2::{Delta, Diff, DiffDelta, DiffLineType, DiffOptions, Patch, Repository};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::output::Output;
use crate::tool::{Effect, Tool};
use crate::{Config, Error, head, revision};

/// What is larger is not compared line by line.
const MAX_FILE_BYTES: i64 = 64 * 1024 * 1024;

/// The id of an empty file.
const EMPTY: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";

/// How many lines around a change may be asked for.
const MAX_CONTEXT: u32 = 10_000;

/// Arguments of `git_diff_unstaged`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unstaged {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
    /// How many lines around each change
    #[serde(default = "three")]
    context_lines: u32,
}

/// Arguments of `git_diff_staged`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Staged {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
    /// How many lines around each change
    #[serde(default = "three")]
    context_lines: u32,
}

/// Arguments of `git_diff`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Against {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
    /// The commit, tag or branch that the working directory is compared with
    target: String,
    /// How many lines around each change
    #[serde(default = "three")]
    context_lines: u32,
}

fn three() -> u32 {
    3
}

impl Tool for Unstaged {
    const NAME: &'static str = "git_diff_unstaged";
    const DESCRIPTION: &'static str =
        "Shows changes in the working directory that are not yet staged";
    const EFFECT: Effect = Effect::Reads;

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, config: &Config) -> Result<String, Error> {
        let mut options = with_work_tree(self.context_lines, config)?;
        let diff = repository.diff_index_to_workdir(None, Some(&mut options))?;
        patches("Unstaged changes:", diff, config)
    }
}

impl Tool for Staged {
    const NAME: &'static str = "git_diff_staged";
    const DESCRIPTION: &'static str = "Shows changes that are staged for commit";
    const EFFECT: Effect = Effect::Reads;

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, config: &Config) -> Result<String, Error> {
        let head = head::now(repository)?.map(|head| head.peel_to_tree()).transpose()?;
        let mut options = options(checked(self.context_lines)?, config);
        let diff = repository.diff_tree_to_index(head.as_ref(), None, Some(&mut options))?;
        patches("Staged changes:", diff, config)
    }
}

impl Tool for Against {
    const NAME: &'static str = "git_diff";
    const DESCRIPTION: &'static str = "Shows differences between branches or commits";
    const EFFECT: Effect = Effect::Reads;

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, config: &Config) -> Result<String, Error> {
        let target = revision::object(repository, "target", &self.target)?;
        let tree = target.peel_to_tree().map_err(Error::unknown(&self.target))?;
        let mut options = with_work_tree(self.context_lines, config)?;
        let diff = repository.diff_tree_to_workdir_with_index(Some(&tree), Some(&mut options))?;
        patches(&format!("Diff with {}:", self.target), diff, config)
    }
}

fn checked(context_lines: u32) -> Result<u32, Error> {
    match context_lines {
        0..=MAX_CONTEXT => Ok(context_lines),
        _ => Err(Error::Invalid(format!("context_lines is more than {MAX_CONTEXT}"))),
    }
}

/// Returns how two states are compared.
pub(crate) fn options(context_lines: u32, config: &Config) -> DiffOptions {
    let mut options = DiffOptions::new();
    let largest = MAX_FILE_BYTES.max(i64::try_from(config.max_bytes).unwrap_or(i64::MAX));
    options.context_lines(context_lines).max_size(largest).indent_heuristic(true);
    options
}

/// As [`options`], where one state is the work tree.
fn with_work_tree(context_lines: u32, config: &Config) -> Result<DiffOptions, Error> {
    let mut options = options(checked(context_lines)?, config);
    // To compare a submodule is to open it, wherever it lies.
    options.ignore_submodules(true);
    Ok(options)
}

fn patches(head: &str, diff: Diff<'_>, config: &Config) -> Result<String, Error> {
    let mut output = Output::new(config.max_bytes);
    write(diff, Style::Git, &mut output)?;
    // As a program's output: without its last line's end.
    let text = output.finish();
    Ok(format!("{head}\n{}", text.strip_suffix('\n').unwrap_or(&text)))
}

/// How the head of a file's patch looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// As `git diff` writes it.
    Git,
    /// The two names alone, after an empty line.
    Plain,
}

/// Writes the patches of a diff in the order of their names, as far as there is room.
pub(crate) fn write(mut diff: Diff<'_>, style: Style, output: &mut Output) -> Result<(), Error> {
    diff.find_similar(None)?;
    let mut order: Vec<usize> = (0..diff.deltas().len()).collect();
    order.sort_by_key(|index| diff.get_delta(*index).and_then(|delta| name(&delta)));
    for index in order {
        let Some(mut patch) = compared(&diff, index)? else { continue };
        if style == Style::Plain {
            let head = names(&patch.delta());
            output.push(&format!("\n--- {}\n+++ {}\n", head.0, head.1));
        }
        let has_lines = patch.num_hunks() > 0;
        let printed = patch.print(&mut |_, _, line| {
            let origin = match line.origin_value() {
                DiffLineType::FileHeader if style == Style::Plain => return true,
                DiffLineType::FileHeader => return output.push(&head(line.content(), has_lines)),
                DiffLineType::Context | DiffLineType::Addition | DiffLineType::Deletion => {
                    output.push(line.origin().encode_utf8(&mut [0; 4]))
                }
                _ => true,
            };
            origin && output.push_bytes(line.content())
        });
        if output.is_full() {
            return Ok(());
        }
        printed?;
    }
    Ok(())
}

/// Compares one file. Without the memory for it, there is an error that names the file.
fn compared<'diff>(diff: &'diff Diff<'_>, index: usize) -> Result<Option<Patch<'diff>>, Error> {
    let without_memory = || {
        let name = diff.get_delta(index).and_then(|delta| name(&delta)).unwrap_or_default();
        Error::NotCompared(String::from_utf8_lossy(&name).into_owned())
    };
    match Patch::from_diff(diff, index).map_err(Error::from) {
        // The library may be silent about it.
        Ok(Some(patch)) if patch.num_hunks() == 0 && has_changed(&patch.delta()) => {
            Err(without_memory())
        }
        Err(Error::TooMuchMemory) => Err(without_memory()),
        other => other,
    }
}

/// Returns the head of a file's patch as git writes it: names with a space end in a tab, and there
/// are none where there are no lines.
fn head(text: &[u8], has_lines: bool) -> String {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter_map(|line| match line.get(..4) {
        Some("--- " | "+++ ") if !has_lines => None,
        Some("--- " | "+++ ") if line[4..].contains(' ') => Some(format!("{line}\t\n")),
        _ => Some(format!("{line}\n")),
    });
    lines.collect()
}

/// Tells whether a text's lines have changed. No file is as good as an empty one.
fn has_changed(delta: &DiffDelta<'_>) -> bool {
    let id = |file: git2::DiffFile<'_>| {
        if file.id().is_zero() { EMPTY.to_owned() } else { file.id().to_string() }
    };
    !delta.flags().is_binary() && id(delta.old_file()) != id(delta.new_file())
}

/// Returns the name by which a file is sorted: the new one, if there is one.
fn name(delta: &DiffDelta<'_>) -> Option<Vec<u8>> {
    let file = match delta.status() {
        Delta::Deleted => delta.old_file(),
        _ => delta.new_file(),
    };
    file.path_bytes().map(<[u8]>::to_vec)
}

/// Returns a file's old and new name, with `/dev/null` for what there was not or is no more.
fn names(delta: &DiffDelta<'_>) -> (String, String) {
    let shown = |prefix: &str, path: Option<&[u8]>| {
        format!("{prefix}{}", String::from_utf8_lossy(path.unwrap_or_default()))
    };
    let nothing = || "/dev/null".to_owned();
    let (old, new) = (delta.old_file(), delta.new_file());
    let is_new = matches!(delta.status(), Delta::Added | Delta::Untracked);
    (
        if is_new { nothing() } else { shown("a/", old.path_bytes()) },
        if delta.status() == Delta::Deleted { nothing() } else { shown("b/", new.path_bytes()) },
    )
}
