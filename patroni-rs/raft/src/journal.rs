//! The files of a member: the journal of entries, term and vote, the dump. In PySyncObj's formats, so that either
//! implementation goes on with what the other has left.
//!
//! A port of the formats of PySyncObj 0.3.17 `journal.py` (MIT, Filipp Ozinov). What it does not do and is done here:
//! everything is synchronised to the disk before an answer depends on it (it never calls fsync, and its journal is a
//! mapping of which the machine's death takes what was not yet written); a journal becomes shorter at its beginning by a
//! new file that replaces it (it writes over the old one in place, and who is killed meanwhile has lost entries); a dump
//! that is newer than the journal takes away what is in it and nothing more; files that are damaged are an error (it takes
//! an unreadable vote for none).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use crate::dump::Dump;
use crate::entry::Entry;
use crate::pickle::{self, Value};

const NAME: &[u8; 24] = b"PYSYNCOBJ\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const VERSION: &[u8; 8] = b"0.3.17\0\0";
const FORMAT: u32 = 1;
/// Where the offset of the end is.
const END_AT: u64 = 36;
/// Where records begin.
const FIRST: u64 = 40;
/// Index and term.
const HEAD: usize = 16;

/// Term, vote, and how far it is known to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The current term.
    pub term: u64,
    /// Who has our vote in it.
    pub voted: Option<Arc<str>>,
    /// The last entry that is known to be committed.
    pub commit: u64,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The entries, without a gap; there is at least one.
    pub entries: Vec<Entry>,
    /// Term and vote.
    pub meta: Meta,
    /// The dump.
    pub dump: Option<Dump>,
    /// The dump as it is sent.
    pub dump_bytes: Option<Arc<[u8]>>,
}

/// The files.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Where each record ends, and the index of the first one.
    ends: Vec<u64>,
    first: u64,
    meta: Meta,
    meta_dirty: bool,
    dirty: bool,
    /// Nobody else writes these files.
    _lock: Flock<File>,
}

