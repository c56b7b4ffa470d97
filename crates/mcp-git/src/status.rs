//! The state of the work tree, in git's own words.

use git2::{Delta, DiffDelta, ErrorCode, Repository, RepositoryState, Status as Flags};
use git2::{StatusOptions, Statuses};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::head::Head;
use crate::output::Output;
use crate::tool::{Effect, Tool};
use crate::{Config, Error};

/// Arguments of `git_status`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Status {
    /// The repository: relative to the allowed directory, or absolute and in it
    repo_path: String,
}

const STAGED: Flags = Flags::INDEX_NEW
    .union(Flags::INDEX_MODIFIED)
    .union(Flags::INDEX_DELETED)
    .union(Flags::INDEX_RENAMED)
    .union(Flags::INDEX_TYPECHANGE);
const UNSTAGED: Flags = Flags::WT_MODIFIED
    .union(Flags::WT_DELETED)
    .union(Flags::WT_RENAMED)
    .union(Flags::WT_TYPECHANGE);

impl Tool for Status {
    const NAME: &'static str = "git_status";
    const DESCRIPTION: &'static str = "Shows the working tree status";
    const EFFECT: Effect = Effect::Reads;

    fn repo_path(&self) -> &str {
        &self.repo_path
    }

    fn run(&self, repository: &Repository, config: &Config) -> Result<String, Error> {
        if repository.is_bare() {
            return Err(Error::Invalid("this operation must be run in a work tree".to_owned()));
        }
        let mut options = StatusOptions::new();
        options
            .include_untracked(true)
            .renames_head_to_index(true)
            .sort_case_sensitively(true)
            // To look at a submodule is to open it, wherever it lies.
            .exclude_submodules(true);
        let found = repository.statuses(Some(&mut options))?;
        let mut output = Output::new(config.max_bytes);
        output.push(&Report { repository, found: &found }.text()?);
        Ok(format!("Repository status:\n{}", output.finish()))
    }
}

struct Report<'a> {
    repository: &'a Repository,
    found: &'a Statuses<'a>,
}

