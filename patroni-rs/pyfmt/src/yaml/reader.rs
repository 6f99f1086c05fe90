//! The characters of a document with the place of the next one.
//!
//! Follows PyYAML 6.0.3's reader.py (MIT).

use super::error::Mark;

/// A line break of YAML 1.1.
pub(super) fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// A line break or the end of the document.
pub(super) fn is_breakz(c: char) -> bool {
    c == '\0' || is_break(c)
}

/// A space, a line break or the end of the document.
pub(super) fn is_spacez(c: char) -> bool {
    c == ' ' || is_breakz(c)
}

/// White space, a line break or the end of the document.
pub(super) fn is_blankz(c: char) -> bool {
    c == '\t' || is_spacez(c)
}

/// A letter of names: anchors, directives, tag handles.
pub(super) fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

/// Reads forward through a document. Past the end stands an endless row of `\0`.
pub(super) struct Reader {
    text: Vec<char>,
    at: Mark,
}

impl Reader {
    /// `Err` is the first character that YAML does not allow, and its index.
    pub fn new(text: &str) -> Result<Reader, (char, usize)> {
        let text: Vec<char> = text.chars().collect();
        match text.iter().position(|c| !is_allowed(*c)) {
            Some(index) => Err((text.get(index).copied().unwrap_or('\0'), index)),
            None => Ok(Reader { text, at: Mark::default() }),
        }
    }

    pub fn text(&self) -> &[char] {
        &self.text
    }

    /// The character `ahead` places from here.
    pub fn peek(&self, ahead: usize) -> char {
        self.text.get(self.at.index + ahead).copied().unwrap_or('\0')
    }

    /// The next `length` characters.
    pub fn prefix(&self, length: usize) -> &[char] {
        let end = self.text.len().min(self.at.index + length);
        self.text.get(self.at.index..end).unwrap_or_default()
    }

    /// Takes the next `length` characters.
    pub fn take(&mut self, length: usize) -> String {
        let taken = self.prefix(length).iter().collect();
        self.forward(length);
        taken
    }

    pub fn forward(&mut self, length: usize) {
        for _ in 0..length {
            let c = self.peek(0);
            self.at.index += 1;
            if matches!(c, '\n' | '\u{85}' | '\u{2028}' | '\u{2029}') || (c == '\r' && self.peek(0) != '\n') {
                self.at.line += 1;
                self.at.column = 0;
            } else if c != '\u{feff}' {
                self.at.column += 1;
            }
        }
    }

    /// The number of characters from here for which `keep` holds.
    pub fn run(&self, keep: impl Fn(char) -> bool) -> usize {
        let mut length = 0;
        while keep(self.peek(length)) {
            length += 1;
        }
        length
    }

    pub fn skip(&mut self, keep: impl Fn(char) -> bool) {
        while keep(self.peek(0)) {
            self.forward(1);
        }
    }

    pub fn mark(&self) -> Mark {
        self.at
    }

    pub fn column(&self) -> usize {
        self.at.column
    }

    /// `---` or `...` with white space after it.
    pub fn at_document_mark(&self, mark: &str) -> bool {
        self.prefix(3).iter().copied().eq(mark.chars()) && is_blankz(self.peek(3))
    }

    /// Takes a line break, if there is one, as what it means in a scalar.
    pub fn line_break(&mut self) -> Option<char> {
        let c = self.peek(0);
        match c {
            '\r' | '\n' | '\u{85}' => {
                let crlf = c == '\r' && self.peek(1) == '\n';
                self.forward(if crlf { 2 } else { 1 });
                Some('\n')
            }
            '\u{2028}' | '\u{2029}' => {
                self.forward(1);
                Some(c)
            }
            _ => None,
        }
    }
}
