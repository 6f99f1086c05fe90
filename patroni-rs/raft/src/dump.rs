//! The full dump: the state at one entry, in a file and on its way to who lacks the entries before it.
//!
//! gzip of the pickle `(attributes, last applied entry, the one before it, {members})`, as PySyncObj 0.3.17
//! `serializer.py` (MIT, Filipp Ozinov) writes it. The attributes are those of the reference's object: the dictionary.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Arc;

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use flate2::Compression;

use crate::entry::Entry;
use crate::pickle::{self, Value};

const DATA: &str = "_KVStoreTTL__data";
const CODE_VERSION: &str = "_SyncObj__enabledCodeVersion";
/// What a dump may become.
const LARGEST: u64 = 256 * 1024 * 1024;

/// A dump.
#[derive(Debug, Clone, PartialEq)]
pub struct Dump {
    /// The replicated dictionary.
    pub data: Value,
    /// The last entry that is in it.
    pub last: Entry,
    /// The one before.
    pub prev: Entry,
    /// All members, with the one that has made it.
    pub members: BTreeSet<Arc<str>>,
}

impl Dump {
    /// As it is stored and sent.
    pub fn encode(&self) -> Vec<u8> {
        let attributes = Value::dict([(CODE_VERSION, Value::Int(0)), (DATA, self.data.clone())]);
        let members = self.members.iter().map(|address| Value::Node(Arc::clone(address))).collect();
        let (last, prev) = (self.last.to_value(), self.prev.to_value());
        let pickled = pickle::dump(&Value::Tuple(vec![attributes, last, prev, Value::Set(members)]));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
        // Writing to memory does not fail.
        encoder.write_all(&pickled).and_then(|()| encoder.finish()).unwrap_or_default()
    }

    /// From a file, or from what a leader has sent.
    ///
    /// # Errors
    /// It is damaged, or of something else.
    pub fn decode(bytes: &[u8]) -> Result<Dump, String> {
        let mut pickled = Vec::new();
        let mut decoder = GzDecoder::new(bytes).take(LARGEST + 1);
        decoder.read_to_end(&mut pickled).map_err(|e| e.to_string())?;
        if pickled.len() as u64 > LARGEST {
            return Err("it is too large".into());
        }
        let value = pickle::load(&pickled).map_err(|e| e.to_string())?;
        let read = || -> Option<Dump> {
            let [attributes, last, prev, Value::Set(members)] = value.items()? else { return None };
            let address = |member: &Value| match member {
                Value::Node(address) => Some(Arc::clone(address)),
                _ => None,
            };
            let (last, prev) = (Entry::of_value(last)?, Entry::of_value(prev)?);
            if prev.index + 1 != last.index
                || !attributes.get(CODE_VERSION).is_none_or(|v| *v == Value::Int(0))
            {
                return None;
            }
            let members = members.iter().map(address).collect::<Option<BTreeSet<_>>>()?;
            Some(Dump { data: attributes.get(DATA)?.clone(), last, prev, members })
        };
        read().ok_or_else(|| "it is no dump of Patroni's dictionary".into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let entry = |index| Entry { command: [0, 1].as_slice().into(), index, term: 3 };
        let data = Value::dict([("/service/a/leader", Value::dict([("value", Value::str("n1"))]))]);
        let members = ["10.0.0.1:5".into(), "[::1]:2222".into()].into_iter().collect();
        let dump = Dump { data, last: entry(8), prev: entry(7), members };
        let bytes = dump.encode();
        assert_eq!(Dump::decode(&bytes), Ok(dump.clone()));
        for damaged in [&bytes[..bytes.len() / 2], b"", b"nonsense"] {
            assert!(Dump::decode(damaged).is_err());
        }
        assert!(Dump::decode(&Dump { prev: entry(3), ..dump }.encode()).is_err());
    }
}
