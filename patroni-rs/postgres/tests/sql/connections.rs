//! Logging in, TLS, timeouts, the pool, and the replication protocol.

use std::process::Command;
use std::time::{Duration, Instant};

use patroni_postgres::sql::{ConnParams, Connection, PgError, Pool, ReplicationClient, Session};

use crate::server::{versions, Server};

const SECOND: Duration = Duration::from_secs(1);

/// A CA, a certificate for `localhost`, and one for a client, made by openssl.
fn certificates(server: &Server) {
    let script = "set -e; cd $1
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.crt 2>/dev/null
        for n in localhost postgres; do
          openssl req -newkey rsa:2048 -nodes -subj /CN=$n -keyout $n.key -out $n.csr 2>/dev/null
          openssl x509 -req -in $n.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out $n.crt 2>/dev/null
        done
        openssl rsa -aes256 -passout pass:keypass -in postgres.key -out postgres.enc.key 2>/dev/null
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout other.key -out other.crt 2>/dev/null
        chmod 600 *.key; chown postgres *.key *.crt; chmod 755 $1";
    let base = server.base().to_str().unwrap();
    assert!(Command::new("bash").args(["-c", script, "-", base]).status().unwrap().success());
}

async fn ssl_in_use(params: &ConnParams) -> Result<bool, PgError> {
    let session = Session::connect(params).await?;
    let rows = session.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", SECOND).await?;
    Ok(rows.first().unwrap().is_true(0))
}

#[tokio::test]
async fn tls_modes_are_libpqs() {
    for (_, bin) in versions() {
        let program = std::fs::read(format!("{bin}/postgres")).unwrap();
        if !program.windows(11).any(|w| w == b"SSL_CTX_new") {
            eprintln!("{bin} is built without OpenSSL; left out");
            continue;
        }
        let server = Server::primary(bin, "");
        certificates(&server);
        let base = server.base().display();
        server.configure(&format!(
            "ssl = on\nssl_cert_file = '{base}/localhost.crt'\nssl_key_file = '{base}/localhost.key'\n\
             ssl_ca_file = '{base}/ca.crt'"
        ));
        let hba =
            "hostssl all postgres 127.0.0.1/32 scram-sha-256\nhostssl all cert 127.0.0.1/32 cert map=m\n\
                   hostssl replication postgres 127.0.0.1/32 scram-sha-256\nlocal all all trust\n\
                   hostnossl all plain 127.0.0.1/32 trust\n";
        std::fs::write(server.data.join("pg_hba.conf"), hba).unwrap();
        std::fs::write(server.data.join("pg_ident.conf"), "m postgres cert\n").unwrap();
        server.ctl(&["restart", "-m", "fast"]);
        let admin = Session::connect(&server.socket()).await.unwrap();
        admin.query("CREATE ROLE cert LOGIN; CREATE ROLE plain LOGIN", SECOND).await.unwrap();

        let tcp = server.tcp();
        let ca = format!("{base}/ca.crt");
        let other = format!("{base}/other.crt");
        let with = |pairs: &[(&str, &str)]| pairs.iter().fold(tcp.clone(), |p, (k, v)| p.with(k, *v));
        let named =
            |pairs: &[(&str, &str)]| with(pairs).with("host", "localhost").with("hostaddr", "127.0.0.1");
        for (params, expected) in [
            (with(&[]), Some(true)),
            (with(&[("sslmode", "disable")]), None),
            (with(&[("sslmode", "allow")]), Some(true)),
            (with(&[("sslmode", "require")]), Some(true)),
            (with(&[("sslmode", "require"), ("channel_binding", "require")]), Some(true)),
            (with(&[("sslmode", "require"), ("sslrootcert", &other)]), None),
            (with(&[("sslmode", "verify-ca"), ("sslrootcert", &ca)]), Some(true)),
            (with(&[("sslmode", "verify-ca"), ("sslrootcert", "/nonexistent")]), None),
            (with(&[("sslmode", "verify-full"), ("sslrootcert", &ca)]), None),
            (named(&[("sslmode", "verify-full"), ("sslrootcert", &ca)]), Some(true)),
            (with(&[("user", "plain")]), Some(false)),
            (with(&[("user", "plain"), ("sslmode", "require")]), None),
            (server.socket().with("sslmode", "require"), Some(false)),
        ] {
            let result = ssl_in_use(&params).await;
            assert_eq!(result.as_ref().ok().copied(), expected, "{params:?}: {result:?}");
        }
        let (cert, key) = (format!("{base}/postgres.crt"), format!("{base}/postgres.enc.key"));
        // Revocation lists: ours revokes nobody, then the server.
        let crl = |revoke: &str| {
            let script = "set -e; cd $1; : >index; echo 01 >crlnumber
                printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\ncrlnumber=crlnumber\ndefault_md=sha256\n\
                        default_crl_days=2\n' >ca.cnf
                rm -rf crls; mkdir crls; test -z \"$2\" ||
                openssl ca -config ca.cnf -cert ca.crt -keyfile ca.key -revoke $2 2>/dev/null
                openssl ca -config ca.cnf -cert ca.crt -keyfile ca.key -gencrl -out crls/crl.pem 2>/dev/null
                cp crls/crl.pem crl.pem; mv crls/crl.pem crls/$(openssl crl -hash -noout -in crl.pem).r0";
            let done = Command::new("bash").args(["-c", script, "-", &base.to_string(), revoke]).status();
            assert!(done.unwrap().success());
        };
        let verify = with(&[("sslmode", "verify-ca"), ("sslrootcert", &ca)]);
        let (file, directory) = (format!("{base}/crl.pem"), format!("{base}/crls"));
        for (revoke, expected) in [("", Some(true)), ("localhost.crt", None)] {
            crl(revoke);
            for params in [verify.with("sslcrl", file.as_str()), verify.with("sslcrldir", directory.as_str())]
            {
                let result = ssl_in_use(&params).await;
                assert_eq!(result.as_ref().ok().copied(), expected, "{revoke}: {params:?}: {result:?}");
            }
        }
        let client =
            with(&[("user", "cert"), ("sslcert", &cert), ("sslkey", &key), ("sslpassword", "keypass")]);
        assert_eq!(ssl_in_use(&client).await, Ok(true));
        let error =
            ssl_in_use(&client.with("sslpassword", "wrong").with("sslmode", "require")).await.unwrap_err();
        assert!(error.to_string().contains("could not load private key file"), "{error}");
        for params in [with(&[]), with(&[("channel_binding", "require"), ("sslmode", "require")])] {
            let mut replication = ReplicationClient::connect(&params).await.unwrap();
            assert_eq!(replication.identify_system().await.unwrap().timeline, 1);
        }
        if ["pg17", "pg18", "pg19"].iter().any(|name| bin.contains(name)) {
            assert_eq!(
                ssl_in_use(&with(&[("sslmode", "require"), ("sslnegotiation", "direct")])).await,
                Ok(true)
            );
        }
    }
}

