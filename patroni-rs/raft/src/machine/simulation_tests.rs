//! Machines in simulated time: messages are late, connections break, members are killed between any two effects, start
//! again with what they had stored, take dumps, come and go. One seed decides everything.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;

use super::*;
use crate::entry;
use crate::journal::Meta;
use crate::kv::{Call, Conditions, Item, Kv};

struct Rng(u64);

impl Rng {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn chance(&mut self, in_thousand: u64) -> bool {
        self.next(1000) < in_thousand
    }
}

/// What a member has stored.
#[derive(Clone)]
struct Disk {
    entries: Vec<Entry>,
    meta: Meta,
    dump: Option<(Dump, Arc<[u8]>)>,
}

struct Node {
    address: Arc<str>,
    disk: Disk,
    running: Option<(Machine, Kv)>,
    back_at: Mono,
}

/// One direction of a connection.
type Wire = VecDeque<(Mono, Message)>;

struct World {
    nodes: Vec<Node>,
    /// By sender and receiver; none: there is no connection.
    wires: HashMap<(usize, usize), Wire>,
    cut: HashSet<(usize, usize)>,
    now: Mono,
    rng: Rng,
    token: Token,
    /// What was applied anywhere, by index.
    applied: BTreeMap<u64, Entry>,
    leaders: HashMap<u64, usize>,
    acknowledged: HashMap<Token, u64>,
    /// Messages are late, and members are killed between two effects.
    rough: bool,
}

fn address(number: usize) -> Arc<str> {
    format!("10.0.0.{number}:2222").into()
}

impl World {
    fn new(count: usize, seed: u64) -> World {
        let meta = Meta { term: 0, voted: None, commit: 1 };
        let disk = Disk { entries: vec![Entry::first()], meta, dump: None };
        let node = |number| Node {
            address: address(number),
            disk: disk.clone(),
            running: None,
            back_at: Mono::ZERO,
        };
        World {
            nodes: (0..count).map(node).collect(),
            wires: HashMap::new(),
            cut: HashSet::new(),
            now: Mono::seconds(1),
            rng: Rng(seed),
            token: 0,
            applied: BTreeMap::new(),
            leaders: HashMap::new(),
            acknowledged: HashMap::new(),
            rough: false,
        }
    }

    fn start(&mut self, number: usize) {
        let others = (0..self.nodes.len()).filter(|other| *other != number).map(address).collect();
        let seed = self.rng.next(u64::MAX >> 33);
        let (now, node) = (self.now, &mut self.nodes[number]);
        let disk = node.disk.clone();
        let (kv, others) = match &disk.dump {
            Some((dump, _)) => {
                let mut others = dump.members.clone();
                others.remove(&node.address);
                (Kv::of_value(&dump.data, now).unwrap(), others)
            }
            None => (Kv::default(), others),
        };
        let start = Start {
            own: Some(Arc::clone(&node.address)),
            others,
            entries: disk.entries,
            applied: disk.dump.as_ref().map_or(1, |(dump, _)| dump.last.index),
            meta: disk.meta,
            dump: disk.dump.map(|(_, bytes)| bytes),
            seed,
        };
        node.running = Some((Machine::new(start, now), kv));
    }

