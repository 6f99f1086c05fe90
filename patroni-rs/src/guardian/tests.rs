#![allow(clippy::unwrap_used, missing_docs)]
use std::io::{PipeReader, Read};

use super::*;

/// A process in the place of the guardian, and what it is told.
pub struct Listener {
    pipe: PipeReader,
    child: std::process::Child,
}

impl Listener {
    /// How many words have come since the last call.
    pub fn words(&mut self) -> usize {
        let mut said = [0; 64 * LENGTH];
        self.pipe.read(&mut said).unwrap_or(0) / LENGTH
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Guard {
    pub fn pretend_child(&self) -> Listener {
        let (reader, pipe) = io::pipe().unwrap();
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::find(child.id() as i32).unwrap();
        locked(&self.state).child = Some(Child { process, pipe });
        Listener { pipe: reader, child }
    }
}

fn state(promise: Option<u64>, arm: Option<Arm>, running: bool) -> State {
    let process = Process { pid: 77, start_ticks: 5 };
    State {
        postmaster: running.then_some(process),
        promise: promise.map(Mono::seconds),
        server: number(&process),
        arm,
        ..State::default()
    }
}

#[test]
fn an_older_guardian_goes_when_our_own_word_is_out() {
    for (promise, arm, relieved) in [
        // Nothing is decided yet.
        (None, None, false),
        // A primary that has no lock (any more): it is to be demoted.
        (None, Some(Arm::Writes), false),
        (None, Some(Arm::Unknown), false),
        (Some(9), Some(Arm::Writes), true),
        (None, Some(Arm::Off), true),
        (None, Some(Arm::Reads), true),
    ] {
        assert_eq!(state(promise, arm, true).speaks_for_itself(), relieved, "{promise:?} {arm:?}");
    }
}

/// An earlier guardian stays as long as what it guards may live, whatever is promised of another server.
#[test]
fn an_older_guardian_is_relieved_by_a_word_about_its_own_postmaster() {
    let process = Process { pid: 900, start_ticks: 4 };
    let writes = || state(Some(9), Some(Arm::Writes), true);
    let reads = || state(None, Some(Arm::Reads), true);
    let later = |mut state: State| {
        state.postmaster = Some(Process { pid: 77, start_ticks: 4 });
        state
    };
    for (state, guards, ended, relieved) in [
        (writes(), Guards::Pid(77), false, true),
        (reads(), Guards::Pid(77), false, true),
        (state(None, Some(Arm::Writes), true), Guards::Pid(77), false, false),
        // Ours is another one: a start that failed beside a server that was not recognised.
        (writes(), Guards::Pid(76), false, false),
        (reads(), Guards::Pid(76), false, false),
        (reads(), Guards::Pid(76), true, true),
        // Nothing runs.
        (state(None, Some(Arm::Reads), false), Guards::Pid(77), false, false),
        (state(None, Some(Arm::Reads), false), Guards::Pid(77), true, true),
        (state(None, Some(Arm::Unknown), false), Guards::Pid(77), true, true),
        (state(None, Some(Arm::Unknown), false), Guards::Nobody, false, true),
        // It does not tell: ours has to be older than it.
        (reads(), Guards::Untold, false, false),
        (later(reads()), Guards::Untold, false, true),
        (state(None, Some(Arm::Reads), false), Guards::Untold, false, false),
    ] {
        let found = state.relieves(&Older { process, guards }, |_| ended);
        assert_eq!(found, relieved, "{:?} {:?} {guards:?} {ended}", state.arm, state.postmaster);
    }
}

#[test]
fn a_promise_is_about_one_postmaster() {
    let mut state = state(Some(9), Some(Arm::Writes), true);
    assert_eq!(state.word().promise, Some(Mono::seconds(9)));
    state.postmaster = Some(Process { pid: 78, start_ticks: 5 });
    assert_eq!(state.word().promise, None);
    assert_eq!(state.word().postmaster.map(|p| p.pid), Some(78));
}

#[test]
fn a_word_in_part_is_none() {
    let refused = Err(io::Error::from_raw_os_error(nix::libc::EAGAIN));
    for (written, heard) in [(Ok(LENGTH), true), (Ok(LENGTH - 1), false), (Ok(0), false), (refused, false)] {
        assert_eq!(is_heard(&written), heard, "{written:?}");
    }
}

/// A word that is not heard: the child is killed, so that it cannot act on an older one.
#[test]
fn a_guardian_that_does_not_listen_is_killed() {
    let guard = Guard::new(Path::new("/nonexistent"));
    let (reader, pipe) = io::pipe().unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let process = Process::find(child.id() as i32).unwrap();
    locked(&guard.state).child = Some(Child { process, pipe });
    guard.set_postmaster(Some(process), None);
    assert!(locked(&guard.state).child.is_some());
    drop(reader);
    // A process that another test forks in this moment has it for an instant.
    let began = std::time::Instant::now();
    while locked(&guard.state).child.is_some() && began.elapsed() < Duration::from_secs(5) {
        guard.clock_jumped();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(locked(&guard.state).child.is_none());
    assert!(!child.wait().unwrap().success());
}

/// A word goes out with each change, and only then.
#[test]
fn each_change_is_told() {
    let guard = Guard::new(Path::new("/nonexistent"));
    let mut heard = guard.pretend_child();
    let process = Process { pid: 77, start_ticks: 5 };
    assert!(guard.set_postmaster(Some(process), None));
    assert_eq!(heard.words(), 1);
    assert!(!guard.set_postmaster(Some(process), None));
    assert_eq!(heard.words(), 0);
    let promise = Some(Mono::seconds(9));
    assert!(!guard.is_armed());
    guard.promise(promise, Arm::Writes, number(&process), None);
    assert_eq!(heard.words(), 1);
    assert!(guard.is_armed());
    guard.promise(promise, Arm::Writes, number(&process), None);
    assert_eq!(heard.words(), 0);
    guard.promise(promise, Arm::Writes, 8, None);
    assert_eq!(heard.words(), 1);
    assert!(!guard.is_armed(), "a promise about another server");
    guard.clock_jumped();
    assert_eq!(heard.words(), 1);
}

#[test]
fn the_end_of_an_earlier_child_is_not_that_of_this_one() {
    let guard = Guard::new(Path::new("/nonexistent"));
    let _heard = guard.pretend_child();
    guard.lost(Process { pid: 77, start_ticks: 5 });
    assert!(locked(&guard.state).child.is_some());
    let process = locked(&guard.state).child.as_ref().map(|child| child.process).unwrap();
    guard.lost(process);
    assert!(locked(&guard.state).child.is_none());
}

#[test]
fn when_a_server_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new("sleep").arg("60").current_dir("/").spawn().unwrap();
    let (pid, home) = (child.id() as i32, Place::of(directory.path()).unwrap());
    assert!(!has_ended(pid, None), "it lives, and nobody knows where");
    assert!(has_ended(pid, Some(&home)), "somebody else has its pid");
    assert!(!has_ended(pid, Some(&Place::of(Path::new("/")).unwrap())), "it lives there");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(has_ended(pid, None) && has_ended(pid, Some(&home)));
}

/// Not before there is one of ours, or it is known that there will be none: nobody else would act for this server.
#[test]
fn an_older_guardian_goes_when_there_is_another() {
    let first = Process { pid: 77, start_ticks: 5 };
    for (child, without, relieved) in [(false, false, false), (true, false, true), (false, true, true)] {
        let guard = Guard::new(Path::new("/nonexistent"));
        let mut older = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::find(older.id() as i32).unwrap();
        {
            let mut state = locked(&guard.state);
            state.older = vec![Older { process, guards: Guards::Nobody }];
            state.without = without;
        }
        let _heard = child.then(|| guard.pretend_child());
        guard.set_postmaster(Some(first), None);
        assert_eq!(locked(&guard.state).older.is_empty(), relieved, "{child} {without}");
        if !relieved {
            assert!(older.try_wait().unwrap().is_none(), "it goes on");
            older.kill().unwrap();
        }
        assert!(!older.wait().unwrap().success());
    }
}
