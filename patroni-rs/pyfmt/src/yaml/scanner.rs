//! Characters to tokens. Follows PyYAML 6.0.3's scanner.py (MIT): what may start a
//! token, where simple keys may stand, and how indentation opens and closes blocks.

use std::collections::{BTreeMap, VecDeque};

use super::error::{Fault, Mark, Result};
use super::reader::{is_blankz, is_breakz, Reader};
use super::token::{Kind, Payload, Token};
use crate::value::str_repr;

/// A token that turns out to be a key if a `:` follows on its line.
struct SimpleKey {
    token_number: usize,
    required: bool,
    mark: Mark,
}

pub(super) struct Scanner {
    pub(super) reader: Reader,
    done: bool,
    /// Open `[` and `{`. A stray closing one makes it negative, which is flow context too.
    pub(super) flow_level: i32,
    tokens: VecDeque<Token>,
    tokens_taken: usize,
    /// The column of the innermost block; -1 outside any.
    pub(super) indent: isize,
    indents: Vec<isize>,
    pub(super) allow_simple_key: bool,
    possible_simple_keys: BTreeMap<i32, SimpleKey>,
}

impl Scanner {
    pub fn new(reader: Reader) -> Scanner {
        let mark = reader.mark();
        let start = Token { kind: Kind::StreamStart, payload: Payload::None, start: mark, end: mark };
        Scanner {
            reader,
            done: false,
            flow_level: 0,
            tokens: VecDeque::from([start]),
            tokens_taken: 0,
            indent: -1,
            indents: Vec::new(),
            allow_simple_key: true,
            possible_simple_keys: BTreeMap::new(),
        }
    }

    /// The kind and the start of the next token. After the end of the stream comes
    /// the end of the stream again.
    pub fn peek(&mut self) -> Result<(Kind, Mark)> {
        while self.need_more_tokens()? {
            self.fetch_more_tokens()?;
        }
        Ok(match self.tokens.front() {
            Some(token) => (token.kind, token.start),
            None => (Kind::StreamEnd, self.reader.mark()),
        })
    }

    /// Takes the next token.
    pub fn next(&mut self) -> Result<Token> {
        let (_, mark) = self.peek()?;
        self.tokens_taken += 1;
        Ok(self.tokens.pop_front().unwrap_or(Token {
            kind: Kind::StreamEnd,
            payload: Payload::None,
            start: mark,
            end: mark,
        }))
    }

    fn need_more_tokens(&mut self) -> Result<bool> {
        if self.done {
            return Ok(false);
        }
        if self.tokens.is_empty() {
            return Ok(true);
        }
        // The next token may turn out to be a key, whose KEY goes before it.
        self.stale_possible_simple_keys()?;
        let nearest = self.possible_simple_keys.values().map(|k| k.token_number).min();
        Ok(nearest == Some(self.tokens_taken))
    }

    fn fetch_more_tokens(&mut self) -> Result<()> {
        self.scan_to_next_token();
        self.stale_possible_simple_keys()?;
        self.unwind_indent(self.column());
        let c = self.reader.peek(0);
        match c {
            '\0' => self.fetch_stream_end(),
            '%' if self.reader.column() == 0 => self.fetch_directive(),
            '-' if self.at_document_mark("---") => self.fetch_document_indicator(Kind::DocumentStart),
            '.' if self.at_document_mark("...") => self.fetch_document_indicator(Kind::DocumentEnd),
            '[' => self.fetch_flow_start(Kind::FlowSequenceStart),
            '{' => self.fetch_flow_start(Kind::FlowMappingStart),
            ']' => self.fetch_flow_end(Kind::FlowSequenceEnd),
            '}' => self.fetch_flow_end(Kind::FlowMappingEnd),
            ',' => self.fetch_flow_entry(),
            '-' if is_blankz(self.reader.peek(1)) => self.fetch_block_entry(),
            '?' if self.in_flow() || is_blankz(self.reader.peek(1)) => self.fetch_key(),
            ':' if self.in_flow() || is_blankz(self.reader.peek(1)) => self.fetch_value(),
            '*' => self.fetch_simple(|s| s.scan_anchor(Kind::Alias)),
            '&' => self.fetch_simple(|s| s.scan_anchor(Kind::Anchor)),
            '!' => self.fetch_simple(Scanner::scan_tag),
            '|' | '>' if !self.in_flow() => self.fetch_block_scalar(c == '>'),
            '\'' | '"' => self.fetch_simple(|s| s.scan_flow_scalar(c)),
            _ if self.check_plain() => self.fetch_simple(Scanner::scan_plain),
            _ => Err(Fault::unplaced(
                "while scanning for the next token",
                format!("found character {} that cannot start any token", char_repr(c)),
                self.reader.mark(),
            )),
        }
    }

