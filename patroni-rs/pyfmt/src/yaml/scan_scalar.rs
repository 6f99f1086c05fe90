//! Scalars: block, quoted and plain. Follows PyYAML 6.0.3's scanner.py (MIT).

use super::error::{Fault, Mark, Result};
use super::reader::{is_blankz, is_break, is_breakz, is_spacez};
use super::scanner::{char_repr, Scanner};
use super::token::{Kind, Payload, Token};

const IN_BLOCK: &str = "while scanning a block scalar";
const IN_DOUBLE: &str = "while scanning a double-quoted scalar";
const IN_QUOTED: &str = "while scanning a quoted scalar";

/// What becomes of the line breaks after a block scalar.
#[derive(Clone, Copy, PartialEq)]
enum Chomping {
    Strip,
    Clip,
    Keep,
}

impl Scanner {
    fn scalar(&self, text: String, plain: bool, start: Mark) -> Token {
        Token { kind: Kind::Scalar, payload: Payload::Scalar(text, plain), start, end: self.reader.mark() }
    }

    pub(super) fn scan_block_scalar(&mut self, folded: bool) -> Result<Token> {
        let start = self.reader.mark();
        self.reader.forward(1);
        let (chomping, increment) = self.scan_block_header(start)?;
        self.scan_ignored_line(IN_BLOCK, start)?;
        let min_indent = usize::try_from(self.indent + 1).unwrap_or(0).max(1);
        let (indent, mut breaks) = match increment {
            Some(increment) => {
                let indent = min_indent + increment - 1;
                (indent, self.scan_block_breaks(indent))
            }
            None => {
                let (breaks, found) = self.scan_block_indentation();
                (found.max(min_indent), breaks)
            }
        };
        let mut text = String::new();
        let mut line_break = None;
        while self.in_block(indent) {
            text.push_str(&breaks);
            let leading_non_space = !matches!(self.reader.peek(0), ' ' | '\t');
            let length = self.reader.run(|c| !is_breakz(c));
            text.push_str(&self.reader.take(length));
            line_break = self.reader.line_break();
            breaks = self.scan_block_breaks(indent);
            if !self.in_block(indent) {
                break;
            }
            let folds = folded && line_break == Some('\n') && leading_non_space;
            if folds && !matches!(self.reader.peek(0), ' ' | '\t') {
                if breaks.is_empty() {
                    text.push(' ');
                }
            } else {
                text.extend(line_break);
            }
        }
        if chomping != Chomping::Strip {
            text.extend(line_break);
        }
        if chomping == Chomping::Keep {
            text.push_str(&breaks);
        }
        Ok(self.scalar(text, false, start))
    }

    fn in_block(&self, indent: usize) -> bool {
        self.reader.column() == indent && self.reader.peek(0) != '\0'
    }

    /// Chomping and indentation indicators, in either order.
    fn scan_block_header(&mut self, start: Mark) -> Result<(Chomping, Option<usize>)> {
        let mut chomping = self.scan_chomping();
        let mut increment = None;
        if let Some(digit) = self.reader.peek(0).to_digit(10) {
            if digit == 0 {
                return Err(Fault::scanner(
                    Some((IN_BLOCK, start)),
                    "expected indentation indicator in the range 1-9, but found 0",
                    self.reader.mark(),
                ));
            }
            increment = usize::try_from(digit).ok();
            self.reader.forward(1);
            chomping = chomping.or_else(|| self.scan_chomping());
        }
        let c = self.reader.peek(0);
        if !is_spacez(c) {
            let problem = format!("expected chomping or indentation indicators, but found {}", char_repr(c));
            return Err(Fault::scanner(Some((IN_BLOCK, start)), problem, self.reader.mark()));
        }
        Ok((chomping.unwrap_or(Chomping::Clip), increment))
    }

    fn scan_chomping(&mut self) -> Option<Chomping> {
        let chomping = match self.reader.peek(0) {
            '+' => Chomping::Keep,
            '-' => Chomping::Strip,
            _ => return None,
        };
        self.reader.forward(1);
        Some(chomping)
    }

