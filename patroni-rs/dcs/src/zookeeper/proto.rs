//! The messages of ZooKeeper's protocol that we speak.

use std::sync::Arc;
use std::time::Duration;

use super::jute::{Garbled, In, Out};

/// Numbers of requests that are no operations.
pub mod xid {
    /// An event of a watch.
    pub const EVENT: i32 = -1;
    /// A heartbeat.
    pub const PING: i32 = -2;
    /// Credentials.
    pub const AUTH: i32 = -4;
}

/// An entry of an access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// Read 1, write 2, create 4, delete 8, admin 16.
    pub permissions: i32,
    /// `world`, `x509`.
    pub scheme: String,
    /// Who.
    pub id: String,
}

/// A version that any znode has.
pub const ANY: i32 = -1;

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Makes a znode, which ends with the session if it is ephemeral.
    Create { path: String, value: Vec<u8>, acl: Arc<[Acl]>, ephemeral: bool },
    /// Deletes a znode that has this version.
    Delete { path: String, version: i32 },
    /// Its properties; with a one-shot watch, also where it is not there.
    Exists { path: String, watch: bool },
    /// Its value and properties.
    Get { path: String },
    /// A new value where it has this version.
    Set { path: String, value: Vec<u8>, version: i32 },
    /// The names of its children and its own properties.
    Children { path: String, watch: bool },
    /// All that was committed when the leader of the ensemble hears of this is seen by what is read after it.
    Sync { path: String },
    /// Within a [`Op::Multi`]: it has this version.
    Check { path: String, version: i32 },
    /// All or nothing.
    Multi(Vec<Op>),
    /// A watch of everything below the path, until the connection ends (3.6 and later).
    AddWatch { path: String },
    /// Ends the session; its ephemeral znodes go.
    Close,
}

impl Op {
    fn code(&self) -> i32 {
        match self {
            Op::Create { .. } => 1,
            Op::Delete { .. } => 2,
            Op::Exists { .. } => 3,
            Op::Get { .. } => 4,
            Op::Set { .. } => 5,
            Op::Sync { .. } => 9,
            Op::Children { .. } => 12,
            Op::Check { .. } => 13,
            Op::Multi(_) => 14,
            Op::AddWatch { .. } => 106,
            Op::Close => -11,
        }
    }

    fn write(&self, out: &mut Out) {
        match self {
            Op::Create { path, value, acl, ephemeral } => {
                out.text(path).buffer(value).int(i32::try_from(acl.len()).unwrap_or(i32::MAX));
                for entry in acl.iter() {
                    out.int(entry.permissions).text(&entry.scheme).text(&entry.id);
                }
                out.int(i32::from(*ephemeral));
            }
            Op::Delete { path, version } | Op::Check { path, version } => {
                out.text(path).int(*version);
            }
            Op::Exists { path, watch } | Op::Children { path, watch } => {
                out.text(path).flag(*watch);
            }
            Op::Get { path } => {
                out.text(path).flag(false);
            }
            Op::Set { path, value, version } => {
                out.text(path).buffer(value).int(*version);
            }
            Op::Sync { path } => {
                out.text(path);
            }
            Op::Multi(ops) => {
                for op in ops {
                    out.int(op.code()).flag(false).int(-1);
                    op.write(out);
                }
                out.int(-1).flag(true).int(-1);
            }
            Op::AddWatch { path } => {
                out.text(path).int(PERSISTENT_RECURSIVE);
            }
            Op::Close => {}
        }
    }

    /// The message of this operation under that number.
    pub fn frame(&self, xid: i32) -> Vec<u8> {
        let mut out = Out::default();
        out.int(xid).int(self.code());
        self.write(&mut out);
        out.framed()
    }

