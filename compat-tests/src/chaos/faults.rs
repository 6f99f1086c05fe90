//! What goes wrong: kinds of faults, dealt by a seed and done to the fleet.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::fleet::{Fleet, ETCDS};
use super::net::Link;
use crate::lab::Kind;
use crate::sim::Rng;

/// A kind of fault: its name, and whether operators do it.
pub const KINDS: &[&str] = &[
    "node-kill",
    "node-freeze",
    "node-cut",
    "daemon-kill",
    "daemon-freeze",
    "daemon-stop",
    "postmaster-kill",
    "postmaster-freeze",
    "cut-from-etcd",
    "cut-from-members",
    "cut-outgoing",
    "cut-incoming",
    "split",
    "loss",
    "delay",
    "etcd-leader-kill",
    "etcd-leader-freeze",
    "etcd-leader-cut",
    "etcd-quorum-lost",
    "disk-full",
    "switchover",
    "failover",
    "restart",
    "reinitialize",
];

/// A cut in both directions.
const CUT: Link = Link { cut: true, loss: 0, delay: 0 };

/// A fault that was done.
#[derive(Debug, Clone)]
pub struct Strike {
    /// Its kind.
    pub kind: &'static str,
    /// What was done, for the log.
    pub what: String,
    /// How long until all is healed, at least.
    pub hold: Duration,
    /// The daemon of this member is dead or stopped until then.
    pub away: Option<usize>,
    /// All of this member stands still until then.
    pub frozen: Option<usize>,
}

/// Whom faults hit.
#[derive(Debug, Clone, Copy)]
pub struct Aim {
    /// The member that takes writes, as far as is known.
    pub leader: usize,
    /// Operators may fail over to any member (asynchronous mode only: else it means to lose commits).
    pub failover: bool,
}

/// An endless pack of kinds: each comes once before any comes again.
#[derive(Debug)]
pub struct Deck {
    kinds: Vec<&'static str>,
    left: Vec<&'static str>,
}

impl Deck {
    /// Of these kinds.
    pub fn new(kinds: Vec<&'static str>) -> Deck {
        Deck { kinds, left: Vec::new() }
    }

    /// The next kind.
    pub fn deal(&mut self, rng: &mut Rng) -> Option<&'static str> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
        }
        let count = self.left.len() as u64;
        (count > 0).then(|| self.left.swap_remove((rng.number() % count) as usize))
    }
}