fn damaged(path: &Path, what: &str) -> io::Error {
    let text = format!(
        "{} is damaged ({what}). What it has promised to the other members is not known: this member stays away. \
         Once it was removed from the cluster (syncobj_admin -remove), remove its files and start it again",
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory =
        path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Replaces a file, in one step also for a machine that dies.
fn replace(path: &Path, suffix: &str, bytes: &[u8]) -> io::Result<()> {
    let new = with_suffix(path, suffix);
    let mut file = private().write(true).create(true).truncate(true).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync_directory(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn record(entry: &Entry) -> Vec<u8> {
    let length = u32::try_from(HEAD + entry.command.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(entry.index.to_le_bytes());
    record.extend(entry.term.to_le_bytes());
    record.extend(&*entry.command);
    record.extend(length);
    record
}

fn header(end: u64) -> io::Result<Vec<u8>> {
    let mut header = NAME.to_vec();
    header.extend(VERSION);
    header.extend(FORMAT.to_le_bytes());
    header.extend(offset(end)?);
    Ok(header)
}

fn offset(end: u64) -> io::Result<[u8; 4]> {
    u32::try_from(end).map(u32::to_le_bytes).map_err(|_| io::Error::other("the journal is larger than 4 GiB"))
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The records up to the end that the header tells, and where each ends.
fn records(path: &Path, bytes: &[u8]) -> io::Result<(Vec<Entry>, Vec<u64>)> {
    let bad = |what: &str| damaged(path, what);
    let (mut entries, mut ends) = (Vec::new(), Vec::new());
    if bytes.len() < usize::try_from(FIRST).unwrap_or(40) {
        // Killed as it was made: nothing was ever in it.
        return if NAME.starts_with(&bytes[..bytes.len().min(NAME.len())]) {
            Ok((entries, ends))
        } else {
            Err(bad("no header"))
        };
    }
    if !bytes.starts_with(NAME) || number(bytes, 32).map(u32::from_le_bytes) != Some(FORMAT) {
        return Err(bad("it is no journal of format 1"));
    }
    let end = number(bytes, 36).map_or(0, u32::from_le_bytes) as usize;
    let mut at = 40;
    while at < end {
        let read = || -> Option<(Entry, usize)> {
            let length = number(bytes, at).map(u32::from_le_bytes)?;
            let size = length as usize;
            let body = bytes.get(at + 4..at.checked_add(4)?.checked_add(size)?)?;
            let (index, term) =
                (number(body, 0).map(u64::from_le_bytes)?, number(body, 8).map(u64::from_le_bytes)?);
            let next = at + 8 + size;
            let command: Arc<[u8]> = body.get(HEAD..)?.into();
            let whole = next <= end && number(bytes, at + 4 + size).map(u32::from_le_bytes) == Some(length);
            (whole && !command.is_empty()).then_some((Entry { command, index, term }, next))
        };
        let (entry, next) = read().ok_or_else(|| bad("a record"))?;
        if entries
            .last()
            .is_some_and(|before: &Entry| before.index + 1 != entry.index || before.term > entry.term)
        {
            return Err(bad("its order"));
        }
        entries.push(entry);
        ends.push(next as u64);
        at = next;
    }
    Ok((entries, ends))
}

fn read_meta(path: &Path) -> io::Result<Meta> {
    let Some(bytes) = read_if_there(path)? else { return Ok(Meta { term: 0, voted: None, commit: 1 }) };
    let read = || -> Option<Meta> {
        let value = pickle::load(&bytes).ok()?;
        let number = |key: &str, default: u64| match value.get(key) {
            Some(value) => value.as_index(),
            None => Some(default),
        };
        let voted = match value.get("votedForNodeId") {
            Some(Value::Str(name)) => Some(Arc::clone(name)),
            None | Some(Value::None) => None,
            Some(_) => return None,
        };
        Some(Meta { term: number("currentTerm", 0)?, voted, commit: number("raftCommitIndex", 1)? })
    };
    read().ok_or_else(|| damaged(path, "it does not tell the term"))
}

impl Journal {
    /// Opens the files whose names begin with `base` (`<data_dir>/<self_addr>`), or makes them.
    ///
    /// # Errors
    /// The disk's; another process has them open; they are damaged.
    pub fn open(base: &Path) -> io::Result<(Journal, Found)> {
        let path = with_suffix(base, ".journal");
        // The lock is on a file of its own: the journal is replaced from time to time.
        let lock_path = with_suffix(base, ".lock");
        let lock = private().write(true).create(true).truncate(false).open(lock_path)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, _)| io::Error::other(format!("{} is in use by another process", path.display())))?;
        let mut file = private().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (entries, ends) = records(&path, &bytes)?;
        let meta = read_meta(&with_suffix(&path, ".meta"))?;
        let first = entries.first().map_or(1, |entry| entry.index);
        let mut journal = Journal {
            path,
            file,
            ends,
            first,
            meta: meta.clone(),
            meta_dirty: false,
            dirty: false,
            _lock: lock,
        };
        if bytes.len() < 40 {
            journal.file.write_all_at(&header(FIRST)?, 0)?;
            journal.file.sync_all()?;
            sync_directory(&journal.path)?;
        }
        let mut found = Found { entries, meta, dump: None, dump_bytes: None };
        journal.read_dump(&mut found)?;
        if found.entries.is_empty() {
            found.entries.push(Entry::first());
            journal.replace_all(&found.entries)?;
        }
        let (first, last) = (found.entries.first(), found.entries.last());
        if first.is_some_and(|entry| entry.index > 1) && found.dump.is_none() {
            return Err(damaged(&journal.dump_path(), "it is gone, and the entries before it"));
        }
        found.meta.term = found.meta.term.max(last.map_or(0, |entry| entry.term));
        found.meta.commit = found.meta.commit.min(last.map_or(1, |entry| entry.index));
        Ok((journal, found))
    }

    fn dump_path(&self) -> PathBuf {
        self.path.with_extension("dump")
    }

    /// The dump takes the place of the entries up to it. What is in the journal after it stays.
    fn read_dump(&mut self, found: &mut Found) -> io::Result<()> {
        let Some(bytes) = read_if_there(&self.dump_path())? else { return Ok(()) };
        let dump = Dump::decode(&bytes).map_err(|why| damaged(&self.dump_path(), &why))?;
        let at = found.entries.iter().position(|entry| *entry == dump.last);
        let whole = found.entries.first() == Some(&dump.prev) && at == Some(1);
        if !whole {
            let later = at.and_then(|at| found.entries.get(at + 1..)).unwrap_or_default().to_vec();
            found.entries = [vec![dump.prev.clone(), dump.last.clone()], later].concat();
            self.replace_all(&found.entries)?;
        }
        found.meta.commit = found.meta.commit.max(dump.last.index);
        found.dump_bytes = Some(bytes.into());
        found.dump = Some(dump);
        Ok(())
    }

    fn end(&self) -> u64 {
        self.ends.last().copied().unwrap_or(FIRST)
    }

    /// Adds an entry: the record first, then the end in the header. On the disk after [`Journal::sync`].
    ///
    /// # Errors
    /// The disk's; what is there is as it was.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        if self.ends.is_empty() {
            self.first = entry.index;
        }
        let record = record(entry);
        let start = self.end();
        self.file.write_all_at(&record, start)?;
        self.dirty = true;
        let end = start + record.len() as u64;
        self.set_end(end)?;
        self.ends.push(end);
        Ok(())
    }

    /// The record has to be there before the header says so, also for a machine that dies.
    fn set_end(&mut self, end: u64) -> io::Result<()> {
        if std::mem::take(&mut self.dirty) {
            self.file.sync_data()?;
        }
        self.file.write_all_at(&offset(end)?, END_AT)?;
        self.dirty = true;
        Ok(())
    }

    /// Takes the entries from that index on away.
    ///
    /// # Errors
    /// The disk's.
    pub fn cut(&mut self, index: u64) -> io::Result<()> {
        let keep = usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.ends.truncate(keep);
        self.set_end(self.end())
    }

    /// These entries, and no others.
    ///
    /// # Errors
    /// The disk's; what is there is as it was.
    pub fn replace_all(&mut self, entries: &[Entry]) -> io::Result<()> {
        let records: Vec<Vec<u8>> = entries.iter().map(record).collect();
        let mut ends = Vec::with_capacity(records.len());
        let mut end = FIRST;
        for record in &records {
            end += record.len() as u64;
            ends.push(end);
        }
        let bytes = [header(end)?, records.concat()].concat();
        replace(&self.path, ".tmp", &bytes)?;
        self.file = private().read(true).write(true).open(&self.path)?;
        self.ends = ends;
        self.first = entries.first().map_or(1, |entry| entry.index);
        self.dirty = false;
        Ok(())
    }

    /// Term and vote, on the disk when this returns.
    ///
    /// # Errors
    /// The disk's; then no vote may be given.
    pub fn vote(&mut self, term: u64, voted: Option<Arc<str>>) -> io::Result<()> {
        (self.meta.term, self.meta.voted) = (term, voted);
        self.store_meta()
    }

    /// How far is committed: stored by [`Journal::tidy`].
    pub fn committed(&mut self, index: u64) {
        self.meta_dirty |= self.meta.commit != index;
        self.meta.commit = index;
    }

    /// Called about once a second.
    ///
    /// # Errors
    /// The disk's.
    pub fn tidy(&mut self) -> io::Result<()> {
        if self.meta_dirty {
            self.store_meta()?;
        }
        Ok(())
    }

    fn store_meta(&mut self) -> io::Result<()> {
        let voted = self.meta.voted.clone().map_or(Value::None, Value::Str);
        let meta = Value::dict([
            ("currentTerm", self.meta.term.into()),
            ("votedForNodeId", voted),
            ("raftCommitIndex", self.meta.commit.into()),
        ]);
        replace(&with_suffix(&self.path, ".meta"), ".tmp", &pickle::dump(&meta))?;
        self.meta_dirty = false;
        Ok(())
    }

    /// Stores a dump.
    ///
    /// # Errors
    /// The disk's; the old one is still there.
    pub fn store_dump(&mut self, bytes: &[u8]) -> io::Result<()> {
        replace(&self.dump_path(), ".tmp", bytes)
    }

    /// Everything that was added is on the disk when this returns.
    ///
    /// # Errors
    /// The disk's; then nothing may be answered.
    pub fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dirty) {
            self.file.sync_data()?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
