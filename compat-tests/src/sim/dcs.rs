//! A linearizable key-value store with sessions: what a server of the DCS does with a request, by its kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use patroni_core::model::{Cluster, Node, Nodes};
use patroni_dcs::kubernetes::{Object, Which};

use super::objects::{Objects, Patch};
use super::watches::Change;

/// The kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Kind {
    #[default]
    Etcd3,
    Etcd2,
    Consul,
    ZooKeeper,
    Kubernetes,
    Raft,
}

/// What a key is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Nothing.
    Nothing,
    /// A session: a lease in etcd's words.
    Session(u64),
    /// A life of its own, of so many milliseconds.
    Ttl(u64),
    /// The same, if any, and the moment of the write, by which it is known again.
    Moment(Option<u64>, u64),
}

/// A request, as it goes to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// All keys.
    List,
    /// One key.
    Get(String),
    /// Writes a key, if all of this holds.
    Put {
        /// Which.
        key: String,
        /// What.
        value: String,
        /// What it is attached to afterwards.
        on: On,
        /// The conditions.
        when: Vec<Cmp>,
    },
    /// Deletes a key, if all of this holds.
    Delete {
        /// Which.
        key: String,
        /// The conditions.
        when: Vec<Cmp>,
    },
    /// A session of so many milliseconds.
    Grant(u64),
    /// Prolongs a session.
    KeepAlive(u64),
    /// Ends a session.
    End(u64),
    /// All objects of Kubernetes of one sort.
    Objects(Which),
    /// One that holds state.
    Object(String),
    /// Writes one.
    Write(Box<Patch>),
    /// Nothing, for so many milliseconds.
    Pause(u64),
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cmp {
    /// There is no such key.
    Absent,
    /// There is no such key, or this is in it.
    AbsentOr(String),
    /// It is at this version.
    Version(u64),
    /// This is in it.
    Value(String),
    /// It was made before this revision.
    MadeBefore(u64),
    /// It is attached to this session.
    Session(u64),
    /// There is no such key, or it is attached to nothing, or to this session.
    FreeFor(u64),
}

/// The answer to an [`Op`].
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// What is there.
    Keys(Nodes),
    /// One key, and the revision that made it; of Raft the moment that was written with it.
    Key(Option<(Node, u64)>),
    /// It was done, and the key is at this version.
    Done(u64),
    /// A condition did not hold.
    Refused,
    /// A session, and its length as the store tells it.
    Session(u64, u64),
    /// There is no such session.
    NoSession,
    /// The version that all is at, and objects.
    Objects(u64, Vec<Object>),
    /// An object, if there is one.
    Object(Option<Box<Object>>),
}

/// Other keys wake nobody.
fn wakes(name: &str) -> bool {
    matches!(name, "leader" | "config" | "status")
}

/// One key.
#[derive(Debug, Clone)]
struct Key {
    value: String,
    revision: u64,
    /// The revision that made it.
    created: u64,
    /// How often it was written since.
    writes: u64,
    session: Option<u64>,
    moment: u64,
}

/// A session.
#[derive(Debug, Clone, Copy)]
struct Session {
    until: u64,
    /// How long it lives after it was heard.
    length: u64,
    /// What the store says of that.
    told: u64,
}

/// The store. Times are milliseconds of true time.
#[derive(Debug, Default)]
pub struct Store {
    kind: Kind,
    /// The tick of ZooKeeper, milliseconds: sessions are of two to twenty of it.
    tick: u64,
    keys: BTreeMap<String, Key>,
    /// Of Kubernetes: the keys are what they show.
    pub(super) objects: Objects,
    sessions: BTreeMap<u64, Session>,
    pub(super) revision: u64,
    next_session: u64,
    next_expiry: u64,
    snapshot: Option<Arc<Cluster>>,
    saved: Option<Saved>,
    /// How often it has gone back.
    setbacks: u64,
    /// What watches have not been told yet.
    changes: Vec<Change>,
}

/// A backup: keys, sessions, revision.
#[derive(Debug, Clone)]
struct Saved {
    keys: BTreeMap<String, Key>,
    objects: Objects,
    sessions: BTreeMap<u64, Session>,
    revision: u64,
}

impl Store {
    /// An empty one.
    pub fn new(kind: Kind, tick: u64) -> Store {
        Store { kind, tick, ..Store::default() }
    }

    /// Takes a backup.
    pub fn save(&mut self) {
        let (keys, sessions) = (self.keys.clone(), self.sessions.clone());
        let objects = self.objects.clone();
        self.saved = Some(Saved { keys, objects, sessions, revision: self.revision });
    }

