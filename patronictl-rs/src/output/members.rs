//! The table of members: `cluster_as_json` documents in, rows and footer out
//! (surface-api-ctl 13).

use std::collections::{BTreeMap, HashSet};

use pyfmt::{Map, Value};

use super::{render, topology, yaml, Format, Rows};
use crate::click::CliError;

/// What `list` shows: one document per Citus group, or one under the key 0.
pub struct Listing<'a> {
    /// The cluster's name.
    pub name: &'a str,
    /// The value of the initialize key.
    pub initialize: Option<&'a str>,
    /// The documents that `cluster_as_json` makes, by group.
    pub clusters: BTreeMap<i64, Value>,
    /// Whether this is a Citus cluster.
    pub citus: bool,
    /// The group that was asked for.
    pub group: Option<i64>,
    /// Whether to show the optional columns in any case.
    pub extended: bool,
}

const BASE: [&str; 10] = [
    "Cluster",
    "Member",
    "Host",
    "Role",
    "State",
    "TL",
    "Receive LSN",
    "Receive Lag",
    "Replay LSN",
    "Replay Lag",
];
const OPTIONAL: [&str; 4] = ["Pending restart", "Pending restart reason", "Scheduled restart", "Tags"];
const RIGHT: &[&str] = &["Group", "Receive LSN", "Replay LSN", "Lag", "TL"];

/// The full text of the listing in a format, footer included.
///
/// # Errors
/// [`CliError::Crash`] for tags that JSON cannot hold.
pub fn listing(input: &Listing<'_>, format: Format) -> Result<String, CliError> {
    let mut columns = columns(input);
    let append_port = append_port(input);
    let mut rows = Vec::new();
    for (group, cluster) in &input.clusters {
        let members = members_of(cluster).to_vec();
        let members = if format == Format::Topology { topology::sort(members) } else { members };
        for member in &members {
            let cells = Cells { member, format, append_port, name: input.name, group: *group };
            rows.push(columns.iter().map(|c| cells.cell(c)).collect::<Vec<Value>>());
        }
    }
    let title = title(input);
    if format.is_table() {
        let skip = if title.contains(" (group: ") { 2 } else { 1 };
        columns.drain(..skip.min(columns.len()));
        for row in &mut rows {
            row.drain(..skip.min(row.len()));
        }
        for column in &mut columns {
            if *column == "Receive Lag" || *column == "Replay Lag" {
                *column = "Lag";
            }
        }
    }
    let columns = Some(columns.into_iter().map(str::to_owned).collect());
    let mut text = render(&Rows { title, columns, rows, right: RIGHT }, format, "\t")?;
    if format.is_table() {
        text.push_str(&footer(input));
    }
    Ok(text)
}

fn members_of(cluster: &Value) -> &[Value] {
    cluster.get("members").and_then(Value::as_list).unwrap_or_default()
}

fn with_host<'a>(input: &'a Listing<'_>) -> impl Iterator<Item = &'a Value> {
    input.clusters.values().flat_map(members_of).filter(|m| m.get("host").is_some())
}

fn field_of(column: &str) -> String {
    column.to_lowercase().replace(' ', "_")
}

fn columns(input: &Listing<'_>) -> Vec<&'static str> {
    let mut columns = BASE.to_vec();
    if input.citus {
        columns.insert(1, "Group");
    }
    for column in OPTIONAL {
        let field = field_of(column);
        if input.extended || with_host(input).any(|m| m.get(&field).is_some_and(Value::truthy)) {
            columns.push(column);
        }
    }
    columns
}

/// Ports are shown when one is not 5432, or when two members share a host.
fn append_port(input: &Listing<'_>) -> bool {
    let mut hosts = HashSet::new();
    with_host(input).any(|m| {
        let odd = m.get("port").is_some_and(|p| p.as_i64() != Some(5432));
        odd || !hosts.insert(m.get("host").map(Value::py_str).unwrap_or_default())
    })
}

fn title(input: &Listing<'_>) -> String {
    let initialize = match input.initialize {
        None => "uninitialized",
        Some("") => "initializing",
        Some(id) => id,
    };
    match (input.citus, input.group) {
        (false, _) => format!(" Cluster: {} ({initialize}) ", input.name),
        (true, None) => format!(" Citus cluster: {} ", input.name),
        (true, Some(group)) => format!(" Citus cluster: {} (group: {group}, {initialize}) ", input.name),
    }
}

/// The cells of one member.
struct Cells<'a> {
    member: &'a Value,
    format: Format,
    append_port: bool,
    name: &'a str,
    group: i64,
}

