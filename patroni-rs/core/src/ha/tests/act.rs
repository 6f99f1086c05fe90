//! A request as one word, in the notation that tables and recordings share.
//! What only looks at something has no word.

use super::super::*;
use crate::model::Member;

fn list(members: &[Member]) -> String {
    members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(",")
}

fn source(source: &Option<Source>) -> &str {
    source.as_ref().map_or("nobody", |s| s.member.name.as_str())
}

fn job(job: &Job) -> String {
    match job {
        Job::Follow { name, source: from, role, .. } => {
            format!("job:{name}({},{})", source(from), role.as_str())
        }
        other => format!("job:{}", other.name()),
    }
}

fn sync_names(names: &SyncNames) -> String {
    match names {
        SyncNames::User(None) => "ssn:none".into(),
        SyncNames::User(Some(text)) => format!("ssn:user={text}"),
        SyncNames::Star => "ssn:*".into(),
        SyncNames::Nodes { names, num: None } => format!("ssn:{}", names.join(",")),
        SyncNames::Nodes { names, num: Some(n) } => format!("ssn:{n}({})", names.join(",")),
    }
}

/// None for what is no effect, or no business of anybody outside.
pub fn act(request: &Request) -> Option<String> {
    match request {
        Request::Dcs(request) => Some(dcs(request)),
        Request::Peers(request) => Some(peers(request)),
        Request::Server(request) => server(request),
        Request::Lock(request) => lock(request),
        Request::Node(request) => Some(node(request)),
    }
}

fn dcs(request: &DcsRequest) -> String {
    match request {
        DcsRequest::LoadCluster(_) => "load".into(),
        DcsRequest::AcquireLeader(_) => "acquire".into(),
        DcsRequest::UpdateLeader(ask::UpdateLeader { status, failsafe }) => {
            let status = if status.is_some() { "+status" } else { "" };
            let failsafe = failsafe.as_ref().and_then(|f| f.as_map()).map_or_else(String::new, |map| {
                let names: Vec<String> = map.keys().map(|k| k.py_str()).collect();
                format!("+failsafe({})", names.join(","))
            });
            format!("update{status}{failsafe}")
        }
        DcsRequest::TakeLeader(_) => "take".into(),
        DcsRequest::DeleteLeader(ask::DeleteLeader { last_lsn: None }) => "delete".into(),
        DcsRequest::DeleteLeader(ask::DeleteLeader { last_lsn: Some(lsn) }) => {
            format!("delete({})", lsn.bytes())
        }
        DcsRequest::WriteStatus(ask::WriteStatus(lsn)) => format!("optime({})", lsn.bytes()),
        DcsRequest::TouchMember(_) => "touch".into(),
        DcsRequest::Initialize(ask::Initialize { create_new, sysid }) => {
            format!("initialize({}{sysid})", if *create_new { "new:" } else { "" })
        }
        DcsRequest::CancelInitialization(_) => "uninitialize".into(),
        DcsRequest::SetConfig(_) => "config".into(),
        DcsRequest::WriteFailover(ask::WriteFailover { candidate, .. }) => {
            format!("failover({})", candidate.as_deref().unwrap_or_default())
        }
        DcsRequest::WriteSync(ask::WriteSync { leader, standbys, quorum, .. }) => {
            format!("sync({leader};{};{quorum})", standbys.join(","))
        }
        DcsRequest::DeleteSync(_) => "unsync".into(),
        DcsRequest::WriteHistory(ask::WriteHistory(text)) => format!("history({text})"),
    }
}

fn peers(request: &PeerRequest) -> String {
    match request {
        PeerRequest::Peers(ask::Peers { members, .. }) => format!("peers({})", list(members)),
        PeerRequest::PingFailsafe(ask::PingFailsafe { members, .. }) => {
            format!("failsafe({})", list(members))
        }
        PeerRequest::ReleaseSync(_) => "release_sync".into(),
    }
}

fn server(request: &ServerRequest) -> Option<String> {
    Some(match request {
        ServerRequest::SetRole(ask::SetRole(role)) => format!("role({})", role.as_str()),
        ServerRequest::SetState(ask::SetState(state)) => format!("state({})", state.as_str()),
        ServerRequest::Call(ask::Call(callback)) => format!("call({})", callback.as_str()),
        ServerRequest::Stop(ask::Stop { mode: StopMode::Fast, .. }) => "stop(fast)".into(),
        ServerRequest::Stop(ask::Stop { mode: StopMode::Immediate, .. }) => "stop(immediate)".into(),
        ServerRequest::StopToCheckpoint(_) => "stop(checkpoint)".into(),
        ServerRequest::AwaitExit(_) => "await_exit".into(),
        ServerRequest::FollowReload(ask::FollowReload { source: from, role }) => {
            format!("follow({},{})", source(from), role.as_str())
        }
        ServerRequest::ResumeReplay(_) => "resume".into(),
        ServerRequest::SetSyncNames(ask::SetSyncNames(names)) => sync_names(names),
        ServerRequest::SyncSlots(ask::SyncSlots { dcs_failed: false, .. }) => "slots".into(),
        ServerRequest::SyncSlots(ask::SyncSlots { dcs_failed: true, .. }) => "slots(failsafe)".into(),
        ServerRequest::AfterPause(_) => "after_pause".into(),
        ServerRequest::ProveGone(_) => "prove".into(),
        ServerRequest::QuarantineDataDir(_) => "move".into(),
        ServerRequest::Probe(_)
        | ServerRequest::ReadControlData(_)
        | ServerRequest::CheckRecovery(_)
        | ServerRequest::CurrentSync(_)
        | ServerRequest::Walsenders(_)
        | ServerRequest::ReplicaTimeline(_)
        | ServerRequest::History(_)
        | ServerRequest::CanRewind(_)
        | ServerRequest::CheckDiverged(_)
        | ServerRequest::EnsureCheckpoint(_) => return None,
    })
}

fn lock(request: &LockRequest) -> Option<String> {
    Some(match request {
        LockRequest::ExtendLease(_) => "extend".into(),
        LockRequest::DropLease(_) => return None,
    })
}

fn node(request: &NodeRequest) -> String {
    match request {
        NodeRequest::StartJob(ask::StartJob(started)) => job(started),
        NodeRequest::CancelJob(ask::CancelJob { kill: false }) => "cancel".into(),
        NodeRequest::CancelJob(ask::CancelJob { kill: true }) => "kill".into(),
        NodeRequest::WatchdogActivate(_) => "watch".into(),
        NodeRequest::WatchdogDisable(_) => "unwatch".into(),
        NodeRequest::WatchdogKeepalive(_) => "feed".into(),
        NodeRequest::YieldRace(_) => "yield".into(),
        NodeRequest::DropScheduledRestart(_) => "drop_restart".into(),
    }
}
