//! What goes over a connection: frames of a length and a compressed, perhaps encrypted, pickle.
//!
//! A port of PySyncObj 0.3.17 `tcp_connection.py` (MIT, Filipp Ozinov). Pure: bytes in, values out.

use std::io::{Read, Write};
use std::sync::Arc;

use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use flate2::Compression;

use crate::fernet::Fernet;
use crate::pickle::{self, Value};

/// The largest frame of who has not said who it is: a key, or a command.
pub const FIRST_FRAME: usize = 64 * 1024;
/// The largest frame of a member. (A batch of entries is 64 KiB, and one entry of its own what the largest value is.)
pub const LARGEST_FRAME: usize = 32 * 1024 * 1024;
/// What a frame may become.
const LARGEST_MESSAGE: u64 = 64 * 1024 * 1024;

/// Why a connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// A frame that is larger than it may be.
    TooLarge(u64),
    /// It was not encrypted with our password, was changed, or is from before.
    NotOurs,
    /// It is not a message.
    Garbage(String),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::TooLarge(size) => write!(f, "a frame of {size} bytes"),
            Broken::NotOurs => write!(f, "not encrypted with our password"),
            Broken::Garbage(why) => write!(f, "not a message: {why}"),
        }
    }
}

/// One direction's secrets, and the other's.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// The key, with a password.
    pub fernet: Option<Arc<Fernet>>,
    /// What the other side wants to see in all we send.
    pub send_key: Option<Value>,
    /// What we want to see in all that the other side sends.
    pub receive_key: Option<Value>,
    /// The time in the last token: it does not go back.
    pub last_time: u64,
}

impl Secrets {
    /// Of a connection that has just been made.
    pub fn new(fernet: Option<Arc<Fernet>>) -> Secrets {
        Secrets { fernet, ..Secrets::default() }
    }

    /// A random key for what the other side sends.
    pub fn ask_for_key(&mut self) -> Value {
        let key = Value::bytes(&rand::random::<[u8; 32]>());
        self.receive_key = Some(key.clone());
        key
    }

    /// A frame. `time`: whole seconds of a monotonic clock.
    pub fn pack(&self, message: &Value, time: u64) -> Vec<u8> {
        let pickled = match &self.send_key {
            Some(key) => pickle::dump(&Value::Tuple(vec![key.clone(), message.clone()])),
            None => pickle::dump(message),
        };
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(3));
        // Writing to memory does not fail; an empty frame would end the connection.
        let compressed = encoder.write_all(&pickled).and_then(|()| encoder.finish()).unwrap_or_default();
        let data = match &self.fernet {
            Some(fernet) => fernet.encrypt(&compressed, time).unwrap_or_default(),
            None => compressed,
        };
        let mut frame = i32::try_from(data.len()).unwrap_or(0).to_ne_bytes().to_vec();
        frame.extend(data);
        frame
    }

    /// The message of a frame without its length.
    ///
    /// # Errors
    /// The connection has to be closed.
    pub fn unpack(&mut self, data: &[u8]) -> Result<Value, Broken> {
        let compressed = match &self.fernet {
            Some(fernet) => {
                let (data, time) = fernet.decrypt(data).ok_or(Broken::NotOurs)?;
                if time < self.last_time {
                    return Err(Broken::NotOurs);
                }
                self.last_time = time;
                data
            }
            None => data.to_vec(),
        };
        let mut pickled = Vec::new();
        let mut decoder = ZlibDecoder::new(compressed.as_slice()).take(LARGEST_MESSAGE + 1);
        decoder.read_to_end(&mut pickled).map_err(|e| Broken::Garbage(e.to_string()))?;
        let size = pickled.len() as u64;
        if size > LARGEST_MESSAGE {
            return Err(Broken::TooLarge(size));
        }
        let message = pickle::load(&pickled).map_err(|e| Broken::Garbage(e.to_string()))?;
        let Some(key) = &self.receive_key else { return Ok(message) };
        match message {
            Value::Tuple(pair) => match <[Value; 2]>::try_from(pair) {
                Ok([theirs, message]) if theirs == *key => Ok(message),
                _ => Err(Broken::NotOurs),
            },
            _ => Err(Broken::NotOurs),
        }
    }
}

/// The length of the frame that begins with these four bytes.
///
/// # Errors
/// It is larger than `most`, or negative.
pub fn frame_length(header: [u8; 4], most: usize) -> Result<usize, Broken> {
    let length = i32::from_ne_bytes(header);
    let length = u32::from_ne_bytes(length.to_ne_bytes());
    usize::try_from(length).ok().filter(|length| *length <= most).ok_or(Broken::TooLarge(length.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pair(password: &str) -> (Secrets, Secrets) {
        let fernet = Arc::new(Fernet::of_password(password).unwrap());
        let (mut dialer, mut acceptor) =
            (Secrets::new(Some(Arc::clone(&fernet))), Secrets::new(Some(fernet)));
        let key = dialer.ask_for_key();
        let frame = dialer.pack(&key, 5);
        acceptor.send_key = Some(acceptor.unpack(&frame[4..]).unwrap());
        let answer = acceptor.ask_for_key();
        let frame = acceptor.pack(&answer, 9);
        dialer.send_key = Some(dialer.unpack(&frame[4..]).unwrap());
        (dialer, acceptor)
    }

    #[test]
    fn frames_there_and_back() {
        let message = Value::dict([("type", Value::str("request_vote")), ("term", Value::Int(4))]);
        let (mut plain, (dialer, mut acceptor)) = (Secrets::default(), pair("secret"));
        let frame = plain.pack(&message, 0);
        let length = frame_length(frame[..4].try_into().unwrap(), FIRST_FRAME).unwrap();
        assert_eq!(length, frame.len() - 4);
        assert_eq!(plain.unpack(&frame[4..]), Ok(message.clone()));
        let frame = dialer.pack(&message, 6);
        assert_eq!(acceptor.unpack(&frame[4..]), Ok(message.clone()));
        // The same once more is permitted, an older one is not, nor one of another connection.
        assert_eq!(acceptor.unpack(&frame[4..]), Ok(message.clone()));
        assert_eq!(acceptor.unpack(&dialer.pack(&message, 5)[4..]), Err(Broken::NotOurs));
        let (_, mut other) = pair("secret");
        assert_eq!(other.unpack(&frame[4..]), Err(Broken::NotOurs));
        assert_eq!(pair("another").1.unpack(&frame[4..]), Err(Broken::NotOurs));
        assert_eq!(acceptor.unpack(&plain.pack(&message, 9)[4..]), Err(Broken::NotOurs));
    }

    #[test]
    fn what_is_too_large_or_garbage() {
        assert_eq!(
            frame_length(100_000_000i32.to_ne_bytes(), LARGEST_FRAME),
            Err(Broken::TooLarge(100_000_000))
        );
        assert!(frame_length((-1i32).to_ne_bytes(), LARGEST_FRAME).is_err());
        for garbage in [&b""[..], b"\x78\x9c\xff", b"GET / HTTP/1.1\r\n"] {
            assert!(matches!(Secrets::default().unpack(garbage), Err(Broken::Garbage(_))), "{garbage:?}");
        }
        // A few kilobytes that become a hundred million.
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(9));
        for _ in 0..100 {
            encoder.write_all(&[0; 1_000_000]).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(matches!(Secrets::default().unpack(&bomb), Err(Broken::TooLarge(_))));
    }
}
