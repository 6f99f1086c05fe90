//! Directives, anchors and tags. Follows PyYAML 6.0.3's scanner.py (MIT).

use super::error::{Fault, Mark, Result};
use super::reader::{is_blankz, is_breakz, is_name, is_spacez};
use super::scanner::{char_repr, Scanner};
use super::token::{Kind, Payload, Token};

const IN_DIRECTIVE: &str = "while scanning a directive";

impl Scanner {
    fn unexpected(&self, context: &str, start: Mark, expected: &str, found: char) -> Box<Fault> {
        let problem = format!("expected {expected}, but found {}", char_repr(found));
        Fault::scanner(Some((context, start)), problem, self.reader.mark())
    }

    /// A name of letters, digits, `-` and `_`.
    fn scan_name(&mut self, context: &str, start: Mark, ends: impl Fn(char) -> bool) -> Result<String> {
        const EXPECTED: &str = "alphabetic or numeric character";
        let length = self.reader.run(is_name);
        if length == 0 {
            return Err(self.unexpected(context, start, EXPECTED, self.reader.peek(0)));
        }
        let name = self.reader.take(length);
        let next = self.reader.peek(0);
        if ends(next) {
            Ok(name)
        } else {
            Err(self.unexpected(context, start, EXPECTED, next))
        }
    }

    pub(super) fn scan_directive(&mut self) -> Result<Token> {
        let start = self.reader.mark();
        self.reader.forward(1);
        let name = self.scan_name(IN_DIRECTIVE, start, is_spacez)?;
        let payload = match name.as_str() {
            "YAML" => self.scan_version(start)?,
            "TAG" => self.scan_tag_prefix(start)?,
            _ => Payload::None,
        };
        let end = self.reader.mark();
        if matches!(payload, Payload::None) {
            self.reader.skip(|c| !is_breakz(c));
        }
        self.scan_ignored_line(IN_DIRECTIVE, start)?;
        Ok(Token { kind: Kind::Directive, payload, start, end })
    }

    fn scan_version(&mut self, start: Mark) -> Result<Payload> {
        self.reader.skip(|c| c == ' ');
        let major = self.scan_version_number(start)?;
        let dot = self.reader.peek(0);
        if dot != '.' {
            return Err(self.unexpected(IN_DIRECTIVE, start, "a digit or '.'", dot));
        }
        self.reader.forward(1);
        self.scan_version_number(start)?;
        let next = self.reader.peek(0);
        if !is_spacez(next) {
            return Err(self.unexpected(IN_DIRECTIVE, start, "a digit or ' '", next));
        }
        Ok(Payload::Version(major.trim_start_matches('0').to_owned()))
    }

    fn scan_version_number(&mut self, start: Mark) -> Result<String> {
        let length = self.reader.run(|c| c.is_ascii_digit());
        if length == 0 {
            return Err(self.unexpected(IN_DIRECTIVE, start, "a digit", self.reader.peek(0)));
        }
        Ok(self.reader.take(length))
    }

    fn scan_tag_prefix(&mut self, start: Mark) -> Result<Payload> {
        self.reader.skip(|c| c == ' ');
        let handle = self.scan_tag_handle("directive", start)?;
        let next = self.reader.peek(0);
        if next != ' ' {
            return Err(self.unexpected(IN_DIRECTIVE, start, "' '", next));
        }
        self.reader.skip(|c| c == ' ');
        let prefix = self.scan_tag_uri("directive", start)?;
        let next = self.reader.peek(0);
        if !is_spacez(next) {
            return Err(self.unexpected(IN_DIRECTIVE, start, "' '", next));
        }
        Ok(Payload::TagPrefix(handle, prefix))
    }

    /// The rest of a line on which only a comment may follow.
    pub(super) fn scan_ignored_line(&mut self, context: &str, start: Mark) -> Result<()> {
        self.reader.skip(|c| c == ' ');
        if self.reader.peek(0) == '#' {
            self.reader.skip(|c| !is_breakz(c));
        }
        let c = self.reader.peek(0);
        if !is_breakz(c) {
            return Err(self.unexpected(context, start, "a comment or a line break", c));
        }
        self.reader.line_break();
        Ok(())
    }

