//! The pages of docs/guide: the recipes in them, which the acceptance scenarios carry out, and what can be checked without a
//! cluster.

use crate::lab::{host, Result};

/// A line of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it is typed: `admin`, or a node.
    pub host: String,
    /// What is typed there.
    pub command: String,
}

/// The recipe of that name (`<!-- recipe: NAME -->` and a block of `console`) in a page of docs/guide.
///
/// # Errors
/// There is no such page, recipe, or a line of it has no prompt.
pub fn recipe(page: &str, name: &str) -> Result<Vec<Line>> {
    let path = host::repository().join("docs/guide").join(page);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text, name)
}

fn parse(text: &str, name: &str) -> Result<Vec<Line>> {
    let mark = format!("<!-- recipe: {name} -->\n```console\n");
    let (_, rest) = text.split_once(&mark).ok_or_else(|| format!("no recipe {name}"))?;
    let (block, _) = rest.split_once("\n```").ok_or("a block without an end")?;
    block.lines().map(line).collect()
}

fn line(text: &str) -> Result<Line> {
    let prompt = text.find(['$', '#']).filter(|at| text.get(at + 1..at + 2) == Some(" "));
    let (host, command) = prompt.map(|at| text.split_at(at)).ok_or_else(|| format!("no prompt: {text}"))?;
    Ok(Line { host: host.into(), command: command.get(2..).unwrap_or_default().into() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use pyfmt::{yaml, Value};
    use regex::Regex;

    use super::*;

    #[test]
    fn recipes_have_hosts_and_commands() {
        let page =
            "x\n<!-- recipe: a -->\n```console\npg1# systemctl stop patroni\nadmin$ patronictl list\n```\n";
        let lines = parse(page, "a").unwrap();
        assert_eq!(lines[1], Line { host: "admin".into(), command: "patronictl list".into() });
        assert!(parse(page, "b").is_err());
        assert!(parse(&page.replace("pg1# ", "pg1 "), "a").is_err());
    }

    fn pages() -> Vec<(PathBuf, String)> {
        let root = host::repository();
        let mut found: Vec<PathBuf> =
            ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|f| root.join(f)).into();
        let mut directories = vec![root.join("docs"), root.join("packaging")];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|e| e == "md") {
                    found.push(path);
                }
            }
        }
        found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
    }

    fn anchors(text: &str) -> BTreeSet<String> {
        let headings =
            text.lines().filter_map(|line| line.strip_prefix('#').map(|l| l.trim_start_matches('#').trim()));
        let slug = |heading: &str| -> String {
            let kept = heading.to_lowercase().replace(' ', "-");
            kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
        };
        let named = Regex::new(r#"(?:id|name)="([^"]+)""#).unwrap();
        headings.map(slug).chain(named.captures_iter(text).map(|c| c[1].to_owned())).collect()
    }

    #[test]
    fn links_lead_somewhere() {
        let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
        let mut broken = Vec::new();
        let mut count = 0;
        for (path, text) in pages() {
            for found in link.captures_iter(&text) {
                let target = &found[1];
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                count += 1;
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let there = if file.is_empty() {
                    path.clone()
                } else {
                    path.parent().unwrap_or(Path::new("")).join(file)
                };
                let whole = std::fs::read_to_string(&there);
                let ok = there.exists()
                    && (anchor.is_empty() || whole.is_ok_and(|text| anchors(&text).contains(anchor)));
                if !ok {
                    broken.push(format!("{}: {target}", path.display()));
                }
            }
        }
        assert!(broken.is_empty(), "{broken:#?}");
        assert!(count > 50, "{count}");
    }

    /// Blocks of one language in the pages of the guide.
    fn blocks(language: &str) -> Vec<(PathBuf, String)> {
        let block = Regex::new(&format!(r"(?s)```{language}\n(.*?)\n```")).unwrap();
        let guide = |path: &Path| path.to_string_lossy().contains("docs/guide");
        let all = pages().into_iter().filter(|(path, _)| guide(path));
        all.flat_map(|(path, text)| {
            block.captures_iter(&text).map(|c| (path.clone(), c[1].to_owned())).collect::<Vec<_>>()
        })
        .collect()
    }

    /// Samples of configuration are YAML, and each of their keys is in the reference of the configuration.
    #[test]
    fn samples_have_keys_that_exist() {
        let reference =
            std::fs::read_to_string(host::repository().join("docs/guide/configuration.md")).unwrap();
        let known: BTreeSet<String> = Regex::new(r"(?m)^\| `([^`]+)` \|")
            .unwrap()
            .captures_iter(&reference)
            .map(|c| c[1].to_owned())
            .collect();
        let mut count = 0;
        for (path, text) in blocks("yaml") {
            let value = yaml::load(&text).map_err(|e| format!("{}: {e}\n{text}", path.display())).unwrap();
            let mut keys = Vec::new();
            collect("", &value, &mut keys);
            // A method of the user's has keys of its own.
            let method = value.get("bootstrap").and_then(|b| b.get("method")).and_then(Value::as_str);
            let own = method.map(|method| format!("bootstrap.{method}"));
            keys.retain(|key| own.as_ref().is_none_or(|own| !key.starts_with(own)));
            for key in keys {
                count += 1;
                let dynamic = format!("bootstrap.dcs.{key}");
                let is = |key: &str| {
                    let key = key.replace("etcd.", "etcd3.");
                    known.iter().any(|k| {
                        *k == key || k.starts_with(&format!("{key}.")) || key.starts_with(&format!("{k}."))
                    })
                };
                assert!(is(&key) || is(&dynamic), "{}: no key {key}", path.display());
            }
        }
        assert!(count > 20, "{count}");
    }

    fn collect(path: &str, value: &Value, keys: &mut Vec<String>) {
        for (key, value) in value.as_map().into_iter().flatten() {
            let path = if path.is_empty() { key.py_str() } else { format!("{path}.{}", key.py_str()) };
            collect(&path, value, keys);
            keys.push(path);
        }
    }

    /// Commands of patronictl, and their options, are those of its help pages.
    #[test]
    fn commands_of_patronictl_exist() {
        let help = host::repository().join("fixtures/ctl/help");
        let called = Regex::new(r"patronictl((?: +-[ck] +\S+)*) +([a-z][a-z-]+)([^|;&\n]*)").unwrap();
        let option = Regex::new(r" (--?[a-z][a-z-]*)").unwrap();
        let mut count = 0;
        for (path, text) in blocks("console").into_iter().chain(blocks("sh")) {
            for found in called.captures_iter(&text) {
                let page = std::fs::read_to_string(help.join(format!("{}.txt", &found[2])));
                let page = page.map_err(|_| format!("{}: no command {}", path.display(), &found[2])).unwrap();
                for option in option.captures_iter(&found[3]) {
                    assert!(
                        page.contains(&option[1]),
                        "{}: {} has no {}",
                        path.display(),
                        &found[2],
                        &option[1]
                    );
                }
                count += 1;
            }
        }
        assert!(count > 5, "{count}");
    }

    fn fresh(page: &str, text: &str) {
        let path = host::repository().join("docs/guide").join(page);
        if std::env::var("REFERENCE").as_deref() == Ok("write") {
            std::fs::write(&path, text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "docs/guide/{page} is stale: REFERENCE=write cargo test -p compat-tests --lib page"
        );
    }

    /// The help pages, which a test of patronictl holds against its table of commands.
    #[test]
    fn the_reference_of_patronictl_is_fresh() {
        let help = host::repository().join("fixtures/ctl/help");
        let mut names: Vec<String> = std::fs::read_dir(&help)
            .unwrap()
            .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".txt")?.to_owned()))
            .filter(|name| !name.starts_with("width") && name != "patronictl")
            .collect();
        names.sort();
        let mut text = String::from(
            "# patronictl reference\n\nMade from the help pages: do not edit. `REFERENCE=write cargo test -p compat-tests --lib page` writes it anew; a \
             test\nfails while it is stale. Shell completion: `patronictl --completion bash` (or `zsh`, `fish`), which the packages install.\n",
        );
        for name in std::iter::once("patronictl").chain(names.iter().map(String::as_str)) {
            let page = std::fs::read_to_string(help.join(format!("{name}.txt"))).unwrap();
            text.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", page.trim_end()));
        }
        fresh("patronictl.md", &text);
    }

    /// Every endpoint of the program's table of routes is described, and nothing else.
    #[test]
    fn the_reference_of_the_api_has_every_endpoint() {
        let routes = std::fs::read_to_string(host::repository().join("patroni-rs/api/src/route.rs")).unwrap();
        let (table, _) = routes.split_once("#[cfg(test)]").unwrap();
        let name = Regex::new(r#""(GET|POST|PUT|PATCH|DELETE)_([a-z]+)" =>"#).unwrap();
        let ours: BTreeSet<String> =
            name.captures_iter(table).map(|c| format!("{} /{}", c[1].to_lowercase(), &c[2])).collect();
        assert!(ours.len() > 20, "{ours:?}");
        let file = host::repository().join("docs/guide/openapi.yaml");
        let document = yaml::load(&std::fs::read_to_string(file).unwrap()).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document.get("paths").and_then(Value::as_map).unwrap() {
            let methods = methods.as_map().unwrap();
            described
                .extend(methods.iter().map(|(method, _)| format!("{} {}", method.py_str(), path.py_str())));
        }
        let missing: Vec<&String> = ours.difference(&described).collect();
        assert!(missing.is_empty(), "{missing:?}");
        // What is described beyond the table is a health check by role.
        let more: Vec<&String> =
            described.difference(&ours).filter(|name| !name.starts_with("get /")).collect();
        assert!(more.is_empty(), "{more:?}");
    }

    #[test]
    fn the_table_of_contents_has_every_page() {
        let docs = host::repository().join("docs");
        let contents = std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
        for (path, _) in pages().iter().filter(|(path, _)| path.starts_with(docs.join("guide"))) {
            let name = path.strip_prefix(&docs).unwrap().display().to_string();
            assert!(contents.contains(&format!("({name})")), "{name} is not in docs/SUMMARY.md");
        }
    }
}
