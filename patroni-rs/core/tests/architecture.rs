//! The "must never" column of docs/architecture.md: what each room of the house may depend on, and what its sources
//! must not say. A rule that stops a change is talked about in docs/architecture.md first, then changed here.

#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// See [`CRATES`].
type Crate = (&'static str, &'static [&'static str], Option<&'static [&'static str]>);

/// A crate, the crates of the workspace that it may use, and all others (None: whatever it likes). Arrows go down
/// only: no crate may use one that stands below it here.
const CRATES: &[Crate] = &[
    ("compat-tests", &["patroni-core", "patroni-dcs", "patroni-raft", "patroni-requests", "pyfmt"], None),
    (
        "patronictl-rs",
        &["patroni-config", "patroni-core", "patroni-dcs", "patroni-net", "patroni-postgres", "pyfmt"],
        None,
    ),
    (
        "patroni-rs",
        &[
            "patroni-api",
            "patroni-config",
            "patroni-core",
            "patroni-dcs",
            "patroni-net",
            "patroni-postgres",
            "patroni-raft",
            "patroni-requests",
            "pyfmt",
        ],
        None,
    ),
    ("patroni-rs/scripts", &["patroni-net", "patroni-postgres", "pyfmt"], None),
    // The REST API reaches the DCS and PostgreSQL through its `Backend` alone.
    ("patroni-rs/api", &["patroni-core", "patroni-net", "pyfmt"], None),
    ("patroni-rs/postgres", &["patroni-core", "pyfmt"], None),
    // The one place that knows the engine's questions and the port both.
    ("patroni-rs/requests", &["patroni-core", "patroni-dcs"], Some(&[])),
    ("patroni-rs/dcs", &["patroni-core", "patroni-net", "patroni-raft", "pyfmt"], None),
    ("patroni-rs/raft", &["patroni-core"], None),
    ("patroni-rs/net", &["pyfmt"], None),
    ("patroni-rs/config", &["patroni-core", "pyfmt"], None),
    // No runtime, no dice, no log, no clock.
    ("patroni-rs/core", &["pyfmt"], Some(&["indexmap", "thiserror"])),
    // nix: the names and texts of errno.
    ("patroni-rs/pyfmt", &[], Some(&["indexmap", "nix", "thiserror"])),
];

/// Sources that must not contain one of these texts, outside of tests and comments, but for the files named.
struct Never {
    directory: &'static str,
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

const NEVER: &[Never] = &[
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
            "api/src/actions/schedule.rs",
            "api/src/server/",
            "postgres/src/process/control.rs",
            "scripts/src/",
        ],
        why: "the wall clock may be set back: nothing that is safe may hang on it",
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

/// Each row of the map in docs/architecture.md that must never do something: which part it is, the words, and the
/// directories of [`NEVER`] that hold them.
const MUST_NEVER: &[(&str, &str, &[&str])] = &[
    ("`patroni-rs/pyfmt`", "know Patroni", &["patroni-rs/pyfmt/src"]),
    ("`patroni-rs/core` `model/`", "do I/O", &["patroni-rs/core/src"]),
    ("`core/src/ha/`", "read a clock, roll dice", &["patroni-rs/core/src"]),
    (
        "`core/src/node/`",
        "read a clock; be gone around by `shell` or `sim`",
        &["patroni-rs/core/src", "patroni-rs/src", "compat-tests/src/sim"],
    ),
    (
        "`patroni-rs/config`",
        "start anything (the validator asks `postgres --version`)",
        &["patroni-rs/config/src"],
    ),
    ("`patroni-rs/dcs`", "decide", &["patroni-rs/dcs/src"]),
    (
        "`patroni-rs/raft` `machine/`",
        "read a clock, roll dice, do I/O",
        &["patroni-rs/raft/src/machine.rs", "patroni-rs/raft/src/machine"],
    ),
    ("`patroni-rs/postgres` `files/`", "run a process", &["patroni-rs/postgres/src/files"]),
    (
        "`postgres` `process/evidence.rs`",
        "trust one look",
        &["patroni-rs", "patroni-rs/postgres/src/process/evidence.rs"],
    ),
    ("`postgres` `process/`", "decide", &["patroni-rs/postgres/src"]),
    ("`patroni-rs/api`", "touch the DCS itself", &["patroni-rs/api/src"]),
    ("`patroni-rs/src/instance`", "decide", &["patroni-rs/src/instance"]),
    (
        "`patroni-rs/src/shell`",
        "decide when the fence is armed, from when a lease counts, what may start",
        &["patroni-rs/src"],
    ),
    (
        "`patroni-rs/src/guardian`",
        "know a role, a DCS; look into PGDATA, which is a name to it",
        &["patroni-rs/src/guardian", "patroni-rs/src/guardian/process.rs"],
    ),
    ("`patroni-rs/src/log`", "wait for a disk", &["patroni-rs/src/log"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Names in `[dependencies]`, without those of tests.
fn dependencies(crate_directory: &str) -> BTreeSet<String> {
    let manifest = read(&root().join(crate_directory).join("Cargo.toml"));
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.starts_with("dependencies]") || section.starts_with("target.");
        } else if let Some(name) =
            line.split(['=', '.', ' ']).next().filter(|name| inside && !name.is_empty())
        {
            if !name.starts_with('#') {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

fn package(crate_directory: &str) -> String {
    let manifest = read(&root().join(crate_directory).join("Cargo.toml"));
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = \""));
    name.and_then(|name| name.split('"').next()).expect("a package has a name").to_owned()
}

#[test]
fn crates_use_only_those_below_them() {
    let names: Vec<String> = CRATES.iter().map(|(directory, ..)| package(directory)).collect();
    let workspace = read(&root().join("Cargo.toml"));
    let members =
        workspace.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("members").0;
    for member in members.lines().map(|line| line.trim().trim_matches([',', '"'])).filter(|m| !m.is_empty()) {
        assert!(CRATES.iter().any(|(directory, ..)| *directory == member), "{member} is missing here");
    }
    for (at, (directory, ours, others)) in CRATES.iter().enumerate() {
        for name in dependencies(directory) {
            match names.iter().position(|known| *known == name) {
                Some(there) => {
                    assert!(ours.contains(&name.as_str()), "{directory} must not use {name}");
                    assert!(there > at, "{directory} uses {name}, which stands above it");
                }
                None => {
                    let allowed = others.is_none_or(|others| others.contains(&name.as_str()));
                    assert!(allowed, "{directory} must not use {name}");
                }
            }
        }
    }
}

/// Sources without their tests.
fn sources(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if path.is_file() {
        return if name.ends_with(".rs") && !name.contains("test") {
            vec![path.to_owned()]
        } else {
            Vec::new()
        };
    }
    if ["tests", "examples", "target", "benches"].contains(&name.as_str()) {
        return Vec::new();
    }
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    entries.flatten().flat_map(|entry| sources(&entry.path())).collect()
}

/// Sources with their tests.
fn all_sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return if path.extension().is_some_and(|e| e == "rs") { vec![path.to_owned()] } else { Vec::new() };
    }
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    entries.flatten().flat_map(|entry| all_sources(&entry.path())).collect()
}

/// The lines of code of a file up to its tests, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    // A module of tests is the last thing of a file; a declaration of one (`mod tests;`) is not.
    let is_module = |at: &usize| {
        text.get(*at..).is_some_and(|rest| rest.lines().skip(1).take(3).any(|l| l == "mod tests {"))
    };
    let tests = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(is_module).unwrap_or(text.len());
    let lines = text.get(..tests).unwrap_or(text).lines().enumerate();
    lines.map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
}

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

#[test]
fn each_must_never_of_the_map_is_held() {
    let map = read(&root().join("docs/architecture.md"));
    let (_, map) = map.split_once("| where | what | must never |").expect("the map");
    let rows = map.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    let written: Vec<(&str, &str)> = cells
        .filter_map(|cells| Some((*cells.first()?, *cells.last()?)))
        .filter(|(part, words)| !words.is_empty() && part != words)
        .collect();
    let held: Vec<(&str, &str)> = MUST_NEVER.iter().map(|(part, words, _)| (*part, *words)).collect();
    assert_eq!(written, held, "docs/architecture.md and what is held here");
    for (part, _, directories) in MUST_NEVER {
        for directory in *directories {
            assert!(
                NEVER.iter().any(|never| never.directory == *directory),
                "{part}: nothing holds {directory}"
            );
        }
    }
}

#[test]
fn dependencies_are_used() {
    let root = root();
    for (directory, ..) in CRATES {
        let inner = CRATES.iter().map(|(other, ..)| *other).filter(|other| other != directory);
        let inner: Vec<PathBuf> = inner.map(|other| root.join(other).join("src")).collect();
        let mut text = String::new();
        for path in all_sources(&root.join(directory).join("src")) {
            if !inner.iter().any(|other| path.starts_with(other)) {
                text.push_str(&read(&path));
            }
        }
        for name in dependencies(directory) {
            let name = name.replace('-', "_");
            let used = [format!("{name}::"), format!("use {name};")].iter().any(|word| text.contains(word));
            assert!(used, "{directory} does not use {name}");
        }
    }
}

/// `cargo metadata` knows what each dependency asks for; nothing is fetched.
#[test]
fn no_dependency_wants_a_newer_rust() {
    // Three numbers: 1.88 is 1.88.0.
    let version = |text: &str| -> Vec<u32> {
        text.split('.').map(|n| n.parse().unwrap_or(0)).chain([0, 0]).take(3).collect()
    };
    let workspace = read(&root().join("Cargo.toml"));
    let stated = workspace.split_once("rust-version = \"").and_then(|(_, rest)| rest.split_once('"'));
    let stated = version(stated.expect("the lowest Rust is stated").0);
    let mut metadata = std::process::Command::new(env!("CARGO"));
    let metadata = metadata.args(["metadata", "--format-version", "1", "--offline"]).current_dir(root());
    let text = metadata.output().expect("cargo metadata runs").stdout;
    let document = pyfmt::json::loads(&String::from_utf8_lossy(&text)).expect("JSON");
    let packages = document.get("packages").and_then(pyfmt::Value::as_list).expect("packages");
    assert!(packages.len() > 100, "cargo metadata lists the dependencies");
    for package in packages {
        let get = |key| package.get(key).and_then(pyfmt::Value::as_str).unwrap_or_default();
        let wanted = version(get("rust_version"));
        let (name, own) = (get("name"), get("version"));
        assert!(wanted <= stated || get("rust_version").is_empty(), "{name} {own} wants Rust {wanted:?}");
    }
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

#[test]
fn code_is_told_from_comments_and_tests() {
    let text =
        "use a; // tokio\n/// tokio\nlet b = 1;\n#[cfg(test)]\n#[allow(a)]\nmod tests {\n    use tokio;\n}\n";
    let seen: Vec<&str> = code(text).map(|(_, line)| line.trim()).filter(|line| !line.is_empty()).collect();
    assert_eq!(seen, ["use a;", "let b = 1;"]);
}
