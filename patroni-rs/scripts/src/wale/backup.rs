//! What `wal-e backup-list` tells, and whether that backup is worth fetching.

use pyfmt::value::float_repr;
use pyfmt::Value;

/// The latest backup.
#[derive(Debug, PartialEq, Eq)]
pub struct Backup {
    /// Bytes when it is unpacked.
    pub size: i128,
    /// The position at which it starts, as the reference puts it together: without the
    /// last digit, a rest of Python 2 (surface-config 13.1).
    pub start: String,
}

/// Why there is no backup to use.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// No row.
    None,
    /// More than one row: Python's repr of them.
    Many(String),
    /// A column is missing.
    Missing(&'static str),
    /// An exception while reading.
    Unreadable(String),
}

impl Backup {
    /// Reads the table: tab separated, with a header.
    pub fn read(output: &[u8]) -> Result<Backup, Finding> {
        let text = std::str::from_utf8(output);
        let text = text.map_err(|e| Finding::Unreadable(format!("UnicodeDecodeError: {e}")))?;
        let mut lines = text.lines().filter(|line| !line.is_empty()).map(fields);
        let header = lines.next().unwrap_or_default();
        let rows: Vec<Vec<String>> = lines.collect();
        let row = match rows.as_slice() {
            [] => return Err(Finding::None),
            [row] => row,
            rows => {
                let rows: Value = rows.iter().map(|row| as_dict(&header, row)).collect::<Vec<_>>().into();
                return Err(Finding::Many(rows.py_repr()));
            }
        };
        // Of two columns with one name, the last counts.
        let column = |name: &'static str| {
            let at = header.iter().rposition(|h| h == name).ok_or(Finding::Missing(name))?;
            Ok(row.get(at).map(String::as_str))
        };
        let size = number(column("expanded_size_bytes")?, 10)?;
        let segment = column("wal_segment_backup_start")?;
        let offset = column("wal_segment_offset_backup_start")?;
        let Some(segment) = segment else {
            return Err(Finding::Unreadable("TypeError: 'NoneType' object is not subscriptable".into()));
        };
        let part =
            |from: usize, to: usize| -> String { segment.chars().skip(from).take(to - from).collect() };
        let high = number(Some(&part(16, 32)), 16)?;
        let position = high.saturating_mul(1 << 24).saturating_add(number(offset, 10)?);
        let mut digits = format!("{position:x}");
        digits.pop();
        Ok(Backup { size, start: format!("{}/{digits}", part(8, 16)) })
    }

    /// Asks a server how many bytes it is ahead of this backup.
    pub fn distance_query(&self, server_version: u32) -> String {
        let (wal, lsn) = if server_version >= 100_000 { ("wal", "lsn") } else { ("xlog", "location") };
        let start = self.start.replace('\'', "''");
        format!(
            "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN GREATEST(\
             pg_catalog.pg_{wal}_{lsn}_diff(COALESCE(pg_last_{wal}_receive_{lsn}(), '0/0'), '{start}')::bigint, \
             pg_catalog.pg_{wal}_{lsn}_diff(pg_catalog.pg_last_{wal}_replay_{lsn}(), '{start}')::bigint) \
             ELSE pg_catalog.pg_{wal}_{lsn}_diff(pg_catalog.pg_current_{wal}_{lsn}(), '{start}')::bigint END"
        )
    }
}

/// Fields of a line of Python's `excel-tab` dialect.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars().peekable();
    let (mut quoted, mut start) = (false, true);
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                push(&mut fields, '"');
            }
            '"' if quoted => quoted = false,
            '"' if start => quoted = true,
            '\t' if !quoted => {
                fields.push(String::new());
                start = true;
                continue;
            }
            c => push(&mut fields, c),
        }
        start = false;
    }
    fields
}

fn push(fields: &mut [String], c: char) {
    if let Some(last) = fields.last_mut() {
        last.push(c);
    }
}

fn as_dict(header: &[String], row: &[String]) -> Value {
    let mut dict = Value::map();
    for (i, name) in header.iter().enumerate() {
        dict.set(name, row.get(i).map_or(Value::Null, |text| text.as_str().into()));
    }
    dict
}

