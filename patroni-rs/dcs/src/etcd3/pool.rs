//! The nodes of an etcd cluster: one connection to each, and which to ask (surface-dcs 8).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use etcd_client::Client;
use rand::seq::SliceRandom;
use tokio::sync::watch;

use super::connect::{connect, Manner};
use super::failure::{classify, Failure};
use super::rpc::{Body, Reply, Rpc};
use crate::etcd::EtcdOptions;
use crate::retry::{time_slices, Backoff, Slices};
use crate::Timing;

const LOG: &str = "patroni.dcs.etcd";

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub enum Effort {
    /// One node, whatever comes of it; the next request goes to another one.
    Once,
    /// All nodes, again and again until then.
    Until(Instant),
}

#[derive(Default)]
struct State {
    nodes: Vec<String>,
    base: String,
    refresh_at: Option<Instant>,
    clients: HashMap<String, Client>,
    cluster_id: u64,
    raft_term: u64,
}

/// The nodes.
pub struct Pool {
    options: Mutex<Arc<EtcdOptions>>,
    timing: Mutex<Timing>,
    state: Mutex<State>,
    selected: watch::Sender<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Knows no node yet; the first request looks for them.
    pub fn new(options: EtcdOptions, timing: Timing) -> Pool {
        Pool {
            options: Mutex::new(Arc::new(options)),
            timing: Mutex::new(timing),
            state: Mutex::default(),
            selected: watch::Sender::new(String::new()),
        }
    }

    /// Another one with the same options and nodes, but connections of its own.
    pub fn separate(&self) -> Pool {
        let pool = Pool::new((*self.options()).clone(), self.timing());
        let nodes = lock(&self.state).nodes.clone();
        if !nodes.is_empty() {
            pool.learn(nodes);
        }
        pool
    }

    /// The options in force.
    pub fn options(&self) -> Arc<EtcdOptions> {
        Arc::clone(&lock(&self.options))
    }

    /// New options; connections are made anew.
    pub fn set_options(&self, options: EtcdOptions) {
        if *self.options() != options {
            *lock(&self.options) = Arc::new(options);
            lock(&self.state).clients.clear();
        }
    }

    /// The durations in force.
    pub fn timing(&self) -> Timing {
        *lock(&self.timing)
    }

