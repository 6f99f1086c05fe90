//! What the sources of a directory must not say.

use super::tree::{code, read, root, sources, texts};

/// Sources that must not contain one of these texts, outside of tests and comments, but for the files named.
pub struct Never {
    pub directory: &'static str,
    says: &'static [&'static str],
    but: &'static [&'static str],
    why: &'static str,
}

const WALL_CLOCK: &[&str] = &["SystemTime::now", "Timestamp::now", "Zoned::now"];
const RUNS_PROGRAMS: &[&str] =
    &["Command::new", "tokio::process", "nix::unistd::fork", "nix::unistd::exec", "libc::fork"];
const OUTSIDE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "File::",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "Zoned::now",
    "tokio",
    "rand::",
    "println!",
];

/// What only the driver does: a second one beside it would drift from the one that is simulated.
const DRIVES: &[&str] =
    &["keeper::Keeper", "Keeper::new", "ha::run", "run_shutdown", "Arm::of", ".job_finished("];

pub const NEVER: &[Never] = &[
    Never { directory: "patroni-rs/src", says: DRIVES, but: &[], why: "core/node drives the engine, in the daemon and in the simulation" },
    Never { directory: "compat-tests/src/sim", says: DRIVES, but: &[], why: "core/node drives the engine, in the daemon and in the simulation" },
    // build_info: the names of the machine and the system it was built for.
    Never { directory: "patroni-rs/core/src", says: OUTSIDE, but: &["build_info.rs"], why: "core does no I/O, reads no clock, rolls no dice" },
    Never { directory: "patroni-rs/raft/src/machine.rs", says: OUTSIDE, but: &[], why: "the machine is told the time and what has come" },
    Never { directory: "patroni-rs/raft/src/machine", says: OUTSIDE, but: &[], why: "the machine is told the time and what has come" },
    Never { directory: "patroni-rs/pyfmt/src", says: OUTSIDE, but: &[], why: "pyfmt makes values of texts, and texts of values" },
    Never {
        directory: "patroni-rs/pyfmt/src",
        says: &["patroni", "Patroni", "postgres", "Postgres"],
        but: &[],
        why: "pyfmt knows Python, and not Patroni",
    },
    Never {
        directory: "patroni-rs/config/src",
        says: RUNS_PROGRAMS,
        // The validator asks `postgres --version`.
        but: &["validate/files.rs"],
        why: "config reads and writes configurations; it starts nothing",
    },
    Never {
        directory: "patroni-rs/dcs/src",
        says: &["patroni_core::ha", "patroni_core::quorum", "patroni_core::sync", "patroni_core::slots", "patroni_core::rewind"],
        but: &[],
        why: "a store carries out operations; whether, and when, is the engine's to say",
    },
    Never {
        directory: "patroni-rs/postgres/src/files",
        says: &["Command::new", "std::process", "tokio::process", "Invocation", "crate::sql"],
        but: &[],
        why: "files are written from values; no process is run and no server asked for them",
    },
    Never {
        directory: "patroni-rs/postgres/src",
        says: &["ha::run", "ha::Memory", "ha::View", "ha::Request", "patroni_core::quorum"],
        but: &[],
        why: "PostgreSQL's processes, files and statements decide nothing",
    },
    Never {
        directory: "patroni-rs",
        // The signal that is none: it asks whether a process is there.
        says: &["raw(pid), None)", "pid, None)", "kill(None"],
        but: &["postgres/src/process/evidence.rs", "postgres/src/process/proc.rs"],
        why: "whether a server has ended is said in one place, by proof: a look that failed says nothing",
    },
    Never {
        directory: "patroni-rs/postgres/src/process/evidence.rs",
        says: &[".exists()", ".is_dir()", ".is_file()", "unwrap_or(false)"],
        but: &[],
        why: "a look that failed is not an answer: errors are told from `no`",
    },
    Never {
        directory: "patroni-rs/api/src",
        says: &["ha::run", "ha::Memory", "ha::Request", "patroni_dcs", "patroni_postgres", "etcd"],
        but: &[],
        why: "the REST API answers from a snapshot; effects go through `Backend`",
    },
    Never {
        directory: "patroni-rs/src/instance",
        says: &["ha::run", "ha::Memory", "patroni_dcs", "crate::shell"],
        but: &[],
        why: "an instance does what it is told",
    },
    Never {
        directory: "patroni-rs/src/guardian",
        says: &["Role", "patroni_dcs", "patroni_config", "patroni_api", "crate::shell", "Instance", "sql::", "postgres::files"],
        but: &[],
        why: "the guardian knows a postmaster and an instant, no role, no DCS",
    },
    Never {
        directory: "patroni-rs/src/guardian/process.rs",
        says: &["tokio", "File::", "data_dir", "Mutex", "sql::"],
        but: &[],
        why: "the guardian's own process waits for nothing but its pipe and its clock; PGDATA is a name to it",
    },
    Never {
        directory: "patroni-rs/src/releaser.rs",
        says: &["data_dir", "patroni_postgres", "Command::", "crate::shell", "Instance"],
        but: &[],
        why: "the releaser ends a session; whether a server has ended was proven before, and PGDATA is a name to it",
    },
    Never {
        directory: "patroni-rs/src/shell/lease.rs",
        says: &["tokio::time", "tokio::runtime", "tokio::spawn", "std::fs", "sql::", "data_dir", ".await"],
        but: &[],
        why: "the lock keeper's thread touches neither PGDATA nor SQL nor the runtime of the HA loop",
    },
    Never {
        directory: "patroni-rs/src/log",
        says: &["std::fs", "File::", "OpenOptions"],
        but: &["file.rs", "writer.rs"],
        why: "who logs never waits for a disk: the writer's thread alone touches files",
    },
    Never {
        directory: "patroni-rs",
        says: WALL_CLOCK,
        but: &[
            // What the loop sees, and what the log, the keys and the answers tell people. Promises and waits go by CLOCK_BOOTTIME.
            "src/shell/tick.rs",
            "src/log/",
            "src/guardian/process.rs",
            "src/reaper.rs",
            "dcs/src/",
            // The stamps of a dictionary that the reference shares, and what its leader's clock is compared with.
            "raft/src/node.rs",
            "api/src/actions/schedule.rs",
            "api/src/server/",
            "postgres/src/process/control.rs",
            "scripts/src/",
        ],
        why: "the wall clock may be set back: nothing that is safe may depend on it",
    },
    Never {
        directory: "patroni-rs",
        says: &["thread::sleep"],
        but: &[
            // Threads of their own, what says of itself that it blocks, and programs that do one thing.
            "src/watchdog/linux.rs",
            // The last second of a daemon that has panicked.
            "src/process.rs",
            "postgres/src/process/evidence.rs",
            "postgres/src/process/fence.rs",
            "postgres/src/process/bound.rs",
            "config/src/validate/files.rs",
            "scripts/src/",
        ],
        why: "a thread of the runtime that sleeps stops others with it: `tokio::time::sleep`, or better, wait for the event",
    },
];

