//! The program: brings a cluster up, harms it until the time is over, checks, prints.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::check::{self, Ack};
use super::citus::Distributed;
use super::faults::{Aim, Deck, Injection, ALONE, KINDS};
use super::fleet::{Fleet, Settings};
use super::judge;
use super::options::{FleetKind, Mode, Options};
use super::report::{Episode, Report};
use super::servers::SERVERS;
use super::sys;
use super::writer::{Door, Writers};
use crate::lab::wait::ensure;
use crate::lab::{host, process, wait_until, Kind, Result};
use crate::sim::Rng;

/// The switch of the guardian, in the environment.
const GUARDIAN: &str = "PATRONI_RS_GUARDIAN";

/// Does our binary have a guardian at all?
fn has_guardian() -> Result<bool> {
    let program = std::fs::read(host::our_binary("patroni")?)?;
    Ok(program.windows(GUARDIAN.len()).any(|bytes| bytes == GUARDIAN.as_bytes()))
}

/// `maximum_lag_on_failover`, bytes.
pub(super) const MAXIMUM_LAG: u64 = 1_048_576;
/// How long bringing up may take on a busy machine.
const BRING_UP: Duration = Duration::from_secs(120);
/// How long until all standbys stream again after a fault, before somebody has to look.
pub(super) const WHOLE: Duration = Duration::from_secs(180);
/// A primary whose whole node stood still may answer this long before its keeper has acted: no process can
/// act while it is stopped. Only a watchdog device can.
pub(super) const THAW: Duration = Duration::from_millis(1500);
/// A daemon that was started again needs this long to its first decision.
const FIRST_CYCLE: Duration = Duration::from_secs(10);

/// A primary must be writable so long after the healing: ttl, six loops and 90 s, as in the simulation.
fn patience([ttl, loop_wait, _]: [u64; 3]) -> Duration {
    Duration::from_secs(ttl + 6 * loop_wait + 90)
}

/// A run in progress.
pub(super) struct Chaos {
    pub(super) options: Options,
    pub(super) fleet: Fleet,
    pub(super) writers: Option<Writers>,
    /// The client of the coordinator, with Citus.
    pub(super) distributed: Option<Distributed>,
    pub(super) began: Instant,
    pub(super) log: File,
    /// Daemons that were dead or stopped: who, from when, to when.
    pub(super) away: Vec<(usize, Duration, Duration)>,
    /// Nodes that stood still until then.
    pub(super) thawed: Vec<(usize, Duration)>,
    /// When the store had gone back, from the snapshot until all was well again.
    pub(super) restored: Vec<(Duration, Duration)>,
    /// What each member's daemon was, from when on.
    pub(super) kinds: Vec<(usize, Duration, Kind)>,
    /// Acknowledgements before that were checked for loss.
    pub(super) checked: Duration,
    pub(super) seen: HashSet<(usize, u32, usize, u32)>,
    pub(super) report: Report,
    pub(super) directory: PathBuf,
    pub(super) _janitor: crate::lab::janitor::Janitor,
}

/// What this machine must allow.
///
/// # Errors
/// It does not: says what is missing.
pub fn permitted() -> Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        return Err("needs root, for network namespaces and a tmpfs of its own".into());
    }
    sys::leave_mounts().map_err(|e| format!("a mount namespace is not permitted: {e}"))?;
    super::net::Namespace::new(0).map_err(|e| format!("a network of its own is not permitted: {e}"))?;
    Ok(())
}

/// Runs to the end. Call [`permitted`] first, before there are threads.
///
/// # Errors
/// The cluster does not come up, or cannot be brought back.
pub fn run(options: Options) -> Result<Report> {
    let mut chaos = Chaos::new(options)?;
    let outcome = chaos.bring_up().and_then(|()| chaos.rounds());
    if let Err(error) = &outcome {
        chaos.say(&format!("! {error}"));
    }
    let mut report = chaos.finish();
    if let Err(error) = outcome {
        // What was found before counts, whatever ended the run.
        if report.is_clean() {
            return Err(error);
        }
        report.notes.push(format!("ended early: {error}"));
    }
    let on = chaos.options.guardian;
    report
        .notes
        .push(format!("guardian of our daemons: {}", if on { "on" } else { "off, or not in this binary" }));
    Ok(report)
}

