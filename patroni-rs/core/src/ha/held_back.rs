//! Why this node did not take the leader lock, or did not promote with it: one record beside the
//! status line, which the reference does not have (surface-ha-pg 28-21).

use pyfmt::Value;

use super::cycle::Cycle;

/// The first rule that said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Reason {
    Backoff,
    BehindTimeline,
    Busy,
    Candidate,
    ForeignSystem,
    Lagging,
    LockNotRenewed,
    LostRace,
    NoFailover,
    NoQuorum,
    NotInFailsafe,
    NotPromoted,
    NotRunning,
    NotSynchronous,
    OtherHasLed,
    OthersCanLead,
    Paused,
    PeerAhead,
    PeerPreferred,
    PrePromote,
    PrimaryAlive,
    Starting,
    SyncKeyChanged,
    SyncNamesNotSet,
    UnknownTimeline,
    Watchdog,
}

impl Reason {
    /// The word in the log record and in `/metrics`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Backoff => "pre_promote_backoff",
            Reason::BehindTimeline => "timeline_behind",
            Reason::Busy => "busy",
            Reason::Candidate => "other_candidate",
            Reason::ForeignSystem => "foreign_system_identifier",
            Reason::Lagging => "lagging",
            Reason::LockNotRenewed => "lock_not_renewed",
            Reason::LostRace => "lost_race",
            Reason::NoFailover => "nofailover",
            Reason::NoQuorum => "no_quorum",
            Reason::NotInFailsafe => "not_in_failsafe_key",
            Reason::NotPromoted => "promotion_failed",
            Reason::NotRunning => "postgres_not_running",
            Reason::NotSynchronous => "not_synchronous",
            Reason::OtherHasLed => "other_has_led",
            Reason::OthersCanLead => "others_can_lead",
            Reason::Paused => "paused",
            Reason::PeerAhead => "peer_ahead",
            Reason::PeerPreferred => "peer_preferred",
            Reason::PrePromote => "pre_promote_failed",
            Reason::PrimaryAlive => "primary_alive",
            Reason::Starting => "postgres_starting",
            Reason::SyncKeyChanged => "sync_key_changed",
            Reason::SyncNamesNotSet => "synchronous_standby_names_not_set",
            Reason::UnknownTimeline => "timeline_unknown",
            Reason::Watchdog => "watchdog_unusable",
        }
    }

    /// The same for people: the end of a sentence.
    fn why(self) -> &'static str {
        match self {
            Reason::Backoff => "its pre_promote script failed a short while ago",
            Reason::BehindTimeline => "the cluster is on a later timeline",
            Reason::Busy => "another job is running here",
            Reason::Candidate => "another member is named as the candidate",
            Reason::ForeignSystem => "its data directory belongs to another cluster",
            Reason::Lagging => "it lags by more than maximum_lag_on_failover",
            Reason::LockNotRenewed => "the leader lock could not be renewed",
            Reason::LostRace => "another member took the leader lock first",
            Reason::NoFailover => "it is tagged nofailover",
            Reason::NoQuorum => "the quorum has not voted for it",
            Reason::NotInFailsafe => "it is not named in the failsafe key",
            Reason::NotPromoted => "PostgreSQL could not be promoted a short while ago",
            Reason::NotRunning => "PostgreSQL is not running",
            Reason::NotSynchronous => "it is not a synchronous standby",
            Reason::OtherHasLed => "others have led, or had a say, and have not been heard",
            Reason::OthersCanLead => "others can lead, and the order is to leave it to them",
            Reason::Paused => "the cluster is paused",
            Reason::PeerAhead => "another member has received more WAL",
            Reason::PeerPreferred => "another member has a higher failover_priority",
            Reason::PrePromote => "its pre_promote script has failed",
            Reason::PrimaryAlive => "a primary still answers",
            Reason::Starting => "PostgreSQL is still starting",
            Reason::SyncKeyChanged => "the sync key has changed meanwhile",
            Reason::SyncNamesNotSet => "synchronous_standby_names could not be set",
            Reason::UnknownTimeline => "its timeline is not known",
            Reason::Watchdog => "its watchdog cannot be used",
        }
    }
}

/// What held this node back in one cycle.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldBack {
    /// The rule.
    pub reason: Reason,
    /// The node that is to lead, or whose answer is missing; several with commas between.
    pub waits_for: Option<String>,
    /// The numbers and words that the rule compared.
    pub facts: Vec<(&'static str, Value)>,
}

impl HeldBack {
    /// Nothing new for the log? Positions move in every cycle, the reason does not.
    pub fn is_same(&self, other: &HeldBack) -> bool {
        self.reason == other.reason && self.waits_for == other.waits_for
    }

    /// The log's line: a plain sentence, with what was compared.
    pub fn sentence(&self) -> String {
        let mut more: Vec<String> = self.waits_for.iter().map(|who| format!("waiting for {who}")).collect();
        let facts = self.facts.iter();
        more.extend(facts.map(|(name, value)| format!("{} {}", name.replace('_', " "), value.py_str())));
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
        format!("Not promoted: {}{more}", self.reason.why())
    }

    /// The same for programs: the fields of the record where the log is JSON.
    pub fn fields(&self) -> Value {
        let mut record = Value::map();
        record.set("event", "not_promoted");
        record.set("reason", self.reason.as_str());
        record.set("waits_for", self.waits_for.as_deref().map_or(Value::Null, Value::from));
        for (name, value) in &self.facts {
            record.set(name, value.clone());
        }
        record
    }
}

impl Cycle<'_> {
    /// Notes why not. The last note of a cycle counts.
    pub(super) fn held_back(
        &mut self,
        reason: Reason,
        waits_for: Option<&str>,
        facts: &[(&'static str, Value)],
    ) {
        self.held_back =
            Some(HeldBack { reason, waits_for: waits_for.map(str::to_owned), facts: facts.to_vec() });
    }
}