impl Cells<'_> {
    fn cell(&self, column: &str) -> Value {
        match column {
            "Cluster" => self.name.into(),
            "Group" => Value::Int(self.group),
            "Member" => self.field("name"),
            "Host" => self.host(),
            "Role" => title_case(&self.field("role").py_str().replace('_', " ")).into(),
            "State" => self.field("state"),
            "TL" => self.field("timeline"),
            "Receive LSN" => self.position("receive").0,
            "Receive Lag" => self.position("receive").1,
            "Replay LSN" => self.position("replay").0,
            "Replay Lag" => self.position("replay").1,
            "Pending restart" => if self.field("pending_restart").truthy() { "*" } else { "" }.into(),
            "Pending restart reason" => self.restart_reason().into(),
            "Scheduled restart" => self.scheduled_restart(),
            _ => self.tags(),
        }
    }

    fn field(&self, key: &str) -> Value {
        self.member.get(key).cloned().unwrap_or_else(|| "".into())
    }

    fn host(&self) -> Value {
        let host = self.field("host");
        match self.member.get("port") {
            Some(port) if self.append_port && host.truthy() && port.truthy() => {
                format!("{host}:{port}").into()
            }
            _ => host,
        }
    }

    /// LSN and lag in MiB of one kind. Members that only publish the old `lsn`
    /// show it as received while streaming, else as replayed.
    fn position(&self, kind: &str) -> (Value, Value) {
        let unknown = |key: &str| self.field(key).as_str() == Some("unknown");
        let old = self.field("lsn");
        let only_old = unknown("receive_lsn") && unknown("replay_lsn") && old.truthy() && !unknown("lsn");
        let streaming = self.field("state").as_str() == Some("streaming");
        let takes_old = only_old && streaming == (kind == "receive");
        if takes_old {
            return (old, lag_in_mib(self.field("lag")));
        }
        (self.field(&format!("{kind}_lsn")), lag_in_mib(self.field(&format!("{kind}_lag"))))
    }

    fn restart_reason(&self) -> String {
        let Some(reasons) = self.member.get("pending_restart_reason").and_then(Value::as_map) else {
            return String::new();
        };
        let line = |(param, change): (&Value, &Value)| {
            let side = |key| change.get(key).map(Value::py_str).unwrap_or_default();
            let full = format!("{param}: {}->{}", side("old_value"), side("new_value"));
            let hide = self.format.is_table() && full.chars().count() > 50;
            if hide {
                format!("{param}: [hidden - too long]")
            } else {
                full
            }
        };
        reasons.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn scheduled_restart(&self) -> Value {
        let Some(scheduled) = self.member.get("scheduled_restart") else {
            return "".into();
        };
        let at = scheduled.get("schedule").map(Value::py_str).unwrap_or_default();
        match scheduled.get("postgres_version") {
            Some(version) => format!("{at} if version < {version}").into(),
            None => at.into(),
        }
    }

    fn tags(&self) -> Value {
        let tags = self.field("tags");
        match self.format {
            Format::Json | Format::Yaml => tags,
            _ if !tags.truthy() => tags,
            format => yaml(&tags, format != Format::Pretty).trim().into(),
        }
    }
}

fn lag_in_mib(lag: Value) -> Value {
    match lag {
        Value::Int(bytes) => Value::Int(round_half_even(bytes as f64 / 1_048_576.0) as i64),
        Value::Str(text) if text == "unknown" => "".into(),
        other => other,
    }
}

fn round_half_even(number: f64) -> f64 {
    number.round_ties_even()
}

/// Python's `str.title()`.
fn title_case(text: &str) -> String {
    let mut start = true;
    text.chars()
        .flat_map(|c| {
            let shown: Vec<char> =
                if start { c.to_uppercase().collect() } else { c.to_lowercase().collect() };
            start = !c.is_alphabetic();
            shown
        })
        .collect()
}

fn footer(input: &Listing<'_>) -> String {
    let mut out = String::new();
    for (group, cluster) in &input.clusters {
        let info = service_info(cluster);
        if info.is_empty() {
            continue;
        }
        if input.citus && input.group.is_none() {
            out.push_str(&format!("Citus group: {group}\n"));
        }
        out.push_str(&format!(" {}\n", info.join("\n ")));
    }
    out
}

fn service_info(cluster: &Value) -> Vec<String> {
    let mut info = Vec::new();
    if cluster.get("pause").is_some_and(Value::truthy) {
        info.push("Maintenance mode: on".to_owned());
    }
    if let Some(scheduled) = cluster.get("scheduled_switchover").and_then(Value::as_map) {
        info.push(switchover_info(scheduled));
    }
    info
}

fn switchover_info(scheduled: &Map) -> String {
    let get = |key: &str| scheduled.get(&Value::from(key));
    let mut text = format!("Switchover scheduled at: {}", get("at").map(Value::py_str).unwrap_or_default());
    for key in ["from", "to"] {
        if let Some(name) = get(key) {
            text.push_str(&format!("\n{key:>24}: {name}"));
        }
    }
    text
}
