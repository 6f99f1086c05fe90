//! The writer: what CPython's C pickler writes at protocol 2.
//!
//! CPython refers to a text by its place in the memo where it is the same object. Here a text that is equal to an earlier
//! one of the same pickle counts as the same: so it is in what the reference writes (its constants, and the name that is
//! both the value and the condition), and for a reader there is no difference.

use std::collections::HashMap;
use std::sync::Arc;

use super::Value;

/// CPython writes the items of a collection in groups.
const GROUP: usize = 1000;

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    texts: HashMap<Arc<str>, usize>,
    names: HashMap<&'static str, usize>,
    memo: usize,
}

/// Writes one pickle.
pub fn dump(value: &Value) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.out.extend([0x80, 2]);
    writer.value(value);
    writer.out.push(b'.');
    writer.out
}

impl Writer {
    fn put_memo(&mut self) -> usize {
        let index = self.memo;
        self.memo += 1;
        self.indexed(b'q', b'r', index);
        index
    }

    fn indexed(&mut self, short: u8, long: u8, index: usize) {
        if let Ok(index) = u8::try_from(index) {
            self.out.extend([short, index]);
        } else {
            self.out.push(long);
            self.length(index);
        }
    }

    fn length(&mut self, length: usize) {
        // A pickle of 4 GiB is not written: frames are smaller.
        self.out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &Arc<str>) {
        if let Some(index) = self.texts.get(text).copied() {
            self.indexed(b'h', b'j', index);
            return;
        }
        self.fresh_text(text);
        self.texts.insert(Arc::clone(text), self.memo - 1);
    }

    fn fresh_text(&mut self, text: &str) {
        self.out.push(b'X');
        self.length(text.len());
        self.out.extend(text.as_bytes());
        self.put_memo();
    }

    /// `name` is as the pickle has it: module and name, a line each.
    fn name(&mut self, name: &'static str) {
        if let Some(index) = self.names.get(name).copied() {
            self.indexed(b'h', b'j', index);
            return;
        }
        self.out.push(b'c');
        self.out.extend(name.as_bytes());
        let index = self.put_memo();
        self.names.insert(name, index);
    }

    fn int(&mut self, number: i64) {
        if let Ok(number) = u8::try_from(number) {
            self.out.extend([b'K', number]);
        } else if let Ok(number) = u16::try_from(number) {
            self.out.push(b'M');
            self.out.extend(number.to_le_bytes());
        } else if let Ok(number) = i32::try_from(number) {
            self.out.push(b'J');
            self.out.extend(number.to_le_bytes());
        } else {
            // As few bytes as the sign permits.
            let mut bytes = number.to_le_bytes().to_vec();
            let sign = if number < 0 { 0xff } else { 0 };
            while let [.., before, last] = bytes.as_slice() {
                if *last != sign || (before & 0x80) != (sign & 0x80) {
                    break;
                }
                bytes.pop();
            }
            self.out.extend([0x8a, u8::try_from(bytes.len()).unwrap_or(8)]);
            self.out.extend(bytes);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.name("__builtin__\nbytes\n");
            self.out.extend(b")R");
        } else {
            self.name("_codecs\nencode\n");
            let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
            self.fresh_text(&text);
            self.text(&"latin1".into());
            self.out.push(0x86);
            self.put_memo();
            self.out.push(b'R');
        }
        self.put_memo();
    }

    fn tuple(&mut self, items: &[Value]) {
        let code = match items.len() {
            0 => return self.out.push(b')'),
            1 => 0x85,
            2 => 0x86,
            3 => 0x87,
            _ => {
                self.out.push(b'(');
                b't'
            }
        };
        items.iter().for_each(|item| self.value(item));
        self.out.push(code);
        self.put_memo();
    }

    fn list(&mut self, items: &[Value]) {
        self.out.push(b']');
        self.put_memo();
        if let [item] = items {
            self.value(item);
            return self.out.push(b'a');
        }
        for group in items.chunks(GROUP) {
            self.out.push(b'(');
            group.iter().for_each(|item| self.value(item));
            self.out.push(b'e');
        }
    }

    fn dict<'v>(&mut self, items: impl ExactSizeIterator<Item = (&'v Value, &'v Value)>) {
        self.out.push(b'}');
        self.put_memo();
        let count = items.len();
        for (number, (key, value)) in items.enumerate() {
            if count > 1 && number.is_multiple_of(GROUP) {
                self.out.push(b'(');
            }
            self.value(key);
            self.value(value);
            if count > 1 && (number % GROUP == GROUP - 1 || number == count - 1) {
                self.out.push(b'u');
            }
        }
        if count == 1 {
            self.out.push(b's');
        }
    }

    fn node(&mut self, address: &Arc<str>) {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
        let port = port.parse().unwrap_or(0);
        self.name("pysyncobj.node\nTCPNode\n");
        self.out.extend([b')', 0x81]);
        self.put_memo();
        let state = [
            (Value::str("_id"), Value::Str(Arc::clone(address))),
            (Value::str("_TCPNode__address"), Value::Str(Arc::clone(address))),
            (Value::str("_TCPNode__host"), Value::str(host)),
            (Value::str("_TCPNode__port"), Value::Int(port)),
        ];
        self.dict(state.iter().map(|(key, value)| (key, value)));
        self.out.push(b'b');
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::None => self.out.push(b'N'),
            Value::Bool(true) => self.out.push(0x88),
            Value::Bool(false) => self.out.push(0x89),
            Value::Int(number) => self.int(*number),
            Value::Float(number) => {
                self.out.push(b'G');
                self.out.extend(number.to_be_bytes());
            }
            Value::Str(text) => self.text(text),
            Value::Bytes(bytes) => self.bytes(bytes),
            Value::Tuple(items) => self.tuple(items),
            Value::List(items) => self.list(items),
            Value::Dict(items) => self.dict(items.iter().map(|(key, value)| (key, value))),
            Value::Set(items) => {
                self.name("__builtin__\nset\n");
                self.list(items);
                self.out.push(0x85);
                self.put_memo();
                self.out.push(b'R');
                self.put_memo();
            }
            Value::Node(address) => self.node(address),
        }
    }
}
