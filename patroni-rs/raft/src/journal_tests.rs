#![allow(clippy::unwrap_used)]
use super::*;

fn entry(index: u64, term: u64) -> Entry {
    Entry { command: format!("\0command {index}").into_bytes().into(), index, term }
}

fn base(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("127.0.0.1:2222")
}

/// The first entry, and these after it.
fn filled(directory: &tempfile::TempDir, entries: &[Entry]) -> Journal {
    let (mut journal, found) = Journal::open(&base(directory)).unwrap();
    assert_eq!(found.entries, [Entry::first()]);
    entries.iter().for_each(|entry| journal.append(entry).unwrap());
    journal.sync().unwrap();
    journal
}

fn indexes(found: &Found) -> Vec<u64> {
    found.entries.iter().map(|entry| entry.index).collect()
}

#[test]
fn entries_stay_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = filled(&directory, &[entry(2, 1), entry(3, 1), entry(4, 2)]);
    journal.vote(3, Some("other:1".into())).unwrap();
    journal.committed(3);
    journal.tidy().unwrap();
    drop(journal);
    let (mut journal, found) = Journal::open(&base(&directory)).unwrap();
    assert_eq!(found.entries, [Entry::first(), entry(2, 1), entry(3, 1), entry(4, 2)]);
    assert_eq!(found.meta, Meta { term: 3, voted: Some("other:1".into()), commit: 3 });
    assert!(Journal::open(&base(&directory)).is_err(), "two at once");
    journal.cut(3).unwrap();
    journal.append(&entry(3, 3)).unwrap();
    drop(journal);
    let (_journal, found) = Journal::open(&base(&directory)).unwrap();
    assert_eq!(found.entries, [Entry::first(), entry(2, 1), entry(3, 3)]);
}

/// Killed at any byte of the write of an entry: it is there as a whole or not at all.
#[test]
fn killed_at_any_byte() {
    let directory = tempfile::tempdir().unwrap();
    let path = with_suffix(&base(&directory), ".journal");
    drop(filled(&directory, &[entry(2, 1)]));
    let before = std::fs::read(&path).unwrap();
    let (mut journal, _) = Journal::open(&base(&directory)).unwrap();
    journal.append(&entry(3, 1)).unwrap();
    drop(journal);
    let after = std::fs::read(&path).unwrap();
    let mut states: Vec<Vec<u8>> =
        (before.len()..=after.len()).map(|length| [&before[..40], &after[40..length]].concat()).collect();
    states.push(after.clone());
    for (number, state) in states.iter().enumerate() {
        std::fs::write(&path, state).unwrap();
        let (mut journal, found) = Journal::open(&base(&directory)).unwrap();
        let there = number == states.len() - 1;
        assert_eq!(indexes(&found), if there { vec![1, 2, 3] } else { vec![1, 2] }, "{number}");
        journal.append(&entry(if there { 4 } else { 3 }, 2)).unwrap();
    }
    // As it was made.
    for length in 0..40 {
        std::fs::write(&path, &before[..length]).unwrap();
        assert_eq!(indexes(&Journal::open(&base(&directory)).unwrap().1), [1], "{length}");
    }
}

/// Killed at any byte of the write of a vote, a dump or a journal that is made anew: what was before is there.
#[test]
fn killed_at_any_byte_of_what_takes_the_place_of_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let name = base(&directory);
    let mut journal = filled(&directory, &[entry(2, 1)]);
    journal.vote(3, Some("other:1".into())).unwrap();
    drop(journal);
    let whole = std::fs::read(with_suffix(&name, ".journal")).unwrap();
    for suffix in [".journal.meta.tmp", ".dump.tmp", ".journal.tmp"] {
        for length in 0..=whole.len() {
            std::fs::write(with_suffix(&name, suffix), &whole[..length]).unwrap();
            let (mut journal, found) = Journal::open(&name).unwrap();
            let voted = (found.meta.term, found.meta.voted.as_deref());
            assert_eq!((indexes(&found), voted), (vec![1, 2], (3, Some("other:1"))), "{suffix} {length}");
            if length == whole.len() {
                // And it is in nobody's way.
                journal.vote(3, Some("other:1".into())).unwrap();
                journal.replace_all(&found.entries).unwrap();
            }
        }
    }
}

#[test]
fn damage_is_not_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let (path, meta) =
        (with_suffix(&base(&directory), ".journal"), with_suffix(&base(&directory), ".journal.meta"));
    let mut journal = filled(&directory, &[entry(2, 1), entry(3, 1)]);
    journal.vote(1, None).unwrap();
    drop(journal);
    let (good, good_meta) = (std::fs::read(&path).unwrap(), std::fs::read(&meta).unwrap());
    let breaks = |bytes: &[u8], meta_bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        std::fs::write(&meta, meta_bytes).unwrap();
        Journal::open(&base(&directory)).err().map(|e| e.kind())
    };
    assert_eq!(breaks(&good, &good_meta), None);
    assert_eq!(breaks(&good[..good.len() - 1], &good_meta), Some(io::ErrorKind::InvalidData));
    assert_eq!(breaks(&good, b""), Some(io::ErrorKind::InvalidData));
    for at in [0, 32, 36, 41, 44, good.len() - 4] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x15;
        assert_eq!(breaks(&bytes, &good_meta), Some(io::ErrorKind::InvalidData), "{at}");
    }
}

#[test]
fn a_dump_takes_the_place_of_entries() {
    let directory = tempfile::tempdir().unwrap();
    let all = [entry(2, 1), entry(3, 1), entry(4, 1)];
    let dump = |last: u64| Dump {
        data: Value::Dict(Vec::new()),
        last: entry(last, 1),
        prev: entry(last - 1, 1),
        members: ["127.0.0.1:2222".into()].into(),
    };
    // Killed after the dump was stored, before the journal was made shorter.
    let mut journal = filled(&directory, &all);
    journal.store_dump(&dump(3).encode()).unwrap();
    drop(journal);
    let (mut journal, found) = Journal::open(&base(&directory)).unwrap();
    assert_eq!((indexes(&found), found.meta.commit), (vec![2, 3, 4], 3));
    // A dump of a leader, beyond all we have.
    journal.store_dump(&dump(9).encode()).unwrap();
    drop(journal);
    let (_, found) = Journal::open(&base(&directory)).unwrap();
    assert_eq!((indexes(&found), found.meta.commit), (vec![8, 9], 9));
    // Without it nobody knows what came before.
    std::fs::remove_file(base(&directory).with_extension("dump")).ok();
    std::fs::remove_file(with_suffix(&base(&directory), ".dump")).ok();
    assert!(Journal::open(&base(&directory)).is_err());
}
