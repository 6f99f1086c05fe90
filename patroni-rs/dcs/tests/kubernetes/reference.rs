//! The objects beside those that the reference makes of the same orders. Skipped where it is not installed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use patroni_core::model::{FailoverOrder, Status};

use super::*;

const PYTHON: &str = "/opt/patroni-rs/reference/bin/python";

/// One order a line, and a line when it is done.
const SCRIPT: &str = r#"
import sys, json, logging, time
logging.disable(logging.CRITICAL)
from patroni.dcs import get_dcs
section = json.loads(sys.argv[1])
dcs = get_dcs({'scope': 'batman', 'name': 'a', 'ttl': 600, 'loop_wait': 1, 'retry_timeout': 30, 'kubernetes': section})
data = {'conn_url': 'postgres://h/postgres', 'api_url': 'http://h:8008/patroni', 'state': 'running', 'role': 'primary', 'version': '4.1.5'}
def look():
    time.sleep(.3)
    return dcs.get_cluster()
orders = {
    'initialize': lambda: dcs.initialize(),
    'sysid': lambda: (look(), dcs.initialize(create_new=False, sysid='7')),
    'config': lambda: (look(), dcs.set_config_value('{"ttl":5}')),
    'lock': lambda: (look(), dcs.take_leader()),
    'creating': lambda: (look(), dcs.touch_member(dict(data, state='creating replica', role='replica'))),
    'member': lambda: (look(), dcs.touch_member(data)),
    'status': lambda: dcs.update_leader(look(), 67108864, {'b': 67108864, 'a': 5}, {'a': 'http://h:8008/patroni'}),
    'no slots': lambda: dcs.update_leader(look(), 67108865, None, {}),
    'history': lambda: (look(), dcs.set_history_value('[[1,2,"r"]]')),
    'failover': lambda: (look(), dcs.manual_failover('a', 'b', None, None)),
    'no failover': lambda: dcs.manual_failover('', '', None, look().failover.version),
    'sync': lambda: (look(), dcs.write_sync_state('a', ['b', 'A'], 1, None)),
    'no sync': lambda: dcs.delete_sync_state(look().sync.version),
    'release': lambda: dcs.delete_leader(look().leader, 67108866),
    'again': lambda: (look(), dcs.attempt_to_acquire_leader()),
    'stopped': lambda: (look(), dcs.delete_leader(look().leader, None), look(), dcs.touch_member(dict(data, state='stopped'))),
    'uninitialized': lambda: dcs.cancel_initialization(),
}
for line in sys.stdin:
    orders[line.strip()]()
    print('done', flush=True)
"#;

