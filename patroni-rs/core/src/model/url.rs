//! URLs as Python's `urlsplit` takes them apart, as far as members need it.

/// The pieces of a URL; empty where it has none.
#[derive(Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// In lower case.
    pub scheme: String,
    /// `user:password@host:port`
    pub netloc: &'a str,
    /// With the slash.
    pub path: &'a str,
    /// Without the question mark.
    pub query: &'a str,
    /// Without the hash.
    pub fragment: &'a str,
}

impl<'a> Url<'a> {
    /// Takes a URL apart; it never fails.
    pub fn split(url: &'a str) -> Url<'a> {
        let (scheme, rest) = match url.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            _ => (String::new(), url),
        };
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (netloc, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        Url { scheme, netloc, path, query, fragment }
    }

    /// Host in lower case without brackets (a zone keeps its case), and port.
    /// None for a port that is no port number.
    pub fn host_port(&self) -> Option<(Option<String>, Option<u16>)> {
        let hostinfo = self.netloc.rsplit_once('@').map_or(self.netloc, |(_, host)| host);
        let (host, port) = match hostinfo.split_once('[') {
            Some((_, bracketed)) => {
                let (host, rest) = bracketed.split_once(']').unwrap_or((bracketed, ""));
                (host, rest.split_once(':').map_or("", |(_, port)| port))
            }
            None => hostinfo.split_once(':').unwrap_or((hostinfo, "")),
        };
        let port = match port {
            "" => None,
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        let host = match host.split_once('%') {
            Some((name, zone)) => format!("{}%{zone}", name.to_lowercase()),
            None => host.to_lowercase(),
        };
        Some((Some(host).filter(|h| !h.is_empty()), port))
    }

    /// User and password as they stand, not percent-decoded.
    pub fn user_info(&self) -> (Option<&'a str>, Option<&'a str>) {
        match self.netloc.rsplit_once('@').map(|(info, _)| info) {
            None => (None, None),
            Some(info) => {
                info.split_once(':').map_or((Some(info), None), |(user, pass)| (Some(user), Some(pass)))
            }
        }
    }

    /// The first value of a key of the query.
    pub fn query_value(&self, key: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(_, value)| !value.is_empty())
            .find(|(k, _)| unquote(k) == key)
            .map(|(_, value)| unquote(value))
    }

    /// The URL without its query.
    pub fn without_query(&self) -> String {
        let mut url = String::new();
        if !self.scheme.is_empty() {
            url = format!("{}:", self.scheme);
        }
        if !self.netloc.is_empty() {
            url.push_str("//");
            url.push_str(self.netloc);
        }
        url.push_str(self.path);
        if !self.fragment.is_empty() {
            url.push('#');
            url.push_str(self.fragment);
        }
        url
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Undoes percent encoding, and `+` for a space.
fn unquote(text: &str) -> String {
    let mut rest = text.as_bytes();
    let mut out = Vec::with_capacity(rest.len());
    while let [byte, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *byte == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(if *byte == b'+' { b' ' } else { *byte });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A host as it stands in a URL: an IPv6 address in brackets.
pub fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') && !host.ends_with(']') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        let url = Url::split("Postgres://u:p@[FE80::1%Eth0]:5433/db?a=1&application_name=http%3A//h:1/x+y#f");
        assert_eq!((url.scheme.as_str(), url.path, url.fragment), ("postgres", "/db", "f"));
        assert_eq!(url.user_info(), (Some("u"), Some("p")));
        assert_eq!(url.host_port(), Some((Some("fe80::1%Eth0".into()), Some(5433))));
        assert_eq!(url.query_value("application_name").as_deref(), Some("http://h:1/x y"));
        assert_eq!(url.query_value("b"), None);
        assert_eq!(url.without_query(), "postgres://u:p@[FE80::1%Eth0]:5433/db#f");
    }

    #[test]
    fn hosts_and_ports() {
        for (url, want) in [
            ("http://H", Some((Some("h".into()), None))),
            ("http://h:", Some((Some("h".into()), None))),
            ("http://h:8008/p", Some((Some("h".into()), Some(8008)))),
            ("http://h:99999", None),
            ("http://h:x", None),
            ("nothing", Some((None, None))),
        ] {
            assert_eq!(Url::split(url).host_port(), want, "{url}");
        }
    }
}
