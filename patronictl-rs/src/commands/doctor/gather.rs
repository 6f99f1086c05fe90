//! What the checks go by: the keys of the cluster, how long it takes to read them, and what each member says.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use patroni_core::global_config::GlobalConfig;
use patroni_core::model::{Cluster, Lsn, Member};
use pyfmt::Value;

use super::machine::{self, Room};
use super::servers::{self, Server};
use crate::click::CliError;
use crate::context::Context;
use crate::store::global_config;

/// How often the keys are read to see how long that takes.
const READS: usize = 3;
/// How long a member may take to answer.
const MEMBER_LIMIT: Duration = Duration::from_secs(5);

/// All that was seen.
#[derive(Debug)]
pub struct Seen {
    /// This machine's wall clock, seconds since 1970.
    pub now: i64,
    /// The keys.
    pub cluster: Cluster,
    /// The dynamic configuration.
    pub config: GlobalConfig,
    /// How long each read of them took.
    pub reads: Vec<Duration>,
    /// What each member says, in the order of the keys.
    pub told: Vec<Told>,
    /// `use_pg_rewind`, of the DCS or of this configuration.
    pub use_pg_rewind: bool,
    /// What their PostgreSQL say; None: this configuration does not say how to connect.
    pub servers: Option<Vec<Server>>,
    /// Room on the disks of a member that lives here.
    pub rooms: Vec<Room>,
}

/// What a member says of itself.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// `GET /patroni`, or why there is no answer.
    pub status: Result<Value, String>,
    /// The program and its version, by `GET /metrics`.
    pub implementation: Option<String>,
}

impl Seen {
    /// What the leader says; None where there is none, or it says nothing.
    pub fn leader(&self) -> Option<&Told> {
        let name = self.cluster.leader_name()?;
        self.told.iter().find(|told| told.name == name && told.status.is_ok())
    }

    /// All that do not hold the leader lock.
    pub fn others(&self) -> impl Iterator<Item = &Told> {
        let leader = self.cluster.leader_name();
        self.told.iter().filter(move |told| Some(told.name.as_str()) != leader)
    }

    /// The member's key.
    pub fn member(&self, told: &Told) -> Option<&Member> {
        self.cluster.members.iter().find(|member| member.name == told.name)
    }

    /// Where the leader's WAL ends, as far as anybody says.
    pub fn end_of_wal(&self) -> Option<u64> {
        let said = self.leader().and_then(Told::position);
        let published = Some(self.cluster.status.last_lsn).filter(|lsn| *lsn > Lsn::new(0)).map(Lsn::bytes);
        said.max(published)
    }
}

impl Told {
    /// A value of its answer.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        self.status.as_ref().ok().and_then(|status| status.at(path))
    }

    /// The same as text; empty without one.
    pub fn text(&self, key: &str) -> &str {
        self.at(&[key]).and_then(Value::as_str).unwrap_or_default()
    }

    /// Is it there, and true?
    pub fn flag(&self, key: &str) -> bool {
        self.at(&[key]).is_some_and(Value::truthy)
    }

    /// The same as a number.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.at(&[key]).and_then(Value::as_i64)
    }

    /// The end of its WAL: written by a primary, received or replayed by a standby.
    pub fn position(&self) -> Option<u64> {
        let one = |key| self.at(&["xlog", key]).and_then(Value::as_i64).and_then(|at| u64::try_from(at).ok());
        one("location").or_else(|| one("received_location").max(one("replayed_location")))
    }
}

/// Looks at everything. The inner error: the store does not answer.
///
/// # Errors
/// No store is configured.
pub fn look(
    context: &mut Context,
    cluster_name: &str,
    group: Option<i64>,
) -> Result<Result<Seen, String>, CliError> {
    let store = context.store(cluster_name, group)?;
    let mut reads = Vec::new();
    let mut view = None;
    for _ in 0..READS {
        let begun = Instant::now();
        match store.view() {
            Ok(found) => view = Some(found),
            Err(error) => return Ok(Err(error.to_string())),
        }
        reads.push(begun.elapsed());
    }
    let cluster = view.map(|view| view.cluster).unwrap_or_default();
    let told = cluster.members.iter().map(|member| ask(context, member)).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let config = global_config(&cluster);
    let postgresql = context.section("postgresql");
    let dynamic = config.as_value().at(&["postgresql", "use_pg_rewind"]);
    let use_pg_rewind = dynamic.or_else(|| postgresql.get("use_pg_rewind")).is_some_and(Value::truthy);
    let asked = servers::look(&cluster, &postgresql, use_pg_rewind);
    let servers = context.runtime().block_on(asked);
    let rooms = machine::look(&postgresql);
    Ok(Ok(Seen { now, cluster, config, reads, told, use_pg_rewind, servers, rooms }))
}

fn ask(context: &mut Context, member: &Member) -> Told {
    let name = member.name.clone();
    if member.api_url().is_none() {
        return Told { name, status: Err("its key has no api_url".into()), implementation: None };
    }
    let status = context.ask(member, "patroni", MEMBER_LIMIT);
    let status =
        status.and_then(|text| pyfmt::json::loads(&text).map_err(|e| format!("its answer is no JSON: {e}")));
    let implementation = match &status {
        Ok(_) => context.ask(member, "metrics", MEMBER_LIMIT).ok().map(|text| implementation(&text)),
        Err(_) => None,
    };
    Told { name, status, implementation }
}

/// By the metric that the reference has not got.
pub(super) fn implementation(metrics: &str) -> String {
    let line = metrics.lines().find(|line| line.starts_with("patroni_build_info{"));
    let label = |name: &str| {
        let (_, rest) = line?.split_once(&format!("{name}=\""))?;
        rest.split('"').next()
    };
    match (label("implementation"), label("version")) {
        (Some(program), Some(version)) => format!("{program} {version}"),
        _ => "Patroni in Python".to_owned(),
    }
}
