//! `compat-stall [SECONDS]`: the longest time between two renewals of the leader's lease, as etcd sees it,
//! under loads of the machine, with us and with the reference (ttl 20, loop_wait 2), in one run. Seconds.
//! Needs root, for the control group and the frozen file system; what cannot be injected is said.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use compat_tests::lab::{host, process, wait_until, Cluster, Kind, Options, Result};
use compat_tests::program;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

/// Between two looks at the lease.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long the file system is frozen, once a look: less than any permit of renewal.
const FROZEN: Duration = Duration::from_secs(5);
/// Memory of the daemon's control group together with a hog that reads and writes 512 MB.
const LIMIT: &str = "67108864";

/// What the machine suffers, and what undoes it when dropped.
type Load = fn(&mut Cluster) -> Result<Burden>;

const LOADS: &[(&str, Load)] = &[
    ("nothing", |_| Ok(Burden::default())),
    ("8 busy processes", busy),
    ("memory: 64 MB for the daemon and a hog of page cache", memory),
    ("disk: 4 writers that fsync", storm),
    ("disk: file system of the node frozen for 5 s", frozen),
];

/// The longest time between two renewals of the lease, under loads of the machine.
#[derive(clap::Parser)]
struct Args {
    /// Length of each load, seconds.
    #[arg(default_value_t = 30)]
    seconds: u64,
}

fn main() -> ExitCode {
    let asked = <Args as clap::Parser>::parse();
    program::ended("compat-stall", "", run(Duration::from_secs(asked.seconds)).map(|()| 0))
}

fn run(long: Duration) -> Result<()> {
    let mut columns = Vec::new();
    for kind in [Kind::Ours, Kind::Reference] {
        let mut lab = Cluster::new(Options::default())?;
        let disk = Disk::mount(&lab.directory).map_err(|error| eprintln!("no file system: {error}")).ok();
        lab.bring_up(&[kind, kind])?;
        let column: Vec<String> = LOADS
            .iter()
            .map(|(name, load)| {
                eprintln!("compat-stall: {kind:?}: {name}");
                let burden = match load(&mut lab) {
                    Ok(burden) => burden,
                    Err(error) => return format!("not injected ({error})"),
                };
                let seen = longest(&lab, long);
                drop(burden);
                let settled = lab.wait_leader("node0", Duration::from_secs(60));
                if let Err(error) = &settled {
                    eprintln!("{error}\n{}", lab.report(60));
                }
                match (seen, settled) {
                    (Ok(gap), Ok(())) => format!("{:.1}", gap.as_secs_f32()),
                    (Ok(gap), Err(_)) => format!("{:.1}, then node0 led no more", gap.as_secs_f32()),
                    (Err(error), _) => format!("the lock was lost ({error})"),
                }
            })
            .collect();
        columns.push(column);
        process::kill_under(&lab.directory)?;
        drop(disk);
    }
    println!("| load | ours | the reference |\n|---|---:|---:|");
    for (index, (name, _)) in LOADS.iter().enumerate() {
        let cells: Vec<&str> = columns.iter().filter_map(|c| c.get(index)).map(String::as_str).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    Ok(())
}

/// The longest time in which the lease's rest did not grow.
fn longest(lab: &Cluster, long: Duration) -> Result<Duration> {
    let began = Instant::now();
    let (mut renewed, mut last, mut gap) = (Instant::now(), i64::MAX, Duration::ZERO);
    while began.elapsed() < long {
        let left = lab.store.lease_left(&lab.key("leader"))?.ok_or("it ended")?;
        if left > last {
            gap = gap.max(renewed.elapsed());
            renewed = Instant::now();
        }
        last = left;
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(gap.max(renewed.elapsed()))
}

/// Processes and groups that end with it.
#[derive(Default)]
struct Burden {
    children: Vec<Child>,
    group: Option<PathBuf>,
    frozen: Option<PathBuf>,
    moved: Option<i32>,
}

impl Burden {
    fn shell(&mut self, directory: &Path, script: &str) -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(directory).stdin(Stdio::null());
        self.children.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        Ok(())
    }
}

impl Drop for Burden {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(mount) = &self.frozen {
            let _ = tool("fsfreeze", &["-u", &mount.to_string_lossy()]);
        }
        if let (Some(group), Some(pid)) = (&self.group, self.moved) {
            let _ = std::fs::write("/sys/fs/cgroup/memory/cgroup.procs", pid.to_string());
            let _ = wait_until("the group is empty", Duration::from_secs(20), || {
                let left = std::fs::read_to_string(group.join("cgroup.procs"))?;
                for hog in left.lines().filter_map(|line| line.parse().ok()) {
                    let _ = kill(Pid::from_raw(hog), Signal::SIGKILL);
                }
                Ok(std::fs::remove_dir(group)?)
            });
        }
    }
}

fn busy(lab: &mut Cluster) -> Result<Burden> {
    let mut burden = Burden::default();
    for _ in 0..8 {
        burden.shell(&lab.directory, "while :; do :; done")?;
    }
    Ok(burden)
}

fn memory(lab: &mut Cluster) -> Result<Burden> {
    let daemon = lab.member_mut("node0")?.daemon().ok_or("no daemon")?.as_raw();
    let group = PathBuf::from(format!("/sys/fs/cgroup/memory/patroni-rs-{}", std::process::id()));
    std::fs::create_dir(&group)?;
    let mut burden = Burden::default();
    (burden.group, burden.moved) = (Some(group.clone()), Some(daemon));
    std::fs::write(group.join("memory.limit_in_bytes"), LIMIT)?;
    let join = format!("echo $$ > {}/cgroup.procs; ", group.display());
    let hog = "while :; do dd if=/dev/zero of=hog bs=1M count=512 2>&-; cat hog; done";
    burden.shell(&lab.directory, &format!("{join}{hog}"))?;
    std::fs::write(group.join("cgroup.procs"), daemon.to_string())?;
    Ok(burden)
}

fn storm(lab: &mut Cluster) -> Result<Burden> {
    let mut burden = Burden::default();
    let directory = lab.member("node0")?.directory.clone();
    for number in 0..4 {
        let write = format!("dd if=/dev/zero of=storm{number} bs=64k count=200 oflag=dsync");
        burden.shell(&directory, &format!("while :; do {write}; done"))?;
    }
    Ok(burden)
}

/// Everything of the members that writes waits: PGDATA and the log.
fn frozen(lab: &mut Cluster) -> Result<Burden> {
    let mount = lab.directory.join(&lab.options.scope);
    let text = mount.to_string_lossy().into_owned();
    tool("fsfreeze", &["-f", &text])?;
    let mut burden = Burden::default();
    burden.frozen = Some(mount);
    burden.shell(&lab.directory, &format!("sleep {}; fsfreeze -u '{text}'", FROZEN.as_secs()))?;
    Ok(burden)
}

/// A file system of its own for the members.
struct Disk(PathBuf);

impl Disk {
    fn mount(lab: &Path) -> Result<Disk> {
        let (image, mount) = (lab.join("disk"), lab.join("batman"));
        std::fs::File::create(&image)?.set_len(1 << 30)?;
        std::fs::create_dir_all(&mount)?;
        tool("mkfs.ext4", &["-q", "-F", &image.to_string_lossy()])?;
        tool("mount", &["-o", "loop", &image.to_string_lossy(), &mount.to_string_lossy()])?;
        host::give_away(&mount)?;
        Ok(Disk(mount))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = tool("fsfreeze", &["-u", &self.0.to_string_lossy()]);
        let _ = tool("umount", &["-l", &self.0.to_string_lossy()]);
    }
}

fn tool(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
