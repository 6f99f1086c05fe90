//! `/failover`.

use std::fmt;

use pyfmt::datetime::{self, DateTime, Locale};
use pyfmt::{json, Value};

use super::Version;

/// `scheduled_at` of a switchover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledAt {
    /// As written.
    pub text: String,
    /// The time; None when the text has no meaning. The reference fails to read
    /// the whole cluster then, and a garbage key demotes every primary; here the
    /// schedule is merely never due.
    pub at: Option<DateTime>,
}

impl ScheduledAt {
    /// Reads any notation that dateutil reads. Patroni itself writes full dates
    /// with an offset, so what a text leaves out is taken from fixed values and
    /// not from today: this must stay a pure function.
    pub fn parse(text: &str) -> ScheduledAt {
        let locale = Locale { today: (1970, 1, 1), zone_names: ["UTC", "UTC"], offset_at: &|_| 0 };
        ScheduledAt { text: text.to_owned(), at: datetime::parse(text, &locale).ok() }
    }

    /// Does the text say where on Earth it is that time?
    pub fn has_offset(&self) -> bool {
        self.at.is_some_and(|at| at.offset.is_some())
    }

    /// Microseconds since 1970; None without an offset or without a meaning:
    /// such a schedule can never be due.
    pub fn valid_us(&self) -> Option<i64> {
        self.at.filter(|at| at.offset.is_some()).map(|at| at.unix_microseconds())
    }

    /// Python's `isoformat()`; the text itself when it has no meaning.
    pub fn iso_text(&self) -> String {
        self.at.map_or_else(|| self.text.clone(), |at| at.isoformat())
    }
}

/// The same as [`ScheduledAt::iso_text`].
impl fmt::Display for ScheduledAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iso_text())
    }
}

/// A manual failover or switchover that somebody has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failover {
    /// Compare-and-set token.
    pub version: Version,
    /// Who is to step down; with it the request is a switchover.
    pub leader: Option<String>,
    /// Who is to take over.
    pub candidate: Option<String>,
    /// When.
    pub scheduled_at: Option<ScheduledAt>,
}

impl Failover {
    /// Reads the key: a JSON object, or `leader:candidate` from before there was one.
    pub fn from_node(version: &str, text: &str) -> Failover {
        match json::loads(text) {
            Ok(data) => Failover::from_value(version, &data),
            Err(_) => {
                let mut parts =
                    text.split(':').map(|p| p.trim().to_owned()).map(|p| Some(p).filter(|p| !p.is_empty()));
                let (leader, candidate) = (parts.next().flatten(), parts.next().flatten());
                Failover { version: version.to_owned(), leader, candidate, scheduled_at: None }
            }
        }
    }

    /// Reads the document; anything but an object asks for nothing.
    pub fn from_value(version: &str, data: &Value) -> Failover {
        let field = |key: &str| data.get(key).filter(|v| v.truthy());
        Failover {
            version: version.to_owned(),
            leader: field("leader").map(Value::py_str),
            candidate: field("member").map(Value::py_str),
            scheduled_at: field("scheduled_at").map(|at| match at.as_str() {
                Some(text) => ScheduledAt::parse(text),
                None => ScheduledAt { text: at.py_str(), at: None },
            }),
        }
    }

    /// Is it a switchover, and not a failover, which may cost commits?
    pub fn is_switchover(&self) -> bool {
        self.leader.is_some()
    }

    /// The word for it in logs and status lines (surface-ha-pg 6-01).
    pub fn action(&self) -> &'static str {
        if self.is_switchover() {
            "switchover"
        } else {
            "manual failover"
        }
    }

    /// Is nothing asked for? A schedule alone is nothing.
    pub fn is_empty(&self) -> bool {
        self.leader.is_none() && self.candidate.is_none()
    }
}

/// What an operator asks for, as it is written to `/failover`. Nothing at all is a reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FailoverOrder<'a> {
    /// Who is to give the lock up.
    pub leader: Option<&'a str>,
    /// Who is to take it.
    pub candidate: Option<&'a str>,
    /// ISO 8601 with an offset.
    pub scheduled_at: Option<&'a str>,
}

/// The text of `/failover`; keys only where there is something to say, so a reset is `{}`.
pub fn failover_value(order: FailoverOrder<'_>) -> String {
    let FailoverOrder { leader, candidate, scheduled_at } = order;
    let fields = [("leader", leader), ("member", candidate), ("scheduled_at", scheduled_at)];
    let value: Value =
        fields.into_iter().filter_map(|(key, text)| Some((key, text.filter(|t| !t.is_empty())?))).collect();
    json::dumps_compact(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(text: &str) -> (Option<String>, Option<String>) {
        let failover = Failover::from_node("3", text);
        assert_eq!(failover.version, "3");
        (failover.leader, failover.candidate)
    }

    #[test]
    fn who() {
        for (text, leader, candidate) in [
            ("null", None, None),
            ("[]", None, None),
            ("5", None, None),
            ("\"s\"", None, None),
            ("{}", None, None),
            ("", None, None),
            ("{", Some("{"), None),
            ("a:b:c", Some("a"), Some("b")),
            (" a : b ", Some("a"), Some("b")),
            (":b", None, Some("b")),
            (r#"{"leader": "a", "member": "b"}"#, Some("a"), Some("b")),
            (r#"{"leader": "", "member": "b"}"#, None, Some("b")),
        ] {
            assert_eq!(pair(text), (leader.map(Into::into), candidate.map(Into::into)), "{text}");
        }
    }

    #[test]
    fn when() {
        let at = |when: &str| {
            Failover::from_node("3", &format!(r#"{{"leader":"a","scheduled_at":{when}}}"#)).scheduled_at
        };
        for (text, us, iso) in [
            (
                "\"2016-01-14T10:09:57.1394Z\"",
                Some(1_452_766_197_139_400),
                "2016-01-14T10:09:57.139400+00:00",
            ),
            ("\"2026-11-21T12:00:00+01:00\"", Some(1_795_258_800_000_000), "2026-11-21T12:00:00+01:00"),
            ("\"2026-11-21 12:00\"", None, "2026-11-21T12:00:00"),
            ("\"garbage\"", None, "garbage"),
            ("5", None, "5"),
        ] {
            let at = at(text).map(|at| (at.valid_us(), at.has_offset(), at.to_string()));
            assert_eq!(at, Some((us, us.is_some(), iso.into())), "{text}");
        }
        assert_eq!(at("null"), None);
        assert!(Failover::from_node("3", r#"{"scheduled_at":"2026-11-21T12:00:00+01:00"}"#).is_empty());
    }

    #[test]
    fn written_form() {
        assert_eq!(failover_value(FailoverOrder { candidate: Some(""), ..Default::default() }), "{}");
        assert_eq!(
            failover_value(FailoverOrder {
                leader: Some("a"),
                candidate: Some("\u{e9}"),
                scheduled_at: Some("2026-11-21T12:00:00+01:00")
            }),
            r#"{"leader":"a","member":"\u00e9","scheduled_at":"2026-11-21T12:00:00+01:00"}"#
        );
    }
}