    /// The empty lines before a block scalar, and the widest indentation among them
    /// and the first line with text.
    fn scan_block_indentation(&mut self) -> (String, usize) {
        let (mut breaks, mut max_indent) = (String::new(), 0);
        loop {
            if self.reader.peek(0) == ' ' {
                self.reader.forward(1);
                max_indent = max_indent.max(self.reader.column());
            } else if let Some(line_break) = self.reader.line_break() {
                breaks.push(line_break);
            } else {
                return (breaks, max_indent);
            }
        }
    }

    fn scan_block_breaks(&mut self, indent: usize) -> String {
        let mut breaks = String::new();
        loop {
            while self.reader.column() < indent && self.reader.peek(0) == ' ' {
                self.reader.forward(1);
            }
            match self.reader.line_break() {
                Some(line_break) => breaks.push(line_break),
                None => return breaks,
            }
        }
    }

    pub(super) fn scan_flow_scalar(&mut self, quote: char) -> Result<Token> {
        let start = self.reader.mark();
        let double = quote == '"';
        let mut text = String::new();
        self.reader.forward(1);
        self.scan_quoted_text(double, start, &mut text)?;
        while self.reader.peek(0) != quote {
            self.scan_quoted_spaces(start, &mut text)?;
            self.scan_quoted_text(double, start, &mut text)?;
        }
        self.reader.forward(1);
        Ok(self.scalar(text, false, start))
    }

    fn scan_quoted_text(&mut self, double: bool, start: Mark, text: &mut String) -> Result<()> {
        loop {
            let length = self.reader.run(|c| !is_blankz(c) && !matches!(c, '\'' | '"' | '\\'));
            text.push_str(&self.reader.take(length));
            let c = self.reader.peek(0);
            match c {
                '\'' if !double && self.reader.peek(1) == '\'' => {
                    text.push('\'');
                    self.reader.forward(2);
                }
                '\'' if double => text.push_str(&self.reader.take(1)),
                '"' | '\\' if !double => text.push_str(&self.reader.take(1)),
                '\\' => self.scan_escape(start, text)?,
                _ => return Ok(()),
            }
        }
    }

    fn scan_escape(&mut self, start: Mark, text: &mut String) -> Result<()> {
        self.reader.forward(1);
        let c = self.reader.peek(0);
        if let Some(replacement) = escape_replacement(c) {
            text.push(replacement);
            self.reader.forward(1);
        } else if let Some(length) = escape_length(c) {
            self.reader.forward(1);
            text.push(self.scan_escape_code(length, start)?);
        } else if is_break(c) {
            self.reader.line_break();
            self.scan_quoted_breaks(start, text)?;
        } else {
            let problem = format!("found unknown escape character {}", char_repr(c));
            return Err(Fault::scanner(Some((IN_DOUBLE, start)), problem, self.reader.mark()));
        }
        Ok(())
    }

    fn scan_escape_code(&mut self, length: usize, start: Mark) -> Result<char> {
        for k in 0..length {
            let c = self.reader.peek(k);
            if !c.is_ascii_hexdigit() {
                let found = char_repr(c);
                let problem =
                    format!("expected escape sequence of {length} hexadecimal numbers, but found {found}");
                return Err(Fault::scanner(Some((IN_DOUBLE, start)), problem, self.reader.mark()));
            }
        }
        let code = u32::from_str_radix(&self.reader.take(length), 16).unwrap_or(u32::MAX);
        match code {
            // Python holds a lone surrogate, which no text of Rust can.
            0xd800..=0xdfff => Ok(char::REPLACEMENT_CHARACTER),
            _ if i32::try_from(code).is_err() => {
                Err(Fault::python("OverflowError", "Python int too large to convert to C int"))
            }
            _ => char::from_u32(code)
                .ok_or_else(|| Fault::python("ValueError", "chr() arg not in range(0x110000)")),
        }
    }

