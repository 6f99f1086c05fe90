#![allow(clippy::unwrap_used)]
use super::*;

fn item(value: &str, updated: f64, ttl: Option<f64>) -> Item {
    Item { value: value.into(), updated, created: updated, expire: ttl.map(|ttl| updated + ttl), index: 0 }
}

struct Log {
    kv: Kv,
    index: u64,
    now: Mono,
}

impl Log {
    fn new() -> Log {
        Log { kv: Kv::default(), index: 1, now: Mono::seconds(100) }
    }

    fn call(&mut self, call: Call) -> (Done, Vec<Change>) {
        self.index += 1;
        let mut changes = Vec::new();
        let done = self.kv.apply(&call.command(), self.index, self.now, &mut changes).unwrap();
        (done, changes)
    }

    fn set(&mut self, key: &str, item: Item, conditions: Conditions) -> Done {
        self.call(Call::Set(key.into(), item, conditions)).0
    }
}

fn exists(exists: bool) -> Conditions {
    Conditions { exists: Some(exists), ..Conditions::default() }
}

fn value(value: &str) -> Conditions {
    Conditions { value: Some(value.into()), ..Conditions::default() }
}

fn index(index: u64) -> Conditions {
    Conditions { index: Some(index), ..Conditions::default() }
}

#[test]
fn conditions_decide() {
    let mut log = Log::new();
    for (conditions, content, done) in [
        (exists(true), "a", false),
        (value("a"), "a", false),
        (index(1), "a", false),
        (exists(false), "a", true),
        (exists(false), "b", false),
        (value("b"), "b", false),
        (value("a"), "c", true),
        (index(6), "d", false),
        (index(8), "d", true),
        (Conditions::default(), "e", true),
    ] {
        let before = log.kv.get("k").cloned();
        let answer = log.set("k", item(content, 5.0, None), conditions.clone());
        assert_eq!(answer != Done::Refused, done, "{conditions:?}");
        if !done {
            assert_eq!(log.kv.get("k").cloned(), before);
        }
    }
    assert_eq!(log.kv.get("k").unwrap().index, log.index);
}

#[test]
fn created_is_the_first_writers() {
    let mut log = Log::new();
    log.set("k", item("a", 5.0, None), Conditions::default());
    log.set("k", Item { created: 5.0, ..item("b", 6.0, None) }, Conditions::default());
    assert_eq!(log.kv.get("k").unwrap().created, 5.0);
    // Who had not seen it takes it for new.
    log.set("k", Item { created: 6.5, ..item("c", 7.0, None) }, Conditions::default());
    assert_eq!(log.kv.get("k").unwrap().created, 7.0);
}

#[test]
fn deletions() {
    let mut log = Log::new();
    let delete = |key: &str, conditions| Call::Delete(key.into(), conditions);
    // The reference is stuck at such an entry forever.
    assert_eq!(log.call(delete("k", Conditions::default())), (Done::Refused, vec![]));
    log.set("/a/k", item("a", 5.0, None), Conditions::default());
    log.set("/a/l", item("a", 5.0, None), Conditions::default());
    log.set("/ab/k", item("a", 5.0, None), Conditions::default());
    assert_eq!(log.call(delete("/a/k", value("b"))).0, Done::Refused);
    let (done, changes) = log.call(delete("/a/k", value("a")));
    assert_eq!(
        (done, changes),
        (Done::Yes, vec![Change { key: "/a/k".into(), value: None, index: log.index }])
    );
    assert_eq!(log.call(Call::DeleteAll("/a/".into())).1.len(), 1);
    assert_eq!(log.kv.below("").count(), 1);
}

#[test]
fn the_end_of_a_ttl() {
    let mut log = Log::new();
    log.set("k", item("a", 1_000_000.0, Some(30.0)), Conditions::default());
    log.set("l", item("a", 5.0, None), Conditions::default());
    // By this member's clock, whatever the writer's wall clock said.
    assert_eq!(log.kv.due(log.now + Duration::from_secs(29)), []);
    let end = log.now + Duration::from_secs(30);
    let due = log.kv.due(end);
    assert_eq!(due, [Call::Expire("k".into(), log.kv.get("k").unwrap().clone())]);
    assert_eq!(log.kv.due(end + Duration::from_secs(1)), []);
    assert_eq!(log.kv.due(end + Duration::from_secs(2)).len(), 1);
    // Written meanwhile: it stays.
    let first = log.kv.get("k").unwrap().clone();
    log.set("k", Item { created: first.created, ..item("a", 1_000_020.0, Some(30.0)) }, value("a"));
    assert_eq!(log.call(due[0].clone()), (Done::Yes, vec![]));
    assert!(log.kv.get("k").is_some());
    log.now = end;
    let current = log.kv.get("k").unwrap().clone();
    assert_eq!(log.call(Call::Expire("k".into(), current)).1.len(), 1);
    assert!(log.kv.get("k").is_none());
}

