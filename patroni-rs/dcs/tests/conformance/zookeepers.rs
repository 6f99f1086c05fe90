//! ZooKeeper: one server, and an ensemble of three.

use pyfmt::Value;

use super::zookeeper::{self, ZooKeeper};
use super::Server;

fn section(servers: &[ZooKeeper]) -> (&'static str, Value) {
    let hosts = servers.iter().map(ZooKeeper::host).collect::<Vec<_>>().join(",");
    ("zookeeper", Value::from_iter([("hosts", Value::from(hosts))]))
}

macro_rules! server {
    ($(#[$doc:meta])* $name:ident, $start:expr) => {
        $(#[$doc])*
        pub struct $name(Vec<ZooKeeper>);

        impl Server for $name {
            fn is_here() -> bool {
                zookeeper::is_there()
            }
            fn start() -> Self {
                $name($start)
            }
            fn section(&self) -> (&'static str, Value) {
                section(&self.0)
            }
            fn freeze(&self, stop: bool) {
                self.0.iter().for_each(|server| server.signal(if stop { "-STOP" } else { "-CONT" }));
            }
            fn restart(&mut self) {
                self.0.iter_mut().for_each(ZooKeeper::kill);
                self.0.iter_mut().for_each(ZooKeeper::launch_again);
                self.0.iter().for_each(ZooKeeper::wait);
            }
        }
    };
}

server!(
    /// One server.
    Single, vec![ZooKeeper::single()]
);
server!(
    /// Three.
    Ensemble, ZooKeeper::ensemble(3)
);
