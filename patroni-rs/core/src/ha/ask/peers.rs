//! Questions to the other members.

use pyfmt::Value;

use super::super::types::StopPolling;
use crate::model::Member;

/// `GET /patroni` of each, at the same time.
#[derive(Debug, Clone, PartialEq)]
pub struct Peers {
    /// Who.
    pub members: Vec<Member>,
    /// Answers that decide end the round; a node that has not answered by then is left out.
    pub decisive: Option<StopPolling>,
}

/// `POST /failsafe` to each, at the same time.
#[derive(Debug, Clone, PartialEq)]
pub struct PingFailsafe {
    /// The body.
    pub data: Value,
    /// Name and URL.
    pub members: Vec<Member>,
}

/// Ask the leader to be released as synchronous standby, and wait a while for it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleaseSync;