    pub(super) fn in_flow(&self) -> bool {
        self.flow_level != 0
    }

    pub(super) fn column(&self) -> isize {
        isize::try_from(self.reader.column()).unwrap_or(isize::MAX)
    }

    fn at_document_mark(&self, mark: &str) -> bool {
        self.reader.column() == 0 && self.reader.at_document_mark(mark)
    }

    fn check_plain(&self) -> bool {
        let c = self.reader.peek(0);
        let indicator = is_blankz(c) || "-?:,[]{}#&*!|>'\"%@`".contains(c);
        !indicator
            || (!is_blankz(self.reader.peek(1)) && (c == '-' || (!self.in_flow() && matches!(c, '?' | ':'))))
    }

    fn stale_possible_simple_keys(&mut self) -> Result<()> {
        let here = self.reader.mark();
        let stale = |k: &SimpleKey| k.mark.line != here.line || here.index - k.mark.index > 1024;
        match self.possible_simple_keys.values().find(|k| k.required && stale(k)) {
            Some(key) => Err(missing_colon(key, here)),
            None => {
                self.possible_simple_keys.retain(|_, k| !stale(k));
                Ok(())
            }
        }
    }

    fn save_possible_simple_key(&mut self) -> Result<()> {
        let required = !self.in_flow() && self.indent == self.column();
        if self.allow_simple_key {
            self.remove_possible_simple_key()?;
            let token_number = self.tokens_taken + self.tokens.len();
            let key = SimpleKey { token_number, required, mark: self.reader.mark() };
            self.possible_simple_keys.insert(self.flow_level, key);
        }
        Ok(())
    }

    fn remove_possible_simple_key(&mut self) -> Result<()> {
        match self.possible_simple_keys.remove(&self.flow_level) {
            Some(key) if key.required => Err(missing_colon(&key, self.reader.mark())),
            _ => Ok(()),
        }
    }

    fn unwind_indent(&mut self, column: isize) {
        if self.in_flow() {
            return;
        }
        while self.indent > column {
            self.push_here(Kind::BlockEnd);
            self.indent = self.indents.pop().unwrap_or(-1);
        }
    }

    fn add_indent(&mut self, column: isize) -> bool {
        if self.indent >= column {
            return false;
        }
        self.indents.push(self.indent);
        self.indent = column;
        true
    }

    /// Adds a token without characters.
    fn push_here(&mut self, kind: Kind) {
        let mark = self.reader.mark();
        self.tokens.push_back(Token { kind, payload: Payload::None, start: mark, end: mark });
    }

    /// Adds a token of `length` characters.
    fn push_indicator(&mut self, kind: Kind, length: usize) {
        let start = self.reader.mark();
        self.reader.forward(length);
        self.tokens.push_back(Token { kind, payload: Payload::None, start, end: self.reader.mark() });
    }

    fn fetch_stream_end(&mut self) -> Result<()> {
        self.unwind_indent(-1);
        self.remove_possible_simple_key()?;
        self.allow_simple_key = false;
        self.possible_simple_keys.clear();
        self.push_here(Kind::StreamEnd);
        self.done = true;
        Ok(())
    }

    fn fetch_directive(&mut self) -> Result<()> {
        self.unwind_indent(-1);
        self.remove_possible_simple_key()?;
        self.allow_simple_key = false;
        let token = self.scan_directive()?;
        self.tokens.push_back(token);
        Ok(())
    }

    fn fetch_document_indicator(&mut self, kind: Kind) -> Result<()> {
        self.unwind_indent(-1);
        self.remove_possible_simple_key()?;
        self.allow_simple_key = false;
        self.push_indicator(kind, 3);
        Ok(())
    }