    /// Reads the answer to this operation, of a reply without an error.
    pub fn answer(&self, body: &mut In<'_>) -> Result<Answer, Garbled> {
        match self {
            Op::Multi(ops) => Ok(Answer::Multi(multi_answer(ops, body)?)),
            Op::Create { .. } | Op::Sync { .. } => body.text().map(|_| Answer::Done),
            Op::Delete { .. } | Op::Check { .. } | Op::AddWatch { .. } | Op::Close => Ok(Answer::Done),
            Op::Exists { .. } | Op::Set { .. } => Stat::read(body).map(Answer::Stat),
            Op::Get { .. } => {
                let value = body.buffer()?.to_vec();
                Ok(Answer::Value(value, Stat::read(body)?))
            }
            Op::Children { .. } => {
                let names = body.texts()?;
                Ok(Answer::Children(names, Stat::read(body)?))
            }
        }
    }
}

const PERSISTENT_RECURSIVE: i32 = 1;

fn multi_answer(ops: &[Op], body: &mut In<'_>) -> Result<Vec<Result<Answer, Code>>, Garbled> {
    let mut answers = Vec::new();
    loop {
        let (kind, done, _) = (body.int()?, body.flag()?, body.int()?);
        if done {
            return if answers.len() == ops.len() { Ok(answers) } else { Err(Garbled) };
        }
        let op = ops.get(answers.len()).ok_or(Garbled)?;
        answers.push(if kind == -1 { Err(Code(body.int()?)) } else { Ok(op.answer(body)?) });
    }
}

/// A heartbeat.
pub fn ping() -> Vec<u8> {
    let mut out = Out::default();
    out.int(xid::PING).int(11);
    out.framed()
}

/// Credentials.
pub fn auth(scheme: &str, credential: &str) -> Vec<u8> {
    let mut out = Out::default();
    out.int(xid::AUTH).int(100).int(0).text(scheme).text(credential);
    out.framed()
}

/// A step of SASL.
pub fn sasl(xid: i32, token: &[u8]) -> Vec<u8> {
    let mut out = Out::default();
    out.int(xid).int(102).buffer(token);
    out.framed()
}

/// The answer to an operation that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing to tell.
    Done,
    /// Properties.
    Stat(Stat),
    /// Value and properties.
    Value(Vec<u8>, Stat),
    /// Names of the children, and properties.
    Children(Vec<String>, Stat),
    /// Of each operation.
    Multi(Vec<Result<Answer, Code>>),
}

/// The properties of a znode that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// The transaction that has made it.
    pub czxid: i64,
    /// The last one that has changed its value.
    pub mzxid: i64,
    /// How often its value was changed.
    pub version: i32,
    /// How often children of it were made or deleted.
    pub cversion: i32,
    /// The session that it ends with; 0: with none.
    pub owner: i64,
    /// So many children.
    pub children: i32,
    /// The last transaction that has made or deleted a child of it.
    pub pzxid: i64,
}

impl Stat {
    fn read(body: &mut In<'_>) -> Result<Stat, Garbled> {
        let (czxid, mzxid, _ctime, _mtime) = (body.long()?, body.long()?, body.long()?, body.long()?);
        let (version, cversion, _aversion) = (body.int()?, body.int()?, body.int()?);
        let (owner, _length, children, pzxid) = (body.long()?, body.int()?, body.int()?, body.long()?);
        Ok(Stat { czxid, mzxid, version, cversion, owner, children, pzxid })
    }
}

/// An error code of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub i32);

impl Code {
    /// It does not know this kind of request.
    pub const UNIMPLEMENTED: Code = Code(-6);
    /// No such znode.
    pub const NO_NODE: Code = Code(-101);
    /// The access control list does not let us.
    pub const NO_AUTH: Code = Code(-102);
    /// Another version.
    pub const BAD_VERSION: Code = Code(-103);
    /// There is such a znode.
    pub const NODE_EXISTS: Code = Code(-110);
    /// It has children.
    pub const NOT_EMPTY: Code = Code(-111);
    /// The session has ended.
    pub const SESSION_EXPIRED: Code = Code(-112);
    /// Who we are is not believed.
    pub const AUTH_FAILED: Code = Code(-115);
    /// The session goes on at another server.
    pub const SESSION_MOVED: Code = Code(-118);
    /// The server has no quorum, and only reads.
    pub const NOT_READ_ONLY: Code = Code(-119);
    /// Only who has authenticated may be here.
    pub const AUTH_REQUIRED: Code = Code(-124);

