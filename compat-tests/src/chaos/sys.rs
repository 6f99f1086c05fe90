//! The few calls of the kernel that no library of ours wraps: namespaces, tmpfs, TUN devices.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `TUNSETIFF` of `linux/if_tun.h`.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca_u32 as libc::Ioctl;

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// The calling thread, and what it starts, gets a network of its own.
pub fn leave_network() -> io::Result<()> {
    // SAFETY: plain call without pointers.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// The calling thread, and what it starts, joins the network namespace of `handle`.
pub fn join_network(handle: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: plain call; the descriptor is borrowed, so open.
    check(unsafe { libc::setns(handle.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Mounts of this process and its children are nobody else's from here on; call it before there are threads.
pub fn leave_mounts() -> io::Result<()> {
    // SAFETY: the strings are constants that end with NUL; no data.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: as above.
    check(unsafe { libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null()) })
}

/// Mounts a tmpfs of so many MiB.
pub fn mount_tmpfs(at: &Path, mebibytes: u32) -> io::Result<()> {
    let (at, data) = (text(at)?, CString::new(format!("size={mebibytes}m,mode=755"))?);
    // SAFETY: all strings live until the call returns, and end with NUL.
    check(unsafe { libc::mount(c"chaos".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), 0, data.as_ptr().cast()) })
}

/// Unmounts, also when something there is still open.
pub fn unmount(at: &Path) -> io::Result<()> {
    let at = text(at)?;
    // SAFETY: the string lives until the call returns, and ends with NUL.
    check(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) })
}

/// A device `tun0` in the network of the calling thread: packets in and out of it, one a call.
pub fn tun() -> io::Result<File> {
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: libc::c_short,
        rest: [u8; 22],
    }
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    let mut request = Request { name: [0; 16], flags, rest: [0; 22] };
    for (to, from) in request.name.iter_mut().zip(b"tun0") {
        *to = *from;
    }
    // SAFETY: the structure has the layout and the size of `struct ifreq`, and outlives the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &mut request) })?;
    Ok(file)
}
