//! Consul: a server, and one behind an agent in client mode.

use std::future::Future;

use pyfmt::Value;

use super::consul_server::{self, Consul};

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work))
}

fn section(consul: &Consul) -> (&'static str, Value) {
    ("consul", Value::from_iter([("host", consul.host.as_str())]))
}

/// A server.
pub struct Server(Consul);

impl super::Server for Server {
    fn is_here() -> bool {
        consul_server::program().is_some()
    }
    fn start() -> Self {
        Server(wait(Consul::server(false)).unwrap())
    }
    fn section(&self) -> (&'static str, Value) {
        section(&self.0)
    }
    fn freeze(&self, stop: bool) {
        self.0.signal(if stop { "-STOP" } else { "-CONT" });
    }
    fn restart(&mut self) {
        wait(self.0.restart());
    }
}

/// An agent in client mode; what is frozen is the agent, what is restarted is the server.
pub struct Behind {
    server: Consul,
    agent: Consul,
}

impl super::Server for Behind {
    fn is_here() -> bool {
        consul_server::program().is_some()
    }
    fn start() -> Self {
        let server = wait(Consul::server(false)).unwrap();
        let agent = wait(server.client());
        Behind { server, agent }
    }
    fn section(&self) -> (&'static str, Value) {
        section(&self.agent)
    }
    fn freeze(&self, stop: bool) {
        self.agent.signal(if stop { "-STOP" } else { "-CONT" });
    }
    fn restart(&mut self) {
        wait(self.server.restart());
    }
}
