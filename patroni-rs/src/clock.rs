//! The clock that promises and waits go by.

use std::time::Duration;

use patroni_core::ha::Mono;

/// Time since boot, suspension included, that never goes back (`CLOCK_BOOTTIME`).
pub fn mono_now() -> Mono {
    match nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) {
        Ok(time) => Mono::at(Duration::new(time.tv_sec().max(0) as u64, time.tv_nsec().max(0) as u32)),
        // Linux has had it since 2.6.39; without it the process' own clock will do.
        Err(_) => {
            static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
            Mono::at(START.get_or_init(std::time::Instant::now).elapsed())
        }
    }
}
