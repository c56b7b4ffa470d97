//! What tools of MCP servers are called.

use sha2::{Digest as _, Sha256};

/// The longest name that clients are shown, in bytes: the APIs of some models take no longer one.
const LONGEST: usize = 64;

/// How many hexadecimal digits tell shortened names apart.
const DIGITS: usize = 10;

/// Returns a client's name for what `server` calls `own`, `server__own`: the same whatever other servers
/// and tools there are, and at most 64 bytes. A longer one is cut, and ends with the beginning of its
/// hash.
///
/// ```
/// assert_eq!(types::tool_name("files", "read_text_file"), "files__read_text_file");
/// ```
#[must_use]
pub fn tool_name(server: &str, own: &str) -> String {
    let name = format!("{server}__{own}");
    if name.len() <= LONGEST {
        return name;
    }
    let hash = Sha256::digest(name.as_bytes());
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = name.char_indices().map(|(at, _)| at);
    let kept = kept.take_while(|at| *at < LONGEST - DIGITS).last().unwrap_or_default();
    format!("{}_{}", &name[..kept], &digits[..DIGITS])
}

/// Returns a name of [`tool_name`] as every model takes it: of letters, digits, `_` and `-`.
#[must_use]
pub fn function_name(name: &str) -> String {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    name.chars().map(|c| if known(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_shortened_and_still_its_own() {
        let long = "x".repeat(64);
        let (one, other) = (format!("{long}1"), format!("{long}2"));
        let fits = "y".repeat(64 - "files__".len());
        let names = [&one, &other, &fits].map(|own| tool_name("files", own));
        assert!(names.iter().all(|name| name.len() == 64 && name.starts_with("files__")));
        assert!(names[0] != names[1] && names[2].ends_with("yy"), "{names:?}");
        assert!(tool_name("files", &"é".repeat(64)).len() <= 64);
        assert_eq!(function_name("files__read.all é"), "files__read_all__");
    }
}
