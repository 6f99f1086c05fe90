//! The reference of the configuration: as a page (docs/guide/configuration.md) and as the manual page patroni.yml(5).

mod keys;

use crate::env::variable_of;
use crate::validate::described;
use keys::{Applies, Row, CHAPTERS};

impl Applies {
    const fn text(self) -> &'static str {
        match self {
            Applies::Start => "restart of the daemon",
            Applies::Reload => "reload",
            Applies::Dynamic => "next cycle",
            Applies::Once => "only in a new cluster",
            Applies::Next => "next use",
        }
    }
}

/// What a value has to be: the validator's rule in words, with the unit.
fn kind(row: &Row) -> String {
    let rule = described().into_iter().find(|(path, _, _)| path == row.path);
    let (mut text, required) = match (&rule, row.free) {
        (Some((_, text, required)), _) => (text.clone(), *required),
        (None, free) => (free.unwrap_or("anything").to_owned(), false),
    };
    if !row.unit.is_empty() {
        text = format!("{text}, in {}", row.unit);
    }
    if required {
        text.push_str(", required");
    }
    text
}

/// The page.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(HEAD);
    for (heading, about, rows) in CHAPTERS {
        out.push_str(&format!("\n## {heading}\n\n"));
        if !about.is_empty() {
            out.push_str(&format!("{about}\n\n"));
        }
        out.push_str(
            "| key | type | default | takes effect | environment | meaning |\n|---|---|---|---|---|---|\n",
        );
        for row in *rows {
            let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
            out.push_str(&format!(
                "| `{}` | {} | {} | {} | {} | {} |\n",
                row.path,
                kind(row).replace('|', "\\|"),
                code(row.default),
                row.applies.text(),
                code(&variable_of(row.path).unwrap_or_default()),
                row.text
            ));
        }
    }
    out
}

const HEAD: &str = "# Configuration reference

Made from the tables of the program: do not edit. `REFERENCE=write cargo test -p patroni-config reference` writes it anew; a
test fails while it is stale. The keys, their meaning and their defaults are those of Patroni 4.1.5.

A key is written as a path: `restapi.listen` is `listen` in the section `restapi` of the YAML file. A variable of the
environment wins over the file; `PATRONI_CONFIGURATION` holds a whole document, and then no other is read. `patroni
--validate-config FILE` checks a file; keys that nobody knows are ignored there, as by the daemon.
";

/// The manual page of the file, in section 5.
#[must_use]
pub fn manual_page() -> String {
    let mut out = String::from(
        ".TH PATRONI.YML 5 \"\" \"Patroni 4.1.5\" \"Patroni\"\n.SH NAME\npatroni.yml \\- configuration of patroni and patronictl\n\
         .SH DESCRIPTION\nA YAML file, or a directory of files that end in .yml or .yaml and are merged in the order of their names.\n\
         Keys are written as paths here: restapi.listen is listen in the section restapi.\nA variable of the environment wins over the file.\n",
    );
    for (heading, about, rows) in CHAPTERS {
        out.push_str(&format!(".SH {}\n", heading.to_uppercase()));
        if !about.is_empty() {
            out.push_str(&format!("{}\n", roff(about)));
        }
        for row in *rows {
            out.push_str(&format!(".TP\n.B {}\n{}\n", roff(row.path), roff(row.text)));
            let mut facts = vec![kind(row)];
            if !row.default.is_empty() {
                facts.push(format!("default {}", row.default));
            }
            facts.push(format!("takes effect: {}", row.applies.text()));
            facts.extend(variable_of(row.path));
            out.push_str(&format!("({})\n", roff(&facts.join("; "))));
        }
    }
    out.push_str(".SH SEE ALSO\n.BR patroni (1),\n.BR patronictl (1)\n");
    out
}

/// Text that troff leaves as it is.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('`', "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use patroni_core::controlled::Controlled;
    use patroni_core::timing::Timing;

    use super::*;
    use crate::Environment;

    fn rows() -> impl Iterator<Item = &'static Row> {
        CHAPTERS.iter().flat_map(|(_, _, rows)| rows.iter())
    }

    #[test]
    fn every_key_of_the_validator_is_described_once() {
        let ours: Vec<&str> = rows().map(|row| row.path).collect();
        let unique: BTreeSet<&str> = ours.iter().copied().collect();
        assert_eq!(ours.len(), unique.len());
        let rules = described();
        let missing: Vec<&String> =
            rules.iter().map(|(path, _, _)| path).filter(|path| !unique.contains(path.as_str())).collect();
        assert!(missing.is_empty(), "no row in reference/keys.rs: {missing:?}");
        for row in rows() {
            let has_rule = rules.iter().any(|(path, _, _)| path == row.path);
            assert!(
                has_rule != row.free.is_some(),
                "{}: either a rule of the validator or a type of its own",
                row.path
            );
        }
    }

    /// A variable that the page names sets the key that it is named for.
    #[test]
    fn variables_set_what_they_say() {
        let mut named = BTreeSet::new();
        for row in rows() {
            let Some(variable) = variable_of(row.path) else { continue };
            let value = match row.path {
                "log.format" => "%(message)s",
                "log.static_fields"
                | "log.loggers"
                | "restapi.http_extra_headers"
                | "restapi.https_extra_headers" => "{a: b}",
                path if path.ends_with("labels")
                    || path.ends_with("set_acls")
                    || path.ends_with("auth_data") =>
                {
                    "{a: b}"
                }
                _ => "1",
            };
            // A user of etcd is read where something else says that there is etcd.
            let store = [("PATRONI_ETCD3_PORT".to_owned(), "1".to_owned())];
            let read =
                Environment::read(store.into_iter().chain([(variable.clone(), value.to_owned())])).unwrap();
            let path: Vec<&str> = row.path.split('.').collect();
            assert!(
                read.config.at(&path).is_some(),
                "{variable} does not set {}: {:?}",
                row.path,
                read.config
            );
            named.insert(variable);
        }
        assert!(named.len() > 90, "{}", named.len());
    }

    #[test]
    fn defaults_are_those_of_the_program() {
        let default = |path: &str| rows().find(|row| row.path == path).unwrap().default;
        for (key, seconds) in Timing::KEYS {
            assert_eq!(default(&format!("bootstrap.dcs.{key}")), seconds.to_string());
        }
        for (name, value) in Controlled::defaults() {
            if !["hot_standby", "wal_keep_segments"].contains(&name) {
                assert_eq!(
                    default(&format!("bootstrap.dcs.postgresql.parameters.{name}")),
                    value.py_str(),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn the_page_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/configuration.md");
        if std::env::var("REFERENCE").as_deref() == Ok("write") {
            std::fs::write(path, markdown()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == markdown(),
            "docs/guide/configuration.md is stale: REFERENCE=write cargo test -p patroni-config reference"
        );
    }

    #[test]
    fn the_manual_page_has_every_key() {
        let page = manual_page();
        assert_eq!(page.matches("\n.TP\n").count(), rows().count());
        assert!(page.lines().all(|line| !line.is_empty() && !line.starts_with('\'')), "{page}");
    }
}
