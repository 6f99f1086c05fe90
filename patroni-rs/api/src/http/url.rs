//! Target of a request as `urllib.parse` splits it (surface-api-ctl H15, R7).

/// Path and query of a request target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The path, not percent-decoded, without `;parameters` in its last segment.
    pub path: String,
    /// Decoded pairs with a value, in order; the first of a name counts.
    pub query: Vec<(String, String)>,
}

/// `ValueError: Invalid IPv6 URL`: the reference drops the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid IPv6 URL")]
pub struct BadUrl;

impl Target {
    /// Splits the second word of a request line.
    ///
    /// # Errors
    /// Unbalanced brackets in the host of an absolute URL.
    pub fn parse(word: &str) -> Result<Target, BadUrl> {
        let url = collapse(word);
        let url = url.trim_start_matches(|c: char| c <= ' ');
        let (scheme, mut rest) = split_scheme(url);
        if let Some(after) = rest.strip_prefix("//") {
            let end = after.find(['/', '?', '#']).unwrap_or(after.len());
            let (netloc, tail) = after.split_at(end);
            if netloc.contains('[') != netloc.contains(']') {
                return Err(BadUrl);
            }
            rest = tail;
        }
        let rest = rest.split('#').next().unwrap_or("");
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = if takes_params(scheme) { strip_params(path) } else { path };
        Ok(Target { path: path.to_owned(), query: parse_qs(query) })
    }

    /// The first value of a query parameter.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }
}

/// Several leading slashes are one.
fn collapse(word: &str) -> String {
    match word.starts_with("//") {
        true => format!("/{}", word.trim_start_matches('/')),
        false => word.to_owned(),
    }
}

fn split_scheme(url: &str) -> (&str, &str) {
    match url.split_once(':') {
        Some((scheme, rest))
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) =>
        {
            (scheme, rest)
        }
        _ => ("", url),
    }
}

/// `urllib.parse.uses_params`.
fn takes_params(scheme: &str) -> bool {
    [
        "", "ftp", "hdl", "prospero", "http", "https", "shttp", "rtsp", "rtspu", "sip", "sips", "mms",
        "sftp", "tel",
    ]
    .iter()
    .any(|s| scheme.eq_ignore_ascii_case(s))
}

fn strip_params(path: &str) -> &str {
    let from = path.rfind('/').unwrap_or(0);
    match path.get(from..).and_then(|last| last.find(';')) {
        Some(at) => path.get(..from + at).unwrap_or(path),
        None => path,
    }
}

/// `parse_qs` without blank values.
fn parse_qs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (unquote(name), unquote(value)))
        .collect()
}

/// `unquote(text.replace('+', ' '))`: runs of ASCII are percent-decoded as UTF-8.
fn unquote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run: Vec<u8> = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '+' => run.push(b' '),
            '%' => match hex_pair(rest.as_str()) {
                Some(byte) => {
                    run.push(byte);
                    rest.next();
                    rest.next();
                }
                None => run.push(b'%'),
            },
            c if c.is_ascii() => run.push(c as u8),
            c => {
                out.push_str(&String::from_utf8_lossy(&std::mem::take(&mut run)));
                out.push(c);
            }
        }
    }
    out.push_str(&String::from_utf8_lossy(&run));
    out
}

fn hex_pair(text: &str) -> Option<u8> {
    let pair = text.get(..2)?;
    match pair.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => u8::from_str_radix(pair, 16).ok(),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (word, path) in [
            ("/config", "/config"),
            ("//config", "/config"),
            ("////a//b", "/a//b"),
            ("http://foo/config", "/config"),
            ("http://foo", ""),
            ("config", "config"),
            ("/%63onfig", "/%63onfig"),
            ("/config?x=1#frag", "/config"),
            ("/primary;x=1", "/primary"),
            ("/a;b/c", "/a;b/c"),
            ("foo:bar;x", "bar;x"),
            ("?x", ""),
            ("*", "*"),
        ] {
            assert_eq!(Target::parse(word).map(|t| t.path).as_deref(), Ok(path), "{word}");
        }
        assert_eq!(Target::parse("http://[/x"), Err(BadUrl));
    }

    #[test]
    fn queries() {
        for (query, name, value) in [
            ("lag=", "lag", None),
            ("tag_x", "tag_x", None),
            ("lag=1&lag=2", "lag", Some("1")),
            ("lag=&lag=2", "lag", Some("2")),
            ("lag=16%20MB", "lag", Some("16 MB")),
            ("lag=+16MB", "lag", Some(" 16MB")),
            ("a=%zz%4", "a", Some("%zz%4")),
            ("a=%ff", "a", Some("\u{fffd}")),
            ("a=\u{e9}%c3%a9", "a", Some("\u{e9}\u{e9}")),
            ("tag%5fx=1", "tag_x", Some("1")),
        ] {
            let target = Target::parse(&format!("/x?{query}")).unwrap_or_default();
            assert_eq!(target.first(name), value, "{query}");
        }
    }
}
