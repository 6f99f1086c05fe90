//! Requests to the API server: where, how often, how long, and what the answers mean.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;
use patroni_net::{ClientOptions, HttpClient, HttpStream, NetError, Response, Verify};
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};
use serde::de::DeserializeOwned;

use super::access::Access;
use super::options::Options;
use super::port::Failure;
use super::servers::Servers;
use super::wire::Status;
pub use crate::ask::Ask;
use crate::kv::Effort;
use crate::retry::{hurried_slices, Backoff, Slices};
use crate::{DcsError, Timing};

/// What stands for itself in a URL.
static PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A patch of what is named, as the reference sends it.
const PATCH: &str = "application/strategic-merge-patch+json";

/// Whether a server has time for less, nobody knows; then another one is asked.
const LEAST: Duration = Duration::from_secs(1);

impl Ask {
    /// For a collection or an object in a namespace.
    pub fn object(method: &'static str, namespace: &str, kind: &str, name: Option<&str>) -> Ask {
        let part = |text: &str| utf8_percent_encode(text, &PLAIN).to_string();
        let mut path = format!("/api/v1/namespaces/{}/{kind}", part(namespace));
        if let Some(name) = name {
            path.push('/');
            path.push_str(&part(name));
        }
        Ask::to(method, path, &PLAIN)
    }
}

/// What an answer is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    Good,
    /// Again, at the earliest after that.
    Again(String, Option<Duration>),
    Final(Failure),
}

/// By the status, and by what the server wants to be waited for.
fn meaning(answer: &Response, retriable: &BTreeSet<u16>) -> Meaning {
    let words = || {
        let said = serde_json::from_slice::<Status>(&answer.body).ok();
        let said = said.map(|s| s.message).filter(|m| !m.is_empty());
        let said = said.unwrap_or_else(|| answer.text().chars().take(200).collect());
        format!("({}) {}", answer.status, said.trim())
    };
    let wait =
        answer.header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    match answer.status {
        200..=205 => Meaning::Good,
        code if answer.headers.contains_key("retry-after") || code == 429 || retriable.contains(&code) => {
            Meaning::Again(words(), wait)
        }
        401 | 403 => Meaning::Final(Failure::Denied(words())),
        404 => Meaning::Final(Failure::Missing),
        409 => Meaning::Final(Failure::Conflict),
        410 => Meaning::Final(Failure::TooOld),
        500.. => Meaning::Again(words(), wait),
        _ => Meaning::Final(Failure::Refused(words())),
    }
}

/// What the HA loop's side and the lock keeper's side of a client have in common.
pub struct Shared {
    access: Access,
    servers: Servers,
    tells_warnings: bool,
    live: Mutex<(Timing, BTreeSet<u16>)>,
}

impl Shared {
    /// As configured.
    pub fn new(access: Access, options: &Options, timing: Timing) -> Shared {
        let servers = Servers::new(&access.server, options.bypass_api_service);
        let tells_warnings = options.tells_warnings;
        Shared { access, servers, tells_warnings, live: Mutex::new((timing, options.retriable.clone())) }
    }

    fn live(&self) -> MutexGuard<'_, (Timing, BTreeSet<u16>)> {
        locked(&self.live)
    }

    /// The durations in force.
    pub fn timing(&self) -> Timing {
        self.live().0
    }

    /// New ones; the old ones.
    pub fn set_timing(&self, timing: Timing) -> Timing {
        std::mem::replace(&mut self.live().0, timing)
    }

    /// Other codes to try again after.
    pub fn set_retriable(&self, codes: BTreeSet<u16>) {
        self.live().1 = codes;
    }
}

/// A client. Belongs to the runtime that it is used in.
pub struct Api {
    http: HttpClient,
    shared: Arc<Shared>,
}

impl Api {
    /// A client that uses its connections again.
    ///
    /// # Errors
    /// The TLS options make no client.
    pub fn new(shared: Arc<Shared>) -> Result<Api, DcsError> {
        let http =
            HttpClient::lasting(&client_options(&shared)).map_err(|e| DcsError::Config(e.to_string()))?;
        http.check_tls().map_err(|e| DcsError::Config(e.to_string()))?;
        Ok(Api { http, shared })
    }

    /// A client with a connection a request, for a runtime that runs only while it asks.
    ///
    /// # Errors
    /// The TLS options make no client.
    pub fn without_connections(shared: Arc<Shared>) -> Result<Api, DcsError> {
        let http = HttpClient::lazy(&client_options(&shared)).map_err(|e| DcsError::Config(e.to_string()))?;
        Ok(Api { http, shared })
    }

