//! How questions are matched, absence is said, and the memory is written.

use super::tree::{code, read, root, sources};

/// A question that is new must not compile before it is carried out, and an answer of another kind is a defect, not a
/// case: where questions are matched, no arm is for whatever else.
#[test]
fn no_arm_is_for_whatever_else_is_asked() {
    let executors = [
        "patroni-rs/core/src/ha/ask.rs",
        "patroni-rs/core/src/ha/script.rs",
        "patroni-rs/core/src/node/lock.rs",
        "patroni-rs/core/src/node/cycle.rs",
        "patroni-rs/src/shell/exec.rs",
        "compat-tests/src/sim/local.rs",
        "compat-tests/src/sim/effects.rs",
        "compat-tests/src/sim/asks.rs",
        "patroni-rs/requests/src/lib.rs",
    ];
    for file in executors {
        let text = read(&root().join(file));
        let lines: Vec<(usize, &str)> = code(&text).collect();
        for (at, line) in lines.iter().filter(|(_, line)| {
            let arm = line.trim_start();
            arm.starts_with("_ =>") || arm.starts_with("other =>")
        }) {
            // The arms before it tell what is matched.
            let before = lines.iter().filter(|(other, _)| other < at && other + 6 >= *at);
            let questions = before.filter(|(_, line)| line.contains("=>"));
            let asked = questions.filter(|(_, line)| line.contains("Request::") || line.contains("Answer::"));
            assert_eq!(asked.count(), 0, "{file}:{at}: {}", line.trim());
        }
    }
}

/// None of what, and None of that? A type with names says it.
#[test]
fn no_option_of_an_option() {
    for directory in ["patroni-rs", "patronictl-rs/src", "compat-tests/src"] {
        for path in sources(&root().join(directory)) {
            let text = read(&path);
            let found = code(&text).find(|(_, line)| line.contains("Option<Option<"));
            assert!(found.is_none(), "{}: {found:?}", path.display());
        }
    }
}

/// A part of the memory changes by what its methods say has happened; cycles read its fields.
#[test]
fn each_part_of_the_memory_is_written_by_its_own_methods() {
    let parts = ["lock", "backoff", "sync", "start", "own", "rewind", "bootstrap", "failsafe"];
    let memory = read(&root().join("patroni-rs/core/src/ha/memory.rs"));
    for part in parts {
        assert!(memory.contains(&format!("    pub {part}: ")), "Memory has a part {part}");
    }
    let mut written = Vec::new();
    for directory in ["patroni-rs/core/src/ha", "patroni-rs/core/src/node", "patroni-rs/src"] {
        for path in sources(&root().join(directory)) {
            for (at, line) in code(&read(&path)) {
                for part in parts {
                    for (begins, _) in line.match_indices(&format!("m.{part}.")) {
                        let field = line[begins + part.len() + 3..]
                            .trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
                        let assigns = field.starts_with(" = ") || field.starts_with(" += ");
                        if assigns || line[..begins].trim_end().ends_with("&mut self.") {
                            written.push(format!("{}:{at}: {}", path.display(), line.trim()));
                        }
                    }
                }
            }
        }
    }
    assert!(written.is_empty(), "parts of the memory are written from outside:\n{}", written.join("\n"));
}

/// Who may lead is judged by what was seen and heard; a cycle asks, remembers and says what comes of it.
#[test]
fn the_race_is_no_part_of_a_cycle() {
    let ha = root().join("patroni-rs/core/src/ha");
    let files = ["race.rs", "race/order.rs", "race/votes.rs", "sync_standby/plan.rs"];
    for file in files {
        let text = read(&ha.join(file));
        let found =
            code(&text).find(|(_, line)| ["Cycle", "Script", "ask::"].iter().any(|word| line.contains(word)));
        assert!(found.is_none(), "{file}: {found:?}");
    }
}
