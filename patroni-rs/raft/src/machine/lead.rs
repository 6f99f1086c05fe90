//! What a leader does.

use super::*;
use crate::message::{Body, Chunk};

impl Machine {
    pub(super) fn begin_progress(&mut self, peer: &Peer) {
        let next = self.last_index() + 1;
        let answered = self.progress.get(peer).map_or(self.now, |progress| progress.answered);
        self.progress.insert(peer.clone(), Progress { next, matched: 0, answered, dumped: None });
    }

    /// A tick of a leader.
    pub(super) fn lead(&mut self) {
        let heard = self.others.iter().filter(|other| {
            let progress = self.progress.get(&Peer::Member(Arc::clone(other)));
            progress.is_some_and(|progress| self.now.since(progress.answered) < FALLBACK)
        });
        if !self.is_majority(heard.count() + 1) {
            self.step_down();
            self.lose_leader();
            return;
        }
        if self.now >= self.heartbeat {
            self.send_all();
        }
    }

    pub(super) fn send_all(&mut self) {
        self.heartbeat = self.now + HEARTBEAT;
        let peers: Vec<Peer> = self.progress.keys().cloned().collect();
        peers.iter().for_each(|peer| self.send_entries(peer));
    }

    /// Everything that the peer lacks, or a sign of life.
    pub(super) fn send_entries(&mut self, peer: &Peer) {
        if !self.connected.contains_key(peer) {
            return;
        }
        let mut sent = false;
        loop {
            let Some(next) = self.progress.get(peer).map(|progress| progress.next) else { return };
            if sent && next > self.last_index() {
                return;
            }
            sent = true;
            if next <= self.first_index() {
                if !self.send_dump(peer) {
                    return;
                }
                continue;
            }
            let Some(prev) = self.entry(next - 1) else { return };
            let (prev_index, prev_term) = (prev.index, prev.term);
            let entries = self.batch(next);
            let after = entries.last().map_or(next, |entry| entry.index + 1);
            if let Some(progress) = self.progress.get_mut(peer) {
                progress.next = after;
            }
            let body = Body::Entries { prev_index, prev_term, entries };
            self.send(peer, Message::Append { term: self.term, commit: self.commit, body });
        }
    }

    fn batch(&self, next: u64) -> Vec<Entry> {
        let mut size = 0;
        let from = self.position(next).and_then(|at| self.log.get(at..)).unwrap_or_default();
        let fits = |entry: &&Entry| {
            let fits = size < BATCH;
            size += entry.command.len();
            fits
        };
        from.iter().take_while(fits).cloned().collect()
    }

    /// The whole dump, in parts; an empty one ends it. False: there is none, or it is on its way (what else was on its way
    /// is answered in the meantime, too).
    fn send_dump(&mut self, peer: &Peer) -> bool {
        let (term, commit) = (self.term, self.commit);
        let append = |chunk| Message::Append { term, commit, body: Body::Dump(chunk) };
        let under_way = self.progress.get(peer).and_then(|progress| progress.dumped);
        let under_way = under_way.is_some_and(|at| self.now.since(at) < DUMP_AGAIN);
        let Some(dump) = self.dump.clone().filter(|_| !under_way) else {
            self.send(peer, append(None));
            return false;
        };
        for (number, data) in dump.chunks(BATCH).enumerate() {
            let chunk = Chunk { data: data.into(), first: number == 0, last: false };
            self.send(peer, append(Some(chunk)));
        }
        self.send(peer, append(Some(Chunk { data: [].as_slice().into(), first: false, last: true })));
        let next = self.first_index() + 2;
        if let Some(progress) = self.progress.get_mut(peer) {
            progress.next = next;
            progress.dumped = Some(self.now);
        }
        true
    }

    /// A peer tells what it has.
    pub(super) fn answered(&mut self, peer: &Peer, next: u64, reset: bool, success: bool) {
        let last = self.last_index();
        if self.role != Role::Leader {
            return;
        }
        let now = self.now;
        let Some(progress) = self.progress.get_mut(peer) else { return };
        progress.answered = now;
        if reset {
            // A peer may have more than we do, of a term that came to nothing.
            progress.next = next.clamp(1, last + 1);
        }
        if success && next > progress.matched + 1 && next <= last + 1 {
            progress.matched = next - 1;
            progress.dumped = None;
            progress.next = progress.next.max(next);
        }
        let behind = progress.next <= last;
        self.count_matches();
        if behind && self.role == Role::Leader {
            self.send_entries(peer);
        }
    }

    /// Commits what a majority has, if it is of our term; what was before it is committed with it.
    pub(super) fn count_matches(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        let mut matched: Vec<u64> = self
            .others
            .iter()
            .map(|other| self.progress.get(&Peer::Member(Arc::clone(other))).map_or(0, |p| p.matched))
            .collect();
        matched.push(self.last_index());
        matched.sort_unstable_by(|a, b| b.cmp(a));
        // So many have at least this one.
        let Some(index) = matched.get(matched.len() / 2).copied() else { return };
        if index > self.commit && self.entry(index).is_some_and(|entry| entry.term == self.term) {
            self.set_commit(index);
            self.leader_commit = Some(self.commit);
            // The others are to know at once: somebody waits there, too.
            self.send_all();
        }
    }
}
