//! The reader.

use std::sync::Arc;

use super::Value;

/// Values in one pickle, those counted twice that are referred to twice.
const MOST_VALUES: usize = 2_000_000;
/// Values in values.
const DEEPEST: usize = 40;
/// Values that are not yet part of another one. CPython writes collections in groups of a thousand.
const MOST_OPEN: usize = 10_000;

/// What is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PickleError {
    /// It ends too early.
    Short,
    /// An opcode that is not needed.
    Opcode(u8),
    /// The name of something that is not known here.
    Name(String),
    /// It makes no sense, or is too much.
    Malformed(&'static str),
}

impl std::fmt::Display for PickleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PickleError::Short => write!(f, "it ends too early"),
            PickleError::Opcode(code) => write!(f, "opcode 0x{code:02x} is not permitted"),
            PickleError::Name(name) => write!(f, "{name} is not permitted"),
            PickleError::Malformed(text) => write!(f, "{text}"),
        }
    }
}

type Result<T> = std::result::Result<T, PickleError>;

/// The names that a pickle may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// `_codecs.encode`: how protocol 2 writes bytes.
    Encode,
    /// `bytes`: of an empty one.
    Bytes,
    /// `set`.
    Set,
    /// `pysyncobj.node.TCPNode`.
    TcpNode,
}

#[derive(Debug, Clone)]
enum Item {
    Mark,
    Name(Name),
    /// A node whose state has not been read.
    Blank,
    Value(Value),
}

#[derive(Debug, Clone)]
enum Memo {
    /// A list, dictionary or set: what is put into it later would be seen at both places. Nothing refers to one twice.
    Mutable,
    Item(Item, usize),
}

struct Reader<'a> {
    rest: &'a [u8],
    stack: Vec<Item>,
    memo: Vec<Memo>,
    budget: usize,
}

/// Reads one pickle.
///
/// # Errors
/// It is not one, ends early, is too large, or holds what is not known here.
pub fn load(bytes: &[u8]) -> Result<Value> {
    let mut reader = Reader { rest: bytes, stack: Vec::new(), memo: Vec::new(), budget: MOST_VALUES };
    reader.run()
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Tuple(items) | Value::List(items) | Value::Set(items) => items.iter().map(count).sum(),
        Value::Dict(items) => items.iter().map(|(key, value)| count(key) + count(value)).sum(),
        _ => 0,
    }
}

