//! From a request to its answer.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use patroni_core::model::Cluster;
use pyfmt::value::str_repr;
use pyfmt::Value;

use crate::access::{self, Caller};
use crate::actions::{self, body};
use crate::answer::{self, Need};
use crate::backend::Backend;
use crate::config::{log_unresolved, ApiConfig};
use crate::http::head::Head;
use crate::http::pages::ErrorPage;
use crate::http::response::Response;
use crate::http::url::Target;
use crate::route::{route, Action, Body, Route};
use crate::snapshot::Snapshot;
use crate::status_page;

use super::response_cache::{CacheKey, ResponseCache};

/// How long a status query may take; the query itself is limited to 2 s (J14).
const QUERY_DEADLINE: Duration = Duration::from_secs(3);
/// The same where a lost connection is tried once more (J13).
const RETRY_DEADLINE: Duration = Duration::from_secs(6);
/// How long the name of a member may take to resolve.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(2);

/// Where a body comes from.
pub trait BodySource {
    /// Reads as much as is said.
    ///
    /// # Errors
    /// The answer to send: too slow, too big.
    fn read(&mut self, length: body::Length) -> impl Future<Output = Result<Vec<u8>, Response>>;
}

/// A request and its sender.
pub struct Exchange<'a, S> {
    /// Configuration in force.
    pub config: &'a ApiConfig,
    /// The request.
    pub head: &'a Head,
    /// Address of the client.
    pub peer: SocketAddr,
    /// It showed a verified certificate.
    pub verified: bool,
    /// Answers of the last moment.
    pub cache: &'a ResponseCache<Snapshot>,
    /// Its body.
    pub body: S,
}

/// Answers one request.
pub async fn respond<B: Backend, S: BodySource>(backend: &B, exchange: Exchange<'_, S>) -> Response {
    let head = exchange.head;
    let target = match Target::parse(&head.target) {
        Ok(target) => target,
        Err(error) => return Response::Drop(format!("ValueError: {error}")),
    };
    if exchange.config.status_page && status_page::is_at(&head.command, &target.path) {
        return status_page::answer();
    }
    match route(&head.command, &target.path) {
        None => {
            let message = format!("Unsupported method ({})", str_repr(&head.command));
            Response::Page(ErrorPage::with_message(501, message))
        }
        // Rare and big: not in the task of every connection.
        Some(Route::Act(action)) => Box::pin(perform(backend, action, exchange)).await,
        Some(route) => get(backend, route, &target, head, exchange.cache).await,
    }
}

async fn get<B: Backend>(
    backend: &B,
    route: Route,
    target: &Target,
    head: &Head,
    cache: &ResponseCache<Snapshot>,
) -> Response {
    let snapshot = match answer::need(route) {
        Some(Need::Query { retry }) => {
            let deadline = if retry { RETRY_DEADLINE } else { QUERY_DEADLINE };
            let queried = tokio::time::timeout(deadline, backend.snapshot(retry)).await;
            queried.unwrap_or_else(|_| backend.last_snapshot())
        }
        Some(need @ (Need::View | Need::Read)) => {
            let (snapshot, now) = (backend.last_snapshot(), Instant::now());
            if let Some(view) = snapshot.view(now).filter(|_| need == Need::View) {
                return answer::from_cluster(route, view, &snapshot);
            }
            return match backend.cluster().await {
                Ok(cluster) => {
                    let lease_until = snapshot.lease_until;
                    let key =
                        CacheKey { head, snapshot: &snapshot, lease_until, cluster: Some(&cluster), now };
                    cache.answer(&key, || answer::from_cluster(route, &cluster, &snapshot))
                }
                Err(error) => Response::Drop(error.0),
            };
        }
        _ => backend.last_snapshot(),
    };
    let now = Instant::now();
    let key = CacheKey { head, snapshot: &snapshot, lease_until: snapshot.lease_until, cluster: None, now };
    cache.answer(&key, || answer::from_snapshot(route, target, &snapshot, now))
}

async fn perform<B: Backend, S: BodySource>(
    backend: &B,
    action: Action,
    mut exchange: Exchange<'_, S>,
) -> Response {
    if action.is_protected() {
        if let Err(refusal) = check_access(backend, action, &exchange).await {
            return refusal;
        }
    }
    if action == Action::Failsafe && !backend.last_snapshot().config.failsafe_mode() {
        return Response::page(502);
    }
    match read_body(action.body(), &mut exchange).await {
        Ok(document) => actions::act(backend, action, document).await,
        Err(response) => response,
    }
}

async fn read_body<S: BodySource>(kind: Body, exchange: &mut Exchange<'_, S>) -> Result<Value, Response> {
    if kind == Body::Ignored {
        return Ok(Value::map());
    }
    match body::length(exchange.head, kind)? {
        body::Length::Nothing => Ok(Value::map()),
        length => body::document(&exchange.body.read(length).await?, kind),
    }
}

async fn check_access<B: Backend, S>(
    backend: &B,
    action: Action,
    exchange: &Exchange<'_, S>,
) -> Result<(), Response> {
    let config = exchange.config;
    let members = match config.allowlist_include_members && action.admits_members() {
        true => Some(member_addresses(&backend.last_snapshot()).await),
        false => None,
    };
    let caller = Caller {
        ip: exchange.peer.ip(),
        verified: exchange.verified,
        authorization: exchange.head.headers.get("Authorization"),
    };
    access::check(config, caller, members.as_deref())
}

/// Addresses of the members' REST APIs (T14).
async fn member_addresses(snapshot: &Snapshot) -> Vec<IpAddr> {
    let own = snapshot.view(Instant::now()).map(api_hosts).unwrap_or_default();
    let others = snapshot.other_groups.iter().filter_map(|url| host_port(url));
    let mut found = Vec::new();
    for (host, port) in own.into_iter().chain(others) {
        if let Ok(ip) = host.parse::<IpAddr>() {
            found.push(ip);
            continue;
        }
        let lookup = tokio::net::lookup_host((host.as_str(), port));
        match tokio::time::timeout(RESOLVE_DEADLINE, lookup).await {
            Ok(Ok(addresses)) => found.extend(addresses.map(|a| a.ip())),
            Ok(Err(error)) => log_unresolved(&host, &error),
            Err(_) => tracing::error!(target: "patroni.api", "Failed to resolve {host}: timed out"),
        }
    }
    found
}

fn api_hosts(cluster: &Cluster) -> Vec<(String, u16)> {
    cluster.members.iter().filter_map(|m| host_port(m.api_url()?)).collect()
}

/// Host and port of a URL.
fn host_port(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let default = if scheme == "https" { 443 } else { 80 };
    if let Some((host, port)) = authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        return Some((host.to_owned(), port.trim_start_matches(':').parse().unwrap_or(default)));
    }
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    (!host.is_empty()).then(|| (host.to_owned(), port.parse().unwrap_or(default)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (url, expected) in [
            ("http://127.0.0.1:8008/patroni", Some(("127.0.0.1", 8008))),
            ("https://[::1]:8008/patroni", Some(("::1", 8008))),
            ("https://h/patroni", Some(("h", 443))),
            ("http://u:p@h", Some(("h", 80))),
            ("h:1", None),
        ] {
            assert_eq!(host_port(url), expected.map(|(h, p)| (h.to_owned(), p)), "{url}");
        }
    }
}
