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
    Some(match request {
        Request::LoadCluster => "load".into(),
        Request::AcquireLeader => "acquire".into(),
        Request::UpdateLeader { status, failsafe } => {
            let status = if status.is_some() { "+status" } else { "" };
            let failsafe = failsafe.as_ref().and_then(|f| f.as_map()).map_or_else(String::new, |map| {
                let names: Vec<String> = map.keys().map(|k| k.py_str()).collect();
                format!("+failsafe({})", names.join(","))
            });
            format!("update{status}{failsafe}")
        }
        Request::TakeLeader => "take".into(),
        Request::DeleteLeader { last_lsn: None } => "delete".into(),
        Request::DeleteLeader { last_lsn: Some(lsn) } => format!("delete({lsn})"),
        Request::WriteStatus(lsn) => format!("optime({lsn})"),
        Request::TouchMember(_) => "touch".into(),
        Request::Initialize { create_new, sysid } => {
            format!("initialize({}{sysid})", if *create_new { "new:" } else { "" })
        }
        Request::CancelInitialization => "uninitialize".into(),
        Request::SetConfig(_) => "config".into(),
        Request::WriteFailover { candidate, .. } => {
            format!("failover({})", candidate.as_deref().unwrap_or_default())
        }
        Request::WriteSync { leader, standbys, quorum, .. } => {
            format!("sync({leader};{};{quorum})", standbys.join(","))
        }
        Request::DeleteSync { .. } => "unsync".into(),
        Request::WriteHistory(text) => format!("history({text})"),
        Request::Peers { members, .. } => format!("peers({})", list(members)),
        Request::FailsafePing { members, .. } => format!("failsafe({})", list(members)),
        Request::SetRole(role) => format!("role({})", role.as_str()),
        Request::SetState(state) => format!("state({})", state.as_str()),
        Request::Call(callback) => format!("call({})", callback.as_str()),
        Request::Stop { mode: StopMode::Fast, .. } => "stop(fast)".into(),
        Request::Stop { mode: StopMode::Immediate, .. } => "stop(immediate)".into(),
        Request::StopToCheckpoint { .. } => "stop(checkpoint)".into(),
        Request::AwaitExit(_) => "await_exit".into(),
        Request::ReleaseSync => "release_sync".into(),
        Request::StartJob(started) => job(started),
        Request::CancelJob { kill: false } => "cancel".into(),
        Request::CancelJob { kill: true } => "kill".into(),
        Request::FollowReload { source: from, role } => format!("follow({},{})", source(from), role.as_str()),
        Request::ResumeReplay => "resume".into(),
        Request::SetSyncNames(names) => sync_names(names),
        Request::SyncSlots { dcs_failed: false, .. } => "slots".into(),
        Request::SyncSlots { dcs_failed: true, .. } => "slots(failsafe)".into(),
        Request::AfterPause => "after_pause".into(),
        Request::WatchdogActivate => "watch".into(),
        Request::WatchdogDisable => "unwatch".into(),
        Request::ProveGone => "prove".into(),
        Request::WatchdogKeepalive => "feed".into(),
        Request::ExtendLease { .. } => "extend".into(),
        Request::Courtesy(_) => "courtesy".into(),
        Request::DropScheduledRestart => "drop_restart".into(),
        Request::MoveDataDirectory => "move".into(),
        Request::Probe
        | Request::DropLease
        | Request::ControlData
        | Request::CheckRecovery(_)
        | Request::CurrentSync { .. }
        | Request::Walsenders
        | Request::ReplicaTimeline { .. }
        | Request::History(_)
        | Request::CanRewind
        | Request::CheckDiverged(_)
        | Request::EnsureCheckpoint => return None,
    })
}
