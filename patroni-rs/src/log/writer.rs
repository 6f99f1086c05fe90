//! The queue and the one thread that writes.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;

use pyfmt::oserror;

use super::file::RotatingFile;
use super::heartbeat::Filter;
use super::record::{LevelNo, Record};
use super::settings::Settings;

/// For `logger_queue_size` and `logger_records_lost` of the REST API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Records that wait.
    pub queue_size: usize,
    /// Records that were dropped since the last time that this was said.
    pub records_lost: u64,
}

#[derive(Default)]
struct Queue {
    records: VecDeque<Record>,
    lost: u64,
    writing: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// Where records go.
pub struct Writer {
    shared: Arc<Shared>,
    settings: Arc<ArcSwap<Settings>>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(settings: Arc<ArcSwap<Settings>>) -> Result<Writer, String> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() });
        let (theirs, config) = (shared.clone(), settings.clone());
        std::thread::Builder::new()
            .name("PatroniLogger".into())
            .spawn(move || write_loop(&theirs, &config))
            .map_err(|e| e.to_string())?;
        Ok(Writer { shared, settings })
    }

    /// Can a log file be written as these settings want it? Makes it.
    ///
    /// # Errors
    /// The file and the reason.
    pub fn check(&self, settings: &Settings) -> Result<(), String> {
        let Some(path) = settings.file() else { return Ok(()) };
        let shown = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        RotatingFile::open(path, 0, 0, settings.mode).map(drop).map_err(|e| {
            let shown = shown.display().to_string();
            format!("{}: {}", oserror::class(&e), oserror::text(&e, Some(&shown)))
        })
    }

    /// Queues a record, or counts it as lost. Once there is room again, the loss is told, if that finds room too.
    pub fn push(&self, record: Record) {
        let limit = self.settings.load().max_queue_size;
        let Ok(mut queue) = self.shared.queue.lock() else { return };
        let full = |queue: &Queue| limit > 0 && queue.records.len() >= limit;
        if full(&queue) {
            queue.lost += 1;
            return;
        }
        let report = (queue.lost > 0).then(|| Record {
            level: LevelNo::WARNING,
            name: "patroni.log",
            message: format!("QueueHandler has lost {} log records", queue.lost),
            exception: None,
            fields: None,
            ..record.clone()
        });
        queue.records.push_back(record);
        if let Some(report) = report.filter(|_| !full(&queue)) {
            queue.records.push_back(report);
            queue.lost = 0;
        }
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// What waits and what was lost.
    pub fn counters(&self) -> Counters {
        self.shared.queue.lock().map_or_else(
            |_| Counters::default(),
            |q| Counters { queue_size: q.records.len(), records_lost: q.lost },
        )
    }

    /// Waits until everything is written, 5 s at most. False when something is not.
    pub fn flush(&self) -> bool {
        let Ok(queue) = self.shared.queue.lock() else { return false };
        let busy = |q: &mut Queue| !q.records.is_empty() || q.writing;
        let waited = self.shared.changed.wait_timeout_while(queue, Duration::from_secs(5), busy);
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }
}

fn write_loop(shared: &Shared, settings: &ArcSwap<Settings>) {
    let mut sink = Sink::default();
    let mut filter = Filter::default();
    loop {
        let Ok(queue) = shared.queue.lock() else { return };
        let Ok(mut queue) = shared.changed.wait_while(queue, |q| q.records.is_empty()) else { return };
        let Some(record) = queue.records.pop_front() else { continue };
        queue.writing = true;
        drop(queue);
        let settings = settings.load_full();
        filter.pass(record, &settings, |record| sink.write(record, &settings));
        if let Ok(mut queue) = shared.queue.lock() {
            queue.writing = false;
        }
        shared.changed.notify_all();
    }
}

/// Standard error or the file, whichever the settings of the moment say.
#[derive(Default)]
struct Sink {
    file: Option<RotatingFile>,
}

impl Sink {
    fn write(&mut self, record: &Record, settings: &Settings) {
        match settings.format.render(record, settings.dateformat.as_deref()) {
            Ok(line) => self.write_line(&line, settings),
            // As Python's logging tells of it, without its frames.
            Err(error) => to_stderr(&format!(
                "--- Logging error ---\n{error}\nMessage: {}",
                pyfmt::value::str_repr(&record.message)
            )),
        }
    }

    fn write_line(&mut self, line: &str, settings: &Settings) {
        match settings.file() {
            None => self.file = None,
            Some(path) => {
                match self.file.as_mut().filter(|file| file.is_at(&path)) {
                    Some(file) => file.set_limits(settings.file_size, settings.file_num, settings.mode),
                    None => {
                        self.file =
                            RotatingFile::open(path, settings.file_size, settings.file_num, settings.mode)
                                .ok();
                    }
                }
                // A file that cannot be written must not lose the line.
                if self.file.as_mut().is_some_and(|f| f.write_line(line).is_ok()) {
                    return;
                }
            }
        }
        to_stderr(line);
    }
}

fn to_stderr(line: &str) {
    // One write, so that lines of several threads stay whole.
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    use std::time::Instant;

    use super::*;

    fn record(message: String) -> Record {
        Record {
            level: LevelNo::INFO,
            name: "patroni.ha",
            message,
            exception: None,
            fields: None,
            created_us: 0,
            file: "x.rs",
            line: 1,
            thread_name: "MainThread".into(),
            thread: 1,
        }
    }

    /// A disk that takes nothing more: a pipe that nobody reads.
    #[test]
    fn a_blocked_disk_blocks_nobody_and_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("patroni.log");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        let settings = Settings {
            dir: Some(dir.path().to_owned()),
            file_size: 0,
            max_queue_size: 10,
            ..Settings::default()
        };
        // Full from the beginning: what a busy machine has the writer do first does not matter.
        let mut filler = std::fs::OpenOptions::new();
        let mut filler = filler.write(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
        for size in [4096, 1] {
            while filler.write(&vec![b'.'; size]).is_ok() {}
        }
        let writer = Writer::start(Arc::new(ArcSwap::from_pointee(settings))).unwrap();
        let start = Instant::now();
        writer.push(record("0".into()));
        while writer.counters().queue_size > 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody writes");
            std::thread::sleep(Duration::from_millis(1));
        }
        let start = Instant::now();
        for i in 1..300 {
            writer.push(record(format!("{i} {}", "x".repeat(1000))));
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        let lost = 299 - 10;
        assert_eq!(writer.counters(), Counters { queue_size: 10, records_lost: lost });
        assert!(!writer.flush(), "the disk is still blocked");
        let mut text = String::new();
        // Told with the next record that finds room.
        let mut sent = 0;
        while !text.contains("QueueHandler has lost") {
            let mut buffer = [0; 65536];
            let n = reader.read(&mut buffer).unwrap();
            text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
            if writer.counters().queue_size < 9 && sent == 0 {
                writer.push(record("after".into()));
                sent += 1;
            }
        }
        assert!(writer.flush());
        assert_eq!(writer.counters().records_lost, 0);
        assert!(text.contains(&format!("QueueHandler has lost {lost} log records")), "{lost}");
    }
}
