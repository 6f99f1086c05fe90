//! The guardian itself: what runs when the program is started under its name.
//!
//! Nothing of the daemon is here: no runtime, no configuration, no log, no thread.
//! It sleeps until the daemon says something, the postmaster ends, or time is up.
//! Where both have ended it becomes the releaser (`crate::releaser`), which gives the leader lock up.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{signal, SigHandler, Signal};
use patroni_core::ha::guardian::{duty, Doubt, Duty, Server, Watch};
use patroni_core::ha::Mono;
use patroni_postgres::process::evidence::{self, Place, Survey};
use patroni_postgres::process::fence::{fence, Fenced};
use patroni_postgres::process::pidfd::PidFd;
use patroni_postgres::process::proc::Process;

use super::wire::{Guards, Word, LENGTH, VACANCY};
use crate::clock::mono_now;
use crate::timer::{Timer, WallClock};
use crate::{releaser, urgency};

/// The name it runs under (`argv[0]`); then come PGDATA and the log file, if there is one.
pub const NAME: &str = "patroni: guardian";

/// Where the kernel has no pidfd it looks so often whether the postmaster lives.
const LOOK_MS: u16 = 1000;

/// If the program was started as a guardian: is one to its end.
pub fn run_if_named() {
    let mut args = std::env::args_os();
    if args.next().as_deref() != Some(OsStr::from_bytes(NAME.as_bytes())) {
        return;
    }
    let log = args.nth(1).filter(|file| !file.is_empty());
    let code = match Guardian::new().and_then(|guardian| guardian.watch(log.as_deref())) {
        Ok(()) => 0,
        Err(e) => {
            say(None, "ERROR", &format!("guardian ends: {e}"));
            1
        }
    };
    // No destructors of libraries that were never used.
    #[allow(unsafe_code)]
    // SAFETY: _exit ends the process and touches no memory.
    unsafe {
        libc::_exit(code)
    }
}

struct Guardian {
    word: Word,
    /// Of the postmaster in `word`; None: it has ended, and nothing of it is left.
    postmaster: Option<Watched>,
    /// Where the last server of which there was word works, or worked.
    home: Option<Place>,
    daemon: bool,
    /// Since when there is neither daemon nor server.
    vacant: Option<Mono>,
    /// Bytes of a record whose rest has not come yet.
    part: Vec<u8>,
    alarm: Timer,
    wall: WallClock,
    /// The wall clock has jumped since the last word.
    doubt: Option<Doubt>,
}

enum Watched {
    ByDescriptor(PidFd),
    ByLooking(Process),
    /// It has ended; of what it has started something may be left.
    Remains(Place),
}

