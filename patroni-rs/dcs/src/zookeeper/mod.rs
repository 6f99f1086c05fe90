//! ZooKeeper, and Exhibitor in front of it (surface-dcs 13).
//!
//! A client of our own: docs/decisions/0015-own-zookeeper-client.md says why. [`jute`] and [`proto`] are the messages, [`connect`]
//! makes a connection, [`line`] is what goes over it, [`driver`] keeps the session on a thread of its own, [`client`] is its handle; [`list`], [`write`],
//! [`watch`] and [`renew`] are what the lower floor asks for, [`grant`] says how long a session is good for.

mod client;
mod connect;
mod driver;
mod exhibitor;
mod jute;
mod line;
mod list;
mod options;
mod proto;
mod renew;
mod sasl;
mod shared;
mod watch;
mod write;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use patroni_core::model::Nodes;
use patroni_core::mutex::locked;
use pyfmt::Value;

use crate::keys::START_PAUSE;
use crate::kv::{Effort, Failure, Held, If, KvStore, Put, Session, Words, Written};
use crate::lock::{Granted, LockRenewer};
use crate::watch::Sink;
use crate::{DcsError, Settings, Timing};
use client::Client;
use exhibitor::Exhibitor;
use options::Options;
use proto::Op;
use renew::{OurLock, Renewer, SharedLock};
use write::Writer;

const LOG: &str = "patroni.dcs.zookeeper";

/// How long a request may take that is tried once: it is of those that the next cycle repeats.
const ONCE: Duration = Duration::from_secs(2);

/// patronictl waits so long for a connection.
const PERSONS_PATIENCE: Duration = Duration::from_secs(15);

#[derive(Default)]
struct State {
    /// A session, and when it was last proved to be alive.
    proved: Option<(i64, Instant)>,
    /// This session has made `/initialize` as our claim.
    claimed: Option<i64>,
}

/// The store.
pub struct ZooKeeper {
    client: Client,
    exhibitor: Option<Exhibitor>,
    lock: SharedLock,
    state: Mutex<State>,
}

impl ZooKeeper {
    /// Connects, and waits for a server as long as it takes (patronictl: for a while).
    ///
    /// # Errors
    /// The options make no client; patronictl: no server was found.
    pub async fn start(settings: &Settings, section: &Value) -> Result<ZooKeeper, DcsError> {
        let options = Options::from_section(section)?;
        for line in crate::address::hosts(section.get("hosts"), "zookeeper.hosts").1 {
            tracing::warn!(target: LOG, "{line}");
        }
        ZooKeeper::connect(settings, options, None).await
    }

    /// The same for the section `exhibitor`: asks it for the servers first, and waits for it.
    ///
    /// # Errors
    /// See [`ZooKeeper::start`].
    pub async fn start_by_exhibitor(settings: &Settings, section: &Value) -> Result<ZooKeeper, DcsError> {
        let exhibitor = Exhibitor::from_section(section)?;
        let mut waited = Duration::ZERO;
        let hosts = loop {
            if let Some(hosts) = exhibitor.poll().await {
                break hosts;
            }
            tracing::info!(target: "patroni.dcs.exhibitor", "waiting on exhibitor");
            if settings.ctl && waited >= PERSONS_PATIENCE {
                return Err(DcsError::Unreachable("Exhibitor is not responding properly".into()));
            }
            tokio::time::sleep(START_PAUSE).await;
            waited += START_PAUSE;
        };
        let options = Options::from_section(&with_hosts(section, &hosts))?;
        ZooKeeper::connect(settings, options, Some(exhibitor)).await
    }

