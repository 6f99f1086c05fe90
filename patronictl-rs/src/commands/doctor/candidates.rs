//! Who could lead in the leader's place, by what the members say; the engine decides anew when it comes to it.

use pyfmt::Value;

use super::gather::{Seen, Told};
use crate::output::Rows;

/// A member that does not lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Why it could not lead; None: it could.
    pub why_not: Option<String>,
    /// How many bytes of WAL it lacks, where both ends are known.
    pub behind: Option<u64>,
}

/// All members that do not lead.
pub fn of(seen: &Seen) -> Vec<Candidate> {
    seen.others().map(|told| candidate(seen, told)).collect()
}

fn candidate(seen: &Seen, told: &Told) -> Candidate {
    let behind = match (seen.end_of_wal(), told.position()) {
        (Some(end), Some(there)) => Some(end.saturating_sub(there)),
        _ => None,
    };
    Candidate { name: told.name.clone(), why_not: why_not(seen, told, behind), behind }
}

/// The first reason, in the order in which an operator would mend them.
fn why_not(seen: &Seen, told: &Told, behind: Option<u64>) -> Option<String> {
    if let Err(error) = &told.status {
        return Some(format!("its REST API does not answer: {error}"));
    }
    if told.text("state") != "running" {
        return Some(format!("PostgreSQL is {}", told.text("state")));
    }
    if seen.member(told).is_some_and(|member| member.nofailover()) {
        return Some("tagged nofailover, or of failover_priority 0".into());
    }
    if told.flag("watchdog_failed") {
        return Some("requires a watchdog that cannot be used".into());
    }
    if seen.config.is_synchronous_mode() && !seen.cluster.sync.matches(&told.name, false) {
        return Some("no synchronous standby".into());
    }
    let timelines = seen.leader().map(|leader| (leader.number("timeline"), told.number("timeline")));
    if let Some((Some(led), Some(own))) = timelines {
        if own != led {
            return Some(format!("on timeline {own}, and the leader on {led}"));
        }
    }
    let most = u64::try_from(seen.config.maximum_lag_on_failover()).unwrap_or(0);
    match behind {
        None => Some("does not say how much WAL it has".into()),
        Some(bytes) if bytes > most => {
            Some(format!("lacks {bytes} bytes of WAL, maximum_lag_on_failover is {most}"))
        }
        Some(_) => None,
    }
}

/// A row a member.
pub fn rows(found: &[Candidate]) -> Rows {
    let cells = |candidate: &Candidate| -> Vec<Value> {
        vec![
            candidate.name.as_str().into(),
            if candidate.why_not.is_none() { "yes" } else { "no" }.into(),
            candidate.behind.and_then(|bytes| i64::try_from(bytes).ok()).map_or(Value::Null, Value::Int),
            candidate.why_not.as_deref().unwrap_or_default().into(),
        ]
    };
    Rows {
        title: String::new(),
        columns: Some(["Member", "Could lead", "Behind, bytes", "Why not"].map(str::to_owned).into()),
        rows: found.iter().map(cells).collect(),
        right: &["Behind, bytes"],
    }
}

/// Can it be done? To this member, or to any.
///
/// # Errors
/// Why not.
pub fn verdict(seen: &Seen, found: &[Candidate], named: Option<&str>) -> Result<String, String> {
    let Some(leader) = seen.cluster.leader_name() else {
        return Err("There is no leader: a switchover cannot be done".into());
    };
    let fits = |candidate: &&Candidate| candidate.why_not.is_none();
    let best = match named {
        Some(name) => {
            let Some(candidate) = found.iter().find(|candidate| candidate.name == name) else {
                return Err(format!("There is no member {name} that could take over from {leader}"));
            };
            Some(candidate).filter(fits)
        }
        None => found.iter().filter(fits).min_by_key(|candidate| candidate.behind),
    };
    let Some(best) = best else {
        return Err(format!("A switchover from {leader} cannot be done"));
    };
    // The leader stops in order, and the key is given away when its last WAL has come.
    let bytes = best.behind.unwrap_or(0);
    Ok(format!(
        "A switchover from {leader} to {} can be done. It waits for the {bytes} bytes of WAL that are missing there; if {leader} \
         were lost now, they would be",
        best.name
    ))
}
