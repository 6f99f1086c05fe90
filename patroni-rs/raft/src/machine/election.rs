//! Elections.

use super::*;

impl Machine {
    pub(super) fn put_off_election(&mut self) {
        let (least, most) = ELECTION;
        let spread = u64::try_from((most - least).as_millis()).unwrap_or(1).max(1);
        self.election = self.now + least + Duration::from_millis(self.random() % spread);
    }

    pub(super) fn set_term(&mut self, term: u64, voted: Option<Arc<str>>) {
        if self.term != term || self.voted != voted {
            self.term = term;
            self.voted.clone_from(&voted);
            self.out.push(Effect::Vote(term, voted));
        }
    }

    pub(super) fn step_down(&mut self) {
        if self.role == Role::Leader {
            self.led_until = Some(self.now);
            self.progress.clear();
            self.put_off_election();
        }
        self.role = Role::Follower;
    }

    /// The time is over in which a leader should have been heard. Who cannot win does not stand: a term that is higher
    /// than everybody else's only makes the others elect anew.
    pub(super) fn stand(&mut self) {
        self.put_off_election();
        let Some(own) = self.own.clone() else { return };
        let reached = self.others.iter().filter(|other| self.is_connected(other)).count();
        if !self.is_majority(reached + 1) {
            self.lose_leader();
            return;
        }
        self.transfer = false;
        self.lose_leader();
        self.role = Role::Candidate;
        self.set_term(self.term + 1, Some(Arc::clone(&own)));
        self.votes = HashSet::from([own]);
        for other in self.others.clone() {
            self.ask_for_vote(&Peer::Member(other));
        }
        self.count_votes();
    }

    pub(super) fn ask_for_vote(&mut self, peer: &Peer) {
        let (last_index, last_term) = (self.last_index(), self.last_term());
        self.send(peer, Message::RequestVote { term: self.term, last_index, last_term });
    }

    pub(super) fn asked_for_vote(&mut self, name: &Arc<str>, term: u64, last_index: u64, last_term: u64) {
        if self.own.is_none() {
            return;
        }
        if term > self.term {
            self.step_down();
            self.lose_leader();
            self.set_term(term, None);
        }
        let complete = (last_term, last_index) >= (self.last_term(), self.last_index());
        let free = self.voted.as_ref().is_none_or(|voted| voted == name);
        if term < self.term || !complete || !free || self.role == Role::Leader {
            return;
        }
        self.set_term(term, Some(Arc::clone(name)));
        self.put_off_election();
        self.send(&Peer::Member(Arc::clone(name)), Message::Vote { term });
    }

    pub(super) fn got_vote(&mut self, name: &Arc<str>, term: u64) {
        if self.role == Role::Candidate && term == self.term && self.others.contains(name) {
            self.votes.insert(Arc::clone(name));
            self.count_votes();
        }
    }

    fn count_votes(&mut self) {
        if self.is_majority(self.votes.len()) {
            self.win();
        }
    }

    fn win(&mut self) {
        self.role = Role::Leader;
        self.leader.clone_from(&self.own);
        self.leader_commit = Some(self.commit);
        self.change = None;
        self.progress.clear();
        let peers: Vec<(Peer, Mono)> =
            self.connected.iter().map(|(peer, since)| (peer.clone(), *since)).collect();
        for (peer, since) in peers {
            // An answer does not tell its term. One to what we sent as leader the last time may still be on its way,
            // and tell of entries that are others now; behind a vote for us there is none.
            let member = match &peer {
                Peer::Member(name) => Some(name),
                Peer::Reader(_) => None,
            };
            let stale = member.is_some_and(|name| !self.votes.contains(name));
            if stale && self.led_until.is_some_and(|until| since <= until) {
                self.out.push(Effect::Close(peer));
            }
        }
        for other in self.others.clone() {
            self.begin_progress(&Peer::Member(other));
        }
        let readers: Vec<_> =
            self.connected.keys().filter(|p| matches!(p, Peer::Reader(_))).cloned().collect();
        readers.iter().for_each(|reader| self.begin_progress(reader));
        // Entries of earlier terms are committed with the first one of ours.
        let entry = Entry { command: crate::entry::no_op(), index: self.last_index() + 1, term: self.term };
        self.no_op = entry.index;
        self.append(entry);
        self.send_all();
        self.count_matches();
    }

    /// Nobody leads, as far as we know.
    pub(super) fn lose_leader(&mut self) {
        self.leader = None;
        self.forget_asked();
    }
}
