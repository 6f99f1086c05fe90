//! The nodes of an etcd cluster: one connection to each, and which to ask (surface-dcs 8).

mod credentials;
mod nodes;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patroni_core::model::url::bracketed;
use patroni_core::mutex::locked;
use tokio::sync::watch;

use super::seen::{Seen, Told, Verdict};
use super::wire::{Failure, Manner, Reply, Wire};
use super::EtcdOptions;
pub use crate::kv::Effort;
use crate::kv::Level;
use crate::retry::{hurried_slices, time_slices, Backoff, Slices};
use crate::Timing;

const LOG: &str = "patroni.dcs.etcd";

/// What the pools of a process share: whose store it is, and what it was seen to be.
struct Common<W> {
    wire: W,
    options: Mutex<Arc<EtcdOptions>>,
    timing: Mutex<Timing>,
    seen: Mutex<Seen>,
    /// The options whose credentials etcd has accepted last.
    accepted: Mutex<Option<Arc<EtcdOptions>>>,
    /// And those it has refused since then, when.
    refused: Mutex<Option<(Arc<EtcdOptions>, Instant)>>,
}

struct State<C> {
    nodes: Vec<String>,
    base: String,
    refresh_at: Option<Instant>,
    clients: HashMap<String, Client<C>>,
    /// What the clients were made with.
    options: Arc<EtcdOptions>,
}

/// A connection, and the options that it was made with: their credentials may be those before.
#[derive(Clone)]
struct Client<C> {
    conn: C,
    options: Arc<EtcdOptions>,
}

/// Who asks through a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The HA loop and the REST API.
    Daemon,
    /// The lock keeper, beside them: what it meets is no news.
    Keeper,
    /// patronictl: a person who waits.
    Person,
}

/// The nodes.
pub struct Pool<W: Wire> {
    common: Arc<Common<W>>,
    asker: Asker,
    state: Mutex<State<W::Conn>>,
    selected: watch::Sender<String>,
}

impl<W: Wire> Pool<W> {
    /// Knows no node yet; the first request looks for them.
    pub fn new(wire: W, options: EtcdOptions, timing: Timing, asker: Asker) -> Pool<W> {
        let (options, seen) = (Mutex::new(Arc::new(options)), Mutex::default());
        let timing = Mutex::new(timing);
        let (accepted, refused) = (Mutex::default(), Mutex::default());
        Pool::with(Arc::new(Common { wire, options, timing, seen, accepted, refused }), asker)
    }

    fn with(common: Arc<Common<W>>, asker: Asker) -> Pool<W> {
        let options = Arc::clone(&locked(&common.options));
        let state = State {
            nodes: Vec::new(),
            base: first_base(&options),
            refresh_at: None,
            clients: HashMap::new(),
            options,
        };
        Pool { common, asker, state: Mutex::new(state), selected: watch::Sender::new(String::new()) }
    }

    /// Another one with connections of its own. It has the same options, nodes and durations, now and later, and
    /// knows of the store what this one does. It begins with another node, where there are several.
    pub fn separate(&self) -> Pool<W> {
        let pool = Pool::with(Arc::clone(&self.common), Asker::Keeper);
        let (nodes, base) = {
            let state = locked(&self.state);
            (state.nodes.clone(), state.base.clone())
        };
        if !nodes.is_empty() {
            let other = nodes.iter().find(|url| **url != base).cloned();
            locked(&pool.state).base = other.unwrap_or(base);
            pool.learn(nodes);
        }
        pool
    }

    /// The options in force.
    pub fn options(&self) -> Arc<EtcdOptions> {
        Arc::clone(&locked(&self.common.options))
    }

    /// New options, for all pools. Connections are made anew, but not for new credentials alone: etcd accepts the
    /// tokens of the old ones until it is told of the new ones, and may not know those yet. Are they new?
    pub fn set_options(&self, options: EtcdOptions) -> bool {
        let new = *self.options() != options;
        if new {
            *locked(&self.common.options) = Arc::new(options);
        }
        new
    }

