//! Tests of the engine: a world that answers, tables of situations, and lines
//! recorded from the reference.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod act;
mod executor;
mod replay;
mod situation;
mod world;

#[test]
fn smoke() {
    for w in [world::leader(), world::replica(), world::orphan(), world::newcomer()] {
        let o = w.run();
        println!("{} {:?}", o.line, o.acts());
        for l in &o.log { println!("   {}", l.text); }
    }
}
