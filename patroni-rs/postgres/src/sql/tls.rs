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

/// X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH (x509_vfy.h).
const X509_V_ERR_HOSTNAME_MISMATCH: i32 = 62;
const X509_V_ERR_IP_ADDRESS_MISMATCH: i32 = 64;

/// A handle for one handshake with `host`. Reads key and certificate files,
/// so it belongs on a thread that may block.
pub(super) fn session(params: &ConnParams, mode: SslMode, host: &str) -> Result<Ssl, PgError> {
    let mut context = SslContextBuilder::new(SslMethod::tls()).map_err(failed)?;
    let (lowest, highest) = params.tls_versions()?;
    context.set_min_proto_version(Some(version(lowest))).map_err(failed)?;
    context.set_max_proto_version(highest.map(version)).map_err(failed)?;
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

/// The version `TLSv1.<number>`.
fn version(number: u8) -> SslVersion {
    match number {
        0 => SslVersion::TLS1,
        1 => SslVersion::TLS1_1,
        2 => SslVersion::TLS1_2,
        _ => SslVersion::TLS1_3,
    }
}

fn failed(error: ErrorStack) -> PgError {
    PgError::Connection(format!("SSL error: {}", chain(&error)))
}

/// libpq's words: of OpenSSL's errors the reason of the first.
fn unreadable(what: &str, path: &Path, error: &ErrorStack) -> PgError {
    let reason = error.errors().first().and_then(|e| e.reason()).unwrap_or("no SSL error reported");
    PgError::Connection(format!("{what} file \"{}\": {reason}", path.display()))
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
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        let shown = roots.unwrap_or_else(|| home().join(".postgresql/root.crt"));
        let shown = shown.display();
        return Err(PgError::Connection(format!(
            "root certificate file \"{shown}\" does not exist\nEither provide the file, use the system's trusted \
             roots with sslrootcert=system, or change sslmode to disable server certificate verification."
        )));
    };
    context.set_ca_file(path).map_err(|e| unreadable("could not read root certificate", path, &e))?;
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
        if lookup.load_crl_file(&crl, SslFiletype::PEM).is_err() && directory.is_none() {
            // libpq does without a list that it cannot read.
            return Ok(());
        }
    }
    if let Some(directory) = directory {
        let lookup = store.add_lookup(X509Lookup::hash_dir()).map_err(failed)?;
        let name = directory.to_str().unwrap_or_default();
        lookup
            .add_dir(name, SslFiletype::PEM)
            .map_err(|e| unreadable("could not read CRL", directory, &e))?;
    }
    store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL).map_err(failed)
}

/// The client's own certificate and key.
fn set_certificate(context: &mut SslContextBuilder, params: &ConnParams) -> Result<(), PgError> {
    let Some(cert) = file(params, "sslcert", "postgresql.crt").filter(|path| path.exists()) else {
        return Ok(());
    };
    context
        .set_certificate_chain_file(&cert)
        .map_err(|e| unreadable("could not read certificate", &cert, &e))?;
    let key = params.given("sslkey").map(PathBuf::from).or_else(|| {
        Some(PathBuf::from(std::env::var_os("HOME")?).join(".postgresql").join("postgresql.key"))
    });
    let Some(key) = key else {
        return Err(PgError::Connection("certificate present, but not private key file".to_owned()));
    };
    check_key(&key)?;
    let pem = std::fs::read(&key).map_err(|e| {
        PgError::Connection(format!("could not load private key file \"{}\": {e}", key.display()))
    })?;
    // A passphrase must always be at hand: without one OpenSSL would ask on the terminal.
    let passphrase = params.given("sslpassword").unwrap_or_default();
    let key_pair = PKey::private_key_from_pem_passphrase(&pem, passphrase.as_bytes())
        .map_err(|e| unreadable("could not load private key", &key, &e))?;
    context.set_private_key(&key_pair).map_err(|e| unreadable("could not load private key", &key, &e))
}

/// libpq's words for a server whose certificate is good, but for other names than `host`.
pub(super) fn mismatch(ssl: &SslRef, host: &str) -> Option<String> {
    if !matches!(ssl.verify_result().as_raw(), X509_V_ERR_HOSTNAME_MISMATCH | X509_V_ERR_IP_ADDRESS_MISMATCH)
    {
        return None;
    }
    let certificate = ssl.verified_chain()?.iter().next()?;
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let mut names = Vec::new();
    let mut common_name_counts = true;
    for alternative in certificate.subject_alt_names().iter().flatten() {
        if let Some(name) = alternative.dnsname() {
            common_name_counts &= is_address;
            names.push(name.to_owned());
        } else if let Some(bytes) = alternative.ipaddress() {
            common_name_counts &= !is_address;
            names.push(address_text(bytes));
        }
    }
    if common_name_counts {
        let entry = certificate.subject_name().entries_by_nid(Nid::COMMONNAME).next();
        names.extend(entry.and_then(|entry| entry.data().to_string().ok()));
    }
    let first = names.first()?;
    let others = match names.len() - 1 {
        0 => String::new(),
        1 => " (and 1 other name)".to_owned(),
        more => format!(" (and {more} other names)"),
    };
    Some(format!("server certificate for \"{first}\"{others} does not match host name \"{host}\""))
}

fn address_text(bytes: &[u8]) -> String {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return std::net::IpAddr::from(four).to_string();
    }
    <[u8; 16]>::try_from(bytes).map(|sixteen| std::net::IpAddr::from(sixteen).to_string()).unwrap_or_default()
}

/// libpq uses no key that others may read.
fn check_key(key: &Path) -> Result<(), PgError> {
    use std::os::unix::fs::MetadataExt;
    let shown = key.display();
    let Ok(meta) = std::fs::metadata(key) else {
        let text = format!("certificate present, but not private key file \"{shown}\"");
        return Err(PgError::Connection(text));
    };
    if !meta.is_file() {
        let text = format!("private key file \"{shown}\" is not a regular file");
        return Err(PgError::Connection(text));
    }
    let forbidden = if meta.uid() == 0 { 0o037 } else { 0o077 };
    if meta.mode() & forbidden != 0 {
        return Err(PgError::Connection(format!(
            "private key file \"{shown}\" has group or world access; file must have permissions u=rw (0600) or \
             less if owned by the current user, or permissions u=rw,g=r (0640) or less if owned by root"
        )));
    }
    Ok(())
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