    /// The durations in force.
    pub fn timing(&self) -> Timing {
        *locked(&self.common.timing)
    }

    /// New durations, for all pools.
    pub fn set_timing(&self, timing: Timing) {
        *locked(&self.common.timing) = timing;
    }

    /// How often the store has become another one, or an earlier one.
    pub fn setbacks(&self) -> u64 {
        locked(&self.common.seen).setbacks()
    }

    /// The end of an operation that begins now.
    pub fn deadline(&self) -> Effort {
        Effort::Until(Instant::now() + self.timing().retry_timeout)
    }

    /// Tells of the node that requests go to; changes when that has failed.
    pub fn selected(&self) -> watch::Receiver<String> {
        self.selected.subscribe()
    }

    /// Makes the watcher connect again: something shows that it may be behind.
    pub fn distrust_watch(&self) {
        self.selected.send_modify(|_| {});
    }

    /// A connection of its own to a node.
    ///
    /// # Errors
    /// See [`Wire::connect`].
    pub async fn connect_for_watch(&self, url: &str) -> Result<W::Conn, Failure> {
        let manner = Manner { require_leader: true, ..self.manner(self.timing().retry_timeout) };
        let options = self.options();
        // Where connecting shows nothing: with what requests go well.
        let shows = self.common.wire.shows_credentials(None);
        let options = self.former(&options).filter(|_| !shows).unwrap_or(options);
        let limit = self.timing().retry_timeout;
        tokio::time::timeout(limit, self.connect(url, &options, manner))
            .await
            .unwrap_or_else(|_| Err(timed_out()))
            .map(|client| client.conn)
    }

    /// Carries out a request, authenticating anew where that is what it takes.
    ///
    /// # Errors
    /// [`Failure::Node`] and [`Failure::Busy`]: the time is over and nobody knows what
    /// came of it. Everything else is a refusal.
    pub async fn call(&self, rpc: &W::Rpc, effort: Effort) -> Result<Reply<W::Body>, Failure> {
        match effort {
            Effort::Once => match self.call_once(rpc).await {
                Err(refusal @ Failure::Token(_)) if self.note_refusal(&refusal) => self.call_once(rpc).await,
                other => other,
            },
            Effort::Until(deadline) => self.call_until(rpc, deadline, time_slices).await,
            Effort::Hurried(deadline) => self.call_until(rpc, deadline, hurried_slices).await,
        }
    }

    /// The lock keeper's troubles are no news as long as the HA loop has none; it says itself when they last.
    fn complain(&self, text: impl FnOnce() -> String) {
        if self.asker == Asker::Keeper {
            tracing::debug!(target: LOG, "lock keeper: {}", text());
        } else {
            self.common.wire.say(Level::Error, &text());
        }
    }

    async fn call_once(&self, rpc: &W::Rpc) -> Result<Reply<W::Body>, Failure> {
        let budget = self.timing().retry_timeout;
        let nodes = self.nodes(budget).await;
        let slices = time_slices(nodes.len(), budget);
        let Some(url) = nodes.first() else { return Err(no_nodes()) };
        let result = self.ask(url, rpc, slices).await;
        if let Err(Failure::Node(text)) = &result {
            self.log_failed(url, text);
            // Nobody knows what has happened there: whatever comes next goes elsewhere.
            self.select(nodes.get(1).unwrap_or(url));
        }
        result
    }

