//! The store beside the reference's own, on one Consul. Skipped where the reference is not installed.

use std::process::{Command, Stdio};

use super::*;

const PYTHON: &str = "/opt/patroni-rs/reference/bin/python";

/// Registers its service, and makes its session and its member key, as our node is to.
const SCRIPT: &str = r#"
import sys, json, logging
logging.disable(logging.CRITICAL)
from patroni.dcs import get_dcs
config = {'scope': 'My.batman', 'name': 'ref', 'ttl': 20, 'loop_wait': 2, 'retry_timeout': 9,
          'consul': {'host': sys.argv[1], 'register_service': True, 'service_tags': ['z', 'a'],
                     'service_check_interval': '7s'}}
dcs = get_dcs(config)
dcs.get_cluster()
print(dcs.touch_member(json.loads(sys.argv[2])), dcs._session, flush=True)
sys.stdin.read()
print(dcs.touch_member(dict(json.loads(sys.argv[2]), state='stopped')), flush=True)
"#;

/// (`service_check_tls_server_name` is refused by 1.8: "unknown field".)
const SECTION: &str = r#","register_service":true,"service_tags":["z","a"],"service_check_interval":"7s""#;

fn member(role: &str, state: &str) -> String {
    format!(
        r#"{{"conn_url":"postgres://127.0.0.1:5444/postgres","api_url":"https://127.0.0.1:8444/patroni","state":"{state}","role":"{role}","version":"4.1.5"}}"#
    )
}

/// Without what is one node's own.
fn alike(value: &Value, name: &str) -> String {
    json::dumps_compact(value).replace(name, "NODE")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_and_keys_are_alike() {
    if !std::path::Path::new(PYTHON).exists() {
        return;
    }
    let Some(consul) = Consul::server(false).await else { return };
    for role in ["primary", "standby_leader"] {
        let data = member(role, "running");
        let mut python = Command::new(PYTHON);
        let python =
            python.args(["-c", SCRIPT, &consul.host, &data]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut reference = python.spawn().unwrap();
        let output = reference.stdout.take().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(output));
        let said = lines.next().unwrap().unwrap();
        let their_session = said.strip_prefix("True ").unwrap().to_owned();

        let configured = format!(
            r#"{{"scope":"My.batman","name":"own","ttl":20,"loop_wait":2,"retry_timeout":9,
                "consul":{{"host":"{}"{SECTION}}}}}"#,
            consul.host
        );
        let config = json::loads(&configured).unwrap();
        let section = config.get("consul").unwrap();
        let settings = Settings::from_config(&config, section).unwrap();
        let keys = Keys::start(settings, section).await.unwrap();
        let store = keys.store();
        let session = store.session(false, soon()).await.unwrap();
        let now = json::loads(&data).unwrap();
        store.announce(None, &now).await;
        let key = "/service/My.batman/members/own";
        assert!(store.put(Put::new(key, &data).owned(&session, None), soon()).await.unwrap().is_done());

        let services = consul.ask("GET", "/v1/agent/services", "").await;
        let service = |name: &str| {
            let service = services.get(&format!("My.batman/{name}")).expect("registered");
            alike(service, name)
        };
        assert_eq!(service("own"), service("ref"));
        assert!(service("own").contains("my-batman"), "{}", service("own"));
        let checks = consul.ask("GET", "/v1/agent/checks", "").await;
        let check = |name: &str| {
            let mut check = checks.get(&format!("service:My.batman/{name}")).expect("checked").clone();
            check.remove("Output");
            check.remove("CreateIndex");
            check.remove("ModifyIndex");
            alike(&check, name)
        };
        assert_eq!(check("own"), check("ref"));

        let info = |id: String| {
            let consul = &consul;
            async move {
                let list = consul.ask("GET", &format!("/v1/session/info/{id}"), "").await;
                let mut session = list.as_list().unwrap().first().cloned().unwrap();
                for field in ["ID", "CreateIndex", "ModifyIndex"] {
                    session.remove(field);
                }
                session
            }
        };
        let (own, their) = (info(session.id.clone().unwrap()).await, info(their_session.clone()).await);
        assert_eq!(alike(&own, "own"), alike(&their, "ref"));
        let mut entry = Vec::new();
        for (name, id) in [("own", session.id.as_deref().unwrap()), ("ref", their_session.as_str())] {
            let mut found = consul.key(&format!("service/My.batman/members/{name}")).await.unwrap();
            assert_eq!(text(&found, "Session"), Some(id));
            for field in ["Session", "CreateIndex", "ModifyIndex"] {
                found.remove(field);
            }
            entry.push(alike(&found, name));
        }
        assert_eq!(entry.first(), entry.last());

        // Nothing has changed: nothing is done; a stop takes the service away.
        store.announce(Some(&now), &now).await;
        store.announce(Some(&now), &json::loads(&member(role, "stopped")).unwrap()).await;
        drop(reference.stdin.take());
        assert!(reference.wait().unwrap().success());
        assert_eq!(consul.ask("GET", "/v1/agent/services", "").await, Value::map());
    }
}
