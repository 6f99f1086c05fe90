//! Has this node diverged from the leader? (surface-ha-pg 19-05 to 19-12)

use std::future::Future;
use std::path::Path;

use patroni_core::rewind::{self as core, Compared, HistoryVerdict, LocalPosition};
use patroni_core::PgVersion;

use crate::process::binaries::Binaries;
use crate::process::control::ControlData;
use crate::process::{archive, blocking, waldump};

/// What has to be asked of the leader over SQL. Each call has its own deadline and
/// logs its own errors.
pub trait RewindLeader: Sync {
    /// Is it a primary (`pg_is_in_recovery()` is false)? `false` also when it cannot
    /// be asked.
    fn is_primary(&self) -> impl Future<Output = bool> + Send;
    /// Makes sure that its pg_control names its timeline, for leaders that do not
    /// publish `checkpoint_after_promote`: by CHECKPOINT as superuser, or by comparing.
    /// The error is the reason in `Can not use %s for rewind: %s`.
    fn ensure_checkpoint(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// `IDENTIFY_SYSTEM`: its timeline.
    fn timeline(&self) -> impl Future<Output = Option<u32>> + Send;
    /// `TIMELINE_HISTORY n`: the file's text.
    fn timeline_history(&self, timeline: u32) -> impl Future<Output = Option<String>> + Send;
}

/// Our position while PostgreSQL does not run (19-05).
pub fn local_position(control: &ControlData) -> Option<LocalPosition> {
    core::position_from_control(|name| control.get(name))
}

/// Is a rewind needed to follow this leader? `None` when that cannot be found out
/// now. The caller has already checked that the leader's role is `primary`.
pub async fn needed(
    bin: &Binaries,
    data_dir: &Path,
    major_version: PgVersion,
    local: Option<LocalPosition>,
    leader: &impl RewindLeader,
) -> Option<bool> {
    tracing::info!(target: "patroni.postgresql.rewind", "{}", core::local_log(local));
    let local = local?;
    if !leader.is_primary().await {
        return None;
    }
    let primary = leader.timeline().await?;
    tracing::info!(target: "patroni.postgresql.rewind", "primary_timeline={primary}");
    if let Compared::Decided(needed) = core::compare_timelines(local.timeline, primary) {
        return Some(needed || is_namesake(data_dir, major_version, local.timeline, primary, leader).await);
    }
    let text = leader.timeline_history(primary).await?;
    tracing::debug!(target: "patroni.postgresql.rewind", "primary: history={text}");
    let (history, bad) = core::parse_history(&text);
    for line in bad {
        tracing::error!(
            target: "patroni.postgresql.misc", "Exception when parsing timeline history line \"{line}\""
        );
    }
    let (verdict, decided_at) = core::judge_history(&history, local);
    let needed = match verdict {
        HistoryVerdict::Decided(needed) => needed,
        HistoryVerdict::CompareCheckpointEnd { switchpoint } => {
            waldump::checkpoint_end(bin, data_dir, local.timeline, local.lsn).await != Some(switchpoint)
        }
    };
    tracing::info!(target: "patroni.postgresql.rewind", "{}", core::history_log(&history, decided_at));
    Some(needed)
}

/// Has the leader another timeline of our number, by both history files? One that cannot be read says nothing.
pub(super) async fn is_namesake(
    data_dir: &Path,
    major_version: PgVersion,
    local: u32,
    primary: u32,
    leader: &impl RewindLeader,
) -> bool {
    if local != primary || local < 2 {
        return false;
    }
    let path = archive::wal_dir(data_dir, major_version).join(format!("{local:08X}.history"));
    let read = move || std::fs::read_to_string(path);
    let Ok(ours) = blocking::run(blocking::FILE_DEADLINE, read).await else { return false };
    let Some(theirs) = leader.timeline_history(primary).await else { return false };
    let ((ours, _), (theirs, _)) = (core::parse_history(&ours), core::parse_history(&theirs));
    let other = core::is_namesake(&ours, &theirs);
    if other {
        let forked = |lines: &[core::HistoryLine]| lines.last().map(|l| l.switchpoint.text());
        let (ours, theirs) = (forked(&ours).unwrap_or_default(), forked(&theirs).unwrap_or_default());
        tracing::error!(
            target: "patroni.postgresql.rewind",
            "The primary has another timeline {local} than this node: they branched off at {theirs} and {ours}. \
             pg_rewind does not tell them apart; this node needs to be reinitialized"
        );
    }
    other
}
