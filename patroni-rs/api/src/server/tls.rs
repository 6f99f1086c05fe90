//! TLS of the server (surface-api-ctl T6 to T9).

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslVerifyMode, SslVersion,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::conn::linger;
use crate::config::{TlsOptions, VerifyClient};

/// Why there is no TLS context.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    /// OpenSSL refuses it.
    #[error("{0}")]
    OpenSsl(#[from] ErrorStack),
}

/// Makes the context. **Blocks** on reading files.
///
/// # Errors
/// See [`TlsError`].
pub fn context(options: &TlsOptions) -> Result<SslContext, TlsError> {
    let mut builder = SslContextBuilder::new(SslMethod::tls_server())?;
    builder.set_options(
        SslOptions::ALL
            | SslOptions::NO_COMPRESSION
            | SslOptions::CIPHER_SERVER_PREFERENCE
            | SslOptions::NO_RENEGOTIATION,
    );
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_session_id_context(b"patroni")?;
    if let Some(ciphers) = &options.ciphers {
        builder.set_cipher_list(ciphers)?;
    }
    builder.set_certificate_chain_file(&options.certfile)?;
    let keyfile = options.keyfile.as_ref().unwrap_or(&options.certfile);
    let pem = std::fs::read(keyfile).map_err(|e| TlsError::File(keyfile.clone(), e))?;
    let password = options.keyfile_password.clone().unwrap_or_default();
    // The callback stands in front of OpenSSL's own, which would ask at the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |out| {
        let bytes = password.as_bytes();
        let length = bytes.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..length), bytes.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    })?;
    builder.set_private_key(&key)?;
    builder.check_private_key()?;
    if let Some(cafile) = &options.cafile {
        builder.set_ca_file(cafile)?;
    }
    builder.set_verify(match options.verify_client {
        VerifyClient::None => SslVerifyMode::NONE,
        VerifyClient::Optional => SslVerifyMode::PEER,
        VerifyClient::Required => SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
    });
    Ok(builder.build())
}

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
