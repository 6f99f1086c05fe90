//! `demo`: three members, etcd and HAProxy on 127.0.0.1, a writer, and keys to break things with. See `./demo`.

use std::process::ExitCode;

use compat_tests::demo::{self, Options};

fn main() -> ExitCode {
    demo::run(<Options as clap::Parser>::parse())
}
