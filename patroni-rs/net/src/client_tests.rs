#![allow(clippy::unwrap_used)]
//! The client against small servers of its own on 127.0.0.1 and ::1.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::{server_context, TlsOptions, VerifyClient};

const SECOND: Duration = Duration::from_secs(1);

/// Answers each connection with the request it got as the body.
async fn echo(host: &str, tls: Option<TlsOptions>) -> u16 {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tls.map(|options| server_context(&options).unwrap());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor {
                    None => answer(tcp).await,
                    Some(acceptor) => {
                        let ssl = openssl::ssl::Ssl::new(&acceptor).unwrap();
                        let mut stream = tokio_openssl::SslStream::new(ssl, tcp).unwrap();
                        if std::pin::Pin::new(&mut stream).accept().await.is_ok() {
                            answer(stream).await;
                        }
                    }
                }
            });
        }
    });
    port
}

async fn answer(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let mut buffer = vec![0; 4096];
    let n = stream.read(&mut buffer).await.unwrap_or(0);
    let request = String::from_utf8_lossy(&buffer[..n]).into_owned();
    let head = if request.starts_with("GET /big") {
        format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1)
    } else {
        "HTTP/1.0 503 Nope\r\nlsn: 5\r\n\r\n".to_owned()
    };
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(request.as_bytes()).await;
    if request.starts_with("GET /big") {
        let chunk = vec![b'x'; MAX_BODY];
        let _ = stream.write_all(&chunk).await;
    }
    let _ = stream.shutdown().await;
}

fn client(options: &ClientOptions) -> HttpClient {
    HttpClient::new(options).unwrap()
}

async fn get(client: &HttpClient, url: &str) -> Result<Response, NetError> {
    client.request("get", url, &[], "", 3 * SECOND).await
}

#[tokio::test]
async fn requests_as_patroni_sends_them() {
    let port = echo("127.0.0.1", None).await;
    let c = client(&ClientOptions { basic_auth: Some("u:p".into()), ..ClientOptions::default() });
    let url = format!("http://127.0.0.1:{port}/failsafe");
    let headers = [("Content-Type", "application/json")];
    let response = c.request("post", &url, &headers, "{}", 3 * SECOND).await.unwrap();
    assert_eq!((response.status, response.header("lsn")), (503, Some("5")));
    let text = response.text().to_lowercase();
    for part in [
        "post /failsafe http/1.1",
        "authorization: basic dtpw",
        "user-agent: patroni/4.1.5 ",
        "content-length: 2",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.ends_with("{}"));
}

#[tokio::test]
async fn failures() {
    let c = client(&ClientOptions::default());
    for bad in ["patroni", "/patroni", "ftp://h/", "http://", "http://h:x/", "http://a b/"] {
        assert!(matches!(get(&c, bad).await, Err(NetError::InvalidRequest(_))), "{bad}");
    }
    assert!(matches!(get(&c, "http://127.0.0.1:1/").await, Err(NetError::Connection(_))));
    let port = echo("127.0.0.1", None).await;
    assert!(matches!(get(&c, &format!("http://127.0.0.1:{port}/big")).await, Err(NetError::TooLong(_))));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let began = Instant::now();
    assert!(matches!(c.request("GET", &url, &[], "", SECOND / 5).await, Err(NetError::Timeout)));
    assert!(began.elapsed() < SECOND);
}

/// A self-signed CA certificate that is the server's certificate too, as many
/// installations have, and an encrypted key.
fn certificate(dir: &Path, name: &str) -> TlsOptions {
    let (cert, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    let run = |args: &[&str]| assert!(Command::new("openssl").args(args).output().unwrap().status.success());
    let (crt, plain) = (cert.to_str().unwrap(), dir.join("plain.key"));
    run(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        &format!("/CN={name}"),
        "-addext",
        "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost",
        "-keyout",
        plain.to_str().unwrap(),
        "-out",
        crt,
    ]);
    run(&[
        "rsa",
        "-aes128",
        "-traditional",
        "-passout",
        "pass:secret",
        "-in",
        plain.to_str().unwrap(),
        "-out",
        key.to_str().unwrap(),
    ]);
    TlsOptions {
        certfile: Some(cert),
        keyfile: Some(key),
        keyfile_password: Some("secret".into()),
        ..TlsOptions::default()
    }
}

fn trusting(cafile: &Option<PathBuf>) -> TlsOptions {
    TlsOptions { cafile: cafile.clone(), ..TlsOptions::default() }
}

