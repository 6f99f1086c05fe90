//! Splitting of command lines as Python's `shlex.split` does (POSIX mode,
//! comments off). Rule: the Python Library Reference, `shlex`, "Parsing Rules".

/// Why a command line cannot be split; the texts are Python's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A quote was opened and never closed.
    #[error("No closing quotation")]
    NoClosingQuotation,
    /// The line ends with a backslash.
    #[error("No escaped character")]
    NoEscapedCharacter,
}

/// Splits a command line into words.
///
/// # Errors
/// An unbalanced quote or a trailing backslash.
pub fn split(line: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' | '"' => quoted(&mut chars, c, word.get_or_insert_default())?,
            '\\' => {
                let next = chars.next().ok_or(SplitError::NoEscapedCharacter)?;
                word.get_or_insert_default().push(next);
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads up to the closing `quote`. A backslash escapes only itself and the
/// quote, and only between double quotes.
fn quoted(chars: &mut std::str::Chars<'_>, quote: char, word: &mut String) -> Result<(), SplitError> {
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => {
                let next = chars.next().ok_or(SplitError::NoEscapedCharacter)?;
                if next != '\\' && next != '"' {
                    word.push('\\');
                }
                word.push(next);
            }
            other => word.push(other),
        }
    }
    Err(SplitError::NoClosingQuotation)
}

/// Removes the quotes of a text that is one quoted word; any other text is
/// returned as it is (`patroni.utils.unquote`).
pub fn unquote(text: &str) -> String {
    match split(text) {
        Ok(mut words) if words.len() == 1 => words.remove(0),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn splits_as_python() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  a  b ", &["a", "b"]),
            ("a 'b c' \"d e\"", &["a", "b c", "d e"]),
            (r#"a\ b "c\"d\e" 'f\g'"#, &["a b", "c\"d\\e", "f\\g"]),
            ("x''y ''", &["xy", ""]),
            ("a # b", &["a", "#", "b"]),
        ];
        for (line, want) in cases {
            assert_eq!(&split(line).unwrap(), want, "{line}");
        }
        assert_eq!(split("a 'b"), Err(SplitError::NoClosingQuotation));
        assert_eq!(split("a\\"), Err(SplitError::NoEscapedCharacter));
    }

    #[test]
    fn unquotes_single_words_only() {
        assert_eq!(unquote("\"a b\""), "a b");
        assert_eq!(unquote("\"a\" \"b\""), "\"a\" \"b\"");
        assert_eq!(unquote("a \"b"), "a \"b");
    }
}