impl Report<'_> {
    fn text(&self) -> Result<String, Error> {
        let head = Head::of(self.repository)?;
        let mut text = match &head {
            Head::Branch(name) => format!("On branch {name}\n{}", self.upstream(name)?),
            Head::Unborn(name) => format!("On branch {name}\n\nNo commits yet\n\n"),
            Head::Detached { from: Some(from), has_moved } => {
                format!("HEAD detached {} {from}\n", if *has_moved { "from" } else { "at" })
            }
            Head::Detached { from: None, .. } => "Not currently on any branch.\n".to_owned(),
        };
        text += &self.state();
        let is_unborn = matches!(head, Head::Unborn(_));
        let is_merge = self.repository.state() == RepositoryState::Merge;

        let staged = self.lines(STAGED, |entry| entry.head_to_index());
        if !staged.is_empty() {
            text += "Changes to be committed:\n";
            text += match (is_unborn, is_merge) {
                (_, true) => "",
                (true, _) => "  (use \"git rm --cached <file>...\" to unstage)\n",
                (false, _) => "  (use \"git restore --staged <file>...\" to unstage)\n",
            };
            text += &format!("{staged}\n");
        }
        let unmerged = self.unmerged()?;
        if !unmerged.is_empty() {
            text += &unmerged;
        }
        let unstaged = self.lines(UNSTAGED, |entry| entry.index_to_workdir());
        if !unstaged.is_empty() {
            let is_deleted = |flags: Flags| flags.contains(Flags::WT_DELETED);
            let add = match self.found.iter().any(|entry| is_deleted(entry.status())) {
                true => "add/rm",
                false => "add",
            };
            text += &format!(
                "Changes not staged for commit:\n  \
                 (use \"git {add} <file>...\" to update what will be committed)\n  \
                 (use \"git restore <file>...\" to discard changes in working directory)\n\
                 {unstaged}\n"
            );
        }
        let untracked: String = self
            .found
            .iter()
            .filter(|entry| entry.status().contains(Flags::WT_NEW))
            .map(|entry| format!("\t{}\n", quoted(entry.path_bytes())))
            .collect();
        if !untracked.is_empty() {
            text += &format!(
                "Untracked files:\n  \
                 (use \"git add <file>...\" to include in what will be committed)\n{untracked}\n"
            );
        }
        let is_committable = !staged.is_empty() || (is_merge && unmerged.is_empty());
        text += match is_committable {
            true => "",
            false if !unstaged.is_empty() || !unmerged.is_empty() => {
                "no changes added to commit (use \"git add\" and/or \"git commit -a\")"
            }
            false if !untracked.is_empty() => {
                "nothing added to commit but untracked files present (use \"git add\" to track)"
            }
            false if is_unborn => {
                "nothing to commit (create/copy files and use \"git add\" to track)"
            }
            false => "nothing to commit, working tree clean",
        };
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    /// Says how the branch stands to the one that it follows.
    fn upstream(&self, name: &str) -> Result<String, Error> {
        let full = format!("refs/heads/{name}");
        let (upstream, ours) = match self.repository.branch_upstream_name(&full) {
            Ok(upstream) => (String::from_utf8_lossy(&upstream).into_owned(), full),
            Err(fault) if fault.code() == ErrorCode::NotFound => return Ok(String::new()),
            Err(fault) => return Err(fault.into()),
        };
        let short = ["refs/remotes/", "refs/heads/"].iter().find_map(|p| upstream.strip_prefix(p));
        let short = short.unwrap_or(&upstream);
        let id = |name: &str| self.repository.refname_to_id(name);
        let Ok(theirs) = id(&upstream) else {
            return Ok(format!(
                "Your branch is based on '{short}', but the upstream is gone.\n  \
                 (use \"git branch --unset-upstream\" to fixup)\n\n"
            ));
        };
        let commits = |count| if count == 1 { "commit" } else { "commits" };
        Ok(match self.repository.graph_ahead_behind(id(&ours)?, theirs)? {
            (0, 0) => format!("Your branch is up to date with '{short}'.\n\n"),
            (ahead, 0) => format!(
                "Your branch is ahead of '{short}' by {ahead} {}.\n  \
                 (use \"git push\" to publish your local commits)\n\n",
                commits(ahead)
            ),
            (0, behind) => format!(
                "Your branch is behind '{short}' by {behind} {}, and can be fast-forwarded.\n  \
                 (use \"git pull\" to update your local branch)\n\n",
                commits(behind)
            ),
            (ahead, behind) => format!(
                "Your branch and '{short}' have diverged,\n\
                 and have {ahead} and {behind} different commits each, respectively.\n  \
                 (use \"git pull\" if you want to integrate the remote branch with yours)\n\n"
            ),
        })
    }

    fn state(&self) -> String {
        let has_conflicts = self.found.iter().any(|entry| entry.status().is_conflicted());
        match self.repository.state() {
            RepositoryState::Clean => "",
            RepositoryState::Merge if has_conflicts => {
                "You have unmerged paths.\n  (fix conflicts and run \"git commit\")\n  \
                 (use \"git merge --abort\" to abort the merge)\n\n"
            }
            RepositoryState::Merge => {
                "All conflicts fixed but you are still merging.\n  \
                 (use \"git commit\" to conclude merge)\n\n"
            }
            RepositoryState::Revert | RepositoryState::RevertSequence => {
                "You are currently reverting.\n\n"
            }
            RepositoryState::CherryPick | RepositoryState::CherryPickSequence => {
                "You are currently cherry-picking.\n\n"
            }
            RepositoryState::Bisect => "You are currently bisecting.\n\n",
            RepositoryState::Rebase
            | RepositoryState::RebaseInteractive
            | RepositoryState::RebaseMerge => "You are currently rebasing.\n\n",
            RepositoryState::ApplyMailbox | RepositoryState::ApplyMailboxOrRebase => {
                "You are in the middle of an am session.\n\n"
            }
        }
        .to_owned()
    }

    fn lines<'s>(
        &'s self,
        wanted: Flags,
        side: impl Fn(&git2::StatusEntry<'s>) -> Option<DiffDelta<'s>>,
    ) -> String {
        let mut lines: Vec<(Vec<u8>, String)> = self
            .found
            .iter()
            .filter(|entry| entry.status().intersects(wanted) && !entry.status().is_conflicted())
            .filter_map(|entry| {
                let delta = side(&entry)?;
                let name = quoted(delta.new_file().path_bytes().unwrap_or_default());
                let line = match delta.status() {
                    Delta::Added => format!("\tnew file:   {name}\n"),
                    Delta::Deleted => format!("\tdeleted:    {name}\n"),
                    Delta::Typechange => format!("\ttypechange: {name}\n"),
                    Delta::Renamed => {
                        let old = quoted(delta.old_file().path_bytes().unwrap_or_default());
                        format!("\trenamed:    {old} -> {name}\n")
                    }
                    _ => format!("\tmodified:   {name}\n"),
                };
                Some((delta.new_file().path_bytes()?.to_vec(), line))
            })
            .collect();
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }

    fn unmerged(&self) -> Result<String, Error> {
        let (mut lines, mut is_deleted, mut is_kept) = (String::new(), false, false);
        let index = self.repository.index()?;
        if !index.has_conflicts() {
            return Ok(lines);
        }
        for conflict in index.conflicts()? {
            let conflict = conflict?;
            let sides =
                (conflict.ancestor.is_some(), conflict.our.is_some(), conflict.their.is_some());
            let (how, has_deleted, has_kept) = match sides {
                (true, false, false) => ("both deleted:", false, false),
                (false, true, false) => ("added by us:", false, true),
                (true, true, false) => ("deleted by them:", true, false),
                (false, false, true) => ("added by them:", false, true),
                (true, false, true) => ("deleted by us:", true, false),
                (false, true, true) => ("both added:", false, true),
                _ => ("both modified:", false, true),
            };
            is_deleted |= has_deleted;
            is_kept |= has_kept;
            let entry = conflict.our.or(conflict.their).or(conflict.ancestor);
            let path = entry.map(|entry| entry.path).unwrap_or_default();
            lines += &format!("\t{how:<17}{}\n", quoted(&path));
        }
        let unstage = match self.repository.state() {
            RepositoryState::Merge => "",
            _ => "  (use \"git restore --staged <file>...\" to unstage)\n",
        };
        let resolve = match (is_deleted, is_kept) {
            (false, true) => "  (use \"git add <file>...\" to mark resolution)\n",
            (false, false) => "  (use \"git rm <file>...\" to mark resolution)\n",
            _ => "  (use \"git add/rm <file>...\" as appropriate to mark resolution)\n",
        };
        Ok(format!("Unmerged paths:\n{unstage}{resolve}{lines}\n"))
    }
}

/// Writes a path as git does: in quotes and with escapes when it has what is not plain.
fn quoted(path: &[u8]) -> String {
    let is_plain = |byte: &u8| (0x20..0x7f).contains(byte) && !matches!(byte, b'"' | b'\\');
    if path.iter().all(is_plain) {
        return String::from_utf8_lossy(path).into_owned();
    }
    let escaped = path.iter().map(|byte| match byte {
        b'"' => "\\\"".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        byte if is_plain(byte) => char::from(*byte).to_string(),
        byte => format!("\\{byte:03o}"),
    });
    format!("\"{}\"", escaped.collect::<String>())
}
