//! Jute, the encoding of ZooKeeper's messages: big-endian numbers; texts and buffers with their length before them.
//! A length of -1 is "none", which is read as empty: nobody here tells the two apart.

/// What was received is no message of ZooKeeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("garbled message")]
pub struct Garbled;

/// A message being written.
#[derive(Debug, Default)]
pub struct Out(Vec<u8>);

impl Out {
    /// A 32-bit number.
    pub fn int(&mut self, value: i32) -> &mut Out {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A 64-bit number.
    pub fn long(&mut self, value: i64) -> &mut Out {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A byte that is 0 or 1.
    pub fn flag(&mut self, value: bool) -> &mut Out {
        self.0.push(u8::from(value));
        self
    }

    /// Bytes with their length.
    pub fn buffer(&mut self, bytes: &[u8]) -> &mut Out {
        // Longer than 2 GB is no message; the server would refuse what is longer than 1 MB.
        self.int(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.0.extend_from_slice(bytes);
        self
    }

    /// Text with its length in bytes.
    pub fn text(&mut self, text: &str) -> &mut Out {
        self.buffer(text.as_bytes())
    }

    /// The message as it goes over the wire: with its length before it.
    pub fn framed(self) -> Vec<u8> {
        let mut frame = Out(Vec::with_capacity(self.0.len() + 4));
        frame.buffer(&self.0);
        frame.0
    }
}

/// A message being read.
#[derive(Debug, Clone, Copy)]
pub struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    /// Reads from the first byte.
    pub fn new(bytes: &'a [u8]) -> In<'a> {
        In(bytes)
    }

    /// Is everything read?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Garbled> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Garbled)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A 32-bit number.
    pub fn int(&mut self) -> Result<i32, Garbled> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().map_err(|_| Garbled)?))
    }

    /// A 64-bit number.
    pub fn long(&mut self) -> Result<i64, Garbled> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into().map_err(|_| Garbled)?))
    }

    /// A byte that is 0 or not.
    pub fn flag(&mut self) -> Result<bool, Garbled> {
        Ok(self.take(1)?.iter().any(|byte| *byte != 0))
    }

    /// Bytes with their length.
    pub fn buffer(&mut self) -> Result<&'a [u8], Garbled> {
        match self.int()? {
            -1 => Ok(&[]),
            length => self.take(usize::try_from(length).map_err(|_| Garbled)?),
        }
    }

    /// Text with its length in bytes; what is no UTF-8 is replaced.
    pub fn text(&mut self) -> Result<String, Garbled> {
        Ok(String::from_utf8_lossy(self.buffer()?).into_owned())
    }

    /// A list of texts.
    pub fn texts(&mut self) -> Result<Vec<String>, Garbled> {
        let count = self.int()?.max(0);
        // Each has a length of four bytes at least: no memory for a number that somebody has made up.
        (0..count).map(|_| self.text()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Out::default();
        out.int(-2).long(1 << 40).flag(true).text("ä").buffer(&[]).int(2).text("a").text("");
        let frame = out.framed();
        let mut read = In::new(&frame);
        assert_eq!(read.int(), Ok(i32::try_from(frame.len() - 4).unwrap_or_default()));
        assert_eq!((read.int(), read.long(), read.flag()), (Ok(-2), Ok(1 << 40), Ok(true)));
        assert_eq!((read.text().as_deref(), read.buffer()), (Ok("ä"), Ok(&[][..])));
        assert_eq!(read.texts(), Ok(vec!["a".to_owned(), String::new()]));
        assert!(read.is_empty());
    }

    #[test]
    fn garbage_is_refused() {
        let lengths: [&[u8]; 5] =
            [&[], &[0, 0, 0], &[0, 0, 0, 9, 1], &[0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xfe]];
        for bytes in lengths {
            assert_eq!(In::new(bytes).buffer(), Err(Garbled), "{bytes:?}");
            assert_eq!(In::new(bytes).text(), Err(Garbled), "{bytes:?}");
        }
        assert_eq!(In::new(&[0x7f, 0xff, 0xff, 0xff, 0]).texts(), Err(Garbled));
        assert_eq!(In::new(&[0xff, 0xff, 0xff, 0xff]).buffer(), Ok(&[][..]));
    }
}
