//! What goes wrong: kinds of faults, dealt by a seed and done to the fleet.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::fleet::Fleet;
use super::harm::{Breach, Victim};
use super::net::Link;
use super::restore::Plan;
use super::servers::SERVERS;
use crate::lab::wait::ensure;
use crate::lab::{process, wait_until, Kind};
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
    "cut-from-store",
    "cut-from-members",
    "cut-outgoing",
    "cut-incoming",
    "split",
    "loss",
    "delay",
    "store-leader-kill",
    "store-leader-freeze",
    "store-leader-cut",
    "store-quorum-lost",
    "disk-full",
    "descriptors",
    "pid-file",
    "slow-stop",
    "auto-conf",
    "store-silent",
    "store-frozen",
    "store-slow",
    "agent-away",
    "etcd-restored",
    "etcd-restored-new-token",
    "copy-broken",
    "rewind-broken",
    "switchover",
    "failover",
    "restart",
    "reinitialize",
];

/// Kinds that are stories of their own: with another fault beside them nobody could say what must hold.
pub const ALONE: &[&str] =
    &["auto-conf", "etcd-restored", "etcd-restored-new-token", "copy-broken", "rewind-broken"];

/// A cut in both directions.
const CUT: Link = Link { cut: true, loss: 0, delay: 0 };

/// A fault that was done.
#[derive(Debug, Clone)]
pub struct Injection {
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
    /// The store goes back to what it was.
    pub restored: bool,
    /// What was seen to be wrong while it was done.
    pub breaches: Vec<Breach>,
}

impl Injection {
    fn new(kind: &'static str, what: String, hold: Duration) -> Injection {
        Injection { kind, what, hold, away: None, frozen: None, restored: false, breaches: Vec::new() }
    }
}

/// Whom faults hit.
#[derive(Debug, Clone, Copy)]
pub struct Aim {
    /// The member that takes writes, as far as is known.
    pub leader: usize,
    /// The number of its group.
    pub group: usize,
    /// Commits wait for nobody: operators may fail over to any member (else it means to lose commits).
    pub asynchronous: bool,
}

/// An endless pack of kinds: each comes once before any comes again. Its order depends on the seed alone, not on
/// what the faults meet, so that a seed can be chosen for the kinds that come first.
#[derive(Debug)]
pub struct Deck {
    kinds: Vec<&'static str>,
    left: Vec<&'static str>,
    rng: Rng,
}

impl Deck {
    /// Of these kinds.
    pub fn new(kinds: Vec<&'static str>, seed: u64) -> Deck {
        Deck { kinds, left: Vec::new(), rng: Rng::new(seed ^ 0xdec4) }
    }

    /// The next kind.
    pub fn deal(&mut self) -> Option<&'static str> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
        }
        let count = self.left.len() as u64;
        (count > 0).then(|| self.left.swap_remove((self.rng.number() % count) as usize))
    }

    /// The next kind that may fall together with another, if one is left.
    pub fn deal_second(&mut self) -> Option<&'static str> {
        let may = |(index, kind): (usize, &&'static str)| (!ALONE.contains(kind)).then_some(index);
        let left: Vec<usize> = self.left.iter().enumerate().filter_map(may).collect();
        let index = left.get((self.rng.number() % left.len().max(1) as u64) as usize)?;
        Some(self.left.swap_remove(*index))
    }
}

