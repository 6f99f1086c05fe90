//! What the daemon tells its guardian, through a pipe: one record of fixed length,
//! written in one piece; the last one counts. The end of the pipe is the daemon's end.

use std::time::Duration;

use patroni_core::ha::guardian::Held;
use patroni_core::ha::Mono;
use patroni_postgres::process::evidence::Place;
use patroni_postgres::process::proc::Process;

/// Bytes of a record.
pub const LENGTH: usize = 56;

/// What is promised of which postmaster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word {
    /// The postmaster; None: there is none.
    pub postmaster: Option<Process>,
    /// Where it works, as far as that is known: its processes there may outlive it.
    pub place: Option<Place>,
    /// When it has to be stopped unless another word comes, on `CLOCK_BOOTTIME`;
    /// None: not at all.
    pub promise: Option<Mono>,
    /// The leader lock that is held, on the same clock; None: there is none to give up.
    pub held: Option<Held>,
}

impl Word {
    /// The record.
    pub fn encode(&self) -> [u8; LENGTH] {
        let server = self.postmaster.unwrap_or(Process { pid: 0, start_ticks: 0 });
        // Boot time is far from the end of 64 bits of nanoseconds; 0 stands for none.
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let instant = |at: Option<Mono>| at.map_or(0, |at| nanos(at.since_start()).max(1));
        let mut record = [0; LENGTH];
        let place = self.place.unwrap_or(Place { dev: 0, ino: 0 });
        let pid = u64::from(server.pid.unsigned_abs());
        let (until, grace) = (instant(self.held.map(|held| held.until)), self.held.map(|held| held.grace));
        let grace = grace.map_or(0, nanos);
        let promise = instant(self.promise);
        let fields = [pid, server.start_ticks, promise, place.dev, place.ino, until, grace];
        for (place, field) in record.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_ne_bytes());
        }
        record
    }

    /// The record read.
    pub fn decode(record: &[u8; LENGTH]) -> Word {
        let mut fields = record.chunks_exact(8).map(|c| c.try_into().map_or(0, u64::from_ne_bytes));
        let mut next = || fields.next().unwrap_or(0);
        let (pid, start_ticks, promise, dev, ino) = (next(), next(), next(), next(), next());
        let (until, grace) = (next(), Duration::from_nanos(next()));
        let instant = |nanos: u64| (nanos > 0).then(|| Mono::at(Duration::from_nanos(nanos)));
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1);
        Word {
            postmaster: pid.map(|pid| Process { pid, start_ticks }),
            // No directory has the inode 0.
            place: (ino > 0).then_some(Place { dev, ino }),
            promise: instant(promise),
            held: instant(until).map(|until| Held { until, grace }),
        }
    }
}

/// What a guardian lets others know: the pid of the postmaster that it guards, as the name of its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guards {
    /// This one.
    Pid(i32),
    /// It has been told of none.
    Nobody,
    /// Its daemon and its server have ended: it waits for a moment, and has the lock given up.
    Vacancy,
    /// It does not tell.
    Untold,
}

/// What such a name begins with; 15 bytes in all are what the system keeps.
const GUARDS: &str = "guards ";
/// The name where nobody is left.
pub const VACANCY: &str = "guards the lock";

impl Guards {
    /// The name for a process that was told this word.
    pub fn name(word: &Word) -> String {
        format!("{GUARDS}{}", word.postmaster.map_or(0, |p| p.pid))
    }

    /// Whom the guardian with this pid guards.
    pub fn of(pid: i32) -> Guards {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Guards::parse(name.trim_end())
    }

    fn parse(name: &str) -> Guards {
        if name == VACANCY {
            return Guards::Vacancy;
        }
        match name.strip_prefix(GUARDS).and_then(|pid| pid.parse().ok()) {
            Some(0) => Guards::Nobody,
            Some(pid) => Guards::Pid(pid),
            None => Guards::Untold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_pipe() {
        let process = Process { pid: 4711, start_ticks: u64::MAX };
        for postmaster in [None, Some(process)] {
            for promise in [None, Some(Mono::at(Duration::new(123_456, 789)))] {
                for place in [None, Some(Place { dev: 0, ino: 7 })] {
                    let held = |until| Held { until, grace: Duration::from_millis(1500) };
                    for held in [None, promise.map(held)] {
                        let word = Word { postmaster, place, promise, held };
                        assert_eq!(Word::decode(&word.encode()), word);
                    }
                }
            }
        }
        let name = Guards::name(&Word {
            postmaster: Some(Process { pid: 4_194_304, ..process }),
            ..Word::default()
        });
        assert!(name.len() <= 15, "{name}");
        assert_eq!(Guards::parse(&name), Guards::Pid(4_194_304));
        assert_eq!(Guards::parse(&Guards::name(&Word::default())), Guards::Nobody);
        assert!(VACANCY.len() <= 15);
        assert_eq!(Guards::parse(VACANCY), Guards::Vacancy);
        assert_eq!(Guards::parse("exe"), Guards::Untold);
        // Never init, never a group.
        let init = Word { postmaster: Some(Process { pid: 1, start_ticks: 5 }), ..Word::default() };
        assert_eq!(Word::decode(&init.encode()).postmaster, None);
    }
}
