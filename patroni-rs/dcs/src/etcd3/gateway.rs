//! A connection to one node by etcd's JSON gateway (surface-dcs 9).

use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{Engine, BASE64_STANDARD};
use patroni_net::{ClientOptions, HttpClient, HttpStream, NetError};
use serde::de::{DeserializeOwned, Deserializer};
use serde::Deserialize;
use serde_json::{json, Value};
use tonic::Code;

use super::failure::{from_status, Failure};
use super::rpc::{range_end, Body, Cmp, Kv, Op, Reply, Rpc, Txn};
use crate::etcd::wire::Manner;
use crate::etcd::{EtcdOptions, Told};

/// No request of ours takes longer than whoever asks has time, and he sees to that himself.
const LONG: Duration = Duration::from_secs(3600);

/// A connection to a node.
#[derive(Clone)]
pub struct Gateway {
    client: HttpClient,
    /// `http://host:port/v3`.
    base: String,
    token: Option<Arc<str>>,
}

/// 64-bit numbers come as texts, and those that are 0 not at all.
fn number<'de, D: Deserializer<'de>, N: TryFrom<i128> + Default>(from: D) -> Result<N, D::Error> {
    let number = match Value::deserialize(from)? {
        Value::String(text) => text.parse::<i128>().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    };
    let fits = number.and_then(|number| N::try_from(number).ok());
    fits.ok_or_else(|| serde::de::Error::custom("not a number that fits"))
}

/// Keys and values come in base64, and not at all when they are empty.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let encoded = String::deserialize(from)?;
    let bytes = BASE64_STANDARD.decode(encoded).map_err(serde::de::Error::custom)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Header {
    #[serde(deserialize_with = "number")]
    cluster_id: u64,
    #[serde(deserialize_with = "number")]
    raft_term: u64,
    #[serde(deserialize_with = "number")]
    revision: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KeyValue {
    #[serde(deserialize_with = "text")]
    key: String,
    #[serde(deserialize_with = "text")]
    value: String,
    #[serde(deserialize_with = "number")]
    create_revision: i64,
    #[serde(deserialize_with = "number")]
    mod_revision: i64,
    #[serde(deserialize_with = "number")]
    lease: i64,
}

/// The fields of all answers; each has some.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    header: Header,
    kvs: Vec<KeyValue>,
    succeeded: bool,
    responses: Vec<Response>,
    members: Vec<Member>,
    #[serde(rename = "ID", deserialize_with = "number")]
    id: i64,
    #[serde(rename = "TTL", deserialize_with = "number")]
    ttl: i64,
    token: String,
    /// Of a stream.
    result: Option<Box<Answer>>,
    created: bool,
    canceled: bool,
    #[serde(deserialize_with = "number")]
    compact_revision: i64,
    cancel_reason: String,
    events: Vec<Event>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Response {
    response_txn: Option<Box<Answer>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Member {
    #[serde(rename = "clientURLs")]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner")]
    is_learner: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    kv: KeyValue,
}

/// `GET /version`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Version {
    etcdcluster: String,
}

/// An error: of etcd 3.4 with a text in `error`, of 3.5 without, of a stream with an object in it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Trouble {
    error: Option<Value>,
    message: String,
    #[serde(alias = "grpc_code")]
    code: Option<i32>,
}

impl Trouble {
    fn failure(self) -> Failure {
        match self.error {
            Some(Value::String(text)) if self.message.is_empty() => status(self.code, &text),
            Some(inner @ Value::Object(_)) => {
                serde_json::from_value::<Trouble>(inner).unwrap_or_default().failure()
            }
            _ => status(self.code, &self.message),
        }
    }
}

fn status(code: Option<i32>, message: &str) -> Failure {
    from_status(Code::from_i32(code.unwrap_or(2)), message, false)
}

fn node(error: &NetError) -> Failure {
    Failure::Node(error.to_string())
}

/// The first document of an answer: etcd may send more (an error after a result).
fn first<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    match serde_json::Deserializer::from_slice(body).into_iter().next() {
        Some(Ok(document)) => Ok(document),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("an empty answer".into()),
    }
}

fn encoded(text: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(text)
}

