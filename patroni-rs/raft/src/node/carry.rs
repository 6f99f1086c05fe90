//! What the machine wants done, in its order: nothing is sent or answered before what it depends on is on the disk.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use patroni_core::ha::Mono;
use patroni_core::mutex::locked;
use tokio::sync::oneshot;

use super::actor::Actor;
use super::now;
use crate::dump::Dump;
use crate::entry::{self, Change};
use crate::kv::{Done, Kv};
use crate::machine::{Effect, Peer};
use crate::message::Reason;
use crate::pickle::Value;

/// The journal is made shorter after so long, as in PySyncObj, if it is not too long before.
const DUMP_EVERY: Duration = Duration::from_secs(300);

/// Members that are to come or go wait so long for another change to be done, or for a leader. PySyncObj refuses at once,
/// and a node of the reference asks once, and stays outside.
const WISH: Duration = Duration::from_secs(5);
/// Between two tries.
const WISH_AGAIN: Duration = Duration::from_millis(200);

/// Somebody wants a member to come or to go.
pub(super) struct Wish {
    change: Change,
    until: Mono,
    /// It was refused, and is tried again then.
    again: Option<Mono>,
    is_done: oneshot::Receiver<Result<Done, Reason>>,
    answer: oneshot::Sender<Value>,
    success: Value,
    failure: Value,
}

