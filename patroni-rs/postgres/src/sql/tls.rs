//! TLS as libpq does it (PostgreSQL documentation 34.19), through OpenSSL.

use std::path::{Path, PathBuf};

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{Ssl, SslContextBuilder, SslFiletype, SslMethod, SslRef, SslVerifyMode, SslVersion};
use openssl::x509::store::X509Lookup;
use openssl::x509::verify::X509VerifyFlags;

use super::error::{chain, PgError};
use super::params::{ConnParams, SslMode};

/// A handle for one handshake with `host`. Reads key and certificate files,
/// so it belongs on a thread that may block.
pub(super) fn session(params: &ConnParams, mode: SslMode, host: &str) -> Result<Ssl, PgError> {
    let mut context = SslContextBuilder::new(SslMethod::tls()).map_err(failed)?;
    context.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(failed)?;
    let mode = set_roots(&mut context, params, mode)?;
    set_certificate(&mut context, params)?;
    let mut ssl = Ssl::new(&context.build()).map_err(failed)?;
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    if !is_address && !host.is_empty() && params.given("sslsni") != Some("0") {
        ssl.set_hostname(host).map_err(failed)?;
    }
    if mode == SslMode::VerifyFull {
        match host.parse() {
            Ok(ip) => ssl.param_mut().set_ip(ip).map_err(failed)?,
            Err(_) => ssl.param_mut().set_host(host).map_err(failed)?,
        }
    }
    Ok(ssl)
}

fn failed(error: ErrorStack) -> PgError {
    PgError::Connection(format!("SSL error: {}", chain(&error)))
}

fn unreadable(what: &str, path: &Path, error: &ErrorStack) -> PgError {
    PgError::Connection(format!("could not read {what} file \"{}\": {}", path.display(), chain(error)))
}

/// The file of a keyword: the one given, or libpq's default if it is there.
fn file(params: &ConnParams, keyword: &str, default: &str) -> Option<PathBuf> {
    if let Some(path) = params.given(keyword) {
        return Some(PathBuf::from(path));
    }
    let path = PathBuf::from(std::env::var_os("HOME")?).join(".postgresql").join(default);
    path.exists().then_some(path)
}

/// Certificates to trust, and how much to verify. With root certificates at
/// hand, `require` verifies as `verify-ca` does.
fn set_roots(
    context: &mut SslContextBuilder,
    params: &ConnParams,
    mode: SslMode,
) -> Result<SslMode, PgError> {
    if params.given("sslrootcert") == Some("system") {
        context.set_default_verify_paths().map_err(failed)?;
        context.set_verify(SslVerifyMode::PEER);
        return Ok(SslMode::VerifyFull);
    }
    let roots = file(params, "sslrootcert", "root.crt");
    let existing = roots.as_deref().filter(|path| path.exists());
    let Some(path) = existing else {
        if mode < SslMode::VerifyCa {
            context.set_verify(SslVerifyMode::NONE);
            return Ok(mode);
        }
        let shown = roots.map_or_else(|| "~/.postgresql/root.crt".to_owned(), |p| p.display().to_string());
        return Err(PgError::Connection(format!(
            "root certificate file \"{shown}\" does not exist\nEither provide the file, use the system's trusted \
             roots with sslrootcert=system, or change sslmode to disable server certificate verification."
        )));
    };
    context.set_ca_file(path).map_err(|e| unreadable("root certificate", path, &e))?;
    set_revoked(context, params)?;
    context.set_verify(SslVerifyMode::PEER);
    Ok(if mode < SslMode::VerifyCa { SslMode::VerifyCa } else { mode })
}

/// Certificates that were revoked: a file, and a directory by hash.
fn set_revoked(context: &mut SslContextBuilder, params: &ConnParams) -> Result<(), PgError> {
    let crl = file(params, "sslcrl", "root.crl").filter(|path| path.exists());
    let directory = params.given("sslcrldir").map(Path::new);
    if crl.is_none() && directory.is_none() {
        return Ok(());
    }
    let store = context.cert_store_mut();
    if let Some(crl) = crl {
        let lookup = store.add_lookup(X509Lookup::file()).map_err(failed)?;
        lookup.load_crl_file(&crl, SslFiletype::PEM).map_err(|e| unreadable("CRL", &crl, &e))?;
    }
    if let Some(directory) = directory {
        let lookup = store.add_lookup(X509Lookup::hash_dir()).map_err(failed)?;
        let name = directory.to_str().unwrap_or_default();
        lookup.add_dir(name, SslFiletype::PEM).map_err(|e| unreadable("CRL", directory, &e))?;
    }
    store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL).map_err(failed)
}

/// The client's own certificate and key.
fn set_certificate(context: &mut SslContextBuilder, params: &ConnParams) -> Result<(), PgError> {
    let Some(cert) = file(params, "sslcert", "postgresql.crt").filter(|path| path.exists()) else {
        return Ok(());
    };
    context.set_certificate_chain_file(&cert).map_err(|e| unreadable("certificate", &cert, &e))?;
    let Some(key) = file(params, "sslkey", "postgresql.key") else {
        return Err(PgError::Connection("certificate present, but not private key file".to_owned()));
    };
    let pem = std::fs::read(&key).map_err(|e| {
        PgError::Connection(format!("could not load private key file \"{}\": {e}", key.display()))
    })?;
    // A passphrase must always be at hand: without one OpenSSL would ask on the terminal.
    let passphrase = params.given("sslpassword").unwrap_or_default();
    let key_pair = PKey::private_key_from_pem_passphrase(&pem, passphrase.as_bytes())
        .map_err(|e| unreadable("private key", &key, &e))?;
    context.set_private_key(&key_pair).map_err(|e| unreadable("private key", &key, &e))
}

/// The `tls-server-end-point` channel binding (RFC 5929): a hash of the
/// server's certificate.
pub(super) fn end_point(ssl: &SslRef) -> Option<Vec<u8>> {
    let certificate = ssl.peer_certificate()?;
    let digest = certificate.signature_algorithm().object().nid().signature_algorithms()?.digest;
    let digest = match digest {
        Nid::MD5 | Nid::SHA1 => MessageDigest::sha256(),
        nid => MessageDigest::from_nid(nid)?,
    };
    certificate.digest(digest).ok().map(|hash| hash.to_vec())
}
