//! What the daemon tells its guardian, through a pipe: one record of fixed length,
//! written in one piece; the last one counts. The end of the pipe is the daemon's end.

use std::time::Duration;

use patroni_core::ha::Mono;
use patroni_postgres::process::proc::Process;

/// Bytes of a record.
pub const LENGTH: usize = 24;

/// What is promised of which postmaster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word {
    /// The postmaster; None: there is none.
    pub postmaster: Option<Process>,
    /// When it has to be stopped unless another word comes, on `CLOCK_BOOTTIME`;
    /// None: not at all.
    pub promise: Option<Mono>,
}

impl Word {
    /// The record.
    pub fn encode(&self) -> [u8; LENGTH] {
        let server = self.postmaster.unwrap_or(Process { pid: 0, start_ticks: 0 });
        // Boot time is far from the end of 64 bits of nanoseconds; 0 stands for none.
        let promise = self.promise.map_or(0, |at| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX).max(1));
        let mut record = [0; LENGTH];
        let fields = [u64::from(server.pid.unsigned_abs()), server.start_ticks, promise];
        for (place, field) in record.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_ne_bytes());
        }
        record
    }

    /// The record read.
    pub fn decode(record: &[u8; LENGTH]) -> Word {
        let mut fields = record.chunks_exact(8).map(|c| c.try_into().map_or(0, u64::from_ne_bytes));
        let mut next = || fields.next().unwrap_or(0);
        let (pid, start_ticks, promise) = (next(), next(), next());
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1);
        Word {
            postmaster: pid.map(|pid| Process { pid, start_ticks }),
            promise: (promise > 0).then(|| Duration::from_nanos(promise)),
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
            for promise in [None, Some(Duration::new(123_456, 789))] {
                let word = Word { postmaster, promise };
                assert_eq!(Word::decode(&word.encode()), word);
            }
        }
        // Never init, never a group.
        let init = Word { postmaster: Some(Process { pid: 1, start_ticks: 5 }), promise: None };
        assert_eq!(Word::decode(&init.encode()).postmaster, None);
    }
}
