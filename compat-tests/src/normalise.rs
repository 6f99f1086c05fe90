//! What must differ between two clusters in the same state is replaced by placeholders, and nothing
//! else. The same code works on both sides, live and recorded.
//!
//! | what                                               | becomes                                    |
//! |----------------------------------------------------|--------------------------------------------|
//! | the test cluster's directory                            | `/tmp/patroni-rs-lab-XXXXXX`               |
//! | the ports of PostgreSQL, the REST API and etcd     | `PG<n>PG`, `RS<n>RS`, `ETCD.` (5 characters, as the port) |
//! | the directory of what scripts/setup installed         | `/DEPS`                                    |
//! | the system identifier                              | `S` for each of its digits                 |
//! | a date with a time                                 | `D` for each digit; a fraction always `.DDDDDD`, a log line's milliseconds `,DDD` |
//! | a time zone of such a date                         | stays                                      |
//! | an LSN as `0/3000148`                              | `H` for each digit                         |
//! | a whole number of 7 digits or more (LSNs, epochs)  | `N` for each digit in a table's cell, else one `N` |
//! | the value of a metric that is a time or an LSN     | `N`, or `N.N` if it has a fraction         |
//! | the HTTP header `Date`                             | `Date: D`                                  |
//! | a WAL sender that is just starting, in `replication` | nothing: connections of the daemons themselves come and go |
//! | `123 ms`, `0.5 seconds`, `pid=123`                 | `N ms`, `N seconds`, `pid=N`               |
//!
//! Order, separators, quotes, the type of a number, widths of tables and final newlines stay, and are
//! compared.

use std::sync::OnceLock;

use regex::{Captures, Regex};

/// What is known of one side: literal texts and their placeholders.
#[derive(Debug, Clone, Default)]
pub struct Known {
    literals: Vec<(Regex, String)>,
}

impl Known {
    /// A number that stands alone, such as a port or the system identifier.
    pub fn number(&mut self, number: &str, placeholder: &str) {
        if let Ok(pattern) = Regex::new(&format!(r"\b{number}\b")) {
            self.literals.push((pattern, placeholder.into()));
        }
    }

    /// A directory's name, wherever it stands.
    pub fn directory(&mut self, directory: &str, placeholder: &str) {
        if let Ok(pattern) = Regex::new(&format!(r"{}\b", regex::escape(directory))) {
            self.literals.push((pattern, placeholder.into()));
        }
    }

    /// A port of a member: `PG` or `RS` and the member's index.
    pub fn port(&mut self, port: u16, kind: &str, index: usize) {
        self.number(&port.to_string(), &format!("{kind}{index}{kind}"));
    }

    /// The system identifier.
    pub fn system_identifier(&mut self, id: &str) {
        self.number(id, &"S".repeat(id.len()));
    }

    /// `text` with all that must vary replaced.
    pub fn normalise(&self, text: &str) -> String {
        let mut text = text.to_string();
        for (pattern, placeholder) in &self.literals {
            text = pattern.replace_all(&text, placeholder.as_str()).into_owned();
        }
        for (pattern, replace) in rules() {
            text = pattern.replace_all(&text, *replace).into_owned();
        }
        text
    }
}

/// What a rule makes of a match.
type Replace = fn(&Captures<'_>) -> String;

/// Each digit of the match as `letter`.
fn digits(text: &str, letter: char) -> String {
    text.chars().map(|c| if c.is_ascii_hexdigit() { letter } else { c }).collect()
}

fn group<'t>(captures: &Captures<'t>, index: usize) -> &'t str {
    captures.get(index).map_or("", |group| group.as_str())
}

