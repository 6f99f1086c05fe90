//! The tags of a member and the rules by which they are read (surface-config,
//! section 4). Old tags go by Python's truth value, so `nofailover: "false"` is
//! true; newer ones are parsed.

use pyfmt::Value;

use crate::parse::{parse_bool, parse_int};

/// Tags that are not published when they are false.
const OFF_BY_DEFAULT: [&str; 5] = ["clonefrom", "nofailover", "noloadbalance", "nosync", "nostream"];

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

    /// The tags that a node publishes for its configured `tags`: the five
    /// boolean ones only when true, except that `nofailover` and `nosync` stay
    /// beside their priorities. Everything else is kept with its type.
    pub fn published(tags: &Value) -> Tags {
        let keep = |tag: &Value, value: &Value| {
            let off = tag.as_str().is_some_and(|t| OFF_BY_DEFAULT.contains(&t)) && !value.truthy();
            !off || match tag.as_str() {
                Some("nofailover") => tags.get("failover_priority").is_some(),
                Some("nosync") => tags.get("sync_priority").is_some(),
                _ => false,
            }
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
