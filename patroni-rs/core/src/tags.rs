//! The tags of a member and the rules by which they are read (surface-config,
//! section 4). Old tags go by Python's truth value, so `nofailover: "false"` is
//! true; newer ones are parsed.

use pyfmt::Value;

use crate::parse::{parse_bool, parse_int};

/// How the value of a tag is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As a flag, by Python's truth value: the old ones. Not published while it is false.
    Truthy,
    /// As a flag, by what it says (`on`, `no`, ...). Not published while Python's truth value of it is false.
    Parsed,
    /// As a name.
    Name,
    /// As a whole number, 1 by default, that the flag of this name overrules.
    Priority(&'static str),
}

/// What a generated configuration file sets a tag to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// It is not in there.
    Absent,
    /// A flag.
    Flag(bool),
    /// A number.
    Number(i64),
}

/// A tag that means something to Patroni. Users have others of their own, which are published as they are.
#[derive(Debug, Clone, Copy)]
pub struct Tag {
    /// Its key in the section `tags`.
    pub name: &'static str,
    /// How its value is read.
    pub reading: Reading,
    /// What a generated configuration file says.
    pub sample: Sample,
}

const fn tag(name: &'static str, reading: Reading, sample: Sample) -> Tag {
    Tag { name, reading, sample }
}

/// All of them, in the order of generated files. A tag has a row here, a method of [`Tags`] that reads it, and a rule in
/// the validator (a test there tells).
pub const TAGS: [Tag; 8] = [
    tag("failover_priority", Reading::Priority("nofailover"), Sample::Number(1)),
    tag("sync_priority", Reading::Priority("nosync"), Sample::Number(1)),
    tag("noloadbalance", Reading::Truthy, Sample::Flag(false)),
    tag("clonefrom", Reading::Truthy, Sample::Flag(true)),
    tag("nosync", Reading::Truthy, Sample::Flag(false)),
    tag("nostream", Reading::Parsed, Sample::Flag(false)),
    tag("nofailover", Reading::Truthy, Sample::Absent),
    tag("replicatefrom", Reading::Name, Sample::Absent),
];

/// The tags of one member: configured or as published in the DCS.
#[derive(Debug, Clone, PartialEq)]
pub struct Tags(Value);

impl Default for Tags {
    fn default() -> Tags {
        Tags(Value::map())
    }
}

impl Tags {
    /// Tags as they stand, such as a member has published them; anything but a
    /// mapping has none.
    pub fn from_value(tags: &Value) -> Tags {
        match tags {
            Value::Map(_) => Tags(tags.clone()),
            _ => Tags::default(),
        }
    }

    /// The tags that a node publishes for its configured `tags`: flags only when
    /// true, except that `nofailover` and `nosync` stay beside their priorities.
    /// Everything else is kept with its type.
    pub fn published(tags: &Value) -> Tags {
        let is_flag = |name: &str| {
            let known = TAGS.iter().find(|tag| tag.name == name);
            known.is_some_and(|tag| matches!(tag.reading, Reading::Truthy | Reading::Parsed))
        };
        let has_priority = |name: &str| {
            TAGS.iter().any(|tag| {
                matches!(tag.reading, Reading::Priority(flag) if flag == name) && tags.get(tag.name).is_some()
            })
        };
        let keep = |tag: &Value, value: &Value| {
            value.truthy() || tag.as_str().is_none_or(|name| !is_flag(name) || has_priority(name))
        };
        let entries = tags.as_map().into_iter().flatten().filter(|(tag, value)| keep(tag, value));
        Tags(entries.map(|(tag, value)| (tag.clone(), value.clone())).collect())
    }

    /// The tags as a mapping.
    pub fn as_value(&self) -> &Value {
        &self.0
    }

    /// The `clonefrom` tag: is this node a preferred source of base backups?
    pub fn clonefrom(&self) -> bool {
        self.truthy("clonefrom")
    }

    /// May this node never become the primary?
    pub fn nofailover(&self) -> bool {
        self.barred("nofailover", "failover_priority")
    }

    /// Priority in a leader race; 0 when barred by `nofailover`, 1 by default.
    pub fn failover_priority(&self) -> i64 {
        self.priority("nofailover", "failover_priority")
    }

    /// Is this node kept out of load balancing (`GET /replica`)?
    pub fn noloadbalance(&self) -> bool {
        self.truthy("noloadbalance")
    }