impl Guardian {
    fn new() -> io::Result<Guardian> {
        // Whoever stops the service stops the daemon; the guardian ends with it, in its time.
        for ignored in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
            #[allow(unsafe_code)]
            // SAFETY: ignoring a signal runs no code of ours.
            unsafe {
                signal(ignored, SigHandler::SigIgn)?;
            }
        }
        close_all_but_standard();
        evidence::reserve();
        fcntl(io::stdin(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        urgency::raise();
        #[allow(unsafe_code)]
        // SAFETY: this process speaks no TLS, has no thread, and ends with _exit.
        unsafe {
            urgency::settle();
        }
        Ok(Guardian {
            word: Word::default(),
            postmaster: None,
            home: None,
            daemon: true,
            vacant: None,
            part: Vec::with_capacity(LENGTH),
            alarm: Timer::boot()?,
            wall: WallClock::watch()?,
            doubt: None,
        })
    }

    fn watch(mut self, log: Option<&OsStr>) -> io::Result<()> {
        loop {
            self.listen();
            let server = self.look();
            let now = mono_now();
            if !self.daemon && server == Server::Gone && self.vacant.is_none() {
                self.vacant = Some(now);
                show(VACANCY);
            }
            let watch = Watch {
                now,
                promise: self.word.promise,
                doubt: self.doubt,
                daemon: self.daemon,
                server,
                held: self.word.held,
                vacant: self.vacant,
            };
            match duty(&watch) {
                Duty::End => return Ok(()),
                Duty::Release => return if self.nothing_is_left() { become_releaser() } else { Ok(()) },
                Duty::Wait(until) => {
                    self.wait(until)?;
                    // Before the next word is read, which may be about just that.
                    if let Some(ahead) = self.wall.jumped() {
                        self.doubt = Some(Doubt::after(self.doubt, mono_now(), ahead));
                    }
                }
                Duty::Stop => {
                    if let Some(server) = self.word.postmaster {
                        let due = self.word.promise.is_some_and(|at| mono_now() >= at);
                        let how = fence(&server, self.word.place.as_ref());
                        tell(log, &server, how, self.daemon, due);
                        if how != Fenced::Failed && !self.daemon {
                            self.word.promise = None;
                            continue;
                        }
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Reads all that the daemon has said.
    fn listen(&mut self) {
        let mut buffer = [0; 16 * LENGTH];
        while self.daemon {
            match nix::unistd::read(io::stdin(), &mut buffer) {
                Ok(0) => self.daemon = false,
                Ok(n) => self.part.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return,
                Err(_) => self.daemon = false,
            }
            let whole = self.part.len() - self.part.len() % LENGTH;
            let last = self.part.get(..whole).and_then(|p| p.chunks_exact(LENGTH).last());
            if let Some(word) = last.and_then(|r| r.try_into().ok()).map(Word::decode) {
                self.take(word);
            }
            self.part.drain(..whole);
        }
    }

    fn take(&mut self, word: Word) {
        if word.postmaster != self.word.postmaster {
            show(&Guards::name(&word));
            self.postmaster = word.postmaster.and_then(|server| match server.open() {
                Ok(fd) => Some(Watched::ByDescriptor(fd)),
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => word.place.map(Watched::Remains),
                Err(_) => Some(Watched::ByLooking(server)),
            });
        }
        self.home = word.place.or(self.home);
        self.word = word;
        self.doubt = None;
    }

    /// Does nothing of PostgreSQL work where the server was, for certain? Another daemon may have started one meanwhile.
    fn nothing_is_left(&self) -> bool {
        let found = self.home.map(|home| evidence::survey(&home));
        found.is_some_and(|found| found.is_ok_and(|found| found == Survey::default()))
    }

    /// What there is of the server. One that has ended is forgotten when nothing of it is left.
    fn look(&mut self) -> Server {
        let ended = match &self.postmaster {
            None => return Server::Gone,
            Some(Watched::ByDescriptor(fd)) => fd.has_ended().unwrap_or(false),
            Some(Watched::ByLooking(server)) => !server.is_alive(),
            Some(Watched::Remains(_)) => true,
        };
        if !ended {
            return Server::Lives;
        }
        let place = match &self.postmaster {
            Some(Watched::Remains(place)) => Some(*place),
            _ => self.word.place,
        };
        // A server that works there now is another one, of which its own daemon speaks; its attempt to start says nothing
        // about what is left of ours.
        let is_over =
            |place: &Place| evidence::survey(place).is_ok_and(|found| found.remains().next().is_none());
        self.postmaster = place.filter(|place| !is_over(place)).map(Watched::Remains);
        match self.postmaster {
            Some(_) => Server::Remains,
            None => Server::Gone,
        }
    }

    /// Until the daemon says something or ends, the postmaster ends, or `until`.
    fn wait(&self, until: Option<Mono>) -> io::Result<()> {
        self.alarm.set(until)?;
        let input = io::stdin();
        let mut fds = [
            Some(PollFd::new(self.alarm.as_fd(), PollFlags::POLLIN)),
            self.daemon.then(|| PollFd::new(input.as_fd(), PollFlags::POLLIN)),
            match &self.postmaster {
                Some(Watched::ByDescriptor(fd)) => Some(PollFd::new(fd.as_fd(), PollFlags::POLLIN)),
                _ => None,
            },
            self.wall.timer().map(|timer| PollFd::new(timer.as_fd(), PollFlags::POLLIN)),
        ];
        // Those that are there first; the last entries are not looked at.
        fds.sort_by_key(Option::is_none);
        let mut present = fds.into_iter().flatten().collect::<Vec<_>>();
        let look = matches!(self.postmaster, Some(Watched::ByLooking(_) | Watched::Remains(_)));
        let timeout = if look { PollTimeout::from(LOOK_MS) } else { PollTimeout::NONE };
        match poll(&mut present, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// The same program goes on as the releaser, on the same descriptors: one of them is the ticket.
fn become_releaser() -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(releaser::NAME).args(std::env::args_os().skip(1)).stdin(Stdio::null());
    Err(command.exec())
}

/// The name that others see (`Guards`).
#[allow(unsafe_code)] // no wrapper in nix without another feature
fn show(name: &str) {
    let Ok(name) = std::ffi::CString::new(name) else { return };
    // SAFETY: the kernel reads at most 16 bytes of a string that lives during the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Sockets and files of the daemon are closed on exec; what a library forgot is closed here.
#[allow(unsafe_code)]
fn close_all_but_standard() {
    // SAFETY: nothing of this process has opened a descriptor beyond the standard ones yet.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32);
    }
}

/// One line for people, after the deed.
fn tell(log: Option<&OsStr>, server: &Process, how: Fenced, daemon: bool, due: bool) {
    let why = match (due, daemon) {
        (true, true) => "Leader lock runs out and the daemon hangs",
        (true, false) => "Leader lock runs out and the daemon has died",
        (false, _) => "The daemon and the postmaster have died",
    };
    let what = match how {
        Fenced::Nothing => "had ended",
        Fenced::Failed => "could not be stopped",
        Fenced::Quit => "stopped immediately",
        Fenced::Killed => "killed",
    };
    say(log, "ERROR", &format!("{why}: guardian: PostgreSQL (pid={}) {what}", server.pid));
}

/// To standard error, which is the daemon's, and to its log file.
pub fn say(log: Option<&OsStr>, level: &str, text: &str) {
    let line = format!("{} {level}: {text}\n", jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S,%3f"));
    let _ = io::stderr().write_all(line.as_bytes());
    if let Some(file) = log {
        let file = std::fs::OpenOptions::new().append(true).open(file);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    /// A daemon that says a word knows that the clock has jumped: its promise is as of now.
    #[test]
    fn a_word_ends_the_doubt_about_the_one_before() {
        let mut guardian = Guardian {
            word: Word::default(),
            postmaster: None,
            home: None,
            daemon: true,
            vacant: None,
            part: Vec::new(),
            alarm: Timer::boot().unwrap(),
            wall: WallClock::watch().unwrap(),
            doubt: Some(Doubt::after(None, mono_now(), Duration::from_secs(60))),
        };
        guardian.take(Word { promise: Some(mono_now()), ..Word::default() });
        assert_eq!((guardian.doubt, guardian.word.promise.is_some()), (None, true));
    }
}