impl Fleet {
    /// Does a fault of this kind. `None` if it finds nothing to hit.
    pub fn inject(&mut self, kind: &'static str, rng: &mut Rng, aim: Aim) -> Option<Injection> {
        let members = self.nodes.len();
        let ttl = self.settings.timing[0] * 1000;
        let node = if rng.percent(65) { aim.leader } else { (rng.number() % members as u64) as usize };
        let peers: Vec<usize> = self.settings.members_of(aim.group).filter(|i| *i != aim.leader).collect();
        let standby = *peers.get((rng.number() % peers.len().max(1) as u64) as usize)?;
        let hold = Duration::from_millis(rng.between(1000, 2 * ttl));
        let short = Duration::from_millis(rng.between(500, 3000));
        // Of another group nobody has asked.
        let role = match node {
            _ if node == aim.leader => "primary",
            _ if self.settings.group_of(node) == aim.group => "standby",
            _ => "of another group",
        };
        let name = format!("node{node}, {role}");
        let injection = |what: String, hold: Duration| Injection::new(kind, what, hold);
        let is_server = move |port: usize| port >= members;
        let either = move |port: usize| move |from: usize, to: usize| from == port || to == port;
        Some(match kind {
            "node-kill" => {
                self.net.set(CUT, either(node));
                self.signal_node(node, Signal::SIGKILL);
                Injection { away: Some(node), ..injection(name, hold) }
            }
            "node-freeze" => {
                self.net.set(CUT, either(node));
                self.signal_node(node, Signal::SIGSTOP);
                Injection { away: Some(node), frozen: Some(node), ..injection(name, hold) }
            }
            "daemon-kill" | "daemon-freeze" => {
                let signal = if kind == "daemon-kill" { Signal::SIGKILL } else { Signal::SIGSTOP };
                self.signal_daemon(node, signal).then_some(())?;
                Injection { away: Some(node), ..injection(name, hold) }
            }
            "daemon-stop" => {
                self.stop(node).then_some(())?;
                Injection { away: Some(node), ..injection(name, hold) }
            }
            "postmaster-kill" => {
                self.signal_postmaster(node, Signal::SIGKILL).then_some(())?;
                injection(name, short)
            }
            "postmaster-freeze" => {
                self.signal_postmaster(node, Signal::SIGSTOP).then_some(())?;
                injection(name, hold)
            }
            "node-cut" => {
                self.net.set(CUT, either(node));
                injection(name, hold)
            }
            "cut-from-store" => {
                self.net.set(CUT, move |from, to| {
                    (from == node && is_server(to)) || (to == node && is_server(from))
                });
                injection(name, hold)
            }
            "cut-from-members" => {
                self.net
                    .set(CUT, move |from, to| either(node)(from, to) && !is_server(from) && !is_server(to));
                injection(name, hold)
            }
            "cut-outgoing" => {
                self.net.set(CUT, move |from, _| from == node);
                injection(name, hold)
            }
            "cut-incoming" => {
                self.net.set(CUT, move |_, to| to == node);
                injection(name, hold)
            }
            "split" => {
                // The member keeps one server, the others have two.
                let server = self.server_port((rng.number() % SERVERS as u64) as usize);
                let side = move |port: usize| port == node || port == server;
                self.net.set(CUT, move |from, to| side(from) != side(to));
                injection(format!("{name}, with server{} alone", server - members), hold)
            }
            "loss" => {
                let loss = rng.between(5, 40) as u8;
                self.net.set(Link { loss, ..Link::default() }, either(node));
                injection(format!("{name}, {loss} %"), hold)
            }
            "delay" => {
                let delay = rng.between(20, 600) as u32;
                self.net.set(Link { delay, ..Link::default() }, either(node));
                injection(format!("{name}, {delay} ms each way"), hold)
            }
            "store-leader-kill" | "store-leader-freeze" | "store-leader-cut" => {
                let server = self.store_leader()?;
                match kind {
                    "store-leader-kill" => self.signal_server(server, Signal::SIGKILL),
                    "store-leader-freeze" => self.signal_server(server, Signal::SIGSTOP),
                    _ => {
                        // From the other servers only: members still reach it, and get stale silence.
                        let port = self.server_port(server);
                        self.net.set(CUT, move |from, to| {
                            either(port)(from, to) && is_server(from) && is_server(to)
                        });
                    }
                }
                injection(format!("server{server}"), hold)
            }
            "store-quorum-lost" => {
                let first = (rng.number() % SERVERS as u64) as usize;
                for server in [first, (first + 1) % SERVERS] {
                    self.signal_server(server, Signal::SIGKILL);
                }
                injection("two servers killed".into(), hold)
            }
            "disk-full" => {
                self.fill_disk(node);
                injection(name, hold)
            }
            "store-silent" => {
                // It accepts connections and says nothing, for longer than any lease.
                let server = (rng.number() % SERVERS as u64) as usize;
                self.signal_server(server, Signal::SIGSTOP);
                injection(format!("server{server}"), Duration::from_millis(rng.between(ttl, 3 * ttl)))
            }
            "store-frozen" => {
                // No server does anything for a while: where sessions have a clock of the server's, they may end as it goes on.
                (0..SERVERS).for_each(|server| self.signal_server(server, Signal::SIGSTOP));
                injection("all servers".into(), hold)
            }
            "store-slow" => {
                // As with a disk whose fsync takes long: it stands still, again and again.
                let all = rng.percent(50);
                let leader = self.store_leader()?;
                let slow: Vec<usize> = (0..SERVERS).filter(|server| all || *server == leader).collect();
                let (stop, go) = (rng.between(200, 1500), rng.between(50, 400));
                let what = format!("servers {slow:?} stand still for {stop} ms, and go on for {go} ms");
                self.slow_down(&slow, Duration::from_millis(stop), Duration::from_millis(go), hold);
                injection(what, hold)
            }
            "agent-away" => {
                let signal = if rng.percent(50) { Signal::SIGKILL } else { Signal::SIGSTOP };
                self.signal_agent(node, signal).then_some(())?;
                injection(format!("{name}, {signal}"), hold)
            }
            "descriptors" => {
                // None at all, or so few that some looks fail and some do not.
                let more = if rng.percent(60) { None } else { Some(rng.between(0, 3)) };
                let limit = self.exhaust_descriptors(node, more)?;
                injection(format!("{name}, {limit} descriptors"), hold)
            }
            "pid-file" => {
                let by = if rng.percent(50) { 10 } else { -10 };
                self.move_pid_file(node, by)?;
                Injection { away: Some(node), ..injection(format!("{name}, {by} s"), hold) }
            }
            "slow-stop" => {
                self.stop_slowly(node)?;
                let hold = Duration::from_millis(rng.between(5000, 2 * ttl + 10_000));
                Injection { away: Some(node), ..injection(name, hold) }
            }
            "auto-conf" => self.auto_conf(kind, rng, aim)?,
            "etcd-restored" | "etcd-restored-new-token" => {
                let plan = Plan {
                    new_token: kind == "etcd-restored-new-token",
                    switchover: rng.percent(60),
                    after: Duration::from_millis(rng.between(500, 5000)),
                    away: Duration::from_millis(rng.between(0, 5000)),
                };
                let what = self.restore_etcd(aim.leader, plan).unwrap_or_else(|error| error.to_string());
                let hold = Duration::from_millis(rng.between(ttl / 2, 2 * ttl));
                Injection { restored: true, ..injection(what, hold) }
            }
            "copy-broken" => {
                self.rest(standby, "POST", "/reinitialize", Some(r#"{"force": true}"#)).ok()?;
                self.broken_off(kind, rng, standby, aim.leader, short)?
            }
            "rewind-broken" => {
                // What the leader wrote last reaches nobody, so that it has to be rewound.
                let leader = aim.leader;
                self.net.set(CUT, move |from, _| from == leader);
                std::thread::sleep(Duration::from_millis(500));
                self.signal_node(leader, Signal::SIGKILL);
                self.net.mend();
                let source = self.wait_for_leader(leader, Duration::from_millis(2 * ttl))?;
                self.start_daemon(leader).ok()?;
                self.broken_off(kind, rng, leader, source, short)?
            }
            "switchover" => {
                let kind = if rng.percent(50) { Kind::Ours } else { Kind::Reference };
                let candidate = format!("node{standby}");
                let group = self.key_of_group(aim.group);
                let mut arguments = vec!["switchover", "chaos", "--force"];
                arguments.extend(group.iter().flat_map(|group| ["--group", group]));
                if rng.percent(50) {
                    arguments.extend(["--candidate", &candidate]);
                }
                injection(said(self.ctl(kind, aim.leader, &arguments)), short)
            }
            "failover" => {
                aim.asynchronous.then_some(())?;
                let (group, candidate) = (self.key_of_group(aim.group), format!("node{standby}"));
                let mut arguments = vec!["failover", "chaos", "--force", "--candidate", &candidate];
                arguments.extend(group.iter().flat_map(|group| ["--group", group]));
                injection(said(self.ctl(Kind::Ours, standby, &arguments)), short)
            }
            "restart" => {
                let answer = self.rest(node, "POST", "/restart", Some("{}"));
                let said = answer.map_or_else(|e| e.to_string(), |a| format!("{} {}", a.status, a.body));
                injection(format!("{name}: {said}"), short)
            }
            "reinitialize" => {
                let answer = self.rest(standby, "POST", "/reinitialize", Some(r#"{"force": true}"#));
                let said = answer.map_or_else(|e| e.to_string(), |a| format!("{} {}", a.status, a.body));
                injection(format!("node{standby}: {said}"), short)
            }
            _ => return None,
        })
    }

    /// For so long, in a thread of its own, these servers stand still and go on by turns.
    fn slow_down(&self, servers: &[usize], stop: Duration, go: Duration, hold: Duration) {
        let directories: Vec<_> = servers
            .iter()
            .filter_map(|i| self.servers.get(*i))
            .map(|server| server.directory.clone())
            .collect();
        std::thread::spawn(move || {
            let until = Instant::now() + hold;
            let left = || until.saturating_duration_since(Instant::now());
            while !left().is_zero() {
                directories.iter().for_each(|directory| process::signal_under(directory, Signal::SIGSTOP));
                std::thread::sleep(stop.min(left()));
                directories.iter().for_each(|directory| process::signal_under(directory, Signal::SIGCONT));
                std::thread::sleep(go.min(left()));
            }
        });
    }

    /// Standbys have a forgotten `ALTER SYSTEM`, and one of them has to lead.
    fn auto_conf(&mut self, kind: &'static str, rng: &mut Rng, aim: Aim) -> Option<Injection> {
        (!aim.asynchronous).then_some(())?;
        self.overrule_sync_names(aim.leader)?;
        let killed = rng.percent(50);
        if killed {
            self.signal_node(aim.leader, Signal::SIGKILL);
        } else {
            let _ = self.ctl(Kind::Ours, aim.leader, &["switchover", "chaos", "--force"]);
        }
        let ttl = Duration::from_secs(self.settings.timing[0]);
        let breaches = self.watch_promises(if killed { ttl + ttl / 2 } else { ttl / 2 });
        let what =
            format!("the leader node{} {}", aim.leader, if killed { "killed" } else { "switched over" });
        let away = killed.then_some(aim.leader);
        Some(Injection { away, breaches, ..Injection::new(kind, what, Duration::from_secs(1)) })
    }

    /// A copy or a rewind is broken off by somebody's death.
    fn broken_off(
        &mut self,
        kind: &'static str,
        rng: &mut Rng,
        target: usize,
        source: usize,
        hold: Duration,
    ) -> Option<Injection> {
        let victim = self.next_victim(rng);
        let Some((program, breaches)) = self.break_copy(target, source, victim) else {
            return Some(Injection::new(kind, format!("node{target}: nothing was copied or rewound"), hold));
        };
        let what = format!("{program} on node{target}, the {victim:?} killed");
        let away = if victim == Victim::Source { source } else { target };
        Some(Injection { away: Some(away), breaches, ..Injection::new(kind, what, hold) })
    }

    /// Waits for a member other than `old` that leads, and takes writes.
    pub fn wait_for_leader(&self, old: usize, within: Duration) -> Option<usize> {
        let other =
            |name: &String| self.nodes.iter().position(|node| node.name == *name).filter(|i| *i != old);
        wait_until("another leads", within, || {
            let index = self.key("leader")?.as_ref().and_then(other).ok_or("no other")?;
            ensure(self.sql(index, "SELECT pg_is_in_recovery()")? == "f", || "in recovery".into())?;
            Ok(index)
        })
        .ok()
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
    use super::super::servers::Dcs;
    use super::*;

    #[test]
    fn every_kind_comes_before_one_comes_again() {
        let mut deck = Deck::new(KINDS.to_vec(), 1);
        for _ in 0..3 {
            let mut round: Vec<_> = (0..KINDS.len()).filter_map(|_| deck.deal()).collect();
            round.sort_unstable();
            let mut all = KINDS.to_vec();
            all.sort_unstable();
            assert_eq!(round, all);
        }
    }

    #[test]
    fn the_seeds_of_the_short_runs_begin_with_what_matters() {
        // scripts/test: about three rounds each.
        for (seed, begins) in [
            (131_104, ["postmaster-kill", "descriptors", "daemon-kill", "pid-file"]),
            (1_586_778, ["auto-conf", "etcd-restored-new-token", "node-kill", "postmaster-kill"]),
        ] {
            let kinds = KINDS.iter().copied().filter(|kind| Dcs::Etcd3.has(kind)).collect();
            let mut deck = Deck::new(kinds, seed);
            assert_eq!(begins.map(|_| deck.deal().unwrap_or_default()), begins);
        }
    }

    #[test]
    fn stories_never_come_second() {
        let mut deck = Deck::new(KINDS.to_vec(), 2);
        assert_eq!(deck.deal_second(), None);
        for _ in 0..100 {
            deck.deal();
            assert!(deck.deal_second().is_none_or(|kind| !ALONE.contains(&kind)));
        }
    }
}
