//! Children that must not outlive the daemon: what writes into PGDATA (a copy, a rewind, a recovery) would go on
//! writing under the PostgreSQL of the next daemon, which knows nothing of it.
//!
//! Three nets, each for what slips through the one before. The kernel kills the child as the daemon dies
//! (`PR_SET_PDEATHSIG`). That is not inherited by what a script starts: so every child and all below it carry the
//! data directory in their environment, and the reaper (`patroni-rs/src/reaper.rs`) or the next daemon ends all
//! that have it ([`leftovers`]).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{mpsc, OnceLock};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::evidence;
use super::proc::{self, Process};

/// In the environment of such a child: the data directory that it works on.
pub const WORKS_ON: &str = "PATRONI_RS_WORKS_ON";

type Work = Box<dyn FnOnce() + Send>;

/// Starts a child that is killed when this process ends, however it ends.
///
/// The kernel ties the child to the *thread* that forked it, and the threads of a runtime come and go: so one thread
/// that lives as long as the process forks them all.
///
/// # Errors
/// Those of fork and exec; no such thread can be had.
pub async fn spawn(mut command: Command) -> io::Result<Child> {
    die_with_us(&mut command);
    let runtime = Handle::current();
    let (tell, told) = oneshot::channel();
    let work = Box::new(move || {
        let _here = runtime.enter();
        // Whoever asked may be gone: the child is then killed as it is dropped.
        let _ = tell.send(command.spawn());
    });
    forker()?.send(work).map_err(|_| io::Error::other("the thread that starts children has ended"))?;
    told.await.map_err(io::Error::other)?
}

/// The thread that forks.
fn forker() -> io::Result<mpsc::Sender<Work>> {
    static FORKER: OnceLock<mpsc::Sender<Work>> = OnceLock::new();
    if let Some(known) = FORKER.get() {
        return Ok(known.clone());
    }
    let (sender, works) = mpsc::channel::<Work>();
    std::thread::Builder::new()
        .name("children".into())
        .spawn(move || works.iter().for_each(|work| work()))?;
    // Another caller may have been faster; the thread of the slower one ends with its channel.
    Ok(FORKER.get_or_init(|| sender).clone())
}

#[allow(unsafe_code)] // pre_exec
fn die_with_us(command: &mut Command) {
    let daemon = std::process::id() as libc::pid_t;
    // SAFETY: prctl, getppid and the making of an error from a number are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            // It may have died between the fork and the call.
            if libc::getppid() != daemon {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// What an earlier daemon has left at work on `data_dir`: whatever carries [`WORKS_ON`] and, for daemons that set no
/// such variable, the programs named (`pg_rewind`, `pg_basebackup`, as they are called here) that have the directory
/// among their arguments.
///
/// Blocks: call it on the blocking pool.
pub fn leftovers(data_dir: &Path, programs: &[String]) -> Vec<Process> {
    let own = nix::unistd::geteuid().as_raw();
    let mine = std::process::id() as i32;
    let pids = evidence::pids().unwrap_or_default().into_iter();
    pids.filter(|pid| *pid != mine)
        .filter(|pid| std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|m| m.uid() == own))
        .filter(|pid| carries(*pid, data_dir) || copies(*pid, data_dir, programs))
        .filter_map(Process::find)
        .collect()
}

fn words(file: &str) -> Vec<Vec<u8>> {
    let raw = std::fs::read(file).unwrap_or_default();
    raw.split(|b| *b == 0).filter(|w| !w.is_empty()).map(<[u8]>::to_vec).collect()
}

/// Does it have the variable, and is it not a server that a script has started?
fn carries(pid: i32, data_dir: &Path) -> bool {
    let wanted = [WORKS_ON.as_bytes(), b"=", data_dir.as_os_str().as_bytes()].concat();
    if !words(&format!("/proc/{pid}/environ")).contains(&wanted) || !is_place(pid, data_dir, data_dir) {
        return false;
    }
    !evidence::is_postgres(pid)
        || words(&format!("/proc/{pid}/cmdline")).iter().any(|w| w == b"--single" || w == b"--boot")
}

/// Is what that process calls `theirs` our `data_dir`? Processes of a container, or of an earlier start of a systemd
/// unit with a `/tmp` of its own, see other file systems under the same names, or the same under others.
fn is_place(pid: i32, theirs: &Path, data_dir: &Path) -> bool {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let place = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino()));
    match (place(&root.join(theirs.strip_prefix("/").unwrap_or(theirs))), place(data_dir)) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        (Err(a), Err(b)) if a.kind() == io::ErrorKind::NotFound && b.kind() == a.kind() => {
            let space = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
            theirs == data_dir && space(&pid.to_string()) == space("self")
        }
        _ => false,
    }
}

