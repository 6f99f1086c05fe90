//! A member that dies in the middle of a write of its journal, beside others that live.

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