    /// Goes back to it, if there is one: sessions that it has begin anew, others are gone, and revisions are given a
    /// second time.
    pub fn restore(&mut self, now: u64) {
        let Some(saved) = self.saved.take() else { return };
        (self.keys, self.revision) = (saved.keys, saved.revision);
        self.objects = saved.objects;
        self.sessions = saved.sessions;
        self.sessions.values_mut().for_each(|session| session.until = now + session.length);
        self.next_expiry = now;
        self.snapshot = None;
        self.setbacks += 1;
    }

    /// How often it can be seen to have gone back: not at all on Consul and Raft, whose keys alone tell.
    pub fn setbacks(&self) -> u64 {
        if matches!(self.kind, Kind::Consul | Kind::Raft) {
            return 0;
        }
        self.setbacks
    }

    /// Of Raft: there is another leader, which has not counted any key's time yet.
    pub fn begin_anew(&mut self, now: u64) {
        self.sessions.values_mut().for_each(|session| session.until = now + session.length);
    }

    /// Removes what has expired.
    pub fn expire(&mut self, now: u64) {
        if now < self.next_expiry {
            return;
        }
        self.sessions.retain(|_, session| session.until > now);
        self.next_expiry = self.sessions.values().map(|session| session.until).min().unwrap_or(u64::MAX);
        self.drop_orphans();
    }

