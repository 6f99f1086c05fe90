//! The server that a standby cluster copies: not ours, somewhere else, with a life of its own. It writes, goes down, fails
//! over (and loses its last WAL by it), and its operators make the standby cluster a cluster of its own and back.

use std::rc::Rc;

use patroni_core::ha::{PgState, Role};
use pyfmt::Value;

use super::config::Config;
use super::faults::Fault;
use super::pg::{Data, Server};
use super::rng::Rng;
use super::world::World;

/// In place of a node: the remote server.
pub const REMOTE: usize = 98;
/// Its name in the engine.
pub const NAME: &str = "remote_member";
/// How much WAL a failover over there loses at most, bytes.
const LOST_THERE: u64 = 3000;

/// The remote site.
#[derive(Debug)]
pub struct Remote {
    /// Its primary.
    pub pg: Server,
    /// Nobody reaches it.
    pub down: bool,
    /// The operators want the cluster here to be a standby of it, since then.
    pub copied_since: Option<u64>,
}

impl Remote {
    /// A primary that has run for a while; where there is no standby cluster, it is never asked.
    pub fn new(config: &Config, branch: u64) -> Remote {
        let mut pg = Server::new();
        let sysid = "7300000000000000001";
        let (timeline, lsn) = (1, 16_777_216);
        pg.data =
            Some(Data { sysid: sysid.into(), timeline, branch, lsn, history: Rc::default(), dirty: false });
        pg.started(false, Role::Primary);
        pg.state = PgState::Running;
        Remote { pg, down: false, copied_since: config.standby.then_some(0) }
    }
}

/// `standby_cluster` of the dynamic configuration.
pub fn standby_cluster() -> Value {
    let host: Value = "10.0.0.1".into();
    let port: Value = 5432.into();
    [("host", host), ("port", port)].into_iter().collect()
}

/// What happens over there, and what the operators decide, apart from the other faults so that those stay as they are.
pub fn orders(seed: u64, config: &Config, until: u64) -> Vec<(u64, Fault)> {
    let mut rng = Rng::new(seed ^ 0x4e40_7e00);
    let mut orders = Vec::new();
    let mut at = 20_000;
    while config.standby && at < until {
        let long = rng.between(500, 3 * config.ttl);
        let node = rng.between(0, config.members as u64 - 1) as usize;
        match rng.between(0, 6) {
            0 => orders.extend([(at, Fault::RemoteDown(true)), (at + long, Fault::RemoteDown(false))]),
            1 | 2 => orders.push((at, Fault::RemoteFailover)),
            3 => {
                orders.extend([
                    (at, Fault::OneWay(node, REMOTE, true)),
                    (at + long, Fault::OneWay(node, REMOTE, false)),
                ]);
            }
            4 => orders.push((at, Fault::Independent(rng.percent(50)))),
            _ => {
                orders.push((at, Fault::Independent(true)));
                if rng.percent(60) {
                    orders.push((at + 2 * long, Fault::Independent(false)));
                }
            }
        }
        at += rng.between(5_000, 5 * config.ttl);
    }
    orders
}

impl World {
    /// A server by its number, the remote one as well.
    pub(super) fn server(&self, index: usize) -> &Server {
        if index == REMOTE {
            &self.remote.pg
        } else {
            &self.members[index].pg
        }
    }

    /// The remote primary writes.
    pub(super) fn remote_writes(&mut self) {
        if self.remote.copied_since.is_none() || self.remote.down {
            return;
        }
        let bytes = self.rng.between(0, 500);
        if let Some(data) = &mut self.remote.pg.data {
            data.lsn += bytes;
        }
    }

    /// Can this node talk to the remote server?
    pub(super) fn reaches_remote(&self, node: usize) -> bool {
        !self.remote.down && !self.members[node].no_way_to.contains(&REMOTE)
    }

    /// Can WAL flow from the remote server to this node?
    pub(super) fn streams_from_remote(&self, node: usize) -> bool {
        let to = &self.members[node];
        let (Some(mine), Some(theirs)) = (&to.pg.data, &self.remote.pg.data) else { return false };
        to.pg.source == Some(REMOTE)
            && to.pg.recovery
            && to.pg.running
            && !to.frozen()
            && to.pg.state != PgState::Starting
            && self.reaches_remote(node)
            && mine.is_prefix_of(theirs)
    }

    /// Another server takes over there; the last WAL is lost.
    pub(super) fn remote_failover(&mut self) {
        let lost = self.rng.between(0, LOST_THERE);
        let branch = self.ledger.branch();
        if let Some(data) = &mut self.remote.pg.data {
            let began = data.history.last().map_or(16_777_216, |(_, at, _)| *at);
            data.lsn = data.lsn.saturating_sub(lost).max(began);
        }
        self.remote_begins(branch);
    }

    fn remote_begins(&mut self, branch: u64) {
        self.remote.pg.recovery = true;
        self.remote.pg.promote(branch);
        let shown = format!("remote server: {:?}", self.remote.pg.data);
        self.tell_all(shown);
    }

    /// Operators end the standby cluster, or make one again: then the other site has taken over what is here.
    pub(super) fn order_independence(&mut self, on: bool) {
        let known = self.store.get("config").is_some() && self.store.get("initialize").is_some();
        if !known || on == self.remote.copied_since.is_none() {
            return;
        }
        if !on {
            let leader = self.store.get("leader").and_then(|name| self.index_of(name));
            // Nobody copies the other site from a server that is being promoted: both would begin one timeline number.
            let copied = leader.map(|leader| &self.members[leader].pg).filter(|pg| pg.writable());
            let Some(data) = copied.and_then(|pg| pg.data.clone()) else { return };
            self.remote.pg.data = Some(data);
            let branch = self.ledger.branch();
            self.remote_begins(branch);
        }
        self.remote.copied_since = (!on).then_some(self.now);
        // What the other site has not is given up by the operator who decides that.
        self.ledger.last = None;
        self.ledger.guaranteed.clear();
        let source = if on { Value::Null } else { standby_cluster() };
        self.change_config(|config| config.set("standby_cluster", source));
    }

    /// The standby leader has the lock and receives from the remote server.
    pub(super) fn serves_standby(&self) -> bool {
        let leader = self.store.get("leader").and_then(|name| self.index_of(name));
        self.remote.copied_since.is_some() && leader.is_some_and(|leader| self.streams(leader, REMOTE))
    }

    /// Timelines that the source of this node has, whose history its WAL receiver has fetched.
    pub(super) fn fetched_history(&self, node: usize) -> Option<&Data> {
        let pg = &self.members[node].pg;
        let from_there = pg.running && pg.recovery && pg.source == Some(REMOTE) && self.reaches_remote(node);
        from_there.then_some(self.remote.pg.data.as_ref()?)
    }
}