impl Actor<'_> {
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) -> io::Result<()> {
        let mut closed = BTreeSet::new();
        for effect in effects {
            if let (Some(journal), Effect::Send(..) | Effect::Apply(..) | Effect::Commit(..)) =
                (&mut self.journal, &effect)
            {
                journal.sync()?;
            }
            match effect {
                Effect::Append(entry) => self.on_disk(|journal| journal.append(&entry))?,
                Effect::Cut(index) => self.on_disk(|journal| journal.cut(index))?,
                Effect::Vote(term, voted) => {
                    self.on_disk(|journal| journal.vote(term, voted))?;
                    self.highest.set(term);
                }
                Effect::Commit(index) => self.on_disk(|journal| {
                    journal.committed(index);
                    Ok(())
                })?,
                Effect::Install(dump, bytes, entries) => {
                    let unknown = || io::Error::other("the leader's dump holds what is not known here");
                    let kv = Kv::of_value(&dump.data, now()).ok_or_else(unknown)?;
                    self.on_disk(|journal| {
                        journal.store_dump(&bytes)?;
                        journal.replace_all(&entries)
                    })?;
                    self.install(kv, dump.last.index);
                }
                Effect::Shorten(entries) => self.on_disk(|journal| journal.replace_all(&entries))?,
                Effect::Send(peer, message) => {
                    let sent = self.peers.get(&peer).is_none_or(|(_, outlet, _)| outlet.send(message));
                    if !sent {
                        closed.insert(peer);
                    }
                }
                Effect::Apply(entry, tokens) => {
                    let mut changes = Vec::new();
                    let done = locked(&self.shared.kv)
                        .apply(&entry.command, entry.index, now(), &mut changes)
                        .map_err(io::Error::other)?;
                    for change in changes {
                        locked(&self.shared.clock).changed(&change, now());
                        let _ = self.shared.changes.send(change);
                    }
                    for token in tokens {
                        self.answer(token, Ok(done.clone()));
                    }
                }
                Effect::Fail(token, reason) => self.answer(token, Err(reason)),
                Effect::Member(Change { add: false, address }) => {
                    // What was sent to it before that should still arrive: the connection ends by itself, too.
                    self.close(&Peer::Member(address));
                }
                Effect::Member(Change { add: true, .. }) => {}
                Effect::Close(peer) => {
                    closed.insert(peer);
                }
            }
        }
        // Appended without anything that depends on it.
        if let Some(journal) = &mut self.journal {
            journal.sync()?;
        }
        for peer in closed {
            self.close(&peer);
            self.gone(&peer)?;
        }
        Ok(())
    }

    fn on_disk(
        &mut self,
        write: impl FnOnce(&mut crate::journal::Journal) -> io::Result<()>,
    ) -> io::Result<()> {
        self.journal.as_mut().map_or(Ok(()), write)
    }

    fn answer(&mut self, token: u64, result: Result<Done, Reason>) {
        if let Some(answer) = self.answers.remove(&token) {
            let _ = answer.send(result);
        }
    }

    /// The state of a dump in place of ours: what is other is told as changes.
    fn install(&mut self, new: Kv, index: u64) {
        let mut kv = locked(&self.shared.kv);
        let mut changes = Vec::new();
        for (key, item) in new.below("") {
            if kv.get(key).is_none_or(|old| !old.same(item)) {
                changes.push(crate::kv::Change {
                    key: Arc::clone(key),
                    value: Some(Arc::clone(&item.value)),
                    index,
                });
            }
        }
        for (key, _) in kv.below("") {
            if new.get(key).is_none() {
                changes.push(crate::kv::Change { key: Arc::clone(key), value: None, index });
            }
        }
        *kv = new;
        drop(kv);
        for change in changes {
            locked(&self.shared.clock).changed(&change, now());
            let _ = self.shared.changes.send(change);
        }
    }

    pub(super) fn dump_if_due(&mut self) -> io::Result<()> {
        let due =
            self.machine.numbers().length > self.config.most_entries || now().since(self.dumped) > DUMP_EVERY;
        if due {
            self.dumped = now();
            self.dump()?;
        }
        Ok(())
    }

    fn dump(&mut self) -> io::Result<()> {
        let Some((prev, last)) = self.machine.to_dump() else { return Ok(()) };
        let mut members = self.machine.others().clone();
        members.extend(self.config.own.as_deref().map(Arc::from));
        let dump = Dump { data: locked(&self.shared.kv).to_value(), last, prev, members };
        let bytes: Arc<[u8]> = dump.encode().into();
        self.on_disk(|journal| journal.store_dump(&bytes))?;
        let effects = self.machine.dumped(&dump, bytes);
        self.carry_out(effects)
    }

    // Utility commands.

    pub(super) fn utility(&mut self, command: &[Value], answer: oneshot::Sender<Value>) -> io::Result<()> {
        let name = command.first().and_then(Value::as_str).unwrap_or_default().to_owned();
        let argument = command.get(1).and_then(Value::as_str).map(str::to_owned);
        let said = |word: &str| {
            let words = [Some(word.to_owned()), Some(name.to_uppercase()), argument.clone()];
            Value::str(&words.into_iter().flatten().collect::<Vec<_>>().join(" "))
        };
        match (name.as_str(), &argument) {
            ("members", _) => {
                let _ = answer.send(self.members());
            }
            ("status", _) => {
                let _ = answer.send(self.status());
            }
            ("add" | "remove", Some(address)) if entry::is_address(address) => {
                let own = self.config.own.as_deref() == Some(address);
                let add = name == "add";
                if own && !add {
                    let _ = answer.send(said("FAIL"));
                    return Ok(());
                }
                let change = Change { add, address: address.as_str().into() };
                let is_done = self.change_members(&change)?;
                self.wishes.push(Wish {
                    change,
                    until: now() + WISH,
                    again: None,
                    is_done,
                    answer,
                    success: said("SUCCESS"),
                    failure: said("FAIL"),
                });
            }
            ("transfer", to) => {
                let to = to.as_deref().filter(|to| !to.is_empty());
                let result = self.machine.transfer(to, now());
                let _ = answer.send(said(if result.is_ok() { "SUCCESS" } else { "FAIL" }));
                self.carry_out(result.unwrap_or_default())?;
            }
            ("set_version", _) => {
                let _ = answer.send(said("FAIL"));
            }
            // PySyncObj closes the connection.
            _ => drop(answer),
        }
        Ok(())
    }

    fn change_members(&mut self, change: &Change) -> io::Result<oneshot::Receiver<Result<Done, Reason>>> {
        let (done, is_done) = oneshot::channel();
        self.next_token += 1;
        self.answers.insert(self.next_token, done);
        let origin = crate::machine::Origin::Here(self.next_token);
        let effects = self.machine.propose(entry::membership(change), origin, now());
        self.carry_out(effects)?;
        Ok(is_done)
    }

    /// Members that are to come or go: what was refused is tried again.
    pub(super) fn grant_wishes(&mut self) -> io::Result<()> {
        let mut waiting = Vec::new();
        for mut wish in std::mem::take(&mut self.wishes) {
            let refused = match (wish.is_done.try_recv(), wish.again) {
                (Ok(Ok(_)), _) => {
                    let _ = wish.answer.send(wish.success);
                    continue;
                }
                (Err(oneshot::error::TryRecvError::Empty), _) => false,
                (_, Some(at)) if now() < at => false,
                (_, Some(_)) => {
                    (wish.is_done, wish.again) = (self.change_members(&wish.change)?, None);
                    false
                }
                (_, None) => true,
            };
            let is_so = self.machine.others().contains(&wish.change.address) == wish.change.add;
            let for_good = is_so && self.machine.is_leader() && !self.machine.is_changing();
            if refused && (for_good || now() >= wish.until) {
                let _ = wish.answer.send(wish.failure);
                continue;
            }
            if refused {
                wish.again = Some(now() + WISH_AGAIN);
            }
            if !wish.answer.is_closed() {
                waiting.push(wish);
            }
        }
        self.wishes.extend(waiting);
        Ok(())
    }

    fn members(&self) -> Value {
        let leader = self.machine.leader();
        let member = |address: &Arc<str>, connected: bool, leads: bool| {
            Value::dict([
                ("addr", Value::Str(Arc::clone(address))),
                ("leader", Value::Bool(leads)),
                ("status", Value::Int(if connected { 2 } else { 0 })),
            ])
        };
        let others = self.machine.others().iter();
        let mut members: Vec<Value> =
            others.map(|o| member(o, self.machine.is_connected(o), leader == Some(o))).collect();
        let own: Option<Arc<str>> = self.config.own.as_deref().map(Arc::from);
        members.extend(own.map(|own| member(&own, true, self.machine.is_leader())));
        Value::List(members)
    }

    /// What `syncobj_admin -status` shows.
    fn status(&self) -> Value {
        let numbers = self.machine.numbers();
        let node = |address: Option<&str>| address.map_or(Value::None, |address| Value::Node(address.into()));
        let others = self.machine.others();
        let connected = others.iter().filter(|other| self.machine.is_connected(other)).count();
        let mut items = vec![
            ("version".to_owned(), Value::str("0.3.17")),
            ("revision".into(), Value::str("deprecated")),
            ("self".into(), node(self.config.own.as_deref())),
            ("state".into(), numbers.role.into()),
            ("leader".into(), node(self.machine.leader().map(|leader| &**leader))),
            ("has_quorum".into(), Value::Bool((connected + 1) * 2 > others.len() + 1)),
            ("partner_nodes_count".into(), (others.len() as u64).into()),
        ];
        for other in others {
            let connected = if self.machine.is_connected(other) { 2 } else { 0 };
            items.push((format!("partner_node_status_server_{other}"), Value::Int(connected)));
        }
        items.extend([
            ("readonly_nodes_count".to_owned(), numbers.readers.into()),
            ("log_len".into(), numbers.length.into()),
            ("last_applied".into(), numbers.applied.into()),
            ("commit_idx".into(), numbers.commit.into()),
            ("raft_term".into(), numbers.term.into()),
        ]);
        let progress: Vec<_> = self
            .machine
            .progress()
            .map(|(peer, next, matched)| match peer {
                Peer::Member(address) => (address.to_string(), next, matched),
                Peer::Reader(number) => (number.to_string(), next, matched),
            })
            .collect();
        items.push(("next_node_idx_count".into(), (progress.len() as u64).into()));
        items.extend(
            progress.iter().map(|(n, next, _)| (format!("next_node_idx_server_{n}"), (*next).into())),
        );
        items.push(("match_idx_count".into(), (progress.len() as u64).into()));
        items.extend(progress.iter().map(|(n, _, has)| (format!("match_idx_server_{n}"), (*has).into())));
        items.extend([
            ("leader_commit_idx".into(), numbers.leader_commit.map_or(Value::None, Value::from)),
            ("uptime".into(), now().since(self.started).as_secs().into()),
            ("self_code_version".into(), Value::Int(0)),
            ("enabled_code_version".into(), Value::Int(0)),
        ]);
        Value::Dict(items.into_iter().map(|(key, value)| (Value::str(&key), value)).collect())
    }
}