#[tokio::test]
async fn logins_and_errors() {
    for (version, bin) in versions() {
        let server = Server::primary(bin, "password_encryption = md5");
        let session = Session::connect(&server.tcp()).await.unwrap();
        assert_eq!(session.server_version().major(), version);
        session.query("CREATE ROLE old LOGIN REPLICATION PASSWORD 'md5pw'", SECOND).await.unwrap();
        let hba =
            "host all old 127.0.0.1/32 md5\nhost replication old 127.0.0.1/32 md5\nlocal all all password\n\
                   host all,replication all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(server.data.join("pg_hba.conf"), hba).unwrap();
        server.ctl(&["reload"]);
        tokio::time::sleep(Duration::from_millis(300)).await;

        let old = server.tcp().with("user", "old").with("password", "md5pw");
        assert!(Session::connect(&old).await.is_ok());
        let mut replication = ReplicationClient::connect(&old).await.unwrap();
        let system = replication.identify_system().await.unwrap();
        assert!(!system.sysid.is_empty() && system.xlogpos.contains('/'));
        let error = replication.timeline_history(1).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("58P01"), "{error}");
        // The connection is still good after an error.
        assert!(replication.identify_system().await.is_ok());

        assert!(Session::connect(&server.socket().with("password", "secret")).await.is_ok(), "cleartext");
        let passfile = server.base().join("pass");
        std::fs::write(&passfile, format!("127.0.0.1:{}:*:postgres:secret\n", server.port)).unwrap();
        let by_file = server.tcp().without("password").with("passfile", passfile.to_str().unwrap());
        assert!(Session::connect(&by_file).await.is_err(), "open to the world");
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Session::connect(&by_file).await.is_ok());

        let wrong = server.tcp().with("password", "wrong");
        let refused = [
            Session::connect(&wrong).await.map(|_| ()).unwrap_err(),
            ReplicationClient::connect(&wrong).await.map(|_| ()).unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.sqlstate(), Some("28P01"), "{error}");
            assert!(!format!("{error:?}").contains("wrong"));
        }
        let peer = |user: &str| server.socket().with("password", "secret").with("requirepeer", user);
        assert!(Session::connect(&peer("postgres")).await.is_ok());
        let error = Session::connect(&peer("somebody")).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("actual peer user name is \"postgres\""), "{error}");
        // A dead server first: the next one is tried.
        let port = format!("1,{}", server.port);
        let two = server
            .tcp()
            .with("host", "127.0.0.1,127.0.0.1")
            .with("port", port)
            .with("target_session_attrs", "read-write");
        assert!(Session::connect(&two).await.is_ok());
        assert!(Session::connect(&two.with("load_balance_hosts", "random")).await.is_ok());
        // A server that takes connections and says nothing: `connect_timeout`, then the next one.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = format!("{},{}", silent.local_addr().unwrap().port(), server.port);
        let after_silence = two.with("port", port).with("connect_timeout", "2");
        assert!(Session::connect(&after_silence).await.is_ok());
        assert!(ReplicationClient::connect(&after_silence).await.is_ok());
        let gone = server.tcp().with("port", "1");
        assert!(Session::connect(&gone).await.unwrap_err().is_connection());
    }
}

