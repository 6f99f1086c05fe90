//! Is anybody fitter, by what the other members have told (surface-ha-pg 5.2-09 to 5.2-14).

use std::collections::HashSet;

use super::super::held_back::{HeldBack, Reason};
use super::super::script::{Level, LogLine};
use super::super::types::{LeadCriteria, PeerStatus};
use super::names;

/// Where votes count.
pub(super) struct Election<'a> {
    /// Who has one, in lower case.
    pub voters: &'a HashSet<String>,
    /// How many votes of others are needed.
    pub quorum: i64,
    /// `/sync` names this node as its leader: while nobody is ahead it needs no votes.
    pub names_us: bool,
}

/// What a node wants the lock by.
pub(super) struct Claim<'a> {
    /// Its name.
    pub name: &'a str,
    /// `failover_priority`.
    pub priority: i64,
    /// Its position, and who must not be ahead of it.
    pub bar: &'a LeadCriteria,
    /// The leader that was: its priority does not count.
    pub former: Option<&'a str>,
    /// The votes that it needs.
    pub election: Option<Election<'a>>,
}

/// What comes of it.
#[derive(Debug, PartialEq)]
pub(super) struct Count<'p> {
    /// Why it does not get the lock; None: it does.
    pub lost: Option<HeldBack>,
    /// Who has more WAL, as far as they were looked at.
    pub ahead: Vec<&'p PeerStatus>,
    /// For the log.
    pub lines: Vec<LogLine>,
}

