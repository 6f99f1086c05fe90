//! The `raft` section.

use std::path::PathBuf;
use std::time::Duration;

use patroni_raft::node::{Config, Secret, MOST_ENTRIES};
use pyfmt::value::str_repr;
use pyfmt::Value;

use crate::address::is_host;

/// The member that a section describes. patronictl is a reader, and asks the node of its configuration as well.
///
/// # Errors
/// It describes none.
pub fn member_config(section: &Value, ctl: bool, retry_timeout: Duration) -> Result<Config, String> {
    let get = |key: &str| section.get(key).filter(|value| !value.is_null());
    let text = |key: &str| match get(key) {
        None => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(Value::Int(number)) if key == "password" => Ok(Some(number.to_string())),
        Some(other) => Err(format!("raft.{key} is no text: {}", other.type_name())),
    };
    let place = |key: &str, of: Option<String>| of.map(|text| address(key, text)).transpose();
    let mut own = place("self_addr", text("self_addr")?)?;
    let mut partners: Vec<String> = match get("partner_addrs") {
        None => Vec::new(),
        Some(Value::List(list)) => {
            let texts: Option<Vec<String>> = list.iter().map(|v| v.as_str().map(str::to_owned)).collect();
            let texts = texts.ok_or("raft.partner_addrs is no list of texts")?;
            texts.into_iter().map(|text| address("partner_addrs", text)).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(format!("raft.partner_addrs is no list: {}", other.type_name())),
    };
    if ctl {
        partners.extend(own.take());
    }
    partners.sort();
    partners.dedup();
    partners.retain(|partner| own.as_ref() != Some(partner));
    if own.is_none() && partners.is_empty() {
        return Err("raft.self_addr and raft.partner_addrs are not configured".into());
    }
    Ok(Config {
        own,
        bind: place("bind_addr", text("bind_addr")?)?,
        partners,
        data_dir: text("data_dir")?.map(PathBuf::from).unwrap_or_default(),
        password: text("password")?.map(Secret),
        retry_timeout,
        most_entries: MOST_ENTRIES,
    })
}

/// The address as it is written, by which the members of the cluster know each other. (The reference waits forever for a
/// member by a name that is none.)
fn address(key: &str, text: String) -> Result<String, String> {
    let parts = text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0));
    let host =
        parts.map(|(host, _)| host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host));
    match host {
        Some(host) if is_host(host) => Ok(text),
        _ => Err(format!("expected <HOST>:<PORT> in raft.{key}, but got {}", str_repr(&text))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(section: &str, ctl: bool) -> Result<Config, String> {
        member_config(&pyfmt::json::loads(section).unwrap(), ctl, Duration::from_secs(10))
    }

    #[test]
    fn sections() {
        let full = r#"{"self_addr":"a:1","bind_addr":"0.0.0.0:1","partner_addrs":["c:1","b:1","a:1","b:1"],
                       "data_dir":"/raft","password":"secret"}"#;
        let node = of(full, false).unwrap();
        assert_eq!((node.own.as_deref(), node.bind.as_deref()), (Some("a:1"), Some("0.0.0.0:1")));
        assert_eq!(
            (node.partners, node.data_dir),
            (vec!["b:1".to_owned(), "c:1".into()], PathBuf::from("/raft"))
        );
        assert_eq!(node.password.map(|secret| secret.0).as_deref(), Some("secret"));
        let ctl = of(full, true).unwrap();
        assert_eq!((ctl.own, ctl.partners.len()), (None, 3));
        // Without an address of its own it is a reader.
        assert_eq!(of(r#"{"partner_addrs":["b:1"]}"#, false).unwrap().own, None);
        // One alone.
        assert_eq!(of(r#"{"self_addr":"a:1","partner_addrs":[]}"#, false).unwrap().partners.len(), 0);
        for wrong in ["{}", r#"{"self_addr":5}"#, r#"{"self_addr":"a:1","partner_addrs":"b:1"}"#] {
            assert!(of(wrong, false).is_err(), "{wrong}");
        }
        for good in ["a_b.c-d:1", "10.0.0.1:65535", "[::1]:1", "fe80::1:1"] {
            for ctl in [false, true] {
                assert!(
                    of(&format!(r#"{{"self_addr":"a:1","partner_addrs":["{good}"]}}"#), ctl).is_ok(),
                    "{good}"
                );
            }
        }
        for wrong in [
            "http://a:1",
            "a",
            "a:",
            ":1",
            "[]:1",
            "a:b",
            "a:0",
            "a:65536",
            " a:1",
            "a :1",
            "a:1/x",
            "u@a:1",
            "",
        ] {
            for (key, section) in [
                ("self_addr", format!(r#"{{"self_addr":"{wrong}","partner_addrs":["b:1"]}}"#)),
                ("bind_addr", format!(r#"{{"self_addr":"a:1","bind_addr":"{wrong}"}}"#)),
                ("partner_addrs", format!(r#"{{"self_addr":"a:1","partner_addrs":["b:1","{wrong}"]}}"#)),
            ] {
                let want = format!("expected <HOST>:<PORT> in raft.{key}, but got '{wrong}'");
                let empty = wrong.is_empty() && key != "partner_addrs";
                assert_eq!(of(&section, false).err(), Some(want).filter(|_| !empty), "{section}");
            }
        }
    }
}
