//! How long the phases of a failover took that ended with this node's promotion. Measured only: nothing is decided by it.

use std::time::Duration;

use crate::ha::{ask, Answer, Ask, DcsRequest, Job, JobResult, Mono, NodeRequest, Request};

/// The phases of one failover or switchover, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phases {
    /// From when this node first saw nobody hold the leader lock until it had it.
    pub race: Duration,
    /// From then until PostgreSQL was to be promoted: its watchdog, the synchronous standbys.
    pub preparation: Duration,
    /// From then until PostgreSQL was a primary; a pre_promote script is a part of it.
    pub promotion: Duration,
}

/// What has been seen of a failover so far, and the last one that came to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Takeover {
    unlocked: Option<Mono>,
    taken: Option<Mono>,
    begun: Option<Mono>,
    last: Option<Phases>,
}

impl Takeover {
    /// A request of the HA loop was answered, at `now`. `name`: of this node.
    pub fn answered(&mut self, request: &Request, answer: &Answer, name: &str, now: Mono) {
        match request {
            Request::Dcs(DcsRequest::LoadCluster(asked)) => {
                let Some(Ok(cluster)) = asked.heard(answer) else { return };
                match cluster.leader_name() {
                    None => self.unlocked = self.unlocked.or(Some(now)),
                    Some(leader) if leader == name => {}
                    Some(_) => self.forget(),
                }
            }
            Request::Dcs(DcsRequest::AcquireLeader(asked)) => {
                if let Some(Ok(true)) = asked.heard(answer) {
                    self.taken = Some(now);
                }
            }
            Request::Node(NodeRequest::StartJob(asked @ ask::StartJob(Job::Promote))) => {
                let starts = matches!(asked.heard(answer), Some(Ok(())));
                self.begun = Some(now).filter(|_| starts && self.taken.is_some());
            }
            _ => {}
        }
    }

    /// Jobs have ended, as of `now`.
    pub fn ended(&mut self, jobs: &[(Job, JobResult)], now: Mono) {
        let Some((_, result)) = jobs.iter().find(|(job, _)| *job == Job::Promote) else { return };
        if let (JobResult::Done, Some(unlocked), Some(taken), Some(begun)) =
            (result, self.unlocked, self.taken, self.begun)
        {
            let (race, preparation) = (taken.since(unlocked), begun.since(taken));
            self.last = Some(Phases { race, preparation, promotion: now.since(begun) });
        }
        self.forget();
    }

    /// The last one that this node has come out of as the primary, since the daemon runs.
    pub fn last(&self) -> Option<Phases> {
        self.last
    }

    fn forget(&mut self) {
        (self.unlocked, self.taken, self.begun) = (None, None, None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Cluster, Leader, Member};

    fn read(leader: Option<&str>) -> (Request, Answer) {
        let leader = leader.map(|name| {
            let member = Member { name: name.into(), ..Member::default() };
            Leader { member, ..Leader::default() }
        });
        let cluster = Cluster { leader, ..Cluster::default() };
        (ask::LoadCluster.into(), ask::LoadCluster.reply(Ok(Arc::new(cluster))))
    }

    fn acquired(yes: bool) -> (Request, Answer) {
        let asked = ask::AcquireLeader;
        (asked.clone().into(), asked.reply(Ok(yes)))
    }

    fn begun(result: Result<(), String>) -> (Request, Answer) {
        let asked = ask::StartJob(Job::Promote);
        (asked.clone().into(), asked.reply(result))
    }

    fn last(steps: &[(u64, (Request, Answer))], end: (u64, JobResult)) -> Option<Phases> {
        let mut takeover = Takeover::default();
        for (at, (request, answer)) in steps {
            takeover.answered(request, answer, "n1", Mono::seconds(*at));
        }
        takeover.ended(&[(Job::Promote, end.1)], Mono::seconds(end.0));
        takeover.last()
    }

    #[test]
    fn phases() {
        let s = Duration::from_secs;
        let steps = vec![
            (1, read(Some("n0"))),
            (5, read(None)),
            (8, read(None)),
            (9, acquired(false)),
            (10, acquired(true)),
            (11, begun(Err("reinitialize".into()))),
            (13, begun(Ok(()))),
        ];
        let phases = Phases { race: s(5), preparation: s(3), promotion: s(4) };
        assert_eq!(last(&steps, (17, JobResult::Done)), Some(phases));
        assert_eq!(last(&steps, (17, JobResult::NotPromoted)), None);
        // Another one has led since.
        let (mut lost, rest) = (steps[..4].to_vec(), &steps[4..]);
        lost.push((9, read(Some("n2"))));
        lost.extend(rest.to_vec());
        assert_eq!(last(&lost, (17, JobResult::Done)), None);
        // A primary that has had the lock for long is not promoted by a failover.
        assert_eq!(last(&steps[6..], (17, JobResult::Done)), None);
    }

    #[test]
    fn the_last_one_stays_until_the_next_has_come_to_its_end() {
        let mut takeover = Takeover::default();
        let mut at = 0;
        let mut go = |takeover: &mut Takeover, steps: &[(Request, Answer)]| {
            for (request, answer) in steps {
                at += 1;
                takeover.answered(request, answer, "n1", Mono::seconds(at));
            }
            Mono::seconds(at + 2)
        };
        let whole = [read(None), acquired(true), begun(Ok(()))];
        let end = go(&mut takeover, &whole);
        takeover.ended(&[(Job::Promote, JobResult::Done)], end);
        let first = takeover.last();
        assert!(first.is_some());
        let end = go(&mut takeover, &whole[..2]);
        takeover.ended(&[], end);
        assert_eq!(takeover.last(), first);
    }
}
