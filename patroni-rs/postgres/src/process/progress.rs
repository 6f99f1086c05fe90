//! The progress of a base backup, out of the lines that `pg_basebackup --progress`
//! writes once a second.

use std::io::Write;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use regex::Regex;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

/// Time between two log lines.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How much was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyProgress {
    /// Bytes copied.
    pub done: u64,
    /// Bytes in all, as the source estimated them; 0 when it did not.
    pub total: u64,
    /// Average bytes per second since the start.
    pub rate: u64,
}

impl std::fmt::Display for CopyProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = (self.done * 100).checked_div(self.total).unwrap_or(0).min(100);
        let (done, total, rate) = (size(self.done), size(self.total), size(self.rate));
        write!(f, "{done} of {total} copied ({percent}%), {rate}/s")
    }
}

/// A size for people: three digits and a binary unit.
fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units.get(unit).unwrap_or(&"PB"))
}

/// Any language: only the figures are fixed.
static LINE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^\s*((?-u:\d)+)/\s*((?-u:\d)+) \S+ \((?-u:\d)+%\), (?-u:\d)+/(?-u:\d)+ ").ok()
});

/// Bytes done and in all, out of one line.
fn parse_line(line: &str) -> Option<(u64, u64)> {
    let found = LINE.as_ref()?.captures(line)?;
    let kilobytes = |i: usize| found.get(i)?.as_str().parse::<u64>().ok();
    Some((kilobytes(1)?.saturating_mul(1024), kilobytes(2)?.saturating_mul(1024)))
}

/// Reads standard error of pg_basebackup: progress goes to `publish` and every 10 s
/// into the log, any other line to our own standard error.
pub async fn follow(pipe: impl AsyncRead + Unpin, publish: watch::Sender<Option<CopyProgress>>) {
    let started = Instant::now();
    let mut logged = started;
    let mut lines = BufReader::new(pipe).split(b'\n');
    let mut last = None;
    while let Ok(Some(line)) = lines.next_segment().await {
        let text = String::from_utf8_lossy(&line);
        let Some((done, total)) = text.rsplit('\r').find_map(parse_line) else {
            let message = [&line[..], b"\n"].concat();
            let _ = tokio::task::spawn_blocking(move || std::io::stderr().write_all(&message)).await;
            continue;
        };
        let rate = (done as f64 / started.elapsed().as_secs_f64().max(0.001)) as u64;
        let progress = CopyProgress { done, total, rate };
        publish.send_replace(Some(progress));
        last = Some(progress);
        if logged.elapsed() >= LOG_INTERVAL {
            logged = Instant::now();
            tracing::info!(target: "patroni.postgresql.bootstrap", "base backup: {progress}");
        }
    }
    if let Some(progress) = last {
        tracing::info!(target: "patroni.postgresql.bootstrap", "base backup: {progress}");
    }
    publish.send_replace(None);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn lines_and_texts() {
        assert_eq!(parse_line(" 1024/ 4096 kB (25%), 0/1 tablespace"), Some((1 << 20, 4 << 20)));
        assert_eq!(parse_line("1024/4096 kB (25%), 1/2 tablespaces (/d/base/1)"), Some((1 << 20, 4 << 20)));
        assert_eq!(parse_line("pg_basebackup: error: x"), None);
        let progress = CopyProgress { done: 3 << 30, total: 12 << 30, rate: 100 << 20 };
        assert_eq!(progress.to_string(), "3.0 GB of 12.0 GB copied (25%), 100.0 MB/s");
        assert_eq!(CopyProgress::default().to_string(), "0.0 kB of 0.0 kB copied (0%), 0.0 kB/s");
        let publish = watch::Sender::new(None);
        let mut seen = publish.subscribe();
        follow(&b"0/10 kB (0%), 0/1 tablespace\n10/10 kB (100%), 1/1 tablespace\n"[..], publish).await;
        assert_eq!(*seen.borrow_and_update(), None);
    }
}
