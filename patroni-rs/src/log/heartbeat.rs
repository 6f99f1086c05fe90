//! Keeps the uneventful cycle to one line (surface-config 6.7).

use super::record::{LevelNo, Record};
use super::settings::Settings;

/// A lock line that waits for what its thread says next, and the last heartbeat.
#[derive(Default)]
pub struct Filter {
    lock_line: Option<Record>,
    last_heartbeat: Option<String>,
}

fn is_heartbeat(message: &str) -> bool {
    message.starts_with("no action. ") || message.starts_with("PAUSE: no action")
}

impl Filter {
    /// Hands on what is to be written, with the settings of the moment.
    pub fn pass(&mut self, record: Record, settings: &Settings, mut emit: impl FnMut(&Record)) {
        if settings.level != LevelNo::INFO {
            return emit(&record);
        }
        if record.message.starts_with("Lock owner: ") {
            self.lock_line = Some(record);
            return;
        }
        if let Some(held) = self.lock_line.take_if(|held| held.thread == record.thread) {
            if is_heartbeat(&record.message) {
                if settings.deduplicate && self.last_heartbeat.as_ref() == Some(&record.message) {
                    return;
                }
                self.last_heartbeat = Some(record.message.clone());
            } else {
                emit(&held);
                self.last_heartbeat = None;
            }
        }
        emit(&record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `2:text` is said by thread 2.
    fn run(messages: &[&str], deduplicate: bool, level: LevelNo) -> Vec<String> {
        let mut filter = Filter::default();
        let settings = Settings { level, deduplicate, ..Settings::default() };
        let mut out = Vec::new();
        for message in messages {
            let (thread, text) = message.strip_prefix("2:").map_or((1, *message), |text| (2, text));
            let record = Record {
                level: LevelNo::INFO,
                name: "patroni.ha",
                message: text.to_owned(),
                exception: None,
                fields: None,
                created_us: 0,
                file: "",
                line: 0,
                thread_name: String::new(),
                thread,
            };
            filter.pass(record, &settings, |r| out.push(r.message.clone()));
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
    fn other_threads_do_not_count() {
        let lines = ["Lock owner: a; I am a", "2:request", "no action. x", "Lock owner: a", "2:y", "event"];
        assert_eq!(
            run(&lines, false, LevelNo::INFO),
            ["request", "no action. x", "y", "Lock owner: a", "event"]
        );
    }

    #[test]
    fn repeated_heartbeats_are_dropped_on_request() {
        let lines = [
            "Lock owner: a",
            "no action. x",
            "Lock owner: a",
            "no action. x",
            "event",
            "Lock owner: a",
            "no action. x",
        ];
        assert_eq!(run(&lines, true, LevelNo::INFO), ["no action. x", "event"]);
        assert_eq!(
            run(&lines, false, LevelNo::INFO),
            ["no action. x", "no action. x", "event", "no action. x"]
        );
        // Only what follows a lock line is remembered, and forgotten.
        let lines = [
            "no action. x",
            "no action. x",
            "Lock owner: a",
            "no action. x",
            "Lock owner: a",
            "event",
            "Lock owner: a",
            "no action. x",
        ];
        assert_eq!(
            run(&lines, true, LevelNo::INFO),
            ["no action. x", "no action. x", "no action. x", "Lock owner: a", "event", "no action. x"]
        );
    }
}
