//! A log file that is rotated by size (surface-config 6.9).

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// `<dir>/patroni.log` and its `.1` to `.N`.
pub struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    mode: u32,
    file: File,
    size: u64,
}

impl RotatingFile {
    /// Opens the file for appending; `max_bytes` 0 means never rotated.
    ///
    /// # Errors
    /// The directory is not there, or not writable.
    pub fn open(path: PathBuf, max_bytes: u64, keep: u32, mode: u32) -> io::Result<RotatingFile> {
        let (file, size) = open(&path, mode)?;
        Ok(RotatingFile { path, max_bytes, keep, mode, file, size })
    }

    /// New limits, from the next line on.
    pub fn set_limits(&mut self, max_bytes: u64, keep: u32, mode: u32) {
        (self.max_bytes, self.keep, self.mode) = (max_bytes, keep, mode);
    }

    /// Is this the file at that path?
    pub fn is_at(&self, path: &Path) -> bool {
        self.path == path
    }

    /// Appends a line, into a new file when this one would reach the limit. Python counts the characters of
    /// the line, and rotates an empty file too.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_line(&mut self, line: &str) -> io::Result<()> {
        let characters = line.chars().count() as u64 + 1;
        if self.max_bytes > 0 && self.size + characters >= self.max_bytes && self.may_rotate() {
            self.rotate()?;
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.size += line.len() as u64 + 1;
        Ok(())
    }

    /// Pipes and devices are never rotated.
    fn may_rotate(&self) -> bool {
        std::fs::metadata(&self.path).map_or(true, |found| found.is_file())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}.{number}", self.path.display()))
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.keep == 0 {
            (self.file, self.size) = open(&self.path, self.mode)?;
            return Ok(());
        }
        for number in (1..self.keep).rev() {
            let from = self.numbered(number);
            if from.exists() {
                std::fs::rename(from, self.numbered(number + 1))?;
            }
        }
        if self.path.exists() {
            std::fs::rename(&self.path, self.numbered(1))?;
        }
        (self.file, self.size) = open(&self.path, self.mode)?;
        Ok(())
    }
}

fn open(path: &PathBuf, mode: u32) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rotates_by_size_and_keeps_so_many() {
        let dir = std::env::temp_dir().join(format!("patroni-rs-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("patroni.log");
        let mut file = RotatingFile::open(path.clone(), 11, 2, 0o640).unwrap();
        for line in ["one", "two", "thrée", "four", "five"] {
            file.write_line(line).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(read("patroni.log"), "four\nfive\n");
        assert_eq!(read("patroni.log.1"), "thrée\n");
        assert_eq!(read("patroni.log.2"), "one\ntwo\n");
        assert!(!dir.join("patroni.log.3").exists());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