impl Count<'_> {
    fn say(&mut self, level: Level, text: String) {
        self.lines.push(LogLine { level, text });
    }

    fn log(&mut self, text: String) {
        self.say(Level::Info, text);
    }

    fn loses(mut self, reason: Reason, to: Option<String>, facts: &[(&'static str, pyfmt::Value)]) -> Self {
        self.lost = Some(HeldBack { reason, waits_for: to, facts: facts.to_vec() });
        self
    }
}

impl Claim<'_> {
    /// The peers' answers, in their order.
    pub fn judge<'p>(&self, peers: &'p [PeerStatus]) -> Count<'p> {
        let mut count = Count { lost: None, ahead: Vec::new(), lines: Vec::new() };
        let position = self.bar.position;
        let mine = self.priority;
        let votes_for_us = |name: &str| {
            self.election.as_ref().is_some_and(|election| election.voters.contains(&name.to_lowercase()))
        };
        let mut silent: Vec<&str> = Vec::new();
        // Its own vote is not one of others; a node without one needs one more of them.
        let mut votes: i64 = if votes_for_us(self.name) { 0 } else { -1 };
        for peer in peers {
            let PeerStatus { name, .. } = peer;
            if peer.limitation().is_some() {
                silent.push(name);
                continue;
            }
            if peer.in_recovery == Some(false) {
                count.say(Level::Warning, format!("Primary ({name}) is still alive"));
                return count.loses(Reason::PrimaryAlive, Some(name.clone()), &[]);
            }
            if self.bar.is_ahead(peer) {
                count.ahead.push(peer);
                count.log(match self.bar.later_timeline(peer) {
                    Some(_) => format!(
                        "Timeline {} of {name} is ahead of my timeline {}",
                        peer.timeline, self.bar.timeline
                    ),
                    None => format!("Wal position of {name} is ahead of my wal position"),
                });
                if !self.bar.tolerates(peer) {
                    let facts = [("position", position.into()), ("peer_position", peer.wal_position.into())];
                    return count.loses(Reason::PeerAhead, Some(name.clone()), &facts);
                }
                count.log("Ignoring the former leader being ahead of us".into());
                continue;
            }
            if !peer.wal_position.is_known() {
                continue;
            }
            let votes_for_me = votes_for_us(name);
            let theirs = peer.tags.failover_priority();
            let mut outranked = position == peer.wal_position && mine < theirs;
            if outranked && self.former == Some(name) {
                count.log(format!(
                    "Ignoring former leader {name} having priority {theirs} higher than this nodes {mine} priority"
                ));
                outranked = false;
            }
            if outranked && (self.election.is_none() || votes_for_me) {
                count.log(format!(
                    "{name} has equally tolerable WAL position and priority {theirs}, while this node has priority \
                     {mine}"
                ));
                let facts = [("priority", mine.into()), ("peer_priority", theirs.into())];
                return count.loses(Reason::PeerPreferred, Some(name.clone()), &facts);
            }
            if votes_for_me {
                count.log(format!("Got quorum vote from {name}"));
                votes += 1;
            }
        }
        let Some(Election { quorum, names_us, .. }) = self.election else { return count };
        if votes >= quorum || (names_us && count.ahead.is_empty()) {
            return count;
        }
        let silent = names(silent.into_iter());
        count.loses(Reason::NoQuorum, silent, &[("votes", votes.into()), ("quorum", quorum.into())])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Lsn;
    use crate::tags::Tags;
    use pyfmt::json;

    fn peer(name: &str, wal_position: u64, priority: i64) -> PeerStatus {
        let tags = Tags::from_value(&json::loads(&format!(r#"{{"failover_priority":{priority}}}"#)).unwrap());
        PeerStatus {
            reachable: true,
            in_recovery: Some(true),
            wal_position: Lsn::new(wal_position),
            timeline: 1,
            tags,
            ..PeerStatus::unreachable(name)
        }
    }

    fn bar() -> LeadCriteria {
        LeadCriteria { position: Lsn::new(1000), tolerated: None, least_timeline: 0, timeline: 0 }
    }

    /// Why a race without votes is lost, and to whom.
    #[test]
    fn one_answer_may_lose_it() {
        let primary = PeerStatus { in_recovery: Some(false), ..peer("b", 1, 1) };
        for (peers, lost) in [
            (vec![], None),
            (vec![peer("b", 1000, 1), peer("c", 999, 9)], None),
            (vec![PeerStatus::unreachable("b")], None),
            (vec![peer("b", 0, 9)], None),
            (vec![peer("b", 900, 1), peer("c", 1001, 1)], Some((Reason::PeerAhead, "c"))),
            (vec![peer("b", 1000, 2)], Some((Reason::PeerPreferred, "b"))),
            (vec![primary, peer("c", 1001, 1)], Some((Reason::PrimaryAlive, "b"))),
        ] {
            let claim = Claim { name: "a", priority: 1, bar: &bar(), former: None, election: None };
            let count = claim.judge(&peers);
            let found = count.lost.as_ref().map(|lost| (lost.reason, lost.waits_for.as_deref().unwrap()));
            assert_eq!(found, lost, "{peers:?}");
        }
        // The leader that was is preferred to nobody.
        let claim = Claim { name: "a", priority: 1, bar: &bar(), former: Some("b"), election: None };
        assert_eq!(claim.judge(&[peer("b", 1000, 2)]).lost, None);
    }

    /// Votes: of so many voters with so much WAL; a node outside of them needs one more.
    #[test]
    fn votes_are_counted() {
        for (name, voters, quorum, names_us, peers, wins) in [
            ("a", &["a", "b", "c"][..], 1, false, vec![peer("b", 1000, 1)], true),
            ("a", &["a", "b", "c"][..], 1, false, vec![PeerStatus::unreachable("b")], false),
            ("a", &["a", "b", "c"][..], 2, false, vec![peer("b", 1000, 1)], false),
            ("a", &["a", "b", "c"][..], 2, false, vec![peer("b", 1000, 1), peer("C", 7, 1)], true),
            ("a", &["b", "c"][..], 1, false, vec![peer("b", 1000, 1)], false),
            ("a", &["b", "c"][..], 1, false, vec![peer("b", 1000, 1), peer("c", 7, 1)], true),
            // Who is preferred and has no vote does not count.
            ("a", &["a", "b"][..], 1, false, vec![peer("x", 1000, 9), peer("b", 7, 1)], true),
            // The leader in `/sync` needs none, while nobody is ahead.
            ("a", &["b", "c"][..], 1, true, vec![PeerStatus::unreachable("b")], true),
            ("a", &["b", "c"][..], 1, true, vec![peer("b", 1001, 1)], false),
        ] {
            let voters: HashSet<String> = voters.iter().map(|v| (*v).to_owned()).collect();
            let election = Some(Election { voters: &voters, quorum, names_us });
            let claim = Claim { name, priority: 1, bar: &bar(), former: None, election };
            let count = claim.judge(&peers);
            assert_eq!(count.lost.is_none(), wins, "{voters:?} {quorum} {peers:?}");
        }
    }

    /// Ahead by the leave of `/sync`: not lost, but a node that is in `/sync` as the leader needs votes then.
    #[test]
    fn a_tolerated_rival_is_remembered() {
        let bar = LeadCriteria { tolerated: Some("b".into()), ..bar() };
        let voters: HashSet<String> = ["c".to_owned()].into();
        let election = |names_us| Some(Election { voters: &voters, quorum: 1, names_us });
        let peers = [peer("b", 2000, 1)];
        for (election, wins) in [(None, true), (election(true), false)] {
            let count = Claim { name: "a", priority: 1, bar: &bar, former: None, election }.judge(&peers);
            assert_eq!(count.lost.is_none(), wins);
            assert_eq!(count.ahead.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["b"]);
        }
    }
}