    fn kill(&mut self, number: usize) {
        self.nodes[number].running = None;
        self.nodes[number].back_at = self.now + Duration::from_millis(self.rng.next(3000));
        for other in 0..self.nodes.len() {
            self.disconnect(number, other);
        }
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            if self.wires.remove(&(from, to)).is_some() {
                let (peer, now) = (Peer::Member(address(from)), self.now);
                if let Some((machine, _)) = &mut self.nodes[to].running {
                    let effects = machine.disconnected(&peer, now);
                    self.carry_out(to, effects);
                }
            }
        }
    }

    /// As the driver does it; the member may be killed between two of them.
    fn carry_out(&mut self, number: usize, effects: Vec<Effect>) {
        for effect in effects {
            if self.nodes[number].running.is_none() {
                return;
            }
            if self.rough && self.rng.chance(1) && self.rng.chance(300) {
                return self.kill(number);
            }
            let disk = &mut self.nodes[number].disk;
            match effect {
                Effect::Append(entry) => {
                    assert_eq!(disk.entries.last().unwrap().index + 1, entry.index);
                    disk.entries.push(entry);
                }
                Effect::Cut(index) => disk.entries.retain(|entry| entry.index < index),
                Effect::Vote(term, voted) => (disk.meta.term, disk.meta.voted) = (term, voted),
                Effect::Commit(index) => disk.meta.commit = index,
                Effect::Install(dump, bytes, entries) => {
                    let (_, kv) = self.nodes[number].running.as_mut().unwrap();
                    *kv = Kv::of_value(&dump.data, self.now).unwrap();
                    let disk = &mut self.nodes[number].disk;
                    disk.entries = entries;
                    disk.dump = Some((*dump, bytes));
                }
                Effect::Shorten(entries) => disk.entries = entries,
                Effect::Send(Peer::Member(to), message) => {
                    let to = (0..self.nodes.len()).find(|n| address(*n) == to).unwrap();
                    let late = Duration::from_millis(
                        1 + self.rng.next(if self.rough && self.rng.0.is_multiple_of(17) { 900 } else { 20 }),
                    );
                    if let Some(wire) = self.wires.get_mut(&(number, to)) {
                        let at = (self.now + late).max(wire.back().map_or(Mono::ZERO, |(at, _)| *at));
                        wire.push_back((at, message));
                    }
                }
                Effect::Send(Peer::Reader(_), _) | Effect::Close(Peer::Reader(_)) | Effect::Member(_) => {}
                Effect::Close(Peer::Member(peer)) => {
                    let other = (0..self.nodes.len()).find(|n| address(*n) == peer).unwrap();
                    self.disconnect(number, other);
                }
                Effect::Apply(entry, tokens) => {
                    let known = self.applied.entry(entry.index).or_insert_with(|| entry.clone());
                    assert_eq!(*known, entry, "member {number} applies another entry");
                    tokens.iter().for_each(|token| {
                        self.acknowledged.insert(*token, entry.index);
                    });
                    let (_, kv) = self.nodes[number].running.as_mut().unwrap();
                    kv.apply(&entry.command, entry.index, self.now, &mut Vec::new()).unwrap();
                }
                Effect::Fail(..) => {}
            }
        }
        if let Some((machine, _)) = &self.nodes[number].running {
            if machine.is_leader() {
                let leader = *self.leaders.entry(machine.numbers().term).or_insert(number);
                assert_eq!(leader, number, "two leaders of term {}", machine.numbers().term);
            }
        }
    }

    fn fault(&mut self) {
        let count = self.nodes.len() as u64;
        let pick = |rng: &mut Rng| usize::try_from(rng.next(count)).unwrap();
        let (a, b) = (pick(&mut self.rng), pick(&mut self.rng));
        match self.rng.next(6) {
            0 => self.kill(a),
            1 => {
                self.cut.insert((a.min(b), a.max(b)));
                self.disconnect(a, b);
            }
            2 => (0..self.nodes.len()).for_each(|b| {
                self.cut.insert((a.min(b), a.max(b)));
                self.disconnect(a, b);
            }),
            3 => self.cut.clear(),
            4 => self.disconnect(a, b),
            _ => self.dump(a),
        }
    }

    fn dump(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let Some((machine, kv)) = &mut node.running else { return };
        let Some((prev, last)) = machine.to_dump() else { return };
        let mut members = machine.others().clone();
        members.insert(Arc::clone(&node.address));
        let dump = Dump { data: kv.to_value(), last, prev, members };
        let bytes: Arc<[u8]> = dump.encode().into();
        node.disk.dump = Some((dump.clone(), Arc::clone(&bytes)));
        let effects = machine.dumped(&dump, bytes);
        self.carry_out(number, effects);
    }

    fn write(&mut self, number: usize) {
        self.token += 1;
        let (token, now) = (self.token, self.now);
        let item =
            Item { value: token.to_string().into(), updated: 1.0, created: 1.0, expire: None, index: 0 };
        let call = Call::Set(format!("k{}", token % 7).into(), item, Conditions::default());
        if let Some((machine, _)) = &mut self.nodes[number].running {
            let effects = machine.propose(call.command(), Origin::Here(token), now);
            self.carry_out(number, effects);
        }
    }

    fn step(&mut self, calm: bool) {
        self.rough = !calm;
        self.now += Duration::from_millis(5);
        let count = self.nodes.len();
        for number in 0..count {
            if self.nodes[number].running.is_none() && self.nodes[number].back_at <= self.now {
                self.start(number);
            }
            for other in 0..number {
                let up = |node: &Node| node.running.is_some();
                let there = self.wires.contains_key(&(number, other));
                let possible = up(&self.nodes[number]) && up(&self.nodes[other]);
                if !there && possible && !self.cut.contains(&(other, number)) && self.rng.chance(200) {
                    for (from, to) in [(number, other), (other, number)] {
                        self.wires.insert((from, to), VecDeque::new());
                        let (machine, _) = self.nodes[to].running.as_mut().unwrap();
                        let effects = machine.connected(Peer::Member(address(from)), self.now);
                        self.carry_out(to, effects);
                        if self.nodes[to].running.is_none() {
                            break;
                        }
                    }
                }
            }
        }
        for from in 0..count {
            for to in 0..count {
                while self
                    .wires
                    .get(&(from, to))
                    .and_then(VecDeque::front)
                    .is_some_and(|(at, _)| *at <= self.now)
                {
                    let (_, message) = self.wires.get_mut(&(from, to)).unwrap().pop_front().unwrap();
                    let Some((machine, _)) = &mut self.nodes[to].running else { break };
                    let effects = machine.receive(&Peer::Member(address(from)), message, self.now);
                    self.carry_out(to, effects);
                }
            }
        }
        for number in 0..count {
            let Some((machine, _)) = &mut self.nodes[number].running else { continue };
            if self.now >= machine.wake_at() {
                let effects = machine.tick(self.now);
                self.carry_out(number, effects);
            }
        }
        if self.rng.chance(20) {
            let number = usize::try_from(self.rng.next(count as u64)).unwrap();
            self.write(number);
        }
        if !calm && self.rng.chance(8) {
            self.fault();
        }
    }

    fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| node.running.as_ref().is_some_and(|(machine, _)| machine.is_leader());
        self.nodes.iter().position(leads)
    }
}

