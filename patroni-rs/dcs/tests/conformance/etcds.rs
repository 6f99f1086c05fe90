//! etcd in its three ways, and of several versions.

use pyfmt::Value;

use super::etcd::{program, Etcd};
use super::Server;

/// The section of nodes at this URL, with these options besides.
fn section(url: &str, options: &[(&str, bool)]) -> Value {
    let host = Value::from(url.trim_start_matches("http://"));
    let mut section = Value::from_iter([("hosts", Value::from(vec![host]))]);
    for (key, value) in options {
        section.set(key, Value::from(*value));
    }
    section
}

/// Name, section of the configuration, line of versions (empty: the system's), node and the URL that clients are given,
/// and options.
macro_rules! server {
    ($($(#[$doc:meta])* $name:ident, $section:literal, $line:literal, $start:expr, $options:expr;)*) => { $(
        $(#[$doc])*
        pub struct $name(Etcd, String);

        impl Server for $name {
            fn is_here() -> bool {
                program($line).exists()
            }
            fn start() -> Self {
                let (etcd, url) = $start($line);
                $name(etcd, url)
            }
            fn section(&self) -> (&'static str, Value) {
                ($section, section(&self.1, &$options))
            }
            fn freeze(&self, stop: bool) {
                self.0.signal(if stop { "-STOP" } else { "-CONT" });
            }
            fn restart(&mut self) {
                self.0.kill();
                self.0.restart();
            }
        }
    )* };
}

fn usual(line: &str) -> (Etcd, String) {
    one(line, &[])
}

fn with_v2(line: &str) -> (Etcd, String) {
    one(line, &["--enable-v2"])
}

fn one(line: &str, extra: &[&str]) -> (Etcd, String) {
    let etcd = Etcd::cluster_of(line, 1, extra).remove(0);
    let url = etcd.url.clone();
    (etcd, url)
}

server! {
    /// v3 by gRPC.
    Grpc, "etcd3", "", usual, [];
    /// v3 by the JSON gateway.
    Gateway, "etcd3", "", usual, [("use_proxies", true)];
    /// v2.
    V2, "etcd", "", with_v2, [];
    /// 3.5 by gRPC.
    Grpc35, "etcd3", "3.5", usual, [];
    /// 3.5, the port without gRPC, which has to be found out.
    Split35, "etcd3", "3.5", Etcd::with_split_ports, [];
    /// v2 of 3.5.
    V2of35, "etcd", "3.5", with_v2, [];
    /// 3.6 by gRPC.
    Grpc36, "etcd3", "3.6", usual, [];
    /// 3.6, the port without gRPC, which has to be found out.
    Split36, "etcd3", "3.6", Etcd::with_split_ports, [];
    /// 3.7 by gRPC.
    Grpc37, "etcd3", "3.7", usual, [];
    /// 3.7, the port without gRPC, and told so.
    Split37, "etcd3", "3.7", Etcd::with_split_ports, [("use_proxies", true)];
}
