//! HAProxy in front of a test cluster, with the configuration of Patroni's documentation.

use std::fmt::Write as _;
use std::path::Path;

use super::{host, process, Cluster, Result};

/// Where it listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Of the member that takes writes.
    pub primary: u16,
    /// Of the replicas.
    pub replicas: u16,
    /// Of its page of statistics.
    pub statistics: u16,
}

/// The configuration for the members of `lab`.
fn configuration(lab: &Cluster, ports: Ports) -> String {
    let mut text = format!(
        "global\n    maxconn 100\ndefaults\n    log global\n    mode tcp\n    retries 2\n    timeout client 30m\n    timeout connect 4s\n    timeout server 30m\n    timeout check 5s\nlisten stats\n    mode http\n    bind 127.0.0.1:{}\n    stats enable\n    stats uri /\n",
        ports.statistics
    );
    for (name, path, port) in [("primary", "/", ports.primary), ("replicas", "/replica", ports.replicas)] {
        let _ = write!(
            text,
            "listen {name}\n    bind 127.0.0.1:{port}\n    option httpchk OPTIONS {path}\n    http-check expect status 200\n    default-server inter 1s fall 3 rise 2 on-marked-down shutdown-sessions\n"
        );
        for member in &lab.members {
            let _ = writeln!(
                text,
                "    server {} 127.0.0.1:{} maxconn 100 check port {}",
                member.name, member.postgres, member.rest
            );
        }
    }
    text
}

/// Starts it for the members that there are; it ends with the test cluster.
///
/// # Errors
/// It is not installed, or no port is free.
pub fn start(lab: &Cluster) -> Result<Ports> {
    let ports =
        Ports { primary: host::free_port()?, replicas: host::free_port()?, statistics: host::free_port()? };
    let file = lab.directory.join("haproxy.cfg");
    std::fs::write(&file, configuration(lab, ports))?;
    let mut command = process::command(Path::new("/usr/sbin/haproxy"), &lab.directory, &lab.bin())?;
    command.arg("-f").arg(&file).arg("-db");
    process::daemon(command, &lab.directory.join("haproxy.log"))?;
    Ok(ports)
}
