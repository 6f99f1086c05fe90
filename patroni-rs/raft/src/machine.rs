//! The Raft state machine: pure. Messages, ticks and commands go in, effects come out, in the order in which they have to
//! be carried out: what is written comes before what is sent because of it.
//!
//! By the protocol of PySyncObj 0.3.17 `syncobj.py` (MIT, Filipp Ozinov), which is Raft with these differences: a vote that
//! is refused is not answered, an answer to entries does not tell its term, and an older term is ignored in silence. Where
//! PySyncObj is less strict than Raft, this is not (docs/decisions/0019-raft.md).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use patroni_core::ha::Mono;

use crate::dump::Dump;
use crate::entry::{Change, Entry};
use crate::message::{Message, Reason};
pub use seen::Numbers;

mod command;
mod election;
mod follow;
mod lead;
mod seen;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;

/// Shortest and longest wait before an election. PySyncObj's is 0.4 to 1.4 s.
const ELECTION: (Duration, Duration) = (Duration::from_millis(400), Duration::from_millis(800));
/// Between two messages of a leader.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// A leader that no majority has answered for so long is none. (PySyncObj: 30 s.)
const FALLBACK: Duration = Duration::from_millis(3500);
/// A dump is sent again if nothing is heard of it for so long.
const DUMP_AGAIN: Duration = Duration::from_secs(5);
/// Bytes of commands in one message.
const BATCH: usize = 64 * 1024;

/// Somebody that we are connected with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// A member, by its address.
    Member(Arc<str>),
    /// One that reads and asks, and has no vote.
    Reader(u64),
}

/// A number for a command of this process.
pub type Token = u64;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Add the entry to the journal.
    Append(Entry),
    /// Take the entries from that index on out of the journal.
    Cut(u64),
    /// Store term and vote.
    Vote(u64, Option<Arc<str>>),
    /// So far is committed.
    Commit(u64),
    /// A dump of the leader takes the place of everything: store it, then the journal of these entries.
    Install(Box<Dump>, Arc<[u8]>, Vec<Entry>),
    /// The journal is these entries: the rest is in the dump.
    Shorten(Vec<Entry>),
    /// Send it, after all that was stored before is on the disk.
    Send(Peer, Message),
    /// Carry the entry out, and tell these what became of it.
    Apply(Entry, Vec<Token>),
    /// The command was not carried out.
    Fail(Token, Reason),
    /// A member has come, or has gone.
    Member(Change),
    /// Close the connection: what is on its way is of an earlier time.
    Close(Peer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Follower,
    Candidate,
    Leader,
}

/// What a leader knows of a peer.
#[derive(Debug, Clone)]
struct Progress {
    /// What it is sent next.
    next: u64,
    /// What it has for certain.
    matched: u64,
    /// When it answered last.
    answered: Mono,
    /// When it was sent a dump, of which it has not said yet that it has it.
    dumped: Option<Mono>,
}

/// Who a command came from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// This process.
    Here(Token),
    /// A peer, with its number of it; None: it wants no answer.
    There(Peer, Option<u64>),
}

/// What was there at the start.
#[derive(Debug)]
pub struct Start {
    /// Our address; None: a reader.
    pub own: Option<Arc<str>>,
    /// The other members.
    pub others: BTreeSet<Arc<str>>,
    /// The entries, without a gap; at least one.
    pub entries: Vec<Entry>,
    /// The last entry that is in the state already: the dump's, or the first.
    pub applied: u64,
    /// Term, vote and what is known to be committed.
    pub meta: crate::journal::Meta,
    /// The dump.
    pub dump: Option<Arc<[u8]>>,
    /// For the elections' times.
    pub seed: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    own: Option<Arc<str>>,
    others: BTreeSet<Arc<str>>,
    connected: HashMap<Peer, Mono>,
    role: Role,
    term: u64,
    voted: Option<Arc<str>>,
    votes: HashSet<Arc<str>>,
    leader: Option<Arc<str>>,
    /// Peers of our own making, by what only those say.
    alike: HashSet<Peer>,
    log: Vec<Entry>,
    commit: u64,
    applied: u64,
    dump: Option<Arc<[u8]>>,
    progress: HashMap<Peer, Progress>,
    /// How far the leader has committed, as far as was heard.
    leader_commit: Option<u64>,
    election: Mono,
    heartbeat: Mono,
    /// The leader wants us to be elected: its messages do not put that off.
    transfer: bool,
    /// When we were leader last.
    led_until: Option<Mono>,
    /// The first entry of our own leadership.
    no_op: u64,
    /// The last change of the members.
    change: Option<u64>,
    waiting: BTreeMap<u64, Vec<(u64, Token)>>,
    asked: BTreeSet<Token>,
    /// A dump, or a large entry, of which parts have come.
    incoming_dump: Option<Vec<u8>>,
    incoming_entry: Vec<u8>,
    random: u64,
    now: Mono,
    out: Vec<Effect>,
}

