//! A network of our own: a namespace per node, and a switch between them in this process.
//!
//! Each namespace has one TUN device; a thread reads its packets and hands them to the device of the
//! node they are for, unless a [`Link`] says that they are late or lost. So partitions, one-way ones,
//! loss and delay need neither netem nor a firewall, and nothing of the host's network is touched:
//! namespaces and devices have no names outside and are gone with the last process in them.

use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use super::sys;
use crate::lab::Result;
use crate::sim::Rng;

/// The devices' MTU: large, so that a base backup is few packets.
const MTU: usize = 32_000;

/// What happens to packets from one node to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// None arrives.
    pub cut: bool,
    /// So many in a hundred do not arrive.
    pub loss: u8,
    /// They arrive so much later, milliseconds.
    pub delay: u32,
}

/// A node's network.
#[derive(Debug)]
pub struct Namespace {
    handle: File,
    device: Arc<File>,
}

/// The address of node `index`.
pub fn address(index: usize) -> String {
    format!("10.77.0.{}", index + 1)
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().map_err(|e| format!("ip: {e}"))?;
    if !output.status.success() {
        return Err(format!("ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

impl Namespace {
    /// Makes it; needs CAP_SYS_ADMIN, CAP_NET_ADMIN and /dev/net/tun.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new(index: usize) -> Result<Namespace> {
        let made = std::thread::spawn(move || -> Result<Namespace> {
            sys::leave_network().map_err(|e| format!("network namespace: {e}"))?;
            let handle = File::open("/proc/thread-self/ns/net")?;
            let device = sys::tun().map_err(|e| format!("/dev/net/tun: {e}"))?;
            ip(&["link", "set", "lo", "up"])?;
            ip(&["link", "set", "tun0", "mtu", &MTU.to_string(), "up"])?;
            ip(&["address", "add", &format!("{}/24", address(index)), "dev", "tun0"])?;
            Ok(Namespace { handle, device: Arc::new(device) })
        });
        made.join().map_err(|_| "the thread of a namespace panicked")?
    }

    /// Runs `work` with this network.
    ///
    /// # Errors
    /// The namespace cannot be joined, or `work` fails.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = || -> Result<T> {
            sys::join_network(self.handle.as_fd())?;
            work()
        };
        std::thread::scope(|scope| {
            scope.spawn(inside).join().map_err(|_| "the thread in a namespace panicked")?
        })
    }

    /// Starts a program with this network.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, start: impl FnOnce() -> Result<Child> + Send) -> Result<Child> {
        self.enter(start)
    }
}

/// The network between the nodes.
#[derive(Debug)]
pub struct Net {
    /// The nodes' ends.
    pub nodes: Vec<Namespace>,
    links: Arc<RwLock<Vec<Vec<Link>>>>,
    lost: Arc<AtomicU64>,
}

/// A packet that is on its way.
struct Late(Instant, usize, Vec<u8>);
impl PartialEq for Late {
    fn eq(&self, other: &Late) -> bool {
        self.0 == other.0
    }
}
impl Eq for Late {}
impl PartialOrd for Late {
    fn partial_cmp(&self, other: &Late) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Late {
    fn cmp(&self, other: &Late) -> std::cmp::Ordering {
        other.0.cmp(&self.0)
    }
}

impl Net {
    /// So many nodes that all reach each other.
    ///
    /// # Errors
    /// The system refuses a namespace or a device.
    pub fn new(count: usize) -> Result<Net> {
        let nodes = (0..count).map(Namespace::new).collect::<Result<Vec<_>>>()?;
        let links = Arc::new(RwLock::new(vec![vec![Link::default(); count]; count]));
        let lost = Arc::new(AtomicU64::new(0));
        let devices: Vec<Arc<File>> = nodes.iter().map(|node| node.device.clone()).collect();
        let (send, receive) = channel();
        let late_devices = devices.clone();
        std::thread::spawn(move || deliver_late(&receive, &late_devices));
        for from in 0..count {
            let port = Port { from, devices: devices.clone(), links: links.clone(), lost: lost.clone() };
            let late = send.clone();
            std::thread::spawn(move || port.forward(&late));
        }
        Ok(Net { nodes, links, lost })
    }

    /// Changes the links `from` → `to` for which `which` holds.
    pub fn set(&self, link: Link, which: impl Fn(usize, usize) -> bool) {
        let Ok(mut links) = self.links.write() else { return };
        for (from, row) in links.iter_mut().enumerate() {
            for (to, cell) in row.iter_mut().enumerate() {
                if from != to && which(from, to) {
                    *cell = link;
                }
            }
        }
    }

    /// All links are well.
    pub fn mend(&self) {
        self.set(Link::default(), |_, _| true);
    }

    /// Packets that did not arrive so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// The switch's side of one node.
struct Port {
    from: usize,
    devices: Vec<Arc<File>>,
    links: Arc<RwLock<Vec<Vec<Link>>>>,
    lost: Arc<AtomicU64>,
}

impl Port {
    fn forward(&self, late: &Sender<Late>) {
        let mut rng = Rng::new(self.from as u64);
        let mut buffer = vec![0u8; MTU + 64];
        let Some(mut device) = self.devices.get(self.from).map(|device| &**device) else { return };
        while let Ok(size) = device.read(&mut buffer) {
            let Some(packet) = buffer.get(..size) else { continue };
            // IPv4 only; the destination is in bytes 16 to 19.
            let (Some(0x40), Some(last)) = (packet.first().map(|b| b & 0xf0), packet.get(19)) else {
                continue;
            };
            let to = usize::from(*last).wrapping_sub(1);
            let Some(mut target) = self.devices.get(to).map(|device| &**device) else { continue };
            let link = self.links.read().ok().and_then(|links| links.get(self.from)?.get(to).copied());
            let link = link.unwrap_or_default();
            if link.cut || rng.percent(u64::from(link.loss)) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            } else if link.delay > 0 {
                let at = Instant::now() + Duration::from_millis(u64::from(link.delay));
                let _ = late.send(Late(at, to, packet.to_vec()));
            } else {
                let _ = target.write(packet);
            }
        }
    }
}

/// Hands over packets when they are due.
fn deliver_late(receive: &Receiver<Late>, devices: &[Arc<File>]) {
    let mut waiting = BinaryHeap::new();
    loop {
        let now = Instant::now();
        let due = waiting.peek().map_or(Duration::from_secs(1), |late: &Late| late.0 - now);
        match receive.recv_timeout(due) {
            Ok(late) => waiting.push(late),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        while waiting.peek().is_some_and(|late| late.0 <= Instant::now()) {
            let Some(Late(_, to, packet)) = waiting.pop() else { break };
            if let Some(mut device) = devices.get(to).map(|device| &**device) {
                let _ = device.write(&packet);
            }
        }
    }
}
