//! Requests of operators that become jobs: restart and reinitialize (surface-ha-pg 11).

use std::time::Duration;

use pyfmt::Value;

use super::follow::remote_source;
use super::memory::Memory;
use super::types::*;
use crate::global_config::GlobalConfig;
use crate::model::Cluster;
use crate::PgVersion;

/// Why the filters of a restart request exclude this node (11-01).
pub fn restart_refusal(data: &Value, pg: &PgView) -> Option<&'static str> {
    let mut why = None;
    let role = data.get("role").and_then(Value::as_str).filter(|role| !role.is_empty());
    if role.is_some_and(|role| role != pg.role.as_str()) {
        why = Some("host role mismatch");
    }
    let wanted = data.get("postgres_version").and_then(Value::as_str).filter(|v| !v.is_empty());
    if wanted.and_then(PgVersion::parse).is_some_and(|wanted| pg.server_version.at_least(wanted)) {
        why = Some("postgres version mismatch");
    }
    // The key counts by its presence (11-02).
    if data.get("restart_pending").is_some() && !pg.pending_restart_reason.truthy() {
        why = Some("pending restart flag is not set");
    }
    why
}

/// The job for a restart request that is not refused.
pub fn restart_job(data: &Value, memory: &Memory, has_lock: bool) -> Job {
    let seconds = data
        .get("timeout")
        .and_then(Value::as_f64)
        .unwrap_or_else(|| memory.config.primary_start_timeout() as f64);
    Job::Restart {
        timeout: Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX),
        release_sync: memory.config.is_synchronous_mode() && !has_lock,
    }
}

/// A reinitialize request: the job, or the text that refuses it (11-08).
///
/// # Errors
/// The refusal, as the REST API answers it.
pub fn reinitialize(
    name: &str,
    cluster: &Cluster,
    config: &GlobalConfig,
    from_leader: bool,
    dice: usize,
) -> Result<Job, &'static str> {
    if cluster.is_unlocked() {
        return Err("Cluster has no leader, can not reinitialize");
    }
    if cluster.leader_name() == Some(name) {
        return Err("I am the leader, can not reinitialize");
    }
    let (source, what) = clone_source(name, cluster, config, from_leader, dice);
    Ok(Job::Reinitialize { source, what, from_leader })
}

/// Whom to copy: a member that offers itself, or the leader (13-02); in a standby cluster that member stands for the
/// remote server, so that the standby cluster's replica methods make the copy.
pub(super) fn clone_source(
    name: &str,
    cluster: &Cluster,
    config: &GlobalConfig,
    from_leader: bool,
    dice: usize,
) -> (Option<Source>, String) {
    let leader = cluster.leader.as_ref().filter(|l| !l.name().is_empty()).map(|l| &l.member);
    let member = if from_leader { leader } else { cluster.get_clone_member(name, dice) };
    let Some(member) = member else { return (None, "(without leader)".into()) };
    let role = if leader.is_some_and(|l| l.name == member.name) { "leader" } else { "replica" };
    let what = format!("from {role} '{}'", member.name);
    let source = match config.is_standby_cluster() {
        true => remote_source(config, Some(member)),
        false => Source { member: member.clone(), remote: false },
    };
    (Some(source), what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Leader, Member};

    #[test]
    fn whose_methods_copy() {
        let js = |text: &str| pyfmt::json::loads(text).unwrap();
        let member = |name: &str, data: &str| Member {
            version: "1".into(),
            name: name.into(),
            session: None,
            data: js(data),
        };
        let leader = member("l", r#"{"conn_url":"postgres://h:5/postgres"}"#);
        let offers = member(
            "c",
            r#"{"conn_url":"postgres://c:6/postgres","state":"running","tags":{"clonefrom":true}}"#,
        );
        let mut cluster =
            Cluster { members: vec![leader.clone(), offers, member("r", "{}")], ..Cluster::default() };
        cluster.leader = Some(Leader { version: "1".into(), session: None, member: leader });
        let standby = r#"{"standby_cluster":{"host":"far","create_replica_methods":["m"]}}"#;
        for (config, from_leader, want) in [
            ("{}", true, ("l", false, "from leader 'l'")),
            ("{}", false, ("c", false, "from replica 'c'")),
            (standby, true, ("l", true, "from leader 'l'")),
            (standby, false, ("c", true, "from replica 'c'")),
        ] {
            let job = reinitialize("r", &cluster, &GlobalConfig::new(js(config)), from_leader, 0);
            let Ok(Job::Reinitialize { source: Some(source), what, .. }) = job else { panic!("{job:?}") };
            assert_eq!(
                (source.member.name.as_str(), source.remote, what.as_str()),
                want,
                "{config} {from_leader}"
            );
            let methods = source.member.data.get("create_replica_methods").is_some();
            assert_eq!(methods, source.remote, "{config} {from_leader}");
        }
    }
}
