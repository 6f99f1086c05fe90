//! Speaking to a node by etcd's v2 API (surface-dcs 11).

use std::sync::Arc;
use std::time::Duration;

use patroni_net::{ClientOptions, HttpClient, NetError, Response};
use serde::Deserialize;

use crate::etcd::wire::{self, Failure, Manner, Reply};
use crate::etcd::{EtcdOptions, Told};

/// No request of ours takes longer than whoever asks has time, and he sees to that himself.
const LONG: Duration = Duration::from_secs(3600);

/// One request.
#[derive(Debug, Clone)]
pub enum Rpc {
    /// Everything below a directory, or one key, as of now or later.
    Get(String),
    /// Put.
    Put {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// Seconds that it lives.
        ttl: Option<u64>,
        /// What it depends on.
        when: Option<Cond>,
    },
    /// Delete a key.
    Delete(String, Option<Cond>),
    /// Delete a directory and all below.
    DeleteAll(String),
    /// Wait for a change below a directory, from that index on.
    Wait(String, u64),
    /// The client URLs of all nodes.
    Machines,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cond {
    /// There is none.
    Absent,
    /// It has this value.
    Value(String),
    /// It was changed last at this index.
    Index(String),
}

/// What is in an answer.
#[derive(Debug, Clone)]
pub enum Body {
    /// A key, or a directory with what is below; None: there is none.
    Node(Option<Node>),
    /// What has changed, and the action.
    Change(String, Node),
    /// It waited for something that is not remembered any more: everything has to be read anew.
    Outdated,
    /// The condition did not hold.
    Refused,
    /// URLs.
    Urls(Vec<String>),
}

/// A key or a directory.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// The full name.
    pub key: String,
    /// The value of a key.
    pub value: Option<String>,
    /// Is it a directory?
    pub dir: bool,
    /// What is in the directory.
    pub nodes: Vec<Node>,
    /// Seconds that it has left.
    pub ttl: Option<i64>,
    /// When it was changed last.
    #[serde(rename = "modifiedIndex")]
    pub modified: u64,
    /// When it was created.
    #[serde(rename = "createdIndex")]
    pub created: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    action: String,
    node: Option<Node>,
    #[serde(rename = "errorCode")]
    code: Option<u32>,
    message: String,
    cause: String,
}

/// A connection to a node.
#[derive(Clone)]
pub struct Conn {
    client: HttpClient,
    url: String,
}

/// The v2 API.
#[derive(Default)]
pub struct Wire;

impl wire::Wire for Wire {
    type Rpc = Rpc;
    type Body = Body;
    type Conn = Conn;

    async fn connect(&self, url: &str, options: &Arc<EtcdOptions>, _: Manner) -> Result<Conn, Failure> {
        let basic_auth = options.credentials.as_ref().map(|(user, password)| format!("{user}:{password}"));
        let client = HttpClient::lasting(&ClientOptions { tls: options.tls.clone(), basic_auth });
        Ok(Conn { client: client.map_err(|e| Failure::Refused(e.to_string()))?, url: url.to_owned() })
    }

    async fn send(&self, conn: &mut Conn, rpc: &Rpc) -> Result<Reply<Body>, Failure> {
        let (method, path, form) = request(rpc);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let headers: &[(&str, &str)] = if form.is_empty() { &[] } else { &headers };
        let url = format!("{}{path}", conn.url);
        let answer = conn.client.request(method, &url, headers, form, LONG).await;
        answer_to(rpc, answer)
    }

    /// They go with each request; the members are told to anybody.
    fn shows_credentials(&self, rpc: Option<&Rpc>) -> bool {
        rpc.is_some_and(|rpc| !matches!(rpc, Rpc::Machines))
    }

    fn members(&self) -> Rpc {
        Rpc::Machines
    }

    fn urls(&self, body: Body) -> Option<Vec<String>> {
        match body {
            Body::Urls(urls) => Some(urls),
            _ => Some(Vec::new()),
        }
    }

