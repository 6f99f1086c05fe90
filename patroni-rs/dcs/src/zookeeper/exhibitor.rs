//! Exhibitor: tells where the servers of ZooKeeper are (surface-dcs 13).

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use patroni_core::model::url::bracketed;
use patroni_core::mutex::locked;
use patroni_net::{ClientOptions, HttpClient};
use pyfmt::{json, Value};
use rand::seq::SliceRandom;

use crate::address;
use crate::DcsError;

const LOG: &str = "patroni.dcs.exhibitor";
const PATH: &str = "/exhibitor/v1/cluster/list";

/// How long one of them may take.
const TIMEOUT: Duration = Duration::from_millis(3100);

/// How long all of them may take in a cycle of the HA loop, which has more to do. (The reference waits for each.)
const IN_ALL: Duration = Duration::from_millis(3100);

/// After none has answered, the next is asked so much later. (The reference asks in each cycle, for as long as it takes.)
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(5);

struct State {
    /// As configured: asked where those that it has named do not answer.
    boot: Vec<String>,
    known: Vec<String>,
    port: u16,
    interval: Duration,
    zookeeper: String,
    next: Option<Instant>,
}

/// Asks it, not more often than configured.
pub struct Exhibitor {
    client: HttpClient,
    state: Mutex<State>,
}

struct Section {
    hosts: Vec<String>,
    port: u16,
    interval: Duration,
}

fn section(section: &Value) -> Result<Section, DcsError> {
    let missing = |key: &str| DcsError::Config(format!("KeyError: '{key}' of the exhibitor section"));
    let hosts: Vec<String> = match section.get("hosts").ok_or_else(|| missing("hosts"))? {
        list @ Value::List(_) => address::hosts(Some(list), "exhibitor.hosts").0,
        hosts => hosts.py_str().split(',').map(|host| host.trim().to_owned()).collect(),
    };
    if hosts.is_empty() {
        return Err(DcsError::Config("exhibitor.hosts names no host".into()));
    }
    let port = section.get("port").ok_or_else(|| missing("port"))?.py_str();
    let port = port.parse().map_err(|_| DcsError::Config(format!("exhibitor.port is no port: {port}")))?;
    let interval = section.get("poll_interval").and_then(Value::as_f64).unwrap_or(300.0);
    let interval = Duration::try_from_secs_f64(interval).unwrap_or(Duration::from_secs(300));
    Ok(Section { hosts, port, interval })
}

impl Exhibitor {
    /// Reads the section; asks nobody yet.
    ///
    /// # Errors
    /// `hosts` or `port` is missing.
    pub fn from_section(options: &Value) -> Result<Exhibitor, DcsError> {
        let Section { hosts, port, interval } = section(options)?;
        for line in address::hosts(options.get("hosts"), "exhibitor.hosts").1 {
            tracing::warn!(target: LOG, "{line}");
        }
        let client = HttpClient::lazy(&ClientOptions::default())
            .map_err(|error| DcsError::Config(error.to_string()))?;
        let state =
            State { known: hosts.clone(), boot: hosts, port, interval, zookeeper: String::new(), next: None };
        Ok(Exhibitor { client, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Other hosts, another port, another interval.
    ///
    /// # Errors
    /// As [`Exhibitor::from_section`]; those of before stay.
    pub fn reload(&self, options: &Value) -> Result<(), DcsError> {
        let Section { hosts, port, interval } = section(options)?;
        let mut state = self.state();
        if (&state.boot, state.port) != (&hosts, port) {
            (state.known, state.next) = (hosts.clone(), None);
        }
        (state.boot, state.port, state.interval) = (hosts, port, interval);
        Ok(())
    }

    /// What it said last: `host:port,..`.
    pub fn zookeeper_hosts(&self) -> String {
        self.state().zookeeper.clone()
    }

    /// The servers of ZooKeeper, if it is time to ask and there is something new.
    pub async fn poll(&self) -> Option<String> {
        let (known, boot, port) = {
            let state = self.state();
            if state.next.is_some_and(|next| Instant::now() < next) {
                return None;
            }
            (state.known.clone(), state.boot.clone(), state.port)
        };
        let asking = async {
            match self.ask(known, port).await {
                None => self.ask(boot, port).await,
                found => found,
            }
        };
        let found = tokio::time::timeout(IN_ALL, asking).await.ok().flatten();
        let mut state = self.state();
        let Some((servers, zookeeper)) = found else {
            state.next = Some(Instant::now() + PAUSE_AFTER_FAILURE);
            return None;
        };
        state.next = Some(Instant::now() + state.interval);
        if state.zookeeper == zookeeper {
            return None;
        }
        tracing::info!(target: LOG, "ZooKeeper connection string has changed: {} => {zookeeper}", state.zookeeper);
        (state.known, state.zookeeper) = (servers, zookeeper.clone());
        Some(zookeeper)
    }

    /// The first answer of any, asked in an order of chance.
    async fn ask(&self, mut hosts: Vec<String>, port: u16) -> Option<(Vec<String>, String)> {
        hosts.shuffle(&mut rand::rng());
        let each = TIMEOUT / u32::try_from(hosts.len().max(1)).unwrap_or(1);
        for host in hosts {
            let url = format!("http://{}:{port}{PATH}", bracketed(&host));
            match self.client.request("GET", &url, &[], Vec::new(), each).await {
                Ok(response) => {
                    if let Some(found) = servers(&response.text()) {
                        return Some(found);
                    }
                }
                Err(_) => tracing::debug!(target: LOG, "Request to {host} failed"),
            }
        }
        None
    }
}

/// The servers and how a client is told of them. An answer without any server is none: one would be cut off by it.
fn servers(text: &str) -> Option<(Vec<String>, String)> {
    let answer = json::loads(text).ok()?;
    let Value::List(servers) = answer.get("servers")? else { return None };
    let port = answer.get("port")?.py_str();
    let mut servers: Vec<String> = servers.iter().map(Value::py_str).collect();
    servers.sort();
    let hosts: Vec<String> = servers.iter().map(|host| format!("{host}:{port}")).collect();
    (!hosts.is_empty()).then(|| (servers, hosts.join(",")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (text, hosts) in [
            (r#"{"servers":["b","a"],"port":2181}"#, Some("a:2181,b:2181")),
            (r#"{"servers":["a"],"port":"2182","x":1}"#, Some("a:2182")),
            (r#"{"servers":[],"port":2181}"#, None),
            (r#"{"servers":"a","port":2181}"#, None),
            (r#"{"servers":["a"]}"#, None),
            ("[]", None),
            ("<html>", None),
        ] {
            assert_eq!(servers(text).map(|(_, hosts)| hosts).as_deref(), hosts, "{text}");
        }
    }

    #[test]
    fn sections() {
        let section = |text: &str| Exhibitor::from_section(&json::loads(text).unwrap()).map(|_| ());
        assert_eq!(section(r#"{"hosts":["a"],"port":8181}"#), Ok(()));
        assert_eq!(section(r#"{"hosts":"a,b","port":"8181","poll_interval":30}"#), Ok(()));
        for bad in [r#"{"hosts":["a"]}"#, r#"{"port":8181}"#, r#"{"hosts":["a"],"port":"x"}"#] {
            assert!(section(bad).is_err(), "{bad}");
        }
    }
}