fn broken(never: &Never) -> Vec<String> {
    let directory = root().join(never.directory);
    let mut found = Vec::new();
    for path in sources(&directory) {
        let inside = path.strip_prefix(&directory).unwrap_or(&path).display().to_string();
        if never.but.iter().any(|but| inside.starts_with(but)) {
            continue;
        }
        for (at, line) in code(&read(&path)) {
            for text in never.says.iter().filter(|text| line.contains(*text)) {
                found.push(format!("{}:{at} says {text}: {}", path.display(), never.why));
            }
        }
    }
    found
}

#[test]
fn no_source_says_what_it_must_not() {
    let found: Vec<String> = NEVER.iter().flat_map(broken).collect();
    assert!(found.is_empty(), "docs/architecture.md, \"must never\":\n{}", found.join("\n"));
}

#[test]
fn exceptions_are_there() {
    for never in NEVER {
        for but in never.but {
            assert!(
                root().join(never.directory).join(but).exists(),
                "{}: there is no {but} to except",
                never.directory
            );
        }
    }
}

/// A word, or words, or their plural with an s; not a part of another one. Both in small letters.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        let after = line.get(at + word.len()..).unwrap_or_default();
        let after = after.strip_prefix('s').unwrap_or(after);
        !before.ends_with(char::is_alphabetic) && !after.starts_with(char::is_alphabetic)
    })
}

#[test]
fn words_are_told_from_parts_of_words() {
    for (line, word, has) in [
        ("let data_folder = 1;", "folder", true),
        ("two folders.", "folder", true),
        ("a scaffolder", "folder", false),
        ("it waits for ever", "for ever", true),
        ("for everybody, for every one", "for ever", false),
    ] {
        assert_eq!(has_word(line, word), has, "{line}");
    }
}

/// docs/glossary.md lists words for which this project has another one. Only a recording of the reference says what the
/// reference says.
#[test]
fn no_text_has_a_word_that_the_glossary_replaces() {
    let glossary = root().join("docs/glossary.md");
    let (_, table) = read(&glossary)
        .split_once("| not | but |\n")
        .map(|(before, table)| (before.to_owned(), table.to_owned()))
        .expect("the table");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let replaced: Vec<(String, &str)> = rows
        .filter_map(|row| row.trim_matches('|').split_once(" | "))
        .map(|(not, but)| (not.trim().to_lowercase(), but.trim()))
        .collect();
    assert!(replaced.len() > 5, "{replaced:?}");
    let mut found = Vec::new();
    for path in texts(&root()) {
        if path == glossary || path.ends_with("architecture/words.rs") {
            continue;
        }
        for (at, line) in read(&path).lines().enumerate() {
            let line = line.to_lowercase();
            for (not, but) in replaced.iter().filter(|(not, _)| has_word(&line, not)) {
                found.push(format!("{}:{}: not {not}, but {but}", path.display(), at + 1));
            }
        }
    }
    assert!(found.is_empty(), "docs/glossary.md:\n{}", found.join("\n"));
}

/// How user and password of the REST API are compared: a table of values cannot tell constant time from `==`.
#[test]
fn passwords_are_compared_in_constant_time() {
    let text = read(&root().join("patroni-rs/api/src/credentials.rs"));
    let compared: Vec<&str> =
        code(&text).map(|(_, line)| line.trim()).filter(|line| line.contains("self.0")).collect();
    assert_eq!(compared, ["given.len() == self.0.len() && memcmp::eq(given.as_bytes(), self.0.as_bytes())"]);
    let derived: Vec<&str> =
        code(&text).map(|(_, line)| line).filter(|line| line.contains("derive")).collect();
    assert_eq!(derived, ["#[derive(Clone)]"], "`==` on credentials must not compile");
    let access = read(&root().join("patroni-rs/api/src/access.rs"));
    assert!(access.contains("if ours.are(given) {"), "who may call is decided by Credentials::are");
}
