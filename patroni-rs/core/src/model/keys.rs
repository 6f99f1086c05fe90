//! The other keys of a cluster (surface-dcs 2, 4).

use indexmap::IndexMap;
use jiff::{civil::DateTime, fmt::temporal::Pieces, Timestamp};
use pyfmt::{json, Value};

use super::{Lsn, Member, Version};
use crate::parse::parse_int;

/// The leader key and its owner.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Leader {
    /// Compare-and-set token.
    pub version: Version,
    /// Lease or session of the key.
    pub session: Option<String>,
    /// The owner; without data when its member key is gone.
    pub member: Member,
}

impl Leader {
    /// Name of the owner; empty on Kubernetes when nobody holds it.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// The owner's connection URL.
    pub fn conn_url(&self) -> Option<String> {
        self.member.conn_url()
    }

    /// The owner's timeline.
    pub fn timeline(&self) -> Option<u32> {
        self.member.timeline()
    }

    /// None when the owner is too old to say.
    pub fn checkpoint_after_promote(&self) -> Option<bool> {
        let version = self.member.patroni_version()?;
        if version <= vec![1, 5, 6] {
            return None;
        }
        let primary = matches!(self.member.role(), "master" | "primary");
        Some(primary && self.member.data.get("checkpoint_after_promote").is_none())
    }
}

/// `scheduled_at` of a switchover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledAt {
    /// As written.
    pub text: String,
    /// Microseconds since the epoch, when the text has a time zone and a meaning.
    pub at_us: Option<i64>,
    /// `isoformat()`; the text itself when it has no meaning.
    pub iso: String,
}

impl ScheduledAt {
    /// A time without a zone, or a text without a meaning, is kept but never due.
    fn parse(text: &str) -> ScheduledAt {
        let spaced = text.trim().replacen(' ', "T", 1);
        let at = spaced.parse::<Timestamp>().ok();
        let offset = Pieces::parse(&spaced).ok().and_then(|p| p.to_numeric_offset());
        let iso = match (at, offset) {
            (Some(at), offset) => isoformat(at, offset.map_or(0, |o| o.seconds())),
            (None, _) => match spaced.parse::<DateTime>() {
                Ok(naive) => naive.to_string(),
                Err(_) => text.to_owned(),
            },
        };
        ScheduledAt { text: text.to_owned(), at_us: at.map(Timestamp::as_microsecond), iso }
    }

    /// When, if that is known.
    pub fn valid_us(&self) -> Option<i64> {
        self.at_us
    }

    /// For logs and answers.
    pub fn iso_text(&self) -> String {
        self.iso.clone()
    }
}

/// Python's `isoformat()` of an instant seen from an offset in seconds.
fn isoformat(at: Timestamp, offset: i32) -> String {
    let Ok(zone) = jiff::tz::Offset::from_seconds(offset) else { return at.to_string() };
    let local = zone.to_datetime(at);
    let fraction = match local.subsec_nanosecond() / 1000 {
        0 => String::new(),
        us => format!(".{us:06}"),
    };
    let (sign, seconds) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}{sign}{:02}:{:02}",
        local.year(),
        local.month(),
        local.day(),
        local.hour(),
        local.minute(),
        local.second(),
        seconds / 3600,
        seconds / 60 % 60
    )
}

/// A manual failover or switchover.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Failover {
    /// Compare-and-set token.
    pub version: Version,
    /// Who is to step down.
    pub leader: Option<String>,
    /// Who is to take over.
    pub candidate: Option<String>,
    /// When.
    pub scheduled_at: Option<ScheduledAt>,
}

impl Failover {
    /// Reads the key: a JSON object, or `leader:candidate` from before there was one.
    pub fn from_node(version: &str, text: &str) -> Failover {
        let mut failover = Failover { version: version.to_owned(), ..Failover::default() };
        let some = |v: Option<&Value>| v.filter(|v| v.truthy()).map(Value::py_str);
        match json::loads(text) {
            Ok(data @ Value::Map(_)) => {
                failover.leader = some(data.get("leader"));
                failover.candidate = some(data.get("member"));
                failover.scheduled_at = some(data.get("scheduled_at")).map(|t| ScheduledAt::parse(&t));
            }
            Ok(_) => {}
            Err(_) => {
                let mut parts = text.split(':').map(|p| p.trim().to_owned());
                failover.leader = parts.next().filter(|p| !p.is_empty());
                failover.candidate = parts.next().filter(|p| !p.is_empty());
            }
        }
        failover
    }

    /// Neither leader nor candidate: nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.leader.is_none() && self.candidate.is_none()
    }
}

/// The text of `/failover`; keys only where there is something to say.
pub fn failover_value(leader: Option<&str>, candidate: Option<&str>, scheduled_at: Option<&str>) -> String {
    let mut value = Value::map();
    for (key, text) in [("leader", leader), ("member", candidate), ("scheduled_at", scheduled_at)] {
        if let Some(text) = text.filter(|t| !t.is_empty()) {
            value.set(key, text);
        }
    }
    json::dumps_compact(&value)
}

/// `/config`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClusterConfig {
    /// Compare-and-set token.
    pub version: Version,
    /// The document; empty when it is no object.
    pub data: Value,
    /// Changes with the content; empty means that there is no configuration.
    pub modify_version: Version,
}