/// Is it one of the programs, itself or run by a shell, with the directory among its arguments?
fn copies(pid: i32, data_dir: &Path, programs: &[String]) -> bool {
    let argv: Vec<PathBuf> = words(&format!("/proc/{pid}/cmdline"))
        .into_iter()
        .map(|w| PathBuf::from(<OsStr as OsStrExt>::from_bytes(&w)))
        .collect();
    let is_program = |word: &PathBuf| {
        let name = word.file_name().and_then(OsStr::to_str);
        name.is_some_and(|name| programs.iter().any(|p| Path::new(p).file_name() == Some(OsStr::new(name))))
    };
    if !argv.iter().take(2).any(is_program) {
        return false;
    }
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    let is_ours = |dir: &Path| is_place(pid, &cwd.join(dir), data_dir);
    argv.iter().enumerate().any(|(i, word)| {
        let text = word.to_string_lossy();
        let joined = ["--pgdata=", "--target-pgdata=", "-D"].iter().find_map(|p| text.strip_prefix(p));
        match joined.filter(|dir| !dir.is_empty()) {
            Some(dir) => is_ours(Path::new(dir)),
            None if matches!(&*text, "-D" | "--pgdata" | "--target-pgdata") => {
                argv.get(i + 1).is_some_and(|dir| is_ours(dir))
            }
            None => false,
        }
    })
}

/// Kills what [`leftovers`] finds, until there is nothing left or `limit` is over. Returns those that were found.
///
/// Blocks: call it on the blocking pool.
pub fn end_leftovers(data_dir: &Path, programs: &[String], limit: Duration) -> Vec<Process> {
    let until = std::time::Instant::now() + limit;
    let mut all = Vec::new();
    loop {
        let found = leftovers(data_dir, programs);
        if found.is_empty() || std::time::Instant::now() > until {
            return all;
        }
        for process in found {
            let _ = process.signal(Signal::SIGKILL);
            if !all.contains(&process) {
                all.push(process);
            }
        }
        // What is being killed may be starting something.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The command line of a process, for the log.
pub fn command_line(process: &Process) -> String {
    let words = words(&format!("/proc/{}/cmdline", process.pid));
    let text: Vec<String> = words.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    super::cancellable::show(&text)
}

/// Are these all gone?
pub fn gone(processes: &[Process]) -> bool {
    processes
        .iter()
        .all(|p| proc::stat(p.pid).is_none_or(|s| s.state == 'Z' || s.start_ticks != p.start_ticks))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Stdio;
    use std::time::Instant;

    fn wait_for(what: &str, mut test: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(10);
        while !test() {
            assert!(Instant::now() < until, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it_and_not_the_process() {
        let asked = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let child = runtime.block_on(async {
                let mut command = Command::new("sleep");
                command.arg("30");
                spawn(command).await.unwrap()
            });
            let pid = child.id().unwrap() as i32;
            std::mem::forget((child, runtime));
            pid
        });
        let process = Process::find(asked.join().unwrap()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(process.is_alive());
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
        assert!(status.contains(&format!("PPid:\t{}", std::process::id())));
        let _ = process.signal(Signal::SIGKILL);
    }

    #[test]
    fn leftovers_are_found_by_their_environment_and_by_their_arguments() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, root.path().join("link")).unwrap();
        let program = root.path().join("my_rewind");
        std::fs::write(&program, "#!/bin/sh\nsleep 30\n").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let names = ["/usr/bin/my_rewind".to_owned()];
        let sh = |line: &str, argv: &[&str], env: Option<&Path>| {
            let mut command = std::process::Command::new(line);
            command.args(argv).stdin(Stdio::null()).current_dir(root.path());
            if let Some(dir) = env {
                command.env(WORKS_ON, dir);
            }
            command.spawn().unwrap()
        };
        let mine = program.to_str().unwrap();
        let mut stay = [
            sh("sleep", &["30"], None),
            sh("sleep", &["30"], Some(&root.path().join("dat"))),
            sh(mine, &["-D", root.path().to_str().unwrap()], None),
        ];
        let mut go = [
            sh("/bin/sh", &["-c", "sleep 30 & wait"], Some(&data)),
            sh(mine, &["-D", data.to_str().unwrap()], None),
            sh(mine, &["--target-pgdata=link"], None),
        ];
        let pid = |c: &std::process::Child| c.id() as i32;
        let found = || leftovers(&data, &names).iter().map(|p| p.pid).collect::<Vec<_>>();
        wait_for("all are found", || go.iter().all(|c| found().contains(&pid(c))) && found().len() == 4);
        assert!(!stay.iter().any(|c| found().contains(&pid(c))));
        let ended = end_leftovers(&data, &names, Duration::from_secs(10));
        assert_eq!(ended.len(), 4);
        assert!(gone(&ended));
        for child in stay.iter_mut().chain(go.iter_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
