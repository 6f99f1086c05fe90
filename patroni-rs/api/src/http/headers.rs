//! Request headers as Python's `email` parser (compat32 policy) takes them.

use super::python::from_latin1;

/// The headers of a request, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    found: Vec<(String, String)>,
    /// Every line was read as any other server would read it.
    plain: bool,
}

impl Headers {
    /// Parses the raw header lines. A line that is no header ends them; a line
    /// that starts with a blank continues the value before it; nothing is refused.
    pub fn parse(raw: &[u8]) -> Headers {
        let plain = is_plain(raw);
        let text = from_latin1(raw);
        let mut found: Vec<(String, String)> = Vec::new();
        let mut open = false;
        for line in lines(&text) {
            if line.starts_with([' ', '\t']) {
                if let (true, Some((_, value))) = (open, found.last_mut()) {
                    value.push_str(line);
                }
                continue;
            }
            match line.split_once(':') {
                Some((name, value)) if name.chars().all(|c| ('!'..='~').contains(&c)) => {
                    open = !name.is_empty();
                    if open {
                        found.push((name.to_owned(), value.trim_start_matches([' ', '\t']).to_owned()));
                    }
                }
                _ if line.starts_with("From ") => open = false,
                _ => break,
            }
        }
        for (_, value) in &mut found {
            let end = value.trim_end_matches(['\r', '\n']).len();
            value.truncate(end);
        }
        Headers { found, plain }
    }

    /// Was every line a plain one (RFC 9112, section 5): a name, a colon, a value on the same line, ended by CRLF?
    /// What is before us on the way may read any other one in another way, and see another end of the request.
    pub fn are_plain(&self) -> bool {
        self.plain
    }

    /// The first header of that name, whatever the case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.found.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// All headers of that name, whatever the case, in their order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.found.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// See [`Headers::are_plain`]. The blank line at the end belongs to them.
fn is_plain(raw: &[u8]) -> bool {
    let mut rest = raw;
    while let Some((line, tail)) = split_line(rest) {
        if line.is_empty() {
            return tail.is_empty();
        }
        if !is_plain_header(line) {
            return false;
        }
        rest = tail;
    }
    false
}

/// A line without its CRLF, and what follows.
fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.windows(2).position(|pair| pair == b"\r\n")?;
    Some((text.get(..end)?, text.get(end + 2..)?))
}

fn is_plain_header(line: &[u8]) -> bool {
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let mut parts = line.splitn(2, |b| *b == b':');
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return false };
    !name.is_empty() && name.iter().all(token) && is_plain_text(value)
}

/// No control characters but tabs.
pub(super) fn is_plain_text(text: &[u8]) -> bool {
    text.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f))
}

/// Lines with their ends, where `\r` alone ends one too.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = match rest.find(['\r', '\n']) {
            Some(i) if rest.get(i..).is_some_and(|r| r.starts_with("\r\n")) => i + 2,
            Some(i) => i + 1,
            None => rest.len(),
        };
        let (line, tail) = rest.split_at(end);
        rest = tail;
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons_habits() {
        for (raw, name, expected) in [
            ("Host: x\r\nContent-Length: 5\r\n\r\n", "content-length", Some("5")),
            ("content-LENGTH:7\n\n", "Content-Length", Some("7")),
            ("A: 1\r\n  2\r\nB: 3\r\n\r\n", "a", Some("1\r\n  2")),
            ("Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "content-length", Some("5")),
            ("no colon here\r\nContent-Length: 5\r\n\r\n", "content-length", None),
            ("Content-Length : 5\r\n\r\n", "content-length", None),
            (": 5\r\nA: 1\r\n\r\n", "a", Some("1")),
            ("A:\r\n\r\n", "a", Some("")),
            (" cont\r\nA: b\r\n", "a", Some("b")),
        ] {
            assert_eq!(Headers::parse(raw.as_bytes()).get(name), expected, "{raw:?}");
        }
    }

    #[test]
    fn plain_lines() {
        for (raw, plain) in [
            ("\r\n", true),
            ("Host: x\r\nA:\tb \u{e9}\r\nX-1_y:\r\n\r\n", true),
            ("", false),
            ("Host: x\r\n", false),
            ("Host: x\n\r\n", false),
            ("Host: x\r\n\n", false),
            ("Host: x\r\n\r\nrest", false),
            ("no colon\r\n\r\n", false),
            ("A: b\r\n folded\r\n\r\n", false),
            (" A: b\r\n\r\n", false),
            ("A : b\r\n\r\n", false),
            (": b\r\n\r\n", false),
            ("A: b\rC: d\r\n\r\n", false),
            ("A: b\u{b}\r\n\r\n", false),
            ("A: b\0\r\n\r\n", false),
            ("A\u{7f}: b\r\n\r\n", false),
            ("(A): b\r\n\r\n", false),
        ] {
            assert_eq!(Headers::parse(raw.as_bytes()).are_plain(), plain, "{raw:?}");
        }
    }
}