    async fn call_until(
        &self,
        rpc: &W::Rpc,
        deadline: Instant,
        slices: fn(usize, Duration) -> Slices,
    ) -> Result<Reply<W::Body>, Failure> {
        let mut backoff = Backoff::new();
        let mut repeated = false;
        let mut refusals = 0;
        loop {
            let left = || deadline.saturating_duration_since(Instant::now());
            let nodes = self.nodes(left() / 2).await;
            let slices = slices(nodes.len(), left());
            let mut failed = no_nodes();
            for (n, url) in nodes.iter().take(slices.nodes).enumerate() {
                if n > 0 {
                    self.remark(|| format!("Retrying on {url}"));
                }
                match self.ask(url, rpc, slices).await {
                    Ok(reply) => {
                        if n > 0 {
                            self.select(url);
                            locked(&self.state).refresh_at = None;
                        }
                        self.refresh_if_due(url, left().min(slices.attempt) / 2).await;
                        return Ok(Reply { repeated, ..reply });
                    }
                    Err(Failure::Node(text)) => {
                        self.log_failed(url, &text);
                        failed = Failure::Node("No more machines in the cluster".into());
                        repeated = true;
                    }
                    Err(Failure::Busy(text)) => {
                        failed = Failure::Busy(text);
                        repeated = true;
                        break;
                    }
                    Err(refusal @ (Failure::Token(_) | Failure::Password(_))) => {
                        refusals += 1;
                        let known = self.note_refusal(&refusal);
                        let stale = known && matches!(refusal, Failure::Token(_)) && refusals <= 3;
                        // A password that is changed is wrong on one of the two sides for a while, and nobody must
                        // give up a lock for it. A person hears of it at once.
                        if self.asker == Asker::Person && !stale {
                            return Err(refusal);
                        }
                        failed = refusal;
                        break;
                    }
                    Err(other) => return Err(other),
                }
            }
            // A token may have ended: the first new one is fetched at once.
            let pause = if refusals == 1 { Duration::ZERO } else { backoff.next() };
            if Instant::now() + pause >= deadline {
                self.distrust_watch();
                locked(&self.state).refresh_at = None;
                return Err(failed);
            }
            tokio::time::sleep(pause).await;
            if matches!(failed, Failure::Node(_)) {
                self.look_elsewhere(&nodes, deadline).await;
            }
        }
    }