impl Machine {
    /// As it was left.
    pub fn new(start: Start, now: Mono) -> Machine {
        let mut machine = Machine {
            own: start.own,
            others: start.others,
            connected: HashMap::new(),
            role: Role::Follower,
            term: start.meta.term,
            voted: start.meta.voted,
            votes: HashSet::new(),
            leader: None,
            alike: HashSet::new(),
            commit: start.meta.commit,
            applied: start.applied,
            log: start.entries,
            dump: start.dump,
            progress: HashMap::new(),
            leader_commit: None,
            election: now,
            heartbeat: now,
            transfer: false,
            led_until: None,
            no_op: 0,
            change: None,
            waiting: BTreeMap::new(),
            asked: BTreeSet::new(),
            incoming_dump: None,
            incoming_entry: Vec::new(),
            random: start.seed | 1,
            now,
            out: Vec::new(),
        };
        machine.commit = machine.commit.min(machine.last_index()).max(machine.applied);
        // A change of the members counts from when it is in the log.
        let log = std::mem::take(&mut machine.log);
        let changes: Vec<_> =
            log.iter().filter(|e| e.index > machine.applied).filter_map(Entry::change).collect();
        machine.log = log;
        for change in &changes {
            machine.change_members(change, false);
        }
        machine.out.clear();
        machine.put_off_election();
        machine.apply_committed();
        machine
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn send(&mut self, peer: &Peer, message: Message) {
        if self.connected.contains_key(peer) {
            self.out.push(Effect::Send(peer.clone(), message));
        }
    }

    fn members(&self) -> usize {
        self.others.len() + usize::from(self.own.is_some())
    }

    fn is_majority(&self, count: usize) -> bool {
        count * 2 > self.members()
    }

    // The log.

    fn first_index(&self) -> u64 {
        self.log.first().map_or(1, |entry| entry.index)
    }

    fn last_index(&self) -> u64 {
        self.log.last().map_or(1, |entry| entry.index)
    }

    fn last_term(&self) -> u64 {
        self.log.last().map_or(0, |entry| entry.term)
    }

    fn position(&self, index: u64) -> Option<usize> {
        index.checked_sub(self.first_index()).and_then(|at| usize::try_from(at).ok())
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        self.position(index).and_then(|at| self.log.get(at))
    }

    fn append(&mut self, entry: Entry) {
        self.out.push(Effect::Append(entry.clone()));
        if let Some(change) = entry.change() {
            self.change_members(&change, false);
        }
        self.log.push(entry);
    }

    /// Takes entries away, and what they have changed in the membership.
    fn cut(&mut self, index: u64) {
        let Some(at) = self.position(index).filter(|at| *at < self.log.len()) else { return };
        let gone = self.log.split_off(at);
        for change in gone.iter().rev().filter_map(Entry::change) {
            self.change_members(&change, true);
        }
        self.out.push(Effect::Cut(index));
    }

    /// True: it changes anything.
    fn change_members(&mut self, change: &Change, undo: bool) -> bool {
        let Change { add, address } = change;
        if self.own.as_ref() == Some(address) {
            return false;
        }
        let add = *add != undo;
        let changed = if add { self.others.insert(Arc::clone(address)) } else { self.others.remove(address) };
        if changed {
            let peer = Peer::Member(Arc::clone(address));
            if add && self.role == Role::Leader {
                self.begin_progress(&peer);
            } else if !add {
                self.progress.remove(&peer);
                self.connected.remove(&peer);
            }
            self.out.push(Effect::Member(Change { add, address: Arc::clone(address) }));
        }
        changed
    }

    /// Carries out what is committed.
    fn apply_committed(&mut self) {
        while self.applied < self.commit {
            let Some(entry) = self.entry(self.applied + 1).cloned() else { return };
            self.applied += 1;
            let waiting = self.waiting.remove(&entry.index).unwrap_or_default();
            let (ours, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(term, _)| *term == entry.term);
            self.out.push(Effect::Apply(entry, ours.into_iter().map(|(_, token)| token).collect()));
            self.out.extend(others.into_iter().map(|(_, token)| Effect::Fail(token, Reason::Discarded)));
        }
    }

    fn set_commit(&mut self, index: u64) {
        if index > self.commit {
            self.commit = index;
            self.out.push(Effect::Commit(index));
            self.apply_committed();
        }
    }

    // What goes in.

    /// Time has passed.
    pub fn tick(&mut self, now: Mono) -> Vec<Effect> {
        self.now = now;
        match self.role {
            Role::Leader => self.lead(),
            _ if self.own.is_some() && now >= self.election => self.stand(),
            _ => {}
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Machine::tick`] is wanted next.
    pub fn wake_at(&self) -> Mono {
        match self.role {
            Role::Leader => self.heartbeat,
            _ if self.own.is_some() => self.election,
            _ => self.now + Duration::from_secs(1),
        }
    }

    /// There is a connection with a peer.
    pub fn connected(&mut self, peer: Peer, now: Mono) -> Vec<Effect> {
        self.now = now;
        self.connected.insert(peer.clone(), now);
        match (self.role, &peer) {
            (Role::Leader, _) => {
                self.begin_progress(&peer);
                self.send_entries(&peer);
            }
            (Role::Candidate, Peer::Member(_)) => self.ask_for_vote(&peer),
            _ => {}
        }
        std::mem::take(&mut self.out)
    }

    /// The connection is gone.
    pub fn disconnected(&mut self, peer: &Peer, now: Mono) -> Vec<Effect> {
        self.now = now;
        self.connected.remove(peer);
        self.alike.remove(peer);
        if let Peer::Reader(_) = peer {
            self.progress.remove(peer);
        }
        if self.leader_peer().as_ref() == Some(peer) {
            self.forget_asked();
        }
        std::mem::take(&mut self.out)
    }

    /// A message has come.
    pub fn receive(&mut self, peer: &Peer, message: Message, now: Mono) -> Vec<Effect> {
        self.now = now;
        if self.connected.contains_key(peer) {
            self.take(peer, message);
        }
        std::mem::take(&mut self.out)
    }

    fn take(&mut self, peer: &Peer, message: Message) {
        match (message, peer) {
            (Message::RequestVote { term, last_index, last_term }, Peer::Member(name)) => {
                self.asked_for_vote(&Arc::clone(name), term, last_index, last_term);
            }
            (Message::Vote { term }, Peer::Member(name)) => self.got_vote(&Arc::clone(name), term),
            (Message::Append { term, commit, body }, Peer::Member(name)) => {
                self.told(&Arc::clone(name), term, commit, body);
            }
            (Message::TimeoutNow { term }, Peer::Member(name))
                if term >= self.term && self.leader.as_ref() == Some(name) && self.own.is_some() =>
            {
                self.transfer = true;
                self.election = self.now;
            }
            (Message::Ping, _) => {
                self.alike.insert(peer.clone());
            }
            (Message::Next { next, reset, success }, _) => self.answered(peer, next, reset, success),
            (Message::Command { command, request }, _) => {
                self.command(command, Origin::There(peer.clone(), request));
            }
            (Message::Response { request, result }, _) => self.asked_leader_says(request, result),
            _ => {}
        }
    }

    /// A command. What becomes of it is told by [`Effect::Apply`] or [`Effect::Fail`], if anything is.
    pub fn propose(&mut self, command: Arc<[u8]>, origin: Origin, now: Mono) -> Vec<Effect> {
        self.now = now;
        self.command(command, origin);
        std::mem::take(&mut self.out)
    }

    /// Nobody waits for that command any more.
    pub fn forget(&mut self, token: Token) {
        self.asked.remove(&token);
        self.waiting.retain(|_, waiting| {
            waiting.retain(|(_, other)| *other != token);
            !waiting.is_empty()
        });
    }

    /// There is a dump up to the entry that was applied last: what is before it can go.
    pub fn dumped(&mut self, dump: &Dump, bytes: Arc<[u8]>) -> Vec<Effect> {
        if let Some(at) = self.position(dump.prev.index).filter(|at| *at < self.log.len()) {
            self.log.drain(..at);
            self.dump = Some(bytes);
            self.out.push(Effect::Shorten(self.log.clone()));
        }
        std::mem::take(&mut self.out)
    }

    /// The last two entries that were applied, for a dump; None: there are not two, or the dump is up to there already.
    pub fn to_dump(&self) -> Option<(Entry, Entry)> {
        let prev = self.applied.checked_sub(1).filter(|prev| *prev > self.first_index())?;
        Some((self.entry(prev)?.clone(), self.entry(self.applied)?.clone()))
    }
}
