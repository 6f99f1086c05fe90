//! Where the cases happen: the keys of many clusters in etcd, under a namespace of a worker's own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::fake::{Fake, Puts};
use super::Case;
use crate::lab::etcd::Etcd;
use crate::lab::{host, Result};

/// The keys that every case starts with; see [`World::filled`] for the placeholders. `service` is the directory.
pub const KEYS: &str = include_str!("world.tsv");

/// The world of one worker.
pub struct World {
    /// The test cluster's directory, where our program is.
    pub lab: PathBuf,
    /// The worker's directory: home, working directory, configurations.
    pub directory: PathBuf,
    /// Where PostgreSQL's programs are.
    pub bin: PathBuf,
    /// The REST APIs.
    pub fake: Fake,
    etcd: Arc<Etcd>,
    namespace: String,
    /// Ports of PostgreSQL that placeholders `PG1` and `PG2` stand for.
    postgres: Vec<u16>,
    before: Mutex<BTreeMap<String, String>>,
}

/// The year of now, for it is in all times of now.
pub fn this_year() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let days = seconds.map_or(0, |s| s.as_secs() / 86_400);
    // Close enough: tests on New Year's Eve may differ by an hour.
    (1970 + (days * 4 / 1461)).to_string()
}

impl World {
    /// Makes the directory and starts the server.
    ///
    /// # Errors
    /// No port, no directory.
    pub fn new(
        number: usize,
        lab: PathBuf,
        bin: PathBuf,
        etcd: Arc<Etcd>,
        postgres: Vec<u16>,
    ) -> Result<World> {
        let directory = lab.join(format!("home{number}"));
        std::fs::create_dir_all(&directory)?;
        host::give_away(&directory)?;
        let namespace = format!("/n{number}/");
        let (shared, prefix) = (Arc::clone(&etcd), namespace.clone());
        let port = host::free_port()?;
        let filler = Filler {
            space: format!("n{number}"),
            rest: port,
            etcd: etcd.port,
            postgres: postgres.clone(),
            directory: directory.clone(),
        };
        let puts: Puts = Arc::new(move |changes: &[(String, String)]| {
            for (key, value) in changes {
                let _ = shared.put(&format!("{prefix}{key}"), &filler.filled(value));
            }
        });
        let fake = Fake::start(port, puts)?;
        Ok(World { lab, directory, bin, fake, etcd, namespace, postgres, before: Mutex::default() })
    }

    fn filler(&self) -> Filler {
        let space = self.namespace.trim_matches('/').to_owned();
        let (rest, etcd) = (self.fake.port, self.etcd.port);
        Filler { space, rest, etcd, postgres: self.postgres.clone(), directory: self.directory.clone() }
    }

    /// `text` with its placeholders filled in: `REST1`..`REST9` (addresses with a port where a member
    /// answers), `DEAD` (one where nobody does), `ETCD`, `PG1`, `PG2` (ports), `HOMEDIR`, `LAB/`.
    pub fn filled(&self, text: &str) -> String {
        self.filler().filled(text)
    }

    /// `text` with what varies between workers replaced.
    pub fn literals(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (index, port) in self.postgres.iter().enumerate() {
            text = text.replace(&format!("port {port} "), &format!("port PG{} ", index + 1));
        }
        text.replace(&self.directory.display().to_string(), "HOMEDIR")
            .replace(&self.lab.display().to_string(), "LAB")
            .replace(&format!(":{}", self.fake.port), ":REST")
            .replace(&format!("port={}", self.fake.port), "port=REST")
            .replace(&format!(":{}", self.etcd.port), ":ETCD")
            .replace(&self.namespace, "/n/")
    }

    /// Makes the keys and answers of the case, and nothing else.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn set(&self, case: &Case) -> Result<()> {
        let mut wanted = BTreeMap::new();
        for line in KEYS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (key, value) = line.split_once('\t').ok_or_else(|| format!("no tab: {line}"))?;
            wanted.insert(format!("{}{key}", self.namespace), self.filled(value));
        }
        for (key, value) in &case.keys {
            let key = format!("{}{key}", self.namespace);
            match value {
                Some(value) => wanted.insert(key, self.filled(value)),
                None => wanted.remove(&key),
            };
        }
        let there = self.keys()?;
        for key in there.keys().filter(|key| !wanted.contains_key(*key)) {
            self.etcd.delete(key)?;
        }
        for (key, value) in wanted.iter().filter(|(key, value)| there.get(*key) != Some(value)) {
            self.etcd.put(key, value)?;
        }
        for (name, text) in &case.files {
            let path = self.directory.join(name);
            std::fs::write(&path, self.filled(text))?;
            use std::os::unix::fs::PermissionsExt;
            let mode = if name.ends_with(".sh") || text.starts_with("#!") { 0o755 } else { 0o600 };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
            host::give_away(&path)?;
        }
        self.fake.play(&case.replies);
        *self.before.lock().map_err(|e| e.to_string())? = wanted;
        Ok(())
    }

    fn keys(&self) -> Result<BTreeMap<String, String>> {
        let all = self.etcd.prefix(&self.namespace)?;
        Ok(all.into_iter().map(|key| (key.name, key.value)).collect())
    }

    /// The keys that are not as the case set them, one line each.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn changed(&self) -> Result<String> {
        let now = self.keys()?;
        let before = self.before.lock().map_err(|e| e.to_string())?;
        let mut lines = Vec::new();
        for (key, value) in now.iter().filter(|(key, value)| before.get(*key) != Some(value)) {
            lines.push(format!("{key} = {value}"));
        }
        lines.extend(before.keys().filter(|key| !now.contains_key(*key)).map(|key| format!("{key} is gone")));
        Ok(lines.join("\n"))
    }

    /// The file for `-c`, if the case wants one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn config(&self, case: &Case) -> Result<Option<PathBuf>> {
        let Some(text) = &case.config else { return Ok(None) };
        let path = self.directory.join("ctl.yml");
        let head =
            format!("namespace: {}service/\netcd3:\n  hosts: 127.0.0.1:{}\n", self.namespace, self.etcd.port);
        let text = self.filled(text);
        std::fs::write(&path, if text.contains("NODCS") { text.replace("NODCS", "") } else { head + &text })?;
        host::give_away(&path)?;
        Ok(Some(path))
    }
}

/// What placeholders stand for.
struct Filler {
    space: String,
    rest: u16,
    etcd: u16,
    postgres: Vec<u16>,
    directory: PathBuf,
}

impl Filler {
    fn filled(&self, text: &str) -> String {
        let mut text = text
            .replace("ETCD", &self.etcd.to_string())
            .replace("SPACE", &self.space)
            .replace("HOMEDIR", &self.directory.display().to_string())
            .replace("LAB/", &format!("{}/", self.directory.parent().unwrap_or(&self.directory).display()))
            .replace("DEAD", "127.0.0.1:1");
        for member in 1..=9 {
            text = text.replace(&format!("REST{member}"), &format!("127.0.0.{member}:{}", self.rest));
        }
        for (index, port) in self.postgres.iter().enumerate() {
            text = text.replace(&format!("PG{}", index + 1), &port.to_string());
        }
        text
    }
}