    /// Removes the keys of sessions that are gone.
    fn drop_orphans(&mut self) {
        let gone = |key: &Key| key.session.is_some_and(|id| !self.sessions.contains_key(&id));
        let names: Vec<String> =
            self.keys.iter().filter(|(_, key)| gone(key)).map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.delete(name));
    }

    /// All keys.
    pub fn nodes(&self) -> Nodes {
        self.keys.iter().map(|(name, key)| (name.clone(), self.node(key))).collect()
    }

    /// What has changed since this was asked last.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The keys that may wake a loop.
    pub fn keys_that_wake(&self) -> Vec<(String, String, i64)> {
        let keys = self.keys.iter().filter(|(name, _)| wakes(name));
        keys.map(|(name, key)| (name.clone(), key.value.clone(), key.revision as i64)).collect()
    }

    fn changed(&mut self, name: &str, value: Option<&str>) {
        self.snapshot = None;
        if wakes(name) || self.kind == Kind::Etcd3 {
            self.changes.push((name.to_owned(), value.map(str::to_owned), self.revision as i64));
        }
    }

    /// The number that conditions compare: ZooKeeper counts the writes of each life of a key.
    fn version_of(&self, key: &Key) -> u64 {
        if self.kind == Kind::ZooKeeper {
            key.writes
        } else {
            key.revision
        }
    }

    fn node(&self, key: &Key) -> Node {
        Node {
            value: key.value.clone(),
            version: self.version_of(key).to_string(),
            session: key.session.map(|id| id.to_string()),
            modify_version: (self.kind == Kind::ZooKeeper).then(|| key.revision.to_string()),
        }
    }

    /// Carries a request out.
    pub fn carry_out(&mut self, op: &Op, now: u64) -> Said {
        match op {
            Op::List => Said::Keys(self.nodes()),
            Op::Get(name) => {
                let raft = self.kind == Kind::Raft;
                let made = |key: &Key| if raft { key.moment } else { key.created };
                Said::Key(self.keys.get(name).map(|key| (self.node(key), made(key))))
            }
            Op::Put { on: On::Session(id), .. } if !self.sessions.contains_key(id) => Said::NoSession,
            Op::Put { key, when, .. } | Op::Delete { key, when } if !self.hold(key, when) => Said::Refused,
            Op::Put { key, value, on, .. } => {
                let session = match on {
                    On::Nothing => None,
                    On::Session(id) => Some(*id),
                    On::Ttl(ttl) => Some(self.grant(now, *ttl)),
                    On::Moment(ttl, _) => ttl.map(|ttl| self.grant(now, ttl)),
                };
                self.put(key, value, session);
                if let (On::Moment(_, moment), Some(key)) = (on, self.keys.get_mut(key)) {
                    key.moment = *moment;
                }
                Said::Done(self.keys.get(key).map_or(0, |key| self.version_of(key)))
            }
            Op::Delete { key, .. } => {
                self.delete(key);
                Said::Done(self.revision)
            }
            Op::Grant(ttl) => {
                let id = self.grant(now, *ttl);
                Said::Session(id, self.sessions.get(&id).map_or(0, |session| session.told))
            }
            Op::KeepAlive(id) => {
                self.keepalive(*id, now).map_or(Said::NoSession, |told| Said::Session(*id, told))
            }
            Op::End(id) => {
                self.sessions.remove(id);
                self.drop_orphans();
                Said::Done(0)
            }
            Op::Objects(which) => self.list_objects(*which),
            Op::Object(name) => self.object(name),
            Op::Write(patch) => self.write_object(patch),
            Op::Pause(_) => Said::Done(0),
        }
    }

    fn hold(&self, key: &str, when: &[Cmp]) -> bool {
        let known = self.keys.get(key);
        let is = |test: &dyn Fn(&Key) -> bool| known.is_some_and(test);
        when.iter().all(|cmp| match cmp {
            Cmp::Absent => known.is_none(),
            Cmp::AbsentOr(value) => known.is_none_or(|k| k.value == *value),
            Cmp::Version(version) => is(&|k| self.version_of(k) == *version),
            Cmp::Value(value) => is(&|k| k.value == *value),
            Cmp::MadeBefore(revision) => is(&|k| k.created < *revision),
            Cmp::Session(id) => is(&|k| k.session == Some(*id)),
            Cmp::FreeFor(id) => known.is_none_or(|k| k.session.is_none_or(|held| held == *id)),
        })
    }

    fn grant(&mut self, now: u64, asked: u64) -> u64 {
        let (told, length) = match self.kind {
            Kind::Etcd3 | Kind::Etcd2 | Kind::Kubernetes => (asked, asked),
            // Its leader proposes the end at its next tick, and a majority has to confirm that.
            Kind::Raft => (asked, asked + 50 + self.revision.wrapping_mul(7919) % 1200),
            // Servers wait for twice what they tell.
            Kind::Consul => (asked, 2 * asked),
            Kind::ZooKeeper => {
                let granted = asked.clamp(2 * self.tick, 20 * self.tick);
                (granted, granted)
            }
        };
        self.next_session += 1;
        self.next_expiry = self.next_expiry.min(now + length);
        self.sessions.insert(self.next_session, Session { until: now + length, length, told });
        self.next_session
    }

    /// Prolongs a session by its length, if it is still there; what is told of it.
    fn keepalive(&mut self, id: u64, now: u64) -> Option<u64> {
        let session = self.sessions.get_mut(&id)?;
        session.until = now + session.length;
        Some(session.told)
    }

    /// What a key is attached to.
    pub fn session_of(&self, key: &str) -> Option<u64> {
        self.keys.get(key).and_then(|key| key.session)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(|k| k.value.as_str())
    }

    /// Writes without a condition.
    pub fn put(&mut self, key: &str, value: &str, session: Option<u64>) {
        if self.kind == Kind::Kubernetes {
            return self.write_key(key, Some(value));
        }
        self.revision += 1;
        self.changed(key, Some(value));
        let revision = self.revision;
        // Where the owner of a key cannot be changed, it is another key.
        let anew = matches!(self.kind, Kind::Consul | Kind::ZooKeeper);
        let before = self.keys.get(key).filter(|key| !anew || key.session == session);
        let (created, writes) = before.map_or((revision, 0), |key| (key.created, key.writes + 1));
        self.keys.insert(
            key.to_owned(),
            Key { value: value.to_owned(), revision, created, writes, session, moment: 0 },
        );
    }

    /// The token for compare-and-set.
    pub fn version(&self, key: &str) -> Option<String> {
        self.keys.get(key).map(|k| self.version_of(k).to_string())
    }

    /// Deletes without a condition.
    pub fn delete(&mut self, key: &str) {
        if self.kind == Kind::Kubernetes {
            return self.write_key(key, None);
        }
        if self.keys.remove(key).is_some() {
            self.revision += 1;
            self.changed(key, None);
        }
    }

    /// A key shows what is in an object.
    pub(super) fn show_key(&mut self, name: &str, value: Option<String>, revision: u64) {
        self.snapshot = None;
        if self.get(name) != value.as_deref() {
            self.changed(name, value.as_deref());
        }
        match value {
            Some(value) => {
                let key = Key { value, revision, created: revision, writes: 0, session: None, moment: 0 };
                self.keys.insert(name.to_owned(), key);
            }
            None => drop(self.keys.remove(name)),
        }
    }

    /// The whole cluster.
    pub fn cluster(&mut self) -> Arc<Cluster> {
        if let Some(snapshot) = &self.snapshot {
            return snapshot.clone();
        }
        let nodes = self.keys.iter().map(|(path, key)| (path.clone(), self.node(key))).collect();
        let cluster = Arc::new(Cluster { setbacks: self.setbacks, ..Cluster::from_nodes(&nodes) });
        self.snapshot = Some(cluster.clone());
        cluster
    }
}
