//! A page for people at `/status`, with `restapi.status_page: true`; an addition to the reference, which answers
//! there as at `/`. One static document: its script asks `/cluster`, `/history`, `/patroni` and `/metrics` of the
//! node that it came from, and nobody else; it changes nothing.

use std::sync::LazyLock;

use base64::prelude::{Engine, BASE64_STANDARD};

use crate::http::response::{Full, Response};

const PAGE: &str = include_str!("page.html");

/// Is the page asked for?
pub fn is_at(command: &str, path: &str) -> bool {
    command == "GET" && path.trim_matches('/') == "status"
}

/// The page. Nothing but its own script and style is run, and nobody may put it into a frame.
pub fn answer() -> Response {
    let headers = vec![
        ("Content-Security-Policy", POLICY.clone()),
        ("X-Content-Type-Options", "nosniff".to_owned()),
        ("Cache-Control", "no-store".to_owned()),
    ];
    Response::Full(Box::new(Full {
        code: 200,
        content_type: "text/html; charset=utf-8",
        headers,
        body: PAGE.to_owned(),
    }))
}

static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; connect-src 'self'; script-src '{}'; style-src '{}'; frame-ancestors 'none'; \
         base-uri 'none'; form-action 'none'",
        hash("script"),
        hash("style")
    )
});

/// What a browser compares the text of the element with.
fn hash(element: &str) -> String {
    let text = between(element).unwrap_or_default();
    format!("sha256-{}", BASE64_STANDARD.encode(openssl::sha::sha256(text.as_bytes())))
}

fn between(element: &str) -> Option<&'static str> {
    let (_, rest) = PAGE.split_once(&format!("<{element}>"))?;
    Some(rest.split_once(&format!("</{element}>"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_is() {
        for (command, path, expected) in [
            ("GET", "/status", true),
            ("GET", "/status/", true),
            ("GET", "/status/x", false),
            ("HEAD", "/status", false),
            ("GET", "/", false),
        ] {
            assert_eq!(is_at(command, path), expected, "{command} {path}");
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        assert!(between("script").is_some_and(|text| text.len() > 1000));
        assert!(between("style").is_some_and(|text| text.len() > 1000));
        assert_eq!(PAGE.matches("<script").count(), 1);
        for word in ["src=", "href=\"http", "@import", "url(", "innerHTML", "onclick="] {
            assert!(!PAGE.contains(word), "{word}");
        }
        let Response::Full(full) = answer() else { panic!("no page") };
        let policy = &full.headers[0].1;
        assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    }
}
