//! The one place where OpenSSL contexts are made.

use std::path::{Path, PathBuf};

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    SslConnector, SslConnectorBuilder, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslMode,
    SslOptions, SslVerifyMode, SslVersion,
};
use openssl::x509::store::X509StoreBuilder;

use crate::NetError;

/// How far a client believes a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Chain and host name.
    #[default]
    Full,
    /// The chain only.
    ChainOnly,
    /// Not at all.
    Nothing,
}

/// `restapi.verify_client`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyClient {
    /// No certificate is asked for.
    #[default]
    None,
    /// Asked for, and checked if there is one.
    Optional,
    /// No connection without a valid one.
    Required,
}

impl VerifyClient {
    /// Reads the option, already in lower case; None for a bad value.
    pub fn parse(text: &str) -> Option<VerifyClient> {
        match text {
            "none" => Some(VerifyClient::None),
            "optional" => Some(VerifyClient::Optional),
            "required" => Some(VerifyClient::Required),
            _ => None,
        }
    }
}

/// TLS options of a client or a server. Files are PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Own certificate with its chain, and with its key if there is no `keyfile`.
    pub certfile: Option<PathBuf>,
    /// Own private key.
    pub keyfile: Option<PathBuf>,
    /// Password of the private key.
    pub keyfile_password: Option<String>,
    /// Trusted authorities; a client trusts the system's without it.
    pub cafile: Option<PathBuf>,
    /// OpenSSL cipher string for TLS up to 1.2.
    pub ciphers: Option<String>,
    /// For a client.
    pub verify: Verify,
    /// For a server.
    pub verify_client: VerifyClient,
}

/// Shows everything but the password.
impl std::fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsOptions")
            .field("certfile", &self.certfile)
            .field("keyfile", &self.keyfile)
            .field("cafile", &self.cafile)
            .field("ciphers", &self.ciphers)
            .field("verify", &self.verify)
            .field("verify_client", &self.verify_client)
            .finish_non_exhaustive()
    }
}

impl TlsOptions {
    /// The files as a message names them.
    pub fn files(&self) -> String {
        let files = [("certificate", &self.certfile), ("key", &self.keyfile), ("CA", &self.cafile)];
        let set =
            files.into_iter().filter_map(|(what, path)| Some(format!("{what} {}", path.as_ref()?.display())));
        set.collect::<Vec<_>>().join(", ")
    }
}

fn bad(what: &'static str) -> impl Fn(ErrorStack) -> NetError {
    move |source| NetError::Tls { what, source }
}

/// A client context with these options. Reads files, so it blocks for a moment.
///
/// # Errors
/// A file cannot be read or is not what it should be.
pub fn client_builder(options: &TlsOptions) -> Result<SslConnectorBuilder, NetError> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(bad("library"))?;
    configure_client(&mut builder, options)?;
    Ok(builder)
}

/// Applies the options to a client context. [`Verify::ChainOnly`] has to be set for
/// each connection as well, by `verify_hostname`. Reads files, so it blocks for a moment.
///
/// # Errors
/// A file cannot be read or is not what it should be.
pub fn configure_client(builder: &mut SslConnectorBuilder, options: &TlsOptions) -> Result<(), NetError> {
    load_own_certificate(builder, options)?;
    if let Some(cafile) = &options.cafile {
        // With an authority of its own, a client does not trust those of the system.
        let store = X509StoreBuilder::new().map_err(bad("library"))?.build();
        builder.set_cert_store(store);
        builder.set_ca_file(readable(cafile)?).map_err(bad("CA file"))?;
    }
    if let Some(ciphers) = &options.ciphers {
        builder.set_cipher_list(ciphers).map_err(bad("ciphers"))?;
    }
    if options.verify == Verify::Nothing {
        builder.set_verify(SslVerifyMode::NONE);
    }
    Ok(())
}

/// A server context with these options, TLS 1.2 and later, as Python's
/// `ssl.create_default_context(CLIENT_AUTH)` makes it: OpenSSL's own ciphers unless some
/// are given, and no authorities but those of `cafile` (surface-api-ctl T6, T8). Reads
/// files, so it blocks for a moment.
///
/// # Errors
/// A file cannot be read or is not what it should be; there is no certificate.
pub fn server_context(options: &TlsOptions) -> Result<SslContext, NetError> {
    let mut builder = SslContextBuilder::new(SslMethod::tls_server()).map_err(bad("library"))?;
    builder.set_options(
        SslOptions::ALL
            | SslOptions::NO_COMPRESSION
            | SslOptions::CIPHER_SERVER_PREFERENCE
            | SslOptions::NO_RENEGOTIATION,
    );
    // An idle connection holds no buffers.
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(bad("library"))?;
    if let Some(ciphers) = &options.ciphers {
        builder.set_cipher_list(ciphers).map_err(bad("ciphers"))?;
    }
    load_own_certificate(&mut builder, options)?;
    if let Some(cafile) = &options.cafile {
        builder.set_ca_file(readable(cafile)?).map_err(bad("CA file"))?;
    }
    builder.set_verify(match options.verify_client {
        VerifyClient::None => SslVerifyMode::NONE,
        VerifyClient::Optional => SslVerifyMode::PEER,
        VerifyClient::Required => SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
    });
    // Without it OpenSSL refuses to resume sessions when client certificates are checked.
    builder.set_session_id_context(b"patroni").map_err(bad("library"))?;
    Ok(builder.build())
}

fn load_own_certificate(builder: &mut SslContextBuilder, options: &TlsOptions) -> Result<(), NetError> {
    let Some(certfile) = &options.certfile else { return Ok(()) };
    builder.set_certificate_chain_file(readable(certfile)?).map_err(bad("certificate"))?;
    let keyfile = options.keyfile.as_ref().unwrap_or(certfile);
    if options.keyfile_password.is_none() && !is_encrypted(keyfile)? {
        builder.set_private_key_file(keyfile, SslFiletype::PEM).map_err(bad("private key"))?;
    } else {
        let key = private_key(keyfile, options.keyfile_password.as_deref())?;
        builder.set_private_key(&key).map_err(bad("private key"))?;
    }
    builder.check_private_key().map_err(bad("private key"))
}

fn read(path: &Path) -> Result<Vec<u8>, NetError> {
    std::fs::read(path).map_err(|source| NetError::File { path: path.to_owned(), source })
}

/// OpenSSL's own errors do not name the file.
fn readable(path: &Path) -> Result<&Path, NetError> {
    std::fs::File::open(path).map(|_| path).map_err(|source| NetError::File { path: path.to_owned(), source })
}

fn is_encrypted(path: &Path) -> Result<bool, NetError> {
    Ok(read(path)?.windows(9).any(|text| text == b"ENCRYPTED"))
}

/// Reads a key; OpenSSL would ask at the terminal for a password it lacks.
fn private_key(path: &Path, password: Option<&str>) -> Result<PKey<Private>, NetError> {
    let pem = read(path)?;
    let password = password.unwrap_or_default().as_bytes();
    PKey::private_key_from_pem_callback(&pem, |buffer| {
        let target = buffer.get_mut(..password.len()).ok_or_else(ErrorStack::get)?;
        target.copy_from_slice(password);
        Ok(password.len())
    })
    .map_err(bad("private key"))
}
