//! The cluster as the objects tell it, and who holds the lock as an observer sees it. Plain values: nothing here asks
//! anybody.

use std::time::{Duration, Instant};

use patroni_core::model::{
    Cluster, ClusterConfig, Failover, Leader, Member, Status, SyncState, TimelineHistory,
};
use pyfmt::{json, Value};

use super::wire::Object;

/// How the objects of one cluster are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The lock, status and failsafe: with Endpoints it is the one of the Service that clients use.
    pub leader: String,
    /// Configuration, history, initialize.
    pub config: String,
    /// A switchover.
    pub failover: String,
    /// Synchronous standbys.
    pub sync: String,
}

impl Names {
    /// Of a cluster, or of one of its Citus groups.
    pub fn of(scope: &str, group: Option<&str>, use_endpoints: bool) -> Names {
        let base = scope.trim_matches('/').replace('/', "-");
        let base = group.map_or(base.clone(), |group| format!("{base}-{group}"));
        Names {
            leader: if use_endpoints { base.clone() } else { format!("{base}-leader") },
            config: format!("{base}-config"),
            failover: format!("{base}-failover"),
            sync: format!("{base}-sync"),
        }
    }
}

/// The annotations that are the lock: another one of them is another state of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it.
    pub leader: Option<String>,
    /// Since when, by his clock.
    pub acquire_time: Option<String>,
    /// For how long after the last change.
    pub ttl: Option<String>,
    /// When he renewed it last, by his clock.
    pub renew_time: Option<String>,
    /// How often it has changed hands.
    pub transitions: Option<String>,
}

impl Record {
    /// What the leader object says; None: there is none.
    pub fn of(object: Option<&Object>) -> Record {
        let get = |name: &str| object.and_then(|o| o.annotation(name)).map(str::to_owned);
        Record {
            leader: get("leader"),
            acquire_time: get("acquireTime"),
            ttl: get("ttl"),
            renew_time: get("renewTime"),
            transitions: get("transitions"),
        }
    }

    /// Who holds it, unless nobody does.
    pub fn holder(&self) -> Option<&str> {
        self.leader.as_deref().filter(|name| !name.is_empty())
    }

    /// When it ends after the last change; `default` where it does not say so.
    pub fn ttl(&self, default: Duration) -> Duration {
        let seconds = self.ttl.as_deref().and_then(|text| text.trim().parse::<u64>().ok());
        seconds.filter(|seconds| *seconds > 0).map_or(default, Duration::from_secs)
    }

    /// From when on it is held by whom it is held by: what does not change while one holds it.
    pub fn term(&self) -> Term {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Term {
            transitions: text(&self.transitions),
            acquire_time: text(&self.acquire_time),
            holder: text(&self.leader),
        }
    }
}

/// One holding of the lock: from when it was taken until it is taken again or given up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Term {
    /// The number of it.
    pub transitions: String,
    /// When it began.
    pub acquire_time: String,
    /// Whose it is; empty: he has given it up.
    pub holder: String,
}

impl Term {
    /// As one text, for [`Leader::session`].
    pub fn text(&self) -> String {
        [&*self.transitions, &*self.acquire_time, &*self.holder].join("\n")
    }

    /// That text read.
    pub fn of_text(text: &str) -> Term {
        let mut fields = text.splitn(3, '\n').map(str::to_owned);
        let mut field = || fields.next().unwrap_or_default();
        Term { transitions: field(), acquire_time: field(), holder: field() }
    }

    /// The same, when its holder has given it up: nobody else does.
    pub fn given_up(&self) -> Term {
        Term { holder: String::new(), ..self.clone() }
    }

    /// The node that takes the lock now has this one: the next number, or the same for who held it last, since when he did.
    pub fn next(&self, name: &str, now: &str) -> Term {
        let since = |time: &str| if time.is_empty() { now } else { time }.to_owned();
        let number = self.transitions.trim().parse::<u64>().unwrap_or(0);
        let (number, acquire_time) = if *self == Term::default() {
            (0, now.to_owned())
        } else if self.holder == name {
            (number, since(&self.acquire_time))
        } else {
            (number.saturating_add(1), now.to_owned())
        };
        Term { transitions: number.to_string(), acquire_time, holder: name.to_owned() }
    }
}