    pub(super) fn scan_anchor(&mut self, kind: Kind) -> Result<Token> {
        let start = self.reader.mark();
        let context =
            if kind == Kind::Alias { "while scanning an alias" } else { "while scanning an anchor" };
        self.reader.forward(1);
        let name = self.scan_name(context, start, |c| is_blankz(c) || "?:,]}%@`".contains(c))?;
        Ok(Token { kind, payload: Payload::Name(name), start, end: self.reader.mark() })
    }

    pub(super) fn scan_tag(&mut self) -> Result<Token> {
        let start = self.reader.mark();
        let next = self.reader.peek(1);
        let (handle, suffix) = if next == '<' {
            self.reader.forward(2);
            let suffix = self.scan_tag_uri("tag", start)?;
            let close = self.reader.peek(0);
            if close != '>' {
                return Err(self.unexpected("while parsing a tag", start, "'>'", close));
            }
            self.reader.forward(1);
            (None, suffix)
        } else if is_blankz(next) {
            self.reader.forward(1);
            (None, "!".to_owned())
        } else {
            (Some(self.scan_node_handle(start)?), self.scan_tag_uri("tag", start)?)
        };
        let c = self.reader.peek(0);
        if !is_spacez(c) {
            return Err(self.unexpected("while scanning a tag", start, "' '", c));
        }
        Ok(Token { kind: Kind::Tag, payload: Payload::Tag(handle, suffix), start, end: self.reader.mark() })
    }

    /// `!`, or a longer handle if the word has a second `!`.
    fn scan_node_handle(&mut self, start: Mark) -> Result<String> {
        let mut length = 1;
        loop {
            match self.reader.peek(length) {
                '!' => return self.scan_tag_handle("tag", start),
                c if is_spacez(c) => {
                    self.reader.forward(1);
                    return Ok("!".to_owned());
                }
                _ => length += 1,
            }
        }
    }

    fn scan_tag_handle(&mut self, name: &str, start: Mark) -> Result<String> {
        let context = format!("while scanning a {name}");
        let c = self.reader.peek(0);
        if c != '!' {
            return Err(self.unexpected(&context, start, "'!'", c));
        }
        let mut length = 1;
        if self.reader.peek(1) != ' ' {
            while is_name(self.reader.peek(length)) {
                length += 1;
            }
            let c = self.reader.peek(length);
            if c != '!' {
                self.reader.forward(length);
                return Err(self.unexpected(&context, start, "'!'", c));
            }
            length += 1;
        }
        Ok(self.reader.take(length))
    }

    fn scan_tag_uri(&mut self, name: &str, start: Mark) -> Result<String> {
        let mut uri = String::new();
        loop {
            let c = self.reader.peek(0);
            if c == '%' {
                uri.push_str(&self.scan_uri_escapes(name, start)?);
            } else if c.is_ascii_alphanumeric() || "-;/?:@&=+$,_.!~*'()[]".contains(c) {
                uri.push_str(&self.reader.take(1));
            } else if uri.is_empty() {
                return Err(self.unexpected(&format!("while parsing a {name}"), start, "URI", c));
            } else {
                return Ok(uri);
            }
        }
    }

    /// Characters written as `%` and the two hexadecimal digits of each byte.
    fn scan_uri_escapes(&mut self, name: &str, start: Mark) -> Result<String> {
        let context = format!("while scanning a {name}");
        let mark = self.reader.mark();
        let mut bytes = Vec::new();
        while self.reader.peek(0) == '%' {
            self.reader.forward(1);
            for k in 0..2 {
                let c = self.reader.peek(k);
                if !c.is_ascii_hexdigit() {
                    let expected = "URI escape sequence of 2 hexadecimal numbers";
                    return Err(self.unexpected(&context, start, expected, c));
                }
            }
            bytes.push(u8::from_str_radix(&self.reader.take(2), 16).unwrap_or(0));
        }
        String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let byte = e.as_bytes().get(at).copied().unwrap_or(0);
            let problem =
                format!("'utf-8' codec can't decode byte 0x{byte:02x} in position {at}: invalid utf-8");
            Fault::scanner(Some((&context, start)), problem, mark)
        })
    }
}
