//! The lower floor in the simulated world: what a node's client of the store does, as `patroni-rs/dcs` has it for each
//! kind of store (its writes: `kinds.rs`). The upper floor above it ([`Keys`]) is the one that is shipped.
//!
//! A request goes into a mailbox, and its future waits there until the world has decided what becomes of it; nothing
//! else wakes it, and no clock runs but the node's own.

mod sessions;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use patroni_core::ha::Mono;
use patroni_core::model::{Node, Nodes};
use patroni_core::mutex::locked;
use patroni_core::node::Renewed;
use patroni_core::timing::Timing;
use patroni_dcs::kubernetes::Layout;
use patroni_dcs::kv::{Effort, Failure, Held, If, KvStore, Level, Put, Session, Words, Written};
use patroni_dcs::lock::{Granted, LockRenewer, Renewal};
use patroni_dcs::watch::Sink;
use patroni_dcs::{grant, Dcs, DcsError, Keys, Settings};
use pyfmt::Value;

use super::dcs::{Cmp, Kind, On, Op, Said};
use super::pods::{layout, Api};

/// The directory of the cluster.
const DIRECTORY: &str = "/service/sim";

/// With less time than this no attempt is made.
const LEAST: Duration = Duration::from_millis(200);

/// The upper floor of one life of a daemon.
#[derive(Clone)]
pub enum Upper {
    /// Over keys.
    Keys(Arc<Keys<Client>>),
    /// Over the objects of Kubernetes.
    Objects(Arc<Layout<Api>>),
}

impl Upper {
    /// A daemon starts.
    pub fn new(name: &str, timing: Timing, kind: Kind, flaws: Flaws) -> Upper {
        let settings = Settings {
            name: name.to_owned(),
            scope: "sim".into(),
            root_path: DIRECTORY.into(),
            base_path: DIRECTORY.into(),
            timing,
            ctl: false,
        };
        let client = Client::new(name, timing, kind, flaws);
        match kind {
            Kind::Kubernetes => Upper::Objects(Arc::new(layout(settings, client))),
            _ => Upper::Keys(Arc::new(Keys::new(settings, "sim", client))),
        }
    }

    /// The client of the store below.
    pub fn store(&self) -> &Client {
        match self {
            Upper::Keys(keys) => keys.store(),
            Upper::Objects(layout) => layout.objects().client(),
        }
    }

    /// For a watch.
    pub fn sink(&self) -> Sink {
        match self {
            Upper::Keys(keys) => keys.sink(),
            Upper::Objects(layout) => layout.sink(),
        }
    }

    /// See [`Keys::cycle_over`].
    pub fn cycle_over(&self) -> bool {
        match self {
            Upper::Keys(keys) => keys.cycle_over(),
            Upper::Objects(layout) => layout.cycle_over(),
        }
    }

    /// See [`Keys::was_woken`].
    pub fn was_woken(&self) -> bool {
        match self {
            Upper::Keys(keys) => keys.was_woken(),
            Upper::Objects(layout) => layout.was_woken(),
        }
    }

    /// See [`Layout::lock_ends`]: other stores tell when the lock has ended.
    pub fn lock_ends(&self, following: bool, timeout: Duration) -> Option<Duration> {
        match self {
            Upper::Keys(_) => None,
            Upper::Objects(layout) => layout.lock_ends(following, timeout),
        }
    }

    /// See [`Layout::lock_has_ended`].
    pub fn lock_has_ended(&self) {
        if let Upper::Objects(layout) = self {
            layout.lock_has_ended();
        }
    }
}

impl Deref for Upper {
    type Target = dyn Dcs;

    fn deref(&self) -> &Self::Target {
        match self {
            Upper::Keys(keys) => &**keys,
            Upper::Objects(layout) => &**layout,
        }
    }
}

impl fmt::Debug for Upper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upper")
    }
}

/// What is wrong with a client on purpose.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flaws {
    /// The leader key is written whatever is there.
    pub blind: bool,
    /// `/sync` is written whatever the token.
    pub stale_sync: bool,
    /// It is written without one where there was none, as the reference does.
    pub sync_made_anyway: bool,
    /// The lock of an object is taken at the newest version, not at the one that was decided on (patroni/patroni#3718).
    pub takes_the_newest: bool,
    /// It is renewed so.
    pub renews_the_newest: bool,
    /// The time in the object is compared with the own wall clock.
    pub believes_renew_time: bool,
    /// The ttl is counted from when the lock was seen first, not from its last change.
    pub counts_from_the_beginning: bool,
}

/// A request that waits for its fate, and for how long it is waited for.
#[derive(Debug)]
pub struct Asked {
    /// Tells its answer from those to other requests of the same operation.
    pub id: u64,
    /// The request.
    pub op: Op,
    /// By the node's clock.
    pub patience: Duration,
}

