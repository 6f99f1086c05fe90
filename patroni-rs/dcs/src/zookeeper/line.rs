//! A connection and what is on its way over it: answers come in the order of the requests.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connect::Wire;
use super::proto::{Answer, Code, Op};

/// Operations that are sent in one go, in this order.
pub struct Exchange {
    /// What is asked.
    pub ops: Vec<Op>,
    /// Only if this is the session; None: whichever it is.
    pub session: Option<i64>,
    /// Later an answer is of no use.
    pub deadline: Instant,
    /// Where the answers go.
    pub sink: oneshot::Sender<Result<Vec<Reply>, Broken>>,
}

/// The answer to one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The newest transaction that the server knew.
    pub zxid: i64,
    /// What it says.
    pub result: Result<Answer, Code>,
}

/// Why there are no answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// There was no connection: nothing was sent.
    NotSent,
    /// The connection was lost: it may have been done.
    Lost,
    /// The session is not that one any more: nothing was sent.
    OtherSession,
}

/// A request on the wire.
pub struct Pending {
    /// Its number.
    pub xid: i32,
    /// What was asked.
    pub op: Op,
    sent: Instant,
}

/// What came in one go.
struct Group {
    missing: usize,
    replies: Vec<Reply>,
    sink: oneshot::Sender<Result<Vec<Reply>, Broken>>,
}

/// A connection and what is on its way.
pub struct Line {
    /// The connection.
    pub wire: Wire,
    xid: i32,
    /// When something was sent last.
    pub sent: Instant,
    /// When the heartbeat was sent that is not answered.
    pub pinged: Option<Instant>,
    /// Sent and not answered, in this order.
    pub pending: VecDeque<Pending>,
    groups: VecDeque<Group>,
}

impl Line {
    /// Nothing is on its way.
    pub fn new(wire: Wire) -> Line {
        let none = VecDeque::new;
        Line { wire, xid: 0, sent: Instant::now(), pinged: None, pending: none(), groups: VecDeque::new() }
    }

    /// When the oldest message was sent that has no answer.
    pub fn oldest(&self) -> Option<Instant> {
        [self.pinged, self.pending.front().map(|pending| pending.sent)].into_iter().flatten().min()
    }

    /// Sends within `patience`.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send(&mut self, frames: &[u8], patience: Duration) -> std::io::Result<()> {
        self.sent = Instant::now();
        let sent = timeout(patience, self.wire.send(frames)).await;
        sent.unwrap_or_else(|_| Err(std::io::Error::other("socket time-out during write")))
    }

    /// What is to be sent for these operations, which wait for their answers from now on.
    pub fn enqueue(&mut self, exchange: Exchange) -> Vec<u8> {
        let sent = Instant::now();
        let mut frames = Vec::new();
        let missing = exchange.ops.len();
        for op in exchange.ops {
            self.xid = self.xid.checked_add(1).unwrap_or(1);
            frames.extend(op.frame(self.xid));
            self.pending.push_back(Pending { xid: self.xid, op, sent });
        }
        if missing == 0 {
            let _ = exchange.sink.send(Ok(Vec::new()));
        } else {
            self.groups.push_back(Group { missing, replies: Vec::new(), sink: exchange.sink });
        }
        frames
    }

    /// The oldest request has this answer.
    pub fn answer(&mut self, reply: Reply) {
        let Some(mut group) = self.groups.pop_front() else { return };
        group.replies.push(reply);
        if group.replies.len() < group.missing {
            self.groups.push_front(group);
        } else {
            let _ = group.sink.send(Ok(group.replies));
        }
    }

    /// The connection is no more: whatever was on its way may have been done.
    pub fn lost(self) {
        for group in self.groups {
            let _ = group.sink.send(Err(Broken::Lost));
        }
    }
}