/// Is it nested no deeper than that?
fn within(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else { return false };
    match value {
        Value::Tuple(items) | Value::List(items) | Value::Set(items) => {
            items.iter().all(|v| within(v, below))
        }
        Value::Dict(items) => items.iter().all(|(k, v)| within(k, below) && within(v, below)),
        _ => true,
    }
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(PickleError::Short)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| PickleError::Short)
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn length(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn line(&mut self) -> Result<&'a str> {
        let end = self.rest.iter().take(200).position(|byte| *byte == b'\n').ok_or(PickleError::Short)?;
        let line = self.take(end + 1)?.get(..end).ok_or(PickleError::Short)?;
        std::str::from_utf8(line).map_err(|_| PickleError::Malformed("a name is not text"))
    }

    fn spend(&mut self, values: usize) -> Result<()> {
        if self.stack.len() > MOST_OPEN {
            return Err(PickleError::Malformed("too many open values"));
        }
        self.budget = self.budget.checked_sub(values).ok_or(PickleError::Malformed("too many values"))?;
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.spend(1)?;
        self.stack.push(Item::Value(value));
        Ok(())
    }

    fn pop_item(&mut self) -> Result<Item> {
        self.stack.pop().ok_or(PickleError::Malformed("nothing is there"))
    }

    fn pop(&mut self) -> Result<Value> {
        match self.pop_item()? {
            Item::Value(value) => Ok(value),
            _ => Err(PickleError::Malformed("not a value")),
        }
    }

    fn until_mark(&mut self) -> Result<Vec<Value>> {
        let mut values = Vec::new();
        loop {
            match self.pop_item()? {
                Item::Mark => break,
                Item::Value(value) => values.push(value),
                _ => return Err(PickleError::Malformed("not a value")),
            }
        }
        values.reverse();
        Ok(values)
    }

    fn tuple(&mut self, values: Vec<Value>) -> Result<()> {
        let tuple = Value::Tuple(values);
        if !within(&tuple, DEEPEST) {
            return Err(PickleError::Malformed("too deep"));
        }
        self.push(tuple)
    }

    fn pops(&mut self, count: usize) -> Result<Vec<Value>> {
        let mut values = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        values.reverse();
        Ok(values)
    }

    fn append(&mut self, more: Vec<Value>) -> Result<()> {
        let Some(Item::Value(Value::List(list))) = self.stack.last_mut() else {
            return Err(PickleError::Malformed("not a list"));
        };
        list.extend(more);
        Ok(())
    }

    fn set_items(&mut self, values: Vec<Value>) -> Result<()> {
        let Some(Item::Value(Value::Dict(items))) = self.stack.last_mut() else {
            return Err(PickleError::Malformed("not a dict"));
        };
        let mut values = values.into_iter();
        while let Some(key) = values.next() {
            let value = values.next().ok_or(PickleError::Malformed("a key without a value"))?;
            if !matches!(key, Value::Str(_) | Value::Int(_)) {
                return Err(PickleError::Malformed("not a key"));
            }
            // The last one counts. (Only small ones can have one twice: that would cost too much to look for.)
            match items.iter_mut().take(64).find(|(known, _)| *known == key) {
                Some((_, old)) => *old = value,
                None => items.push((key, value)),
            }
        }
        Ok(())
    }

    fn memoize(&mut self, index: usize) -> Result<()> {
        let memo = match self.stack.last() {
            None => return Err(PickleError::Malformed("nothing is there")),
            Some(Item::Value(Value::List(_) | Value::Dict(_) | Value::Set(_) | Value::Node(_)))
            | Some(Item::Blank) => Memo::Mutable,
            Some(Item::Value(value)) => Memo::Item(Item::Value(value.clone()), count(value)),
            Some(item) => Memo::Item(item.clone(), 1),
        };
        // The names are given out in order.
        match index.cmp(&self.memo.len()) {
            std::cmp::Ordering::Equal => {
                if let Memo::Item(_, size) = &memo {
                    self.spend(*size)?;
                }
                self.memo.push(memo);
                Ok(())
            }
            _ => Err(PickleError::Malformed("a memo out of order")),
        }
    }

    fn recall(&mut self, index: usize) -> Result<()> {
        match self.memo.get(index).cloned() {
            Some(Memo::Item(item, size)) => {
                self.spend(size)?;
                self.stack.push(item);
                Ok(())
            }
            Some(Memo::Mutable) => Err(PickleError::Malformed("a collection that is referred to twice")),
            None => Err(PickleError::Malformed("a reference to nothing")),
        }
    }

    fn global(&mut self) -> Result<()> {
        let (module, name) = (self.line()?, self.line()?);
        let known = match (module, name) {
            ("_codecs", "encode") => Name::Encode,
            ("__builtin__" | "builtins", "bytes") => Name::Bytes,
            ("__builtin__" | "builtins", "set") => Name::Set,
            ("pysyncobj.node", "TCPNode") => Name::TcpNode,
            _ => return Err(PickleError::Name(format!("{module}.{name}"))),
        };
        self.spend(1)?;
        self.stack.push(Item::Name(known));
        Ok(())
    }

    fn reduce(&mut self) -> Result<()> {
        let Value::Tuple(arguments) = self.pop()? else {
            return Err(PickleError::Malformed("not arguments"));
        };
        let Item::Name(name) = self.pop_item()? else { return Err(PickleError::Malformed("not a name")) };
        let value = match (name, arguments.as_slice()) {
            (Name::Encode, [Value::Str(text), Value::Str(codec)]) if **codec == *"latin1" => {
                let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
                Value::Bytes(bytes.ok_or(PickleError::Malformed("not latin1"))?.into())
            }
            (Name::Bytes, []) => Value::bytes(&[]),
            (Name::Set, [Value::List(items)]) => Value::Set(items.clone()),
            _ => return Err(PickleError::Malformed("a call that is not known")),
        };
        self.push(value)
    }

    fn new_object(&mut self) -> Result<()> {
        let arguments = self.pop()?;
        let Item::Name(Name::TcpNode) = self.pop_item()? else {
            return Err(PickleError::Malformed("an object that is not known"));
        };
        if arguments != Value::Tuple(Vec::new()) {
            return Err(PickleError::Malformed("a node with arguments"));
        }
        self.stack.push(Item::Blank);
        Ok(())
    }

    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let Item::Blank = self.pop_item()? else { return Err(PickleError::Malformed("not a node")) };
        match state.get("_id").or_else(|| state.get("_TCPNode__address")) {
            Some(Value::Str(address)) => {
                let address = Arc::clone(address);
                self.push(Value::Node(address))
            }
            _ => Err(PickleError::Malformed("a node without an address")),
        }
    }

    fn run(&mut self) -> Result<Value> {
        loop {
            let code = self.byte()?;
            match code {
                0x80 => {
                    // Protocol 1 has no mark of its own.
                    if !(2..=5).contains(&self.byte()?) {
                        return Err(PickleError::Malformed("a protocol that is not known"));
                    }
                }
                b'.' => {
                    let value = self.pop()?;
                    if !self.stack.is_empty() || !within(&value, DEEPEST) {
                        return Err(PickleError::Malformed("more than one value, or too deep"));
                    }
                    return Ok(value);
                }
                b'(' => {
                    self.spend(1)?;
                    self.stack.push(Item::Mark);
                }
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                b'K' => {
                    let number = self.byte()?;
                    self.push(Value::Int(number.into()))?;
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(number.into()))?;
                }
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(number.into()))?;
                }
                0x8a => {
                    let size = usize::from(self.byte()?);
                    let number = long(self.take(size)?)?;
                    self.push(Value::Int(number))?;
                }
                b'G' => {
                    let number = f64::from_be_bytes(self.array()?);
                    self.push(Value::Float(number))?;
                }
                b'X' => {
                    let size = self.length()?;
                    let text = std::str::from_utf8(self.take(size)?)
                        .map_err(|_| PickleError::Malformed("a text that is not UTF-8"))?;
                    self.push(Value::str(text))?;
                }
                b')' => self.push(Value::Tuple(Vec::new()))?,
                0x85..=0x87 => {
                    let values = self.pops(usize::from(code - 0x84))?;
                    self.tuple(values)?;
                }
                b't' => {
                    let values = self.until_mark()?;
                    self.tuple(values)?;
                }
                b']' => self.push(Value::List(Vec::new()))?,
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b'a' => {
                    let value = self.pops(1)?;
                    self.append(value)?;
                }
                b'e' => {
                    let values = self.until_mark()?;
                    self.append(values)?;
                }
                b's' => {
                    let pair = self.pops(2)?;
                    self.set_items(pair)?;
                }
                b'u' => {
                    let values = self.until_mark()?;
                    self.set_items(values)?;
                }
                b'q' => {
                    let index = self.byte()?;
                    self.memoize(index.into())?;
                }
                b'r' => {
                    let index = self.length()?;
                    self.memoize(index)?;
                }
                b'h' => {
                    let index = self.byte()?;
                    self.recall(index.into())?;
                }
                b'j' => {
                    let index = self.length()?;
                    self.recall(index)?;
                }
                b'c' => self.global()?,
                b'R' => self.reduce()?,
                0x81 => self.new_object()?,
                b'b' => self.build()?,
                other => return Err(PickleError::Opcode(other)),
            }
        }
    }
}

fn long(bytes: &[u8]) -> Result<i64> {
    if bytes.len() > 8 {
        return Err(PickleError::Malformed("too large a number"));
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut whole = if negative { [0xff; 8] } else { [0; 8] };
    whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    Ok(i64::from_le_bytes(whole))
}
