//! What is in a directory.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Stat, fstat, statat};

use crate::Error;
use crate::files::{Files, Found};
use crate::root::Links;

/// In which order entries are told with their sizes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum SortBy {
    #[default]
    Name,
    Size,
}

impl Files {
    /// Lists a directory by name. A link is told as what it is, a file.
    pub(crate) fn list(&self, path: &str) -> Result<String, Error> {
        let (_, directory) = self.directory(path)?;
        let entries = self.entries(path, &directory)?;
        let line = |(name, kind): &(OsString, FileType)| format!("{} {}", tag(*kind), shown(name));
        Ok(entries.iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    /// Lists a directory with the sizes of files, and what they are together.
    pub(crate) fn list_with_sizes(&self, path: &str, sort_by: SortBy) -> Result<String, Error> {
        let (found, directory) = self.directory(path)?;
        let entries = self.entries(path, &directory)?;
        let sized = entries.into_iter().map(|(name, kind)| {
            let stat = status(&found, &directory, &name, kind);
            let size = stat.map_or(0, |stat| stat.st_size.max(0).unsigned_abs());
            (shown(&name), kind == FileType::Directory, size)
        });
        let mut sized: Vec<_> = sized.collect();
        match sort_by {
            SortBy::Name => {
                sized.sort_by_cached_key(|(name, ..)| (name.to_lowercase(), name.clone()))
            }
            SortBy::Size => sized.sort_by_key(|(.., size)| std::cmp::Reverse(*size)),
        }
        let files = || sized.iter().filter(|(_, is_directory, _)| !is_directory);
        let total = files().fold(0_u64, |total, (.., size)| total.saturating_add(*size));
        let line = |(name, is_directory, size): &(String, bool, u64)| match is_directory {
            true => format!("[DIR] {name:<30} "),
            false => format!("[FILE] {name:<30} {:>10}", human(*size)),
        };
        let mut lines: Vec<_> = sized.iter().map(line).collect();
        let (count, directories) = (files().count(), sized.len() - files().count());
        lines.push(String::new());
        lines.push(format!("Total: {count} files, {directories} directories"));
        lines.push(format!("Combined size: {}", human(total)));
        Ok(lines.join("\n"))
    }

    /// Reads an open directory, by name.
    fn entries(&self, path: &str, open: &OwnedFd) -> Result<Vec<(OsString, FileType)>, Error> {
        let mut entries = Vec::new();
        for entry in children(path, open)? {
            if entries.len() == self.limits.entries {
                return Err(self.too_many(path));
            }
            entries.push(entry?);
        }
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(entries)
    }

    pub(crate) fn too_many(&self, path: &str) -> Error {
        let limit = self.limits.entries as u64;
        Error::TooLarge { path: path.to_owned(), limit, unit: "entries" }
    }
}

/// Reads an open directory as it comes.
pub(crate) fn children(
    path: &str,
    open: &OwnedFd,
) -> Result<impl Iterator<Item = Result<(OsString, FileType), Error>>, Error> {
    let fault = |fault| Error::of(path, fault);
    let read = Dir::read_from(open).map_err(fault)?;
    Ok(read.filter_map(move |entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(told) => return Some(Err(fault(told))),
        };
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            return None;
        }
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => statat(open, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            kind => kind,
        };
        Some(Ok((name.to_owned(), kind)))
    }))
}

/// Returns a name as it is told. What is not UTF-8 in it is replaced.
pub(crate) fn shown(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

/// Returns what an entry is, or what it leads to if that is beneath the root.
fn status(found: &Found<'_>, open: &OwnedFd, name: &OsStr, kind: FileType) -> Option<Stat> {
    match kind {
        FileType::Symlink => {
            let handle = found.root.handle(&found.inside.join(name), Links::Followed);
            fstat(handle.ok()?).ok()
        }
        _ => statat(open, name, AtFlags::SYMLINK_NOFOLLOW).ok(),
    }
}

fn tag(kind: FileType) -> &'static str {
    if kind == FileType::Directory { "[DIR]" } else { "[FILE]" }
}

/// Returns bytes in the largest unit of which there is one.
fn human(bytes: u64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB"];
    let unit = (bytes.max(1).ilog2() / 10).min(4);
    match unit {
        0 => format!("{bytes} B"),
        #[allow(clippy::cast_precision_loss, reason = "two places are told")]
        unit => format!(
            "{:.2} {}",
            bytes as f64 / f64::from(1_u32 << 10).powi(unit as i32),
            units[unit as usize]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_are_told_in_the_largest_unit_of_which_there_is_one() {
        for (bytes, told) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KB"),
            (1536, "1.50 KB"),
            (1024 * 1024, "1.00 MB"),
            (5 * 1024_u64.pow(4), "5.00 TB"),
            (2 * 1024_u64.pow(5), "2048.00 TB"),
        ] {
            assert_eq!(human(bytes), told);
        }
    }
}
