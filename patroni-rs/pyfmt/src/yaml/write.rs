//! The characters of scalars and indicators, with line folding. Follows the writers
//! of PyYAML 6.0.3's emitter.py (MIT).

use super::analyze::is_written_break;
use super::emit::Emitter;

impl Emitter {
    /// Writes characters and counts their columns.
    fn put(&mut self, text: &[char]) {
        self.out.extend(text);
        self.column += text.len();
    }

    fn put_str(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn indicator(&mut self, indicator: &str, need_whitespace: bool, whitespace: bool, indention: bool) {
        if need_whitespace && !self.whitespace {
            self.put_str(" ");
        }
        self.put_str(indicator);
        self.whitespace = whitespace;
        self.indention = self.indention && indention;
        self.open_ended = false;
    }

    pub(super) fn write_indicator(&mut self, indicator: &str, need_whitespace: bool) {
        self.indicator(indicator, need_whitespace, false, false);
    }

    /// `-`, `?` or `:` of a block, after which the line is still indentation.
    pub(super) fn write_block_indicator(&mut self, indicator: &str) {
        self.indicator(indicator, true, false, true);
    }

    /// `[` or `{`.
    pub(super) fn write_opening(&mut self, indicator: char) {
        self.indicator(indicator.encode_utf8(&mut [0; 4]), true, true, false);
    }

    pub(super) fn write_indent(&mut self) {
        let indent = self.indent.unwrap_or(0);
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.write_line_break('\n');
        }
        if self.column < indent {
            self.whitespace = true;
            self.put_str(&" ".repeat(indent - self.column));
        }
    }

    fn write_line_break(&mut self, line_break: char) {
        self.whitespace = true;
        self.indention = true;
        self.column = 0;
        self.out.push(line_break);
    }

    /// A line break after which the scalar goes on: not white space that a token may
    /// rely on.
    fn fold(&mut self) {
        self.write_indent();
        self.whitespace = false;
        self.indention = false;
    }

    /// A plain scalar; it never has line breaks.
    pub(super) fn write_plain(&mut self, text: &[char], split: bool, root: bool) {
        if root {
            self.open_ended = true;
        }
        if text.is_empty() {
            return;
        }
        if !self.whitespace {
            self.put_str(" ");
        }
        self.whitespace = false;
        self.indention = false;
        for piece in text.chunk_by(|a, b| (*a == ' ') == (*b == ' ')) {
            if piece == [' '] && self.column > self.best_width && split {
                self.fold();
            } else {
                self.put(piece);
            }
        }
    }

    pub(super) fn write_single_quoted(&mut self, text: &[char], split: bool) {
        self.write_indicator("'", true);
        let kind = |c: char| match c {
            ' ' => 1,
            c if is_written_break(c) => 2,
            _ => 0,
        };
        let mut done = 0;
        for piece in text.chunk_by(|a, b| kind(*a) == kind(*b)) {
            let inside = done != 0 && done + piece.len() != text.len();
            done += piece.len();
            match piece {
                [' '] if self.column > self.best_width && split && inside => self.write_indent(),
                [first, ..] if is_written_break(*first) => self.write_breaks(piece),
                _ => self.write_quote_doubled(piece),
            }
        }
        self.write_indicator("'", false);
    }

    /// Line breaks inside a scalar: one more than they are, as one folds to a space.
    fn write_breaks(&mut self, breaks: &[char]) {
        if breaks.first() == Some(&'\n') {
            self.write_line_break('\n');
        }
        for line_break in breaks {
            self.write_line_break(*line_break);
        }
        self.write_indent();
    }

    fn write_quote_doubled(&mut self, piece: &[char]) {
        for (i, part) in piece.split(|c| *c == '\'').enumerate() {
            if i > 0 {
                self.put_str("''");
            }
            self.put(part);
        }
    }

    fn is_bare_in_double_quotes(&self, c: char) -> bool {
        match c {
            '"' | '\\' | '\u{feff}' | '\u{2028}' | '\u{2029}' => false,
            ' '..='~' => true,
            '\u{a0}'..='\u{fffd}' => self.allow_unicode,
            _ => false,
        }
    }

    /// The loop of PyYAML as it is: where it folds depends on what is still unwritten.
    pub(super) fn write_double_quoted(&mut self, text: &[char], split: bool) {
        self.write_indicator("\"", true);
        let part = |start: usize, end: usize| text.get(start..end).unwrap_or_default();
        let mut start = 0;
        for end in 0..=text.len() {
            let c = text.get(end).copied();
            if !c.is_some_and(|c| self.is_bare_in_double_quotes(c)) {
                if start < end {
                    self.put(part(start, end));
                    start = end;
                }
                if let Some(c) = c {
                    self.put_str(&escape(c));
                    start = end + 1;
                }
            }
            let pending = end.saturating_sub(start);
            let behind = start.saturating_sub(end);
            let inside = 0 < end && end + 1 < text.len();
            let foldable = c == Some(' ') || start >= end;
            // An escape that is written already puts `start` one beyond `end`.
            if inside && foldable && self.column + pending > self.best_width + behind && split {
                self.put(part(start, end));
                self.put_str("\\");
                start = start.max(end);
                self.fold();
                if text.get(start) == Some(&' ') {
                    self.put_str("\\");
                }
            }
        }
        self.write_indicator("\"", false);
    }

    /// A literal block; only `!!binary` asks for one.
    pub(super) fn write_literal(&mut self, text: &[char]) {
        let mut hints = String::from("|");
        if text.first().is_some_and(|c| *c == ' ' || is_written_break(*c)) {
            hints.push_str(&self.best_indent.to_string());
        }
        let ends = text.iter().rev().take_while(|c| is_written_break(**c)).count();
        let keep = ends > 1 || ends == text.len();
        match ends {
            0 => hints.push('-'),
            _ if keep => hints.push('+'),
            _ => {}
        }
        self.write_indicator(&hints, true);
        self.open_ended = self.open_ended || hints.ends_with('+');
        self.write_line_break('\n');
        for line in text.split_inclusive(|c| is_written_break(*c)) {
            match line.split_last() {
                Some((last, rest)) if is_written_break(*last) => {
                    if !rest.is_empty() {
                        self.write_indent();
                        self.put(rest);
                    }
                    self.write_line_break(*last);
                }
                _ => {
                    self.write_indent();
                    self.put(line);
                    self.write_line_break('\n');
                }
            }
        }
    }
}

fn escape(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\x07' => 'a',
        '\x08' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\x0b' => 'v',
        '\x0c' => 'f',
        '\r' => 'r',
        '\x1b' => 'e',
        '"' | '\\' => c,
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        _ => {
            return match u32::from(c) {
                code @ 0..=0xff => format!("\\x{code:02X}"),
                code @ 0x100..=0xffff => format!("\\u{code:04X}"),
                code => format!("\\U{code:08X}"),
            }
        }
    };
    format!("\\{short}")
}
