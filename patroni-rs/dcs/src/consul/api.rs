//! Requests to the agent: how often, how long, and with what.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;
use patroni_net::{ClientOptions, HttpClient};
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};

use super::answer::{meaning, silence, Meaning};
use super::options::{Consistency, ConsulOptions, LiveOptions};
pub use crate::ask::Ask;
use crate::kv::{Effort, Failure};
use crate::retry::Backoff;
use crate::{DcsError, Timing};

/// What stands for itself in a path.
static PATH: AsciiSet = NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What the HA loop's side and the lock keeper's side of a client have in common.
pub struct Shared {
    options: ConsulOptions,
    live: Mutex<Live>,
}

struct Live {
    options: LiveOptions,
    timing: Timing,
    /// Has Consul accepted the token?
    accepted: bool,
    /// The token before, which it had accepted.
    former: Option<String>,
    /// Was it said that the former one is in use?
    told: bool,
}

impl Shared {
    /// As configured.
    pub fn new(options: ConsulOptions, timing: Timing) -> Shared {
        let live = Live { options: options.live.clone(), timing, accepted: false, former: None, told: false };
        Shared { options, live: Mutex::new(live) }
    }

    fn client_options(&self) -> ClientOptions {
        ClientOptions { tls: self.options.tls.0.clone(), basic_auth: None }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        locked(&self.live)
    }

    /// The options as of the start.
    pub fn options(&self) -> &ConsulOptions {
        &self.options
    }

    /// The options in force.
    pub fn live_options(&self) -> LiveOptions {
        self.live().options.clone()
    }

    /// New ones; the old ones.
    pub fn set_live_options(&self, options: LiveOptions) -> LiveOptions {
        let mut live = self.live();
        let before = std::mem::replace(&mut live.options, options);
        if before.token != live.options.token {
            if std::mem::take(&mut live.accepted) {
                live.former = before.token.clone();
            }
            live.told = false;
        }
        before
    }

    /// The durations in force.
    pub fn timing(&self) -> Timing {
        self.live().timing
    }

    /// New ones; the old ones.
    pub fn set_timing(&self, timing: Timing) -> Timing {
        std::mem::replace(&mut self.live().timing, timing)
    }
}

impl Ask {
    /// Of the agent. `path` is given percent signs where it needs them.
    pub fn agent(method: &'static str, path: &str) -> Ask {
        Ask::to(method, utf8_percent_encode(path, &PATH).to_string(), &PATH)
    }

    /// A request for a key, or a prefix. Consul's keys have no slash at their beginning.
    pub fn key(method: &'static str, key: &str) -> Ask {
        Ask::agent(method, &format!("/v1/kv/{}", bare(key)))
    }

    /// In the data center that the options name.
    pub fn in_dc(self, options: &LiveOptions) -> Ask {
        match &options.dc {
            Some(dc) => self.with("dc", dc.clone()),
            None => self,
        }
    }

    /// As fresh as that.
    pub fn consistent(self, consistency: Consistency) -> Ask {
        match consistency {
            Consistency::Default => self,
            Consistency::Consistent => self.with("consistent", "1"),
            Consistency::Stale => self.with("stale", "1"),
        }
    }
}

/// A key's name in Consul.
pub fn bare(key: &str) -> &str {
    key.trim_start_matches('/')
}

/// What Consul says of a token that it does not know, or not any more.
const NO_SUCH_TOKEN: &str = "ACL not found";

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// 200.
    Yes,
    /// 404.
    NotFound,
    /// 409: a transaction's conditions did not hold.
    Refused,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// In short.
    pub said: Said,
    /// In full.
    pub body: Vec<u8>,
    /// What a blocking query waits for a change of.
    pub index: Option<u64>,
    /// An earlier attempt of the same request had no answer: it may have been carried out.
    pub repeated: bool,
}

impl Reply {
    /// Is the answer `true`? Consul says `false` where a condition does not hold.
    pub fn is_true(&self) -> bool {
        self.said == Said::Yes && self.body.trim_ascii() == b"true"
    }
}

/// A client of one agent. Belongs to the runtime that it is used in.
pub struct Api {
    http: HttpClient,
    shared: Arc<Shared>,
}

impl Api {
    /// A client that uses its connections again.
    ///
    /// # Errors
    /// The options make no client.
    pub fn new(shared: Arc<Shared>) -> Result<Api, DcsError> {
        let http = HttpClient::lasting(&shared.client_options());
        Ok(Api { http: http.map_err(|e| DcsError::Config(e.to_string()))?, shared })
    }

    /// A client with a connection a request, for a runtime that runs only while it asks, and so would not hear that the
    /// agent has closed one.
    ///
    /// # Errors
    /// The options make no client.
    pub fn without_connections(shared: Arc<Shared>) -> Result<Api, DcsError> {
        let http = HttpClient::lazy(&shared.client_options());
        Ok(Api { http: http.map_err(|e| DcsError::Config(e.to_string()))?, shared })
    }

