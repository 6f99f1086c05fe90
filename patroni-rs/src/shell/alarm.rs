//! How the lock keeper sleeps: until an instant of the clock that counts suspension, until somebody rings, or until the wall
//! clock is set.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use patroni_core::ha::Mono;

use crate::instance::mono_now;
use crate::timer::{Timer, WallClock};

/// Without timers of the kernel it looks so often.
const LOOK: Duration = Duration::from_millis(500);

/// Wakes the sleeper; heard also by one who is about to sleep.
#[derive(Debug, Default)]
pub struct Bell(OnceLock<PipeWriter>);

impl Bell {
    /// Rings. A bell that nobody hears yet does nothing.
    pub fn ring(&self) {
        if let Some(mut pipe) = self.0.get() {
            // Full: it has been rung, and not been heard yet.
            let _ = pipe.write(&[1]);
        }
    }
}

/// One sleeper's.
#[derive(Debug)]
pub struct Alarm {
    bell: PipeReader,
    boot: Option<Timer>,
    wall: WallClock,
}

impl Alarm {
    /// With that bell, which has no other. It takes its descriptors now.
    ///
    /// # Errors
    /// There are no descriptors.
    pub fn new(bell: &Bell) -> io::Result<Alarm> {
        let (reader, writer) = io::pipe()?;
        for end in [reader.as_fd(), writer.as_fd()] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        // Only a second call could fail, and there is none.
        let _ = bell.0.set(writer);
        Ok(Alarm { bell: reader, boot: Timer::boot().ok(), wall: WallClock::watch()? })
    }

    /// Sleeps until then, or until the bell is rung or the wall clock set. By how much that has jumped ahead since
    /// the last call.
    pub fn wait(&mut self, until: Option<Mono>) -> Option<Duration> {
        let set = self.boot.as_ref().is_some_and(|boot| boot.set(until).is_ok());
        let mut fds = vec![PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        let wall = self.wall.timer();
        fds.extend(self.boot.iter().chain(wall).map(|t| PollFd::new(t.as_fd(), PollFlags::POLLIN)));
        let timeout = if set && wall.is_some() {
            PollTimeout::NONE
        } else {
            let left = until.map_or(LOOK, |at| at.since(mono_now()).min(LOOK));
            PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)
        };
        let _ = poll(&mut fds, timeout);
        while self.bell.read(&mut [0; 64]).is_ok_and(|n| n > 0) {}
        self.wall.jumped()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn sleeps_until_then_or_the_bell() {
        let bell = Bell::default();
        bell.ring();
        let mut alarm = Alarm::new(&bell).unwrap();
        let began = Instant::now();
        assert_eq!(alarm.wait(Some(mono_now() + Duration::from_millis(80))), None);
        assert!(began.elapsed() >= Duration::from_millis(70), "{:?}", began.elapsed());
        // Rung before, and again and again: one awakening.
        (0..100_000).for_each(|_| bell.ring());
        let began = Instant::now();
        alarm.wait(None);
        assert!(began.elapsed() < Duration::from_secs(5));
        alarm.wait(Some(mono_now() + Duration::from_millis(80)));
        assert!(began.elapsed() >= Duration::from_millis(70));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                bell.ring();
            });
            alarm.wait(None);
        });
        // A time that is past.
        alarm.wait(Some(Mono::seconds(1)));
        alarm.wait(Some(Mono::ZERO));
    }
}
