//! Files of a member: that were damaged, or are away for a while; that it has left when it was killed in a write.

use super::*;

/// Where the entries begin: before them is the header, whose last bytes say where they end, and which is written last.
const HEADER: usize = 40;

/// What kill -9 leaves at each of some bytes of the write of an entry: the member begins without that entry, or with it, has
/// what was acknowledged again, and takes part: with the other one that is dead it is needed for each write.
#[test]
fn a_member_that_was_killed_in_a_write_has_all_again() {
    let [a, b, c] = ports();
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (ours(&a, &[&b, &c], directory.path()), ours(&b, &[&a, &c], directory.path()));
    let start = || ours(&c, &[&a, &b], directory.path());
    let three = start();
    [&one, &two, &three].into_iter().for_each(ready);
    set(&one, "/k", "before");
    within("the third has it", || (value(&three, "/k")? == "before").then_some(()));
    three.join();
    let journal = directory.path().join(format!("{c}.journal"));
    let before = std::fs::read(&journal).unwrap();
    let three = start();
    ready(&three);
    set(&one, "/k", "acknowledged");
    within("the third has it", || (value(&three, "/k")? == "acknowledged").then_some(()));
    three.join();
    let after = std::fs::read(&journal).unwrap();
    assert!(after.len() > before.len());
    let lengths = [before.len(), before.len() + 1, before.len() + 5, (before.len() + after.len()) / 2];
    for length in lengths.into_iter().chain([after.len() - 1, after.len()]) {
        std::fs::write(&journal, [&before[..HEADER], &after[HEADER..length]].concat()).unwrap();
        let three = start();
        ready(&three);
        within("it has all", || (value(&three, "/k")? == "acknowledged").then_some(()));
        three.join();
    }
    let three = start();
    ready(&three);
    two.join();
    set(&three, "/k", "after");
    within("the first has it", || (value(&one, "/k")? == "after").then_some(()));
}

#[test]
fn damaged_files_keep_a_member_away() {
    let [a, b] = ports();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(format!("{a}.journal.meta")), b"").unwrap();
    let one = ours(&a, &[&b], directory.path());
    let why = within("it says why", || one.standing().broken);
    assert!(why.contains("is damaged"), "{why}");
    // Mended, it goes on by itself.
    std::fs::remove_file(directory.path().join(format!("{a}.journal.meta"))).unwrap();
    let two = ours(&b, &[&a], directory.path());
    ready(&one);
    ready(&two);
}

/// The disk that is gone for a while: nothing is confirmed meanwhile, and an empty directory in its place is not believed.
#[test]
fn a_disk_that_is_gone() {
    let [a] = ports();
    let directory = tempfile::tempdir().unwrap();
    let (data, away) = (directory.path().join("data"), directory.path().join("away"));
    let node = ours(&a, &[], &data);
    set(&node, "/k", "1");
    std::fs::rename(&data, &away).unwrap();
    let write = || answer(&node, &put("/k", "2", Conditions::default()));
    within("it notices", || {
        write();
        node.standing().broken
    });
    let why =
        within("an empty directory", || node.standing().broken.filter(|why| why.contains("is older than")));
    assert!(why.contains("data"), "{why}");
    assert_eq!(write(), Some(Err(Reason::MissingLeader)));
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&away, &data).unwrap();
    within("it is back", || matches!(write(), Some(Ok(_))).then_some(()));
}