    /// New durations.
    pub fn set_timing(&self, timing: Timing) {
        *lock(&self.timing) = timing;
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
    /// See [`connect`].
    pub async fn connect_for_watch(&self, url: &str) -> Result<Client, Failure> {
        let manner = Manner { require_leader: true, ..self.manner(self.timing().retry_timeout) };
        let options = self.options();
        let limit = self.timing().retry_timeout;
        tokio::time::timeout(limit, connect(url, &options, manner)).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Carries out a request, authenticating anew where that is what it takes.
    ///
    /// # Errors
    /// [`Failure::Node`] and [`Failure::Busy`]: the time is over and nobody knows what
    /// came of it. Everything else is a refusal.
    pub async fn call(&self, rpc: &Rpc, effort: Effort) -> Result<Reply, Failure> {
        let mut reauthentications = 0;
        loop {
            let result = match effort {
                Effort::Once => self.call_once(rpc).await,
                Effort::Until(deadline) => self.call_until(rpc, deadline).await,
            };
            let limit = if matches!(effort, Effort::Once) { 1 } else { 3 };
            match result {
                Err(Failure::Token(text)) if reauthentications < limit && self.has_time(effort) => {
                    if self.options().credentials.is_none() {
                        tracing::error!(target: "patroni.dcs.etcd3", "Username or password not set, authentication is not possible");
                        return Err(Failure::Token(text));
                    }
                    tracing::error!(target: "patroni.dcs.etcd3", "Invalid auth token: {text}");
                    lock(&self.state).clients.clear();
                    reauthentications += 1;
                }
                other => return other,
            }
        }
    }

    fn has_time(&self, effort: Effort) -> bool {
        match effort {
            Effort::Once => true,
            Effort::Until(deadline) => {
                deadline.saturating_duration_since(Instant::now()) >= Duration::from_millis(500)
            }
        }
    }

    async fn call_once(&self, rpc: &Rpc) -> Result<Reply, Failure> {
        let budget = self.timing().retry_timeout;
        let nodes = self.nodes(budget).await;
        let slices = time_slices(nodes.len(), budget);
        let Some(url) = nodes.first() else { return Err(no_nodes()) };
        let result = self.ask(url, rpc, slices).await;
        if let Err(Failure::Node(text)) = &result {
            log_failed(url, text);
            // Nobody knows what has happened there: whatever comes next goes elsewhere.
            self.select(nodes.get(1).unwrap_or(url));
        }
        result
    }

    async fn call_until(&self, rpc: &Rpc, deadline: Instant) -> Result<Reply, Failure> {
        let mut backoff = Backoff::new();
        let mut repeated = false;
        loop {
            let left = || deadline.saturating_duration_since(Instant::now());
            let nodes = self.nodes(left() / 2).await;
            let slices = time_slices(nodes.len(), left());
            let mut failed = no_nodes();
            for (n, url) in nodes.iter().take(slices.nodes).enumerate() {
                if n > 0 {
                    tracing::info!(target: LOG, "Retrying on {url}");
                }
                match self.ask(url, rpc, slices).await {
                    Ok(reply) => {
                        if n > 0 {
                            self.select(url);
                            lock(&self.state).refresh_at = None;
                        }
                        self.refresh_if_due(url, left().min(slices.attempt)).await;
                        return Ok(Reply { repeated, ..reply });
                    }
                    Err(Failure::Node(text)) => {
                        log_failed(url, &text);
                        failed = Failure::Node("No more machines in the cluster".into());
                        repeated = true;
                    }
                    Err(Failure::Busy(text)) => {
                        failed = Failure::Busy(text);
                        repeated = true;
                        break;
                    }
                    Err(other) => return Err(other),
                }
            }
            let pause = backoff.next();
            if Instant::now() + pause >= deadline {
                self.distrust_watch();
                lock(&self.state).refresh_at = None;
                return Err(failed);
            }
            tokio::time::sleep(pause).await;
            if matches!(failed, Failure::Node(_)) {
                self.look_elsewhere(&nodes, deadline).await;
            }
        }
    }

    /// One node, with repeated attempts as long as no connection comes about.
    async fn ask(&self, url: &str, rpc: &Rpc, slices: Slices) -> Result<Reply, Failure> {
        let mut tries = slices.tries;
        loop {
            let attempt = tokio::time::timeout(slices.attempt, self.attempt(url, rpc, slices.attempt)).await;
            let timed_out_now = attempt.is_err();
            let result = attempt.unwrap_or_else(|_| Err(timed_out()));
            if let Err(Failure::Node(text)) = &result {
                lock(&self.state).clients.remove(url);
                tries -= 1;
                if tries > 0 && !timed_out_now && text.contains("tcp connect error") {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            }
            return result;
        }
    }

    async fn attempt(&self, url: &str, rpc: &Rpc, slice: Duration) -> Result<Reply, Failure> {
        let known = lock(&self.state).clients.get(url).cloned();
        let mut client = match known {
            Some(client) => client,
            None => {
                let client = connect(url, &self.options(), self.manner(slice)).await?;
                lock(&self.state).clients.insert(url.to_owned(), client.clone());
                client
            }
        };
        let reply = rpc.send(&mut client).await.map_err(|error| classify(&error))?;
        self.check_term(&reply)?;
        Ok(reply)
    }

    fn manner(&self, slice: Duration) -> Manner {
        let timing = self.timing();
        let ping = (timing.ttl / 3).max(Duration::from_secs(6));
        let pong = (timing.ttl / 6).max(Duration::from_secs(2));
        let connect_timeout = (slice / 2).max(Duration::from_secs(1));
        Manner { connect_timeout, ping: (ping, pong), require_leader: false }
    }

    /// A node with an older term than one that was seen before has fallen behind.
    fn check_term(&self, reply: &Reply) -> Result<(), Failure> {
        let (cluster_id, term) = reply.cluster;
        if cluster_id == 0 || term == 0 {
            return Ok(());
        }
        let mut state = lock(&self.state);
        if state.cluster_id != 0 && state.cluster_id != cluster_id {
            tracing::warn!(target: LOG, "Etcd Cluster ID changed from {} to {cluster_id}", state.cluster_id);
            state.raft_term = 0;
        }
        state.cluster_id = cluster_id;
        if term < state.raft_term {
            let known = state.raft_term;
            tracing::warn!(target: LOG, "Connected to Etcd node with term {term}. Old known term {known}. Switching to another node.");
            return Err(Failure::Node("stale etcd node".into()));
        }
        state.raft_term = term;
        Ok(())
    }

    fn select(&self, url: &str) {
        let mut state = lock(&self.state);
        if state.base != url {
            tracing::info!(target: LOG, "Selected new etcd server {url}");
            url.clone_into(&mut state.base);
        }
        drop(state);
        self.selected.send_replace(url.to_owned());
    }

    /// The nodes, the selected one first. Looks for them if there are none yet.
    async fn nodes(&self, budget: Duration) -> Vec<String> {
        let known = !lock(&self.state).nodes.is_empty();
        if !known {
            if let Err(failure) = self.discover(budget).await {
                tracing::debug!(target: LOG, "Failed to update list of etcd nodes: {}", failure.text());
            }
        }
        let state = lock(&self.state);
        let mut nodes = state.nodes.clone();
        nodes.sort_by_key(|url| *url != state.base);
        nodes
    }

    /// Asks a node that has just answered for the members, from time to time.
    async fn refresh_if_due(&self, url: &str, budget: Duration) {
        let due = lock(&self.state).refresh_at.is_none_or(|at| at <= Instant::now());
        if due {
            let _ = self.refresh(&[url.to_owned()], budget).await;
        }
    }

    /// Finds the members, beginning with the nodes of the configuration.
    ///
    /// # Errors
    /// No node has told of them; wrong credentials.
    pub async fn discover(&self, budget: Duration) -> Result<(), Failure> {
        let mut candidates = self.options().nodes(budget / 2).await;
        let known = lock(&self.state).nodes.clone();
        candidates.extend(known.into_iter().filter(|url| !candidates.contains(url)).collect::<Vec<_>>());
        self.refresh(&candidates, budget).await
    }

    async fn refresh(&self, candidates: &[String], budget: Duration) -> Result<(), Failure> {
        let slices = time_slices(candidates.len(), budget);
        let mut failure = no_nodes();
        // Not at every request while that fails.
        lock(&self.state).refresh_at = Some(Instant::now() + Duration::from_secs(5));
        for url in candidates.iter().take(slices.nodes.max(1)) {
            let single = Slices { tries: 1, ..slices };
            match self.ask(url, &Rpc::Members, single).await {
                Ok(Reply { body: Body::Urls(urls), .. }) if !urls.is_empty() => {
                    let shown: Vec<String> = urls.iter().map(|url| pyfmt::value::str_repr(url)).collect();
                    tracing::debug!(target: LOG, "Retrieved list of machines: [{}]", shown.join(", "));
                    self.learn(urls);
                    return Ok(());
                }
                Ok(_) => failure = Failure::Node(format!("{url} does not know its cluster")),
                Err(error) => {
                    tracing::error!(target: LOG, "Failed to get list of machines from {url}: {}", error.text());
                    // A wrong password is more telling than whatever the other nodes say.
                    if !matches!(failure, Failure::Password(_)) {
                        failure = error;
                    }
                }
            }
        }
        Err(failure)
    }

    fn learn(&self, mut urls: Vec<String>) {
        urls.sort();
        urls.dedup();
        urls.shuffle(&mut rand::rng());
        let next = Instant::now() + self.timing().ttl * 10;
        let mut state = lock(&self.state);
        state.refresh_at = Some(next);
        state.clients.retain(|url, _| urls.contains(url));
        let keep_base = urls.contains(&state.base);
        let base = if keep_base { None } else { urls.first().cloned() };
        state.nodes = urls;
        drop(state);
        if let Some(base) = base {
            self.select(&base);
        }
    }

    /// All known nodes have failed: are there others in the configuration?
    async fn look_elsewhere(&self, tried: &[String], deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let others: Vec<String> =
            self.options().nodes(left / 4).await.into_iter().filter(|url| !tried.contains(url)).collect();
        if !others.is_empty() {
            let budget = deadline.saturating_duration_since(Instant::now()) / 2;
            let _ = self.refresh(&others, budget).await;
        }
    }
}

fn log_failed(url: &str, text: &str) {
    tracing::error!(target: LOG, "Request to server {url} failed: {text}");
    tracing::error!(target: LOG, "Request to server {url} failed: {text}");
    tracing::info!(target: LOG, "Reconnection allowed, looking for another server.");
}

fn timed_out() -> Failure {
    Failure::Node("timed out".into())
}

fn no_nodes() -> Failure {
    Failure::Node(
        "Could not get the list of servers, maybe you provided the wrong host(s) to connect to?".into(),
    )
}
