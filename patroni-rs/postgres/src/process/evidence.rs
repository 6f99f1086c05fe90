//! Whether a server has ended, and on what proof. The one place that answers it: for the leader
//! lock, the keeper's promise, the guardian's word, a start, and the removal of a data directory.
//!
//! Only `ENOENT` and `ESRCH` say that a process has gone. Any other failure (no descriptor, no
//! memory, a disk that hangs) says nothing: it is then as it was before. The end of the postmaster
//! is not the end of its server either: a backend looks for it only when it waits, and with a
//! client that never stops sending it goes on committing. A server has ended when its postmaster
//! has *and* no process of PostgreSQL works in its data directory any more.
//!
//! What is asked here needs no new descriptor where none is to be had: the postmaster's pidfd and
//! a listing of `/proc` are kept open from the beginning, everything else is `stat`, `readlink`
//! and `kill`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use patroni_core::mutex::locked;

use super::pidfd::PidFd;
use super::proc::{self, Process};

/// Time between two looks whether what was killed is gone.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long backends may take to die of SIGKILL before it counts as not proven.
pub const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Names of the program.
const PROGRAMS: [&str; 3] = ["postgres", "postmaster", "edb-postgres"];
/// Names that the configuration gives it (`bin_name`), since this process began.
static OWN_PROGRAMS: Mutex<Vec<OsString>> = Mutex::new(Vec::new());
/// What the title of every process below a postmaster begins with.
const BACKEND: &str = "postgres:";

/// What a look at a process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Alive,
    /// It has ended (a zombie has: it holds no file and no socket).
    Gone,
    /// Nobody can tell: as before.
    Unknown,
}

/// A data directory, told apart by what it is and not by its name: names differ between mount
/// namespaces, and a directory may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

/// What works in a data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Servers: a postmaster, or one in single-user mode.
    pub servers: Vec<i32>,
    /// Processes that a postmaster has started.
    pub backends: Vec<i32>,
    /// Processes of PostgreSQL whose title cannot be read.
    pub untold: Vec<i32>,
}

/// How the end of a server was looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing of it is left; so many processes had to be killed.
    Proven(usize),
    /// Another server works there, with this pid. So many processes that were left beside it had to be killed.
    Server(i32, usize),
    /// Something of it is left, or nobody can tell.
    Unproven,
}

// ---- one process ----

/// Descriptors of postmasters, from their launch or takeover to their end.
static HELD: Mutex<Vec<(Process, Arc<PidFd>)>> = Mutex::new(Vec::new());

/// Keeps a descriptor of `process` until it has ended. Where none is to be had it is looked at by its pid.
pub fn hold(process: &Process) {
    if held(process).is_some() {
        return;
    }
    let opened = process.open();
    let mut held = locked(&HELD);
    held.retain(|(_, fd)| !matches!(fd.has_ended(), Ok(true)));
    if let Ok(fd) = opened {
        held.push((*process, Arc::new(fd)));
    }
}

/// The descriptor that is kept of `process`.
pub fn held(process: &Process) -> Option<Arc<PidFd>> {
    locked(&HELD).iter().find(|(p, _)| p == process).map(|(_, fd)| fd.clone())
}

/// Does `process` live?
pub fn life(process: &Process) -> Life {
    if let Some(Ok(ended)) = held(process).map(|fd| fd.has_ended()) {
        return if ended { Life::Gone } else { Life::Alive };
    }
    match proc::look(process.pid) {
        Ok(Some(s)) if s.start_ticks == process.start_ticks && !s.is_zombie() => Life::Alive,
        Ok(_) => Life::Gone,
        Err(_) => life_of_pid(process.pid),
    }
}

/// Without a descriptor: only that it has gone can be proven.
fn life_of_pid(pid: i32) -> Life {
    match kill(Pid::from_raw(pid), None) {
        Err(Errno::ESRCH) => return Life::Gone,
        // Not ours: what we started runs as we do.
        Err(Errno::EPERM) => return Life::Gone,
        _ => {}
    }
    // A zombie has no working directory.
    match fs::metadata(format!("/proc/{pid}/cwd")) {
        Err(e) if is_gone(&e) && fs::metadata(format!("/proc/{pid}")).is_ok() => Life::Gone,
        _ => Life::Unknown,
    }
}

/// Does this failure prove that what was asked for is not there?
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

// ---- a data directory ----

impl Place {
    /// The directory at `path`.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Place> {
        fs::metadata(path).map(|meta| Place { dev: meta.dev(), ino: meta.ino() })
    }

    /// Does the process with this pid work here? `None` when the system does not say.
    pub fn has(&self, pid: i32) -> Option<bool> {
        match Place::of(Path::new(&format!("/proc/{pid}/cwd"))) {
            Ok(cwd) => Some(cwd == *self),
            Err(e) if is_gone(&e) => Some(false),
            Err(_) => None,
        }
    }
}