impl Fleet {
    /// Does a fault of this kind. `None` if it finds nothing to hit.
    pub fn strike(&mut self, kind: &'static str, rng: &mut Rng, aim: Aim) -> Option<Strike> {
        let members = self.nodes.len();
        let ttl = self.settings.timing[0] * 1000;
        let node = if rng.percent(65) { aim.leader } else { (rng.number() % members as u64) as usize };
        let mut standby = (rng.number() % members as u64) as usize;
        if standby == aim.leader {
            standby = (standby + 1) % members;
        }
        let hold = Duration::from_millis(rng.between(1000, 2 * ttl));
        let short = Duration::from_millis(rng.between(500, 3000));
        let role = if node == aim.leader { "primary" } else { "standby" };
        let name = format!("node{node}, {role}");
        let strike = |what: String, hold: Duration| Strike { kind, what, hold, away: None, frozen: None };
        let is_etcd = move |port: usize| port >= members;
        let either = move |port: usize| move |from: usize, to: usize| from == port || to == port;
        Some(match kind {
            "node-kill" => {
                self.net.set(CUT, either(node));
                self.signal_node(node, Signal::SIGKILL);
                Strike { away: Some(node), ..strike(name, hold) }
            }
            "node-freeze" => {
                self.net.set(CUT, either(node));
                self.signal_node(node, Signal::SIGSTOP);
                Strike { away: Some(node), frozen: Some(node), ..strike(name, hold) }
            }
            "daemon-kill" | "daemon-freeze" => {
                let signal = if kind == "daemon-kill" { Signal::SIGKILL } else { Signal::SIGSTOP };
                self.signal_daemon(node, signal).then_some(())?;
                Strike { away: Some(node), ..strike(name, hold) }
            }
            "daemon-stop" => {
                self.signal_daemon(node, Signal::SIGTERM).then_some(())?;
                Strike { away: Some(node), ..strike(name, hold) }
            }
            "postmaster-kill" => {
                self.signal_postmaster(node, Signal::SIGKILL).then_some(())?;
                strike(name, short)
            }
            "postmaster-freeze" => {
                self.signal_postmaster(node, Signal::SIGSTOP).then_some(())?;
                strike(name, hold)
            }
            "node-cut" => {
                self.net.set(CUT, either(node));
                strike(name, hold)
            }
            "cut-from-etcd" => {
                self.net
                    .set(CUT, move |from, to| (from == node && is_etcd(to)) || (to == node && is_etcd(from)));
                strike(name, hold)
            }
            "cut-from-members" => {
                self.net.set(CUT, move |from, to| either(node)(from, to) && !is_etcd(from) && !is_etcd(to));
                strike(name, hold)
            }
            "cut-outgoing" => {
                self.net.set(CUT, move |from, _| from == node);
                strike(name, hold)
            }
            "cut-incoming" => {
                self.net.set(CUT, move |_, to| to == node);
                strike(name, hold)
            }
            "split" => {
                // The member keeps one etcd, the others have two.
                let etcd = self.etcd_port((rng.number() % ETCDS as u64) as usize);
                let side = move |port: usize| port == node || port == etcd;
                self.net.set(CUT, move |from, to| side(from) != side(to));
                strike(format!("{name}, with etcd{} alone", etcd - members), hold)
            }
            "loss" => {
                let loss = rng.between(5, 40) as u8;
                self.net.set(Link { loss, ..Link::default() }, either(node));
                strike(format!("{name}, {loss} %"), hold)
            }
            "delay" => {
                let delay = rng.between(20, 600) as u32;
                self.net.set(Link { delay, ..Link::default() }, either(node));
                strike(format!("{name}, {delay} ms each way"), hold)
            }
            "etcd-leader-kill" | "etcd-leader-freeze" | "etcd-leader-cut" => {
                let etcd = self.etcd_leader()?;
                match kind {
                    "etcd-leader-kill" => self.signal_etcd(etcd, Signal::SIGKILL),
                    "etcd-leader-freeze" => self.signal_etcd(etcd, Signal::SIGSTOP),
                    _ => {
                        // From the other etcd only: members still reach it, and get stale silence.
                        let port = self.etcd_port(etcd);
                        self.net
                            .set(CUT, move |from, to| either(port)(from, to) && is_etcd(from) && is_etcd(to));
                    }
                }
                strike(format!("etcd{etcd}"), hold)
            }
            "etcd-quorum-lost" => {
                let first = (rng.number() % ETCDS as u64) as usize;
                for etcd in [first, (first + 1) % ETCDS] {
                    self.signal_etcd(etcd, Signal::SIGKILL);
                }
                strike("two etcd killed".into(), hold)
            }
            "disk-full" => {
                self.fill_disk(node);
                strike(name, hold)
            }
            "switchover" => {
                let kind = if rng.percent(50) { Kind::Ours } else { Kind::Reference };
                let candidate = format!("node{standby}");
                let mut arguments = vec!["switchover", "chaos", "--force"];
                if rng.percent(50) {
                    arguments.extend(["--candidate", &candidate]);
                }
                strike(said(self.ctl(kind, aim.leader, &arguments)), short)
            }
            "failover" => {
                aim.failover.then_some(())?;
                let arguments = ["failover", "chaos", "--force", "--candidate", &format!("node{standby}")];
                strike(said(self.ctl(Kind::Ours, standby, &arguments)), short)
            }
            "restart" => {
                let answer = self.rest(node, "POST", "/restart", Some("{}"));
                let said = answer.map_or_else(|e| e.to_string(), |a| format!("{} {}", a.status, a.body));
                strike(format!("{name}: {said}"), short)
            }
            "reinitialize" => {
                let answer = self.rest(standby, "POST", "/reinitialize", Some(r#"{"force": true}"#));
                let said = answer.map_or_else(|e| e.to_string(), |a| format!("{} {}", a.status, a.body));
                strike(format!("node{standby}: {said}"), short)
            }
            _ => return None,
        })
    }
}

/// The last line that a patronictl said (the table of the cluster aside).
fn said(output: crate::lab::Result<crate::lab::process::Output>) -> String {
    match output {
        Ok(output) => {
            let text = output.stdout + &output.stderr;
            let mut lines = text.lines().filter(|line| !line.starts_with(['+', '|']) && !line.is_empty());
            lines.next_back().unwrap_or_default().to_owned()
        }
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_before_one_comes_again() {
        let mut rng = Rng::new(1);
        let mut deck = Deck::new(KINDS.to_vec());
        for _ in 0..3 {
            let mut round: Vec<_> = (0..KINDS.len()).filter_map(|_| deck.deal(&mut rng)).collect();
            round.sort_unstable();
            let mut all = KINDS.to_vec();
            all.sort_unstable();
            assert_eq!(round, all);
        }
    }
}
