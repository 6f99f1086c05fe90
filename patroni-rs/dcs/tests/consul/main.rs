#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
//! The Consul store against real agents. Skipped where scripts/setup found none.

mod proxy;
mod reference;
#[allow(dead_code)]
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use patroni_dcs::kv::{Effort, Failure, Held, If, KvStore, Put, Written};
use patroni_dcs::lock::Renewal;
use patroni_dcs::{Consul as Keys, Settings, Timing};
use proxy::Proxy;
use pyfmt::{json, Value};
use server::Consul;

const LIMIT: Duration = Duration::from_secs(3);

async fn open(host: &str, more: &str) -> Keys {
    open_as("n1", host, more).await
}

async fn open_as(name: &str, host: &str, more: &str) -> Keys {
    let text = format!(
        r#"{{"scope":"batman","name":"{name}","ttl":20,"loop_wait":2,"retry_timeout":9,
            "consul":{{"host":"{host}"{more}}}}}"#
    );
    let config = json::loads(&text).unwrap();
    let section = config.get("consul").unwrap();
    let settings = Settings::from_config(&config, section).unwrap();
    let started = tokio::time::timeout(Duration::from_secs(30), Keys::start(settings, section)).await;
    started.expect("Consul is there").unwrap()
}

fn soon() -> Effort {
    Effort::Until(Instant::now() + Duration::from_secs(9))
}

fn key(name: &str) -> String {
    format!("/service/batman/{name}")
}

