//! Command lines as Python's `shlex` splits and quotes them, and small text helpers.

/// Why a command line cannot be split; the texts of Python's ValueError.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A quotation without its end.
    #[error("No closing quotation")]
    NoClosingQuotation,
    /// A backslash at the end.
    #[error("No escaped character")]
    NoEscapedCharacter,
}

/// `shlex.split(text)`: words as a POSIX shell sees them, without expansions. White
/// space is space, tab, carriage return and line feed; `#` is nothing special.
///
/// # Errors
/// A quotation is not closed, or a backslash is the last character.
pub fn shlex_split(text: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(SplitError::NoClosingQuotation)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => {
                let c = chars.next().ok_or(SplitError::NoEscapedCharacter)?;
                word.get_or_insert_default().push(c);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Inside double quotes a backslash escapes only itself and the quote.
fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), SplitError> {
    loop {
        match chars.next().ok_or(SplitError::NoClosingQuotation)? {
            '"' => return Ok(()),
            '\\' => {
                let c = chars.next().ok_or(SplitError::NoEscapedCharacter)?;
                if !matches!(c, '"' | '\\') {
                    word.push('\\');
                }
                word.push(c);
            }
            c => word.push(c),
        }
    }
}

/// `shlex.quote(text)`: the text as one word for a shell.
pub fn shlex_quote(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if text.is_empty() {
        "''".to_owned()
    } else if text.chars().all(safe) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\"'\"'"))
    }
}

/// `str.strip()`: without the white space of Python at both ends, which also knows the
/// separators U+001C to U+001F.
pub fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_python_does() {
        for (text, words) in [
            ("", vec![]),
            ("  ", vec![]),
            ("a  b\tc\nd", vec!["a", "b", "c", "d"]),
            ("a 'b c' \"d e\"", vec!["a", "b c", "d e"]),
            ("''", vec![""]),
            ("a '' \"\" b", vec!["a", "", "", "b"]),
            ("a''b\"c\"", vec!["abc"]),
            ("a\\ b \\'", vec!["a b", "'"]),
            ("'a\\b' \"a\\b\\\"\\\\\\$\"", vec!["a\\b", "a\\b\"\\\\$"]),
            ("a # b", vec!["a", "#", "b"]),
            ("x=1;y|z é\u{a0}b", vec!["x=1;y|z", "é\u{a0}b"]),
            ("a\\\nb", vec!["a\nb"]),
        ] {
            assert_eq!(shlex_split(text).unwrap(), words, "{text:?}");
        }
        for text in ["'a", "\"a", "a'", "\"a\\\""] {
            assert_eq!(shlex_split(text), Err(SplitError::NoClosingQuotation), "{text:?}");
        }
        for text in ["a\\", "\"a\\"] {
            assert_eq!(shlex_split(text), Err(SplitError::NoEscapedCharacter), "{text:?}");
        }
    }

    #[test]
    fn quotes_as_python_does() {
        for (text, quoted) in [
            ("", "''"),
            ("a-b_c@%+=:,./", "a-b_c@%+=:,./"),
            ("a b", "'a b'"),
            ("it's", "'it'\"'\"'s'"),
            ("é", "'é'"),
            ("~", "'~'"),
        ] {
            assert_eq!(shlex_quote(text), quoted);
        }
        assert_eq!(strip("\u{1c} a\u{a0}b \n"), "a\u{a0}b");
    }
}
