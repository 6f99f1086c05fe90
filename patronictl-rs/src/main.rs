//! patronictl
fn main() {}
