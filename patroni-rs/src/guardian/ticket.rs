//! What it takes to give the leader lock up in a dead daemon's place: a text in a file without a name, which the
//! daemon writes and its guardian has open. It may hold passwords: it is in no argument, no environment and no directory.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{memfd_create, MFdFlags};

/// Longer ones are none.
const LONGEST: usize = 1 << 20;
/// Its length and its sum come first.
const HEAD: usize = 16;

/// See the module.
pub struct Ticket {
    file: File,
    text: String,
}

impl Ticket {
    /// An empty one.
    ///
    /// # Errors
    /// The kernel gives no such file.
    pub fn new() -> io::Result<Ticket> {
        let file = memfd_create("patroni ticket", MFdFlags::MFD_CLOEXEC)?;
        Ok(Ticket { file: File::from(file), text: String::new() })
    }

    /// The same file, for a guardian.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Replaces the text. Whoever is killed meanwhile leaves one that is none.
    pub fn write(&mut self, text: &str) {
        if self.text != text && self.file.write_all_at(&encoded(text), 0).is_ok() {
            text.clone_into(&mut self.text);
        }
    }
}

fn encoded(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_ne_bytes().to_vec();
    bytes.extend(sum(text.as_bytes()).to_ne_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The text in the file of a [`Ticket`]; None: there is none, or only part of one.
pub fn read(file: &File) -> Option<String> {
    let number = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).ok().map(|()| u64::from_ne_bytes(bytes))
    };
    let (length, want) = (usize::try_from(number(0)?).ok()?, number(8)?);
    if length == 0 || length > LONGEST {
        return None;
    }
    let mut text = vec![0; length];
    file.read_exact_at(&mut text, HEAD as u64).ok()?;
    String::from_utf8(text).ok().filter(|text| sum(text.as_bytes()) == want)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_newest_text_counts_and_a_part_is_none() {
        let mut ticket = Ticket::new().unwrap();
        let shared = ticket.share().unwrap();
        assert_eq!(read(&shared), None);
        for text in ["a long one, with a secret", "short", ""] {
            ticket.write(text);
            assert_eq!(read(&shared).unwrap_or_default(), text);
        }
        ticket.write("whole");
        shared.write_all_at(b"X", HEAD as u64).unwrap();
        assert_eq!(read(&shared), None);
        // Not a ticket at all: what a guardian without one has.
        assert_eq!(read(&File::open("/dev/null").unwrap()), None);
    }
}
