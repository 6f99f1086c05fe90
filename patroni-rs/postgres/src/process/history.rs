//! The history file of a timeline in the WAL directory, as rows for the key
//! `/history` (surface-ha-pg 10-22).

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::tz::TimeZone;
use jiff::Timestamp;
use patroni_core::rewind::parse_history;
use patroni_core::PgVersion;
use pyfmt::Value;

use super::archive::wal_dir;
use super::blocking;

/// The time of a file as Python's `isoformat()` in local time: microseconds only
/// when there are any.
fn iso_local(seconds: i64, nanoseconds: i64, zone: TimeZone) -> Option<String> {
    // Python goes through a double; its rounding is part of the text.
    let time = seconds as f64 + 1e-9 * nanoseconds as f64;
    let micros = (time.fract() * 1e6).round_ties_even() as i64;
    let stamp = Timestamp::from_microsecond(time.trunc() as i64 * 1_000_000 + micros).ok()?;
    let local = stamp.to_zoned(zone);
    let fraction = if micros % 1_000_000 == 0 { "" } else { ".%6f" };
    Some(local.strftime(&format!("%Y-%m-%dT%H:%M:%S{fraction}%:z")).to_string())
}

/// The rows `[timeline, lsn, reason]`; the last one also has the file's time and
/// `name`, the leader, when it belongs to the timeline just before.
fn rows(text: &str, timeline: u32, time: Option<String>, name: &str) -> Vec<Value> {
    let (lines, bad) = parse_history(text);
    for line in bad {
        tracing::error!(
            target: "patroni.postgresql.misc", "Exception when parsing timeline history line \"{line}\""
        );
    }
    let last = lines.len();
    let row = |(i, line): (usize, patroni_core::rewind::HistoryLine)| {
        let lsn = i64::try_from(line.switchpoint.bytes())
            .map_or_else(|_| Value::BigInt(line.switchpoint.bytes().to_string()), Value::Int);
        let mut row = vec![Value::Int(line.timeline.into()), lsn, Value::Str(line.reason)];
        if i + 1 == last && line.timeline.checked_add(1) == Some(timeline) {
            row.extend(time.clone().map(Value::Str));
            row.push(Value::Str(name.to_owned()));
        }
        Value::List(row)
    };
    lines.into_iter().enumerate().map(row).collect()
}

/// The rows for `timeline`; none when there is no file or it cannot be read
/// (logged).
pub async fn local_history(
    data_dir: &Path,
    major_version: PgVersion,
    timeline: u32,
    name: &str,
) -> Vec<Value> {
    let path = wal_dir(data_dir, major_version).join(format!("{timeline:08X}.history"));
    let shown = path.display().to_string();
    let read = move || Ok((std::fs::metadata(&path)?, std::fs::read_to_string(&path)?));
    match blocking::run(blocking::FILE_DEADLINE, read).await {
        Ok((meta, text)) => {
            let time = iso_local(meta.mtime(), meta.mtime_nsec(), TimeZone::system());
            rows(&text, timeline, time, name)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => {
            tracing::error!(target: "patroni.postgresql", "Failed to read and parse {shown}: {e}");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn rows_of_the_history_key() {
        let text = "1\t0/5000000\tno recovery target specified\n\n2\t0/6000000\tx\n";
        let show = |timeline| Value::List(rows(text, timeline, Some("T".into()), "n")).py_repr();
        assert_eq!(show(3), "[[1, 83886080, 'no recovery target specified'], [2, 100663296, 'x', 'T', 'n']]");
        assert_eq!(show(9), "[[1, 83886080, 'no recovery target specified'], [2, 100663296, 'x']]");
        assert!(local_history(Path::new("/nonexistent"), PgVersion::V15, 2, "n").await.is_empty());
    }

    #[test]
    fn times() {
        let iso = |s, n, zone: &str| iso_local(s, n, TimeZone::get(zone).unwrap()).unwrap();
        assert_eq!(iso(1_700_000_000, 0, "UTC"), "2023-11-14T22:13:20+00:00");
        assert_eq!(iso(1_700_000_000, 123_456_789, "Europe/Berlin"), "2023-11-14T23:13:20.123457+01:00");
        assert_eq!(iso(1_700_000_000, 999_999_999, "UTC"), "2023-11-14T22:13:21+00:00");
    }
}
