//! Thousands of clients that do nothing, or next to nothing.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::lab::Result;

/// What the clients of a crowd do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Connect, and nothing more.
    Silent,
    /// Begin a TLS handshake and stop in its middle.
    HalfHandshake,
    /// One byte of a header every second.
    Slow,
    /// Ask, and never read the answer.
    Deaf,
}

/// A crowd that is connected until it is dropped.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// How many of them got a connection.
    pub connected: usize,
}

impl Crowd {
    /// `count` clients of 127.0.0.1:`port`. Those that the kernel keeps waiting for a second, because
    /// nobody accepts, count as not connected, and so does everybody after five of them.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn gather(port: u16, manner: Manner, count: usize) -> Result<Crowd> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut clients = Vec::new();
        let mut refused = 0;
        while clients.len() + refused < count && refused < 5 {
            match TcpStream::connect_timeout(&address, Duration::from_secs(1)).and_then(|s| begin(s, manner))
            {
                Ok(stream) => clients.push(stream),
                Err(_) => refused += 1,
            }
        }
        let (stop, connected) = (Arc::new(AtomicBool::new(false)), clients.len());
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new().spawn(move || {
            while !told.load(Ordering::Relaxed) {
                if manner == Manner::Slow {
                    for stream in &mut clients {
                        // Who was sent away stays away.
                        let _ = stream.write(b"x");
                    }
                }
                for _ in 0..10 {
                    if !told.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        })?;
        Ok(Crowd { stop, thread: Some(thread), connected })
    }
}

fn begin(mut stream: TcpStream, manner: Manner) -> std::io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    let first: &[u8] = match manner {
        Manner::Silent => b"",
        Manner::HalfHandshake => b"\x16\x03\x01\x02\x00\x01",
        Manner::Slow => b"GET /primary HTTP/1.0\r\nX: ",
        Manner::Deaf => b"GET /metrics HTTP/1.0\r\n\r\n",
    };
    stream.write_all(first)?;
    Ok(stream)
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported.
            let _ = thread.join();
        }
    }
}