impl Chaos {
    fn new(mut options: Options) -> Result<Chaos> {
        let environment = if options.guardian { vec![] } else { vec![(GUARDIAN, "off")] };
        if options.fleet != FleetKind::Reference {
            options.guardian = options.guardian && has_guardian()?;
        }
        let directory = nix::unistd::mkdtemp("/tmp/patroni-rs-chaos-XXXXXX")?;
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
        let janitor = crate::lab::janitor::Janitor::start(&directory)?;
        host::give_away(&directory)?;
        let script = directory.join("callback.sh");
        std::fs::write(&script, "#!/bin/sh\n")?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        let log = File::create(directory.join("chaos.log"))?;
        let mut rng = Rng::new(options.seed ^ 0xf1ee7);
        let (members, groups) = (options.members(), options.groups());
        let size = members / groups;
        let one = (rng.number() % size as u64) as usize;
        let kinds: Vec<Kind> = (0..members)
            .map(|index| match options.fleet {
                FleetKind::Ours => Kind::Ours,
                FleetKind::Reference => Kind::Reference,
                FleetKind::Mixed if index % size == one => Kind::Reference,
                FleetKind::Mixed => Kind::Ours,
            })
            .collect();
        let settings = Settings {
            directory: directory.clone(),
            bin: if options.citus { host::citus_bin() } else { host::postgres_bin(options.pg) },
            timing: options.timing,
            sync: options.mode.yaml(),
            members,
            groups,
            dcs: options.dcs,
            environment,
        };
        let fleet = Fleet::new(settings, &kinds)?;
        let kinds = kinds.iter().enumerate().map(|(i, kind)| (i, Duration::ZERO, *kind)).collect();
        Ok(Chaos {
            options,
            fleet,
            writers: None,
            distributed: None,
            began: Instant::now(),
            log,
            away: Vec::new(),
            thawed: Vec::new(),
            restored: Vec::new(),
            kinds,
            checked: Duration::ZERO,
            seen: HashSet::new(),
            report: Report::default(),
            directory,
            _janitor: janitor,
        })
    }

    pub(super) fn say(&mut self, text: &str) {
        // Wall clock in UTC, as in the members' logs.
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let day = wall.as_secs() % 86_400;
        let (hour, minute, second) = (day / 3600, day / 60 % 60, day % 60);
        let at = self.began.elapsed().as_secs_f32();
        let line = format!("{at:>8.1} {hour:02}:{minute:02}:{second:02}.{:03} {text}", wall.subsec_millis());
        println!("{line}");
        let _ = writeln!(self.log, "{line}");
    }

    fn bring_up(&mut self) -> Result<()> {
        self.options.dcs.is_here()?;
        (0..SERVERS).try_for_each(|index| self.fleet.start_server(index))?;
        wait_until("the store has a leader", BRING_UP, || self.fleet.store_leader().ok_or("none".into()))?;
        (0..self.options.members()).try_for_each(|index| self.fleet.start_agent(index))?;
        self.groups().try_for_each(|group| self.bring_up_group(group))?;
        let doors = self.fleet.nodes.iter().enumerate();
        let doors = doors.map(|(member, node)| Door { member, socket: node.directory.clone() }).collect();
        self.writers = Some(Writers::start(doors, self.began));
        if self.options.citus {
            self.start_distributed()?;
        }
        let took = self.wait_whole(BRING_UP)?;
        let kinds: Vec<String> =
            self.fleet.nodes.iter().map(|n| format!("{} {:?}", n.name, n.kind)).collect();
        self.say(&format!("{} are up after {:.1} s", kinds.join(", "), took.as_secs_f32()));
        Ok(())
    }