/// The rules that need no knowledge of a side, in their order.
fn rules() -> &'static [(Regex, Replace)] {
    static RULES: OnceLock<Vec<(Regex, Replace)>> = OnceLock::new();
    let table: [(&str, Replace); 10] = [
        (
            r#"(?x) "replication":\ \[ \{[^{}]*"state":\ "startup"[^{}]*\} (?:,\ \{[^{}]*"state":\ "startup"[^{}]*\})* \],\  | ,\ \{[^{}]*"state":\ "startup"[^{}]*\}
               | \{[^{}]*"state":\ "startup"[^{}]*\},\  "#,
            |_| String::new(),
        ),
        (r"/tmp/patroni-rs-lab-[A-Za-z0-9]{6}", |_| "/tmp/patroni-rs-lab-XXXXXX".into()),
        (r"(?m)^Date: .*?(\r?)$", |found| format!("Date: D{}", group(found, 1))),
        (r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?)(\.\d{1,6}|,\d{3}\b)?", |found| {
            let fraction = match group(found, 2).as_bytes().first() {
                None => "",
                Some(b',') => ",DDD",
                Some(_) => ".DDDDDD",
            };
            digits(group(found, 1), 'D') + fraction
        }),
        (r"\b[0-9A-F]{1,8}/[0-9A-F]{6,8}\b", |found| digits(group(found, 0), 'H')),
        (
            r"(?m)^(patroni_(?:postmaster_start_time|xlog_\w+|dcs_last_seen|\w*lsn\w*)\{[^}]*\}) (\d+)(\.\d+)?$",
            |found| {
                let number = if group(found, 2) == "0" { "0" } else { "N" };
                let fraction = if group(found, 3).is_empty() { "" } else { ".N" };
                format!("{} {number}{fraction}", group(found, 1))
            },
        ),
        (r"(\| +)(\d{7,20})( +\|)", |found| {
            format!("{}{}{}", group(found, 1), digits(group(found, 2), 'N'), group(found, 3))
        }),
        (r"([:,\[\t] ?)(\d{7,20})\b", |found| format!("{}N", group(found, 1))),
        (r"\b\d+(?:\.\d+)? (ms|s|seconds|milliseconds)\b", |found| format!("N {}", group(found, 1))),
        (r"\b(pid=|PID )\d+", |found| format!("{}N", group(found, 1))),
    ];
    RULES.get_or_init(|| {
        let compiled =
            table.into_iter().filter_map(|(pattern, replace)| Some((Regex::new(pattern).ok()?, replace)));
        compiled.collect()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn known() -> Known {
        let mut known = Known::default();
        known.port(21441, "PG", 0);
        known.port(21442, "RS", 0);
        known.system_identifier("7710584744256742303");
        known.directory("/opt/patroni-rs", "/DEPS");
        known
    }

    #[test]
    fn all_rules_compile() {
        assert_eq!(rules().len(), 10);
    }

    #[test]
    fn replaces_what_must_vary() {
        for (text, wanted) in [
            ("host: 127.0.0.1:21441/postgres", "host: 127.0.0.1:PG0PG/postgres"),
            ("http://127.0.0.1:21442/patroni", "http://127.0.0.1:RS0RS/patroni"),
            ("+ Cluster: batman (7710584744256742303) -+", "+ Cluster: batman (SSSSSSSSSSSSSSSSSSS) -+"),
            ("File \"/opt/patroni-rs/reference/bin/x\"", "File \"/DEPS/reference/bin/x\""),
            ("/tmp/patroni-rs-lab-kIUWyr/batman", "/tmp/patroni-rs-lab-XXXXXX/batman"),
            ("2026-11-21 11:26:51.612045+00:00", "DDDD-DD-DD DD:DD:DD.DDDDDD+00:00"),
            ("2026-11-21 11:26:51,612 - WARNING", "DDDD-DD-DD DD:DD:DD,DDD - WARNING"),
            (
                r#""a": 1, "replication": [{"x": "", "state": "startup", "y": 0}], "b": 2"#,
                r#""a": 1, "b": 2"#,
            ),
            (
                r#""a": 1, "replication": [{"state": "startup"}, {"state": "startup"}], "b": 2"#,
                r#""a": 1, "b": 2"#,
            ),
            (
                r#""replication": [{"state": "streaming"}, {"state": "startup"}], "b": 2"#,
                r#""replication": [{"state": "streaming"}], "b": 2"#,
            ),
            (
                r#""replication": [{"state": "startup"}, {"state": "streaming"}], "b": 2"#,
                r#""replication": [{"state": "streaming"}], "b": 2"#,
            ),
            ("2026-11-21T19:45 (y/N)", "DDDD-DD-DDTDD:DD (y/N)"),
            ("2026-11-21T11:26:51+02:00", "DDDD-DD-DDTDD:DD:DD+02:00"),
            ("|   0/4000000 |", "|   H/HHHHHHH |"),
            ("\"optime\":67108864}", "\"optime\":N}"),
            ("\"optime\": 67108864}", "\"optime\": N}"),
            ("[[1,67108864,", "[[1,N,"),
            ("|  1 | 67108864 | no", "|  1 | NNNNNNNN | no"),
            (
                "patroni_xlog_location{scope=\"b\",name=\"n\"} 67108864",
                "patroni_xlog_location{scope=\"b\",name=\"n\"} N",
            ),
            ("Date: Sat, 21 Nov 2026 11:26:51 GMT\r\nX: y", "Date: D\r\nX: y"),
        ] {
            assert_eq!(known().normalise(text), wanted);
        }
    }

    #[test]
    fn leaves_the_rest() {
        for text in ["max_connections: 100", "\"timeline\": 2", "ttl: 20", "port=5432", "maximum_lag: 104857"]
        {
            assert_eq!(known().normalise(text), text);
        }
    }

    /// A difference of each of these kinds must still be seen.
    #[test]
    fn keeps_what_is_compared() {
        let original = "{\"state\": \"running\", \"xlog\": {\"location\": 67108864}, \"timeline\": 1}\n";
        for changed in [
            // The order of keys.
            "{\"xlog\": {\"location\": 67108864}, \"state\": \"running\", \"timeline\": 1}\n",
            // A separator.
            "{\"state\":\"running\", \"xlog\": {\"location\": 67108864}, \"timeline\": 1}\n",
            // The type of a number that varies, and of one that does not.
            "{\"state\": \"running\", \"xlog\": {\"location\": \"67108864\"}, \"timeline\": 1}\n",
            "{\"state\": \"running\", \"xlog\": {\"location\": 67108864}, \"timeline\": \"1\"}\n",
            "{\"state\": \"running\", \"xlog\": {\"location\": 67108864.5}, \"timeline\": 1}\n",
            // A missing newline.
            "{\"state\": \"running\", \"xlog\": {\"location\": 67108864}, \"timeline\": 1}",
            // A null instead of a number.
            "{\"state\": \"running\", \"xlog\": {\"location\": null}, \"timeline\": 1}\n",
        ] {
            assert_ne!(known().normalise(original), known().normalise(changed), "{changed}");
        }
        // A border of a table that is one dash shorter.
        assert_ne!(known().normalise("+-----+\n"), known().normalise("+----+\n"));
        // A time without its zone.
        assert_ne!(known().normalise("2026-11-21 11:26:51+00:00"), known().normalise("2026-11-21 11:26:51"));
    }
}
