//! Stands before an agent, and swallows answers: what was asked is done, and the asker does not hear of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// A proxy for requests without `Connection: close`; ends with the test.
pub struct Proxy {
    /// `127.0.0.1:port`
    pub host: String,
    swallow: Arc<AtomicUsize>,
}

impl Proxy {
    /// In front of `host:port`.
    pub fn before(agent: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let swallow = Arc::new(AtomicUsize::new(0));
        let (agent, counter) = (agent.to_owned(), Arc::clone(&swallow));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (agent, counter) = (agent.clone(), Arc::clone(&counter));
                std::thread::spawn(move || serve(client, &agent, &counter));
            }
        });
        Proxy { host, swallow }
    }

    /// The next so many answers to what is no GET are swallowed, and their connections closed.
    pub fn swallow(&self, answers: usize) {
        self.swallow.store(answers, Ordering::SeqCst);
    }
}

/// Small requests and answers come in one piece each, nearly always; two are waited for where they do not.
fn serve(mut client: TcpStream, agent: &str, swallow: &AtomicUsize) -> Option<()> {
    let mut server = TcpStream::connect(agent).ok()?;
    let mut buffer = [0; 65536];
    loop {
        let n = client.read(&mut buffer).ok().filter(|n| *n > 0)?;
        let writes = !buffer.starts_with(b"GET");
        server.write_all(&buffer[..n]).ok()?;
        std::thread::sleep(Duration::from_millis(20));
        client.set_nonblocking(true).ok()?;
        if let Ok(n) = client.read(&mut buffer) {
            server.write_all(&buffer[..n]).ok()?;
        }
        client.set_nonblocking(false).ok()?;
        let n = server.read(&mut buffer).ok().filter(|n| *n > 0)?;
        if writes && swallow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return None;
        }
        client.write_all(&buffer[..n]).ok()?;
    }
}
