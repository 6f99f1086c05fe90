#![allow(clippy::unwrap_used)]
use super::*;
use nix::sys::resource::{setrlimit, Resource};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A program named `postgres`, and a data directory to run it in.
pub(crate) struct FakeServer {
    bin: tempfile::TempDir,
    data: tempfile::TempDir,
}

impl FakeServer {
    pub(crate) fn new() -> FakeServer {
        let (bin, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::copy("/bin/sleep", bin.path().join("postgres")).unwrap();
        FakeServer { bin, data }
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    pub(crate) fn place(&self) -> Place {
        Place::of(self.data.path()).unwrap()
    }

    /// Runs it under this title, and returns when it does.
    pub(crate) fn run(&self, title: &str) -> Child {
        self.start(&self.bin.path().join("postgres"), title, self.data.path())
    }

    /// Runs a postmaster that has started one process, and ends with it.
    pub(crate) fn run_with_backend(&self, title: &str) -> Child {
        let shell = self.bin.path().join("postmaster");
        fs::copy("/bin/bash", &shell).unwrap();
        let mut command = Command::new(shell);
        let program = self.bin.path().join("postgres").display().to_string();
        command.arg0("/usr/lib/postgresql/15/bin/postgres").current_dir(self.data()).stdin(Stdio::null());
        command.args(["-c", "(exec -a \"$0\" \"$1\" 60) & wait", title, &program]).spawn().unwrap()
    }

    /// Runs it as a postmaster is: nobody's child.
    pub(crate) fn run_detached(&self) -> Process {
        let mut shell = Command::new("sh");
        let program = self.bin.path().join("postgres");
        shell.args(["-c", "\"$0\" 60 >/dev/null 2>&1 & echo $!"]).arg(program).current_dir(self.data());
        let pid = String::from_utf8(shell.output().unwrap().stdout).unwrap().trim().parse().unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        while !is_postgres(pid) {
            assert!(Instant::now() < until, "it does not start");
            std::thread::sleep(POLL_INTERVAL);
        }
        Process::find(pid).unwrap()
    }

    fn start(&self, program: &Path, title: &str, cwd: &Path) -> Child {
        let mut command = Command::new(program);
        command.arg0(title).arg("60").current_dir(cwd).stdin(Stdio::null());
        // Only after exec does spawn return.
        command.spawn().unwrap()
    }
}

fn pid(child: &Child) -> i32 {
    child.id() as i32
}

#[test]
fn only_what_a_postmaster_has_started_is_ended() {
    let home = FakeServer::new();
    let (place, elsewhere) = (home.place(), tempfile::tempdir().unwrap());
    let program = home.bin.path().join("postgres");
    let mut backends =
        [home.run("postgres: app db [local] INSERT"), home.run("postgres: 15/main: walwriter ")];
    // Somebody's shell, a command of PostgreSQL, and a server somewhere else.
    let mut others = [
        home.start(Path::new("/bin/sleep"), "bash", home.data()),
        home.start(Path::new("/bin/sleep"), "pg_rewind", home.data()),
        home.start(&program, "postgres: app db [local] idle", elsewhere.path()),
    ];
    let found = survey(&place).unwrap();
    assert_eq!(found.backends, backends.each_ref().map(pid));
    assert!(found.servers.is_empty() && found.untold.is_empty());

    assert_eq!(end_remains(&place, KILL_PATIENCE, false), End::Proven(2));
    assert!(backends.iter_mut().all(|b| !b.wait().unwrap().success()));
    assert!(others.iter_mut().all(|o| o.try_wait().unwrap().is_none()));
    assert_eq!(end_remains(&place, Duration::ZERO, false), End::Proven(0));
    for other in &mut others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

/// `bin_name`, and a program that was renamed under its server.
#[test]
fn a_server_whose_program_has_another_name_is_one() {
    let home = FakeServer::new();
    let place = home.place();
    let other = home.bin.path().join("mypostgres");
    fs::copy("/bin/sleep", &other).unwrap();
    let mut backend = home.start(&other, "postgres: app db [local] INSERT", home.data());
    assert_eq!(survey(&place).unwrap().backends, [pid(&backend)]);
    assert_eq!(end_remains(&place, KILL_PATIENCE, false), End::Proven(1));
    assert!(!backend.wait().unwrap().success());

    // Known by what it has started,
    let shell = home.bin.path().join("server.old");
    fs::copy("/bin/bash", &shell).unwrap();
    let mut command = Command::new(&shell);
    command.arg0("/opt/pg/bin/postgres").current_dir(home.data()).stdin(Stdio::null());
    let script = "(exec -a \"$0\" \"$1\" 60) & wait";
    let title = "postgres: 15/main: checkpointer ";
    let mut server = command.args(["-c", script, title]).arg(&other).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    while survey(&place).unwrap().backends.is_empty() {
        assert!(Instant::now() < until, "it starts nothing");
        std::thread::sleep(POLL_INTERVAL);
    }
    assert!(is_server(pid(&server), &place));
    assert_eq!(survey(&place).unwrap().postmaster(), Process::find(pid(&server)));
    assert_eq!(end_remains(&place, Duration::ZERO, true), End::Server(pid(&server), 0));
    for backend in survey(&place).unwrap().backends {
        kill(Pid::from_raw(backend), Signal::SIGKILL).unwrap();
    }
    server.wait().unwrap();

    // or by the name that the configuration gives it.
    let mut alone = home.start(&other, "/opt/pg/bin/mypostgres", home.data());
    assert_eq!(end_remains(&place, Duration::ZERO, false), End::Proven(0));
    know_program("mypostgres".into());
    assert!(is_server(pid(&alone), &place));
    assert_eq!(end_remains(&place, Duration::ZERO, false), End::Server(pid(&alone), 0));
    alone.kill().unwrap();
    alone.wait().unwrap();
}

/// The reference starts a server over and over again beside what the one before has left, and each gives up by it: its
/// attempt is no proof of anything.
#[test]
fn what_is_left_beside_another_server_is_ended_and_that_server_is_not() {
    let home = FakeServer::new();
    let place = home.place();
    let mut server = home.run_with_backend("postgres: 15/main: checkpointer ");
    let until = Instant::now() + Duration::from_secs(5);
    while survey(&place).unwrap().backends.is_empty() {
        assert!(Instant::now() < until, "it starts nothing");
        std::thread::sleep(POLL_INTERVAL);
    }
    let found = survey(&place).unwrap();
    assert_eq!((found.servers.as_slice(), found.remains().count()), ([pid(&server)].as_slice(), 0));
    assert_eq!(end_remains(&place, Duration::ZERO, true), End::Server(pid(&server), 0));

    let mut left = home.run("postgres: app db [local] INSERT");
    assert_eq!(survey(&place).unwrap().remains().collect::<Vec<_>>(), [pid(&left)]);
    assert_eq!(end_remains(&place, KILL_PATIENCE, false), End::Server(pid(&server), 1));
    assert!(!left.wait().unwrap().success());
    let found = survey(&place).unwrap();
    assert_eq!((found.servers.len(), found.backends.len()), (1, 1));
    for backend in found.backends {
        kill(Pid::from_raw(backend), Signal::SIGKILL).unwrap();
    }
    server.wait().unwrap();
}

#[test]
fn names_of_the_program() {
    for (file, expected) in [
        ("/usr/lib/postgresql/15/bin/postgres", true),
        ("/usr/lib/postgresql/15/bin/postgres (deleted)", true),
        ("/opt/bin/.postgres-wrapped", true),
        ("/usr/edb/as15/bin/edb-postgres", true),
        ("/usr/bin/postgres_exporter", false),
        ("/usr/lib/postgresql/15/bin/pg_rewind", false),
        ("/bin/bash", false),
    ] {
        assert_eq!(is_server_program(Path::new(file)), expected, "{file}");
    }
}

#[test]
fn what_cannot_be_looked_at_is_not_gone() {
    for (error, gone) in [
        (libc::ENOENT, true),
        (libc::ESRCH, true),
        (libc::EMFILE, false),
        (libc::ENFILE, false),
        (libc::ENOMEM, false),
        (libc::EACCES, false),
        (libc::EIO, false),
    ] {
        assert_eq!(is_gone(&io::Error::from_raw_os_error(error)), gone, "{error}");
    }
    assert!(!is_gone(&io::ErrorKind::TimedOut.into()));
}

/// Runs a test of its own again in a process that has no descriptor to give.
fn alone(name: &str, body: impl FnOnce()) {
    const INSIDE: &str = "PATRONI_TEST_WITHOUT_DESCRIPTORS";
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let test = format!("process::evidence::tests::{name}");
    let mut command = Command::new(std::env::current_exe().unwrap());
    let run = command.args(["--exact", &test, "--test-threads=1", "--nocapture"]).env(INSIDE, "1");
    let run = run.output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    assert!(String::from_utf8_lossy(&run.stdout).contains("1 passed"), "{test} was not found");
}

/// From now on this process opens nothing any more.
fn exhaust() {
    setrlimit(Resource::RLIMIT_NOFILE, 0, 0).unwrap();
    assert_eq!(File::open("/proc/self/stat").unwrap_err().raw_os_error(), Some(libc::EMFILE));
}

#[test]
fn without_descriptors_a_process_lives_until_its_end_is_proven() {
    alone("without_descriptors_a_process_lives_until_its_end_is_proven", || {
        let (mut known, mut unknown) = (
            Command::new("sleep").arg("60").spawn().unwrap(),
            Command::new("sleep").arg("60").spawn().unwrap(),
        );
        let processes = [&known, &unknown].map(|c| Process::find(pid(c)).unwrap());
        hold(&processes[0]);
        exhaust();
        for process in &processes {
            assert!(process.is_alive());
            assert!(Process::look(process.pid).is_err());
            process.signal(Signal::SIGKILL).unwrap();
            let until = Instant::now() + Duration::from_secs(5);
            // A zombie by now.
            while process.is_alive() {
                assert!(Instant::now() < until, "its end is never seen");
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        known.wait().unwrap();
        unknown.wait().unwrap();
        assert_eq!(processes.map(|p| life(&p)), [Life::Gone, Life::Gone]);
    });
}

#[test]
fn without_descriptors_backends_are_ended() {
    alone("without_descriptors_backends_are_ended", || {
        let home = FakeServer::new();
        let place = home.place();
        let mut backend = home.run("postgres: app db [local] INSERT");
        reserve();
        exhaust();
        // What it is cannot be read: no proof, and nothing is done to it before time is up.
        assert_eq!(end_remains(&place, Duration::ZERO, false), End::Unproven);
        assert!(backend.try_wait().unwrap().is_none());
        assert_eq!(end_remains(&place, KILL_PATIENCE, true), End::Proven(1));
        backend.wait().unwrap();
    });
}

#[tokio::test]
async fn a_directory_is_unused_when_nothing_works_in_it() {
    let home = FakeServer::new();
    ensure_unused(home.data()).await.unwrap();
    ensure_unused(&home.data().join("missing")).await.unwrap();
    let mut server = home.run("/opt/postgres");
    assert!(ensure_unused(home.data()).await.is_err());
    server.kill().unwrap();
    server.wait().unwrap();
    let mut backend = home.run("postgres: app db [local] INSERT");
    ensure_unused(home.data()).await.unwrap();
    assert!(!backend.wait().unwrap().success());
}
