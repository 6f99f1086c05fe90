//! Where the API server is and who we are: from inside of a cluster, or by a kubeconfig.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::prelude::{Engine, BASE64_STANDARD};
use patroni_core::model::url::bracketed;
use patroni_core::mutex::locked;
use patroni_net::{TlsOptions, Verify};
use pyfmt::Value;

use super::options::Options;
use crate::address;
use crate::DcsError;

/// Where a Pod finds its token and the cluster's authority.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A token file is read again after so long: Kubernetes replaces it before the old token ends.
const TOKEN_AGE: Duration = Duration::from_secs(10);

/// Who we are.
#[derive(Clone)]
pub enum Credentials {
    /// Nobody, or whom our certificate names.
    None,
    /// The value of the header.
    Fixed(String),
    /// A file with a token that is replaced from time to time.
    File(Arc<TokenFile>),
}

/// The API server, and how it is spoken to.
#[derive(Clone)]
pub struct Access {
    /// `https://host:port`, maybe with a path.
    pub server: String,
    /// For `https`.
    pub tls: TlsOptions,
    /// Who we are.
    pub credentials: Credentials,
    /// What the paths of `tls` name while this lives.
    _files: Arc<Vec<OwnedFd>>,
}

/// Shows no credentials.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("server", &self.server).finish_non_exhaustive()
    }
}

/// A token that is read again.
pub struct TokenFile {
    path: PathBuf,
    last: Mutex<(String, Instant)>,
}

impl TokenFile {
    fn new(path: PathBuf, token: String) -> TokenFile {
        TokenFile { path, last: Mutex::new((token, Instant::now())) }
    }

    /// The token as of a moment ago; with `again` as of now: the server has refused the last one.
    pub async fn token(&self, again: bool) -> String {
        let (known, read) = locked(&self.last).clone();
        if !again && read.elapsed() < TOKEN_AGE {
            return known;
        }
        let token = match tokio::fs::read_to_string(&self.path).await {
            Ok(token) if !token.trim().is_empty() => token.trim().to_owned(),
            Ok(_) => {
                tracing::error!(target: LOG, "Failed to refresh service account token: Token file exists but empty.");
                known
            }
            Err(error) => {
                tracing::error!(target: LOG, "Failed to refresh service account token: {error}");
                known
            }
        };
        *locked(&self.last) = (token.clone(), Instant::now());
        token
    }
}

const LOG: &str = "patroni.dcs.kubernetes";

impl Access {
    /// Inside of a cluster by its variables and files, else by the kubeconfig. **Blocks** on reading files.
    ///
    /// # Errors
    /// Neither says where the server is.
    pub fn find(options: &Options, environment: &dyn Fn(&str) -> Option<String>) -> Result<Access, DcsError> {
        match Access::in_cluster(options, environment, Path::new(SERVICE_ACCOUNT)) {
            Ok(access) => Ok(access),
            Err(reason) => Access::by_kubeconfig(options.context.as_deref(), environment).map_err(|error| {
                DcsError::Config(format!("kubernetes: not in a cluster ({reason}), and {error}"))
            }),
        }
    }

    /// `directory` has the token and the authority.
    fn in_cluster(
        options: &Options,
        environment: &dyn Fn(&str) -> Option<String>,
        directory: &Path,
    ) -> Result<Access, String> {
        let (host, port) = environment("KUBERNETES_SERVICE_HOST")
            .zip(environment("KUBERNETES_SERVICE_PORT"))
            .ok_or("Service host/port is not set.")?;
        let cafile = options.cacert.as_ref().map_or_else(|| directory.join("ca.crt"), PathBuf::from);
        let read = |path: &Path, what: &str| match std::fs::read_to_string(path) {
            Ok(text) if text.is_empty() => Err(format!("{what} exists but empty.")),
            Ok(text) => Ok(text),
            Err(_) => Err(format!("{what} does not exists.")),
        };
        read(&cafile, "Service certificate file")?;
        let path = directory.join("token");
        let token = read(&path, "Service token file")?.trim().to_owned();
        Ok(Access {
            server: format!("https://{}:{port}", bracketed(&host)),
            tls: TlsOptions { cafile: Some(cafile), ..TlsOptions::default() },
            credentials: Credentials::File(Arc::new(TokenFile::new(path, token))),
            _files: Arc::default(),
        })
    }

