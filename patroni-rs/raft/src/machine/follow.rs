//! What a follower does.

use super::*;
use crate::message::{Body, Chunk, Part};
use crate::pickle;

/// A dump, or an entry, that is larger than that is not put together.
const LARGEST: usize = 256 * 1024 * 1024;

/// What a leader says of the entries that it sends.
#[derive(Clone, Copy)]
struct After {
    /// Up to there its log is committed.
    commit: u64,
    /// The entry before them.
    prev_index: u64,
    /// Its term.
    prev_term: u64,
}

impl Machine {
    /// A leader's message.
    pub(super) fn told(&mut self, name: &Arc<str>, term: u64, commit: u64, body: Body) {
        if term < self.term || (term == self.term && self.role == Role::Leader) {
            return;
        }
        if term > self.term {
            self.transfer = false;
        }
        if !self.transfer {
            self.put_off_election();
        }
        if self.leader.as_ref() != Some(name) {
            self.forget_asked();
            self.incoming_dump = None;
            self.incoming_entry.clear();
        }
        self.step_down();
        self.leader = Some(Arc::clone(name));
        if term > self.term {
            self.set_term(term, None);
        }
        self.leader_commit = Some(commit);
        let peer = Peer::Member(Arc::clone(name));
        match body {
            Body::Entries { prev_index, prev_term, entries } => {
                self.take_entries(&peer, After { commit, prev_index, prev_term }, entries);
            }
            Body::Part { prev_index, prev_term, part, data } => {
                self.take_part(&peer, After { commit, prev_index, prev_term }, part, &data);
            }
            Body::Dump(Some(chunk)) => self.take_dump(&peer, &chunk),
            Body::Dump(None) | Body::Nothing => {}
        }
    }

    fn say_next(&mut self, peer: &Peer, next: u64, reset: bool, success: bool) {
        self.send(peer, Message::Next { next, reset, success });
    }

    fn take_part(&mut self, peer: &Peer, after: After, part: Part, data: &[u8]) {
        if part == Part::Start {
            self.incoming_entry.clear();
        }
        if self.incoming_entry.len() + data.len() > LARGEST {
            self.incoming_entry.clear();
            return;
        }
        self.incoming_entry.extend(data);
        let whole = match part {
            Part::Finish => pickle::load(&self.incoming_entry).ok().and_then(|value| Entry::of_value(&value)),
            _ => None,
        };
        match whole {
            Some(entry) => {
                self.incoming_entry.clear();
                self.take_entries(peer, after, vec![entry]);
            }
            None => self.say_next(peer, self.last_index() + 1, false, false),
        }
    }

    fn take_entries(&mut self, peer: &Peer, after: After, entries: Vec<Entry>) {
        let After { commit, prev_index, prev_term } = after;
        let first = self.first_index();
        let Some(prev) = self.entry(prev_index) else {
            // What is before our first entry is in the dump, and committed.
            let next = self.last_index() + 1;
            return self.say_next(
                peer,
                if prev_index < first { next.max(first + 1) } else { next },
                true,
                false,
            );
        };
        if prev.term != prev_term {
            return self.say_next(peer, prev_index, true, false);
        }
        let mut known = prev_index;
        for entry in entries {
            if entry.index != known + 1 {
                return;
            }
            match self.entry(entry.index) {
                Some(ours) if ours.term == entry.term => {}
                Some(_) if entry.index <= self.commit => {
                    // A majority had it, and the leader does not: its files were lost, or are of another cluster. No
                    // answer: it must not count us.
                    tracing::error!(
                        target: "patroni.dcs.raft",
                        "entry {} is committed here, and the leader {peer:?} has another one in its place",
                        entry.index
                    );
                    return;
                }
                Some(_) => {
                    self.cut(entry.index);
                    self.append(entry);
                }
                None => self.append(entry),
            }
            known += 1;
        }
        self.say_next(peer, known + 1, false, true);
        // No further than what is known to be the leader's.
        self.set_commit(commit.min(known));
    }

    fn take_dump(&mut self, peer: &Peer, chunk: &Chunk) {
        if chunk.first {
            self.incoming_dump = Some(Vec::new());
        }
        let Some(incoming) = &mut self.incoming_dump else { return };
        incoming.extend(&*chunk.data);
        if incoming.len() > LARGEST {
            self.incoming_dump = None;
            return;
        }
        if !chunk.last {
            return;
        }
        let bytes = self.incoming_dump.take().unwrap_or_default();
        match Dump::decode(&bytes) {
            Ok(dump) if dump.last.index > self.commit => self.install(dump, bytes.into()),
            // Its last entry is committed, and so are all up to it here.
            Ok(dump) => return self.say_next(peer, dump.last.index + 1, true, true),
            Err(why) => {
                tracing::error!(target: "patroni.dcs.raft", "the dump of the leader {peer:?} cannot be read: {why}");
                return;
            }
        }
        self.say_next(peer, self.last_index() + 1, true, true);
    }

    fn install(&mut self, dump: Dump, bytes: Arc<[u8]>) {
        let later = match self.entry(dump.last.index) {
            Some(ours) if *ours == dump.last => self
                .position(dump.last.index + 1)
                .and_then(|at| self.log.get(at..))
                .unwrap_or_default()
                .to_vec(),
            _ => Vec::new(),
        };
        let lost: Vec<u64> = self.waiting.range(..=dump.last.index).map(|(index, _)| *index).collect();
        for (_, token) in
            lost.iter().filter_map(|index| self.waiting.remove(index)).flatten().collect::<Vec<_>>()
        {
            self.out.push(Effect::Fail(token, Reason::Unknown));
        }
        let members = dump.members.clone();
        let gone: Vec<_> = self.others.difference(&members).cloned().collect();
        let come: Vec<_> = members.difference(&self.others).cloned().collect();
        self.log = [vec![dump.prev.clone(), dump.last.clone()], later].concat();
        (self.commit, self.applied) = (dump.last.index, dump.last.index);
        self.dump = Some(Arc::clone(&bytes));
        self.out.push(Effect::Install(Box::new(dump), bytes, self.log.clone()));
        for (addresses, add) in [(gone, false), (come, true)] {
            for address in addresses {
                self.change_members(&Change { add, address }, false);
            }
        }
        let changes: Vec<_> = self.log.iter().skip(2).filter_map(Entry::change).collect();
        changes.iter().for_each(|change| {
            self.change_members(change, false);
        });
    }
}
