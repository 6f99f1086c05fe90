//! The demonstration: a real cluster of three under a writer, a live table, and keys that hand over, kill, freeze and
//! replace members by Python Patroni and back.
//!
//! Whatever ends it (a key, Ctrl-C at any moment, a closed terminal, SIGTERM, `kill -9`) leaves no process and no file:
//! [`ending`] says how.

pub mod acts;
pub mod ending;
pub mod screen;
pub mod table;

use std::io::Read;
use std::process::ExitCode;
use std::sync::mpsc::{channel, Receiver};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use patroni_core::mutex::locked;
use pyfmt::yaml;

use crate::lab::cluster::BRING_UP;
use crate::lab::haproxy;
use crate::lab::writer::Writer;
use crate::lab::{Cluster, Kind, Options as Lab, Result};
use acts::Act;
use screen::Screen;

/// How many rows are acknowledged before anything is done to the cluster.
const ROWS_BEFORE: usize = 50;

/// Three patroni-rs members with etcd and HAProxy on 127.0.0.1, under a writer
///
/// Without an option: a live table, and keys to break things with, until q or Ctrl-C. With options: does these things
/// one after the other, measures each, and ends; the exit code is 0 if every one healed and no acknowledged row was lost.
#[derive(clap::Parser, Debug)]
#[command(name = "./demo")]
pub struct Options {
    /// Hand over to a replica
    #[arg(long)]
    pub switchover: bool,
    /// Kill the leader's whole node, and bring it back
    #[arg(long)]
    pub failover: bool,
    /// Freeze the leader's whole node until another leads, and let it go on
    #[arg(long)]
    pub freeze: bool,
    /// Replace a member by Python Patroni, and back
    #[arg(long)]
    pub mix: bool,
}

impl Options {
    fn acts(&self) -> Vec<Act> {
        let wanted = [
            (self.switchover, vec![Act::Switchover]),
            (self.failover, vec![Act::Kill]),
            (self.freeze, vec![Act::Freeze, Act::Freeze]),
            (self.mix, vec![Act::Mix, Act::Mix]),
        ];
        wanted.into_iter().filter(|(asked, _)| *asked).flat_map(|(_, acts)| acts).collect()
    }
}

/// What the acts, the table and the keys share.
#[derive(Debug)]
pub struct Stage {
    cluster: Mutex<Cluster>,
    /// Where all is shown.
    pub screen: Screen,
    /// The client that writes all the time.
    pub writer: Writer,
    /// The member whose node stands still.
    frozen: Mutex<Option<String>>,
}

impl Stage {
    /// The cluster; held for short looks only, so that the table stays alive.
    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        locked(&self.cluster)
    }

    /// The member that stands still.
    pub fn frozen(&self) -> MutexGuard<'_, Option<String>> {
        locked(&self.frozen)
    }
}

/// The demonstration, from the first process to the last.
pub fn run(options: Options) -> ExitCode {
    ending::on_signals();
    let acts = options.acts();
    let interactive = acts.is_empty();
    let screen = Screen::of_this_terminal();
    let stage = match open(screen) {
        Ok(stage) => Arc::new(stage),
        Err(error) => {
            screen.say(&format!("it does not come up: {error}"));
            ending::end(2);
        }
    };
    if screen.live {
        table::keep_drawing(&stage);
    }
    let healed = if interactive {
        by_keys(&stage);
        true
    } else {
        acts.into_iter().all(|act| perform(&stage, act))
    };
    ending::end(i32::from(!healed))
}

/// Starts everything.
fn open(screen: Screen) -> Result<Stage> {
    let started = Instant::now();
    let done = |what: &str, since: Instant| {
        screen.say(&format!("{what} {}", screen.faint(&format!("{:.1} s", since.elapsed().as_secs_f32()))));
    };
    let overrides = yaml::load("bootstrap: {dcs: {synchronous_mode: true}}")?;
    let mut lab =
        Cluster::new(Lab { scope: "demo".into(), overrides, store: "etcd3".into(), ..Lab::default() })?;
    ending::remember(&lab.directory);
    done("etcd answers", started);
    for name in ["node1", "node2", "node3"] {
        lab.add(name, Kind::Ours)?;
    }
    let since = Instant::now();
    lab.member_mut("node1")?.start()?;
    lab.wait_leader("node1", BRING_UP)?;
    done("node1 made a new cluster and takes writes", since);
    let since = Instant::now();
    for name in ["node2", "node3"] {
        lab.member_mut(name)?.start()?;
    }
    for name in ["node2", "node3"] {
        lab.wait_follows(name, "node1", BRING_UP)?;
    }
    acts::wait_synchronous(&lab, BRING_UP)?;
    done("node2 and node3 copied it and stream, one of them synchronously", since);
    let ports = haproxy::start(&lab)?;
    lab.ctl(Kind::Ours, &["list"])?.ok()?;
    let writer = Writer::start(&lab, "node1")?;
    // A gap is counted between rows, and what may be lost has to be there: an act without keys begins at once.
    writer.wait_rows(ROWS_BEFORE, BRING_UP)?;
    let directory = lab.directory.display().to_string();
    for (what, line) in [
        ("write", psql(ports.primary)),
        ("read", format!("the same with port={}", ports.replicas)),
        ("HAProxy", format!("http://127.0.0.1:{}/", ports.statistics)),
        ("patronictl", format!("{directory}/patronictl -c {directory}/ctl.yml list")),
        ("all files", directory),
    ] {
        screen.say(&format!("  {:<11}{line}", what));
    }
    Ok(Stage { cluster: Mutex::new(lab), screen, writer, frozen: Mutex::default() })
}

/// A line to copy.
fn psql(port: u16) -> String {
    format!("psql \"host=127.0.0.1 port={port} user=postgres password=lab-super dbname=postgres\"")
}

/// Does what the keys say, until the one that ends it.
fn by_keys(stage: &Stage) {
    let keys = keys();
    if !stage.screen.live {
        stage.screen.say(table::KEYS);
    }
    // The thread that reads ends the program by itself: also while an act goes on.
    while let Ok(key) = keys.recv() {
        match key {
            b's' => drop(perform(stage, Act::Switchover)),
            b'f' => drop(perform(stage, Act::Kill)),
            b'p' => drop(perform(stage, Act::Freeze)),
            b'm' => drop(perform(stage, Act::Mix)),
            b'l' => acts::list(stage),
            _ => {}
        }
    }
}

/// Does one thing; an error is shown. Was all well?
fn perform(stage: &Stage, act: Act) -> bool {
    match acts::perform(stage, act) {
        Ok(()) => true,
        Err(error) => {
            stage.screen.say(&format!("{} {error}", stage.screen.red("not healed:")));
            false
        }
    }
}

/// The keys that are pressed. `q` and the end of the input end the program.
fn keys() -> Receiver<u8> {
    let (send, keys) = channel();
    ending::take_single_keys();
    std::thread::spawn(move || {
        // The library's own reader has a buffer, and gives what is there.
        for key in std::io::stdin().lock().bytes().map_while(std::io::Result::ok) {
            // Ctrl-D, where the terminal hands it over as it is.
            if matches!(key, b'q' | b'Q' | 4) || send.send(key).is_err() {
                break;
            }
        }
        ending::end(0);
    });
    keys
}