/// Since when the lock is as it is, by our own clock: clocks of others are not asked.
#[derive(Debug, Default)]
pub struct Observer {
    seen: Option<(Record, Instant)>,
    /// The loop that waits for the end of this one was told of it.
    told: bool,
}

impl Observer {
    /// The leader object was as that, `at` which the answer was here. A change begins the time anew.
    pub fn saw(&mut self, record: &Record, at: Instant) {
        let known = self.seen.as_ref().map(|(known, _)| known);
        if known != Some(record) && (known.is_some() || *record != Record::default()) {
            self.seen = Some((record.clone(), at));
            self.told = false;
        }
    }

    /// The same, and who holds the lock now.
    pub fn holder_of(&mut self, record: &Record, ttl: Duration, now: Instant) -> Option<String> {
        self.saw(record, now);
        self.holder(ttl, now).map(str::to_owned)
    }

    /// Who holds the lock that was seen last, as of `now`; None also for one that has run out.
    pub fn holder(&self, ttl: Duration, now: Instant) -> Option<&str> {
        let (record, _) = self.seen.as_ref()?;
        record.holder().filter(|_| self.ends(ttl).is_none_or(|at| at >= now))
    }

    /// How long somebody has to wait who is to be told of its end: once for each state of the lock, so that nobody spins
    /// while nothing can be read.
    pub fn wait(&self, ttl: Duration, now: Instant) -> Option<Duration> {
        let ends = self.ends(ttl).filter(|_| !self.told)?;
        Some(ends.saturating_duration_since(now) + Duration::from_millis(1))
    }

    /// He has waited.
    pub fn told(&mut self) {
        self.told = true;
    }

    /// When that lock runs out unless it is renewed.
    pub fn ends(&self, ttl: Duration) -> Option<Instant> {
        let (record, since) = self.seen.as_ref()?;
        record.holder()?;
        since.checked_add(record.ttl(ttl))
    }
}

/// The cluster of these objects. `leader`: who holds the lock.
pub fn cluster(names: &Names, kinds: &[Object], pods: &[Object], leader: Option<&str>) -> Cluster {
    let find = |name: &str| kinds.iter().find(|object| object.name() == name);
    let members: Vec<Member> = pods.iter().map(member).collect();
    let config = find(&names.config);
    let lock = find(&names.leader);
    let texts = |object: &Object| -> Value {
        let annotations = object.metadata.annotations.iter().flatten();
        annotations.map(|(name, text)| (name.as_str(), Value::from(text.as_str()))).collect()
    };
    Cluster {
        initialize: config.and_then(|c| c.annotation("initialize")).map(str::to_owned),
        config: config.map(|c| {
            let there = c.annotation("config");
            let modified = if there.is_some() { c.version() } else { "0" };
            let text = there.filter(|text| !text.is_empty()).unwrap_or("{}");
            ClusterConfig::from_node(c.version(), text, modified)
        }),
        leader: lock.map(|object| {
            let name = leader.unwrap_or_default();
            let member = members.iter().find(|m| !name.is_empty() && m.name == name).cloned();
            Leader {
                version: object.version().to_owned(),
                session: Some(Record::of(Some(object)).term().text()),
                member: member.unwrap_or_else(|| Member::remote(name, Value::map())),
            }
        }),
        status: lock.map(|object| Status::from_value(&texts(object))).unwrap_or_default(),
        failover: find(&names.failover)
            .map(|object| Failover::from_value(object.version(), &texts(object)))
            .filter(|failover| !failover.is_empty()),
        sync: find(&names.sync)
            .map(|object| SyncState::from_value(Some(object.version().to_owned()), &texts(object)))
            .unwrap_or_default(),
        history: config.map(|c| {
            let text = c.annotation("history").filter(|text| !text.is_empty()).unwrap_or("[]");
            TimelineHistory::from_node(c.version(), text)
        }),
        failsafe: lock
            .and_then(|object| object.annotation("failsafe"))
            .and_then(|text| json::loads(text).ok())
            .filter(|value| !value.is_null()),
        members,
        setbacks: 0,
    }
}