    /// As the reference's library names it.
    pub fn name(self) -> &'static str {
        match self.0 {
            -1 => "SystemZookeeperError",
            -2 => "RuntimeInconsistency",
            -3 => "DataInconsistency",
            -4 => "ConnectionLoss",
            -5 => "MarshallingError",
            -6 => "UnimplementedError",
            -7 => "OperationTimeoutError",
            -8 => "BadArgumentsError",
            -100 => "APIError",
            -101 => "NoNodeError",
            -102 => "NoAuthError",
            -103 => "BadVersionError",
            -108 => "NoChildrenForEphemeralsError",
            -110 => "NodeExistsError",
            -111 => "NotEmptyError",
            -112 => "SessionExpiredError",
            -113 => "InvalidCallbackError",
            -114 => "InvalidACLError",
            -115 => "AuthFailedError",
            -118 => "SessionMovedError",
            -119 => "NotReadOnlyCallError",
            -124 => "SessionClosedRequireAuthError",
            -125 => "QuotaExceededError",
            -127 => "ThrottledOpError",
            _ => "ZookeeperError",
        }
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

/// The head of each message from the server but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Of the request.
    pub xid: i32,
    /// The newest transaction that the server knows.
    pub zxid: i64,
    /// None: it was done.
    pub error: Option<Code>,
}

impl Head {
    /// Reads the head; the body follows.
    pub fn read(message: &mut In<'_>) -> Result<Head, Garbled> {
        let (xid, zxid, error) = (message.int()?, message.long()?, message.int()?);
        Ok(Head { xid, zxid, error: (error != 0).then_some(Code(error)) })
    }
}

/// What a watch has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Of the znode that was made, deleted or changed, or whose children are others.
    pub path: String,
}

impl Event {
    /// Reads the body of a message with [`xid::EVENT`].
    pub fn read(body: &mut In<'_>) -> Result<Event, Garbled> {
        let (_kind, _state) = (body.int()?, body.int()?);
        Ok(Event { path: body.text()? })
    }
}

/// A session.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// The number by which znodes have it as their owner.
    pub id: i64,
    /// Who knows it may go on with the session.
    pub password: Vec<u8>,
    /// It ends so long after the servers have last heard of us.
    pub timeout: Duration,
}

/// Shows everything but the password.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:#x}, {:?})", self.id, self.timeout)
    }
}

/// The first message of a connection: a new session, or that one goes on.
pub fn connect(session: Option<&Session>, timeout: Duration, last_zxid: i64) -> Vec<u8> {
    let none = [0; 16];
    let (id, password) = session.map_or((0, none.as_slice()), |s| (s.id, s.password.as_slice()));
    let mut out = Out::default();
    out.int(0).long(last_zxid).int(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)).long(id);
    // Not at a server without a quorum.
    out.buffer(password).flag(false);
    out.framed()
}

/// The answer to the first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// The session is there.
    Welcome(Session),
    /// There is no such session any more.
    Expired,
    /// The server has no quorum.
    ReadOnly,
}

impl Greeting {
    /// Reads the answer to [`connect`].
    pub fn read(message: &mut In<'_>) -> Result<Greeting, Garbled> {
        let (_version, timeout, id) = (message.int()?, message.int()?, message.long()?);
        let password = message.buffer()?.to_vec();
        // Servers before 3.4 do not say it.
        let read_only = !message.is_empty() && message.flag()?;
        let timeout = Duration::from_millis(u64::try_from(timeout).unwrap_or(0));
        Ok(match (read_only, timeout.is_zero() || id == 0) {
            (_, true) => Greeting::Expired,
            (true, _) => Greeting::ReadOnly,
            _ => Greeting::Welcome(Session { id, password, timeout }),
        })
    }
}

#[cfg(test)]
#[path = "proto_tests.rs"]
mod tests;