fn text<'a>(entry: &'a Value, field: &str) -> Option<&'a str> {
    entry.get(field).and_then(Value::as_str)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_conditions() {
    let Some(consul) = Consul::server(false).await else { return };
    let store = open(&consul.host, "").await;
    let store = store.store();
    let prefix = key("");
    assert!(store.list(&prefix, soon()).await.unwrap().is_empty());
    let key = key("k");
    let put = |condition| Put::new(&key, "v").when(condition).with_version();
    let done = |written: Result<Written, Failure>| written.unwrap().version().expect("done");
    let refused = |written: Result<Written, Failure>| assert_eq!(written, Ok(Written::Refused));

    refused(store.put(put(If::Version("7")), soon()).await);
    refused(store.put(put(If::Ours { value: "v", version: None }), soon()).await);
    let first = done(store.put(put(If::Absent), soon()).await);
    refused(store.put(put(If::Absent), soon()).await);
    refused(store.put(put(If::Version("0")), soon()).await);
    let second = done(store.put(Put::new(&key, "w").when(If::Version(&first)).with_version(), soon()).await);
    refused(store.put(put(If::Version(&first)), soon()).await);
    refused(store.put(put(If::AbsentOr("v")), soon()).await);
    done(store.put(put(If::AbsentOr("w")), soon()).await);
    let third = done(store.put(put(If::Always), soon()).await);
    assert!(second.parse::<u64>().unwrap() < third.parse().unwrap());
    let nodes = store.list(&prefix, soon()).await.unwrap();
    assert_eq!((nodes["k"].value.as_str(), &nodes["k"].version), ("v", &third));

    refused(store.delete(&key, If::Version(&first), soon()).await);
    refused(store.delete(&key, If::Ours { value: "x", version: None }, soon()).await);
    refused(store.delete(&key, If::Ours { value: "x", version: Some(&third) }, soon()).await);
    assert!(store.delete(&key, If::Version(&third), soon()).await.unwrap().is_done());
    assert!(store.delete(&key, If::Always, soon()).await.unwrap().is_done());
    done(store.put(put(If::AbsentOr("other")), soon()).await);
    assert!(store.delete_all(&prefix, soon()).await.unwrap().is_done());
    assert!(store.list(&prefix, soon()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_and_its_session() {
    let Some(consul) = Consul::server(false).await else { return };
    let (one, two) = (open_as("n1", &consul.host, "").await, open_as("n2", &consul.host, "").await);
    let (one, two) = (one.store(), two.store());
    let (ours, theirs) = (one.session(true, soon()).await.unwrap(), two.session(true, soon()).await.unwrap());
    assert_eq!(ours.granted.ttl, Duration::from_secs(20));
    let id = ours.id.clone().unwrap();
    let session = consul.ask("GET", &format!("/v1/session/info/{id}"), "").await;
    let session = session.as_list().unwrap().first().cloned().unwrap();
    assert_eq!(
        (text(&session, "Name"), text(&session, "TTL"), text(&session, "Behavior")),
        (Some("batman-n1"), Some("10.0s"), Some("delete"))
    );
    assert_eq!(session.get("LockDelay"), Some(&Value::Int(1_000_000)));
    assert_eq!(session.get("NodeChecks"), Some(&Value::List(Vec::new())), "no serfHealth");

    let leader = key("leader");
    let race = |owner| Put::new(&leader, "n").when(If::Absent).owned(owner, None);
    assert!(one.put(race(&ours), soon()).await.unwrap().is_done());
    assert_eq!(two.put(race(&theirs), soon()).await, Ok(Written::Refused));
    let nodes = one.list(&key(""), soon()).await.unwrap();
    assert_eq!(nodes["leader"].session.as_deref(), Some(id.as_str()));
    let version = nodes["leader"].version.clone();

    // A new session of ours takes the key over, by the version that was seen; another one's version is of no use.
    assert!(one.set_timing(Timing { ttl: Duration::from_secs(24), ..one.timing() }));
    let new = one.session(false, soon()).await.unwrap();
    assert_ne!(new.id, ours.id);
    let moved = |version: &str, owner| {
        let leader = leader.clone();
        let (version, one) = (version.to_owned(), one);
        async move {
            let ours = If::Ours { value: "n", version: Some(&version) };
            one.put(Put::new(&leader, "n").when(ours).owned(owner, Some("x")), soon()).await
        }
    };
    assert_eq!(moved("1", &new).await, Ok(Written::Refused));
    assert!(moved(&version, &new).await.unwrap().is_done());
    assert_eq!(moved(&version, &new).await, Ok(Written::Refused), "the version is an old one now");
    let entry = consul.key("service/batman/leader").await.unwrap();
    assert_eq!(text(&entry, "Session"), new.id.as_deref());
    assert_eq!((entry.get("LockIndex"), entry.get("Flags")), (Some(&Value::Int(1)), Some(&Value::Int(0))));

    // The lock keeper, in a thread of its own.
    one.set_leader(Some(Held { key: &leader, value: "n", session: &new }));
    let mut renewer = one.renewer();
    let renewal = |mut renewer: Box<dyn patroni_dcs::lock::LockRenewer>| {
        std::thread::spawn(move || (renewer.renew(LIMIT), renewer)).join().unwrap()
    };
    let (said, back) = renewal(renewer);
    renewer = back;
    assert!(matches!(said, Renewal::Until(g) if g.ttl == Duration::from_secs(24)), "{said:?}");
    consul.signal("-STOP");
    let begun = Instant::now();
    let (said, back) = renewal(renewer);
    renewer = back;
    assert!(matches!(said, Renewal::NoAnswer(_)) && begun.elapsed() < LIMIT * 2, "{said:?}");
    consul.signal("-CONT");
    consul.ask("PUT", &format!("/v1/session/destroy/{}", new.id.clone().unwrap()), "").await;
    assert_eq!(renewal(renewer).0, Renewal::Gone);
    assert!(consul.key("service/batman/leader").await.is_none(), "it goes with the session");

    // A session that is gone is told as such, and the next one is another.
    let member = key("members/n1");
    let gone = one.put(Put::new(&member, "{}").owned(&new, None), soon()).await;
    assert!(matches!(gone, Err(Failure::SessionGone(_))), "{gone:?}");
    let third = one.session(true, soon()).await.unwrap();
    assert_ne!(third.id, new.id);
    // A member key that an old session has locked.
    assert!(one.put(Put::new(&member, "{}").owned(&theirs, None), soon()).await.unwrap().is_done());
    assert!(one.put(Put::new(&member, "{1}").owned(&third, None), soon()).await.unwrap().is_done());
    let entry = consul.key("service/batman/members/n1").await.unwrap();
    assert_eq!(text(&entry, "Session"), third.id.as_deref());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_in_client_mode() {
    let Some(server) = Consul::server(false).await else { return };
    let agent = server.client().await;
    let store = open(&agent.host, "").await;
    let store = store.store();
    let session = store.session(true, soon()).await.unwrap();
    server.ask("PUT", &format!("/v1/session/destroy/{}", session.id.clone().unwrap()), "").await;
    let leader = key("leader");
    let begun = Instant::now();
    let gone = store.put(Put::new(&leader, "n").when(If::Absent).owned(&session, None), soon()).await;
    assert!(matches!(gone, Err(Failure::SessionGone(_))), "{gone:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "it is no reason to try again");
    let moved = Put::new(&leader, "n").when(If::Always).owned(&session, Some("x"));
    assert!(matches!(store.put(moved, soon()).await, Err(Failure::SessionGone(_))));
    let next = store.session(true, soon()).await.unwrap();
    assert!(store
        .put(Put::new(&leader, "n").when(If::Absent).owned(&next, None), soon())
        .await
        .unwrap()
        .is_done());
}

/// The orderly stop of an agent takes its node out of Consul's cluster, and with it each session that was made there: at
/// once, not after the TTL. The agent answers for some seconds more, and that has to be understood.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_leaves() {
    let Some(server) = Consul::server(false).await else { return };
    let agent = server.client().await;
    let store = open(&agent.host, "").await;
    let store = store.store();
    let session = store.session(true, soon()).await.unwrap();
    let leader = key("leader");
    let locked = Put::new(&leader, "n").when(If::Absent).owned(&session, None);
    assert!(store.put(locked, soon()).await.unwrap().is_done());
    agent.signal("-TERM");
    let begun = Instant::now();
    while server.key("service/batman/leader").await.is_some() {
        assert!(begun.elapsed() < Duration::from_secs(15), "the session lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gone = Instant::now();
    let refused = store.session(true, soon()).await;
    assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}");
    assert!(gone.elapsed() < Duration::from_secs(2), "it is no reason to try again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_read_sees_no_empty_cluster() {
    let Some(consul) = Consul::server(true).await else { return };
    let full = consul
        .token("full", r#"key_prefix "service/batman" {policy="write"} session_prefix "" {policy="write"}"#)
        .await;
    let blind = consul.token("blind", r#"session_prefix "" {policy="write"}"#).await;
    let with = |token: &str| format!(r#","token":"{token}""#);
    let store = open(&consul.host, &with(&full)).await;
    let store = store.store();
    assert!(store.list(&key(""), soon()).await.unwrap().is_empty(), "an empty cluster it is");
    let other = open(&consul.host, &with(&blind)).await;
    let other = other.store();
    let listed = other.list(&key(""), soon()).await;
    assert!(matches!(listed, Err(Failure::Denied(_))), "{listed:?}");
    let initialize = key("initialize");
    assert!(matches!(other.claim(&initialize, soon()).await, Err(Failure::Denied(_))));
    let session = other.session(false, soon()).await.unwrap();
    let moved = Put::new(&initialize, "").when(If::Version("3")).owned(&session, None);
    let denied = other.put(moved, soon()).await;
    assert!(matches!(denied, Err(Failure::Denied(_))), "a transaction says it in another way: {denied:?}");
    let denied = other.put(Put::new(&initialize, ""), soon()).await;
    assert!(matches!(denied, Err(Failure::Denied(_))), "{denied:?}");
    // The token comes back with a new configuration.
    let section = json::loads(&format!(r#"{{"host":"x","token":"{full}"}}"#)).unwrap();
    other.reload(&section).unwrap();
    assert!(other.list(&key(""), soon()).await.unwrap().is_empty());
    assert_eq!(other.claim(&initialize, soon()).await, Ok(true));
    assert_eq!(store.claim(&initialize, soon()).await, Ok(false));
}

/// The token is changed in the files and in Consul, in either order, and mistyped in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_changed() {
    let Some(consul) = Consul::server(true).await else { return };
    let rules = r#"key_prefix "service/batman" {policy="write"} session_prefix "" {policy="write"}"#;
    let first = consul.token("first", rules).await;
    let store = open(&consul.host, &format!(r#","token":"{first}""#)).await;
    let store = store.store();
    let initialize = key("initialize");
    let works = || async {
        assert!(store.put(Put::new(&initialize, "x"), soon()).await.is_ok());
        assert_eq!(store.list(&key(""), soon()).await.unwrap().len(), 1);
        store.session(true, soon()).await.unwrap();
    };
    let reload = |token: &str| {
        store.reload(&json::loads(&format!(r#"{{"host":"x","token":"{token}"}}"#)).unwrap()).unwrap();
    };
    let revoke = |token: String| {
        let consul = &consul;
        async move {
            let accessor = consul.ask("GET", &format!("/v1/acl/token/self?token={token}"), "").await;
            let accessor = text(&accessor, "AccessorID").unwrap().to_owned();
            consul.ask("DELETE", &format!("/v1/acl/token/{accessor}"), "").await;
        }
    };
    works().await;
    // What the next start would refuse: the old options stay.
    for wrong in
        [r#"{"scheme":"ftp"}"#, r#"{"host":"x:y"}"#, r#"{"url":"HTTP3://x"}"#, r#"{"consistency":"x"}"#]
    {
        assert!(store.reload(&json::loads(wrong).unwrap()).is_err(), "{wrong}");
    }
    works().await;
    reload("00000000-0000-0000-0000-000000000000");
    works().await;
    // One that exists, and may not read: no empty cluster, whatever the one before may.
    let blind = consul.token("blind", r#"session_prefix "" {policy="write"}"#).await;
    reload(&blind);
    let listed = store.list(&key(""), soon()).await;
    assert!(matches!(listed, Err(Failure::Denied(_))), "{listed:?}");
    reload(&first);
    works().await;
    // The new one, and the old one goes.
    let second = consul.token("second", rules).await;
    reload(&second);
    works().await;
    revoke(first).await;
    works().await;
    // The old one goes first.
    let third = consul.token("third", rules).await;
    revoke(second).await;
    let told = async {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        reload(&third);
    };
    tokio::join!(works(), told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_lost() {
    let Some(consul) = Consul::server(false).await else { return };
    let proxy = Proxy::before(&consul.host);
    let store = open(&proxy.host, "").await;
    let store = store.store();
    let other = open_as("n2", &consul.host, "").await;
    let other = other.store();
    let initialize = key("initialize");
    proxy.swallow(1);
    assert_eq!(store.claim(&initialize, soon()).await, Ok(true), "it was its own first attempt");
    assert_eq!(other.claim(&initialize, soon()).await, Ok(false));
    store.delete(&initialize, If::Always, soon()).await.unwrap();
    proxy.swallow(1);
    assert!(matches!(store.claim(&initialize, Effort::Once).await, Err(Failure::Unknown(_))));
    assert_eq!(store.claim(&initialize, soon()).await, Ok(true), "who asks again is told");
    assert_eq!(store.claim(&initialize, soon()).await, Ok(false), "once");
    store.delete(&initialize, If::Always, soon()).await.unwrap();
    proxy.swallow(1);
    assert!(matches!(store.claim(&initialize, Effort::Once).await, Err(Failure::Unknown(_))));
    other.delete(&initialize, If::Always, soon()).await.unwrap();
    assert_eq!(other.claim(&initialize, soon()).await, Ok(true));
    assert_eq!(store.claim(&initialize, soon()).await, Ok(false), "that is another's");

    let sync = key("sync");
    proxy.swallow(1);
    let first = store.put(Put::new(&sync, "1").when(If::Absent).with_version(), soon()).await.unwrap();
    let first = first.version().expect("done");
    proxy.swallow(1);
    let second =
        store.put(Put::new(&sync, "2").when(If::Version(&first)).with_version(), soon()).await.unwrap();
    assert!(second.is_done());
    let leader = key("leader");
    let session = store.session(true, soon()).await.unwrap();
    proxy.swallow(1);
    assert!(store
        .put(Put::new(&leader, "n1").when(If::Absent).owned(&session, None), soon())
        .await
        .unwrap()
        .is_done());
    let version = store.list(&key(""), soon()).await.unwrap()["leader"].version.clone();
    store.forget_session();
    let new = store.session(true, soon()).await.unwrap();
    proxy.swallow(1);
    let ours = If::Ours { value: "n1", version: Some(&version) };
    let moved =
        store.put(Put::new(&leader, "n1").when(ours).owned(&new, session.id.as_deref()), soon()).await;
    assert!(moved.unwrap().is_done());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_client_certificates() {
    let dir = tempfile::Builder::new().prefix("patroni-dcs-").tempdir_in("/tmp").unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=consul"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &path("key"), "-out", &path("crt")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let https = support::free_port();
    let Some(_consul) = Consul::secured(dir.path(), https).await else { return };
    let (cert, key) = (path("crt"), path("key"));
    let with = |options: &str| {
        let text = format!(
            r#"{{"scope":"batman","name":"n1","patronictl":true,"ttl":20,"loop_wait":2,"retry_timeout":3,
                "consul":{{"url":"https://127.0.0.1:{https}"{options}}}}}"#
        );
        async move {
            let config = json::loads(&text).unwrap();
            let section = config.get("consul").unwrap();
            let settings = Settings::from_config(&config, section).unwrap();
            let keys = Keys::start(settings, section).await.unwrap();
            keys.store().list(&key_prefix(), Effort::Until(Instant::now() + LIMIT)).await.is_ok()
        }
    };
    let ours = format!(r#","cert":"{cert}","key":"{key}""#);
    assert!(with(&format!(r#"{ours},"cacert":"{cert}""#)).await);
    assert!(with(&format!(r#"{ours},"verify":false"#)).await);
    assert!(!with(&ours).await, "nobody vouches for the server");
    assert!(!with(&format!(r#","cacert":"{cert}""#)).await, "nobody vouches for us");
    assert!(!with(r#","verify":false"#).await);
}

fn key_prefix() -> String {
    key("")
}