    /// A first member that leads, then the others.
    fn bring_up_group(&mut self, group: usize) -> Result<()> {
        let mut members = self.fleet.settings.members_of(group);
        let first = members.next().ok_or("a group of nobody")?;
        self.fleet.start_daemon(first)?;
        let (name, prefix) = (format!("node{first}"), self.fleet.key_of_group(group));
        let key = prefix.map_or("leader".into(), |group| format!("{group}/leader"));
        wait_until("a primary", BRING_UP, || {
            ensure(self.fleet.sql(first, "SELECT pg_is_in_recovery()")? == "f", || "in recovery".into())?;
            let leader = self.fleet.key(&key)?;
            ensure(leader.as_ref() == Some(&name), || format!("leader {leader:?}"))
        })?;
        self.fleet.sql(first, "CREATE TABLE journal (n bigint PRIMARY KEY, member int)")?;
        members.try_for_each(|index| self.fleet.start_daemon(index))
    }

    /// The numbers of the groups: without Citus one.
    pub(super) fn groups(&self) -> std::ops::Range<usize> {
        0..self.options.groups()
    }

    /// What members of this group acknowledged.
    pub(super) fn acks(&self, group: usize) -> Vec<Ack> {
        let all = self.writers.as_ref().map(Writers::acks).unwrap_or_default();
        all.into_iter().filter(|ack| self.fleet.settings.group_of(ack.member) == group).collect()
    }

    /// The member of a group that acknowledged a write just now; of two, the one on the newer timeline.
    pub(super) fn primary(&self, group: usize) -> Option<usize> {
        let since = self.began.elapsed().saturating_sub(Duration::from_secs(3));
        self.newest(group, since).map(|ack| ack.member)
    }

    fn newest(&self, group: usize, since: Duration) -> Option<Ack> {
        self.writers.as_ref()?.newest(&self.fleet.settings.members_of(group), since)
    }

