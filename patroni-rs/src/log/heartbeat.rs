//! Keeps the uneventful cycle to one line (surface-config 6.7).

use std::sync::Mutex;

use super::record::{LevelNo, Record};
use super::settings::Settings;

/// A lock line that waits for what comes after it, and the last heartbeat.
#[derive(Default)]
pub struct Filter {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lock_line: Option<Record>,
    last_heartbeat: String,
}

fn is_heartbeat(message: &str) -> bool {
    message.starts_with("no action. ") || message.starts_with("PAUSE: no action")
}

impl Filter {
    /// Hands on what is to be written. The cycles' lines all come from one task,
    /// so a lock line waits for the next record of the same logger.
    pub fn pass(&self, record: Record, settings: &Settings, mut emit: impl FnMut(Record)) {
        if settings.level != LevelNo::INFO || record.name != "patroni.ha" && record.name != "patroni.__main__"
        {
            return emit(record);
        }
        let Ok(mut state) = self.state.lock() else { return emit(record) };
        if record.message.starts_with("Lock owner: ") {
            if let Some(earlier) = state.lock_line.replace(record) {
                emit(earlier);
            }
            return;
        }
        let held = state.lock_line.take();
        if is_heartbeat(&record.message) {
            if settings.deduplicate && state.last_heartbeat == record.message {
                return;
            }
            state.last_heartbeat.clone_from(&record.message);
        } else {
            state.last_heartbeat.clear();
            if let Some(held) = held {
                emit(held);
            }
        }
        emit(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(messages: &[&str], deduplicate: bool, level: LevelNo) -> Vec<String> {
        let filter = Filter::default();
        let settings = Settings { level, deduplicate, ..Settings::default() };
        let mut out = Vec::new();
        for message in messages {
            let record = Record {
                level: LevelNo::INFO,
                name: "patroni.ha",
                message: (*message).to_owned(),
                created_us: 0,
                file: "",
                line: 0,
                thread_name: String::new(),
                thread: 0,
            };
            filter.pass(record, &settings, |r| out.push(r.message));
        }
        out
    }

    #[test]
    fn lock_lines_show_only_before_events() {
        let lines = ["Lock owner: a; I am a", "no action. I am (a)", "Lock owner: a; I am a", "promoted"];
        assert_eq!(
            run(&lines, false, LevelNo::INFO),
            ["no action. I am (a)", "Lock owner: a; I am a", "promoted"]
        );
        assert_eq!(run(&lines, false, LevelNo::DEBUG), lines);
    }

    #[test]
    fn repeated_heartbeats_are_dropped_on_request() {
        let lines = ["no action. x", "no action. x", "event", "no action. x"];
        assert_eq!(run(&lines, true, LevelNo::INFO), ["no action. x", "event", "no action. x"]);
        assert_eq!(run(&lines, false, LevelNo::INFO), lines);
    }
}
