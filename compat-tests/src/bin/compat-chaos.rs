//! `compat-chaos [--minutes N] [--seed S] [--fleet ours|mixed|reference] [--mode async|sync|quorum]
//! [--dcs etcd3|etcd3http|etcd|consul|zookeeper|raft] [--citus] [--pg 13|15|17|18|19] [--guardian on|off] [--only KIND,KIND]
//! [--timing TTL,LOOP_WAIT,RETRY_TIMEOUT] [--keep] [--may-skip]`: a real cluster of three members (two groups of Citus: of two each), PostgreSQL and three servers
//! of a store, each with a network and a disk of its own, under faults that the seed decides.
//!
//! Exit code 0: no invariant broken by ours; 1: one was, and the logs were kept; 2: could not run;
//! 0 with `--may-skip` where the machine does not permit namespaces and we are not root.

use std::process::ExitCode;

use compat_tests::chaos::options::Options;
use compat_tests::chaos::run::{permitted, run};
use compat_tests::program;

fn main() -> ExitCode {
    let options: Options = clap::Parser::parse();
    if let Err(error) = permitted() {
        eprintln!("compat-chaos: {error}");
        let skip = options.may_skip && !nix::unistd::Uid::effective().is_root();
        if skip {
            eprintln!("compat-chaos: SKIPPED, nothing was tested");
        }
        return ExitCode::from(if skip { 0 } else { 2 });
    }
    println!("compat-chaos {}", std::env::args().skip(1).collect::<Vec<_>>().join(" "));
    let result = run(options).map(|report| {
        print!("{report}");
        usize::from(!report.is_clean())
    });
    program::ended("compat-chaos", "report with broken invariants", result)
}
