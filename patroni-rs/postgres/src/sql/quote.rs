//! Values in statements of the simple query protocol.

use postgres_protocol::escape::{escape_identifier, escape_literal};

/// What keeps a statement with a secret out of the server's log, of pg_stat_statements and of pgaudit. The extensions need
/// not be there.
pub const QUIET: [(&str, &str); 5] = [
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_min_error_statement", "'log'"),
    ("pg_stat_statements.track_utility", "'off'"),
    ("pgaudit.log", "none"),
];

/// A text literal that means the same whatever `standard_conforming_strings`
/// says: with a backslash in the text it is written as ` E'...'`.
pub fn literal(text: &str) -> String {
    // A NUL cannot be sent; PostgreSQL has no text that contains one.
    escape_literal(&text.replace('\0', ""))
}

/// A name in double quotes.
pub fn identifier(name: &str) -> String {
    escape_identifier(&name.replace('\0', ""))
}

/// `ARRAY['a','b']::text[]`
pub fn text_array<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| literal(i.as_ref())).collect();
    format!("ARRAY[{}]::pg_catalog.text[]", items.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes() {
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
        assert_eq!(text_array(["a", "b'"]), "ARRAY['a','b''']::pg_catalog.text[]");
        assert_eq!(text_array([""; 0]), "ARRAY[]::pg_catalog.text[]");
    }
}
