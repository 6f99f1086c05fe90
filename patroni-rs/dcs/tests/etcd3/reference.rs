//! The adapter beside the reference's own, on one etcd. Skipped where the reference
//! is not installed.

use patroni_core::model::Lsn;
use std::process::{Command, Stdio};

use super::*;

const PYTHON: &str = "/opt/patroni-rs/reference/bin/python";

/// A node of the reference without PostgreSQL: it reads what we wrote, takes the lock
/// when it is free, and is woken by our writes.
const SCRIPT: &str = r#"
import sys, time, logging
logging.disable(logging.CRITICAL)
from patroni.dcs import get_dcs
config = {'scope': 'batman', 'name': 'ref', 'ttl': 20, 'loop_wait': 1, 'retry_timeout': 3,
          'etcd3': {'host': sys.argv[1]}}
dcs = get_dcs(config)
c = dcs.get_cluster()
print(c.leader.name, c.leader.session, c.config.data, c.sync.members, c.sync.quorum, c.status, c.timeline,
      c.failsafe, [(m.name, m.state, m.tags) for m in c.members], c.initialize, bool(c.failover))
print(bool(dcs.attempt_to_acquire_leader()), flush=True)
start = time.time()
while dcs.watch(None, 10) and dcs.get_cluster().leader_name is not None and time.time() - start < 10:
    pass
print(bool(dcs.attempt_to_acquire_leader()), dcs.touch_member({'conn_url': 'postgres://r/', 'state': 'running'}))
c = dcs.get_cluster()
dcs.update_leader(c, 77, {'ref': 77})
print(bool(dcs.write_sync_state('ref', ['n1'], 0, c.sync.version)), flush=True)
sys.stdin.read()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_see_what_the_other_writes() {
    if !std::path::Path::new(PYTHON).exists() {
        return;
    }
    let etcd = Etcd::single();
    let dcs = start("n1", &[&etcd.url]).await;
    dcs.set_timing(Timing { ttl: Duration::from_secs(20), ..Timing::default() });
    dcs.initialize(true, "123").await.unwrap();
    dcs.set_config(&Value::from_iter([("ttl", 30)]), None).await.unwrap();
    let mut member = data("running");
    member.set("tags", Value::from_iter([("clonefrom", true)]));
    dcs.touch_member(&member).await.unwrap();
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    let leader = dcs.get_cluster().await.unwrap().leader.clone().unwrap();
    let slots = [("n1".to_owned(), Lsn::new(5))].into_iter().collect();
    let status = Status { last_lsn: Lsn::new(5), slots: Some(slots), retain_slots: vec!["n1".into()] };
    let failsafe = Value::from_iter([("n1", "u")]);
    assert_eq!(dcs.update_leader(&leader, Some(&status), Some(&failsafe)).await, Ok(true));
    dcs.write_sync("n1", &["b".into(), "A".into()], 1, None).await.unwrap();
    dcs.set_history("[[1,2,\"r\"]]").await.unwrap();
    dcs.manual_failover(FailoverOrder::default(), None).await.unwrap();

    let host = etcd.url.trim_start_matches("http://").to_owned();
    let mut python = Command::new(PYTHON);
    let python = python.args(["-c", SCRIPT, &host]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut reference = python.spawn().unwrap();
    let output = reference.stdout.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(output));
    let mut line = || lines.next().unwrap().unwrap();
    let session = dcs.lease_id().unwrap();
    assert_eq!(
        line(),
        format!(
            "n1 {session} {{'ttl': 30}} ['n1', 'A', 'b'] 1 Status(last_lsn=5, slots={{'n1': 5}}, \
             retain_slots=['n1']) 2 {{'n1': 'u'}} [('n1', 'running', {{'clonefrom': True}})] 123 False"
        )
    );
    assert_eq!(line(), "False");
    let sync = dcs.get_cluster().await.unwrap().sync.clone();
    assert_eq!(dcs.delete_leader(Some(&leader), None).await, Ok(true));
    assert_eq!(line(), "True True");
    assert_eq!(line(), "True");
    let cluster = dcs.get_cluster().await.unwrap();
    assert_eq!((cluster.leader_name(), cluster.status.last_lsn.bytes()), (Some("ref"), 77));
    assert_eq!(cluster.leader.as_ref().and_then(|l| l.conn_url()).as_deref(), Some("postgres://r/"));
    assert!(cluster.sync.leader_matches("ref") && cluster.sync.matches("n1", false));
    assert_eq!(dcs.write_sync("n1", &[], 0, sync.version.as_deref()).await, Ok(None));
    assert_eq!(dcs.acquire_leader(None).await, Ok(false));
    assert_eq!(
        dcs.update_leader(&leader, None, None).await,
        Ok(true),
        "a lease of one's own is all it looks at"
    );
    assert_eq!(dcs.update_leader(cluster.leader.as_ref().unwrap(), None, None).await, Ok(false));
    drop(reference.stdin.take());
    assert!(reference.wait().unwrap().success());
}
