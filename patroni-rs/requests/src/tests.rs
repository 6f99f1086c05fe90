#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use patroni_core::model::{Cluster, Lsn, SyncState};
use patroni_dcs::lock::LockRenewer;
use patroni_dcs::Timing;
use pyfmt::{json, Value};

use super::*;

type Outcome = Result<bool, DcsError>;

/// Notes each call, and answers with `says`.
struct Store {
    calls: Mutex<Vec<String>>,
    says: Outcome,
}

impl Store {
    fn note(&self, call: String) -> Outcome {
        self.calls.lock().unwrap().push(call);
        self.says.clone()
    }
}

#[async_trait]
impl Dcs for Store {
    async fn get_cluster(&self) -> Result<Arc<Cluster>, DcsError> {
        self.note("get".into()).map(|_| Arc::default())
    }
    async fn acquire_leader(&self, seen: Option<&Leader>) -> Outcome {
        self.note(format!("acquire {:?}", seen.map(|leader| &leader.version)))
    }
    async fn update_leader(&self, leader: &Leader, s: Option<&Status>, failsafe: Option<&Value>) -> Outcome {
        let status = s.map(|s| (s.last_lsn.bytes(), &s.retain_slots));
        self.note(format!("update {} {status:?} {:?}", leader.version, failsafe.map(json::dumps_compact)))
    }
    fn unchanged_cluster(&self) -> Option<Arc<Cluster>> {
        let _ = self.note("unchanged".into());
        self.says.as_ref().ok().filter(|says| **says).map(|_| Arc::default())
    }
    async fn keep_leader(&self, _: &Leader, _: Option<&Status>, _: Option<&Value>) -> Outcome {
        self.note("keep".into())
    }
    async fn take_leader(&self) -> Outcome {
        self.note("take".into())
    }
    async fn delete_leader(&self, leader: Option<&Leader>, last_lsn: Option<Lsn>) -> Outcome {
        self.note(format!("delete {:?} {:?}", leader.map(|l| &l.version), last_lsn.map(Lsn::bytes)))
    }
    async fn touch_member(&self, data: &Value) -> Outcome {
        self.note(format!("touch {}", json::dumps_compact(data)))
    }
    async fn set_config(&self, value: &Value, version: Option<&str>) -> Outcome {
        self.note(format!("config {} {version:?}", json::dumps_compact(value)))
    }
    async fn set_failover(&self, value: &str, version: Option<&str>) -> Outcome {
        self.note(format!("failover {value} {version:?}"))
    }
    async fn write_sync(
        &self,
        leader: &str,
        standbys: &[String],
        quorum: i64,
        version: Option<&str>,
    ) -> Result<Option<SyncState>, DcsError> {
        let written = self.note(format!("sync {leader} {standbys:?} {quorum} {version:?}"))?;
        Ok(written.then(|| SyncState { version: Some("9".into()), ..SyncState::default() }))
    }
    async fn delete_sync(&self, version: Option<&str>) -> Outcome {
        self.note(format!("no sync {version:?}"))
    }
    async fn set_history(&self, value: &str) -> Outcome {
        self.note(format!("history {value}"))
    }
    async fn write_status(&self, last_lsn: Lsn) -> Outcome {
        self.note(format!("status {}", last_lsn.bytes()))
    }
    async fn initialize(&self, create_new: bool, sysid: &str) -> Outcome {
        self.note(format!("initialize {create_new} {sysid}"))
    }
    async fn cancel_initialization(&self) -> Outcome {
        self.note("cancel".into())
    }

    // The engine asks for none of these.
    async fn get_groups(&self) -> Result<BTreeMap<i64, Cluster>, DcsError> {
        unreachable!()
    }
    async fn write_failsafe(&self, _: &Value) -> Outcome {
        unreachable!()
    }
    async fn delete_cluster(&self) -> Outcome {
        unreachable!()
    }
    async fn watch(&self, _: bool, _: Duration) -> bool {
        unreachable!()
    }
    fn cached_cluster(&self) -> Option<Arc<Cluster>> {
        unreachable!()
    }
    fn last_seen(&self) -> u64 {
        unreachable!()
    }
    fn failsafe(&self) -> Option<Value> {
        unreachable!()
    }
    fn wake(&self) {}
    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        unreachable!()
    }
    fn set_timing(&self, _: Timing) {}
    fn reload(&self, _: &Value) -> Result<(), DcsError> {
        Ok(())
    }
    fn granted(&self) -> Duration {
        unreachable!()
    }
    fn renewer(&self) -> Option<Box<dyn LockRenewer>> {
        None
    }
    fn let_leader_run_out(&self) {}
    fn setbacks(&self) -> u64 {
        0
    }
}

fn map(text: &str) -> Value {
    json::loads(text).unwrap()
}

