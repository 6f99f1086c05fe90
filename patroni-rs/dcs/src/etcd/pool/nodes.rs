//! Which nodes there are, and which of them is asked first.

use std::time::{Duration, Instant};

use patroni_core::mutex::locked;
use rand::seq::SliceRandom;

use super::{no_nodes, Pool, LOG};
use crate::etcd::wire::{Failure, Wire};
use crate::retry::{time_slices, Slices};

impl<W: Wire> Pool<W> {
    pub(super) fn select(&self, url: &str) {
        let mut state = locked(&self.state);
        if state.base != url {
            self.remark(|| format!("Selected new etcd server {url}"));
            url.clone_into(&mut state.base);
        }
        drop(state);
        self.selected.send_replace(url.to_owned());
    }

    /// The selected node has not answered in time, and whoever asked does not wait any longer: the next request goes
    /// to another one, over a new connection.
    pub fn leave_selected(&self) {
        let mut state = locked(&self.state);
        let base = state.base.clone();
        state.clients.remove(&base);
        let at = state.nodes.iter().position(|url| *url == base);
        let next = at.and_then(|at| state.nodes.get(at + 1)).or(state.nodes.first()).cloned();
        drop(state);
        if let Some(next) = next {
            self.select(&next);
        }
    }

    /// The nodes, the selected one first. Looks for them if there are none yet.
    pub(super) async fn nodes(&self, budget: Duration) -> Vec<String> {
        let known = !locked(&self.state).nodes.is_empty();
        if !known {
            if let Err(failure) = self.discover(budget).await {
                tracing::debug!(target: LOG, "Failed to update list of etcd nodes: {}", failure.text());
            }
        }
        let state = locked(&self.state);
        let mut nodes = state.nodes.clone();
        nodes.sort_by_key(|url| *url != state.base);
        nodes
    }

    /// Asks a node that has just answered for the members, from time to time.
    pub(super) async fn refresh_if_due(&self, url: &str, budget: Duration) {
        let due = locked(&self.state).refresh_at.is_none_or(|at| at <= Instant::now());
        if due {
            // Of proxies the configuration's names are all there is, and may have other addresses by now.
            let _ = match self.options().use_proxies {
                true => self.discover(budget).await,
                false => {
                    let mut known = locked(&self.state).nodes.clone();
                    known.sort_by_key(|node| node != url);
                    self.refresh(&known, budget).await
                }
            };
        }
    }

    /// Finds the members, beginning with the nodes of the configuration.
    ///
    /// # Errors
    /// No node has told of them; wrong credentials.
    pub async fn discover(&self, budget: Duration) -> Result<(), Failure> {
        let mut candidates = self.options().nodes(budget / 2).await;
        let known = locked(&self.state).nodes.clone();
        // Of proxies only those count that the configuration has now.
        if !self.options().use_proxies || candidates.is_empty() {
            let others: Vec<_> = known.into_iter().filter(|url| !candidates.contains(url)).collect();
            candidates.extend(others);
        }
        self.refresh(&candidates, budget).await
    }

    async fn refresh(&self, candidates: &[String], budget: Duration) -> Result<(), Failure> {
        let slices = time_slices(candidates.len(), budget);
        let mut failure = no_nodes();
        // Not at every request while that fails.
        locked(&self.state).refresh_at = Some(Instant::now() + Duration::from_secs(5));
        for url in candidates.iter().take(slices.nodes.max(1)) {
            let single = Slices { tries: 1, ..slices };
            let answer = self.ask(url, &self.common.wire.members(), single).await;
            let answer = answer.map(|reply| {
                let told = self.common.wire.urls(reply.body).filter(|_| !self.options().use_proxies);
                // A proxy, or a node that does not speak as we do to the others: what it knows is of no use.
                told.unwrap_or_else(|| candidates.to_vec())
            });
            match answer {
                Ok(urls) if !urls.is_empty() => {
                    let shown: Vec<String> = urls.iter().map(|url| pyfmt::value::str_repr(url)).collect();
                    tracing::debug!(target: LOG, "Retrieved list of machines: [{}]", shown.join(", "));
                    self.learn(urls);
                    return Ok(());
                }
                Ok(_) => failure = Failure::Node(format!("{url} does not know its cluster")),
                Err(error) => {
                    self.complain(|| format!("Failed to get list of machines from {url}: {}", error.text()));
                    // A wrong password is more telling than whatever the other nodes say.
                    if !matches!(failure, Failure::Password(_)) {
                        failure = error;
                    }
                }
            }
        }
        Err(failure)
    }

    pub(super) fn learn(&self, mut urls: Vec<String>) {
        urls.sort();
        urls.dedup();
        urls.shuffle(&mut rand::rng());
        let next = Instant::now() + self.timing().ttl * 10;
        let mut state = locked(&self.state);
        state.refresh_at = Some(next);
        state.clients.retain(|url, _| urls.contains(url));
        let base = urls.iter().find(|url| **url == state.base).or(urls.first()).cloned();
        state.nodes = urls;
        drop(state);
        let news = base.as_ref() != Some(&*self.selected.borrow());
        if let Some(base) = base.filter(|_| news) {
            self.select(&base);
        }
    }

    /// All known nodes have failed: are there others in the configuration?
    pub(super) async fn look_elsewhere(&self, tried: &[String], deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let others: Vec<String> =
            self.options().nodes(left / 4).await.into_iter().filter(|url| !tried.contains(url)).collect();
        if !others.is_empty() {
            let budget = deadline.saturating_duration_since(Instant::now()) / 2;
            let _ = self.refresh(&others, budget).await;
        }
    }
}
