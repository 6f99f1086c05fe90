//! Kubernetes: Endpoints, and ConfigMaps. What stops nobody shares one API server, each in a namespace of its own.

use std::sync::{Arc, LazyLock, Mutex};

use pyfmt::Value;

use super::kubernetes_server::{self as server, Kubernetes};

static SHARED: LazyLock<Arc<Mutex<Kubernetes>>> = LazyLock::new(|| Arc::new(Mutex::new(Kubernetes::start())));

/// One, and a namespace in it.
struct Place {
    server: Arc<Mutex<Kubernetes>>,
    namespace: String,
}

impl Place {
    fn new(server: Arc<Mutex<Kubernetes>>) -> Place {
        let namespace = server.lock().unwrap().new_namespace();
        Place { server, namespace }
    }

    fn section(&self, use_endpoints: bool) -> (&'static str, Value) {
        let mut section = self.server.lock().unwrap().section(&self.namespace);
        section.set("use_endpoints", use_endpoints);
        ("kubernetes", section)
    }
}

macro_rules! kind {
    ($(#[$doc:meta])* $name:ident, $use_endpoints:expr) => {
        $(#[$doc])*
        pub struct $name(Place);

        impl super::Server for $name {
            const MEMBERS_STAY: bool = true;
            fn is_here() -> bool {
                server::program().is_some()
            }
            fn start() -> Self {
                $name(Place::new(Arc::clone(&SHARED)))
            }
            fn start_alone() -> Self {
                $name(Place::new(Arc::new(Mutex::new(Kubernetes::start()))))
            }
            fn welcome(&self, name: &str) {
                self.0.server.lock().unwrap().make_pod(&self.0.namespace, name);
            }
            // It is the name of a Pod.
            fn odd_name(&self) -> &'static str {
                "n-1.x"
            }
            fn section(&self) -> (&'static str, Value) {
                self.0.section($use_endpoints)
            }
            fn freeze(&self, stop: bool) {
                self.0.server.lock().unwrap().signal(if stop { "-STOP" } else { "-CONT" });
            }
            fn restart(&mut self) {
                self.0.server.lock().unwrap().restart();
            }
        }
    };
}

kind!(
    /// `use_endpoints: true`
    Endpoints, true
);
kind!(
    /// `use_endpoints: false`
    ConfigMaps, false
);
