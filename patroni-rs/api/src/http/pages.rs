//! Phrases of `http.HTTPStatus` and the error page (surface-api-ctl H9, H10).

/// Phrase and explanation of a status code, as in Python 3.11.
pub fn phrases(code: u16) -> (&'static str, &'static str) {
    match code {
        200 => ("OK", "Request fulfilled, document follows"),
        202 => ("Accepted", "Request accepted, processing continues off-line"),
        400 => ("Bad Request", "Bad request syntax or unsupported method"),
        401 => ("Unauthorized", "No permission -- see authorization schemes"),
        403 => ("Forbidden", "Request forbidden -- authorization will not help"),
        404 => ("Not Found", "Nothing matches the given URI"),
        408 => ("Request Timeout", "Request timed out; try again later"),
        409 => ("Conflict", "Request conflict"),
        411 => ("Length Required", "Client must specify Content-Length"),
        412 => ("Precondition Failed", "Precondition in headers is false"),
        413 => ("Request Entity Too Large", "Entity is too large"),
        414 => ("Request-URI Too Long", "URI is too long"),
        422 => ("Unprocessable Entity", ""),
        429 => (
            "Too Many Requests",
            "The user has sent too many requests in a given amount of time (\"rate limiting\")",
        ),
        431 => (
            "Request Header Fields Too Large",
            "The server is unwilling to process the request because its header fields are too large",
        ),
        500 => ("Internal Server Error", "Server got itself in trouble"),
        501 => ("Not Implemented", "Server does not support this operation"),
        502 => ("Bad Gateway", "Invalid responses from another server/proxy"),
        503 => ("Service Unavailable", "The server cannot process the request due to a high load"),
        505 => ("HTTP Version Not Supported", "Cannot fulfill request"),
        _ => ("???", "???"),
    }
}

/// A built-in error answer: `Connection: close`, `Content-Length` and a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPage {
    /// Status code.
    pub code: u16,
    /// Phrase of the status line, and `Message:` of the page.
    pub message: String,
    /// What follows `Error code explanation:`.
    pub explain: String,
}

impl ErrorPage {
    /// The page with the standard texts of `code`.
    pub fn new(code: u16) -> ErrorPage {
        let (message, explain) = phrases(code);
        ErrorPage { code, message: message.into(), explain: explain.into() }
    }

    /// The same with a message of its own.
    pub fn with_message(code: u16, message: impl Into<String>) -> ErrorPage {
        ErrorPage { message: message.into(), ..ErrorPage::new(code) }
    }

    /// The HTML document.
    pub fn html(&self) -> String {
        let (code, message, explain) = (self.code, escape(&self.message), escape(&self.explain));
        format!(
            "<!DOCTYPE HTML>\n<html lang=\"en\">\n    <head>\n        <meta charset=\"utf-8\">\n        \
             <title>Error response</title>\n    </head>\n    <body>\n        <h1>Error response</h1>\n        \
             <p>Error code: {code}</p>\n        <p>Message: {message}.</p>\n        \
             <p>Error code explanation: {code} - {explain}.</p>\n    </body>\n</html>\n"
        )
    }
}

/// `html.escape(text, quote=False)`.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_lengths_are_those_recorded() {
        for (page, length) in [
            (ErrorPage::new(400), 343),
            (ErrorPage::new(411), 341),
            (ErrorPage::new(414), 327),
            (ErrorPage::new(502), 346),
            (ErrorPage::with_message(501, "Unsupported method ('POST')"), 357),
        ] {
            assert_eq!(page.html().len(), length, "{page:?}");
        }
    }
}
