//! The REST API measured and tried, ours beside the reference's: load ([`load`]), clients that do
//! nothing ([`crowd`]), and random requests ([`requests`]).

pub mod crowd;
pub mod load;
pub mod requests;

use std::path::Path;

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