    async fn connect(
        settings: &Settings,
        options: Options,
        exhibitor: Option<Exhibitor>,
    ) -> Result<ZooKeeper, DcsError> {
        let client = Client::start(options, settings.timing, settings.ctl)?;
        let begun = Instant::now();
        while client.connected(Instant::now() + START_PAUSE).await.is_none() {
            if settings.ctl && begun.elapsed() >= PERSONS_PATIENCE {
                return Err(DcsError::Unreachable("Connection time-out".into()));
            }
            client.shared().state().alive = Instant::now();
            tracing::info!(target: LOG, "waiting on zookeeper");
        }
        Ok(ZooKeeper { client, exhibitor, lock: SharedLock::default(), state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn deadline(&self, effort: Effort) -> Instant {
        let budget = self.timing().retry_timeout;
        effort.deadline(if matches!(effort, Effort::Once) { budget.min(ONCE) } else { budget })
    }

    fn writer(&self, effort: Effort) -> Writer<'_> {
        Writer { client: &self.client, deadline: self.deadline(effort), once: false }
    }

    /// The session, connected, and with the timeout that is wanted.
    async fn current(&self, deadline: Instant) -> Result<i64, Failure> {
        let outdated = {
            let state = self.client.shared().state();
            state.session.as_ref().filter(|_| state.asked != state.timing.ttl).map(|session| session.id)
        };
        let found = match outdated {
            Some(id) => {
                self.client.leave(id);
                self.client.connected_other(id, deadline).await
            }
            None => self.client.connected(deadline).await,
        };
        found.ok_or_else(|| Failure::Unknown("no connection to ZooKeeper".into()))
    }

    async fn alive(&self, force: bool, deadline: Instant) -> Result<Session, Failure> {
        loop {
            self.client.shared().state().alive = Instant::now();
            let id = self.current(deadline).await?;
            {
                let mut state = self.client.shared().state();
                (state.alive, state.attended) = (Instant::now(), true);
            }
            let loop_wait = self.timing().loop_wait;
            let known = self.state().proved.filter(|(proved, at)| *proved == id && at.elapsed() < loop_wait);
            let answer = match (known.filter(|_| !force), renew::granted(&self.client, id)) {
                (Some(_), Some(granted)) => Ok(granted),
                _ => self.prove(id, deadline).await,
            };
            match answer {
                Ok(granted) => return Ok(Session { id: Some(id.to_string()), granted }),
                // It has ended: the next one.
                Err(Failure::SessionGone(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn prove(&self, id: i64, deadline: Instant) -> Result<Granted, Failure> {
        let begun = Instant::now();
        let granted = renew::prove(&self.client, "/", id, deadline).await?;
        self.state().proved = Some((id, begun));
        Ok(granted)
    }
}

/// The section as it would be without an Exhibitor.
fn with_hosts(section: &Value, hosts: &str) -> Value {
    let mut section = section.clone();
    section.set("hosts", Value::from(hosts));
    section
}

impl KvStore for ZooKeeper {
    fn words(&self) -> Words {
        Words {
            store: "ZooKeeper",
            session: "session",
            not_responding: "ZooKeeper in not responding properly",
            foreign_owner: None,
        }
    }

    crate::voice!("patroni.dcs.zookeeper");

    fn timing(&self) -> Timing {
        self.client.shared().state().timing
    }

    fn set_timing(&self, timing: Timing) -> bool {
        let mut state = self.client.shared().state();
        let before = std::mem::replace(&mut state.timing, timing);
        before.ttl != timing.ttl
    }

    fn reload(&self, section: &Value) -> Result<(), DcsError> {
        let options = match &self.exhibitor {
            Some(exhibitor) => {
                exhibitor.reload(section)?;
                Options::from_section(&with_hosts(section, &exhibitor.zookeeper_hosts()))?
            }
            None => Options::from_section(section)?,
        };
        let changed = self.client.shared().state().take_options(options);
        if changed {
            self.client.reconnect();
        }
        Ok(())
    }

    async fn list(&self, prefix: &str, effort: Effort) -> Result<Nodes, Failure> {
        if let Some(exhibitor) = &self.exhibitor {
            if let Some(hosts) = exhibitor.poll().await {
                match options::parse_hosts(&hosts) {
                    // For the next connection.
                    Ok((hosts, _)) => Arc::make_mut(&mut self.client.shared().state().options).hosts = hosts,
                    Err(error) => tracing::error!(target: LOG, "{error}"),
                }
            }
        }
        list::list(&self.client, prefix.trim_end_matches('/'), self.deadline(effort)).await
    }

    async fn put(&self, put: Put<'_>, effort: Effort) -> Result<Written, Failure> {
        self.writer(effort).put(&put).await
    }

    async fn delete(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        self.writer(effort).delete(key, condition).await
    }

    async fn delete_all(&self, prefix: &str, effort: Effort) -> Result<Written, Failure> {
        self.writer(effort).delete_all(prefix.trim_end_matches('/')).await
    }

    async fn session(&self, force: bool, effort: Effort) -> Result<Session, Failure> {
        self.alive(force, self.deadline(effort)).await
    }

    fn session_id(&self) -> Option<String> {
        let state = self.client.shared().state();
        state
            .session
            .as_ref()
            .filter(|_| state.asked == state.timing.ttl)
            .map(|session| session.id.to_string())
    }

    fn forget_session(&self) {
        // If it has ended the next proof shows it, or the connection already has.
        self.state().proved = None;
    }

    fn expect_refresh(&self) {
        self.state().proved = None;
    }

    fn set_leader(&self, leader: Option<Held<'_>>) {
        *locked(&self.lock) = leader.as_ref().map(OurLock::of);
    }

    fn let_leader_run_out(&self) {
        let held = locked(&self.lock).clone();
        if let Some(session) = held.and_then(|held| held.session()) {
            self.client.leave(session);
        }
    }

    fn renewer(&self) -> Box<dyn LockRenewer> {
        Box::new(Renewer::new(self.client.clone(), Arc::clone(&self.lock)))
    }

    fn watch(self: Arc<Self>, prefix: String, sink: Sink) -> impl Future<Output = ()> + Send + 'static {
        watch::run(self.client.clone(), prefix.trim_end_matches('/').to_owned(), sink)
    }

    async fn claim(&self, key: &str, effort: Effort) -> Result<bool, Failure> {
        let deadline = self.deadline(effort);
        let session = self.alive(false, deadline).await?;
        let id = write::session_number(&session)?;
        let claimed = self.state().claimed == Some(id);
        let answer = self.writer(Effort::Until(deadline)).claim(key, id, claimed).await;
        self.state().claimed = match &answer {
            // Nobody knows; who asks again is told.
            Err(_) => Some(id),
            Ok(_) => None,
        };
        answer
    }

    async fn clear(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        self.put(Put::new(key, "{}").when(condition), effort).await
    }

    /// Ends the session, as the reference does: that takes away what is ours and nothing else, whatever happens in
    /// between. Our member key goes with it, and is made again by the next cycle.
    async fn release(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        let deadline = self.deadline(effort);
        let writer = Writer { client: &self.client, deadline, once: false };
        let Some((value, stat)) = writer.get(key).await? else { return Ok(Written::Refused) };
        let ours = match condition {
            If::Always => true,
            If::Absent => false,
            If::Version(version) => stat.version.to_string() == version,
            If::Ours { value: wanted, .. } | If::AbsentOr(wanted) => value == wanted,
        };
        if !ours {
            return Ok(Written::Refused);
        }
        let session = self.current(deadline).await?;
        if stat.owner != session {
            // A session that we have left cannot be ended any more: the key is moved to this one first. Any other is a
            // namesake's.
            let left = self.client.shared().state().left.contains(&stat.owner);
            if !left || !writer.replace(key, &value, &stat, Some(session)).await?.is_done() {
                return Ok(Written::Refused);
            }
        }
        match self.client.ask(&[Op::Close], Some(session), deadline, false).await {
            Ok(_) | Err(Failure::SessionGone(_)) => Ok(Written::Done(String::new())),
            Err(failure) => Err(failure),
        }
    }

    fn setbacks(&self) -> u64 {
        self.client.shared().state().setbacks
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod fake_tests;
