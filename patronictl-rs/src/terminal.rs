//! What the terminal behind stdout is like.

use std::os::fd::AsRawFd;

nix::ioctl_read_bad!(
    /// TIOCGWINSZ.
    window_size,
    libc::TIOCGWINSZ,
    libc::winsize
);

/// The width of the terminal behind stdout in columns, if there is one.
#[allow(unsafe_code)]
pub fn columns() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open for the whole call, and the kernel writes
    // one winsize to the place given, which outlives the call.
    let result = unsafe { window_size(std::io::stdout().as_raw_fd(), &mut size) };
    result.ok().map(|_| usize::from(size.ws_col))
}
