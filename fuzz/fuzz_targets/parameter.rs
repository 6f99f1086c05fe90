//! PostgreSQL parameters: numbers, units, validation against the table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use patroni_core::parse;
use patroni_postgres::files::{AvailableGucs, GucTable};
use pyfmt::Value;

const NAMES: &str = "shared_buffers work_mem wal_keep_size checkpoint_timeout autovacuum_naptime fsync wal_level \
    vacuum_cost_delay synchronous_commit DateStyle log_file_mode recovery_target_time";

fuzz_target!(|text: &str| {
    let value = Value::from(text);
    for unit in [None, Some("kB"), Some("8kB"), Some("16MB"), Some("ms"), Some("min"), Some("s"), Some("B")] {
        let _ = (parse::parse_int(&value, unit), parse::parse_real(&value, unit));
        for kind in ["bool", "integer", "real", "enum", "string"] {
            let _ = parse::compare_values(kind, unit, &value, &value);
        }
    }
    let _ = (parse::parse_bool(&value), parse::split_host_port(text, 1), pyfmt::int::parse(text));
    let available = AvailableGucs::from_describe_config(text);
    for name in NAMES.split(' ').chain([text]) {
        for version in [90_300, 120_000, 180_000] {
            let _ = GucTable::builtin().transform(version, name, &value, &available).logged();
        }
    }
});