impl Gateway {
    /// Finds out the API's path and, with credentials, authenticates.
    ///
    /// # Errors
    /// It is no etcd that we know, it does not answer, or authentication has failed.
    pub async fn connect(url: &str, options: &EtcdOptions, manner: Manner) -> Result<Gateway, Failure> {
        let options_of_client = ClientOptions { tls: options.tls.clone(), basic_auth: None };
        let client = HttpClient::lasting(&options_of_client).map_err(|e| Failure::Refused(e.to_string()))?;
        let limit = manner.connect_timeout * 2;
        let version = client.request("GET", &format!("{url}/version"), &[], "", limit).await;
        let version = version.map_err(|e| node(&e))?;
        let version: Version = first(&version.body).map_err(Failure::Node)?;
        let path = path_of(&version.etcdcluster)?;
        let mut gateway = Gateway { client, base: format!("{url}{path}"), token: None };
        let Some((user, password)) = &options.credentials else { return Ok(gateway) };
        tracing::debug!(target: "patroni.dcs.etcd3", "Trying to authenticate on Etcd...");
        let who = json!({"name": user, "password": password});
        match gateway.post("auth/authenticate", &who, limit).await {
            Ok(answer) => gateway.token = Some(answer.token.into()),
            Err(Failure::Busy(text)) if text.contains("authentication is not enabled") => {
                tracing::debug!(target: "patroni.dcs.etcd3", "Etcd authentication is not enabled");
            }
            Err(failure) => return Err(failure),
        }
        Ok(gateway)
    }

    /// Sends the request and waits for the answer, without any limit of time.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn send(&self, rpc: &Rpc) -> Result<Reply, Failure> {
        let of_prefix =
            |prefix: &str| json!({"key": encoded(prefix), "range_end": encoded(range_end(prefix))});
        let of_key = |key: &str| json!({"key": encoded(key)});
        let (call, request) = match rpc {
            Rpc::List(prefix) => ("kv/range", of_prefix(prefix)),
            Rpc::Get(key) => ("kv/range", of_key(key)),
            Rpc::Put(key, value, lease) => ("kv/put", put(key, value, *lease)),
            Rpc::Delete(key) => ("kv/deleterange", of_key(key)),
            Rpc::DeletePrefix(prefix) => ("kv/deleterange", of_prefix(prefix)),
            Rpc::Txn(txn) => ("kv/txn", transaction(txn)),
            Rpc::Grant(seconds) => ("lease/grant", json!({"TTL": seconds})),
            Rpc::KeepAlive(lease) => ("lease/keepalive", json!({"ID": lease})),
            Rpc::Revoke(lease) => ("lease/revoke", json!({"ID": lease})),
            Rpc::Members => ("cluster/member/list", json!({})),
        };
        let mut answer = self.post(call, &request, LONG).await?;
        if let Some(result) = answer.result.take() {
            answer = *result;
        }
        let by_majority = !matches!(rpc, Rpc::KeepAlive(_) | Rpc::Members);
        let Header { cluster_id: cluster, raft_term: term, revision } = answer.header;
        let body = match rpc {
            Rpc::List(_) | Rpc::Get(_) => Body::Keys(answer.kvs.into_iter().map(kv).collect()),
            Rpc::Put(..) | Rpc::Delete(_) | Rpc::DeletePrefix(_) | Rpc::Revoke(_) => Body::Done,
            Rpc::Txn(_) => {
                let inner = |r: &Response| r.response_txn.as_ref().is_some_and(|txn| txn.succeeded);
                Body::Txn(answer.succeeded || answer.responses.iter().any(inner))
            }
            Rpc::Grant(_) if answer.id == 0 => return Err(Failure::Refused("no lease in the answer".into())),
            Rpc::Grant(_) => Body::Lease(answer.id, answer.ttl),
            Rpc::KeepAlive(_) => Body::Alive(answer.ttl > 0),
            // They are told what the other nodes speak gRPC at, and we do not.
            Rpc::Members => Body::Urls(None),
        };
        Ok(Reply { told: Told { cluster, term, revision, by_majority }, repeated: false, body })
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        let token = self.token.as_deref().map(|token| ("authorization", token));
        [Some(("content-type", "application/json")), token].into_iter().flatten().collect()
    }

    async fn post(&self, call: &str, request: &Value, limit: Duration) -> Result<Answer, Failure> {
        let url = format!("{}/{call}", self.base);
        let answer = self.client.request("POST", &url, &self.headers(), request.to_string(), limit).await;
        let answer = answer.map_err(|e| node(&e))?;
        let trouble = first::<Trouble>(&answer.body);
        match trouble {
            Ok(trouble) if answer.status >= 400 || trouble.error.is_some() => Err(trouble.failure()),
            // A load balancer's page, say.
            Err(_) if answer.status >= 400 => Err(Failure::Node(format!("HTTP status {}", answer.status))),
            _ => first(&answer.body).map_err(Failure::Node),
        }
    }

    /// Watches a prefix from a revision on.
    ///
    /// # Errors
    /// It does not begin.
    pub async fn watch(&self, prefix: &str, from: i64, limit: Duration) -> Result<Watch, Failure> {
        let request = json!({"create_request": {
            "key": encoded(prefix), "range_end": encoded(range_end(prefix)), "start_revision": from,
        }});
        let url = format!("{}/watch", self.base);
        let stream = self.client.stream("POST", &url, &self.headers(), request.to_string(), limit).await;
        let mut watch = Watch { stream: stream.map_err(|e| node(&e))?, buffer: Vec::new() };
        if watch.stream.status < 400 {
            return Ok(watch);
        }
        let chunk = tokio::time::timeout(limit, watch.stream.chunk()).await;
        let chunk = chunk.ok().and_then(Result::ok).flatten().unwrap_or_default();
        Err(first::<Trouble>(&chunk).unwrap_or_default().failure())
    }
}