/// Each request, and the call that it is.
fn requests() -> Vec<(DcsRequest, &'static str)> {
    let version = || Some("3".to_owned());
    let positions = Some((Lsn::new(5), None));
    let standbys = vec!["b".to_owned(), "c".to_owned()];
    vec![
        (DcsRequest::LoadCluster(ask::LoadCluster), "get"),
        (DcsRequest::AcquireLeader(ask::AcquireLeader), r#"acquire Some("7")"#),
        (
            DcsRequest::UpdateLeader(ask::UpdateLeader {
                status: positions,
                failsafe: Some(map(r#"{"a":1}"#)),
            }),
            r#"update 7 Some((5, ["x"])) Some("{\"a\":1}")"#,
        ),
        (DcsRequest::TakeLeader(ask::TakeLeader), "take"),
        (
            DcsRequest::DeleteLeader(ask::DeleteLeader { last_lsn: Some(Lsn::new(6)) }),
            r#"delete Some("7") Some(6)"#,
        ),
        (DcsRequest::WriteStatus(ask::WriteStatus(Lsn::new(8))), "status 8"),
        (DcsRequest::TouchMember(ask::TouchMember(map(r#"{"m":1}"#))), r#"touch {"m":1}"#),
        (
            DcsRequest::Initialize(ask::Initialize { create_new: true, sysid: "71".into() }),
            "initialize true 71",
        ),
        (DcsRequest::CancelInitialization(ask::CancelInitialization), "cancel"),
        (DcsRequest::SetConfig(ask::SetConfig(map(r#"{"ttl":30}"#))), r#"config {"ttl":30} None"#),
        (
            DcsRequest::WriteFailover(ask::WriteFailover {
                candidate: Some("b".into()),
                scheduled_at: None,
                version: version(),
            }),
            r#"failover {"member":"b"} Some("3")"#,
        ),
        (
            DcsRequest::WriteSync(ask::WriteSync {
                leader: "a".into(),
                standbys,
                quorum: 1,
                version: version(),
            }),
            r#"sync a ["b", "c"] 1 Some("3")"#,
        ),
        (DcsRequest::DeleteSync(ask::DeleteSync { version: version() }), r#"no sync Some("3")"#),
        (DcsRequest::WriteHistory(ask::WriteHistory("[]".into())), "history []"),
    ]
}

async fn answers(says: Outcome, leader: Option<&Leader>) -> (Vec<Answer>, Vec<String>) {
    let store = Store { calls: Mutex::default(), says };
    let status = Status { last_lsn: Lsn::new(5), slots: None, retain_slots: vec!["x".into()] };
    let mut answers = Vec::new();
    for (request, _) in requests() {
        answers.push(carry_out(&store, &request, leader, Some(&status), false).await);
    }
    (answers, store.calls.into_inner().unwrap())
}

fn leader() -> Leader {
    Leader { version: "7".into(), ..Leader::default() }
}

#[tokio::test]
async fn each_request_is_one_call() {
    let (_, calls) = answers(Ok(true), Some(&leader())).await;
    assert_eq!(calls, requests().iter().map(|(_, call)| *call).collect::<Vec<_>>());
    // Without a leader there is nothing to renew.
    let (answers, calls) = answers(Ok(true), None).await;
    assert!(!calls.iter().any(|call| call.starts_with("update")));
    assert_eq!(answers[2], Answer::Dcs(Ok(false)));
}

#[tokio::test]
async fn what_may_be_spared() {
    let load = DcsRequest::LoadCluster(ask::LoadCluster);
    let update = DcsRequest::UpdateLeader(ask::UpdateLeader { status: None, failsafe: None });
    for (request, says, calls) in [
        (&load, true, &["unchanged"][..]),
        // It may have changed.
        (&load, false, &["unchanged", "get"]),
        (&update, true, &["keep"]),
        (&update, false, &["keep"]),
    ] {
        let store = Store { calls: Mutex::default(), says: Ok(says) };
        let answer = carry_out(&store, request, Some(&leader()), None, true).await;
        assert_eq!(store.calls.into_inner().unwrap(), calls);
        assert!(matches!(answer, Answer::Cluster(Ok(_))) || answer == Answer::Dcs(Ok(says)));
    }
}

/// What the store says, as an answer. Where the engine has to know, a store that is away is no refusal.
#[tokio::test]
async fn outcomes() {
    let away = || DcsError::Unreachable("gone".into());
    let said = |says: Outcome| async move { answers(says, Some(&leader())).await.0 };
    for (at, (request, _)) in requests().into_iter().enumerate() {
        let (yes, no) = (said(Ok(true)).await.remove(at), said(Ok(false)).await.remove(at));
        let unknown = said(Err(away())).await.remove(at);
        match request {
            DcsRequest::LoadCluster(_) => {
                assert_eq!(yes, Answer::Cluster(Ok(Arc::default())));
                assert!(matches!(unknown, Answer::Cluster(Err(_))));
            }
            DcsRequest::AcquireLeader(_) | DcsRequest::UpdateLeader(_) => {
                assert_eq!((yes, no), (Answer::Dcs(Ok(true)), Answer::Dcs(Ok(false))));
                assert!(matches!(unknown, Answer::Dcs(Err(_))));
            }
            DcsRequest::WriteSync(_) => {
                assert_eq!((yes, no), (Answer::Version(Some("9".into())), Answer::Version(None)));
                assert_eq!(unknown, Answer::Version(None));
            }
            DcsRequest::WriteStatus(_) => assert_eq!((&yes, &yes), (&no, &unknown)),
            DcsRequest::TakeLeader(_)
            | DcsRequest::DeleteLeader(_)
            | DcsRequest::TouchMember(_)
            | DcsRequest::Initialize(_)
            | DcsRequest::CancelInitialization(_)
            | DcsRequest::SetConfig(_)
            | DcsRequest::WriteFailover(_)
            | DcsRequest::DeleteSync(_)
            | DcsRequest::WriteHistory(_) => {
                assert_eq!(
                    (yes, no, unknown),
                    (Answer::Bool(true), Answer::Bool(false), Answer::Bool(false))
                );
            }
        }
    }
}