fn run(count: usize, seed: u64) {
    let mut world = World::new(count, seed);
    for _ in 0..12_000 {
        world.step(false);
    }
    world.cut.clear();
    for _ in 0..1200 {
        world.step(true);
    }
    // All is well again: everybody has everything, and what was acknowledged is there.
    let leader = world.leader().expect("nobody leads");
    world.write(leader);
    for _ in 0..400 {
        world.step(true);
    }
    let states: Vec<_> = world
        .nodes
        .iter()
        .filter_map(|node| node.running.as_ref())
        .map(|(machine, kv)| (machine.numbers().applied, kv.to_value()))
        .collect();
    assert_eq!(states.len(), count);
    let most = states.iter().map(|(applied, _)| *applied).max().unwrap();
    assert!(states.iter().all(|(applied, _)| applied + 8 > most), "somebody is behind");
    let at_most: Vec<_> = states.iter().filter(|(applied, _)| *applied == most).collect();
    assert!(at_most.iter().all(|(_, state)| *state == at_most[0].1), "states differ");
    assert!(world.acknowledged.len() > 20, "{} acknowledged", world.acknowledged.len());
    for (token, index) in &world.acknowledged {
        let entry = world.applied.get(index).unwrap();
        assert!(String::from_utf8_lossy(&entry.command).contains(&token.to_string()));
    }
}

#[test]
fn three_and_five_survive() {
    let seeds = std::env::var("RAFT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    for seed in 0..seeds {
        for count in [3, 5] {
            let result = std::panic::catch_unwind(|| run(count, seed * 2 + count as u64));
            assert!(result.is_ok(), "{count} members, seed {}", seed * 2 + count as u64);
        }
    }
}

#[test]
fn a_majority_elects_within_a_second() {
    let mut times = Vec::new();
    for seed in 0..60 {
        let mut world = World::new(3, 1000 + seed);
        for _ in 0..1000 {
            world.step(true);
        }
        let leader = world.leader().unwrap();
        world.kill(leader);
        world.nodes[leader].back_at = Mono::at(Duration::MAX);
        let before = world.now;
        while world.leader().is_none() {
            world.step(true);
            assert!(world.now.since(before) < Duration::from_secs(20));
        }
        times.push(world.now.since(before));
    }
    times.sort();
    let within = |limit: Duration| times.iter().filter(|time| **time < limit).count();
    // Two that stand in the same moment stand again.
    assert!(within(Duration::from_secs(1)) > 50 && within(Duration::from_secs(3)) == 60, "{times:?}");
}

#[test]
fn members_come_and_go() {
    let mut world = World::new(3, 5);
    for _ in 0..1000 {
        world.step(true);
    }
    let leader = world.leader().unwrap();
    let change = Change { add: false, address: address((leader + 1) % 3) };
    let (machine, _) = world.nodes[leader].running.as_mut().unwrap();
    let own = Change { add: false, address: address(leader) };
    let denied = machine.propose(entry::membership(&own), Origin::Here(9), world.now);
    assert_eq!(denied, [Effect::Fail(9, Reason::Denied)]);
    let effects = machine.propose(entry::membership(&change), Origin::Here(1), world.now);
    let again = machine.propose(entry::membership(&change), Origin::Here(2), world.now);
    assert_eq!(again, [Effect::Fail(2, Reason::Denied)]);
    world.carry_out(leader, effects);
    for _ in 0..200 {
        world.step(true);
    }
    assert!(world.acknowledged.contains_key(&1));
    let remaining = &world.nodes[(leader + 2) % 3].running.as_ref().unwrap().0;
    assert_eq!(remaining.others().len(), 1);
}