/// Events as they come.
pub struct Watch {
    stream: HttpStream,
    buffer: Vec<u8>,
}

/// What a message of a watch says.
pub enum Message {
    /// Keys that were put (true) or deleted.
    Events(Vec<(bool, Kv)>),
    /// It has ended; etcd leaves the connection open.
    Canceled,
    /// Nothing has come for long.
    Silence,
}

impl Watch {
    /// The next message.
    ///
    /// # Errors
    /// The connection has ended, or etcd says that something is wrong.
    pub async fn message(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return message(&line);
            }
            match self.stream.chunk().await.map_err(|e| node(&e))? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.is_empty() => return Err(Failure::Node("the watch has ended".into())),
                None => return message(&std::mem::take(&mut self.buffer)),
            }
        }
    }
}

fn message(line: &[u8]) -> Result<Message, Failure> {
    let trouble: Trouble = first(line).map_err(Failure::Node)?;
    if trouble.error.is_some() {
        return Err(trouble.failure());
    }
    let answer: Answer = first(line).map_err(Failure::Node)?;
    let result = answer.result.map_or_else(Answer::default, |result| *result);
    if result.canceled && !result.cancel_reason.is_empty() {
        // `rpc error: code = InvalidArgument desc = etcdserver: user name is empty`
        let reason = result.cancel_reason.rsplit("desc = ").next().unwrap_or_default().to_owned();
        return match status(None, &reason) {
            refusal @ (Failure::Token(_) | Failure::Password(_)) => Err(refusal),
            _ => Ok(Message::Canceled),
        };
    }
    if result.canceled || result.compact_revision != 0 {
        return Ok(Message::Canceled);
    }
    let event = |event: Event| (event.kind != "DELETE", kv(event.kv));
    Ok(Message::Events(result.events.into_iter().map(event).collect()))
}

fn kv(found: KeyValue) -> Kv {
    let KeyValue { key, value, create_revision, mod_revision, lease } = found;
    Kv { key, value, create_revision, mod_revision, lease }
}

fn put(key: &str, value: &str, lease: i64) -> Value {
    let mut put = json!({"key": encoded(key), "value": encoded(value)});
    if lease != 0 {
        put["lease"] = json!(lease);
    }
    put
}

fn transaction(txn: &Txn) -> Value {
    let key = encoded(&txn.key);
    let compare = |cmp: &Cmp| match cmp {
        Cmp::Absent => json!({"key": key, "target": "CREATE", "create_revision": "0"}),
        Cmp::Revision(n) => json!({"key": key, "target": "MOD", "mod_revision": n.to_string()}),
        Cmp::Value(value) => json!({"key": key, "target": "VALUE", "value": encoded(value)}),
        Cmp::Lease(n) => json!({"key": key, "target": "LEASE", "lease": n.to_string()}),
        Cmp::MadeBefore(n) => {
            json!({"key": key, "target": "CREATE", "result": "LESS", "create_revision": n.to_string()})
        }
    };
    let op = |op: &Op| match op {
        Op::Put(value, lease) => json!({"request_put": put(&txn.key, value, *lease)}),
        Op::Delete => json!({"request_delete_range": {"key": key}}),
    };
    let when: Vec<Value> = txn.when.iter().map(compare).collect();
    let mut outer = json!({"compare": when, "success": [op(&txn.then)]});
    if let Some((when, then)) = &txn.otherwise {
        let inner = json!({"compare": [compare(when)], "success": [op(then)]});
        outer["failure"] = json!([{"request_txn": inner}]);
    }
    outer
}

