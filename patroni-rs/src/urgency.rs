//! For the two that must not be late, the lock keeper's thread and the guardian:
//! priority over everything else, and memory that is there. Each step as far as
//! the system permits; none of them is needed for correctness.

use std::fs;

/// Just above everything that has no real-time priority.
const REAL_TIME: i32 = 1;
/// Where real time is not permitted.
const NICE: i32 = -19;
/// The kernel's out-of-memory killer takes almost anything else first.
const OOM_SCORE: &str = "-900";

/// What was permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Round robin in real time.
    RealTime,
    /// A lower nice value.
    Nice,
    /// As everybody.
    Usual,
}

impl Priority {
    /// For the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::RealTime => "real time",
            Priority::Nice => "nice -19",
            Priority::Usual => "usual",
        }
    }
}

/// Raises the priority of the calling thread. Its children start as everybody does.
#[allow(unsafe_code)] // no wrapper in nix
pub fn raise() -> Priority {
    let parameter = libc::sched_param { sched_priority: REAL_TIME };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameter` lives during the call; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, policy, &parameter) } == 0 {
        return Priority::RealTime;
    }
    // SAFETY: integers only. On Linux 0 is the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } == 0 {
        return Priority::Nice;
    }
    Priority::Usual
}

/// Descriptors set aside for a connection that has to be made while none is to be had.
#[derive(Debug, Default)]
pub struct Spare(Vec<fs::File>);

impl Spare {
    /// A socket, the timer and the poll of a runtime, a name to look up.
    const COUNT: usize = 6;

    /// Sets them aside, as far as they are to be had.
    pub fn refill(&mut self) {
        while self.0.len() < Self::COUNT {
            let Ok(file) = fs::File::open("/dev/null") else { return };
            self.0.push(file);
        }
    }

    /// Gives them up, to be used at once.
    pub fn give_up(&mut self) {
        self.0.clear();
    }
}

/// So much of its stack a thread has for sure (of 2 MB).
const STACK: usize = 128 * 1024;

/// For a thread that must not be late: its stack is there, and neither it nor the
/// program's text, once read, leaves memory again, as far as RLIMIT_MEMLOCK goes
/// (small mappings first). Nothing grows by it: only pages that are used are locked.
/// The heap is left alone, for a locked mapping that has to grow may be refused.
/// How many kilobytes of mappings it covers.
#[allow(unsafe_code)]
pub fn keep_in_memory() -> usize {
    let mut stack = [0u8; STACK];
    let here = std::hint::black_box(&mut stack).as_ptr() as usize;
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return 0 };
    let mut wanted: Vec<Mapping<'_>> = maps.lines().filter_map(parse_mapping).collect();
    wanted.retain(|m| {
        let own_stack = here.checked_sub(m.from).is_some_and(|offset| offset < m.length);
        own_stack || (m.rights.starts_with("r-x") && m.file.starts_with('/'))
    });
    wanted.sort_by_key(|m| m.length);
    // SAFETY: only locks pages that are touched; none is read or written.
    let lock = |m: &Mapping<'_>| unsafe {
        libc::mlock2(m.from as *const libc::c_void, m.length, libc::MLOCK_ONFAULT) == 0
    };
    wanted.iter().filter(|m| lock(m)).map(|m| m.length / 1024).sum()
}

/// One mapping of this process.
struct Mapping<'a> {
    from: usize,
    length: usize,
    rights: &'a str,
    /// At the file's beginning: headers and constants, never relocated.
    begins: bool,
    file: &'a str,
}

fn parse_mapping(line: &str) -> Option<Mapping<'_>> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
    let rights = words.next()?;
    let begins = words.next()?.bytes().all(|b| b == b'0');
    let file = words.nth(2).unwrap_or_default();
    Some(Mapping { from, length: to.checked_sub(from)?, rights, begins, file })
}

/// For a process that does one thing: the kernel spares it, what it does not need is
/// given back, and what it has written stays in memory, as far as RLIMIT_MEMLOCK goes.
///
/// # Safety
/// The process has one thread, ends with `_exit`, and calls no function of the TLS
/// libraries, now or later: they are unmapped. Relocated, they cost 0.5 MB.
#[allow(unsafe_code)]
pub unsafe fn settle() {
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for mapping in maps.lines().filter_map(parse_mapping) {
        let name = mapping.file.rsplit('/').next().unwrap_or_default();
        let address = mapping.from as *mut libc::c_void;
        if name.starts_with("libssl.so") || name.starts_with("libcrypto.so") {
            // SAFETY: the caller's promise.
            unsafe { libc::munmap(address, mapping.length) };
        } else if mapping.file.starts_with('/')
            && (mapping.rights.starts_with("r-x") || mapping.rights.starts_with("r--") && mapping.begins)
        {
            // What only the start needed. The rest comes back from the page cache.
            // SAFETY: clean pages of a file, the same when they are read again.
            unsafe { libc::madvise(address, mapping.length, libc::MADV_DONTNEED) };
        } else if mapping.rights.starts_with("rw") {
            // SAFETY: only locks pages that are touched; none is read or written.
            unsafe { libc::mlock2(address, mapping.length, libc::MLOCK_ONFAULT) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let line = "7f0000-7f3000 r-xp 00001000 fe:00 1234   /usr/lib/x86_64-linux-gnu/libssl.so.3";
        let m = parse_mapping(line).map(|m| (m.from, m.length, m.rights, m.begins, m.file));
        let file = "/usr/lib/x86_64-linux-gnu/libssl.so.3";
        assert_eq!(m, Some((0x7f_0000, 0x3000, "r-xp", false, file)));
        let anonymous = parse_mapping("7f0000-7f3000 rw-p 00000000 00:00 0 ");
        assert_eq!(anonymous.map(|m| (m.rights, m.begins, m.file)), Some(("rw-p", true, "")));
        assert!(parse_mapping("garbage").is_none());
    }
}
