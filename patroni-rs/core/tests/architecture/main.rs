//! The "must never" column of docs/architecture.md: what each room of the house may depend on (`crates`), what its
//! sources must not say (`words`), and what types and fields are held to (`shape`). A rule that stops a change is talked
//! about in docs/architecture.md first, then changed here.

#![allow(clippy::expect_used, missing_docs)]

mod crates;
mod shape;
mod tree;
mod words;

use tree::{read, root};
use words::NEVER;

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
    ("`patroni-rs/src/releaser.rs`", "know PGDATA", &["patroni-rs/src/releaser.rs"]),
    ("`patroni-rs/src/log`", "wait for a disk", &["patroni-rs/src/log"]),
];

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