/// What came of a request: what the store says, or no answer.
#[derive(Debug)]
struct Came(Option<Said>);

/// The leader key as we hold it.
#[derive(Debug, Clone, Copy)]
struct Lock {
    session: Option<u64>,
    granted: Granted,
}

#[derive(Debug)]
struct State {
    now: Instant,
    timing: Timing,
    session: Option<(u64, Granted)>,
    refreshed: Option<Instant>,
    of_leader: Option<Lock>,
    /// Who heartbeats by itself does so for some time after this.
    alive: Instant,
    /// What made our claim to the bootstrap.
    claim: u64,
    setbacks: u64,
    asked: VecDeque<Asked>,
    /// By the request's number.
    came: BTreeMap<u64, Came>,
    requests: u64,
    /// By how much somebody has set the wall clock, milliseconds.
    wall_step: i64,
    /// Who held the lock of an object, as it was seen last.
    holder: String,
    /// What the renewal of a term was when it was seen first.
    first: Option<(String, String)>,
}

/// A node's client of the store.
pub struct Client {
    name: String,
    kind: Kind,
    state: Mutex<State>,
    /// When the node's clock showed nothing.
    zero: Instant,
    flaws: Flaws,
}

impl Client {
    fn new(name: &str, timing: Timing, kind: Kind, flaws: Flaws) -> Client {
        let zero = Instant::now();
        let state = State {
            now: zero,
            timing,
            session: None,
            refreshed: None,
            of_leader: None,
            alive: zero,
            claim: 0,
            setbacks: 0,
            asked: VecDeque::new(),
            came: BTreeMap::new(),
            requests: 0,
            wall_step: 0,
            holder: String::new(),
            first: None,
        };
        Client { name: name.to_owned(), kind, state: Mutex::new(state), zero, flaws }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn flaws(&self) -> Flaws {
        self.flaws
    }

    /// The node's clock shows this, and people have set its wall clock by so many milliseconds.
    pub fn set_clock(&self, clock: Mono, wall_step: i64) {
        let mut state = self.state();
        state.now = self.zero + clock.since_start();
        state.wall_step = wall_step;
    }

    /// A request that waits.
    pub fn take_asked(&self) -> Option<Asked> {
        self.state().asked.pop_front()
    }

    /// What came of it; `setbacks`: as the answers of the store show it.
    pub fn answer(&self, id: u64, said: Option<Said>, setbacks: u64) {
        let mut state = self.state();
        if said.is_some() {
            state.setbacks = setbacks;
        }
        state.came.insert(id, Came(said));
    }

    // ---- for the client of Kubernetes ----

    /// The lock keeper's, which knows that the lock is ours.
    pub(super) fn another(&self) -> Client {
        let mut client = Client::new(&self.name, self.current_timing(), self.kind, self.flaws);
        client.zero = self.zero;
        client.state().now = self.clock();
        client.saw_holder(&self.name);
        client
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn clock(&self) -> Instant {
        self.state().now
    }

    pub(super) fn current_timing(&self) -> Timing {
        self.state().timing
    }

    pub(super) fn replace_timing(&self, timing: Timing) -> Timing {
        std::mem::replace(&mut self.state().timing, timing)
    }

    /// What the wall clock shows, since all of them began.
    pub(super) fn wall(&self) -> Duration {
        let state = self.state();
        let run = state.now.saturating_duration_since(self.zero);
        let step = Duration::from_millis(state.wall_step.unsigned_abs());
        if state.wall_step < 0 {
            run.saturating_sub(step)
        } else {
            run + step
        }
    }

    /// A number that nobody else has.
    pub(super) fn nonce(&self) -> u64 {
        let mut state = self.state();
        state.requests += 1;
        let run = state.now.saturating_duration_since(self.zero).as_millis() as u64;
        let name =
            self.name.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        (name << 48) ^ (state.requests << 40) ^ run
    }

    pub(super) fn saw_holder(&self, name: &str) {
        name.clone_into(&mut self.state().holder);
    }

    pub(super) fn held_it(&self) -> bool {
        self.state().holder == self.name
    }

    /// What the renewal of this term was when it was seen first; it is `renewed` now.
    pub(super) fn first_seen(&self, term: &str, renewed: &str) -> String {
        let mut state = self.state();
        if state.first.as_ref().is_none_or(|(known, _)| known != term) {
            state.first = Some((term.to_owned(), renewed.to_owned()));
        }
        state.first.as_ref().map(|(_, first)| first.clone()).unwrap_or_default()
    }

    /// What is granted, by what the store says of a session's length.
    fn granted(&self, told: u64) -> Granted {
        let told = Duration::from_millis(told);
        match self.kind {
            Kind::Etcd3 | Kind::Etcd2 | Kind::Kubernetes => Granted { ttl: told },
            Kind::Consul => Granted { ttl: 2 * told },
            Kind::ZooKeeper => {
                let timing = self.state().timing;
                grant::promise(timing.ttl, told, &timing)
            }
        }
    }

    // ---- the lock keeper, and heartbeats ----

    /// What a renewal of the lock asks, one after the other, and the session that it is about; None: what the key hangs
    /// on is not known, or was left.
    pub fn renewal(&self) -> Option<(Vec<Op>, Option<u64>)> {
        let mut state = self.state();
        let held = state.of_leader?;
        let session = held.session;
        let ops = match self.kind {
            Kind::Etcd2 => vec![Op::Put {
                key: "leader".into(),
                value: self.name.clone(),
                on: On::Ttl(state.timing.ttl.as_millis() as u64),
                when: vec![Cmp::Value(self.name.clone())],
            }],
            Kind::Etcd3 | Kind::Consul => vec![Op::KeepAlive(session?)],
            // See `pods.rs`.
            Kind::Kubernetes => return None,
            Kind::ZooKeeper => {
                // Only who has the session may keep it alive.
                state.alive = state.now;
                let ours = state.session.map(|(id, _)| id) == session;
                vec![Op::KeepAlive(session.filter(|_| ours)?), Op::Get("leader".into())]
            }
        };
        Some((ops, session))
    }

    /// What it came to, by the answers.
    pub fn renewed(&self, said: &[Said]) -> Renewed {
        let held = self.state().of_leader;
        match (self.kind, said) {
            (_, [Said::NoSession | Said::Refused, ..]) => Renewed::Gone,
            (Kind::Etcd2, [Said::Done(_)]) => Renewed::Until(self.state().timing.ttl),
            (Kind::Etcd3, [Said::Session(..)]) => {
                held.map_or(Renewed::Unanswered, |held| Renewed::Until(held.granted.ttl))
            }
            (Kind::Consul, [Said::Session(_, told)]) => Renewed::Until(self.granted(*told).ttl),
            (Kind::ZooKeeper, [Said::Session(id, told), Said::Key(found)]) => {
                let session = Some(id.to_string());
                let ours = |(node, _): &(Node, u64)| node.session == session && node.value == self.name;
                if found.as_ref().is_some_and(ours) {
                    Renewed::Until(self.granted(*told).ttl)
                } else {
                    Renewed::Gone
                }
            }
            _ => Renewed::Unanswered,
        }
    }

    /// How long until the next heartbeat, and the session that it is for; None in it: the loop was not heard of for too
    /// long, or there is none.
    pub fn heartbeat(&self) -> (Duration, Option<u64>) {
        let state = self.state();
        let every = grant::ping_interval(&state.timing, state.timing.ttl);
        let heard = state.now.saturating_duration_since(state.alive) < state.timing.allowance();
        (every, state.session.map(|(id, _)| id).filter(|_| heard))
    }

    // ---- requests ----

    /// One attempt after the other, each with its share of the time. Was there more than one?
    pub(super) async fn call(&self, op: Op, effort: Effort) -> Result<(Said, bool), Failure> {
        let (share, until) = {
            let state = self.state();
            let share = state.timing.retry_timeout / 3;
            (share, if let Effort::Until(at) | Effort::Hurried(at) = effort { at } else { state.now + share })
        };
        let mut repeated = false;
        loop {
            let left = until.saturating_duration_since(self.now());
            if left < LEAST {
                return Err(Failure::Unknown("no answer in time".into()));
            }
            match self.once(op.clone(), share.min(left)).await {
                Some(said) => return Ok((said, repeated)),
                None => repeated = true,
            }
        }
    }

    /// One attempt; None: no answer came.
    pub(super) async fn once(&self, op: Op, patience: Duration) -> Option<Said> {
        let id = {
            let mut state = self.state();
            state.requests += 1;
            let id = state.requests;
            state.asked.push_back(Asked { id, op, patience });
            id
        };
        let Came(said) = poll_fn(|_| self.state().came.remove(&id).map_or(Poll::Pending, Poll::Ready)).await;
        said
    }

    /// A write, and whether an earlier attempt of it may be in its way.
    pub(super) async fn write(&self, op: Op, effort: Effort) -> Result<(Written, bool), Failure> {
        let (said, repeated) = self.call(op, effort).await?;
        Ok((written(said)?, repeated))
    }

    pub(super) async fn read(&self, key: &str, effort: Effort) -> Result<Option<(Node, u64)>, Failure> {
        match self.call(Op::Get(bare(key)), effort).await?.0 {
            Said::Key(found) => Ok(found),
            other => Err(Failure::Unknown(format!("{other:?}"))),
        }
    }
}

/// The name below the directory.
pub(super) fn bare(key: &str) -> String {
    key.strip_prefix(DIRECTORY).map_or(key, |rest| rest.trim_start_matches('/')).to_owned()
}

fn written(said: Said) -> Result<Written, Failure> {
    match said {
        Said::Done(version) => Ok(Written::Done(version.to_string())),
        Said::Refused => Ok(Written::Refused),
        Said::NoSession => Err(Failure::SessionGone("requested session not found".into())),
        other => Err(Failure::Unknown(format!("{other:?}"))),
    }
}

/// The lock keeper of the simulated world is `keeper.rs`.
struct NoRenewer;

impl LockRenewer for NoRenewer {
    fn renew(&mut self, _: Duration) -> Renewal {
        Renewal::NoAnswer("simulated".into())
    }
}

impl KvStore for Client {
    fn words(&self) -> Words {
        Words {
            store: "Simulated",
            session: "session",
            not_responding: "Simulated is not responding properly",
            foreign_owner: None,
        }
    }

    fn say(&self, _: Level, _: &str) {}

    fn timing(&self) -> Timing {
        self.state().timing
    }

    fn now(&self) -> Instant {
        self.state().now
    }

    fn set_timing(&self, timing: Timing) -> bool {
        let mut state = self.state();
        let changed = state.timing.ttl != timing.ttl;
        state.timing = timing;
        if changed {
            state.session = None;
        }
        changed
    }

    fn reload(&self, _: &Value) -> Result<(), DcsError> {
        Ok(())
    }

    async fn list(&self, _: &str, effort: Effort) -> Result<Nodes, Failure> {
        match self.call(Op::List, effort).await?.0 {
            Said::Keys(nodes) => Ok(nodes),
            other => Err(Failure::Unknown(format!("{other:?}"))),
        }
    }

    async fn put(&self, put: Put<'_>, effort: Effort) -> Result<Written, Failure> {
        self.put_as_kind(put, effort).await
    }

    async fn delete(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        self.delete_as_kind(key, condition, effort).await
    }

    async fn delete_all(&self, _: &str, _: Effort) -> Result<Written, Failure> {
        Err(Failure::Refused("nobody asks for it".into()))
    }

    async fn session(&self, force: bool, effort: Effort) -> Result<Session, Failure> {
        if self.kind == Kind::Etcd2 {
            return Ok(Session { id: None, granted: Granted { ttl: self.timing().ttl } });
        }
        let (id, granted) = self.refresh(force, effort).await?;
        Ok(Session { id: Some(id.to_string()), granted })
    }

    fn session_id(&self) -> Option<String> {
        self.state().session.map(|(id, _)| id.to_string())
    }

    fn forget_session(&self) {
        let mut state = self.state();
        // One that is a connection is not forgotten: if it has ended, the next proof shows it.
        if self.kind == Kind::ZooKeeper {
            state.refreshed = None;
        } else {
            state.session = None;
        }
    }

    fn expect_refresh(&self) {
        self.state().refreshed = None;
    }

    fn set_leader(&self, leader: Option<Held<'_>>) {
        let held = leader.map(|held| Lock {
            session: held.session.id.as_deref().and_then(|id| id.parse().ok()),
            granted: held.session.granted,
        });
        self.state().of_leader = held;
    }

    fn let_leader_run_out(&self) {
        let mut state = self.state();
        let held = state.of_leader.and_then(|held| held.session);
        if held.is_some() && state.session.map(|(id, _)| id) == held {
            state.session = None;
        }
    }

    fn renewer(&self) -> Box<dyn LockRenewer> {
        Box::new(NoRenewer)
    }

    async fn watch(self: Arc<Self>, _: String, _: Sink) {}

    async fn claim(&self, key: &str, effort: Effort) -> Result<bool, Failure> {
        self.try_claim(key, effort).await
    }

    async fn clear(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        match self.kind {
            Kind::ZooKeeper => self.put(Put::new(key, "{}").when(condition), effort).await,
            _ => self.delete(key, condition, effort).await,
        }
    }

    /// ZooKeeper ends the session.
    async fn release(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        if self.kind != Kind::ZooKeeper {
            return self.delete(key, condition, effort).await;
        }
        let Some((node, _)) = self.read(key, effort).await? else { return Ok(Written::Refused) };
        let If::Ours { value, .. } = condition else { return Ok(Written::Refused) };
        let session = self.state().session.map(|(id, _)| id);
        let owned = session.filter(|id| node.value == value && node.session == Some(id.to_string()));
        let Some(id) = owned else { return Ok(Written::Refused) };
        let ended = self.write(Op::End(id), effort).await?.0;
        self.state().session = None;
        Ok(ended)
    }

    fn setbacks(&self) -> u64 {
        self.state().setbacks
    }
}