#[tokio::test]
async fn a_slow_statement_is_cancelled_and_the_pool_recovers() {
    for (_, bin) in versions() {
        let server = Server::primary(bin, "");
        let pool = Pool::new();
        pool.set_params(server.tcp());
        let name = pool.query(Connection::Heartbeat, "SHOW application_name").await.unwrap();
        assert_eq!(name.first().unwrap().text(0), Some("Patroni heartbeat"));
        let restapi = pool.query_restapi("SHOW application_name").await.unwrap();
        assert_eq!(restapi.first().unwrap().text(0), Some("Patroni restapi"));
        let path = pool.query(Connection::Heartbeat, "SHOW search_path").await.unwrap();
        assert_eq!(path.first().unwrap().text(0), Some("pg_catalog"));

        let started = Instant::now();
        let error = pool.query(Connection::Heartbeat, "SELECT pg_sleep(10)").await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("57014"), "the server's statement_timeout");
        assert!(error.is_timeout() && !error.is_connection() && started.elapsed() < Duration::from_secs(3));
        assert!(pool.query(Connection::Heartbeat, "SELECT 1").await.is_ok());

        let session = Session::connect(&server.tcp()).await.unwrap();
        let error = session.query("SELECT pg_sleep(60)", SECOND).await.unwrap_err();
        assert_eq!(error, PgError::Timeout(SECOND));
        tokio::time::sleep(SECOND).await;
        let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        let rows = pool.query(Connection::Heartbeat, asleep).await.unwrap();
        assert_eq!(rows.first().unwrap().text(0), Some("0"), "it was cancelled");

        // A stopped postmaster process: our deadline counts, and nothing hangs.
        let pid = pool.query(Connection::Heartbeat, "SELECT pg_backend_pid()").await.unwrap();
        let backend: i32 = pid.first().unwrap().parse(0).unwrap();
        let signal = |name: &str| Command::new("kill").args([name, &backend.to_string()]).status().unwrap();
        signal("-STOP");
        let error = pool.query(Connection::Heartbeat, "SELECT 1").await.unwrap_err();
        assert!(error.is_timeout());
        assert!(pool.query(Connection::Heartbeat, "SELECT 1").await.is_ok(), "on a new connection");
        signal("-CONT");

        server.ctl(&["restart", "-m", "immediate"]);
        let error = pool.query(Connection::Heartbeat, "SELECT 1").await;
        assert!(error.is_ok() || error.unwrap_err().is_connection());
        assert!(pool.query(Connection::Heartbeat, "SELECT 1").await.is_ok());
        assert!(server.postmaster() > 0);
        server.stop();
        assert!(pool.query(Connection::Heartbeat, "SELECT 1").await.unwrap_err().is_connection());
        assert!(pool.query(Connection::Heartbeat, "SELECT 1").await.unwrap_err().is_connection());
        pool.close_all().await;
    }
}
