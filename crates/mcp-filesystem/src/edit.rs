//! Replacements in bytes of which most are text.

use memchr::memmem;

/// One text for another.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) old: String,
    pub(crate) new: String,
}

/// Replaces what `edit` has in `contents`, if it is there once. A line end is a line end, of whichever
/// kind, and keeps its kind; every other byte is as it was.
///
/// # Errors
/// What is found instead.
pub(crate) fn apply(contents: &[u8], edit: &Edit) -> Result<Vec<u8>, String> {
    let text = Unix::of(contents);
    let old = unix(&edit.old);
    if old.is_empty() {
        return Err("oldText is empty".to_owned());
    }
    let finder = memmem::Finder::new(old.as_bytes());
    let Some(start) = finder.find(&text.bytes) else {
        return Err(match differs_in_space(&text.bytes, &old) {
            Some(line) => format!(
                "oldText is not in the file; what begins in line {line} differs from it in white space"
            ),
            None => "oldText is not in the file".to_owned(),
        });
    };
    if let Some(again) = finder.find(&text.bytes[start + 1..]) {
        let lines = (text.line(start), text.line(start + 1 + again));
        return Err(format!(
            "oldText is in the file more than once, in lines {} and {}; give more of what is around it",
            lines.0, lines.1
        ));
    }
    let (from, to) = (text.place(start), text.place(start + old.len()));
    let style = line_end(&contents[from..to]).or_else(|| line_end(contents));
    let new = match style {
        Some("\r\n") => unix(&edit.new).replace('\n', "\r\n"),
        Some(_) => unix(&edit.new),
        None => edit.new.clone(),
    };
    Ok([&contents[..from], new.as_bytes(), &contents[to..]].concat())
}

/// Bytes whose line ends are one byte each.
struct Unix {
    bytes: Vec<u8>,
    /// Which line ends, by where they are here, were two.
    pairs: Vec<usize>,
}

impl Unix {
    fn of(contents: &[u8]) -> Self {
        let (mut bytes, mut pairs) = (Vec::with_capacity(contents.len()), Vec::new());
        let mut copied = 0;
        for at in memmem::find_iter(contents, b"\r\n") {
            bytes.extend_from_slice(&contents[copied..at]);
            pairs.push(bytes.len());
            copied = at + 1;
        }
        bytes.extend_from_slice(&contents[copied..]);
        Self { bytes, pairs }
    }

    /// Returns where in the contents a place here is.
    fn place(&self, at: usize) -> usize {
        at + self.pairs.partition_point(|pair| *pair < at)
    }

    fn line(&self, at: usize) -> usize {
        memchr::memchr_iter(b'\n', &self.bytes[..at]).count() + 1
    }
}

fn unix(text: &str) -> String {
    text.replace("\r\n", "\n")
}

fn line_end(bytes: &[u8]) -> Option<&'static str> {
    let end = memchr::memchr(b'\n', bytes)?;
    Some(if end > 0 && bytes[end - 1] == b'\r' { "\r\n" } else { "\n" })
}

/// Returns the line from which on `text` has the lines of `old`, but for white space around them.
fn differs_in_space(text: &[u8], old: &str) -> Option<usize> {
    let trimmed = |text: &[u8]| {
        let mut lines = vec![b'\n'];
        for line in text.split(|byte| *byte == b'\n') {
            lines.extend_from_slice(line.trim_ascii());
            lines.push(b'\n');
        }
        lines
    };
    let wanted = trimmed(old.trim().as_bytes());
    let text = trimmed(text);
    let at = memmem::find(&text, &wanted)?;
    (wanted.len() > 2).then(|| memchr::memchr_iter(b'\n', &text[..at]).count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(contents: &[u8], old: &str, new: &str) -> Result<Vec<u8>, String> {
        apply(contents, &Edit { old: old.to_owned(), new: new.to_owned() })
    }

    #[test]
    fn one_place_is_replaced_and_every_other_byte_is_as_it_was() {
        for (contents, old, new, wanted) in [
            (&b"one two"[..], "two", "three", &b"one three"[..]),
            (b"a\r\nb\r\nc\r\n", "b\n", "x\ny\n", b"a\r\nx\r\ny\r\nc\r\n"),
            (b"a\r\nb\r\nc\r\n", "a\nb", "a", b"a\r\nc\r\n"),
            (b"a\nb\nc\n", "a\r\nb", "1\r\n2", b"1\n2\nc\n"),
            (b"a\r\nb\nc\r\n", "b\nc", "b\nd", b"a\r\nb\nd\r\n"),
            (b"caf\xe9 \xff\xfe one", "one", "tw\u{f6}", b"caf\xe9 \xff\xfe tw\xc3\xb6"),
            (b"one", "one", "a\r\nb", b"a\r\nb"),
            (b"\r\n\r\nx", "\nx", "y", b"\r\ny"),
            (b"x\r", "x", "y", b"y\r"),
            (b"one", "one", "", b""),
        ] {
            assert_eq!(edited(contents, old, new).unwrap(), wanted, "{contents:?}");
        }
    }

    #[test]
    fn what_is_there_twice_or_not_at_all_is_not_replaced_and_it_is_said_where() {
        for (contents, old, told) in [
            (&b"a\nb\na\n"[..], "a", "in lines 1 and 3"),
            (b"aaa", "aa", "in lines 1 and 1"),
            (b"a\r\na\r\n", "a\n", "in lines 1 and 2"),
            (b"a", "b", "not in the file"),
            (b"a", "", "is empty"),
            (b"if x:\n    y  \n", "if x:\n  y", "begins in line 1 differs"),
            (b"\t\tone\n", "  one", "begins in line 1 differs"),
            (b"x\n  a\n  b\n", "a\nb\n", "begins in line 2 differs"),
            (b"a \n\n", "   ", "not in the file"),
        ] {
            let fault = edited(contents, old, "new").unwrap_err();
            assert!(fault.contains(told), "{contents:?}: {fault}");
        }
    }
}
