//! The repository's files, as the rules look at them.

use std::fs;
use std::path::{Path, PathBuf};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Sources without their tests.
pub fn sources(path: &Path) -> Vec<PathBuf> {
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
pub fn all_sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return if path.extension().is_some_and(|e| e == "rs") { vec![path.to_owned()] } else { Vec::new() };
    }
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    entries.flatten().flat_map(|entry| all_sources(&entry.path())).collect()
}

/// All that people have written: no recordings, no programs, nothing that was built.
pub fn texts(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if path.is_file() {
        let written =
            !["json", "jsonl", "snap", "lock", "svg"].iter().any(|e| name.ends_with(&format!(".{e}")));
        let text = written && fs::read(path).is_ok_and(|bytes| std::str::from_utf8(&bytes).is_ok());
        return if text { vec![path.to_owned()] } else { Vec::new() };
    }
    if path.is_symlink() || ["target", ".git", "corpus", "recorded"].contains(&name.as_str()) {
        return Vec::new();
    }
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    entries.flatten().flat_map(|entry| texts(&entry.path())).collect()
}

/// The lines of code of a file up to its tests, without comments.
pub fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    // A module of tests is the last thing of a file; a declaration of one (`mod tests;`) is not.
    let is_module = |at: &usize| {
        text.get(*at..).is_some_and(|rest| rest.lines().skip(1).take(3).any(|l| l == "mod tests {"))
    };
    let tests = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(is_module).unwrap_or(text.len());
    let lines = text.get(..tests).unwrap_or(text).lines().enumerate();
    lines.map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
}

#[test]
fn code_is_told_from_comments_and_tests() {
    let text =
        "use a; // tokio\n/// tokio\nlet b = 1;\n#[cfg(test)]\n#[allow(a)]\nmod tests {\n    use tokio;\n}\n";
    let seen: Vec<&str> = code(text).map(|(_, line)| line.trim()).filter(|line| !line.is_empty()).collect();
    assert_eq!(seen, ["use a;", "let b = 1;"]);
}
