//! The API servers: their Service, or, with `bypass_api_service`, each of them.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;

use patroni_core::model::url::bracketed;
use rand::seq::SliceRandom;
use tokio::sync::watch;

use super::wire::Object;

const LOG: &str = "patroni.dcs.kubernetes";

/// Asked this much before the loop would be late.
const EARLY: Duration = Duration::from_millis(500);

/// Who is asked, in which order.
pub struct Servers {
    /// As configured.
    service: String,
    bypass: bool,
    /// Asked first.
    base: watch::Sender<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Empty: the Service.
    servers: Vec<String>,
    permitted: bool,
    looked: Option<Instant>,
    /// Warnings of the server that were said.
    warned: Vec<String>,
}

impl Servers {
    /// The Service alone, for the beginning.
    pub fn new(service: &str, bypass: bool) -> Servers {
        let state = State { servers: Vec::new(), permitted: bypass, looked: None, warned: Vec::new() };
        let base = watch::Sender::new(service.to_owned());
        Servers { service: service.to_owned(), bypass, base, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Is anybody asked by his address?
    pub fn bypass(&self) -> bool {
        self.bypass
    }

    /// All of them, beginning with the one that answered last. The Service is the last resort: it may know servers that
    /// are new.
    pub fn known(&self) -> Vec<String> {
        let state = self.state();
        let base = self.base();
        let others = state.servers.iter().chain([&self.service]).filter(|server| **server != base).cloned();
        [base.clone()].into_iter().chain(others).collect()
    }

    fn base(&self) -> String {
        self.base.borrow().clone()
    }

    fn select(&self, server: &str) {
        tracing::info!(target: LOG, "Selected new K8s API server endpoint {server}");
        self.base.send_replace(server.to_owned());
    }

    /// Waits until another one is asked first. A watch moves then, too: it hears nothing of a server that stands still.
    pub async fn left(&self, server: &str) {
        let _ = self.base.subscribe().wait_for(|base| base != server).await;
    }

    /// Is it time to ask for them? Those to be asked.
    pub fn due(&self, loop_wait: Duration) -> Option<Vec<String>> {
        let mut state = self.state();
        let fresh = state.looked.is_some_and(|at| at.elapsed() + EARLY < loop_wait);
        if !state.permitted || fresh {
            return None;
        }
        state.looked = Some(Instant::now());
        drop(state);
        Some(self.known())
    }

    /// The object `kubernetes` in the namespace `default`.
    pub fn learn(&self, endpoints: &Object) {
        let https = |port: &&super::wire::Port| {
            port.name.as_deref() == Some("https") && port.protocol.as_deref().unwrap_or("TCP") == "TCP"
        };
        let mut found: Vec<String> = Vec::new();
        for subset in endpoints.subsets.iter().flatten() {
            for port in subset.ports.iter().flatten().filter(https) {
                let addresses = subset.addresses.iter().flatten();
                found.extend(addresses.map(|a| format!("https://{}:{}", bracketed(&a.ip), port.port)));
            }
        }
        if found.is_empty() {
            return;
        }
        found.shuffle(&mut rand::rng());
        let mut state = self.state();
        if !found.contains(&self.base()) {
            if let Some(first) = found.first() {
                self.select(first);
            }
        }
        state.servers = found;
    }

    /// We may not ask for them.
    pub fn not_permitted(&self) {
        tracing::warn!(
            target: LOG,
            "Kubernetes RBAC doesn't allow GET access to the 'kubernetes' endpoint in the 'default' namespace. \
             Disabling 'bypass_api_service'."
        );
        let mut state = self.state();
        state.permitted = false;
        state.servers.clear();
        self.base.send_replace(self.service.clone());
    }

    /// One does not tell.
    pub fn not_learnt(&self, server: &str, why: &str) {
        tracing::error!(target: LOG, "Failed to get \"kubernetes\" endpoint from {server}: {why}");
    }

    /// One has answered: it is asked first from now on.
    pub fn answered(&self, server: &str) {
        let _state = self.state();
        if self.base() != server {
            self.select(server);
        }
    }

    /// One has not, or has only told that it cannot: the next is asked first.
    pub fn silent(&self, server: &str) {
        let state = self.state();
        if self.base() == server {
            let at = state.servers.iter().position(|known| known == server);
            let next = at.map_or(0, |at| at + 1);
            let next = state.servers.get(next).or(state.servers.first()).cloned();
            if let Some(next) = next {
                self.base.send_replace(next);
            }
        }
    }

    /// Endpoints are deprecated, says the server with each answer; once is enough.
    pub fn warn_once(&self, text: &str) {
        let mut state = self.state();
        if state.warned.len() < 16 && !state.warned.iter().any(|said| said == text) {
            tracing::warn!(target: LOG, "Warning of the K8s API server: {text}");
            state.warned.push(text.to_owned());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::Future as _;

    use super::*;

    fn endpoints(addresses: &[&str]) -> Object {
        let list: Vec<String> = addresses.iter().map(|ip| format!(r#"{{"ip":"{ip}"}}"#)).collect();
        serde_json::from_str(&format!(
            r#"{{"metadata":{{"name":"kubernetes"}},"subsets":[{{"addresses":[{}],
                "ports":[{{"name":"https","port":6443,"protocol":"TCP"}},{{"name":"x","port":1}}]}}]}}"#,
            list.join(",")
        ))
        .unwrap()
    }

    #[test]
    fn the_service_alone() {
        let servers = Servers::new("https://service", false);
        assert_eq!(servers.due(Duration::ZERO), None);
        servers.silent("https://service");
        assert_eq!(servers.known(), ["https://service"]);
    }

    #[test]
    fn each_of_them() {
        let servers = Servers::new("https://service", true);
        assert_eq!(servers.due(Duration::from_secs(10)), Some(vec!["https://service".into()]));
        assert_eq!(servers.due(Duration::from_secs(10)), None);
        servers.learn(&endpoints(&["10.0.0.1", "fd00::2"]));
        let known = servers.known();
        let mut sorted = known.clone();
        sorted.sort();
        assert_eq!(sorted, ["https://10.0.0.1:6443", "https://[fd00::2]:6443", "https://service"]);
        assert_eq!(known[2], "https://service");
        // Who is silent is asked later.
        servers.silent(&known[0]);
        assert_eq!(servers.known()[0], known[1]);
        servers.answered(&known[0]);
        assert_eq!(servers.known()[0], known[0]);
        // Whoever listens to one hears that it is left, and only then.
        let is_left = |server: &str| {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            std::pin::pin!(servers.left(server)).poll(&mut context).is_ready()
        };
        assert!(!is_left(&known[0]) && is_left(&known[1]));
        servers.silent(&known[0]);
        assert!(is_left(&known[0]) && !is_left(&known[1]));
        servers.answered(&known[0]);
        // An empty list is none.
        servers.learn(&endpoints(&[]));
        assert_eq!(servers.known().len(), 3);
        servers.learn(&endpoints(&["10.0.0.9"]));
        assert_eq!(servers.known(), ["https://10.0.0.9:6443", "https://service"]);
        servers.not_permitted();
        assert_eq!((servers.known(), servers.due(Duration::ZERO)), (vec!["https://service".into()], None));
    }
}