    /// What is shared.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Asks, and again while that may help and there is time.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn call<T: DeserializeOwned>(&self, ask: &Ask, effort: Effort) -> Result<T, Failure> {
        let budget = self.shared.timing().retry_timeout;
        let deadline = effort.deadline(budget);
        let mut backoff = Backoff::new();
        let mut told = false;
        loop {
            let servers = self.shared.servers.known();
            let left = deadline.saturating_duration_since(Instant::now());
            let slices = slices(effort, servers.len(), left);
            let mut failed = (String::from("no time left"), None);
            for server in servers.iter().take(slices.nodes.max(1)) {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = slices.attempt.min(left);
                match self.attempt(server, ask, timeout, &mut told).await {
                    Ok(answer) => {
                        // The etcd of one API server may be away while the others have theirs.
                        let ails = answer.status >= 500 && servers.len() > 1;
                        if ails {
                            self.shared.servers.silent(server);
                        } else {
                            self.shared.servers.answered(server);
                        }
                        match self.meaning(&answer) {
                            // A page of something in between says nothing of what was done.
                            Meaning::Good => match parse(&answer.body) {
                                Err(Failure::Unknown(text)) => failed = (text, None),
                                parsed => return parsed,
                            },
                            Meaning::Final(failure) => return Err(failure),
                            Meaning::Again(text, wait) => failed = (text, wait),
                        }
                        if !ails {
                            break;
                        }
                    }
                    Err(NetError::InvalidRequest(text)) => return Err(Failure::Refused(text)),
                    Err(error) => {
                        failed = (format!("{} {}: {error}", ask.method, ask.path), None);
                        self.shared.servers.silent(server);
                    }
                }
            }
            let (text, wait) = failed;
            let pause = backoff.next().max(wait.unwrap_or_default());
            let left = deadline.saturating_duration_since(Instant::now());
            if matches!(effort, Effort::Once) || left <= pause {
                return Err(Failure::Unknown(text));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Opens a watch, and gives the server that tells it. The answer has to begin within the retry timeout.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn watch(&self, ask: &Ask) -> Result<(HttpStream, String), Failure> {
        let timeout = self.shared.timing().retry_timeout;
        let servers = self.shared.servers.known();
        let Some(server) = servers.first() else { return Err(Failure::Unknown("no servers".into())) };
        let authorization = self.shared.access.authorization(false).await;
        let headers: Vec<_> = authorization.iter().map(|v| ("Authorization", v.as_str())).collect();
        let stream = self.http.stream(ask.method, &ask.url(server), &headers, "", timeout).await;
        let stream = stream.map_err(|e| {
            self.shared.servers.silent(server);
            Failure::Unknown(e.to_string())
        })?;
        match stream.status {
            200 => Ok((stream, server.clone())),
            401 | 403 => Err(Failure::Denied(format!("({})", stream.status))),
            410 => Err(Failure::TooOld),
            code => {
                if code >= 500 {
                    self.shared.servers.silent(server);
                }
                Err(Failure::Unknown(format!("({code})")))
            }
        }
    }

    /// Waits until requests go to another server first.
    pub async fn left(&self, server: &str) {
        self.shared.servers.left(server).await;
    }

    fn meaning(&self, answer: &Response) -> Meaning {
        meaning(answer, &self.shared.live().1)
    }

    /// Asks one server; a second time if it refuses a token that has been replaced since.
    async fn attempt(
        &self,
        server: &str,
        ask: &Ask,
        timeout: Duration,
        told: &mut bool,
    ) -> Result<Response, NetError> {
        let began = Instant::now();
        loop {
            let authorization = self.shared.access.authorization(false).await;
            let mut headers = Vec::new();
            headers.extend(authorization.iter().map(|v| ("Authorization", v.as_str())));
            if ask.method == "PATCH" {
                headers.push(("Content-Type", PATCH));
            }
            let left = timeout.saturating_sub(began.elapsed());
            let answer =
                self.http.request(ask.method, &ask.url(server), &headers, ask.body.clone(), left).await?;
            if answer.status == 401 && !*told {
                *told = true;
                if self.shared.access.authorization(true).await != authorization {
                    continue;
                }
            }
            if let Some(text) = answer.header("warning").filter(|_| self.shared.tells_warnings) {
                self.shared.servers.warn_once(text);
            }
            return Ok(answer);
        }
    }

    /// Looks whether the API servers are still the same, if they are spoken to themselves.
    pub async fn refresh_servers(&self) {
        let timing = self.shared.timing();
        let Some(servers) = self.shared.servers.due(timing.loop_wait) else { return };
        let ask = Ask::object("GET", "default", "endpoints", Some("kubernetes"));
        let timeout = (timing.retry_timeout / 4).max(LEAST);
        for server in servers {
            let mut told = false;
            match self.attempt(&server, &ask, timeout, &mut told).await {
                Ok(answer) if answer.status == 200 => {
                    match parse(&answer.body) {
                        Ok(object) => self.shared.servers.learn(&object),
                        Err(failure) => self.shared.servers.not_learnt(&server, &failure.text()),
                    }
                    return;
                }
                Ok(answer) if answer.status == 403 => return self.shared.servers.not_permitted(),
                Ok(answer) => self.shared.servers.not_learnt(&server, &format!("({})", answer.status)),
                Err(error) => self.shared.servers.not_learnt(&server, &error.to_string()),
            }
        }
    }
}

/// API servers that are spoken to by their addresses do not have these in their certificates.
fn client_options(shared: &Shared) -> ClientOptions {
    let mut tls = shared.access.tls.clone();
    if shared.servers.bypass() && tls.verify == Verify::Full {
        tls.verify = Verify::ChainOnly;
    }
    ClientOptions { tls, basic_auth: None }
}

/// Two attempts at a single server, one at each of several; at fewer where there is little time.
fn slices(effort: Effort, servers: usize, left: Duration) -> Slices {
    if let Effort::Hurried(_) = effort {
        return hurried_slices(servers, left);
    }
    let most = if servers > 1 { servers } else { 2 };
    let parts = (1..=most).rev().find(|n| left / u32::try_from(*n).unwrap_or(1) >= LEAST).unwrap_or(1);
    Slices { nodes: parts.min(servers), attempt: left / u32::try_from(parts).unwrap_or(1), tries: 1 }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|e| Failure::Unknown(format!("unexpected answer of Kubernetes: {e}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (ask, want) in [
            (Ask::object("GET", "default", "pods", None), "h/api/v1/namespaces/default/pods"),
            (
                Ask::object("GET", "n", "endpoints", Some("demo")).with("labelSelector", "a=b,c=d"),
                "h/api/v1/namespaces/n/endpoints/demo?labelSelector=a%3Db%2Cc%3Dd",
            ),
            (Ask::object("GET", "../x", "pods", Some("a/b")), "h/api/v1/namespaces/..%2Fx/pods/a%2Fb"),
        ] {
            assert_eq!(ask.url("h"), want);
        }
    }

    #[test]
    fn what_answers_mean() {
        let codes: BTreeSet<u16> = [500, 502, 503, 504, 418].into();
        let denied = r#"{"kind":"Status","message":"endpoints is forbidden: User \"weak\" cannot list resource \"endpoints\"","code":403}"#;
        for (status, after, body, want) in [
            (200, None, "{}", Meaning::Good),
            (201, None, "{}", Meaning::Good),
            (
                403,
                None,
                denied,
                Meaning::Final(Failure::Denied(
                    r#"(403) endpoints is forbidden: User "weak" cannot list resource "endpoints""#.into(),
                )),
            ),
            (401, None, "no\n", Meaning::Final(Failure::Denied("(401) no".into()))),
            (404, None, "", Meaning::Final(Failure::Missing)),
            (409, None, "", Meaning::Final(Failure::Conflict)),
            (410, None, "", Meaning::Final(Failure::TooOld)),
            (422, None, "bad", Meaning::Final(Failure::Refused("(422) bad".into()))),
            (429, Some("2"), "", Meaning::Again("(429) ".into(), Some(Duration::from_secs(2)))),
            (429, None, "", Meaning::Again("(429) ".into(), None)),
            (403, Some("1"), "", Meaning::Again("(403) ".into(), Some(Duration::from_secs(1)))),
            (502, None, "", Meaning::Again("(502) ".into(), None)),
            (418, Some("x"), "", Meaning::Again("(418) ".into(), None)),
            (599, None, "", Meaning::Again("(599) ".into(), None)),
        ] {
            let mut headers = http::HeaderMap::new();
            if let Some(after) = after {
                headers.insert("retry-after", after.parse().unwrap());
            }
            let answer = Response { status, headers, body: body.to_owned().into() };
            let trim = |m: Meaning| match m {
                Meaning::Again(text, wait) => Meaning::Again(text.trim().into(), wait),
                other => other,
            };
            assert_eq!(trim(meaning(&answer, &codes)), trim(want), "{status}");
        }
    }

    #[test]
    fn time_for_each_server() {
        let at = Instant::now();
        for (effort, servers, left, nodes, attempt) in [
            (Effort::Until(at), 1, 10_000, 1, 5000),
            (Effort::Until(at), 1, 1500, 1, 1500),
            (Effort::Once, 1, 3000, 1, 1500),
            (Effort::Until(at), 3, 9000, 3, 3000),
            (Effort::Until(at), 3, 2500, 2, 1250),
            (Effort::Hurried(at), 3, 3000, 3, 1000),
        ] {
            let s = slices(effort, servers, Duration::from_millis(left));
            assert_eq!((s.nodes, s.attempt), (nodes, Duration::from_millis(attempt)), "{servers} {left}");
        }
    }
}