    /// A primary that took a write that was sent after `since`, and everybody else of its group streams from it, under daemons that have begun.
    fn is_whole(&self, group: usize, since: Duration) -> Result<()> {
        let last = self.newest(group, since);
        let primary = last.filter(|ack| ack.sent >= since).ok_or("nobody takes writes")?.member;
        ensure(self.primary(group) == Some(primary), || "nobody takes writes now".into())?;
        let mut members = self.fleet.settings.members_of(group);
        let count =
            self.fleet.sql(primary, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")?;
        let all = members.len() - 1;
        ensure(count == all.to_string(), || format!("{count} standbys stream from node{primary}"))?;
        // A daemon that still looks for its store has taken over nothing: its server is that of the daemon before it.
        members.try_for_each(|index| self.fleet.rest(index, "GET", "/liveness", None).map(drop))
    }

    fn wait_whole(&self, within: Duration) -> Result<Duration> {
        let began = self.began.elapsed();
        wait_until("all standbys stream", within, || {
            self.groups().try_for_each(|group| self.is_whole(group, began))
        })?;
        Ok(self.began.elapsed() - began)
    }

    fn rounds(&mut self) -> Result<()> {
        let mut rng = Rng::new(self.options.seed);
        let options = &self.options;
        let wanted = |kind: &&&str| {
            options.dcs.has(kind)
                && !(options.citus && ALONE.contains(*kind))
                && (options.only.is_empty() || options.only.iter().any(|o| o == **kind))
        };
        let mut deck = Deck::new(KINDS.iter().filter(wanted).copied().collect(), self.options.seed);
        let until = Instant::now() + Duration::from_secs_f64(self.options.minutes * 60.0);
        while Instant::now() < until {
            self.round(&mut rng, &mut deck)?;
        }
        Ok(())
    }

    fn round(&mut self, rng: &mut Rng, deck: &mut Deck) -> Result<()> {
        let from = self.began.elapsed();
        let mut injections = Vec::new();
        let first = deck.deal().ok_or("no such kind of fault")?;
        let two = rng.percent(25) && !ALONE.contains(&first);
        injections.extend(self.inject(first, rng));
        if let Some(second) = two.then(|| deck.deal_second()).flatten() {
            std::thread::sleep(Duration::from_millis(rng.between(50, 5000)));
            injections.extend(self.inject(second, rng));
        }
        let Some(hold) = injections.iter().map(|injection| injection.hold).max() else { return Ok(()) };
        std::thread::sleep(hold);
        self.heal(&injections, from, rng)?;
        let healed = self.began.elapsed();
        let whole = self.wait_whole(WHOLE);
        let to = self.began.elapsed();
        if injections.iter().any(|injection| injection.restored) {
            self.restored.push((from, to));
        }
        // Of groups, what the worst of them had.
        let acks: Vec<Vec<Ack>> = self.groups().map(|group| self.acks(group)).collect();
        let writable = acks.iter().map(|acks| check::first_after(acks, healed)).collect::<Option<Vec<_>>>();
        let writable = writable.and_then(|times| times.into_iter().max()).map(|at| at - healed);
        let gap = acks.iter().map(|acks| check::longest_gap(acks, from, to)).max().unwrap_or_default();
        self.say(&format!(
            "  writable {}, whole {}; {:.1} s without writes",
            writable.map_or("never".into(), |t| format!("{:.1} s after", t.as_secs_f32())),
            whole.as_ref().map_or_else(|e| e.to_string(), |t| format!("{:.1} s after", t.as_secs_f32())),
            gap.as_secs_f32()
        ));
        let what: Vec<String> = injections.iter().map(|s| format!("{} ({})", s.kind, s.what)).collect();
        let what = format!("at {:.1} s, {}", from.as_secs_f32(), what.join(" and "));
        let patience = patience(self.options.timing);
        if writable.is_none_or(|time| time > patience) {
            self.find(9, self.fault_of_all(), format!("not writable within {patience:?}: {what}"));
        }
        self.report.episodes.push(Episode {
            kinds: injections.iter().map(|s| s.kind).collect(),
            gap,
            writable: writable.unwrap_or(to - healed),
            whole: *whole.as_ref().unwrap_or(&WHOLE),
        });
        if let Err(error) = whole {
            self.find(8, self.weigh_absent(), format!("{error}: {what}"));
            self.repair()?;
        }
        self.look();
        self.check_rows()?;
        self.check_nodes(&what)
    }

    fn inject(&mut self, kind: &'static str, rng: &mut Rng) -> Option<Injection> {
        let asynchronous = self.options.mode == Mode::Async;
        let group = (rng.number() % self.options.groups() as u64) as usize;
        let first = self.fleet.settings.members_of(group).start;
        let aim = Aim { leader: self.primary(group).unwrap_or(first), group, asynchronous };
        let injection = self.fleet.inject(kind, rng, aim);
        self.note_kinds();
        match &injection {
            None => self.say(&format!("  {kind}: nothing to hit")),
            Some(injection) => {
                self.say(&format!("# {kind}: {}, {:.1} s", injection.what, injection.hold.as_secs_f32()));
                self.breached(&injection.breaches);
            }
        }
        injection
    }

    /// What each daemon is from now on.
    fn note_kinds(&mut self) {
        let now = self.began.elapsed();
        for (index, node) in self.fleet.nodes.iter().enumerate() {
            self.kinds.push((index, now, node.runs));
        }
    }

    fn heal(&mut self, injections: &[Injection], from: Duration, rng: &mut Rng) -> Result<()> {
        if self.options.fleet == FleetKind::Mixed {
            // A daemon that is started again may be of the other kind.
            for injection in injections {
                let node = injection.away.and_then(|i| self.fleet.nodes.get_mut(i));
                if let Some(node) = node.filter(|_| rng.percent(50)) {
                    node.kind = if node.kind == Kind::Ours { Kind::Reference } else { Kind::Ours };
                }
            }
        }
        let breaches = self.fleet.heal()?;
        if injections.len() == 1 {
            // A stop that is cut off from the store as well has to be broken off.
            self.breached(&breaches);
        }
        let now = self.began.elapsed();
        for injection in injections {
            self.away.extend(injection.away.map(|node| (node, from, now + FIRST_CYCLE)));
            self.thawed.extend(injection.frozen.map(|node| (node, now)));
        }
        self.note_kinds();
        self.say("  healed");
        Ok(())
    }

    /// The primary of a group, and the members that stream from it.
    pub(super) fn streaming(&self, group: usize) -> Result<(usize, HashSet<String>)> {
        let primary = self.primary(group).ok_or("nobody takes writes, and nobody can be repaired")?;
        let names = self
            .fleet
            .sql(primary, "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'")?;
        Ok((primary, names.lines().map(str::to_owned).collect()))
    }

    /// Somebody has to look: members that do not stream are made anew.
    fn repair(&mut self) -> Result<()> {
        self.groups().try_for_each(|group| self.repair_group(group))?;
        self.wait_whole(WHOLE).map(drop)
    }

    fn repair_group(&mut self, group: usize) -> Result<()> {
        let (primary, names) = self.streaming(group)?;
        for index in self.fleet.settings.members_of(group).filter(|i| *i != primary) {
            if names.contains(&format!("node{index}")) {
                continue;
            }
            self.say(&format!("! node{index} is made anew"));
            self.fleet.signal_node(index, nix::sys::signal::Signal::SIGKILL);
            let node = self.fleet.nodes.get_mut(index).ok_or("no such member")?;
            let data = node.disk().join("data");
            wait_until("it is dead", Duration::from_secs(10), || {
                ensure(node.daemon().is_none() && process::under(&data).is_empty(), || "it lives".into())
            })?;
            let _ =
                std::fs::rename(&data, node.directory.join(format!("data-{}", self.report.episodes.len())));
            let _ = std::fs::remove_dir_all(&data);
            self.fleet.start_daemon(index)?;
        }
        Ok(())
    }

    // ---- the end ----

    fn finish(&mut self) -> Report {
        if self.writers.is_some() && self.groups().all(|group| self.primary(group).is_some()) {
            // All rows of the whole run once more: none may have gone since.
            self.checked = Duration::ZERO;
            let known = self.report.findings.len();
            if let Err(error) = self.check_rows() {
                self.say(&format!("! {error}"));
            }
            let before: HashSet<String> = self
                .report
                .findings
                .iter()
                .take(known)
                .map(|f| judge::first_row(&f.what).to_owned())
                .collect();
            let mut index = 0;
            self.report.findings.retain(|finding| {
                index += 1;
                index <= known || !before.contains(judge::first_row(&finding.what))
            });
        }
        let acks = self.writers.as_mut().map(Writers::finish).unwrap_or_default();
        self.look();
        self.report.rows = acks.len();
        self.report.tenures = check::tenures(&acks).len();
        if let Some(distributed) = &mut self.distributed {
            let rows = distributed.finish().len();
            self.report.notes.push(format!("{rows} rows acknowledged by way of a coordinator"));
        }
        self.report.lost_packets = self.fleet.net.lost();
        self.report.not_injected = vec![
            "clock steps: CLOCK_REALTIME has no namespace, and the machine's clock is not ours".into(),
            "a slow or frozen disk: no device mapper here; tmpfs is never slow".into(),
            "loss of what was written but not synced: processes die here, the machine does not".into(),
            "a machine that stands still with its clocks: that needs a hypervisor".into(),
            "a changed etcd password: etcd has no users here".into(),
        ];
        let clean = self.report.is_clean();
        self.keep_or_remove(&acks, clean && !self.options.keep);
        std::mem::take(&mut self.report)
    }

    fn keep_or_remove(&mut self, acks: &[Ack], remove: bool) {
        let _ = process::end_under(&self.directory);
        if remove {
            return;
        }
        let mut text = String::from("n\tmember\ttimeline\tlsn\tsent\tacked\n");
        for a in acks {
            let (sent, acked) = (a.sent.as_secs_f64(), a.acked.as_secs_f64());
            text += &format!("{}\t{}\t{}\t{}\t{sent:.3}\t{acked:.3}\n", a.n, a.member, a.timeline, a.lsn);
        }
        let _ = std::fs::write(self.directory.join("acks.tsv"), text);
        let _ = std::fs::write(self.directory.join("keep"), "");
        for index in 0..SERVERS {
            let _ = std::fs::remove_dir_all(self.directory.join(format!("server{index}/data")));
        }
        for program in ["patroni", "patronictl"] {
            let _ = std::fs::remove_file(self.directory.join(program));
        }
        self.say(&format!("logs are in {}", self.directory.display()));
    }
}
