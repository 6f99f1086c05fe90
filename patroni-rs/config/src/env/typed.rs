//! Values of variables that are more than text (surface-config 5.4, 5.8, 5.9).

use patroni_core::parse::{parse_bool, parse_int};
use pyfmt::{yaml, Value};

/// A list: YAML as it stands if it looks like a list (`- a`, or a `[` anywhere),
/// else the inside of `[...]`. A YAML error is logged.
pub(super) fn parse_list(text: &str) -> Option<Value> {
    let listed = text.trim().starts_with('-') || text.contains('[');
    load(if listed { text.to_owned() } else { format!("[{text}]") }, "list")
}

/// A mapping: YAML as it stands if it starts with `{`, else the inside of
/// `{...}`. A YAML error is logged.
pub(super) fn parse_dict(text: &str) -> Option<Value> {
    load(if text.trim().starts_with('{') { text.to_owned() } else { format!("{{{text}}}") }, "dict")
}

fn load(text: String, kind: &str) -> Option<Value> {
    yaml::load(&text)
        .inspect_err(|e| {
            let exc = format!("{}: {e}", e.class());
            tracing::error!(target: "patroni.config", exc, "Exception when parsing {kind} {text}");
        })
        .ok()
}

/// The value of `PATRONI_<name>_<suffix>`; None when it is dropped.
pub(super) fn dcs_value(name: &str, suffix: &str, text: String) -> Option<Value> {
    if name == "CITUS" {
        return match suffix {
            "GROUP" => parse_int(&text.into(), None).map(Value::Int),
            "DATABASE" => Some(text.into()),
            _ => None,
        };
    }
    match suffix {
        "PORT" | "HOSTS" | "PORTS" | "CHECKS" | "SERVICE_TAGS" | "RETRIABLE_HTTP_CODES"
            if text.is_empty() =>
        {
            Some(text.into())
        }
        "PORT" => parse_int(&text.into(), None).map(Value::Int),
        "HOSTS" | "PORTS" | "CHECKS" | "SERVICE_TAGS" | "RETRIABLE_HTTP_CODES" => {
            parse_list(&text).filter(|v| !v.is_null())
        }
        "LABELS" | "SET_ACLS" | "AUTH_DATA" | "BOOTSTRAP_LABELS" => {
            parse_dict(&text).filter(|v| !v.is_null())
        }
        "USE_PROXIES" | "REGISTER_SERVICE" | "USE_ENDPOINTS" | "BYPASS_API_SERVICE" | "VERIFY" => {
            parse_bool(&text.into()).map(Value::Bool)
        }
        _ => Some(text.into()),
    }
}