    fn scan_quoted_spaces(&mut self, start: Mark, text: &mut String) -> Result<()> {
        let length = self.reader.run(|c| matches!(c, ' ' | '\t'));
        let spaces = self.reader.take(length);
        if self.reader.peek(0) == '\0' {
            let problem = "found unexpected end of stream";
            return Err(Fault::scanner(Some((IN_QUOTED, start)), problem, self.reader.mark()));
        }
        match self.reader.line_break() {
            Some(line_break) => {
                let mut breaks = String::new();
                self.scan_quoted_breaks(start, &mut breaks)?;
                fold(line_break, &breaks, text);
            }
            None => text.push_str(&spaces),
        }
        Ok(())
    }

    fn scan_quoted_breaks(&mut self, start: Mark, breaks: &mut String) -> Result<()> {
        loop {
            if self.reader.at_document_mark("---") || self.reader.at_document_mark("...") {
                let problem = "found unexpected document separator";
                return Err(Fault::scanner(Some((IN_QUOTED, start)), problem, self.reader.mark()));
            }
            self.reader.skip(|c| matches!(c, ' ' | '\t'));
            match self.reader.line_break() {
                Some(line_break) => breaks.push(line_break),
                None => return Ok(()),
            }
        }
    }

    pub(super) fn scan_plain(&mut self) -> Result<Token> {
        let start = self.reader.mark();
        let mut end = start;
        let (mut text, mut spaces) = (String::new(), String::new());
        while self.reader.peek(0) != '#' {
            let length = self.plain_length();
            if length == 0 {
                break;
            }
            self.allow_simple_key = false;
            text.push_str(&spaces);
            text.push_str(&self.reader.take(length));
            end = self.reader.mark();
            spaces = self.scan_plain_spaces();
            if spaces.is_empty() || (!self.in_flow() && self.column() <= self.indent) {
                break;
            }
        }
        Ok(Token { kind: Kind::Scalar, payload: Payload::Scalar(text, true), start, end })
    }

    fn plain_length(&self) -> usize {
        let flow = self.in_flow();
        let mut length = 0;
        loop {
            let c = self.reader.peek(length);
            let next = self.reader.peek(length + 1);
            let value = c == ':' && (is_blankz(next) || (flow && ",[]{}".contains(next)));
            if is_blankz(c) || value || (flow && ",?[]{}".contains(c)) {
                return length;
            }
            length += 1;
        }
    }

    /// The white space after a piece of a plain scalar as it reads inside the scalar;
    /// empty when the scalar ends here.
    fn scan_plain_spaces(&mut self) -> String {
        let length = self.reader.run(|c| c == ' ');
        let spaces = self.reader.take(length);
        let Some(line_break) = self.reader.line_break() else {
            return spaces;
        };
        self.allow_simple_key = true;
        let mut breaks = String::new();
        loop {
            if self.reader.at_document_mark("---") || self.reader.at_document_mark("...") {
                return String::new();
            }
            self.reader.skip(|c| c == ' ');
            match self.reader.line_break() {
                Some(b) => breaks.push(b),
                None => break,
            }
        }
        let mut text = String::new();
        fold(line_break, &breaks, &mut text);
        text
    }
}

/// Line folding: one line break is a space, more are one fewer.
fn fold(line_break: char, breaks: &str, text: &mut String) {
    if line_break != '\n' {
        text.push(line_break);
    } else if breaks.is_empty() {
        text.push(' ');
    }
    text.push_str(breaks);
}

fn escape_length(c: char) -> Option<usize> {
    match c {
        'x' => Some(2),
        'u' => Some(4),
        'U' => Some(8),
        _ => None,
    }
}

fn escape_replacement(c: char) -> Option<char> {
    Some(match c {
        '0' => '\0',
        'a' => '\x07',
        'b' => '\x08',
        't' | '\t' => '\t',
        'n' => '\n',
        'v' => '\x0b',
        'f' => '\x0c',
        'r' => '\r',
        'e' => '\x1b',
        ' ' | '"' | '\\' | '/' => c,
        'N' => '\u{85}',
        '_' => '\u{a0}',
        'L' => '\u{2028}',
        'P' => '\u{2029}',
        _ => return None,
    })
}