    fn by_kubeconfig(
        context: Option<&str>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Access, String> {
        let home = environment("HOME").unwrap_or_else(|| "/root".into());
        let path = environment("KUBECONFIG").unwrap_or_else(|| "~/.kube/config".into());
        let path = match path.strip_prefix("~/") {
            Some(rest) => Path::new(&home).join(rest),
            None => PathBuf::from(path),
        };
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Access::of_kubeconfig(&text, context).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn of_kubeconfig(text: &str, context: Option<&str>) -> Result<Access, String> {
        let config = pyfmt::yaml::load(text).map_err(|e| e.to_string())?;
        let current = config.get("current-context").filter(|v| v.truthy()).map(Value::py_str);
        let context = context.map(str::to_owned).or(current).ok_or("no current-context")?;
        let context = by_name(&config, "context", &context)?;
        let named = |what: &str| {
            let name = context.get(what).map(Value::py_str).ok_or(format!("the context has no {what}"))?;
            by_name(&config, what, &name)
        };
        let (cluster, user) = (named("cluster")?, named("user")?);
        let text = |of: &Value, key: &str| of.get(key).filter(|v| v.truthy()).map(Value::py_str);
        let server = text(cluster, "server").ok_or("the cluster has no server")?;
        let (word, rest) = server.split_once("://").unwrap_or(("", &server));
        let scheme = address::scheme(word, &format!("the cluster's server {server}"))?;
        let server = format!("{scheme}://{rest}");
        let mut files = Vec::new();
        let mut tls = TlsOptions::default();
        if scheme == "https" {
            let mut file = |of: &Value, key: &str| match text(of, &format!("{key}-data")) {
                Some(data) => {
                    let data: String = data.split_whitespace().collect();
                    let data = BASE64_STANDARD.decode(data).map_err(|e| format!("{key}-data: {e}"))?;
                    let file = in_memory(&data).map_err(|e| format!("{key}-data: {e}"))?;
                    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                    files.push(file);
                    Ok::<_, String>(Some(path))
                }
                None => Ok(text(of, key).map(PathBuf::from)),
            };
            tls.certfile = file(user, "client-certificate")?;
            tls.keyfile = file(user, "client-key")?;
            tls.cafile = file(cluster, "certificate-authority")?;
            if cluster.get("insecure-skip-tls-verify").is_some_and(Value::truthy) {
                tls.verify = Verify::Nothing;
            }
        }
        let credentials = match (text(user, "token"), user.get("username"), user.get("password")) {
            (Some(token), ..) => Credentials::Fixed(format!("Bearer {token}")),
            (None, Some(name), Some(password)) => {
                let pair = format!("{}:{}", name.py_str(), password.py_str());
                Credentials::Fixed(format!("Basic {}", BASE64_STANDARD.encode(pair)))
            }
            _ => Credentials::None,
        };
        Ok(Access {
            server: server.trim_end_matches('/').to_owned(),
            tls,
            credentials,
            _files: Arc::new(files),
        })
    }

    /// The value of the header; with `again` after the server has refused it.
    pub async fn authorization(&self, again: bool) -> Option<String> {
        match &self.credentials {
            Credentials::None => None,
            Credentials::Fixed(value) => Some(value.clone()),
            Credentials::File(file) => Some(format!("Bearer {}", file.token(again).await)),
        }
    }
}

fn by_name<'a>(config: &'a Value, what: &str, name: &str) -> Result<&'a Value, String> {
    let list = config.get(&format!("{what}s")).and_then(Value::as_list).unwrap_or_default();
    let found = list.iter().find(|entry| entry.get("name").is_some_and(|n| n.py_str() == name));
    found.and_then(|entry| entry.get(what)).ok_or_else(|| format!("there is no {what} {name}"))
}

