//! Units of memory and time, with what one of each is in the base units that
//! `pg_settings.unit` knows (PostgreSQL documentation, 20.1.1).

/// Units, largest first, with their size in each of three base units.
pub(super) type Table = &'static [(&'static str, [f64; 3])];

const K: f64 = 1024.0;
const MEMORY: Table = &[
    ("TB", [K * K * K * K, K * K * K, K * K]),
    ("GB", [K * K * K, K * K, K]),
    ("MB", [K * K, K, 1.0]),
    ("kB", [K, 1.0, 1.0 / K]),
    ("B", [1.0, 1.0 / K, 1.0 / K / K]),
];
const TIME: Table = &[
    ("d", [86_400_000.0, 86_400.0, 1440.0]),
    ("h", [3_600_000.0, 3600.0, 60.0]),
    ("min", [60_000.0, 60.0, 1.0]),
    ("s", [1000.0, 1.0, 1.0 / 60.0]),
    ("ms", [1.0, 0.001, 1.0 / 60_000.0]),
    ("us", [0.001, 0.000_001, 1.0 / 60_000_000.0]),
];

/// The table that `base` is a base unit of, and its column there.
pub(super) fn table_of(base: &str) -> Option<(Table, usize)> {
    let column = |units: [&str; 3]| units.iter().position(|u| *u == base);
    column(["B", "kB", "MB"]).map(|c| (MEMORY, c)).or_else(|| column(["ms", "s", "min"]).map(|c| (TIME, c)))
}

/// A base unit such as `8kB`: how many, of which unit.
pub(super) fn split_base_unit(base_unit: &str) -> (i64, &str) {
    super::strtol(base_unit).unwrap_or((1, pyfmt::text::strip(base_unit)))
}

/// `value` of `unit` in `base_unit` (which may carry a count, as `8kB`), first
/// rounded to whole multiples of the next smaller unit, half to even. None when
/// the two do not fit together. Units are case-sensitive.
pub fn to_base_unit(value: f64, unit: &str, base_unit: &str) -> Option<f64> {
    let (count, base) = split_base_unit(base_unit);
    let (table, column) = table_of(base)?;
    let at = table.iter().position(|(name, _)| *name == unit)?;
    let size = |at: usize| table.get(at).and_then(|(_, sizes)| sizes.get(column)).copied();
    let value = value * (size(at)? / count as f64);
    Some(match size(at + 1) {
        Some(smaller) => (value / smaller).round_ties_even() * smaller,
        None => value,
    })
}
