//! What is half made: a mark that is there while a copy, a rewind or a bootstrap works on PGDATA, and stays when it
//! is broken off (the daemon or the machine dies, the source is lost). What it leaves may have a valid `pg_control`,
//! and PostgreSQL may even start on it: only the mark tells.
//!
//! It lies beside PGDATA (`.NAME.patroni-unfinished`): pg_basebackup wants an empty directory, and pg_rewind removes
//! what its source does not have. The reference does not know it; so it counts only for the data that it was made
//! for, and goes when somebody has made them anew, or has run a server on them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use patroni_core::ha::Unfinished;
use pyfmt::{json, Value};

use super::blocking;
use super::control::{ControlData, ControlReader};
use super::datadir;
use crate::files::write::{write, Links};
use patroni_core::cluster_state::ClusterState;

/// Between two looks whether a copy has made its directory.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// One file or directory, told apart from a later one of its name by the time of its birth, where the file system
/// knows it. (Not by the device: its number may be another after the machine was started anew.)
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    inode: u64,
    born: Option<u128>,
}

impl Identity {
    fn of(path: &Path) -> Option<Identity> {
        let meta = fs::metadata(path).ok()?;
        let since = |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).ok();
        let born = meta.created().ok().and_then(since).map(|d| d.as_nanos());
        Some(Identity { inode: meta.ino(), born })
    }
}

/// The mark's content.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    work: Unfinished,
    /// Of PGDATA; for a rewind of its `pg_control`, which a rewind changes in place and a copy makes anew.
    of: Option<Identity>,
    /// `Latest checkpoint location` as the work began.
    checkpoint: Option<String>,
}

/// What is found beside the mark.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// PGDATA is missing or empty.
    empty: bool,
    /// As [`Mark::of`], now.
    of: Option<Identity>,
    /// A postmaster was started on it after the mark was made.
    started: bool,
    /// State and `Latest checkpoint location` now; None: unreadable.
    control: Option<(ClusterState, String)>,
}

impl Mark {
    /// Is the data that is there what the mark was made for?
    fn counts(&self, seen: &Seen) -> bool {
        if seen.empty || self.of.as_ref().is_some_and(|of| seen.of.as_ref().is_some_and(|now| now != of)) {
            return false;
        }
        match self.work {
            // Who starts a server on a half-made rewind (the reference does) does not make it whole: only one that ran
            // as a primary, and wrote a checkpoint of its own, was.
            Unfinished::Rewind => !seen.control.as_ref().is_some_and(|(state, checkpoint)| {
                let ran_as_primary = matches!(
                    state,
                    ClusterState::InProduction
                        | ClusterState::ShutDown
                        | ClusterState::ShuttingDown
                        | ClusterState::InCrashRecovery
                );
                ran_as_primary && self.checkpoint.as_ref() != Some(checkpoint)
            }),
            Unfinished::Copy | Unfinished::Bootstrap => !seen.started,
        }
    }

    fn to_text(&self) -> String {
        let mut value = Value::map();
        value.set("work", self.work.as_str());
        if let Some(of) = &self.of {
            value.set("inode", of.inode.to_string());
            value.set("born", of.born.map_or(Value::Null, |n| n.to_string().into()));
        }
        value.set("checkpoint", self.checkpoint.as_deref().map_or(Value::Null, Value::from));
        json::dumps(&value) + "\n"
    }

    /// A mark that cannot be read (the disk was full, power was lost) is one all the same, if its first word is known.
    fn parse(text: &str) -> Option<Mark> {
        let value = json::loads(text).ok()?;
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let work = [Unfinished::Copy, Unfinished::Rewind, Unfinished::Bootstrap]
            .into_iter()
            .find(|w| text("work") == Some(w.as_str()))?;
        let of = text("inode")
            .and_then(|n| n.parse().ok())
            .map(|inode| Identity { inode, born: text("born").and_then(|n| n.parse().ok()) });
        Some(Mark { work, of, checkpoint: text("checkpoint").map(str::to_owned) })
    }
}

/// The file that the mark's identity is of.
fn subject(data_dir: &Path, work: Unfinished) -> PathBuf {
    match work {
        Unfinished::Rewind => data_dir.join("global").join("pg_control"),
        Unfinished::Copy | Unfinished::Bootstrap => data_dir.to_owned(),
    }
}

/// Where the mark lies: beside PGDATA; in it where the directory around it is not ours to write (a mount point), as soon
/// as there is something in it.
fn places(data_dir: &Path) -> [PathBuf; 2] {
    let name = data_dir.file_name().unwrap_or_default().to_string_lossy();
    let beside = data_dir.parent().unwrap_or(Path::new("/")).join(format!(".{name}.patroni-unfinished"));
    [beside, data_dir.join(".patroni-unfinished")]
}

fn put(data_dir: &Path, mark: &Mark) -> io::Result<()> {
    let [beside, inside] = places(data_dir);
    let text = mark.to_text();
    match write(&beside, text.as_bytes(), 0o600, Links::Replace) {
        Ok(_) => Ok(()),
        Err(_) if !datadir::is_empty(data_dir).unwrap_or(true) => {
            write(&inside, text.as_bytes(), 0o600, Links::Replace).map(drop)
        }
        Err(e) => Err(e),
    }
}