/// The program that runs under this pid, as the system names its file.
fn program(pid: i32) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe"))
}

/// Is a file of this name the server's program? It may have been replaced since, and some distributions wrap it.
fn is_server_program(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_end_matches(" (deleted)");
    PROGRAMS.contains(&name.trim_start_matches('.').trim_end_matches("-wrapped"))
        || locked(&OWN_PROGRAMS).iter().any(|own| own == name)
}

/// The server's program is called `name` here. What ran under an earlier name may still run.
pub fn know_program(name: OsString) {
    let mut own = locked(&OWN_PROGRAMS);
    if !own.contains(&name) {
        own.push(name);
    }
}

/// Is it one of us: the daemon, its reaper or its guardian?
fn is_our_program(pid: i32) -> bool {
    matches!((fs::metadata(format!("/proc/{pid}/exe")), fs::metadata("/proc/self/exe")),
        (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Does PostgreSQL run under this pid, by the name of its program?
pub fn is_postgres(pid: i32) -> bool {
    program(pid).is_ok_and(|file| is_server_program(&file))
}

/// Kept open, so that processes can be listed where no descriptor is to be had.
static LISTING: Mutex<Option<File>> = Mutex::new(None);

/// Sets aside what the looks of this module need. To be called when the process begins.
pub fn reserve() {
    let mut listing = locked(&LISTING);
    if listing.is_none() {
        *listing = File::open("/proc").ok();
    }
}

/// The pids of the machine.
///
/// # Errors
/// They cannot be listed.
pub(super) fn pids() -> io::Result<Vec<i32>> {
    let listing = locked(&LISTING);
    match &*listing {
        Some(open) => list(open),
        None => list(&File::open("/proc")?),
    }
}

/// The numbers among the names of a directory that is open.
#[allow(unsafe_code)] // the standard library opens a directory anew for each listing
fn list(mut directory: &File) -> io::Result<Vec<i32>> {
    directory.seek(SeekFrom::Start(0))?;
    let mut found = Vec::new();
    let mut buffer = [0u8; 8192];
    loop {
        // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`, which lives during the call.
        let read = unsafe {
            let fd = directory.as_raw_fd();
            libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len())
        };
        let mut rest = match usize::try_from(read) {
            Ok(0) => return Ok(found),
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(_) => return Err(io::Error::last_os_error()),
        };
        // struct linux_dirent64: inode, offset, length of the record (2 bytes), type, name.
        while let Some(&[low, high, _]) = rest.get(16..19).and_then(|b| <&[u8; 3]>::try_from(b).ok()) {
            let length = usize::from(u16::from_ne_bytes([low, high])).max(19);
            let name = rest.get(19..length).and_then(|name| name.split(|b| *b == 0).next());
            let name = name.and_then(|name| std::str::from_utf8(name).ok());
            found.extend(name.and_then(|name| name.parse::<i32>().ok()));
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// The title of a process, as far as it says what kind it is.
fn title(pid: i32) -> io::Result<Vec<u8>> {
    let mut title = Vec::new();
    File::open(format!("/proc/{pid}/cmdline"))?.take(64).read_to_end(&mut title)?;
    Ok(title)
}

/// Is it the title of a process that a postmaster has started?
fn is_backend(title: &io::Result<Vec<u8>>) -> bool {
    title.as_ref().is_ok_and(|title| title.starts_with(BACKEND.as_bytes()))
}

/// The processes of PostgreSQL that work in `place`: whatever runs its program, whatever is titled as its processes are,
/// and what has started such a one, by whatever name (a program may have been renamed under its server). Nobody else's
/// are looked at: neither a shell that somebody has left there, nor what a command of PostgreSQL runs, nor pg_rewind.
///
/// # Errors
/// Not all could be looked at.
pub fn survey(place: &Place) -> io::Result<Survey> {
    let mut found = Survey::default();
    let own = std::process::id() as i32;
    for pid in pids()?.into_iter().filter(|pid| *pid != own) {
        let named = match program(pid) {
            Ok(file) => is_server_program(&file),
            // Others' cannot be read; whatever has been started as we are, can.
            Err(e) if is_gone(&e) || e.kind() == io::ErrorKind::PermissionDenied => continue,
            Err(e) => return Err(e),
        };
        let title = title(pid);
        let titled = is_backend(&title);
        // A stranger's title is asked for first: its directory may be on a disk that hangs.
        if !named && !titled && title.is_ok() {
            continue;
        }
        match place.has(pid) {
            Some(true) => {}
            Some(false) => continue,
            None if named || titled => {
                return Err(io::Error::other(format!("process {pid} cannot be looked at")));
            }
            None => continue,
        }
        match title {
            Ok(title) if title.is_empty() => found.untold.push(pid),
            Ok(_) if titled => found.backends.push(pid),
            Ok(_) => found.servers.push(pid),
            Err(e) if is_gone(&e) => {}
            Err(_) => found.untold.push(pid),
        }
    }
    for parent in found.backends.iter().filter_map(|pid| proc::stat(*pid)).map(|stat| stat.ppid) {
        let known = found.servers.contains(&parent) || found.backends.contains(&parent);
        // Whoever adopts orphans is none: nor are we, where we work there.
        if !known && parent > 1 && place.has(parent) == Some(true) && !is_our_program(parent) {
            found.servers.push(parent);
        }
    }
    Ok(found)
}

/// Does a server of `place` run under this pid?
pub fn is_server(pid: i32, place: &Place) -> bool {
    place.has(pid) == Some(true)
        && (is_postgres(pid) || survey(place).is_ok_and(|found| found.servers.contains(&pid)))
}

impl Survey {
    /// What a server that has ended has left: processes of PostgreSQL that no server of this place has started. A server
    /// that is only being started proves nothing about them: it looks for what is left after it has written its pid file,
    /// and gives up then.
    pub fn remains(&self) -> impl Iterator<Item = i32> + '_ {
        self.backends.iter().chain(&self.untold).copied().filter(|pid| !self.belongs(*pid))
    }

    /// Has a server of this place started it? Whatever cannot be looked at counts as left.
    fn belongs(&self, pid: i32) -> bool {
        proc::stat(pid).is_some_and(|stat| self.servers.contains(&stat.ppid))
    }

    /// The postmaster: a server that has processes of its own there. (One that has just been forked still bears its
    /// parent's title.)
    pub fn postmaster(&self) -> Option<Process> {
        let found = self
            .servers
            .iter()
            .find(|pid| self.backends.iter().any(|b| proc::stat(*b).is_some_and(|s| s.ppid == **pid)))?;
        Process::find(*found)
    }
}

/// Ends what a server has left behind whose postmaster has ended: SIGKILL to each of its processes,
/// until none is there, for at most `patience`. A server that works there, and what it has started, is left alone.
/// `harsh`: so is not what cannot be told from a server, because time is up.
///
/// Blocks, and needs no new descriptor.
pub fn end_remains(place: &Place, patience: Duration, harsh: bool) -> End {
    let deadline = Instant::now() + patience;
    let mut killed = 0;
    loop {
        if let Ok(found) = survey(place) {
            let left: Vec<i32> = found.remains().collect();
            match (left.len(), found.servers.first()) {
                (0, None) => return End::Proven(killed),
                (0, Some(server)) => return End::Server(*server, killed),
                _ => {}
            }
            if killed == 0 {
                tracing::warn!(
                    target: "patroni.postgresql.postmaster",
                    "The postmaster has ended, and {} processes of it have not: sending SIGKILL", left.len()
                );
            }
            killed = killed.max(left.len());
            let sure = |pid: &&i32| harsh || found.backends.contains(pid);
            left.iter().filter(sure).for_each(|pid| end(*pid, place));
        }
        if Instant::now() >= deadline {
            return End::Unproven;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// SIGKILL to a process of PostgreSQL that works in `place`; never to one that has got its pid since, nor to one that a
/// server there has started which came after the survey.
fn end(pid: i32, place: &Place) {
    let opened = PidFd::open(pid);
    let works_there =
        |pid: i32| place.has(pid) == Some(true) && (is_postgres(pid) || is_backend(&title(pid)));
    let has_server = proc::stat(pid).is_some_and(|stat| stat.ppid > 1 && is_server(stat.ppid, place));
    if !works_there(pid) || has_server {
        return;
    }
    // What cannot be ended is seen by the next look.
    let _ = match opened {
        Ok(fd) => fd.signal(Signal::SIGKILL),
        Err(_) => kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(io::Error::from),
    };
}

/// Nothing of a server works in `data_dir`: proven, or made so. For what is about to write there.
///
/// # Errors
/// A server works there, or nobody can tell.
pub async fn ensure_unused(data_dir: &Path) -> io::Result<()> {
    let dir = data_dir.to_owned();
    let work = move || match Place::of(&dir) {
        Ok(place) => Ok(end_remains(&place, KILL_PATIENCE, false)),
        Err(e) if is_gone(&e) => Ok(End::Proven(0)),
        Err(e) => Err(e),
    };
    let shown = data_dir.display();
    match super::blocking::run(super::blocking::FILE_DEADLINE, work).await? {
        End::Proven(_) => Ok(()),
        End::Server(pid, _) => Err(io::Error::other(format!("PostgreSQL is running in {shown} (pid={pid})"))),
        End::Unproven => Err(io::Error::other(format!("processes of PostgreSQL are left in {shown}"))),
    }
}

#[cfg(test)]
pub(crate) mod tests;
