//! The system's resolver, which tells of names that it does not know: gRPC keeps the reason to itself.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use tower_service::Service;

/// See the module.
#[derive(Clone)]
pub struct Resolver(GaiResolver);

impl Resolver {
    /// The system's.
    pub fn new() -> Resolver {
        Resolver(GaiResolver::new())
    }
}

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<GaiAddrs, io::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.as_str().to_owned();
        let found = self.0.call(name);
        Box::pin(async move {
            found.await.inspect_err(|error| {
                let reason = pyfmt::oserror::resolver(error);
                tracing::warn!(target: "patroni.dcs.etcd", "failed to resolve host {host}: {reason}");
            })
        })
    }
}