    /// May this node never become a synchronous standby?
    pub fn nosync(&self) -> bool {
        self.barred("nosync", "sync_priority")
    }

    /// Priority as a synchronous standby; 0 when barred by `nosync`, 1 by default.
    pub fn sync_priority(&self) -> i64 {
        self.priority("nosync", "sync_priority")
    }

    /// The member to replicate from, if text names one.
    pub fn replicatefrom(&self) -> Option<&str> {
        self.0.get("replicatefrom").and_then(Value::as_str).filter(|name| !name.is_empty())
    }

    /// Does this node take WAL from the archive only?
    pub fn nostream(&self) -> bool {
        self.0.get("nostream").and_then(parse_bool).unwrap_or(false)
    }

    fn truthy(&self, tag: &str) -> bool {
        self.0.get(tag).is_some_and(Value::truthy)
    }

    fn parsed_priority(&self, tag: &str) -> Option<i64> {
        self.0.get(tag).and_then(|p| parse_int(p, None))
    }

    /// The boolean tag wins unless it is null; then a priority of 0 or less bars.
    fn barred(&self, flag: &str, priority: &str) -> bool {
        match self.0.get(flag) {
            Some(value) if !value.is_null() => value.truthy(),
            _ => self.parsed_priority(priority).is_some_and(|p| p <= 0),
        }
    }

    fn priority(&self, flag: &str, priority: &str) -> i64 {
        if self.truthy(flag) {
            return 0;
        }
        self.parsed_priority(priority).unwrap_or(1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tags(json: &str) -> Tags {
        Tags::from_value(&pyfmt::json::loads(json).unwrap())
    }

    #[test]
    fn barred_and_priorities() {
        for (json, nofailover, priority) in [
            ("{}", false, 1),
            (r#"{"nofailover": true}"#, true, 0),
            (r#"{"nofailover": "false"}"#, true, 0),
            (r#"{"nofailover": false, "failover_priority": 0}"#, false, 0),
            (r#"{"nofailover": null, "failover_priority": 0}"#, true, 0),
            (r#"{"failover_priority": -2}"#, true, -2),
            (r#"{"failover_priority": "3"}"#, false, 3),
            (r#"{"failover_priority": 1.5}"#, false, 2),
            (r#"{"failover_priority": "x"}"#, false, 1),
            (r#"{"nofailover": true, "failover_priority": 5}"#, true, 0),
        ] {
            let t = tags(json);
            assert_eq!((t.nofailover(), t.failover_priority()), (nofailover, priority), "{json}");
            let t = tags(&json.replace("nofailover", "nosync").replace("failover_priority", "sync_priority"));
            assert_eq!((t.nosync(), t.sync_priority()), (nofailover, priority), "{json}");
        }
    }

    #[test]
    fn other_tags() {
        assert!(tags(r#"{"noloadbalance": "no"}"#).noloadbalance());
        assert!(!tags(r#"{"nostream": "no"}"#).nostream());
        assert!(tags(r#"{"nostream": "on"}"#).nostream());
        assert!(!tags(r#"{"nostream": "x"}"#).nostream());
        assert_eq!(tags(r#"{"replicatefrom": "n2"}"#).replicatefrom(), Some("n2"));
        assert_eq!(Tags::from_value(&Value::Null), Tags::default());
    }

    #[test]
    fn published_tags() {
        for (json, want) in [
            (
                r#"{"clonefrom": false, "nosync": 0, "x": null, "y": "", "replicatefrom": null}"#,
                r#"{"x": null, "y": "", "replicatefrom": null}"#,
            ),
            (
                r#"{"nofailover": false, "failover_priority": 0}"#,
                r#"{"nofailover": false, "failover_priority": 0}"#,
            ),
            (
                r#"{"nosync": null, "sync_priority": 2, "nofailover": null}"#,
                r#"{"nosync": null, "sync_priority": 2}"#,
            ),
            (r#"{"nostream": "no"}"#, r#"{"nostream": "no"}"#),
        ] {
            let published = Tags::published(&pyfmt::json::loads(json).unwrap());
            assert_eq!(pyfmt::json::dumps(published.as_value()), want);
        }
        assert_eq!(Tags::published(&Value::Null), Tags::default());
    }
}