#[test]
fn what_is_not_known_stops() {
    let set = |value: &Value| {
        let mut command = vec![kind::REGULAR];
        command.extend(pickle::dump(value));
        command
    };
    let text = Value::str("k");
    let call = |parts: Vec<Value>| set(&Value::Tuple(parts));
    let unknown = [
        call(vec![Value::Int(3), Value::Tuple(vec![text.clone()])]),
        call(vec![Value::Int(0), Value::Tuple(vec![text.clone()]), Value::dict([("other", Value::Int(1))])]),
        call(vec![Value::Int(2), Value::Tuple(vec![text.clone(), text])]),
        vec![kind::REGULAR, 0],
        vec![kind::VERSION, b'K', 1, b'.'],
        vec![kind::MEMBERSHIP, b'N', b'.'],
        vec![9],
        vec![],
    ];
    for command in unknown {
        let mut kv = Kv::default();
        assert!(kv.apply(&command, 5, Mono::ZERO, &mut Vec::new()).is_err(), "{command:?}");
    }
    for command in [vec![kind::NO_OP], vec![kind::VERSION, 0x80, 2, b'K', 0, b'.']] {
        assert_eq!(
            Kv::default().apply(&command, 5, Mono::ZERO, &mut Vec::new()),
            Ok(Done::Yes),
            "{command:?}"
        );
    }
}

#[test]
fn there_and_back() {
    let mut log = Log::new();
    log.set("k", item("a", 5.5, Some(30.0)), Conditions::default());
    log.set("l", item("", 5.0, None), Conditions::default());
    let copy = Kv::of_value(&pickle::load(&pickle::dump(&log.kv.to_value())).unwrap(), Mono::ZERO).unwrap();
    let keys = |kv: &Kv| kv.below("").map(|(key, item)| (Arc::clone(key), item.clone())).collect::<Vec<_>>();
    assert_eq!(keys(&copy), keys(&log.kv));
}

/// Journals that three members of the reference have written (fixtures/dcs/raft): each command is known, and would be
/// written by us in the same bytes.
#[test]
fn commands_of_the_reference() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/dcs/raft/journals");
    let mut seen = [0; 3];
    for file in std::fs::read_dir(directory).unwrap() {
        let file = file.unwrap().path();
        let copy = tempfile::tempdir().unwrap();
        let to = copy.path().join("node.journal");
        std::fs::copy(&file, to).unwrap();
        let (_, found) = crate::journal::Journal::open(&copy.path().join("node")).unwrap();
        assert!(found.entries.len() > 100, "{file:?}");
        let mut kv = Kv::default();
        for entry in &found.entries {
            kv.apply(&entry.command, entry.index, Mono::ZERO, &mut Vec::new()).unwrap();
            let Some((&kind::REGULAR, pickled)) = entry.command.split_first() else { continue };
            let call = Call::of_pickle(pickled).unwrap();
            seen[usize::try_from(pickle::load(pickled).unwrap().items().unwrap()[0].as_int().unwrap())
                .unwrap()] += 1;
            // The reference names a condition that is none.
            if !String::from_utf8_lossy(pickled).contains("prevIndex") {
                assert_eq!(call.command(), entry.command, "{call:?}");
            }
        }
        assert!(kv.below("/service/").count() > 0);
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn a_clock_that_is_ahead_is_seen() {
    let mut log = Log::new();
    let at = |seconds: u64| log_time(100 + seconds);
    log.set("/members/a", item("a", 1000.0, Some(30.0)), Conditions::default());
    log.set("/members/b", item("b", 1020.0, Some(30.0)), Conditions::default());
    log.set("/config", item("b", 9000.0, None), Conditions::default());
    let ours = |key: &str| key == "/members/a";
    // Our wall clock said 1000 when both were written, and says 1007 seven seconds later.
    assert_eq!(log.kv.ahead(at(7), 1007.0, ours), Some(("/members/b", 20.0)));
    assert_eq!(log.kv.ahead(at(7), 1007.0, |_| true), None);
    assert_eq!(log.kv.ahead(at(7), 1057.0, ours), None);
}

fn log_time(seconds: u64) -> Mono {
    Mono::seconds(seconds)
}
