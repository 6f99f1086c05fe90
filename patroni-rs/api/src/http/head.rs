//! Reading the request line and the headers from a stream, piece by piece.
//!
//! The limits are those of `http.server` (surface-api-ctl H13, H14) plus one on
//! the whole head, which the reference does not have.

use pyfmt::int::parse_clamped;
use pyfmt::value::str_repr;

use super::headers::{is_plain_text, Headers};
use super::pages::ErrorPage;
use super::python::{from_latin1, is_space};

/// Longest line, its end included.
const MAX_LINE: usize = 65536;
/// Most header lines, the blank one included.
const MAX_LINES: usize = 100;
/// Most bytes of a whole head.
const MAX_HEAD: usize = 4 * MAX_LINE;

/// A request as far as its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The line for the access log, without its end.
    pub line: String,
    /// Method, as sent.
    pub command: String,
    /// Second word of the request line.
    pub target: String,
    /// `HTTP/0.9`: the answer is the body alone.
    pub http09: bool,
    /// Headers.
    pub headers: Headers,
    /// Request line and headers were written in the only way that everybody reads alike.
    pub plain: bool,
}

/// A head that is answered with an error page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadError {
    /// The page.
    pub page: ErrorPage,
    /// As much as is known of the request.
    pub head: Head,
}

/// Where reading stands.
#[derive(Debug)]
pub enum Progress {
    /// More bytes are needed.
    More,
    /// Complete.
    Done(Head),
    /// Close without an answer: nothing or a blank line came.
    Silent,
    /// Answer with an error page.
    Refused(Box<HeadError>),
}

/// Collects a head; every byte is looked at once.
#[derive(Debug, Default)]
pub struct HeadReader {
    buf: Vec<u8>,
    scanned: usize,
    line_start: usize,
    headers_start: usize,
    lines: usize,
    head: Option<Head>,
}

impl HeadReader {
    /// Begins with what was received behind the request before.
    pub fn after(received: Vec<u8>) -> HeadReader {
        HeadReader { buf: received, ..HeadReader::default() }
    }

    /// Has nothing been received yet?
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// The buffer to append received bytes to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buf
    }

    /// Bytes received behind the head.
    pub fn into_rest(mut self) -> Vec<u8> {
        self.buf.split_off(self.line_start.min(self.buf.len()))
    }

    /// Goes on with what has been appended since. `eof`: nothing more will come,
    /// which ends the line and the headers as in the reference.
    pub fn advance(&mut self, eof: bool) -> Progress {
        loop {
            let Some(end) = self.next_line(eof) else {
                return match self.over_limit() {
                    true => self.refuse_line(),
                    false => Progress::More,
                };
            };
            if end - self.line_start > MAX_LINE || end > MAX_HEAD {
                return self.refuse_line();
            }
            let start = std::mem::replace(&mut self.line_start, end);
            let line = self.buf.get(start..end).unwrap_or_default();
            if self.head.is_none() {
                if line.is_empty() {
                    return Progress::Silent;
                }
                match parse_line(line) {
                    Ok(Some(head)) => self.head = Some(head),
                    Ok(None) => return Progress::Silent,
                    Err(error) => return Progress::Refused(error),
                }
                self.headers_start = end;
                continue;
            }
            self.lines += 1;
            let blank = matches!(line, b"\r\n" | b"\n" | b"");
            if self.lines > MAX_LINES {
                return self.refuse("Too many headers", "got more than 100 headers");
            }
            if blank {
                return self.finish(end);
            }
        }
    }

    /// End of the line that starts at `line_start`, if it is there.
    fn next_line(&mut self, eof: bool) -> Option<usize> {
        let from = self.scanned.max(self.line_start);
        let newline = self.buf.get(from..).and_then(|new| new.iter().position(|&b| b == b'\n'));
        self.scanned = newline.map_or(self.buf.len(), |at| from + at + 1);
        match newline {
            Some(_) => Some(self.scanned),
            None if eof && !self.over_limit() => Some(self.buf.len()),
            None => None,
        }
    }

    fn over_limit(&self) -> bool {
        self.buf.len() - self.line_start > MAX_LINE || self.buf.len() > MAX_HEAD
    }

    fn finish(&mut self, end: usize) -> Progress {
        let mut head = self.head.take().unwrap_or_default();
        head.headers = Headers::parse(self.buf.get(self.headers_start..end).unwrap_or_default());
        head.plain = head.headers.are_plain()
            && is_plain_line(self.buf.get(..self.headers_start).unwrap_or_default(), &head);
        Progress::Done(head)
    }

    fn refuse_line(&mut self) -> Progress {
        match self.head {
            None => {
                Progress::Refused(Box::new(HeadError { page: ErrorPage::new(414), head: Head::default() }))
            }
            Some(_) => self.refuse("Line too long", "got more than 65536 bytes when reading header line"),
        }
    }

    fn refuse(&mut self, message: &str, explain: &str) -> Progress {
        let page = ErrorPage { code: 431, message: message.into(), explain: explain.into() };
        Progress::Refused(Box::new(HeadError { page, head: self.head.take().unwrap_or_default() }))
    }
}

