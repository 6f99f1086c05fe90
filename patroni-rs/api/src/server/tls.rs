//! TLS of the server (surface-api-ctl T6 to T10): the handshake, and a look at the
//! files of the context, whose making is [`patroni_net::server_context`]'s.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use openssl::ssl::{Ssl, SslContext};
use patroni_net::TlsOptions;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::conn::linger;
use super::link::Session;

/// What tells one state of the files of a context from another: device, inode, size
/// and time of change of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFingerprint(Vec<Option<FileState>>);

type FileState = (u64, u64, u64, i64, i64);

impl FileFingerprint {
    /// **Blocks** on the file system. A missing file has a state, too.
    pub fn of(options: &TlsOptions) -> FileFingerprint {
        let state = |path: &Path| {
            let data = std::fs::metadata(path).ok()?;
            Some((data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
        };
        let files = [&options.certfile, &options.keyfile, &options.cafile];
        FileFingerprint(files.into_iter().flatten().map(|path| state(path)).collect())
    }
}

impl Session for SslStream<TcpStream> {}

/// Shakes hands. True beside the stream: the client showed a verified certificate.
///
/// # Errors
/// Text for the log.
pub async fn accept(context: &SslContext, tcp: TcpStream) -> Result<(SslStream<TcpStream>, bool), String> {
    // Nothing is allocated for a client that says nothing.
    tcp.readable().await.map_err(|e| e.to_string())?;
    let ssl = Ssl::new(context).map_err(|e| e.to_string())?;
    let mut stream = SslStream::new(ssl, tcp).map_err(|e| e.to_string())?;
    if let Err(error) = std::pin::Pin::new(&mut stream).accept().await {
        // A reset would take our alert from the client before it has read it.
        let _ = stream.get_mut().shutdown().await;
        linger(stream.get_mut()).await;
        return Err(error.to_string());
    }
    let verified = stream.ssl().peer_certificate().is_some();
    Ok((stream, verified))
}
