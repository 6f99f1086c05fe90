//! How a long wait goes: one line on the terminal behind stdout, drawn over and over, and gone when the wait ends.
//! There is none when stdout is no terminal, or one that cannot take a line back; the bytes are the reference's then.

use std::future::Future;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use pyfmt::Value;

/// Between two drawings, and before the first: what is over sooner needs none.
const PERIOD: Duration = Duration::from_secs(1);

/// The line.
pub struct Progress {
    what: String,
    began: Instant,
    able: bool,
    drawn: bool,
}

impl Progress {
    /// A line about `what`, which begins now.
    pub fn of(what: impl Into<String>) -> Progress {
        let term = std::env::var("TERM").unwrap_or_default();
        let able = std::io::stdout().is_terminal() && !term.is_empty() && term != "dumb";
        Progress { what: what.into(), began: Instant::now(), able, drawn: false }
    }

    /// Waits for `work` and draws meanwhile.
    pub async fn during<T>(mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(PERIOD, &mut work).await {
                Ok(result) => return result,
                Err(_) => self.draw(""),
            }
        }
    }

    /// Sleeps, and draws each second; `more` is told behind the time.
    pub fn sleep(&mut self, time: Duration, more: &str) {
        let end = Instant::now() + time;
        loop {
            self.draw(more);
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(PERIOD));
        }
    }

    fn draw(&mut self, more: &str) {
        if !self.able || self.began.elapsed() < PERIOD {
            return;
        }
        let columns = crate::terminal::columns().filter(|columns| *columns > 0).unwrap_or(80);
        let line = line(&self.what, self.began.elapsed(), more, columns);
        crate::out::print(&format!("\r\x1b[K{line}"));
        self.drawn = true;
    }

    /// Takes the line away, for other lines to be printed.
    pub fn clear(&mut self) {
        if self.drawn {
            crate::out::print("\r\x1b[K");
            self.drawn = false;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The text, short enough to stay on one line.
fn line(what: &str, time: Duration, more: &str, columns: usize) -> String {
    let seconds = time.as_secs();
    let time = if seconds < 60 {
        format!("{seconds} s")
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    };
    let more = if more.is_empty() { String::new() } else { format!("; {more}") };
    format!("{what}: {time}{more}").chars().take(columns.saturating_sub(1)).collect()
}

/// `12 MB of 34 MB (35 %), 5 MB/s`, from the status of a member that copies its leader; empty if it tells nothing.
pub fn copied(status: &Value) -> String {
    let number = |key: &str| status.at(&["copy_progress", key]).and_then(Value::as_i64).filter(|n| *n >= 0);
    let Some(done) = number("bytes_done") else { return String::new() };
    let mut text = size(done);
    if let Some(total) = number("bytes_total").filter(|total| *total > 0) {
        let percent = done.min(total).saturating_mul(100) / total;
        text.push_str(&format!(" of {} ({percent} %)", size(total)));
    }
    if let Some(rate) = number("bytes_per_second").filter(|rate| *rate > 0) {
        text.push_str(&format!(", {}/s", size(rate)));
    }
    text
}

/// A number of bytes in the unit in which it has two to four digits.
fn size(bytes: i64) -> String {
    let mut number = bytes;
    for unit in ["B", "kB", "MB", "GB"] {
        if number < 10_000 {
            return format!("{number} {unit}");
        }
        number /= 1024;
    }
    format!("{number} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let after = |seconds| line("Waiting", Duration::from_secs(seconds), "5 kB", 80);
        assert_eq!(after(3), "Waiting: 3 s; 5 kB");
        assert_eq!(after(63), "Waiting: 1 min 3 s; 5 kB");
        assert_eq!(line("Waiting", PERIOD, "", 5), "Wait");
    }

    #[test]
    fn bytes() {
        let status = |text: &str| pyfmt::json::loads(text).unwrap_or_default();
        let full = r#"{"copy_progress": {"bytes_done": 52428800, "bytes_total": 104857600, "bytes_per_second": 2048}}"#;
        assert_eq!(copied(&status(full)), "50 MB of 100 MB (50 %), 2048 B/s");
        assert_eq!(copied(&status(r#"{"copy_progress": {"bytes_done": 9}}"#)), "9 B");
        assert_eq!(copied(&status("{}")), "");
    }
}