    fn name(&self) -> &'static str {
        "Etcd"
    }

    fn what(&self, rpc: &Rpc) -> String {
        match rpc {
            Rpc::Put { key, value, .. } => format!("{key} ({} bytes)", value.len()),
            Rpc::Get(key) | Rpc::Delete(key, _) | Rpc::DeleteAll(key) | Rpc::Wait(key, _) => key.clone(),
            Rpc::Machines => "the members".into(),
        }
    }

    crate::voice!("patroni.dcs.etcd");
}

/// Method, path with its query, form.
fn request(rpc: &Rpc) -> (&'static str, String, String) {
    let path = |key: &str| format!("/v2/keys{}", escaped(key));
    let fields = |when: &Option<Cond>| match when {
        None => None,
        Some(Cond::Absent) => Some("prevExist=false".to_owned()),
        Some(Cond::Value(value)) => Some(format!("prevValue={}", escaped(value))),
        Some(Cond::Index(index)) => Some(format!("prevIndex={}", escaped(index))),
    };
    match rpc {
        // A read without a quorum may be older than what this node has written itself.
        Rpc::Get(key) => ("GET", format!("{}?recursive=true&quorum=true", path(key)), String::new()),
        Rpc::Put { key, value, ttl, when } => {
            let form = [
                Some(format!("value={}", escaped(value))),
                ttl.map(|ttl| format!("ttl={ttl}")),
                fields(when),
            ];
            let form: Vec<String> = form.into_iter().flatten().collect();
            ("PUT", path(key), form.join("&"))
        }
        Rpc::Delete(key, when) => {
            let query = fields(when).map(|condition| format!("?{condition}")).unwrap_or_default();
            ("DELETE", format!("{}{query}", path(key)), String::new())
        }
        Rpc::DeleteAll(key) => ("DELETE", format!("{}?recursive=true", path(key)), String::new()),
        Rpc::Wait(key, from) => {
            ("GET", format!("{}?wait=true&recursive=true&waitIndex={from}", path(key)), String::new())
        }
        Rpc::Machines => ("GET", "/v2/machines".into(), String::new()),
    }
}

fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn told(response: &Response, by_majority: bool) -> Told {
    let number = |name: &str| response.header(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let cluster = response.header("x-etcd-cluster-id").and_then(|id| u64::from_str_radix(id, 16).ok());
    let revision = i64::try_from(number("x-etcd-index")).unwrap_or(0);
    Told { cluster: cluster.unwrap_or(0), term: number("x-raft-term"), revision, by_majority }
}

fn answer_to(rpc: &Rpc, response: Result<Response, NetError>) -> Result<Reply<Body>, Failure> {
    let response = response.map_err(|e| Failure::Node(e.to_string()))?;
    let told = told(&response, !matches!(rpc, Rpc::Machines | Rpc::Wait(..)));
    let reply = |body| Ok(Reply { told, repeated: false, body });
    if response.status == 401 {
        return Err(Failure::Password(
            "Insufficient credentials, The request requires user authentication".into(),
        ));
    }
    if matches!(rpc, Rpc::Machines) {
        if response.status != 200 {
            return Err(Failure::Node(format!("HTTP status {}", response.status)));
        }
        let text = response.text();
        let urls = text.split(',').map(|url| url.trim().trim_end_matches('/').to_owned());
        return reply(Body::Urls(urls.filter(|url| !url.is_empty()).collect()));
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(&response.body) else {
        // The end of a watch has no body; a load balancer's page is no answer of etcd's.
        return Err(Failure::Node(format!("HTTP status {}, and no JSON", response.status)));
    };
    let text = format!("{} : {}", answer.message, answer.cause);
    match answer.code {
        None => match (rpc, answer.node) {
            (Rpc::Wait(..), Some(node)) => reply(Body::Change(answer.action, node)),
            (_, node) => reply(Body::Node(node)),
        },
        // Key not found.
        Some(100) => match rpc {
            Rpc::Get(_) | Rpc::Delete(_, None) | Rpc::DeleteAll(_) | Rpc::Wait(..) => reply(Body::Node(None)),
            _ => reply(Body::Refused),
        },
        // Compare failed, node exists.
        Some(101 | 105) => reply(Body::Refused),
        Some(110) => Err(Failure::Password(text)),
        // Raft internal error, during leader election: they may be repeated.
        Some(300 | 301) => Err(Failure::Busy(text)),
        // Watcher was cleared, the event in the requested index is outdated and cleared.
        Some(400 | 401) => reply(Body::Outdated),
        Some(_) if response.status >= 500 => Err(Failure::Node(text)),
        Some(_) => Err(Failure::Refused(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_as_the_reference_makes_them() {
        let put = |ttl, when| Rpc::Put { key: "/s/b/leader".into(), value: "n 1".into(), ttl, when };
        for (rpc, want) in [
            (Rpc::Get("/s/b".into()), "GET /v2/keys/s/b?recursive=true&quorum=true "),
            (put(Some(30), Some(Cond::Absent)), "PUT /v2/keys/s/b/leader value=n%201&ttl=30&prevExist=false"),
            (
                put(Some(30), Some(Cond::Value("n1".into()))),
                "PUT /v2/keys/s/b/leader value=n%201&ttl=30&prevValue=n1",
            ),
            (put(None, Some(Cond::Index("7".into()))), "PUT /v2/keys/s/b/leader value=n%201&prevIndex=7"),
            (
                Rpc::Delete("/s/b/sync".into(), Some(Cond::Index("7".into()))),
                "DELETE /v2/keys/s/b/sync?prevIndex=7 ",
            ),
            (Rpc::DeleteAll("/s/b".into()), "DELETE /v2/keys/s/b?recursive=true "),
            (Rpc::Wait("/s/b".into(), 9), "GET /v2/keys/s/b?wait=true&recursive=true&waitIndex=9 "),
        ] {
            let (method, path, form) = request(&rpc);
            assert_eq!(format!("{method} {path} {form}"), want);
        }
    }

    #[test]
    fn answers() {
        let kind = |rpc: &Rpc, status: u16, body: &str| {
            let response = Response { status, headers: http::HeaderMap::new(), body: body.to_owned().into() };
            match answer_to(rpc, Ok(response)).map(|reply| reply.body) {
                Ok(Body::Node(Some(_))) => "node",
                Ok(Body::Node(None)) => "none",
                Ok(Body::Change(..)) => "change",
                Ok(Body::Outdated) => "outdated",
                Ok(Body::Refused) => "refused",
                Ok(Body::Urls(_)) => "urls",
                Err(Failure::Node(_)) => "unknown",
                Err(Failure::Busy(_)) => "busy",
                Err(Failure::Password(_)) => "denied",
                Err(_) => "error",
            }
        };
        let get = Rpc::Get("/s".into());
        let put = Rpc::Put { key: "/s/l".into(), value: "n".into(), ttl: None, when: Some(Cond::Absent) };
        let error = |code: u32| format!(r#"{{"errorCode":{code},"message":"m","cause":"c","index":7}}"#);
        for (rpc, status, body, want) in [
            (&get, 200, r#"{"action":"get","node":{"key":"/s","dir":true}}"#, "node"),
            (&get, 404, &error(100), "none"),
            (&put, 404, &error(100), "refused"),
            (&put, 412, &error(101), "refused"),
            (&put, 412, &error(105), "refused"),
            (&put, 401, &error(110), "denied"),
            (&put, 500, &error(300), "busy"),
            (&put, 503, "<html>", "unknown"),
            (&put, 400, &error(209), "error"),
            (&Rpc::Wait("/s".into(), 1), 400, &error(401), "outdated"),
            (&Rpc::Wait("/s".into(), 1), 200, "", "unknown"),
            (&Rpc::Wait("/s".into(), 1), 200, r#"{"action":"set","node":{"key":"/s/l"}}"#, "change"),
            (&Rpc::Machines, 200, "http://a:1, http://b:2/", "urls"),
        ] {
            assert_eq!(kind(rpc, status, body), want, "{rpc:?} {body}");
        }
    }
}
