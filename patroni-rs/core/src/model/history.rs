//! `/history`.

use pyfmt::int::int_clamped;
use pyfmt::{json, Value};

use super::Version;

/// The timelines of the cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TimelineHistory {
    /// Compare-and-set token.
    pub version: Version,
    /// As written.
    pub raw: String,
    /// Rows `[timeline, lsn, reason]`, since 1.x with a timestamp as the fourth
    /// and since 2.1.1 with the new leader as the fifth element.
    pub lines: Vec<Value>,
}

impl TimelineHistory {
    /// Reads the key; what is no list has no lines.
    pub fn from_node(version: &str, text: &str) -> TimelineHistory {
        let lines = match json::loads(text) {
            Ok(Value::List(lines)) => lines,
            _ => Vec::new(),
        };
        TimelineHistory { version: version.to_owned(), raw: text.to_owned(), lines }
    }

    /// The current timeline: one after the last row's, 1 when the text is exactly
    /// `[]`, and 0 when it cannot be told.
    pub fn timeline(&self) -> u32 {
        match self.lines.last() {
            None => u32::from(self.raw == "[]"),
            Some(row) => row
                .as_list()
                .and_then(|row| int_clamped(row.first()?))
                .and_then(|last| u32::try_from(last.checked_add(1)?).ok())
                .unwrap_or(0),
        }
    }
}

/// The text of `/history`.
pub fn history_value(lines: &[Value]) -> String {
    json::dumps_compact(&Value::List(lines.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timelines() {
        for (text, want) in [
            ("[]", 1),
            (" []", 0),
            ("[ ]", 0),
            ("{}", 0),
            ("", 0),
            (r#"[[1,2,"r"]]"#, 2),
            (r#"[["1",2]]"#, 2),
            (r#"[["a"]]"#, 0),
            ("[[]]", 0),
            ("[5]", 0),
            (r#"[[1,2,"r"],[7,9,"r","t","n"]]"#, 8),
        ] {
            assert_eq!(TimelineHistory::from_node("1", text).timeline(), want, "{text}");
        }
    }

    #[test]
    fn written_form() {
        let rows =
            json::loads(r#"[[1, 100, "no recovery target specified", "2026-01-01T00:00:00+00:00", "n1"]]"#);
        let rows = rows.unwrap_or_default();
        assert_eq!(
            history_value(rows.as_list().unwrap_or_default()),
            r#"[[1,100,"no recovery target specified","2026-01-01T00:00:00+00:00","n1"]]"#
        );
        assert_eq!(history_value(&[]), "[]");
    }
}
