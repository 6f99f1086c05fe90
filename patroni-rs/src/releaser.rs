//! The releaser: what a guardian becomes when its daemon and its server have both ended for certain, and no supervisor has
//! started the daemon again for a while. It ends the session that the leader key is attached to, which the store would
//! do when its ttl is over, and ends. What a daemon that has come back has attached to its own session meanwhile stays.
//!
//! It knows a DCS, by the ticket that the daemon has left ([`ticket`]), and no PGDATA, which is a name to it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use patroni_core::global_config::GlobalConfig;
use patroni_core::model::Cluster;
use patroni_core::stores::STORES;
use patroni_core::timing::Timing;
use pyfmt::{json, Value};

use crate::guardian;

/// The name it runs under (`argv[0]`); then come PGDATA and the log file, if there is one.
pub const NAME: &str = "patroni: releaser";
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// Where the ticket says whose session it is.
const SESSION: &str = "session";
/// What a client of the DCS needs besides the store's own section.
const SHARED: [&str; 7] = ["scope", "name", "namespace", "ttl", "loop_wait", "retry_timeout", "citus"];

/// The ticket: the part of the configuration that says where the DCS is, as of a client that only asks, and the session.
pub fn ticket(config: &Value, session: &str) -> String {
    let keys = SHARED.iter().chain(STORES.iter());
    let parts = keys.filter_map(|key| Some((*key, config.get(key)?.clone())));
    let own = [("patronictl", Value::from(true)), (SESSION, Value::from(session))];
    json::dumps(&Value::from_iter(parts.chain(own)))
}

/// If the program was started as a releaser: is one to its end.
pub fn run_if_named() {
    let mut args = std::env::args_os();
    if args.next().as_deref() != Some(OsStr::from_bytes(NAME.as_bytes())) {
        return;
    }
    let log: Option<OsString> = args.nth(1).filter(|file| !file.is_empty());
    let told = std::io::stdout().as_fd().try_clone_to_owned().ok().map(File::from);
    let (level, text) = match told.and_then(|file| guardian::ticket::read(&file)) {
        Some(ticket) => release(&ticket),
        // A store without it: the lease ends by itself.
        None => std::process::exit(0),
    };
    let why = "The daemon and PostgreSQL have ended, and nobody has started them again";
    guardian::say(log.as_deref(), level, &format!("{why}: releaser: {text}"));
    std::process::exit(0)
}

fn release(ticket: &str) -> (&'static str, String) {
    let failed = |text: String| ("WARNING", format!("the leader lock could not be given up: {text}"));
    let Ok(ticket) = json::loads(ticket) else { return failed("no ticket".into()) };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed(e.to_string()),
    };
    let limit = Timing::of(|key| ticket.get(key)).ttl;
    match runtime.block_on(async { tokio::time::timeout(limit, give_up(&ticket)).await }) {
        Ok(Ok(())) => ("INFO", "the leader lock is given up".into()),
        Ok(Err(why)) => ("INFO", format!("the leader lock is left as it is: {why}")),
        Err(_) => failed("the DCS did not answer".into()),
    }
}

/// Goes on until the DCS has answered; why there was nothing to do.
async fn give_up(ticket: &Value) -> Result<(), String> {
    let text = |key: &str| ticket.get(key).map(Value::py_str).unwrap_or_default();
    let (name, session) = (text("name"), text(SESSION));
    let dcs = patroni_dcs::open(ticket).await.map_err(|e| e.to_string())?;
    loop {
        if let Ok(cluster) = dcs.get_cluster().await {
            left_alone(&cluster, &name, &session).map_or(Ok(()), Err)?;
            if dcs.end_session(&session).await == Ok(true) {
                return Ok(());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why the lock is not given up, if so. The session's end would not touch what is attached to another one; this is for
/// a cluster that was paused since, and for the log.
fn left_alone(cluster: &Cluster, name: &str, session: &str) -> Option<String> {
    let paused = cluster.config.as_ref().is_some_and(|c| GlobalConfig::new(c.data.clone()).is_paused());
    let leader = cluster.leader.as_ref().filter(|leader| leader.session.as_deref() == Some(session));
    match (paused, leader.map(|leader| leader.member.name == name)) {
        (true, _) => Some("the cluster is paused".into()),
        (false, Some(true)) => None,
        (false, _) => Some("it is not held under that session any more".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use patroni_core::model::{Node, Nodes};

    use super::*;

    fn cluster(leader: Option<(&str, &str)>, config: &str) -> Cluster {
        let node = |value: &str, session: Option<&str>| Node {
            value: value.into(),
            session: session.map(str::to_owned),
            ..Node::default()
        };
        let mut nodes: Nodes = [("config".to_owned(), node(config, None))].into_iter().collect();
        if let Some((name, session)) = leader {
            nodes.insert("leader".to_owned(), node(name, Some(session)));
        }
        Cluster::from_nodes(&nodes)
    }

    #[test]
    fn whose_lock_is_given_up() {
        for (leader, config, ends) in [
            (Some(("a", "7")), "{}", true),
            // A daemon that has come back holds it under its own.
            (Some(("a", "8")), "{}", false),
            (Some(("b", "7")), "{}", false),
            (None, "{}", false),
            (Some(("a", "7")), r#"{"pause": true}"#, false),
        ] {
            let why = left_alone(&cluster(leader, config), "a", "7");
            assert_eq!(why.is_none(), ends, "{leader:?} {config} {why:?}");
        }
    }

    #[test]
    fn the_ticket_is_what_a_client_needs() {
        let config = json::loads(
            r#"{"scope": "batman", "name": "a", "ttl": 30, "etcd3": {"host": "h", "password": "p"},
                "postgresql": {"authentication": {"superuser": {"password": "other"}}}}"#,
        )
        .unwrap();
        let text = ticket(&config, "7");
        assert!(text.contains(r#""password": "p""#) && !text.contains("other"), "{text}");
        let read = json::loads(&text).unwrap();
        let settings = patroni_dcs::Settings::from_config(&read, read.get("etcd3").unwrap()).unwrap();
        assert!(settings.ctl && settings.name == "a");
    }
}
