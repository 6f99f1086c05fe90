//! The live table: the members as `patronictl list` tells of them, the leader's lease, and how the writer fares.

use std::sync::Arc;
use std::time::Duration;

use pyfmt::{json, Value};

use super::screen::Screen;
use super::Stage;
use crate::lab::writer::Progress;
use crate::lab::{process, Kind, Result};

/// The keys, for those who look.
pub const KEYS: &str =
    "[s] switchover  [f] kill the leader's node  [p] freeze it  [m] Python Patroni and back  [l] list  [q] quit";
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long the list may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The lease's bar, in characters.
const BAR: usize = 20;
/// The ttl of the demonstration, seconds.
const TTL: usize = 20;

/// Draws until the program ends.
pub fn keep_drawing(stage: &Arc<Stage>) {
    let stage = Arc::clone(stage);
    std::thread::spawn(move || {
        let mut rows = Vec::new();
        loop {
            if let Ok(fresh) = look(&stage) {
                rows = fresh;
            }
            let lease = {
                let lab = stage.cluster();
                let key = lab.key("leader");
                lab.store
                    .get(&key)
                    .ok()
                    .flatten()
                    .map(|name| (name, lab.store.lease_left(&key).ok().flatten()))
            };
            let progress = stage.writer.progress(Duration::ZERO);
            stage.screen.draw(block(stage.screen, &rows, lease, progress));
            std::thread::sleep(INTERVAL);
        }
    });
}

/// One member as it is shown.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    name: String,
    program: &'static str,
    role: String,
    state: String,
    timeline: String,
    lag: String,
}

/// What `patronictl list` says now.
fn look(stage: &Stage) -> Result<Vec<Row>> {
    let (command, kinds) = {
        let lab = stage.cluster();
        let kinds: Vec<(String, Kind)> = lab.members.iter().map(|m| (m.name.clone(), m.kind)).collect();
        (lab.ctl_command(Kind::Ours, &["list", "-f", "json"])?, kinds)
    };
    let told = json::loads(&process::run(command, PATIENCE)?.ok()?)?;
    let frozen = stage.frozen().clone();
    let told = told.as_list().unwrap_or_default();
    Ok(kinds.iter().map(|(name, kind)| row(name, *kind, told, frozen.as_deref())).collect())
}

fn row(name: &str, kind: Kind, told: &[Value], frozen: Option<&str>) -> Row {
    let own = told.iter().find(|member| member.get("Member").and_then(Value::as_str) == Some(name));
    let text = |key: &str| own.and_then(|member| member.get(key)).map(Value::py_str).unwrap_or_default();
    let state = match own {
        _ if frozen == Some(name) => "frozen".into(),
        None => "gone".into(),
        Some(_) => text("State"),
    };
    let program = match kind {
        Kind::Ours => "patroni-rs",
        Kind::Reference => "Python Patroni",
    };
    let lag = text("Receive Lag");
    Row { name: name.into(), program, role: text("Role"), state, timeline: text("TL"), lag }
}

/// The table as text, a line end at the end of each line, none longer than 80 characters.
fn block(screen: Screen, rows: &[Row], lease: Option<(String, Option<i64>)>, progress: Progress) -> String {
    let mut text = screen.faint(&format!(
        "\n  {:<7} {:<15} {:<13} {:<18} {:>3} {:>6}",
        "member", "runs", "role", "state", "TL", "lag"
    ));
    text.push('\n');
    for row in rows {
        let state = format!("{:<18}", row.state);
        let state = match row.state.as_str() {
            "running" | "streaming" => screen.green(&state),
            "gone" | "frozen" | "stopped" => screen.red(&state),
            _ => screen.yellow(&state),
        };
        text += &format!(
            "  {:<7} {:<15} {:<13} {state} {:>3} {:>6}\n",
            row.name, row.program, row.role, row.timeline, row.lag
        );
    }
    text += &match lease {
        Some((name, left)) => {
            let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or_default();
            let full = (left * BAR / TTL).min(BAR);
            let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
            let bar = if left * 2 > TTL { screen.green(&bar) } else { screen.yellow(&bar) };
            format!("  lease of {name} {bar} {left} s left\n")
        }
        None => format!("  {}\n", screen.red("nobody holds the leader lock")),
    };
    text += &format!(
        "  {} rows acknowledged, longest time without one {:.2} s\n",
        progress.rows,
        progress.longest.as_secs_f32()
    );
    // Two lines, so that none is longer than a terminal is wide.
    let (first, second) = KEYS.split_once("  [m]").unwrap_or((KEYS, ""));
    text += &screen.faint(&format!("  {first}\n  [m]{second}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_the_list_does_not_have_is_gone() {
        let told =
            json::loads(r#"[{"Member": "node1", "Role": "Leader", "State": "running", "TL": 3}]"#).unwrap();
        let told = told.as_list().unwrap();
        let of = |name, frozen| row(name, Kind::Ours, told, frozen);
        assert_eq!((of("node1", None).state.as_str(), of("node1", None).timeline.as_str()), ("running", "3"));
        assert_eq!(of("node2", None).state, "gone");
        assert_eq!(of("node1", Some("node1")).state, "frozen");
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let row = Row {
            name: "node1".into(),
            program: "Python Patroni",
            role: "Sync Standby".into(),
            state: "in archive recovery".into(),
            timeline: "12".into(),
            lag: "unknown".into(),
        };
        let screen = Screen::of_this_terminal();
        let progress = Progress { rows: 1_234_567, longest: Duration::from_secs(21) };
        for lease in [None, Some(("node1".into(), Some(20))), Some(("node1".into(), None))] {
            let text = block(screen, std::slice::from_ref(&row), lease, progress);
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
    }
}
