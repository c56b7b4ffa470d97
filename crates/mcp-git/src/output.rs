//! An answer that ends before it is too long, and says so.

/// Text of at most so many bytes.
#[derive(Debug)]
pub(crate) struct Output {
    text: String,
    limit: usize,
    is_cut: bool,
}

impl Output {
    pub(crate) fn new(limit: usize) -> Self {
        Self { text: String::new(), limit, is_cut: false }
    }

    /// Adds a piece, or the part of it that has room. Returns whether there is room for more.
    pub(crate) fn push(&mut self, piece: &str) -> bool {
        let room = self.limit - self.text.len();
        if self.is_cut || piece.len() <= room {
            self.text += if self.is_cut { "" } else { piece };
            return !self.is_cut;
        }
        self.text += &piece[..piece.floor_char_boundary(room)];
        self.is_cut = true;
        false
    }

    /// Adds bytes as text; what is not UTF-8 is replaced.
    pub(crate) fn push_bytes(&mut self, piece: &[u8]) -> bool {
        self.push(&String::from_utf8_lossy(piece))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_cut
    }

    /// Returns the text; a last line says when there would have been more.
    pub(crate) fn finish(mut self) -> String {
        if self.is_cut {
            let notice = format!("\n[cut: there is more than {} bytes]", self.limit);
            self.text += &notice;
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_between_characters_and_says_so() {
        let mut output = Output::new(5);
        assert!(output.push("abcd"));
        assert!(!output.push("üx"), "no half of a letter");
        assert!(!output.push("y"));
        assert_eq!(output.finish(), "abcd\n[cut: there is more than 5 bytes]");
        let mut exact = Output::new(3);
        assert!(exact.push_bytes(b"abc") && exact.push(""));
        assert_eq!(exact.finish(), "abc");
    }
}
