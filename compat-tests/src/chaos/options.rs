//! What the command line of `compat-chaos` says.

use clap::builder::{BoolishValueParser, PossibleValuesParser};
use clap::ArgAction;

use super::faults::KINDS;
use super::servers::Dcs;

/// Who the members are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FleetKind {
    /// All ours.
    Ours,
    /// Of each at least one; which may change when a daemon is started again.
    Mixed,
    /// All the reference.
    Reference,
}

/// `synchronous_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Off.
    Async,
    /// On.
    Sync,
    /// Quorum commit.
    Quorum,
}

impl Mode {
    /// As YAML.
    pub fn yaml(self) -> &'static str {
        match self {
            Mode::Async => "false",
            Mode::Sync => "true",
            Mode::Quorum => "quorum",
        }
    }
}

/// A real cluster of three members, PostgreSQL and three servers of a store, under faults that the seed decides.
#[derive(Debug, Clone, clap::Parser)]
pub struct Options {
    /// How long faults go on, minutes.
    #[arg(long, default_value_t = 2.0)]
    pub minutes: f64,
    /// Decides the faults.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Who the members are.
    #[arg(long, default_value = "ours")]
    pub fleet: FleetKind,
    /// The store.
    #[arg(long, default_value = "etcd3")]
    pub dcs: Dcs,
    /// `synchronous_mode`.
    #[arg(long, default_value = "async")]
    pub mode: Mode,
    /// Only these kinds of faults, with commas between them.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(KINDS))]
    pub only: Vec<String>,
    /// `ttl`, `loop_wait` and `retry_timeout`, seconds.
    #[arg(long, default_value = "20,2,5", value_parser = timing)]
    pub timing: [u64; 3],
    /// The logs stay also when nothing was found.
    #[arg(long)]
    pub keep: bool,
    /// Two groups of Citus, a coordinator and a worker, with two members each, on the stand-in of fixtures/citus.
    #[arg(long, conflicts_with = "pg")]
    pub citus: bool,
    /// PostgreSQL's major version: 13, 15, 17, 18 or 19.
    #[arg(long, default_value_t = 15)]
    pub pg: u32,
    /// Do our daemons have a guardian?
    #[arg(long, default_value = "on", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub guardian: bool,
    /// Exit code 0 where this user may not make namespaces and is not root.
    #[arg(long)]
    pub may_skip: bool,
}

impl Options {
    /// How many clusters the members are of.
    pub fn groups(&self) -> usize {
        if self.citus {
            2
        } else {
            1
        }
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        if self.citus {
            4
        } else {
            3
        }
    }
}

/// Three numbers with commas between them.
fn timing(text: &str) -> Result<[u64; 3], String> {
    let numbers =
        text.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>().map_err(|e| e.to_string())?;
    numbers.try_into().map_err(|_| "ttl,loop_wait,retry_timeout".to_owned())
}
