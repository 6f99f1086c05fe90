//! Certificates for a test cluster, and a client with one of them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use openssl::ssl::{ErrorCode, SslConnector, SslFiletype, SslMethod, SslVerifyMode, SslVersion};

use crate::lab::{host, Result};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes, in `directory`: an authority `ca`, certificates `server`, `next` and `client` of it, `self` and `rogue`
/// of nobody, each as `.pem` with its `.key`; `server.locked.key` is encrypted with `geheim`, and
/// `server.both.pem` has the key inside.
const MAKE: &str = r#"set -e
cd "$1"
root() { openssl req -x509 -newkey rsa:2048 -nodes -keyout $1.key -out $1.pem -days 9 -subj /CN=$2 \
    -addext basicConstraints=critical,CA:TRUE; }
of_ca() { openssl req -newkey rsa:2048 -nodes -keyout $1.key -out $1.csr -subj /CN=$2
    openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -out $1.pem; }
root ca authority; root self localhost; root rogue rogue
of_ca server localhost; of_ca next localhost; of_ca client client
openssl pkcs8 -topk8 -v2 aes-256-cbc -passout pass:geheim -in server.key -out server.locked.key
cat server.pem server.key >server.both.pem
"#;

/// See `MAKE`.
///
/// # Errors
/// There is no `openssl`, or it does not do so.
pub fn certificates(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    let done = Command::new("sh").args(["-c", MAKE, "sh"]).arg(directory).output()?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
    }
    for entry in std::fs::read_dir(directory)? {
        host::give_away(&entry?.path())?;
    }
    Ok(())
}

/// What a client brings to the handshake.
#[derive(Debug, Clone, Copy, Default)]
pub struct Client<'a> {
    /// Its certificate and key: this name with `.pem` and `.key`, in the directory.
    pub certificate: Option<(&'a Path, &'a str)>,
    /// The only version it speaks.
    pub version: Option<SslVersion>,
    /// Its ciphers up to TLS 1.2.
    pub ciphers: Option<&'a str>,
}

/// Everything that 127.0.0.1:`port` sends after `request`, behind a note of version, cipher and the
/// certificate's serial number where there was a handshake; or why there was none. What a client is told
/// of a refused handshake depends on who closes first, so it is only told that there was none.
///
/// # Errors
/// No connection, or no certificate.
pub fn ask(port: u16, client: Option<Client<'_>>, request: &str) -> Result<String> {
    let mut tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let Some(client) = client else {
        tcp.write_all(request.as_bytes())?;
        return Ok(to_the_end(&mut tcp));
    };
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_min_proto_version(client.version)?;
    builder.set_max_proto_version(client.version)?;
    if let Some(ciphers) = client.ciphers {
        builder.set_cipher_list(ciphers)?;
    }
    if let Some((directory, name)) = client.certificate {
        builder.set_certificate_file(directory.join(format!("{name}.pem")), SslFiletype::PEM)?;
        builder.set_private_key_file(directory.join(format!("{name}.key")), SslFiletype::PEM)?;
    }
    let Ok(mut stream) = builder.build().configure()?.verify_hostname(false).connect("localhost", tcp) else {
        return Ok("no handshake".into());
    };
    let (version, cipher) = (stream.ssl().version_str(), stream.ssl().current_cipher());
    let cipher = cipher.filter(|_| version == "TLSv1.2").map_or("", |cipher| cipher.name()).to_owned();
    let serial = match stream.ssl().peer_certificate() {
        Some(certificate) => certificate.serial_number().to_bn()?.to_hex_str()?.to_string(),
        None => String::new(),
    };
    let note = format!("[{version} {cipher} {serial}] ");
    if stream.ssl_write(request.as_bytes()).is_err_and(|e| e.code() != ErrorCode::ZERO_RETURN) {
        return Ok("no handshake".into());
    }
    let answer = to_the_end(&mut stream);
    // In TLS 1.3 the client hears only here that its certificate was refused.
    Ok(if answer.is_empty() { "no handshake".into() } else { note + &answer })
}

/// A connection that breaks counts as ended.
fn to_the_end(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