#[tokio::test]
async fn tls_and_client_certificates() {
    let dir = tempfile::Builder::new().prefix("patroni-net-").tempdir_in("/tmp").unwrap();
    let server = certificate(dir.path(), "server");
    let own = certificate(dir.path(), "client");
    let ca = server.certfile.clone();
    let with = |tls: TlsOptions| client(&ClientOptions { tls, basic_auth: None });

    let plain = echo("127.0.0.1", Some(server.clone())).await;
    let url = format!("https://127.0.0.1:{plain}/");
    assert_eq!(get(&with(trusting(&ca)), &url).await.unwrap().status, 503);
    assert_eq!(get(&with(trusting(&ca)), &format!("https://localhost:{plain}/")).await.unwrap().status, 503);
    let wrong_name = format!("https://127.0.0.2:{plain}/");
    let wrong = echo("127.0.0.2", Some(server.clone())).await;
    let wrong_name = wrong_name.replace(&plain.to_string(), &wrong.to_string());
    assert!(get(&with(trusting(&ca)), &wrong_name).await.is_err());
    let chain_only = TlsOptions { verify: Verify::ChainOnly, ..trusting(&ca) };
    assert!(get(&with(chain_only), &wrong_name).await.is_ok());
    assert!(get(&with(TlsOptions::default()), &url).await.is_err());
    assert!(get(&with(TlsOptions { verify: Verify::ChainOnly, ..TlsOptions::default() }), &url)
        .await
        .is_err());
    assert!(get(&with(TlsOptions { verify: Verify::Nothing, ..TlsOptions::default() }), &url).await.is_ok());

    let v6 = echo("::1", Some(server.clone())).await;
    assert!(get(&with(trusting(&ca)), &format!("https://[::1]:{v6}/")).await.is_ok());

    let strict = TlsOptions { verify_client: VerifyClient::Required, cafile: own.certfile.clone(), ..server };
    let strict = format!("https://127.0.0.1:{}/", echo("127.0.0.1", Some(strict)).await);
    assert!(get(&with(trusting(&ca)), &strict).await.is_err());
    let ours = with(TlsOptions { cafile: ca.clone(), ..own.clone() });
    for _ in 0..3 {
        assert!(get(&ours, &strict).await.is_ok());
    }

    for (bad, what) in [
        (TlsOptions { keyfile_password: None, ..own.clone() }, "private key"),
        (TlsOptions { keyfile_password: Some("x".into()), ..own.clone() }, "private key"),
        (TlsOptions { ciphers: Some("nonsense".into()), ..own.clone() }, "ciphers"),
        (TlsOptions { cafile: Some("/nonexistent".into()), ..own }, "/nonexistent"),
    ] {
        let error = HttpClient::new(&ClientOptions { tls: bad, basic_auth: None }).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

/// A file that is missing at the start fails requests with TLS alone, and counts as soon as it is there; so does one
/// that replaces another. One that is no certificate leaves the one before in force.
#[tokio::test]
async fn files_that_come_later() {
    let dir = tempfile::Builder::new().prefix("patroni-net-").tempdir_in("/tmp").unwrap();
    let server = certificate(dir.path(), "server");
    let other = certificate(dir.path(), "other");
    let place = dir.path().join("ca.crt");
    let options = ClientOptions { tls: trusting(&Some(place.clone())), basic_auth: None };
    assert!(HttpClient::new(&options).is_err());
    let client = HttpClient::lazy(&options).unwrap();
    let missing = format!("can not read {}: No such file or directory (os error 2)", place.display());
    assert_eq!(client.check_tls().unwrap_err().to_string(), missing);

    let url = format!("https://127.0.0.1:{}/", echo("127.0.0.1", Some(server.clone())).await);
    let plain = format!("http://127.0.0.1:{}/", echo("127.0.0.1", None).await);
    assert!(get(&client, &plain).await.is_ok());
    assert_eq!(get(&client, &url).await.unwrap_err().to_string(), missing);

    let replace = |with: &Path| {
        std::fs::copy(with, dir.path().join("new")).unwrap();
        std::fs::rename(dir.path().join("new"), &place).unwrap();
    };
    replace(server.certfile.as_deref().unwrap());
    assert!(get(&client, &url).await.is_ok());
    replace(other.certfile.as_deref().unwrap());
    assert!(get(&client, &url).await.is_err());
    replace(server.certfile.as_deref().unwrap());
    assert!(get(&client, &url).await.is_ok());
    std::fs::write(&place, "no certificate").unwrap();
    assert!(client.check_tls().is_err());
    assert!(get(&client, &url).await.is_ok());
}

/// As [`certificate`], valid between two times, in days from now.
fn dated(dir: &Path, name: &str, from: i64, to: i64) -> TlsOptions {
    use openssl::asn1::Asn1Time;
    use openssl::pkey::PKey;
    use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
    use openssl::x509::{X509Name, X509};
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let at = |days: i64| Asn1Time::from_unix(now + days * 86_400).unwrap();
    let key = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&at(from)).unwrap();
    builder.set_not_after(&at(to)).unwrap();
    builder.append_extension(BasicConstraints::new().ca().build().unwrap()).unwrap();
    let names =
        SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&key, openssl::hash::MessageDigest::sha256()).unwrap();
    let (certfile, keyfile) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    std::fs::write(&certfile, builder.build().to_pem().unwrap()).unwrap();
    std::fs::write(&keyfile, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    TlsOptions { certfile: Some(certfile), keyfile: Some(keyfile), ..TlsOptions::default() }
}

#[tokio::test]
async fn why_a_certificate_is_refused() {
    let dir = tempfile::Builder::new().prefix("patroni-net-").tempdir_in("/tmp").unwrap();
    for (name, from, to, host, trusted, reason) in [
        ("old", -9, -1, "127.0.0.1", true, "certificate has expired"),
        ("young", 1, 9, "127.0.0.1", true, "certificate is not yet valid"),
        ("named", -1, 9, "127.0.0.2", true, "IP address mismatch"),
        ("named2", -1, 9, "localhost", true, "hostname mismatch"),
        ("unknown", -1, 9, "127.0.0.1", false, "self-signed certificate"),
    ] {
        let server = dated(dir.path(), name, from, to);
        let tls = if trusted { trusting(&server.certfile) } else { TlsOptions::default() };
        let listens = if host == "localhost" { "127.0.0.1" } else { host };
        let url = format!("https://{host}:{}/", echo(listens, Some(server)).await);
        let error = get(&client(&ClientOptions { tls, basic_auth: None }), &url).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{REFUSED_CERTIFICATE}: {reason}"), "{name}");
    }
}
