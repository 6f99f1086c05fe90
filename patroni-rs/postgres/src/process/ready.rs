//! Does the server accept connections? The question that `pg_isready` asks, put
//! in-process: one start-up packet, one byte of the answer.
//!
//! Source: PostgreSQL's "Frontend/Backend Protocol", start-up; the meaning of the
//! answers is that of `PQping`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::cancellable::Cancellable;
use super::postmaster::{PidFile, Postmaster};
use crate::files::DEFAULT_SOCKET_DIRS;

/// Time between two probes of a starting server.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);
/// How long one address may take to answer (`pg_isready` waits 3 s).
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Protocol 3.0.
const PROTOCOL: u32 = 0x0003_0000;
/// SQLSTATE `cannot_connect_now`: starting up, shutting down, in recovery.
const CANNOT_CONNECT_NOW: &[u8] = b"C57P03\0";

/// The answer, with `pg_isready`'s exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// 0: the server accepts connections.
    Running = 0,
    /// 1: the server rejects connections for now.
    Reject = 1,
    /// 2: no answer.
    NoResponse = 2,
}

/// Where and as whom to ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PingTarget {
    /// Hosts separated by commas: a name, an address, or an absolute path of a
    /// socket directory. `None`: the directory in `postmaster.pid`, or libpq's default.
    pub host: Option<String>,
    /// Port, also part of the socket's name.
    pub port: u16,
    /// User name; it need not exist.
    pub user: Option<String>,
    /// Database name.
    pub dbname: String,
    /// The data directory, to find the socket when there is no host.
    pub data_dir: PathBuf,
}

/// The start-up packet.
fn startup_packet(user: &str, dbname: &str) -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    for text in ["user", user, "database", dbname, "application_name", "pg_isready"] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut packet = u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    packet.append(&mut body);
    packet
}

/// Sends the packet and judges the answer: anything that is not
/// `cannot_connect_now` means that the server would have talked to us.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, packet: &[u8]) -> std::io::Result<Ready> {
    stream.write_all(packet).await?;
    let mut head = [0u8; 5];
    stream.read_exact(&mut head).await?;
    let [kind, length @ ..] = head;
    if kind != b'E' {
        return Ok(Ready::Running);
    }
    let length = u32::from_be_bytes(length).saturating_sub(4).min(30_000) as usize;
    let mut body = vec![0u8; length];
    stream.read_exact(&mut body).await?;
    let rejected = body.windows(CANNOT_CONNECT_NOW.len()).any(|w| w == CANNOT_CONNECT_NOW);
    Ok(if rejected { Ready::Reject } else { Ready::Running })
}

/// Does this failure say nothing about the server?
fn is_ours(error: &std::io::Error) -> bool {
    let ours = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|code| ours.contains(&code))
}

async fn ask_host(host: &str, port: u16, packet: &[u8]) -> std::io::Result<Ready> {
    if host.starts_with('/') {
        let socket = Path::new(host).join(format!(".s.PGSQL.{port}"));
        return ask(UnixStream::connect(socket).await?, packet).await;
    }
    ask(TcpStream::connect((host, port)).await?, packet).await
}

impl PingTarget {
    /// The hosts to try, in order.
    async fn hosts(&self) -> Vec<String> {
        if let Some(host) = self.host.as_deref().filter(|h| !h.is_empty()) {
            return host.split(',').map(|h| h.trim().to_owned()).collect();
        }
        let dir = self.data_dir.clone();
        let file = tokio::task::spawn_blocking(move || PidFile::read(&dir)).await.ok().flatten();
        let own = file.map(|f| f.socket_dir).filter(|d| d.starts_with('/'));
        own.into_iter().chain(DEFAULT_SOCKET_DIRS.map(str::to_owned)).collect()
    }

    /// Asks once.
    pub async fn ping(&self) -> Ready {
        self.ask_all().await.0
    }

    /// Are new connections refused? Not known, and so not, where it is we who have no descriptor or memory to ask with.
    pub async fn refuses(&self) -> bool {
        matches!(self.ask_all().await, (Ready::Reject, _) | (Ready::NoResponse, false))
    }

    /// The first answer; and whether one of them could not be asked for because of us.
    async fn ask_all(&self) -> (Ready, bool) {
        let user = self.user.as_deref().unwrap_or("postgres");
        let packet = startup_packet(user, &self.dbname);
        let mut unable = false;
        for host in self.hosts().await {
            match tokio::time::timeout(PROBE_TIMEOUT, ask_host(&host, self.port, &packet)).await {
                Ok(Ok(ready)) => return (ready, unable),
                Ok(Err(e)) => unable |= is_ours(&e),
                Err(_) => {}
            }
        }
        (Ready::NoResponse, unable)
    }
}

/// What came of waiting for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The server gave this answer.
    Answered(Ready),
    /// The postmaster has ended.
    Exited,
    /// The time was over.
    TimedOut,
    /// The job was cancelled.
    Cancelled,
}

/// Probes every 10 ms until an answer is wanted by `enough`, the postmaster ends
/// (seen at once), the deadline passes, or the job is cancelled.
pub async fn wait_until(
    target: &PingTarget,
    postmaster: &Postmaster,
    deadline: Option<Instant>,
    cancel: &Cancellable,
    enough: impl Fn(Ready) -> bool,
) -> Waited {
    let probes = async {
        loop {
            let answer = target.ping().await;
            if enough(answer) {
                return answer;
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    };
    let far = Instant::now() + Duration::from_secs(86_400);
    tokio::select! {
        biased;
        () = cancel.cancelled() => Waited::Cancelled,
        () = postmaster.process.wait_exit() => Waited::Exited,
        answer = probes => Waited::Answered(answer),
        () = tokio::time::sleep_until(deadline.unwrap_or(far)), if deadline.is_some() => Waited::TimedOut,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::net::TcpListener;

    async fn answer(reply: &'static [u8]) -> Ready {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut length = [0u8; 4];
            stream.read_exact(&mut length).await.unwrap();
            let mut body = vec![0u8; u32::from_be_bytes(length) as usize - 4];
            stream.read_exact(&mut body).await.unwrap();
            assert!(body.ends_with(b"\0\0"));
            stream.write_all(reply).await.unwrap();
        };
        let target = PingTarget { host: Some("127.0.0.1".into()), port, ..Default::default() };
        tokio::join!(target.ping(), server).0
    }

    #[tokio::test]
    async fn answers_are_judged_as_pqping_does() {
        assert_eq!(answer(b"R\0\0\0\x08\0\0\0\0").await, Ready::Running);
        assert_eq!(answer(b"E\0\0\0\x13SFATAL\0C57P03\0\0").await, Ready::Reject);
        assert_eq!(answer(b"E\0\0\0\x13SFATAL\0C28000\0\0").await, Ready::Running);
        assert_eq!(answer(b"").await, Ready::NoResponse);
        let nobody = PingTarget { host: Some("127.0.0.1".into()), port: 1, ..Default::default() };
        assert_eq!(nobody.ping().await, Ready::NoResponse);
        assert!(nobody.refuses().await);
        for (code, ours) in [(libc::EMFILE, true), (libc::ENFILE, true), (libc::ECONNREFUSED, false)] {
            assert_eq!(is_ours(&std::io::Error::from_raw_os_error(code)), ours);
        }
    }
}
