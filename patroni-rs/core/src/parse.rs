//! How values of the configuration, of tags and of PostgreSQL parameters are
//! read: booleans, numbers with units, comparison and merging (surface-config
//! 1.7, 1.50 and section 8).
//!
//! A value may be of any type: as in the reference, it is its Python text
//! (`str(value)`) that is read, so `1.0`, `"1"` and `True` are all possible input.

mod hostport;
mod human;
mod merge;
mod number;
mod units;

pub use hostport::{is_empty_host, split_host_port};
pub use human::{human, human_integer, human_real};
pub use merge::{deep_compare, patch_config, patch_document};
pub use number::{parse_int, parse_real, strtod, strtol};
pub use units::to_base_unit;

use pyfmt::Value;

/// `on`, `true`, `yes`, `1` and their opposites in any letter case; nothing is
/// trimmed and nothing shortened (PostgreSQL itself takes `t`, we do not).
pub fn parse_bool(value: &Value) -> Option<bool> {
    match value.py_str().to_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// Is `setting`, a value of `pg_settings` in its own unit, the same as the
/// configured `config` for a parameter of type `vartype` (`bool`, `integer`,
/// `real`, `enum`, `string`)? Values that cannot be read are never equal.
pub fn compare_values(vartype: &str, unit: Option<&str>, setting: &Value, config: &Value) -> bool {
    fn same<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
        a.is_some() && a == b
    }
    match vartype {
        "bool" => same(parse_bool(setting), parse_bool(config)),
        "integer" => same(parse_int(setting, None), parse_int(config, unit)),
        "real" => same(parse_real(setting, None), parse_real(config, unit)),
        "enum" => setting.py_str().to_lowercase() == config.py_str().to_lowercase(),
        _ => setting.py_str() == config.py_str(),
    }
}

#[cfg(test)]
#[path = "parse/tests.rs"]
mod tests;
