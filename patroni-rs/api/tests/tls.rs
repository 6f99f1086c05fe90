//! TLS, client certificates, reload, the listening address.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::symm::Cipher;
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509Name, X509};
use patroni_api::RestServer;
use pyfmt::Value;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("patroni-api-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// A self-signed CA certificate with an encrypted key.
    fn certificate(&self, name: &str, serial: u32) -> (X509, PKey<Private>) {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut subject = X509Name::builder().unwrap();
        subject.append_entry_by_text("CN", name).unwrap();
        let subject = subject.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(&subject).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let certificate = builder.build();
        let pem = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
        std::fs::write(self.path(&format!("{name}.key")), pem).unwrap();
        std::fs::write(self.path(&format!("{name}.crt")), certificate.to_pem().unwrap()).unwrap();
        (certificate, key)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn section(dir: &Dir, extra: &[(&str, &str)]) -> Value {
    let mut section = Value::from_iter([
        ("listen", "127.0.0.1:0".to_owned()),
        ("certfile", dir.path("server.crt")),
        ("keyfile", dir.path("server.key")),
        ("keyfile_password", "secret".to_owned()),
    ]);
    for (key, value) in extra {
        section.set(key, *value);
    }
    section
}

/// Sends a request; the reply, and the server's serial number.
fn https(
    address: SocketAddr,
    request: &str,
    identity: Option<&(X509, PKey<Private>)>,
    version: SslVersion,
) -> Option<(String, String)> {
    let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    builder.set_min_proto_version(Some(version)).unwrap();
    builder.set_max_proto_version(Some(version)).unwrap();
    if let Some((certificate, key)) = identity {
        builder.set_certificate(certificate).unwrap();
        builder.set_private_key(key).unwrap();
    }
    let mut stream = builder.build().connect("server", TcpStream::connect(address).unwrap()).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let serial =
        stream.ssl().peer_certificate()?.serial_number().to_bn().ok()?.to_dec_str().ok()?.to_string();
    Some((reply, serial))
}

const GET: &str = "GET /liveness HTTP/1.0\r\n\r\n";
const POST: &str = "POST /reload HTTP/1.0\r\n\r\n";

#[test]
fn client_certificates_and_versions() {
    let dir = Dir::new("tls");
    dir.certificate("server", 1);
    let client = dir.certificate("client", 2);
    let stranger = Dir::new("tls-stranger").certificate("client", 3);
    let ca = dir.path("client.crt");
    let get = |mode: &str, request: &str, identity: Option<&(X509, PKey<Private>)>, version: SslVersion| {
        let section = section(&dir, &[("cafile", &ca), ("verify_client", mode)]);
        let server = RestServer::start(&section, common::Fake::new(common::primary())).unwrap();
        assert!(server.connection_string().starts_with("https://"));
        let reply = https(server.local_addr(), request, identity, version).map(|(reply, _)| reply);
        reply.map(|r| format!("{}|{}", r.get(9..12).unwrap_or(""), r.rsplit("\r\n\r\n").next().unwrap_or("")))
    };
    let (new, old) = (SslVersion::TLS1_3, SslVersion::TLS1_2);
    for (mode, request, identity, version, expected) in [
        ("none", GET, None, new, Some("200|")),
        ("none", GET, None, old, Some("200|")),
        ("none", GET, None, SslVersion::TLS1_1, None),
        ("none", POST, None, new, Some("202|reload scheduled")),
        ("bogus", POST, None, new, Some("202|reload scheduled")),
        ("Optional", GET, None, new, Some("200|")),
        ("optional", POST, None, new, Some("403|client certificate required")),
        ("optional", POST, Some(&client), new, Some("202|reload scheduled")),
        ("optional", GET, Some(&stranger), old, None),
        ("required", GET, None, old, None),
        ("required", POST, Some(&client), old, Some("202|reload scheduled")),
    ] {
        assert_eq!(get(mode, request, identity, version).as_deref(), expected, "{mode} {request}");
    }
}

#[test]
fn plain_requests_get_no_answer_and_half_handshakes_delay_nobody() {
    let dir = Dir::new("tls-plain");
    dir.certificate("server", 1);
    let server = RestServer::start(&section(&dir, &[]), common::Fake::new(common::primary())).unwrap();
    let address = server.local_addr();
    assert!(!common::talk(address, GET.as_bytes(), true).starts_with(b"HTTP"));
    let half: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
            stream
        })
        .collect();
    // Others may hold the processor, and then for both servers.
    let quiet = RestServer::start(&section(&dir, &[]), common::Fake::new(common::primary())).unwrap();
    let ask = |address: SocketAddr| {
        let started = std::time::Instant::now();
        assert!(https(address, GET, None, SslVersion::TLS1_3).is_some());
        started.elapsed()
    };
    let (mut times, mut usual): (Vec<_>, Vec<_>) =
        (0..9).map(|_| (ask(address), ask(quiet.local_addr()))).unzip();
    times.sort();
    usual.sort();
    let limit = std::time::Duration::from_millis(100).max(usual[4] * 3);
    assert!(times[4] < limit, "{times:?}, usually {usual:?}");
    drop(half);
}

