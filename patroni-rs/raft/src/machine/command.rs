//! Commands: those of this process and those of others.

use super::*;
use crate::entry;

impl Machine {
    pub(super) fn leader_peer(&self) -> Option<Peer> {
        self.leader
            .as_ref()
            .filter(|leader| self.own.as_ref() != Some(*leader))
            .map(|l| Peer::Member(Arc::clone(l)))
    }

    pub(super) fn command(&mut self, command: Arc<[u8]>, origin: Origin) {
        if self.role == Role::Leader {
            return match self.refusal(&command) {
                Some(reason) => self.reject(origin, reason),
                None => self.lead_command(command, origin),
            };
        }
        match (self.leader_peer().filter(|leader| self.connected.contains_key(leader)), origin) {
            (Some(leader), Origin::Here(token)) => {
                self.asked.insert(token);
                self.send(&leader, Message::Command { command, request: Some(token) });
            }
            (None, Origin::Here(token)) => self.out.push(Effect::Fail(token, Reason::MissingLeader)),
            (_, origin) => self.reject(origin, Reason::NotLeader),
        }
    }

    /// What others cannot carry out does not come into the log: all would stop at it. The members change one at a time.
    fn refusal(&mut self, command: &[u8]) -> Option<Reason> {
        if !crate::kv::is_known(command) {
            return Some(Reason::Denied);
        }
        let change = entry::change(command)?;
        let busy = self.is_changing();
        let own = self.own.as_ref() == Some(&change.address);
        let done = self.others.contains(&change.address) == change.add;
        (busy || own || done).then_some(Reason::Denied)
    }

    /// A leader that takes no change of the members yet.
    pub fn is_changing(&self) -> bool {
        self.applied < self.no_op || self.change.is_some_and(|index| self.applied < index)
    }

    fn lead_command(&mut self, command: Arc<[u8]>, origin: Origin) {
        let entry = Entry { command, index: self.last_index() + 1, term: self.term };
        let (index, term) = (entry.index, entry.term);
        if entry.change().is_some() {
            self.change = Some(index);
        }
        self.append(entry);
        match origin {
            Origin::Here(token) => self.waiting.entry(index).or_default().push((term, token)),
            Origin::There(peer, Some(request)) => {
                self.send(&peer, Message::Response { request, result: Ok((index, term)) });
            }
            Origin::There(_, None) => {}
        }
        self.send_all();
        self.count_matches();
    }

    fn reject(&mut self, origin: Origin, reason: Reason) {
        match origin {
            Origin::Here(token) => self.out.push(Effect::Fail(token, reason)),
            Origin::There(peer, Some(request)) => {
                self.send(&peer, Message::Response { request, result: Err(reason) });
            }
            Origin::There(_, None) => {}
        }
    }

    /// The leader's answer to a command of ours.
    pub(super) fn asked_leader_says(&mut self, token: Token, result: Result<(u64, u64), Reason>) {
        if !self.asked.remove(&token) {
            return;
        }
        match result {
            Ok((index, term)) if index > self.applied => {
                self.waiting.entry(index).or_default().push((term, token));
            }
            Ok(_) => self.out.push(Effect::Fail(token, Reason::Unknown)),
            Err(reason) => self.out.push(Effect::Fail(token, reason)),
        }
    }

    /// Nobody will answer what was asked.
    pub(super) fn forget_asked(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        self.out.extend(asked.into_iter().map(|token| Effect::Fail(token, Reason::LeaderChanged)));
    }

    /// Asks a member to be elected in our place.
    pub fn transfer(&mut self, to: Option<&str>, now: Mono) -> Result<Vec<Effect>, Reason> {
        self.now = now;
        if self.role != Role::Leader {
            return Err(Reason::NotLeader);
        }
        let last = self.last_index();
        let whole = |peer: &Peer| self.progress.get(peer).is_some_and(|progress| progress.matched == last);
        let name = self
            .others
            .iter()
            .filter(|other| to.is_none_or(|to| to == &***other) && self.is_connected(other))
            .map(|other| Peer::Member(Arc::clone(other)))
            .find(whole);
        let peer = name.ok_or(Reason::Denied)?;
        self.send(&peer, Message::TimeoutNow { term: self.term });
        Ok(std::mem::take(&mut self.out))
    }
}