/// The path of the API: it has had three names.
fn path_of(version: &str) -> Result<&'static str, Failure> {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
        (3, 3) => Ok("/v3beta"),
        (3, minor) if minor < 3 => Ok("/v3alpha"),
        (major, _) if major >= 3 => Ok("/v3"),
        _ => Err(Failure::Node(format!("no etcd 3: version {version:?}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_all_versions() {
        for (text, want) in [
            (
                r#"{"error":"etcdserver: requested lease not found","message":"etcdserver: requested lease not found","code":5}"#,
                "lease",
            ),
            (r#"{"code":3,"message":"etcdserver: user name is empty"}"#, "token"),
            (r#"{"error":{"code":3,"message":"etcdserver: user name is empty"}}"#, "token"),
            (
                r#"{"error":{"grpc_code":16,"http_code":401,"message":"etcdserver: invalid auth token"}}"#,
                "token",
            ),
            (r#"{"error":"x","code":14}"#, "node"),
            (r#"{"message":"not a primary lessor","code":2}"#, "node"),
            (r#"{"error":"x"}"#, "refused"),
        ] {
            let failure = first::<Trouble>(text.as_bytes()).unwrap().failure();
            let kind = match failure {
                Failure::LeaseNotFound => "lease",
                Failure::Token(_) => "token",
                Failure::Node(_) => "node",
                Failure::Refused(_) => "refused",
                _ => "other",
            };
            assert_eq!(kind, want, "{text}");
        }
    }

    #[test]
    fn messages_of_a_watch() {
        let events = br#"{"result":{"header":{"revision":"7"},"events":[{"kv":{"key":"YQ==","value":"Yg==","mod_revision":"7"}},{"type":"DELETE","kv":{"key":"YQ==","mod_revision":"8"}}]}}"#;
        let Ok(Message::Events(found)) = message(events) else { panic!() };
        let put = Kv { key: "a".into(), value: "b".into(), mod_revision: 7, ..Kv::default() };
        let deleted = Kv { key: "a".into(), mod_revision: 8, ..Kv::default() };
        assert_eq!(found, [(true, put), (false, deleted)]);
        let compacted = br#"{"result":{"canceled":true,"compact_revision":"9"}}"#;
        assert!(matches!(message(compacted), Ok(Message::Canceled)));
        // etcd 3.5 without a token: created and canceled in one.
        let refused = br#"{"result":{"watch_id":"-1","created":true,"canceled":true,"cancel_reason":"rpc error: code = InvalidArgument desc = etcdserver: user name is empty"}}"#;
        assert!(matches!(message(refused), Err(Failure::Token(_))));
    }

    #[test]
    fn a_transaction_as_the_reference_writes_it() {
        let put = |value: &str| Op::Put(value.into(), 7);
        let txn = Txn {
            key: "k".into(),
            when: vec![Cmp::Absent],
            then: put("n"),
            otherwise: Some((Cmp::Value("n".into()), put("n"))),
        };
        assert_eq!(
            transaction(&txn).to_string(),
            r#"{"compare":[{"key":"aw==","target":"CREATE","create_revision":"0"}],"success":[{"request_put":{"key":"aw==","value":"bg==","lease":7}}],"failure":[{"request_txn":{"compare":[{"key":"aw==","target":"VALUE","value":"bg=="}],"success":[{"request_put":{"key":"aw==","value":"bg==","lease":7}}]}}]}"#
        );
        assert_eq!(range_end("/service/batman/"), b"/service/batman0");
    }

    #[test]
    fn paths() {
        for (version, want) in
            [("3.2.1", "/v3alpha"), ("3.3.25", "/v3beta"), ("3.4.0", "/v3"), ("4.0.0", "/v3")]
        {
            assert_eq!(path_of(version), Ok(want), "{version}");
        }
        assert!(path_of("").is_err() && path_of("2.3.7").is_err());
    }
}
