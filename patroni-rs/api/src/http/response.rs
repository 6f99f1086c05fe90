//! Answers and their bytes.

use pyfmt::{json, Value};

use super::pages::{phrases, ErrorPage};
use super::python::to_latin1;

/// What a handler answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// A status line and nothing else (surface-api-ctl H6).
    StatusOnly(u16),
    /// A normal answer.
    Full(Box<Full>),
    /// A built-in error page.
    Page(ErrorPage),
    /// Close the connection without a byte, as after an unhandled exception in
    /// the reference (H17); the text is for the log.
    Drop(String),
}

/// A normal answer: headers and a body that ends with the connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Full {
    /// Status code.
    pub code: u16,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// Headers of the handler, in front of `Content-Type`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

/// What is put around an answer.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Value of `Server`.
    pub server: &'a str,
    /// Value of `Date`.
    pub date: &'a str,
    /// Configured headers of normal answers.
    pub extra: &'a [(String, String)],
    /// No status line and no headers.
    pub http09: bool,
    /// The method is `HEAD`: error pages have no body.
    pub head: bool,
    /// The connection stays open: the answer says so, and how long it is.
    pub keep: bool,
}

impl Response {
    /// A plain message, `text/html` as in the reference.
    pub fn text(code: u16, body: impl Into<String>) -> Response {
        Response::full(code, "text/html", body.into())
    }

    /// A JSON document.
    pub fn json(code: u16, value: &Value) -> Response {
        Response::full(code, "application/json", json::dumps(value))
    }

    /// A normal answer without headers of its own.
    pub fn full(code: u16, content_type: &'static str, body: String) -> Response {
        Response::Full(Box::new(Full { code, content_type, headers: Vec::new(), body }))
    }

    /// The error page of `code`.
    pub fn page(code: u16) -> Response {
        Response::Page(ErrorPage::new(code))
    }

    /// The status code, if anything is sent.
    pub fn code(&self) -> Option<u16> {
        match self {
            Response::StatusOnly(code) => Some(*code),
            Response::Full(full) => Some(full.code),
            Response::Page(page) => Some(page.code),
            Response::Drop(_) => None,
        }
    }

    /// The bytes to send. None: close without any.
    pub fn encode(&self, frame: Frame<'_>) -> Option<Vec<u8>> {
        match self {
            Response::StatusOnly(code) => {
                let mut head = status_line(*code, phrases(*code).0);
                if frame.keep {
                    push_keep_alive(&mut head, 0);
                }
                Some((head + "\r\n").into_bytes())
            }
            Response::Full(full) => full.encode(frame),
            Response::Page(page) => encode_page(page, frame),
            Response::Drop(_) => None,
        }
    }
}

impl Full {
    fn encode(&self, frame: Frame<'_>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        if !frame.http09 {
            let mut head = common(self.code, phrases(self.code).0, frame);
            for (name, value) in &self.headers {
                push_header(&mut head, name, value);
            }
            push_header(&mut head, "Content-Type", self.content_type);
            for (name, value) in frame.extra {
                push_header(&mut head, name, value);
            }
            if frame.keep {
                push_keep_alive(&mut head, self.body.len());
            }
            head.push_str("\r\n");
            out = to_latin1(&head)?;
        }
        out.extend_from_slice(self.body.as_bytes());
        Some(out)
    }
}

fn encode_page(page: &ErrorPage, frame: Frame<'_>) -> Option<Vec<u8>> {
    let body = page.html();
    let mut out = Vec::new();
    if !frame.http09 {
        let mut head = common(page.code, &page.message, frame);
        push_header(&mut head, "Connection", "close");
        push_header(&mut head, "Content-Type", "text/html;charset=utf-8");
        push_header(&mut head, "Content-Length", &body.len().to_string());
        head.push_str("\r\n");
        out = to_latin1(&head)?;
    }
    if !frame.head {
        out.extend_from_slice(body.as_bytes());
    }
    Some(out)
}

fn common(code: u16, phrase: &str, frame: Frame<'_>) -> String {
    let mut head = status_line(code, phrase);
    push_header(&mut head, "Server", frame.server);
    push_header(&mut head, "Date", frame.date);
    head
}

fn status_line(code: u16, phrase: &str) -> String {
    format!("HTTP/1.0 {code} {phrase}\r\n")
}

fn push_keep_alive(head: &mut String, length: usize) {
    push_header(head, "Content-Length", &length.to_string());
    push_header(head, "Connection", "keep-alive");
}

fn push_header(head: &mut String, name: &str, value: &str) {
    head.push_str(name);
    head.push_str(": ");
    head.push_str(value);
    head.push_str("\r\n");
}
