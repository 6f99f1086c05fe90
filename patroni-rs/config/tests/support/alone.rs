//! Tests that name well-known ports run where nobody else is: see `fixtures/config/alone`.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// In the environment of the test that runs alone.
const INSIDE: &str = "PATRONI_TEST_ALONE";

/// Ports that configurations name.
const WELL_KNOWN: [u16; 8] = [2181, 2379, 5432, 8008, 8181, 8500, 8501, 6443];

/// Is this the place to run the test `name` of this program? If not, it has been run in the right one, and passed.
/// Without namespaces it is run here, unless somebody listens: then nothing can be said, and it is skipped.
pub fn is_here(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let alone = PathBuf::from(env!("CARGO_MANIFEST_DIR")).ancestors().find_map(|dir| {
        let script = dir.join("fixtures/config/alone");
        script.exists().then_some(script)
    });
    let mut test = Command::new(alone.unwrap());
    test.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    let ended = test.output().unwrap();
    if ended.status.code() != Some(125) {
        let text =
            [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(ended.status.success(), "{text}");
        assert!(text.contains("1 passed"), "{name} is no test: {text}");
        return false;
    }
    let taken = WELL_KNOWN.into_iter().find(|port| {
        let address = SocketAddr::from(([127, 0, 0, 1], *port));
        TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
    });
    if let Some(port) = taken {
        eprintln!("{name}: skipped, there are no network namespaces and somebody listens on port {port}");
    }
    taken.is_none()
}
