//! The few habits of Python's text functions that a client can see.

/// Latin-1 bytes as text, one character for each byte.
pub fn from_latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// Text as Latin-1 bytes; None where a character does not fit, which in the
/// reference is an exception and so a dropped connection (surface-api-ctl H17).
pub fn to_latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// White space of `str.split()` within Latin-1.
pub fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | '\u{1c}'..='\u{20}' | '\u{85}' | '\u{a0}')
}

/// A whole number as `int(text)` reads one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PyInt {
    /// It fits.
    Small(i64),
    /// Too big for 64 bits; true: negative.
    Big(bool),
}

/// `int(text)`: surrounding white space, a sign, and single underscores
/// between digits are allowed. None is `ValueError`.
pub fn parse_int(text: &str) -> Option<PyInt> {
    let trimmed = text.trim_matches(is_space);
    let (negative, digits) = match trimmed.as_bytes().first()? {
        b'-' => (true, trimmed.get(1..)?),
        b'+' => (false, trimmed.get(1..)?),
        _ => (false, trimmed),
    };
    let groups = digits.split('_');
    if groups.clone().any(|g| g.is_empty() || !g.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let joined: String = groups.collect();
    match joined.parse::<i64>() {
        Ok(i) => Some(PyInt::Small(if negative { -i } else { i })),
        Err(_) => Some(PyInt::Big(negative)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_python_reads_them() {
        for (text, expected) in [
            ("12", Some(PyInt::Small(12))),
            (" -5 ", Some(PyInt::Small(-5))),
            ("+1_000", Some(PyInt::Small(1000))),
            ("1__0", None),
            ("_1", None),
            ("", None),
            ("-", None),
            ("abc", None),
            ("1.0", None),
            ("99999999999999999999", Some(PyInt::Big(false))),
        ] {
            assert_eq!(parse_int(text), expected, "{text:?}");
        }
    }
}