/// Each Pod is a member, also one that says nothing.
fn member(pod: &Object) -> Member {
    Member::from_node(pod.version(), pod.name(), None, pod.annotation("status").unwrap_or_default())
}

/// Now, as Python's `datetime.now(tzutc).isoformat()` has it.
pub fn iso_time(now: std::time::SystemTime) -> String {
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    let at = pyfmt::datetime::DateTime::from_unix(seconds, since.subsec_micros(), Some(0));
    at.map(|at| at.isoformat()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn object(name: &str, version: &str, annotations: &str) -> Object {
        let text = format!(
            r#"{{"metadata":{{"name":"{name}","resourceVersion":"{version}","annotations":{annotations}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn record(leader: &str, renewed: &str) -> Record {
        let leader = Some(leader.to_owned()).filter(|l| !l.is_empty());
        Record { leader, renew_time: Some(renewed.into()), ttl: Some("20".into()), ..Record::default() }
    }

    #[test]
    fn names() {
        let n = Names::of("demo", None, true);
        assert_eq!((n.leader.as_str(), n.config.as_str()), ("demo", "demo-config"));
        let n = Names::of("demo", Some("2"), false);
        assert_eq!(
            (n.leader.as_str(), n.failover.as_str(), n.sync.as_str()),
            ("demo-2-leader", "demo-2-failover", "demo-2-sync")
        );
        assert_eq!(Names::of("a/b", None, true).sync, "a-b-sync");
    }

    #[test]
    fn a_lock_ends_by_the_observers_clock() {
        let began = Instant::now();
        let mut observer = Observer::default();
        let at = |s: u32| began + S * s;
        assert_eq!((observer.holder(30 * S, began), observer.ends(30 * S)), (None, None));
        observer.saw(&record("a", "1"), at(0));
        observer.saw(&record("a", "1"), at(15));
        assert_eq!(observer.holder(30 * S, at(20)), Some("a"));
        assert_eq!(observer.holder(30 * S, at(21)), None);
        // Whatever changes begins the time anew, also one that had run out.
        observer.saw(&record("a", "2"), at(30));
        assert_eq!(observer.holder(30 * S, at(50)), Some("a"));
        assert_eq!(observer.ends(30 * S), Some(at(50)));
        // Who waits for the end of it is told once, also if he comes late.
        assert_eq!(observer.wait(30 * S, at(49)), Some(S + Duration::from_millis(1)));
        assert_eq!(observer.wait(30 * S, at(70)), Some(Duration::from_millis(1)));
        observer.told();
        assert_eq!(observer.wait(30 * S, at(70)), None);
        // Given up: at once.
        observer.saw(&record("", "2"), at(31));
        assert_eq!((observer.holder(30 * S, at(31)), observer.ends(30 * S)), (None, None));
        // The holder's ttl counts, ours where it has none.
        let without = Record { ttl: None, ..record("b", "3") };
        observer.saw(&without, at(40));
        assert_eq!((observer.holder(30 * S, at(70)), observer.holder(30 * S, at(71))), (Some("b"), None));
        for (text, ttl) in [("0", 30), ("x", 30), ("-1", 30), ("7", 7)] {
            assert_eq!(Record { ttl: Some(text.into()), ..Record::default() }.ttl(30 * S), ttl * S, "{text}");
        }
        // The object was deleted, and is there again.
        observer.saw(&Record::default(), at(72));
        assert_eq!(observer.holder(30 * S, at(72)), None);
        observer.saw(&without, at(90));
        assert_eq!(observer.holder(30 * S, at(120)), Some("b"));
    }

    #[test]
    fn terms() {
        let term = |number: &str, since: &str, holder: &str| Term {
            transitions: number.into(),
            acquire_time: since.into(),
            holder: holder.into(),
        };
        for (before, want) in [
            (Term::default(), term("0", "now", "a")),
            (term("3", "then", "b c"), term("4", "now", "a")),
            // Given up by the node that held it.
            (term("3", "then", ""), term("4", "now", "a")),
            (term("3", "then", "a"), term("3", "then", "a")),
            (term("", "", "a"), term("0", "now", "a")),
            (term("x", "then", "b"), term("1", "now", "a")),
        ] {
            assert_eq!(before.next("a", "now"), want, "{before:?}");
            assert_eq!(Term::of_text(&before.text()), before);
        }
    }

    #[test]
    fn a_cluster() {
        let names = Names::of("demo", None, true);
        let kinds = [
            object(
                "demo",
                "12",
                r#"{"leader":"m0","acquireTime":"t","ttl":"20","renewTime":"u","transitions":"1","optime":"5",
                    "slots":"{\"m1\":4}","retain_slots":"[\"m0\", \"m1\"]","failsafe":"{\"m0\":\"u\"}"}"#,
            ),
            object(
                "demo-config",
                "7",
                r#"{"initialize":"9","config":"{\"ttl\":20}","history":"[[1,2,\"r\"]]"}"#,
            ),
            object("demo-failover", "8", r#"{"leader":"m0","member":"m1"}"#),
            object("demo-sync", "9", r#"{"leader":"m0","quorum":"1","sync_standby":"m1"}"#),
            object("other", "10", "null"),
        ];
        let pods = [object("m0", "3", r#"{"status":"{\"state\":\"running\"}"}"#), object("m1", "4", "null")];
        let c = cluster(&names, &kinds, &pods, Some("m0"));
        assert_eq!((c.initialize.as_deref(), c.leader_name(), c.timeline()), (Some("9"), Some("m0"), 2));
        let leader = c.leader.clone().unwrap();
        assert_eq!((leader.version.as_str(), leader.session.as_deref()), ("12", Some("1\nt\nm0")));
        assert_eq!(leader.member.state(), "running");
        let config = c.config.clone().unwrap();
        assert_eq!((config.version.as_str(), config.modify_version.as_str()), ("7", "7"));
        assert_eq!((c.status.last_lsn.bytes(), c.status.retain_slots.len()), (5, 2));
        assert_eq!(c.status.slots.as_ref().map(|s| s["m1"].bytes()), Some(4));
        assert_eq!((c.sync.version.as_deref(), c.sync.quorum, c.sync.voters().len()), (Some("9"), 1, 1));
        assert_eq!(c.failover.as_ref().and_then(|f| f.candidate.as_deref()), Some("m1"));
        assert_eq!(c.members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["m0", "m1"]);
        assert!(c.failsafe.is_some());

        // Nobody holds the lock, whatever is written there.
        let c = cluster(&names, &kinds, &pods, None);
        assert!(c.is_unlocked() && c.leader.is_some());
        let c = cluster(&names, &[], &[], None);
        assert!(c.is_empty());
        // Emptied objects.
        let kinds = [
            object("demo-config", "7", "null"),
            object("demo-failover", "8", "null"),
            object("demo-sync", "9", "null"),
        ];
        let c = cluster(&names, &kinds, &[], None);
        assert_eq!((c.initialize.as_deref(), c.failover.as_ref(), c.timeline()), (None, None, 1));
        assert_eq!(c.config.map(|c| (c.version, c.modify_version)), Some(("7".into(), "0".into())));
        assert_eq!((c.sync.version.as_deref(), c.sync.is_empty()), (Some("9"), true));
    }

    #[test]
    fn times() {
        let at = std::time::UNIX_EPOCH + Duration::from_micros(1_795_834_829_446_412);
        assert_eq!(iso_time(at), "2026-11-28T03:00:29.446412+00:00");
    }
}