fn number(text: Option<&str>, base: u32) -> Result<i128, Finding> {
    let Some(text) = text else {
        return Err(Finding::Unreadable(
            "TypeError: int() argument must be a string, a bytes-like object or a real number, \
             not 'NoneType'"
                .into(),
        ));
    };
    i128::from_str_radix(text.trim(), base).map_err(|_| {
        let repr = pyfmt::value::str_repr(text);
        Finding::Unreadable(format!("ValueError: invalid literal for int() with base {base}: {repr}"))
    })
}

/// Are both limits kept? With the numbers as the log shows them.
pub fn thresholds(backup: &Backup, behind: i128, megabytes: i64, percentage: i64) -> (bool, String) {
    let limit = i128::from(megabytes) * 1_048_576;
    let part = backup.size as f64 * percentage as f64 / 100.0;
    let size_ok = behind < limit;
    let percentage_ok = behind < part as i128;
    let python = |ok: bool| if ok { "True" } else { "False" };
    let context = format!(
        "threshold_size={}, threshold_percent={percentage}, threshold_percent_size={}, backup_size={}, \
         backup_diff={}, is_size_thresh_ok={}, is_percentage_thresh_ok={}",
        size(limit),
        size_of(part, &float_repr(part)),
        size(backup.size),
        size(behind),
        python(size_ok),
        python(percentage_ok)
    );
    (size_ok && percentage_ok, context)
}

fn size(bytes: i128) -> String {
    size_of(bytes as f64, &bytes.to_string())
}

fn size_of(bytes: f64, text: &str) -> String {
    if bytes < 1024.0 {
        return format!("{text} Bytes");
    }
    let mut bytes = bytes;
    let mut prefix = 'K';
    for next in "KMGTPEZY".chars() {
        if bytes <= 1023.0 {
            break;
        }
        bytes /= 1024.0;
        prefix = next;
    }
    let rounded = format!("{bytes:.1}").parse().unwrap_or(bytes);
    format!("{} {prefix}iB", float_repr(rounded))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HEADER: &str =
        "name\texpanded_size_bytes\twal_segment_backup_start\twal_segment_offset_backup_start\n";

    #[test]
    fn tables() {
        let read = |text: &str| Backup::read(format!("{HEADER}{text}").as_bytes());
        let good = "base_1\t1000000\t00000001000000020000007F\t00000040\n";
        let want = Backup { size: 1_000_000, start: "00000002/7f00002".into() };
        assert_eq!(read(good), Ok(want));
        assert_eq!(read(""), Err(Finding::None));
        assert!(
            matches!(read(&good.repeat(2)), Err(Finding::Many(rows)) if rows.starts_with("[{'name': 'base_1'"))
        );
        assert_eq!(Backup::read(b"a\tb\n1\t2\n"), Err(Finding::Missing("expanded_size_bytes")));
        assert!(matches!(read("x\ty\tz\t1"), Err(Finding::Unreadable(e)) if e.starts_with("ValueError")));
        assert!(matches!(read("x"), Err(Finding::Unreadable(e)) if e.starts_with("TypeError")));
        assert_eq!(fields("a\t\"b\tc\"\"d\"\t"), ["a", "b\tc\"d", ""]);
    }

    #[test]
    fn limits() {
        let backup = Backup { size: 10_000, start: String::new() };
        let (ok, text) = thresholds(&backup, 2999, 1, 30);
        assert!(ok);
        assert_eq!(
            text,
            "threshold_size=1.0 MiB, threshold_percent=30, threshold_percent_size=2.9 KiB, \
             backup_size=9.8 KiB, backup_diff=2.9 KiB, is_size_thresh_ok=True, is_percentage_thresh_ok=True"
        );
        assert!(!thresholds(&backup, 3000, 1, 30).0);
        assert!(!thresholds(&backup, 0, 1, 0).0);
        assert_eq!(size_of(300.0, "300.0"), "300.0 Bytes");
    }
}
