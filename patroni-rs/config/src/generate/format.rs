//! The generated configuration as text: sections in a helpful order, with
//! comments where the operator has to know something.

use patroni_core::stores::STORES;
use pyfmt::yaml::{self, DumpOptions};
use pyfmt::Value;

const HEAD: [&str; 7] = ["scope", "namespace", "name", "log", "restapi", "ctl", "citus"];
const TAIL: [&str; 3] = ["postgresql", "watchdog", "tags"];
const BOOTSTRAP: &str = "\
\n# The bootstrap configuration. Works only when the cluster is not yet initialized.
# If the cluster is already initialized, all changes in the `bootstrap` section are ignored!
bootstrap:";
const BOOTSTRAP_DCS: &str = "  \
  # This section will be written into <dcs>:/<namespace>/<scope>/config after initializing
  # new cluster and all other cluster members will use it as a `global configuration`.
  # WARNING! If you want to change any of the parameters that were set up
  # via `bootstrap.dcs` section, please use `patronictl edit-config`!
  dcs:";

/// The text of a configuration; it does not end its last line.
pub(super) fn document(config: &Value) -> String {
    let mut blocks = Vec::new();
    HEAD.iter().chain(&STORES).for_each(|name| section(config, name, &mut blocks));
    if let Some(bootstrap) = config.get("bootstrap") {
        blocks.push(BOOTSTRAP.to_owned());
        if let Some(dcs) = bootstrap.get("dcs").and_then(Value::as_map) {
            blocks.push(BOOTSTRAP_DCS.to_owned());
            let first = ["loop_wait", "retry_timeout", "ttl"].map(Value::from);
            let rest = dcs.keys().filter(|k| !first.contains(k));
            for key in first.iter().chain(rest) {
                if let Some(value) = dcs.get(key) {
                    blocks.push(block(key, value, "    "));
                }
            }
        }
    }
    TAIL.iter().for_each(|name| section(config, name, &mut blocks));
    blocks.join("\n")
}

fn section(config: &Value, name: &str, blocks: &mut Vec<String>) {
    let Some(value) = config.get(name) else { return };
    if value.as_map().is_some() {
        blocks.push(String::new());
    }
    blocks.push(block(&name.into(), value, ""));
}

fn block(key: &Value, value: &Value, indent: &str) -> String {
    let options = DumpOptions { allow_unicode: true, ..DumpOptions::default() };
    let entry = Value::Map([(key.clone(), value.clone())].into_iter().collect());
    let text = yaml::dump(&entry, options);
    let lines = pyfmt::text::strip(&text).replace('\n', &format!("\n{indent}"));
    format!("{indent}{lines}")
}
