//! The lower floor in the simulated world: what a node's client of the store does, as `patroni-rs/dcs` has it for each
//! kind of store (its writes: `kinds.rs`). The upper floor above it ([`patroni_dcs::Keys`], `upper.rs`) is the one that is shipped.
//!
//! A request goes into a mailbox, and its future waits there until the world has decided what becomes of it; nothing
//! else wakes it, and no clock runs but the node's own.

mod rafts;
mod renewal;
mod sessions;
mod store;
mod upper;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use patroni_core::ha::Mono;
use patroni_core::model::Node;
use patroni_core::mutex::locked;
use patroni_core::timing::Timing;
use patroni_dcs::kv::{Effort, Failure, KvStore, Written};
use patroni_dcs::lock::Granted;

use super::dcs::{Kind, Op, Said};

pub use upper::Upper;

/// The directory of the cluster.
const DIRECTORY: &str = "/service/sim";

/// With less time than this no attempt is made.
const LEAST: Duration = Duration::from_millis(200);

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
    /// Of Raft: a write of which no answer came is not known again.
    pub knows_no_moment: bool,
    /// Of Raft, and no defect: by so many milliseconds the leader's clock is ahead, as this client has measured it.
    pub leader_ahead: u64,
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
    /// A cycle has ended since.
    due: bool,
    of_leader: Option<Lock>,
    /// Who heartbeats by itself does so for some time after this.
    alive: Instant,
    /// What made our claim to the bootstrap.
    claim: u64,
    /// Of Raft: the same.
    claims: rafts::Claim,
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
            due: false,
            of_leader: None,
            alive: zero,
            claim: 0,
            claims: rafts::Claim::default(),
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
