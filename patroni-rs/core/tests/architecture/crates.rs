//! Which crate may use which, that it uses what it names, and the lowest Rust that the dependencies allow.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::tree::{all_sources, read, root};

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