/// A file that is in no directory, and that nobody else can read: OpenSSL wants a name, and a key belongs on no disk.
fn in_memory(data: &[u8]) -> std::io::Result<OwnedFd> {
    use std::io::Write as _;
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    let file = nix::sys::memfd::memfd_create(c"patroni-kubeconfig", flags).map_err(std::io::Error::from)?;
    let mut file = std::fs::File::from(file);
    file.write_all(data)?;
    Ok(file.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Settings;

    fn options() -> Options {
        let config = pyfmt::json::loads(r#"{"scope":"demo","name":"m0","labels":{"a":"b"}}"#).unwrap();
        let settings = Settings::from_config(&config, &config).unwrap();
        Options::from_section(&settings, &config, &config, &|_| None).unwrap()
    }

    fn fixed(access: &Access) -> Option<&str> {
        match &access.credentials {
            Credentials::Fixed(value) => Some(value),
            _ => None,
        }
    }

    #[test]
    fn kubeconfigs() {
        let config = |cluster: &str, user: &str| {
            format!(
                "current-context: one\ncontexts: [{{name: one, context: {{cluster: c, user: u}}}}]\n\
                 clusters: [{{name: c, cluster: {cluster}}}]\nusers: [{{name: u, user: {user}}}]\n"
            )
        };
        let text = config("{server: 'https://h:6443/', insecure-skip-tls-verify: true}", "{token: t}");
        let access = Access::of_kubeconfig(&text, None).unwrap();
        assert_eq!((access.server.as_str(), access.tls.verify), ("https://h:6443", Verify::Nothing));
        assert_eq!(fixed(&access), Some("Bearer t"));
        assert!(!format!("{access:?}").contains("Bearer"));
        let upper = text.replace("https:", "HTTPS:");
        assert_eq!(Access::of_kubeconfig(&upper, None).unwrap().server, "https://h:6443");
        assert_eq!(Access::of_kubeconfig(&upper, None).unwrap().tls.verify, Verify::Nothing);
        for odd in ["ftp://h", "h:6443"] {
            let told =
                Access::of_kubeconfig(&text.replace("https://h:6443/", odd), None).map(drop).unwrap_err();
            assert!(told.contains(odd), "{told}");
        }
        let named = Access::of_kubeconfig(&text, Some("kind-kind")).map(drop);
        assert_eq!(named, Err("there is no context kind-kind".to_owned()));

        // Inline files are where OpenSSL can read them, and nobody else.
        let text = config(
            "{server: 'https://h', certificate-authority-data: Y2E=}",
            "{client-certificate-data: Y2VydA==, client-key-data: a2V5, username: a, password: b}",
        );
        let access = Access::of_kubeconfig(&text, Some("one")).unwrap();
        let TlsOptions { certfile, keyfile, cafile, verify, .. } = &access.tls;
        let read = |path: &Option<PathBuf>| std::fs::read_to_string(path.as_ref().unwrap()).unwrap();
        assert_eq!((read(certfile), read(keyfile), read(cafile)), ("cert".into(), "key".into(), "ca".into()));
        assert_eq!((read(certfile), *verify), ("cert".into(), Verify::Full));
        assert_eq!(fixed(&access), Some("Basic YTpi"));

        let text = config("{server: 'https://h', certificate-authority: /ca}", "{client-certificate: /c}");
        let access = Access::of_kubeconfig(&text, None).unwrap();
        assert_eq!((access.tls.cafile, access.tls.certfile), (Some("/ca".into()), Some("/c".into())));
        // Without TLS its files are of no use; the token goes along.
        let access =
            Access::of_kubeconfig(&config("{server: 'http://h'}", "{client-key-data: '!', token: t}"), None);
        assert_eq!(fixed(&access.unwrap()), Some("Bearer t"));
        for bad in
            ["[", "{}", &config("{}", "{}"), &config("{server: 'https://h'}", "{client-key-data: '!'}")]
        {
            assert!(Access::of_kubeconfig(bad, None).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn in_a_cluster() {
        let directory = tempfile::tempdir().unwrap();
        let variables = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("443".into()),
            _ => None,
        };
        let find = || Access::in_cluster(&options(), &variables, directory.path());
        let error = || find().map(drop).unwrap_err();
        assert_eq!(error(), "Service certificate file does not exists.");
        std::fs::write(directory.path().join("ca.crt"), "").unwrap();
        assert_eq!(error(), "Service certificate file exists but empty.");
        std::fs::write(directory.path().join("ca.crt"), "ca").unwrap();
        assert_eq!(error(), "Service token file does not exists.");
        std::fs::write(directory.path().join("token"), "one\n").unwrap();
        let access = find().unwrap();
        assert_eq!(access.server, "https://[fd00::1]:443");
        assert_eq!(access.authorization(false).await.as_deref(), Some("Bearer one"));
        // Another token is read when the old one is refused.
        std::fs::write(directory.path().join("token"), "two").unwrap();
        assert_eq!(access.authorization(false).await.as_deref(), Some("Bearer one"));
        assert_eq!(access.authorization(true).await.as_deref(), Some("Bearer two"));
        // A file that is gone for a moment: the token before.
        std::fs::remove_file(directory.path().join("token")).unwrap();
        assert_eq!(access.authorization(true).await.as_deref(), Some("Bearer two"));
        assert!(Access::in_cluster(&options(), &|_| None, directory.path()).is_err());
    }
}