impl ClusterConfig {
    /// Reads the key.
    pub fn from_node(version: &str, text: &str, modify_version: &str) -> ClusterConfig {
        match json::loads(text) {
            Ok(data @ Value::Map(_)) => {
                ClusterConfig { version: version.to_owned(), data, modify_version: modify_version.to_owned() }
            }
            _ => ClusterConfig {
                version: version.to_owned(),
                data: Value::map(),
                modify_version: Version::new(),
            },
        }
    }
}

/// `/sync`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SyncState {
    /// Compare-and-set token; None when there is no key.
    pub version: Option<Version>,
    /// The leader that wrote it.
    pub leader: Option<String>,
    /// Names with commas.
    pub sync_standby: Option<String>,
    /// How many of them need not have the last commit.
    pub quorum: i64,
}

impl SyncState {
    /// No state, with the version of the key that holds it.
    pub fn empty(version: Option<Version>) -> SyncState {
        SyncState { version, ..SyncState::default() }
    }

    /// Reads the key; garbage is an empty state.
    pub fn from_node(version: Option<&str>, text: &str) -> SyncState {
        let version = version.map(str::to_owned);
        let Ok(data @ Value::Map(_)) = json::loads(text) else { return SyncState::empty(version) };
        let leader = data.get("leader").filter(|v| v.truthy()).map(Value::py_str);
        let quorum = match data.get("quorum").filter(|q| leader.is_some() && q.truthy()) {
            None => Some(0),
            Some(Value::Float(f)) => Some(*f as i64),
            Some(Value::Str(s)) => s.trim().parse().ok(),
            Some(other) => other.as_i64(),
        };
        let Some(quorum) = quorum else { return SyncState::empty(version) };
        let sync_standby = data.get("sync_standby").and_then(Value::as_str).map(str::to_owned);
        SyncState { version, leader, sync_standby, quorum }
    }

    /// Synchronous mode has not been in force yet.
    pub fn is_empty(&self) -> bool {
        self.leader.as_deref().is_none_or(str::is_empty)
    }

    /// The standbys.
    pub fn voters(&self) -> Vec<String> {
        split(self.sync_standby.as_deref().filter(|_| !self.is_empty()).unwrap_or_default())
    }

    /// The leader and the standbys.
    pub fn members(&self) -> Vec<String> {
        let mut members: Vec<String> = self.leader.iter().filter(|l| !l.is_empty()).cloned().collect();
        members.extend(self.voters());
        members
    }

    /// Is this a standby of the state, or its leader where that counts? Ignores case.
    pub fn matches(&self, name: &str, check_leader: bool) -> bool {
        !name.is_empty()
            && ((check_leader && self.leader_matches(name))
                || self.voters().iter().any(|v| v.to_lowercase() == name.to_lowercase()))
    }

    /// Is this its leader? Ignores case.
    pub fn leader_matches(&self, name: &str) -> bool {
        !name.is_empty() && self.leader.as_deref().is_some_and(|l| l.to_lowercase() == name.to_lowercase())
    }
}

fn split(names: &str) -> Vec<String> {
    names.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect()
}

/// The text of `/sync`; standbys are sorted, `null` when there are none.
pub fn sync_state_value(leader: &str, standbys: &[String], quorum: i64) -> String {
    let mut sorted = standbys.to_vec();
    sorted.sort();
    let mut value = Value::map();
    value.set("leader", leader);
    value.set("quorum", quorum);
    value.set("sync_standby", Some(sorted.join(",")).filter(|s| !s.is_empty()));
    json::dumps_compact(&value)
}

/// `/history`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TimelineHistory {
    /// Compare-and-set token.
    pub version: Version,
    /// As written.
    pub raw: String,
    /// Rows `[tli, lsn, reason, timestamp, leader]`.
    pub lines: Vec<Value>,
}

impl TimelineHistory {
    /// Reads the key; what is no list has no lines.
    pub fn from_node(version: &str, text: &str) -> TimelineHistory {
        let lines = match json::loads(text) {
            Ok(Value::List(lines)) => lines,
            _ => Vec::new(),
        };
        TimelineHistory { version: version.to_owned(), raw: text.to_owned(), lines }
    }
}

/// `/status`, or `/optime/leader` of old.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// The leader's last published position.
    pub last_lsn: Lsn,
    /// Slots and their positions.
    pub slots: Option<IndexMap<String, Lsn>>,
    /// Slots of absent members to keep.
    pub retain_slots: Vec<String>,
}

impl Status {
    /// Reads the key.
    pub fn from_node(text: &str) -> Status {
        let Ok(data) = json::loads(text) else { return Status::default() };
        if let Some(lsn) = data.as_i64() {
            return Status { last_lsn: lsn.max(0) as Lsn, ..Status::default() };
        }
        let inner = |key: &str| match data.get(key) {
            Some(Value::Str(text)) => json::loads(text).ok(),
            other => other.cloned(),
        };
        let lsn = |v: &Value| parse_int(v, None).and_then(|n| Lsn::try_from(n).ok()).unwrap_or(0);
        let slots = match inner("slots") {
            Some(Value::Map(m)) => Some(m.iter().map(|(k, v)| (k.py_str(), lsn(v))).collect()),
            _ => None,
        };
        let retain_slots = match inner("retain_slots") {
            Some(Value::List(l)) => l.iter().map(Value::py_str).collect(),
            _ => Vec::new(),
        };
        Status { last_lsn: data.get("optime").map(lsn).unwrap_or(0), slots, retain_slots }
    }
}
