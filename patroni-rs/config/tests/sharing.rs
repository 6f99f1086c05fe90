//! Aliases in configurations of several files, as the reference prints them: what is one
//! object in Python changes at all its places.
#![allow(clippy::unwrap_used, missing_docs)]

use patroni_config::{Check, Config, Environment};

const FIRST: &str = "\
x: &x {p: 1, q: &q [1, 2], r: {s: 1}}
y: *x
z: {w: *x, q: *q}
bootstrap: {dcs: {a: *x}}
k: &k 2020-01-01
l: *k
";

const SECOND: &str = "\
n: &n {c: 1}
x: {p: 2, q: *n, r: {s: *n, t: null}}
z: {v: *n, w: {u: 5}}
y: {r: {s: {d: 7}}}
l: ~
m: &k [1]
o: *k
";

/// What Patroni 4.1.5 prints of these two.
const PRINTED: &str = "\
bootstrap:
  dcs:
    a: &id003
      p: 2
      q: &id001
        c: 1
        d: 7
      r:
        s: *id001
      u: 5
k: 2020-01-01
m: &id002
- 1
n: *id001
o: *id002
x: *id003
y: *id003
z:
  q:
  - 1
  - 2
  v: *id001
  w: *id003
";

#[test]
fn merged_files() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.yml"), FIRST).unwrap();
    std::fs::write(directory.path().join("b.yml"), SECOND).unwrap();
    let path = directory.path().to_str().unwrap();
    let config = Config::load(path, &Environment::default(), &Check::Nothing).unwrap();
    assert_eq!(config.local_yaml(), PRINTED);
}
