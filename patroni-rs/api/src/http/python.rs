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
