//! A primary without a DCS that all its peers still follow (surface-ha-pg 7, surface-dcs 6.1).

use std::sync::Arc;

use indexmap::IndexMap;
use pyfmt::Value;

use super::ask;
use super::cycle::Cycle;
use super::script::{Level, Step};
use super::types::*;
use crate::model::{Leader, Lsn, Member};

impl Cycle<'_> {
    /// 4J: the DCS cannot be reached.
    pub(super) fn handle_dcs_error(&mut self) -> Step<String> {
        if let Some(row) = self.pg.row().filter(|_| self.is_failsafe_mode()) {
            self.m.own.at(row.wal_position);
        }
        // A promotion that came to nothing may have left it armed.
        if self.watchdog_running && self.job.is_none() {
            self.watchdog_off_standby()?;
        }
        // While we bootstrap, the initialize key keeps everybody else away; a
        // demotion would leave a half-made cluster that nobody may finish.
        if self.is_paused() || !self.pg.running || self.m.bootstrap.running {
            return Ok("DCS is not accessible".into());
        }
        if !self.pg.is_primary() {
            self.sync_slots(true)?;
            return Ok("DCS is not accessible".into());
        }
        let consent = if self.is_failsafe_mode() { self.all_peers_consent()? } else { None };
        if let Some(sent) = consent {
            self.io.ask(ask::ExtendLease { sent })?;
            self.lease_until = Some(sent + self.v.me.timing.ttl);
            self.m.failsafe.holds(self.io.now());
            if self.watchdog_running {
                self.io.ask(ask::WatchdogKeepalive)?;
            }
            self.sync_slots(true)?;
            return Ok("continue to run as a leader because failsafe mode is enabled and all members are \
                       accessible"
                .into());
        }
        self.m.failsafe.ended();
        self.log("demoting self because DCS is not accessible and I was a leader");
        self.demote(DemoteMode::Offline)?;
        Ok("demoted self because DCS is not accessible and I was a leader".into())
    }

    /// Every member listed in the last `/failsafe` has to say `Accepted`. When the first of them was asked, if all do.
    fn all_peers_consent(&mut self) -> Step<Option<Mono>> {
        let Some(Value::Map(listed)) = self.m.failsafe.members.clone() else { return Ok(None) };
        let me = self.name();
        if !listed.contains_key(&Value::from(me)) {
            return Ok(None);
        }
        let mut data = Value::map();
        data.set("name", me);
        data.set("conn_url", self.v.me.conn_url.as_str());
        data.set("api_url", self.v.me.api_url.as_str());
        match self.pg.row() {
            Some(row) => {
                let slots: Value = row.slots.iter().map(|(k, v)| (k.clone(), *v)).collect();
                data.set("slots", slots);
            }
            None => self.io.log(Level::Error, "Exception when called state_handler.slots()"),
        }
        let members: Vec<Member> = listed
            .iter()
            .filter(|(name, _)| **name != Value::from(me))
            .map(|(name, url)| member_at(&name.py_str(), url))
            .collect();
        if members.is_empty() {
            return Ok(Some(self.io.now()));
        }
        let answers = self.io.ask(ask::PingFailsafe { data, members })?;
        let all = answers.iter().all(|a| a.accepted);
        if all {
            let told =
                answers.into_iter().filter_map(|a| a.lsn.filter(|l| l.is_known()).map(|l| (a.name, l)));
            self.m.failsafe.told(told.collect());
        }
        Ok(all.then(|| self.io.asked()))
    }

    /// Is the failsafe in use, here or by the primary that pings us?
    pub(super) fn failsafe_is_active(&self) -> bool {
        let fresh = |at: Mono| at + self.v.me.timing.ttl > self.io.now();
        self.m.failsafe.since.is_some_and(fresh)
            || self.v.failsafe_ping.as_ref().is_some_and(|ping| fresh(ping.at))
    }

    /// A primary that pings us is the leader, whatever an expired key says: so
    /// replicas do not race while only the primary has lost the DCS (7-06).
    pub(super) fn with_failsafe_leader(&self, cluster: ClusterRef) -> ClusterRef {
        // The node that pinged us before we took the lock leads no more (7-07).
        if !cluster.is_unlocked() || !self.is_failsafe_mode() || self.is_leader() {
            return cluster;
        }
        self.as_pinged(cluster)
    }

    /// What slots are looked at with while the DCS is away: a standby takes the positions of the primary's
    /// last request, a primary those of the answers.
    pub(super) fn failsafe_cluster(&self) -> ClusterRef {
        if !self.pg.is_primary() {
            return self.as_pinged(self.cluster.clone());
        }
        let mut cluster = (*self.cluster).clone();
        place_cascaded(&mut cluster.members, &self.m.failsafe.slots);
        Arc::new(cluster)
    }

    /// With the leader and the slots of the last request that is not too old.
    fn as_pinged(&self, cluster: ClusterRef) -> ClusterRef {
        let Some(ping) =
            self.v.failsafe_ping.as_ref().filter(|p| p.at + self.v.me.timing.ttl > self.io.now())
        else {
            return cluster;
        };
        let Some(name) = ping.data.get("name").and_then(Value::as_str) else { return cluster };
        let mut data = Value::map();
        for key in ["api_url", "conn_url", "slots"] {
            data.set(key, ping.data.get(key).cloned().unwrap_or_default());
        }
        let slots: IndexMap<String, Lsn> = ping
            .data
            .get("slots")
            .and_then(Value::as_map)
            .map(|m| {
                m.iter().filter_map(|(k, v)| Some((k.py_str(), Lsn::from_number(v.as_i64()?)?))).collect()
            })
            .unwrap_or_default();
        let mut injected = (*cluster).clone();
        place_cascaded(&mut injected.members, &slots);
        injected.status.slots = Some(slots);
        let member = Member { version: String::new(), name: name.to_owned(), session: None, data };
        injected.leader = Some(Leader { version: String::new(), session: None, member });
        Arc::new(injected)
    }

    /// What the leader publishes as `/failsafe`: every member with a URL, itself included.
    pub(super) fn failsafe_config(&self) -> Option<Value> {
        if !self.is_failsafe_mode() {
            return None;
        }
        let mut map: Value = self
            .cluster
            .members
            .iter()
            .filter_map(|m| m.api_url().map(|url| (m.name.as_str(), url.to_owned())))
            .collect();
        if map.get(self.name()).is_none() {
            map.set(self.name(), self.v.me.api_url.as_str());
        }
        Some(map)
    }
}

/// Slots for members that follow another replica move by what those members tell.
fn place_cascaded(members: &mut [Member], positions: &IndexMap<String, Lsn>) {
    for member in members {
        if let (Some(_), Some(lsn)) = (member.replicatefrom(), positions.get(&member.name)) {
            member.data.set("xlog_location", *lsn);
        }
    }
}

pub(super) fn member_at(name: &str, url: &Value) -> Member {
    let mut data = Value::map();
    data.set("api_url", url.clone());
    Member { version: String::new(), name: name.to_owned(), session: None, data }
}
