//! What the driver of the session and its clients share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;
use tokio::sync::{mpsc, watch};

use super::options::{Credential, Options};
use super::proto::Session;
use crate::Timing;

/// So many sessions that were left are remembered.
const REMEMBERED: usize = 8;

/// What a watch hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noticed {
    /// There is a connection, and no watch in it yet. True: with a new session.
    Connected(bool),
    /// Something happened to that znode.
    Changed(String),
}

/// Nothing of it is held while anybody waits.
pub struct Shared {
    state: Mutex<State>,
    /// The session that is connected.
    pub link: watch::Sender<Option<i64>>,
    noticed: Mutex<Option<mpsc::UnboundedSender<Noticed>>>,
}

/// See [`Shared`].
pub struct State {
    /// Options in force.
    pub options: Arc<Options>,
    /// Who we said we were before the options changed, the last first. What people have mistyped gives no rights, and
    /// the servers may be told of something new later than we.
    pub former: Vec<Credential>,
    /// Durations in force.
    pub timing: Timing,
    /// The session, also while it is not connected.
    pub session: Option<Session>,
    /// The timeout that was asked for it. It is asked for again when the session goes on: after an election the ensemble
    /// counts by what the session was made with.
    pub asked: Duration,
    /// The last session that has ended, say the servers. One that we have left lives on for a while.
    pub ended: Option<i64>,
    /// The last sessions that we have left to end by themselves: keys of ours may be attached to them.
    pub left: VecDeque<i64>,
    /// The HA loop, or the lock keeper in its place, was last seen alive.
    pub alive: Instant,
    /// The HA loop has keys under the session, or is about to.
    pub attended: bool,
    /// Nobody has to be alive: patronictl.
    pub unattended: bool,
    /// The store was seen to have become an earlier one.
    pub setbacks: u64,
}

impl State {
    /// New options; are they others?
    pub(super) fn take_options(&mut self, options: Options) -> bool {
        let before = std::mem::replace(&mut self.options, Arc::new(options));
        for credential in before.credentials.iter().rev() {
            self.former.retain(|known| known != credential);
            self.former.insert(0, credential.clone());
        }
        let now = Arc::clone(&self.options);
        self.former.retain(|known| !now.credentials.contains(known));
        before != self.options
    }

    /// The session is left to end by itself.
    pub(super) fn leave(&mut self) -> Option<Session> {
        let session = self.session.take()?;
        if self.left.len() >= REMEMBERED {
            self.left.pop_front();
        }
        self.left.push_back(session.id);
        Some(session)
    }
}

impl Shared {
    /// Without a session.
    pub fn new(options: Options, timing: Timing, unattended: bool) -> Shared {
        let state = State {
            options: Arc::new(options),
            former: Vec::new(),
            timing,
            session: None,
            asked: timing.ttl,
            ended: None,
            left: VecDeque::new(),
            alive: Instant::now(),
            attended: false,
            unattended,
            setbacks: 0,
        };
        Shared { state: Mutex::new(state), link: watch::Sender::new(None), noticed: Mutex::new(None) }
    }

    /// The state, for a moment.
    pub fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// From now on `sink` hears what is noticed, and at once of a connection that is there.
    pub fn notice(&self, sink: mpsc::UnboundedSender<Noticed>) {
        let mut noticed = locked(&self.noticed);
        if self.link.borrow().is_some() {
            let _ = sink.send(Noticed::Connected(false));
        }
        *noticed = Some(sink);
    }

    pub(super) fn tell(&self, what: Noticed) {
        if let Some(sink) = locked(&self.noticed).as_ref() {
            let _ = sink.send(what);
        }
    }

    /// The session has ended.
    pub(super) fn end(&self) {
        let mut state = self.state();
        if let Some(session) = state.session.take() {
            state.ended = Some(session.id);
        }
    }

    /// Has nobody been alive for so long that the session may not be kept any more?
    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        !state.unattended && state.attended && state.alive.elapsed() > state.timing.allowance()
    }
}