    /// One node, with repeated attempts as long as no connection comes about.
    async fn ask(&self, url: &str, rpc: &W::Rpc, slices: Slices) -> Result<Reply<W::Body>, Failure> {
        let mut tries = slices.tries;
        loop {
            let attempt = tokio::time::timeout(slices.attempt, self.attempt(url, rpc, slices.attempt)).await;
            let timed_out_now = attempt.is_err();
            let result = attempt.unwrap_or_else(|_| Err(timed_out()));
            if let Err(Failure::Node(text)) = &result {
                locked(&self.state).clients.remove(url);
                tries -= 1;
                if tries > 0 && !timed_out_now && text.contains("tcp connect error") {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            }
            return result;
        }
    }

    async fn attempt(&self, url: &str, rpc: &W::Rpc, slice: Duration) -> Result<Reply<W::Body>, Failure> {
        let options = self.options();
        let known = {
            let mut state = locked(&self.state);
            if state.options != options {
                if !state.options.differ_in_credentials_alone(&options) {
                    state.clients.clear();
                }
                state.options = Arc::clone(&options);
            }
            state.clients.get(url).cloned()
        };
        let mut client = match known {
            Some(client) => client,
            None => {
                let client = self.connect(url, &options, self.manner(slice)).await?;
                locked(&self.state).clients.insert(url.to_owned(), client.clone());
                client
            }
        };
        tracing::trace!(target: "dcs::etcd::rpc", ?rpc);
        let sent = Instant::now();
        let wire = &self.common.wire;
        let mut sending = wire.send(&mut client.conn, rpc).await;
        if let Err(Failure::Password(text)) = &sending {
            // Where they go with each request: nothing was done, and those before may be good.
            if let Some(old) = self.former(&client.options) {
                client = Client { conn: wire.connect(url, &old, self.manner(slice)).await?, options: old };
                let again = wire.send(&mut client.conn, rpc).await;
                if !matches!(again, Err(Failure::Password(_))) {
                    self.goes_on_with_former(text);
                    locked(&self.state).clients.insert(url.to_owned(), client.clone());
                    sending = again;
                }
            }
        }
        if sending.is_ok() && wire.shows_credentials(Some(rpc)) {
            self.note_accepted(&client.options);
        }
        let reply = sending.map_err(|failure| match failure {
            // Without its name nobody would know which key there is talk of.
            Failure::Refused(text) if text.contains("too large") => {
                Failure::Refused(format!("{}: {text}", wire.what(rpc)))
            }
            other => other,
        })?;
        self.judge(reply.told, sent)?;
        Ok(reply)
    }

    fn manner(&self, slice: Duration) -> Manner {
        let timing = self.timing();
        let ping = (timing.ttl / 3).max(Duration::from_secs(6));
        let pong = (timing.ttl / 6).max(Duration::from_secs(2));
        let connect_timeout = (slice / 2).max(Duration::from_secs(1));
        // The lock keeper's runtime stands still between two renewals, and would answer no ping.
        let streams = self.asker == Asker::Daemon;
        Manner { connect_timeout, ping: (ping, pong), require_leader: false, streams }
    }

    /// Whether the answer counts, see [`Seen`]; says what it shows of the store.
    fn judge(&self, told: Told, sent: Instant) -> Result<(), Failure> {
        let patience = self.timing().retry_timeout;
        let verdict = locked(&self.common.seen).judge(told, sent, Instant::now(), patience);
        let Told { cluster, term, revision, .. } = told;
        let gone_back = |lost: &str| {
            tracing::error!(
                target: LOG,
                "The etcd cluster has gone back{lost}: it was restored from a backup, or forced into a new cluster. \
                 What was written to it since then is lost."
            );
        };
        match verdict {
            Verdict::Good => return Ok(()),
            Verdict::Stale(known) => {
                let text = format!("Connected to Etcd node with term {term}. Old known term {known}. Switching to another node.");
                match self.asker {
                    Asker::Keeper => tracing::debug!(target: LOG, "lock keeper: {text}"),
                    _ => tracing::warn!(target: LOG, "{text}"),
                }
                return Err(Failure::Node("stale etcd node".into()));
            }
            Verdict::OtherCluster { before, lost } => {
                tracing::warn!(target: LOG, "Etcd Cluster ID changed from {before} to {cluster}");
                if let Some(before) = lost {
                    gone_back(&format!(" from revision {before} to {revision}"));
                }
            }
            Verdict::GoneBack { term: before, revision: highest } => {
                gone_back(&format!(" from revision {highest}, term {before}, to {revision}, term {term}"));
            }
        }
        self.distrust_watch();
        Ok(())
    }

    fn remark(&self, text: impl FnOnce() -> String) {
        if self.asker == Asker::Keeper {
            tracing::debug!(target: LOG, "lock keeper: {}", text());
        } else {
            tracing::info!(target: LOG, "{}", text());
        }
    }

    fn log_failed(&self, url: &str, text: &str) {
        if self.asker == Asker::Keeper {
            tracing::debug!(target: LOG, "lock keeper: request to server {url} failed: {text}");
            return;
        }
        tracing::error!(target: LOG, "Request to server {url} failed: {text}");
        tracing::info!(target: LOG, "Reconnection allowed, looking for another server.");
    }
}

/// What the reference's client begins with: the one host of the configuration, or etcd's legacy address.
fn first_base(options: &EtcdOptions) -> String {
    match &options.source.host {
        Some((host, port)) => format!("{}://{}:{port}", options.protocol, bracketed(host)),
        None => "http://127.0.0.1:4001".into(),
    }
}

fn timed_out() -> Failure {
    Failure::Node("timed out".into())
}

fn no_nodes() -> Failure {
    Failure::Node(
        "Could not get the list of servers, maybe you provided the wrong host(s) to connect to?".into(),
    )
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
