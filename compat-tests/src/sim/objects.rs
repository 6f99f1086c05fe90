//! Objects of an API server of Kubernetes: annotations, and one version for all of an object. What the rest of the world
//! asks for by the names of keys is shown as keys.

use std::collections::BTreeMap;

use patroni_dcs::kubernetes::{ManagedBy, Meta, Object, Which};
use pyfmt::{json, Value};

use super::dcs::{Said, Store};

/// Of the cluster `sim`, in Endpoints.
pub const LEADER: &str = "sim";
const CONFIG: &str = "sim-config";
const FAILOVER: &str = "sim-failover";
/// The one of synchronous standbys.
pub const SYNC: &str = "sim-sync";

/// What is written to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// A member's Pod, or one that holds state.
    pub pod: bool,
    /// Of the object.
    pub name: String,
    /// None takes one away.
    pub annotations: Vec<(String, Option<String>)>,
    /// Only if it is still at this version.
    pub at: Option<String>,
    /// It is to be made.
    pub create: bool,
    /// Under which name the server remembers the write.
    pub manager: Option<String>,
}

/// An object, as the server has it.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    annotations: BTreeMap<String, String>,
    revision: u64,
    /// Who wrote `initialize`.
    initialized_by: Option<String>,
}

/// Objects by their sort (is it a Pod?) and name.
pub type Objects = BTreeMap<(bool, String), Stored>;

impl Stored {
    fn shown(&self, name: &str) -> Object {
        let managed = self.initialized_by.iter().map(|by| ManagedBy::of_annotation(by, "initialize"));
        Object {
            metadata: Meta {
                name: name.to_owned(),
                resource_version: self.revision.to_string(),
                annotations: Some(self.annotations.clone()),
                managed_fields: Some(managed.collect()),
                ..Meta::default()
            },
            ..Object::default()
        }
    }

    fn get(&self, annotation: &str) -> Option<&str> {
        self.annotations.get(annotation).map(String::as_str)
    }

    /// These annotations, of which the values are JSON already, as one document.
    fn document(&self, fields: &[(&str, bool)]) -> Option<String> {
        let there = fields.iter().filter_map(|(field, is_json)| {
            let text = self.get(field)?;
            let value = if *is_json { text.to_owned() } else { json::dumps_compact(&Value::from(text)) };
            Some(format!("\"{field}\":{value}"))
        });
        let text = there.collect::<Vec<_>>().join(",");
        (!text.is_empty()).then(|| format!("{{{text}}}"))
    }

    /// The keys that it is for the rest of the world.
    fn keys(&self, pod: bool, name: &str) -> Vec<(String, Option<String>)> {
        let plain = |keys: &[&str]| -> Vec<(String, Option<String>)> {
            keys.iter().map(|key| ((*key).to_owned(), self.get(key).map(str::to_owned))).collect()
        };
        let one = |key: &str, value: Option<String>| vec![(key.to_owned(), value)];
        match name {
            _ if pod => one(&format!("members/{name}"), self.get("status").map(str::to_owned)),
            LEADER => {
                let held = self.get("leader").filter(|name| !name.is_empty()).map(str::to_owned);
                let fields = [("optime", true), ("slots", true), ("retain_slots", true)];
                let mut keys = plain(&["failsafe"]);
                keys.push(("leader".into(), held));
                keys.push(("status".into(), self.document(&fields)));
                keys
            }
            CONFIG => plain(&["config", "history", "initialize"]),
            FAILOVER => {
                let fields = [("leader", false), ("member", false), ("scheduled_at", false)];
                one("failover", self.document(&fields))
            }
            _ => one("sync", self.document(&[("leader", false), ("quorum", true), ("sync_standby", false)])),
        }
    }
}

impl Store {
    /// Somebody has made the member's Pod.
    pub fn make_pod(&mut self, name: &str) {
        self.revision += 1;
        let pod = Stored { revision: self.revision, ..Stored::default() };
        self.objects.insert((true, name.to_owned()), pod);
    }

    /// All of one sort, by the quorum.
    pub(super) fn list_objects(&self, which: Which) -> Said {
        let sort = self.objects.iter().filter(|((pod, _), _)| *pod == (which == Which::Pods));
        let objects = sort.map(|((_, name), stored)| stored.shown(name)).collect();
        Said::Objects(self.revision, objects)
    }

    /// One that holds state.
    pub(super) fn object(&self, name: &str) -> Said {
        let found = self.objects.get(&(false, name.to_owned()));
        Said::Object(found.map(|stored| Box::new(stored.shown(name))))
    }

    /// A patch, or an object that is made.
    pub(super) fn write_object(&mut self, patch: &Patch) -> Said {
        let place = (patch.pod, patch.name.clone());
        let mut stored = match (self.objects.get(&place), patch.create) {
            (None, false) => return Said::Object(None),
            (Some(_), true) => return Said::Refused,
            (known, _) => known.cloned().unwrap_or_default(),
        };
        if patch.at.as_ref().is_some_and(|at| *at != stored.revision.to_string()) {
            return Said::Refused;
        }
        let before = stored.annotations.clone();
        for (name, value) in &patch.annotations {
            match value {
                Some(value) => stored.annotations.insert(name.clone(), value.clone()),
                None => stored.annotations.remove(name),
            };
        }
        let value = |all: &BTreeMap<String, String>| all.get("initialize").cloned();
        if value(&before) != value(&stored.annotations) {
            let by = patch.manager.clone().unwrap_or_else(|| "Patroni".into());
            stored.initialized_by = Some(by).filter(|_| value(&stored.annotations).is_some());
        }
        // A patch that changes nothing makes no version.
        if patch.create || before != stored.annotations {
            self.revision += 1;
            stored.revision = self.revision;
        }
        let shown = stored.shown(&patch.name);
        self.show_as_keys(patch.pod, &patch.name, &stored);
        self.objects.insert(place, stored);
        Said::Object(Some(Box::new(shown)))
    }

    fn show_as_keys(&mut self, pod: bool, name: &str, stored: &Stored) {
        for (key, value) in stored.keys(pod, name) {
            self.show_key(&key, value, stored.revision);
        }
    }

    /// A key is written, or deleted, by people.
    pub(super) fn write_key(&mut self, key: &str, value: Option<&str>) {
        // One of two deletes the whole object.
        if key == "leader" && value.is_none() && !self.revision.is_multiple_of(2) {
            self.revision += 1;
            self.objects.remove(&(false, LEADER.to_owned()));
            let gone = Stored { revision: self.revision, ..Stored::default() };
            return self.show_as_keys(false, LEADER, &gone);
        }
        let name = match key {
            "config" | "history" | "initialize" => CONFIG,
            "failover" => FAILOVER,
            "sync" => SYNC,
            _ => LEADER,
        };
        let one = |key: &str, value: Option<String>| (key.to_owned(), value);
        let annotations = match (key, value.map(json::loads)) {
            ("failover", document) => {
                let document = document.and_then(Result::ok).unwrap_or_default();
                let text = |field: &str| document.get(field).and_then(|v| v.as_str()).map(str::to_owned);
                ["leader", "member", "scheduled_at"].map(|field| one(field, text(field))).to_vec()
            }
            _ => vec![one(key, value.map(str::to_owned))],
        };
        let create = !self.objects.contains_key(&(false, name.to_owned()));
        let name = name.to_owned();
        self.write_object(&Patch { pod: false, name, annotations, at: None, create, manager: None });
    }
}
