//! The REST API measured and tried, ours beside the reference's: load ([`load`]), clients that do
//! nothing ([`crowd`]), random requests ([`requests`]), and clients with TLS ([`tls`]).

pub mod crowd;
pub mod load;
pub mod requests;
pub mod tls;

use std::path::Path;
use std::time::Duration;

use nix::unistd::Pid;

use crate::lab::Result;

/// Proportional set size of a process, in KiB: what it has for itself, and its share of the rest.
///
/// # Errors
/// There is no such process, or it is somebody else's.
pub fn pss(pid: Pid) -> Result<u64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(Path::new(&file)).map_err(|e| format!("{file}: {e}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// The processor's time that a process has used, with all its threads.
///
/// # Errors
/// There is no such process.
pub fn cpu_time(pid: Pid) -> Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(Path::new(&file)).map_err(|e| format!("{file}: {e}"))?;
    // The name may contain anything; the first field behind it is the third.
    let fields = text.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // Linux counts in hundredths of a second towards programs, whatever it does itself.
    Ok(Duration::from_millis(ticks * 10))
}