async fn order(dcs: &Store, what: &str) {
    let data = |state: &str, role: &str| {
        let fields = [("conn_url", "postgres://h/postgres"), ("api_url", "http://h:8008/patroni")];
        fields.into_iter().chain([("state", state), ("role", role), ("version", "4.1.5")]).collect::<Value>()
    };
    let seen = dcs.get_cluster().await.unwrap();
    let held = seen.leader.clone();
    let held = || held.clone().unwrap();
    let url = Value::from_iter([("a", "http://h:8008/patroni")]);
    let done = match what {
        "initialize" => dcs.initialize(true, "").await,
        "sysid" => dcs.initialize(false, "7").await,
        "config" => dcs.set_config(&Value::from_iter([("ttl", 5)]), None).await,
        "lock" => dcs.take_leader().await,
        "creating" => dcs.touch_member(&data("creating replica", "replica")).await,
        "member" => dcs.touch_member(&data("running", "primary")).await,
        "status" => {
            let at = patroni_core::model::Lsn::new;
            let slots = [("b".to_owned(), at(67_108_864)), ("a".to_owned(), at(5))].into_iter().collect();
            // What the reference makes of the members itself.
            let retain_slots = vec!["a".into()];
            let status = Status { last_lsn: at(67_108_864), slots: Some(slots), retain_slots };
            dcs.update_leader(&held(), Some(&status), Some(&url)).await
        }
        "no slots" => {
            let status = Status {
                last_lsn: patroni_core::model::Lsn::new(67_108_865),
                slots: None,
                retain_slots: vec!["a".into()],
            };
            dcs.update_leader(&held(), Some(&status), Some(&Value::map())).await
        }
        "history" => dcs.set_history(r#"[[1,2,"r"]]"#).await,
        "failover" => {
            dcs.manual_failover(
                FailoverOrder { leader: Some("a"), candidate: Some("b"), ..Default::default() },
                None,
            )
            .await
        }
        "no failover" => {
            let version = seen.failover.as_ref().map(|f| f.version.clone());
            dcs.manual_failover(FailoverOrder::default(), version.as_deref()).await
        }
        "sync" => dcs.write_sync("a", &["b".into(), "A".into()], 1, None).await.map(|state| state.is_some()),
        "no sync" => dcs.delete_sync(seen.sync.version.as_deref()).await,
        "release" => dcs.delete_leader(Some(&held()), Some(patroni_core::model::Lsn::new(67_108_866))).await,
        "again" => dcs.acquire_leader(seen.leader.as_ref()).await,
        "stopped" => {
            assert_eq!(dcs.delete_leader(Some(&held()), None).await, Ok(true));
            dcs.get_cluster().await.unwrap();
            dcs.touch_member(&data("stopped", "primary")).await
        }
        "uninitialized" => dcs.cancel_initialization().await,
        other => panic!("{other}"),
    };
    assert_eq!(done, Ok(true), "{what}");
}

/// What is stored, without what is one namespace's and one moment's own.
fn stored(namespace: &str, kind: &str) -> Vec<String> {
    let mut found = Vec::new();
    for kind in [kind, "pods", "services"] {
        for object in objects(namespace, kind) {
            let metadata = object.get("metadata").unwrap();
            let get = |key: &str| metadata.get(key).map(json::dumps_compact).unwrap_or_default();
            let mut annotations = metadata.get("annotations").cloned().unwrap_or_default();
            for time in ["acquireTime", "renewTime"] {
                if let Some(text) = annotations.get(time).map(Value::py_str) {
                    let shape: String =
                        text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
                    annotations.set(time, shape);
                }
            }
            let mut subsets = object.get("subsets").map(json::dumps_compact).unwrap_or_default();
            for own in ["uid", "resourceVersion"] {
                let marker = format!(r#""{own}":""#);
                while let Some(at) = subsets.find(&marker) {
                    let from = at + marker.len();
                    let end = from + subsets[from..].find('"').unwrap();
                    subsets.replace_range(at..=end, &format!("{own}!"));
                }
            }
            let subsets = subsets.replace(namespace, "NAMESPACE");
            let spec = object.at(&["spec", "clusterIP"]).map(Value::py_str).unwrap_or_default();
            found.push(format!(
                "{kind} {} {} {} {subsets} {spec}",
                get("name"),
                get("labels"),
                json::dumps_compact(&annotations)
            ));
        }
    }
    found
}

async fn alike(use_endpoints: bool) {
    if !std::path::Path::new(PYTHON).exists() {
        return;
    }
    let (Some((mut section, ours)), Some((_, theirs))) = (place(&["a"]), place(&["a"])) else { return };
    let labels = Value::from_iter([("booting", "yes")]);
    section.set("use_endpoints", use_endpoints);
    section.set("bootstrap_labels", labels);
    section.set("tmp_role_label", "tmp");
    let ports = Value::from_iter([("name", Value::from("postgresql")), ("port", 5432.into())]);
    section.set("ports", Value::from(vec![ports]));
    let dcs = open_with("a", &section, 600, 30);
    section.set("namespace", theirs.as_str());
    let mut python = Command::new(PYTHON);
    let python = python.args(["-c", SCRIPT, &json::dumps_compact(&section)]);
    let mut reference = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = reference.stdin.take().unwrap();
    let mut answers = BufReader::new(reference.stdout.take().unwrap()).lines();
    let kind = if use_endpoints { "endpoints" } else { "configmaps" };
    for what in [
        "initialize",
        "sysid",
        "config",
        "lock",
        "creating",
        "member",
        "status",
        "no slots",
        "history",
        "failover",
        "no failover",
        "sync",
        "no sync",
        "release",
        "again",
        "stopped",
        "uninitialized",
    ] {
        writeln!(input, "{what}").unwrap();
        assert_eq!(answers.next().unwrap().unwrap(), "done", "{what}");
        order(&dcs, what).await;
        assert_eq!(stored(&ours, kind), stored(&theirs, kind), "{what}");
    }
    drop(input);
    reference.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_alike() {
    alike(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configmaps_are_alike() {
    alike(false).await;
}
