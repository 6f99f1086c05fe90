//! Which program this is: what tells it from the reference, whose texts it repeats everywhere else.

use crate::ha::VERSION;

/// What the program is called where the reference would have no name.
pub const IMPLEMENTATION: &str = "patroni-rs";

/// Its own version; [`VERSION`] is that of Patroni, for which it stands.
pub const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, where the one who built it set `PATRONI_RS_COMMIT`.
pub const COMMIT: &str = match option_env!("PATRONI_RS_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Machine, system and C library.
#[must_use]
pub fn target() -> String {
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!("{}-{}-{libc}", std::env::consts::ARCH, std::env::consts::OS)
}

/// What `--build-info` prints: one `key: value` a line, which is YAML, too.
#[must_use]
pub fn page(tls: &str) -> String {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let rows = [
        ("implementation", IMPLEMENTATION),
        ("version", OWN_VERSION),
        ("patroni", VERSION),
        ("commit", COMMIT),
        ("target", &target()),
        ("profile", profile),
        ("tls", tls),
    ];
    rows.iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
}

/// The same in a line, for the log.
#[must_use]
pub fn line(tls: &str) -> String {
    let target = target();
    format!("{IMPLEMENTATION} {OWN_VERSION} (commit {COMMIT}, {target}, {tls}), for Patroni {VERSION}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_both_versions() {
        let page = page("OpenSSL 3");
        assert!(page.starts_with("implementation: patroni-rs\nversion: "), "{page}");
        assert!(page.contains("\npatroni: 4.1.5\ncommit: "), "{page}");
        assert!(page.ends_with("\ntls: OpenSSL 3\n"), "{page}");
        assert!(line("T").ends_with("T), for Patroni 4.1.5"));
    }
}
