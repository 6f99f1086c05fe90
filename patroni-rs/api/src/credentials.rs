//! User and password of the REST API. Whoever asks learns yes or no, and nothing from the time that it takes: the text is
//! private to this file, and there is no way to compare it but [`Credentials::are`]
//! (`core/tests/architecture` holds what this file compares with).

use base64::Engine as _;
use openssl::memcmp;

/// `username:password`. Has neither `PartialEq`, `Debug` nor a way to the text on purpose.
#[derive(Clone)]
pub(crate) struct Credentials(String);

impl Credentials {
    /// These, of `username:password`.
    pub(crate) fn new(plain: &str) -> Credentials {
        Credentials(base64::engine::general_purpose::STANDARD.encode(plain))
    }

    /// Whether what follows `Basic ` in `Authorization` is these. The length is no secret; the bytes are compared in
    /// constant time.
    pub(crate) fn are(&self, given: &str) -> bool {
        given.len() == self.0.len() && memcmp::eq(given.as_bytes(), self.0.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn these_and_no_others() {
        let ours = Credentials::new("admin:secret");
        let text = "YWRtaW46c2VjcmV0";
        assert!(ours.are(text));
        // Another byte at each place, of one bit and of all.
        for place in 0..text.len() {
            for flip in [1, 0x20, 0x7f] {
                let mut other = text.as_bytes().to_vec();
                other[place] ^= flip;
                assert!(!ours.are(&String::from_utf8_lossy(&other)), "{flip} at {place}");
            }
        }
        // Each beginning and end, nothing, and more than all.
        for length in 0..text.len() {
            assert!(!ours.are(&text[..length]), "the first {length}");
            assert!(!ours.are(&text[text.len() - length..]), "the last {length}");
        }
        for other in
            [format!("{text}="), format!("{text}\0"), format!(" {text}"), text.repeat(2), text.to_lowercase()]
        {
            assert!(!ours.are(&other), "{other:?}");
        }
        // Half a configuration is no open door.
        for plain in [":", "None:None"] {
            assert!(!Credentials::new(plain).are(""), "{plain}");
        }
    }
}