    /// What is shared.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Asks, and again while that may help and there is time.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn call(&self, ask: &Ask, effort: Effort) -> Result<Reply, Failure> {
        let slice = self.shared.timing().retry_timeout / 3;
        let (deadline, slice) = match effort {
            Effort::Once => (Instant::now() + slice, slice),
            Effort::Until(deadline) => (deadline, slice),
            Effort::Hurried(deadline) => (deadline, Duration::MAX),
        };
        let mut backoff = Backoff::new();
        let mut repeated = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let failure = match self.attempt(ask, slice.min(left)).await {
                Ok(reply) => return Ok(Reply { repeated, ..reply }),
                Err(Meaning::Again(text)) => {
                    repeated = true;
                    Failure::Unknown(text)
                }
                // It was good: we are about to be told of another one. Nothing was done.
                Err(Meaning::Final(Failure::Denied(text))) if self.has_lost_token(&text) => {
                    Failure::Denied(text)
                }
                Err(Meaning::Final(failure)) => return Err(failure),
                Err(other) => return Err(Failure::Unknown(format!("{other:?}"))),
            };
            let pause = backoff.next();
            let left = deadline.saturating_duration_since(Instant::now());
            if matches!(effort, Effort::Once) || left <= pause {
                // An attempt before may have been carried out.
                return Err(if repeated { Failure::Unknown(failure.text().to_owned()) } else { failure });
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks once.
    ///
    /// # Errors
    /// See [`Meaning`].
    pub async fn attempt(&self, ask: &Ask, timeout: Duration) -> Result<Reply, Meaning> {
        let (token, former) = {
            let live = self.shared.live();
            (live.options.token.clone(), live.former.clone())
        };
        let reply = self.attempt_as(token.as_deref(), ask, timeout).await;
        match (&reply, former) {
            (Ok(_), _) => {
                let mut live = self.shared.live();
                live.accepted |= live.options.token == token;
            }
            // A typing error, or Consul is told of a new token later than we: nothing was done. Not so where a token lacks
            // rights: a list shows nothing then, and a single key, asked for with the one before, would confirm that
            // there is nothing.
            (Err(Meaning::Final(Failure::Denied(text))), Some(former)) if text.contains(NO_SUCH_TOKEN) => {
                let again = self.attempt_as(Some(&former), ask, timeout).await;
                if !matches!(again, Err(Meaning::Final(Failure::Denied(_)))) {
                    if !std::mem::replace(&mut self.shared.live().told, true) {
                        tracing::error!(
                            target: "patroni.dcs.consul",
                            "Consul does not accept the token, going on with the one before: {text}"
                        );
                    }
                    return again;
                }
            }
            _ => {}
        }
        reply
    }

    /// Is there no token any more that once was good?
    fn has_lost_token(&self, text: &str) -> bool {
        let live = self.shared.live();
        text.contains(NO_SUCH_TOKEN) && (live.accepted || live.former.is_some())
    }

    async fn attempt_as(&self, token: Option<&str>, ask: &Ask, timeout: Duration) -> Result<Reply, Meaning> {
        let headers: Vec<(&str, &str)> = token.iter().map(|t| ("X-Consul-Token", *t)).collect();
        let url = ask.url(&self.shared.options.base);
        let sent = self.http.request(ask.method, &url, &headers, ask.body.clone(), timeout);
        let response = sent.await.map_err(|e| silence(&e))?;
        let said = match meaning(&response) {
            Meaning::Good => Said::Yes,
            Meaning::NotFound => Said::NotFound,
            Meaning::Refused => Said::Refused,
            other => return Err(other),
        };
        let index = response.header("X-Consul-Index").and_then(|text| text.parse().ok());
        Ok(Reply { said, body: response.body.to_vec(), index, repeated: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let live = LiveOptions { dc: Some("d c".into()), ..LiveOptions::default() };
        for (ask, want) in [
            (Ask::key("GET", "/service/demo/").with("recurse", "1"), "h/v1/kv/service/demo/?recurse=1"),
            (
                Ask::key("PUT", "/service/ü b?#%/leader").with("acquire", "a-1").in_dc(&live),
                "h/v1/kv/service/%C3%BC%20b%3F%23%25/leader?acquire=a-1&dc=d%20c",
            ),
            (Ask::key("GET", "a").consistent(Consistency::Consistent), "h/v1/kv/a?consistent=1"),
            (Ask::key("GET", "a").consistent(Consistency::Stale), "h/v1/kv/a?stale=1"),
            (Ask::key("GET", "a").consistent(Consistency::Default), "h/v1/kv/a"),
        ] {
            assert_eq!(ask.url("h"), want);
        }
    }
}
