//! patroni
fn main() {}
