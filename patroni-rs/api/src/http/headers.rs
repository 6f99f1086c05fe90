//! Request headers as Python's `email` parser (compat32 policy) takes them.

use super::python::from_latin1;

/// The headers of a request, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Parses the raw header lines. A line that is no header ends them; a line
    /// that starts with a blank continues the value before it; nothing is refused.
    pub fn parse(raw: &[u8]) -> Headers {
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
        Headers(found)
    }

    /// The first header of that name, whatever the case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
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
}