/// Forgets the mark: the work is done, or what it worked on is gone.
///
/// Blocks: call it on the blocking pool.
///
/// # Errors
/// Those of removing it.
pub fn forget(data_dir: &Path) -> io::Result<()> {
    for place in places(data_dir) {
        match fs::remove_file(&place) {
            Ok(()) => {
                // Back after a loss of power, it would have a good copy thrown away.
                let _ = place.parent().map(|dir| fs::File::open(dir).and_then(|d| d.sync_all()));
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Work on a data directory that has begun. Unless [`Open::done`] is called it counts as broken off.
#[derive(Debug)]
pub struct Open {
    data_dir: PathBuf,
    /// The mark that was there before.
    before: Option<Mark>,
    watch: Option<tokio::task::JoinHandle<()>>,
}

/// Marks a data directory before work on it. A mark that cannot be written does not keep the work from being done.
pub async fn begin(data_dir: &Path, work: Unfinished, control: Option<&ControlData>) -> Open {
    let checkpoint = control.and_then(|c| c.get("Latest checkpoint location")).map(str::to_owned);
    let dir = data_dir.to_owned();
    let put_it = move || {
        let before = read(&dir)?.map(|(mark, _)| mark);
        let mark = Mark { work, of: Identity::of(&subject(&dir, work)), checkpoint };
        put(&dir, &mark).map(|()| (mark, before))
    };
    let (mark, before) = match blocking::run(blocking::FILE_DEADLINE, put_it).await {
        Ok(both) => both,
        Err(e) => {
            tracing::warn!(target: "patroni.postgresql", "Could not mark {} as unfinished: {e}", data_dir.display());
            (Mark { work, of: None, checkpoint: None }, None)
        }
    };
    // The directory that a copy makes is known when it is there.
    let watch = (mark.of.is_none() && work != Unfinished::Rewind).then(|| {
        let dir = data_dir.to_owned();
        tokio::spawn(async move { complete(&dir, mark).await })
    });
    Open { data_dir: data_dir.to_owned(), before, watch }
}

async fn complete(data_dir: &Path, mark: Mark) {
    loop {
        let (dir, mut mark) = (data_dir.to_owned(), mark.clone());
        let look = move || {
            mark.of = Identity::of(&dir).filter(|_| !datadir::is_empty(&dir).unwrap_or(true));
            let found = mark.of.is_some();
            if found {
                put(&dir, &mark)?;
            }
            Ok(found)
        };
        match blocking::run(blocking::FILE_DEADLINE, look).await {
            Ok(false) => tokio::time::sleep(POLL_INTERVAL).await,
            _ => return,
        }
    }
}

impl Open {
    async fn settled(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.abort();
            let _ = watch.await;
        }
    }

    /// It came to its end: the data is whole.
    pub async fn done(mut self) {
        self.settled().await;
        let dir = self.data_dir.clone();
        if let Err(e) = blocking::run(blocking::FILE_DEADLINE, move || forget(&dir)).await {
            tracing::error!(
                target: "patroni.postgresql", "Could not remove the mark beside {}: {e}", self.data_dir.display()
            );
        }
    }

    /// It has changed nothing: all is as it was, half made or not.
    pub async fn never_began(mut self) {
        let Some(before) = self.before.take() else { return self.done().await };
        self.settled().await;
        let dir = self.data_dir.clone();
        let _ = blocking::run(blocking::FILE_DEADLINE, move || put(&dir, &before)).await;
    }

    /// It did not; what is there is half made.
    pub async fn broken_off(mut self) {
        self.settled().await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

fn read(data_dir: &Path) -> io::Result<Option<(Mark, Seen)>> {
    for place in places(data_dir) {
        let text = match fs::read_to_string(&place) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(e),
        };
        let Some(mark) = Mark::parse(&text) else {
            tracing::warn!(target: "patroni.postgresql", "{} cannot be read and does not count", place.display());
            continue;
        };
        let changed = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
        let seen = Seen {
            empty: datadir::is_empty(data_dir)?,
            of: Identity::of(&subject(data_dir, mark.work)),
            started: changed(&data_dir.join("postmaster.opts")) > changed(&place),
            control: None,
        };
        return Ok(Some((mark, seen)));
    }
    Ok(None)
}

/// What is half made here, if anything is. A mark that has outlived its data is removed. Not to be asked while the
/// work goes on, nor while a postmaster runs.
///
/// # Errors
/// Those of reading the mark: nobody knows.
pub async fn look(data_dir: &Path, control: &ControlReader) -> io::Result<Option<Unfinished>> {
    let dir = data_dir.to_owned();
    let Some((mark, mut seen)) = blocking::run(blocking::FILE_DEADLINE, move || read(&dir)).await? else {
        return Ok(None);
    };
    if mark.work == Unfinished::Rewind {
        let checkpoint = |c: &ControlData| c.get("Latest checkpoint location").map(str::to_owned);
        seen.control = control.read().await.ok().and_then(|c| Some((c.state(), checkpoint(&c)?)));
    }
    if mark.counts(&seen) {
        return Ok(Some(mark.work));
    }
    tracing::info!(
        target: "patroni.postgresql",
        "The mark of a {} that was broken off is older than the data in {}: it is removed",
        mark.work.as_str(), data_dir.display()
    );
    let dir = data_dir.to_owned();
    blocking::run(blocking::FILE_DEADLINE, move || forget(&dir)).await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::process::Binaries;

    #[test]
    fn which_marks_count() {
        use ClusterState::{InArchiveRecovery, InProduction, ShutDown, ShutDownInRecovery};
        let id = |inode| Some(Identity { inode, born: Some(7) });
        let mark = |work| Mark { work, of: id(1), checkpoint: Some("0/1".into()) };
        let seen = Seen { of: id(1), ..Seen::default() };
        for work in [Unfinished::Copy, Unfinished::Rewind, Unfinished::Bootstrap] {
            assert!(mark(work).counts(&seen));
            assert!(!mark(work).counts(&Seen { empty: true, ..seen.clone() }));
            assert!(!mark(work).counts(&Seen { of: id(2), ..seen.clone() }), "made anew");
            let reborn = Some(Identity { inode: 1, born: Some(8) });
            assert!(!mark(work).counts(&Seen { of: reborn, ..seen.clone() }), "made anew under its number");
            assert!(mark(work).counts(&Seen { of: None, ..seen.clone() }));
            assert!(Mark { of: None, ..mark(work) }.counts(&seen));
            let started = Seen { started: true, ..seen.clone() };
            assert_eq!(mark(work).counts(&started), work == Unfinished::Rewind);
        }
        let rewound = |state, checkpoint: &str| {
            mark(Unfinished::Rewind)
                .counts(&Seen { control: Some((state, checkpoint.into())), ..seen.clone() })
        };
        assert!(rewound(ShutDown, "0/1"), "as it was before");
        assert!(rewound(InArchiveRecovery, "0/2"), "written by pg_rewind, or by a start in vain");
        assert!(rewound(ShutDownInRecovery, "0/2"));
        assert!(!rewound(InProduction, "0/2") && !rewound(ShutDown, "0/2"), "it has been a primary since");
    }

    #[test]
    fn texts() {
        let whole = Mark {
            work: Unfinished::Rewind,
            of: Some(Identity { inode: 5, born: None }),
            checkpoint: Some("0/1".into()),
        };
        let bare = Mark { work: Unfinished::Copy, of: None, checkpoint: None };
        for mark in [whole, bare] {
            assert_eq!(Mark::parse(&mark.to_text()), Some(mark));
        }
        assert_eq!(Mark::parse(""), None);
        assert_eq!(Mark::parse(r#"{"work": "other"}"#), None);
    }

    #[tokio::test]
    async fn a_mark_stays_until_the_work_is_done_or_its_data_are_gone() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let control = ControlReader::new(Binaries::default(), data.clone());
        let look = async || look(&data, &control).await.unwrap();
        assert_eq!(look().await, None);
        let open = begin(&data, Unfinished::Copy, None).await;
        fs::create_dir(&data).unwrap();
        fs::write(data.join("PG_VERSION"), "15").unwrap();
        let of = || read(&data).unwrap().and_then(|(mark, _)| mark.of);
        while of().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        open.broken_off().await;
        assert_eq!(look().await, Some(Unfinished::Copy));
        begin(&data, Unfinished::Copy, None).await.done().await;
        assert_eq!(look().await, None);
        begin(&data, Unfinished::Rewind, None).await.broken_off().await;
        begin(&data, Unfinished::Copy, None).await.never_began().await;
        assert_eq!(look().await, Some(Unfinished::Rewind));
        // Somebody has run a server on it.
        begin(&data, Unfinished::Copy, None).await.broken_off().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        fs::write(data.join("postmaster.opts"), "").unwrap();
        assert_eq!(look().await, None);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "the mark is gone");
        // Somebody has made it anew.
        fs::remove_file(data.join("postmaster.opts")).unwrap();
        begin(&data, Unfinished::Copy, None).await.broken_off().await;
        fs::rename(&data, root.path().join("old")).unwrap();
        fs::create_dir(&data).unwrap();
        fs::write(data.join("PG_VERSION"), "15").unwrap();
        assert_eq!(look().await, None);
        // It goes with the data.
        begin(&data, Unfinished::Bootstrap, None).await.broken_off().await;
        datadir::remove(&data).await.unwrap();
        fs::create_dir(&data).unwrap();
        fs::write(data.join("PG_VERSION"), "15").unwrap();
        assert_eq!(look().await, None);
    }

    #[test]
    fn where_it_lies() {
        let [beside, inside] = places(Path::new("/a/b/main/"));
        assert_eq!(beside, Path::new("/a/b/.main.patroni-unfinished"));
        assert_eq!(inside, Path::new("/a/b/main/.patroni-unfinished"));
    }
}