    fn fetch_flow_start(&mut self, kind: Kind) -> Result<()> {
        self.save_possible_simple_key()?;
        self.flow_level += 1;
        self.allow_simple_key = true;
        self.push_indicator(kind, 1);
        Ok(())
    }

    fn fetch_flow_end(&mut self, kind: Kind) -> Result<()> {
        self.remove_possible_simple_key()?;
        self.flow_level -= 1;
        self.allow_simple_key = false;
        self.push_indicator(kind, 1);
        Ok(())
    }

    fn fetch_flow_entry(&mut self) -> Result<()> {
        self.allow_simple_key = true;
        self.remove_possible_simple_key()?;
        self.push_indicator(Kind::FlowEntry, 1);
        Ok(())
    }

    /// In a block: refuses what may not stand here, opens the collection if it is new.
    fn open_block(&mut self, kind: Kind, problem: &str) -> Result<()> {
        if self.in_flow() {
            return Ok(());
        }
        if !self.allow_simple_key {
            return Err(Fault::scanner(None, problem, self.reader.mark()));
        }
        if self.add_indent(self.column()) {
            self.push_here(kind);
        }
        Ok(())
    }

    fn fetch_block_entry(&mut self) -> Result<()> {
        self.open_block(Kind::BlockSequenceStart, "sequence entries are not allowed here")?;
        self.allow_simple_key = true;
        self.remove_possible_simple_key()?;
        self.push_indicator(Kind::BlockEntry, 1);
        Ok(())
    }

    fn fetch_key(&mut self) -> Result<()> {
        self.open_block(Kind::BlockMappingStart, "mapping keys are not allowed here")?;
        self.allow_simple_key = !self.in_flow();
        self.remove_possible_simple_key()?;
        self.push_indicator(Kind::Key, 1);
        Ok(())
    }

    fn fetch_value(&mut self) -> Result<()> {
        if let Some(key) = self.possible_simple_keys.remove(&self.flow_level) {
            let opens =
                !self.in_flow() && self.add_indent(isize::try_from(key.mark.column).unwrap_or(isize::MAX));
            let token = |kind| Token { kind, payload: Payload::None, start: key.mark, end: key.mark };
            let at = key.token_number.saturating_sub(self.tokens_taken).min(self.tokens.len());
            self.tokens.insert(at, token(Kind::Key));
            if opens {
                self.tokens.insert(at, token(Kind::BlockMappingStart));
            }
            self.allow_simple_key = false;
        } else {
            self.open_block(Kind::BlockMappingStart, "mapping values are not allowed here")?;
            self.allow_simple_key = !self.in_flow();
            self.remove_possible_simple_key()?;
        }
        self.push_indicator(Kind::Value, 1);
        Ok(())
    }

    /// A token that may be a simple key.
    fn fetch_simple(&mut self, scan: impl FnOnce(&mut Scanner) -> Result<Token>) -> Result<()> {
        self.save_possible_simple_key()?;
        self.allow_simple_key = false;
        let token = scan(self)?;
        self.tokens.push_back(token);
        Ok(())
    }

    fn fetch_block_scalar(&mut self, folded: bool) -> Result<()> {
        self.allow_simple_key = true;
        self.remove_possible_simple_key()?;
        let token = self.scan_block_scalar(folded)?;
        self.tokens.push_back(token);
        Ok(())
    }

    /// Skips spaces, comments and line breaks; a line break allows a key in a block.
    fn scan_to_next_token(&mut self) {
        if self.reader.mark().index == 0 && self.reader.peek(0) == '\u{feff}' {
            self.reader.forward(1);
        }
        loop {
            self.reader.skip(|c| c == ' ');
            if self.reader.peek(0) == '#' {
                self.reader.skip(|c| !is_breakz(c));
            }
            if self.reader.line_break().is_none() {
                return;
            }
            if !self.in_flow() {
                self.allow_simple_key = true;
            }
        }
    }
}

/// Python's `repr` of a string of one character.
pub(super) fn char_repr(c: char) -> String {
    str_repr(c.encode_utf8(&mut [0; 4]))
}

fn missing_colon(key: &SimpleKey, here: Mark) -> Box<Fault> {
    Fault::scanner(Some(("while scanning a simple key", key.mark)), "could not find expected ':'", here)
}