/// Three words with one blank between them, and CRLF.
fn is_plain_line(raw: &[u8], head: &Head) -> bool {
    let words = format!("{} {} HTTP/1.", head.command, head.target);
    let version = head.line.strip_prefix(&words).unwrap_or_default();
    matches!(version, "0" | "1")
        && head.line.is_ascii()
        && raw.strip_suffix(b"\r\n").is_some_and(|line| line == head.line.as_bytes() && is_plain_text(line))
        && !head.line.contains('\t')
}

/// The request line. None: it is blank.
fn parse_line(raw: &[u8]) -> Result<Option<Head>, Box<HeadError>> {
    let text = from_latin1(raw);
    let line = text.trim_end_matches(['\r', '\n']);
    let words: Vec<&str> = line.split(is_space).filter(|w| !w.is_empty()).collect();
    // Until a version is accepted an error is answered as HTTP/0.9, without a status line.
    let mut head = Head { line: line.to_owned(), http09: true, ..Head::default() };
    if words.is_empty() {
        return Ok(None);
    }
    let refuse = |head: Head, code, message| {
        Err(Box::new(HeadError { page: ErrorPage::with_message(code, message), head }))
    };
    if let (true, Some(version)) = (words.len() >= 3, words.last()) {
        match check_version(version) {
            Ok(()) => head.http09 = *version == "HTTP/0.9",
            Err((code, message)) => return refuse(head, code, message),
        }
    }
    match words.as_slice() {
        [command, _] if *command != "GET" => {
            refuse(head, 400, format!("Bad HTTP/0.9 request type ({})", str_repr(command)))
        }
        [command, target] | [command, target, _] => {
            head.command = (*command).to_owned();
            head.target = (*target).to_owned();
            Ok(Some(head))
        }
        _ => {
            let message = format!("Bad request syntax ({})", str_repr(line));
            refuse(head, 400, message)
        }
    }
}

fn check_version(version: &str) -> Result<(), (u16, String)> {
    let bad = || (400, format!("Bad request version ({})", str_repr(version)));
    let number = version.strip_prefix("HTTP/").ok_or_else(bad)?;
    let (major, minor) = number.split_once('.').ok_or_else(bad)?;
    match (parse_clamped(major), parse_clamped(minor)) {
        (Some(..=1), Some(_)) => Ok(()),
        (Some(_), Some(_)) => Err((505, format!("Invalid HTTP version ({number})"))),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Progress {
        let mut reader = HeadReader::default();
        for part in bytes.chunks(piece) {
            reader.buffer().extend_from_slice(part);
            match reader.advance(false) {
                Progress::More => {}
                other => return other,
            }
        }
        reader.advance(true)
    }

    fn describe(progress: Progress) -> String {
        match progress {
            Progress::More => "more".into(),
            Progress::Silent => "silent".into(),
            Progress::Done(h) => format!("{} {}{}", h.command, h.target, if h.http09 { " 0.9" } else { "" }),
            Progress::Refused(e) => {
                format!("{} {}{}", e.page.code, e.page.message, if e.head.http09 { " 0.9" } else { "" })
            }
        }
    }

    #[test]
    fn request_lines() {
        for (raw, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", "GET /"),
            ("GET / HTTP/1.0\n\n", "GET /"),
            ("GET /", "GET / 0.9"),
            ("GET /x\r\n\r\n", "GET /x 0.9"),
            ("GET /x HTTP/0.9\r\n\r\n", "GET /x 0.9"),
            ("  GET \t /x   HTTP/1.0  \r\n\r\n", "GET /x"),
            ("POST /x\r\n", "400 Bad HTTP/0.9 request type ('POST') 0.9"),
            ("GET\r\n", "400 Bad request syntax ('GET') 0.9"),
            ("GET / foo HTTP/1.0\r\n", "400 Bad request syntax ('GET / foo HTTP/1.0')"),
            ("GET / HTTP/x\r\n", "400 Bad request version ('HTTP/x') 0.9"),
            ("GET / http/1.0\r\n", "400 Bad request version ('http/1.0') 0.9"),
            ("GET / HTTP/1.0.0\r\n", "400 Bad request version ('HTTP/1.0.0') 0.9"),
            ("GET / HTTP/2.0\r\n", "505 Invalid HTTP version (2.0) 0.9"),
            ("GET / HTTP/1.99\r\n\r\n", "GET /"),
            ("\r\n", "silent"),
            ("", "silent"),
        ] {
            for piece in [1, 7, 1000] {
                assert_eq!(describe(read(raw.as_bytes(), piece)), expected, "{raw:?}");
            }
        }
    }

    #[test]
    fn limits() {
        let long = format!("GET /{}", "a".repeat(70000));
        assert_eq!(describe(read(long.as_bytes(), 4096)), "414 Request-URI Too Long");
        let header = format!("GET / HTTP/1.0\r\nA: {}\r\n\r\n", "a".repeat(70000));
        assert_eq!(describe(read(header.as_bytes(), 4096)), "431 Line too long");
        let many = |n: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(n));
        assert_eq!(describe(read(many(99).as_bytes(), 4096)), "GET /");
        assert_eq!(describe(read(many(100).as_bytes(), 4096)), "431 Too many headers");
    }

    #[test]
    fn rest_is_the_body() {
        let mut reader = HeadReader::default();
        reader.buffer().extend_from_slice(b"POST / HTTP/1.0\r\nA: b\r\n\r\nbody");
        assert!(matches!(reader.advance(false), Progress::Done(_)));
        assert_eq!(reader.into_rest(), b"body");
    }
}
