//! What is in a file.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;

use mcp_server::Deadline;
use memchr::{memchr, memrchr_iter};

use crate::Error;
use crate::files::{Files, Found};

/// How much of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    All,
    /// The first lines, without the last one's end.
    Head(u64),
    /// The last lines.
    Tail(u64),
}

impl Files {
    /// Reads a text file. What is not UTF-8 in it is replaced.
    pub(crate) fn text(&self, path: &str, part: Part) -> Result<String, Error> {
        let (found, file) = self.file(path)?;
        let size = found.stat.st_size.max(0).unsigned_abs();
        let bytes = match part {
            Part::All => whole(path, &found, file, self.limits.bytes)?,
            Part::Head(lines) => head(path, file, lines, self.limits.bytes)?,
            Part::Tail(lines) => tail(path, &file, size, lines, self.limits.bytes)?,
        };
        if memchr(0, &bytes).is_some() {
            return Err(Error::NotText(path.to_owned()));
        }
        Ok(into_text(bytes))
    }

    /// Reads several text files. A fault of one is told in its place.
    pub(crate) fn texts(&self, paths: &[String], deadline: &Deadline) -> Result<String, Error> {
        let mut left = self.limits.bytes;
        let mut told = Vec::new();
        for path in paths {
            if deadline.passed() {
                return Err(Error::Late(path.clone()));
            }
            told.push(match self.text(path, Part::All) {
                Ok(text) => {
                    let unit = "bytes of files in one answer";
                    let limit = self.limits.bytes;
                    let taken = left.checked_sub(text.len() as u64);
                    left = taken.ok_or(Error::TooLarge { path: path.clone(), limit, unit })?;
                    format!("{path}:\n{text}\n")
                }
                Err(fault) => format!("{path}: Error - {fault}"),
            });
        }
        Ok(told.join("\n---\n"))
    }

    /// Reads the bytes of a file.
    pub(crate) fn bytes(&self, path: &str) -> Result<(Found<'_>, Vec<u8>), Error> {
        let (found, file) = self.file(path)?;
        let bytes = whole(path, &found, file, self.limits.bytes)?;
        Ok((found, bytes))
    }
}

/// Returns bytes as text, as it is read here.
pub(crate) fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|fault| String::from_utf8_lossy(fault.as_bytes()).into_owned())
}

fn whole(path: &str, found: &Found<'_>, file: File, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    // It may grow while it is read.
    if found.stat.st_size.max(0).unsigned_abs() <= limit {
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|fault| Error::io(path, &fault))?;
        if bytes.len() as u64 <= limit {
            return Ok(bytes);
        }
    }
    Err(too_large(path, limit))
}

fn head(path: &str, file: File, lines: u64, limit: u64) -> Result<Vec<u8>, Error> {
    let mut reader = BufReader::new(file.take(limit.saturating_add(1)));
    let mut bytes = Vec::new();
    for _ in 0..lines {
        let read = reader.read_until(b'\n', &mut bytes).map_err(|fault| Error::io(path, &fault))?;
        if bytes.len() as u64 > limit {
            return Err(too_large(path, limit));
        }
        if read == 0 {
            break;
        }
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(bytes)
}

fn tail(path: &str, file: &File, size: u64, lines: u64, limit: u64) -> Result<Vec<u8>, Error> {
    let mut window = 64 * 1024;
    loop {
        let length = size.min(window).min(limit);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let read = file.read_exact_at(&mut bytes, size - length);
        read.map_err(|fault| Error::io(path, &fault))?;
        if let Some(start) = start_of_last(&bytes, lines) {
            return Ok(bytes.split_off(start));
        }
        if length == size {
            return Ok(bytes);
        }
        if length == limit {
            return Err(too_large(path, limit));
        }
        window *= 2;
    }
}

/// Returns where the last `lines` lines begin, if a line before them ends in `bytes`.
fn start_of_last(bytes: &[u8], lines: u64) -> Option<usize> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let before = usize::try_from(lines).ok()?.checked_sub(1)?;
    memrchr_iter(b'\n', bytes).nth(before).map(|end| end + 1)
}

fn too_large(path: &str, limit: u64) -> Error {
    Error::TooLarge { path: path.to_owned(), limit, unit: "bytes" }
}
