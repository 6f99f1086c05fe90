//! The janitor: a process that outlives us only to end what we started.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::Result;

/// Reads until our end of the pipe closes, whatever the reason; then kills all that works under the
/// directory and removes it, unless it is to be kept.
const SCRIPT: &str = r#"
cat >/dev/null
for round in 1 2 3 4 5; do
    found=
    for entry in /proc/[0-9]*; do
        case "$(readlink "$entry/cwd" 2>/dev/null)" in
            "$1"|"$1"/*|"$1 (deleted)") kill -9 "${entry#/proc/}" 2>/dev/null; found=1 ;;
        esac
    done
    [ -n "$found" ] || break
    sleep 0.2
done
for disk in "$1"/*/*/disk; do umount -l "$disk" 2>/dev/null; done
[ -e "$1/keep" ] || rm -rf "$1"
"#;

/// Waits beside us; see `SCRIPT`.
#[derive(Debug)]
pub struct Janitor(Child);

impl Janitor {
    /// Starts it for `directory`, out of the reach of the terminal's Ctrl-C.
    pub fn start(directory: &Path) -> Result<Janitor> {
        let child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "janitor"])
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Janitor(child))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