/// A replaced certificate is used without a reload; one that does not fit changes nothing.
#[test]
fn replaced_files() {
    let dir = Dir::new("replaced");
    dir.certificate("server", 1);
    let server = RestServer::start(&section(&dir, &[]), common::Fake::new(common::primary())).unwrap();
    let serial = || https(server.local_addr(), GET, None, SslVersion::TLS1_3).unwrap().1;
    let wait_for = |wanted: &str| {
        let began = std::time::Instant::now();
        while serial() != wanted {
            assert!(began.elapsed() < std::time::Duration::from_secs(30), "still {}", serial());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    dir.certificate("server", 7);
    wait_for("7");
    let key = std::fs::read(dir.path("server.key")).unwrap();
    std::fs::write(dir.path("server.key"), "no key").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(7));
    assert_eq!(serial(), "7");
    std::fs::write(dir.path("server.key"), key).unwrap();
    dir.certificate("server", 8);
    wait_for("8");
}

#[test]
fn reload() {
    let dir = Dir::new("reload");
    dir.certificate("server", 1);
    let mut server = RestServer::start(&section(&dir, &[]), common::Fake::new(common::primary())).unwrap();
    let serial = |server: &RestServer| https(server.local_addr(), GET, None, SslVersion::TLS1_3).unwrap().1;
    assert_eq!(serial(&server), "1");
    dir.certificate("server", 7);
    assert_eq!(serial(&server), "1");
    server.reload(&section(&dir, &[])).unwrap();
    assert_eq!(serial(&server), "7");
    // A bad one changes nothing.
    std::fs::write(dir.path("server.key"), "garbage").unwrap();
    assert!(server.reload(&section(&dir, &[])).is_err());
    assert_eq!(serial(&server), "7");
    // To plain HTTP, on another port.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let old = server.local_addr();
    server.reload(&Value::from_iter([("listen", format!("127.0.0.1:{port}"))])).unwrap();
    assert_eq!(server.local_addr().port(), port);
    assert_eq!(server.connection_string(), format!("http://127.0.0.1:{port}/patroni"));
    assert_eq!(common::talk(server.local_addr(), GET.as_bytes(), false), b"HTTP/1.0 200 OK\r\n\r\n");
    assert!(TcpStream::connect(old).is_err());
    // The same port on all addresses, then a port that is taken.
    server.reload(&Value::from_iter([("listen", format!("*:{port}"))])).unwrap();
    assert!(server.local_addr().ip().is_unspecified());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("127.0.0.1:{}", taken.local_addr().unwrap().port());
    let blocker = std::net::TcpListener::bind(&taken);
    assert!(server.reload(&Value::from_iter([("listen", taken.as_str())])).is_err() || blocker.is_err());
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    assert_eq!(common::talk(address, GET.as_bytes(), false), b"HTTP/1.0 200 OK\r\n\r\n");
    server.stop();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn allowlist_with_members() {
    let list =
        r#"{"listen": "127.0.0.1:0", "allowlist": ["10.0.0.0/8"], "allowlist_include_members": MEMBERS}"#;
    for (members, reload, failsafe) in [("true", "202", "403"), ("false", "403", "403")] {
        let section = common::value(&list.replace("MEMBERS", members));
        let server = RestServer::start(&section, common::Fake::new(common::primary())).unwrap();
        for (path, expected) in [("reload", reload), ("failsafe", failsafe), ("mpp", "411")] {
            let reply =
                common::talk(server.local_addr(), format!("POST /{path} HTTP/1.0\r\n\r\n").as_bytes(), false);
            assert_eq!(&reply[9..12], expected.as_bytes(), "{members} {path}");
        }
    }
}
