//! etcd in its three ways.

use pyfmt::Value;

use super::etcd::Etcd;
use super::Server;

fn hosts(etcd: &Etcd) -> Value {
    Value::from_iter([("hosts", Value::from(vec![Value::from(etcd.url.as_str())]))])
}

macro_rules! server {
    ($(#[$doc:meta])* $name:ident, $section:literal, $extra:expr, $options:expr) => {
        $(#[$doc])*
        pub struct $name(Etcd);

        impl Server for $name {
            fn start() -> Self {
                $name(Etcd::cluster(1, $extra).remove(0))
            }
            fn section(&self) -> (&'static str, Value) {
                let mut section = hosts(&self.0);
                for (key, value) in $options {
                    section.set(key, Value::from(value));
                }
                ($section, section)
            }
            fn freeze(&self, stop: bool) {
                self.0.signal(if stop { "-STOP" } else { "-CONT" });
            }
            fn restart(&mut self) {
                self.0.kill();
                self.0.restart();
            }
        }
    };
}

const NONE: [(&str, bool); 0] = [];

server!(
    /// v3 by gRPC.
    Grpc, "etcd3", &[], NONE
);
server!(
    /// v3 by the JSON gateway.
    Gateway, "etcd3", &[], [("use_proxies", true)]
);
server!(
    /// v2.
    V2, "etcd", &["--enable-v2"], NONE
);
