//! One ZooKeeper of the lab, and its keys read by a small client of its own: what is to be judged does not judge.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::signal::Signal;
use pyfmt::Value;

use super::servers::{self, Server};
use super::store::{Key, Store};
use super::{host, process, wait_until, Result};

/// A single server.
#[derive(Debug)]
pub struct ZooKeeper {
    port: u16,
    directory: PathBuf,
    child: Option<Child>,
    /// The port of the Exhibitor in front of it, if there is one.
    exhibitor: Option<u16>,
    /// Other servers, and their ports.
    others: Vec<(Server, u16)>,
}

const LIMIT: Duration = Duration::from_secs(5);

/// Where scripts/setup puts its jars.
pub fn jars() -> PathBuf {
    host::deps().join("zookeeper-3.8/lib")
}

/// A server that reads `zoo.cfg` in its directory.
///
/// # Errors
/// There is none on this machine.
pub fn command(directory: &Path) -> Result<Command> {
    let jars = jars();
    if !jars.is_dir() {
        return Err(format!("no ZooKeeper in {}: scripts/setup, and it needs Java", jars.display()).into());
    }
    let mut command = process::command(Path::new("/usr/bin/java"), directory, Path::new("/usr/bin"))?;
    command.args(arguments());
    Ok(command)
}

/// Sessions of 2 to 60 seconds. A leader of the ensemble that stands still is left after two seconds, which is less than
/// the scenarios' retry_timeout.
fn configuration(directory: &Path, port: u16) -> String {
    format!(
        "tickTime=1000\nminSessionTimeout=2000\nmaxSessionTimeout=60000\ninitLimit=10\nsyncLimit=2\ndataDir={}\n\
         clientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\nforceSync=no\n",
        directory.join("data").display()
    )
}

/// The arguments of Java.
fn arguments() -> Vec<String> {
    let jars = jars().join("*").display().to_string();
    let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
    ["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &jars, main, "zoo.cfg"]
        .map(str::to_owned)
        .into()
}

/// What the server at this port of 127.0.0.1 says to a word of four letters.
///
/// # Errors
/// It does not answer.
pub fn say(port: u16, word: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(word.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The value of a key at the server at this port of 127.0.0.1.
///
/// # Errors
/// It does not answer.
pub fn value(port: u16, path: &str) -> Result<Option<String>> {
    Ok(Client::connect(port)?.get(path)?.map(|(value, ..)| value))
}

impl ZooKeeper {
    /// Starts it with its data under `directory`.
    ///
    /// # Errors
    /// There is none on this machine (no Java?), or it does not answer in time.
    pub fn start(directory: &Path) -> Result<ZooKeeper> {
        let directory = directory.join("zookeeper");
        std::fs::create_dir_all(directory.join("data"))?;
        let port = host::free_port()?;
        std::fs::write(directory.join("zoo.cfg"), configuration(&directory, port))?;
        host::give_away(&directory)?;
        host::give_away(&directory.join("data"))?;
        let mut server = ZooKeeper { port, directory, child: None, exhibitor: None, others: Vec::new() };
        server.restart()?;
        Ok(server)
    }

    /// The same with an Exhibitor in front of it, which lives as long as this process.
    ///
    /// # Errors
    /// See [`ZooKeeper::start`].
    pub fn behind_exhibitor(directory: &Path) -> Result<ZooKeeper> {
        let server = ZooKeeper::start(directory)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let exhibitor = Some(listener.local_addr()?.port());
        let body = format!(r#"{{"servers":["127.0.0.1"],"port":{}}}"#, server.port);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(std::io::Result::ok) {
                let _ = stream.set_read_timeout(Some(LIMIT));
                let _ = stream.read(&mut [0; 4000]);
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Ok(ZooKeeper { exhibitor, ..server })
    }

    fn hosts(&self) -> Vec<String> {
        let ports = std::iter::once(self.port).chain(self.others.iter().map(|(_, port)| *port));
        ports.map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// Starts the first server, and does not wait for it.
    fn begin(&mut self) -> Result<()> {
        let command = command(&self.directory)?;
        self.child = Some(process::daemon(command, &self.directory.join("zookeeper.log"))?);
        Ok(())
    }

    fn client(&self) -> Result<Client> {
        Client::connect(self.port)
    }
}

impl Store for ZooKeeper {
    fn section(&self) -> (&'static str, Value) {
        match self.exhibitor {
            Some(port) => {
                let hosts = Value::from(vec![Value::from("127.0.0.1")]);
                ("exhibitor", Value::from_iter([("hosts", hosts), ("port", i64::from(port).into())]))
            }
            None => ("zookeeper", Value::from_iter([("hosts", Value::from(self.hosts().join(",")))])),
        }
    }

    fn url(&self) -> String {
        match self.exhibitor {
            Some(port) => format!("exhibitor://127.0.0.1:{port}"),
            None => format!("zookeeper://127.0.0.1:{}", self.port),
        }
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn prefix(&self, prefix: &str) -> Result<Vec<Key>> {
        let mut client = self.client()?;
        let mut found = Vec::new();
        let mut directories = vec!["/service".to_owned()];
        while let Some(directory) = directories.pop() {
            for name in client.children(&directory)? {
                let path = format!("{directory}/{name}");
                let Some((value, owner, is_directory)) = client.get(&path)? else { continue };
                if !is_directory && path.starts_with(prefix) {
                    let lease = (owner != 0).then(|| owner.to_string());
                    found.push(Key { name: path.clone(), value, leased: owner != 0, lease });
                }
                directories.push(path);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn put(&self, name: &str, value: &str) -> Result<()> {
        self.client()?.put(name, value)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.client()?.delete(name)
    }

    fn kill(&mut self) -> Result<()> {
        process::kill_under(&self.directory)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        self.others.iter_mut().for_each(|(other, _)| other.reap());
        Ok(())
    }

    /// Started anew: nothing is in it yet.
    fn become_three(&mut self) -> Result<()> {
        if self.exhibitor.is_some() {
            return Err("the Exhibitor of the lab knows one server".into());
        }
        self.kill()?;
        for n in 1..3 {
            let directory = self.directory.join(format!("other{n}"));
            let other = Server::new(Path::new("/usr/bin/java"), directory, arguments())?;
            self.others.push((other, host::free_port()?));
        }
        let mut peers = String::new();
        for number in 1..=3 {
            peers += &format!("server.{number}=127.0.0.1:{}:{}\n", host::free_port()?, host::free_port()?);
        }
        for number in 0..3 {
            let (directory, port) = match number {
                0 => (self.directory.clone(), self.port),
                _ => (self.directory.join(format!("other{number}")), self.others[number - 1].1),
            };
            std::fs::create_dir_all(directory.join("data"))?;
            host::give_away(&directory.join("data"))?;
            std::fs::write(directory.join("data/myid"), format!("{}\n", number + 1))?;
            std::fs::write(directory.join("zoo.cfg"), configuration(&directory, port) + &peers)?;
        }
        self.restart()
    }

    fn signal_server(&mut self, number: usize, signal: Signal) -> Result<()> {
        match number.checked_sub(1) {
            None => servers::signal(&mut self.child, signal),
            Some(index) => self.others.get_mut(index).ok_or("no such server")?.0.signal(signal),
        }
    }

    fn start_server(&mut self, number: usize) -> Result<()> {
        match number.checked_sub(1) {
            None => self.begin(),
            Some(index) => self.others.get_mut(index).ok_or("no such server")?.0.start(),
        }
    }

    fn restart(&mut self) -> Result<()> {
        self.others.iter_mut().try_for_each(|(other, _)| other.start())?;
        self.begin()?;
        wait_until("ZooKeeper answers", Duration::from_secs(60), || self.client().map(drop))
    }

    fn freeze(&self) {
        process::signal_under(&self.directory, Signal::SIGSTOP);
    }

    fn thaw(&self) {
        process::signal_under(&self.directory, Signal::SIGCONT);
    }
}

/// A session for a few requests.
struct Client {
    stream: TcpStream,
    xid: i32,
}

/// Properties that matter: the session that owns it, and how often children were made and deleted.
struct Reader(Vec<u8>, usize);

impl Reader {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.0.get(self.1..self.1 + N).ok_or("short answer of ZooKeeper")?;
        self.1 += N;
        Ok(taken.try_into()?)
    }

    fn int(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    fn long(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.take()?))
    }

    fn text(&mut self) -> Result<String> {
        let length = usize::try_from(self.int()?.max(0))?;
        let taken = self.0.get(self.1..self.1 + length).ok_or("short answer of ZooKeeper")?;
        self.1 += length;
        Ok(String::from_utf8_lossy(taken).into_owned())
    }
}

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const GET: i32 = 4;
const SET: i32 = 5;
const CHILDREN: i32 = 8;
const CLOSE: i32 = -11;
const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(text.as_bytes());
}

impl Client {
    fn connect(port: u16) -> Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut client = Client { stream, xid: 0 };
        let mut hello = Vec::new();
        hello.extend(0_i32.to_be_bytes());
        hello.extend(0_i64.to_be_bytes());
        hello.extend(5000_i32.to_be_bytes());
        hello.extend(0_i64.to_be_bytes());
        text(&mut hello, &"\0".repeat(16));
        hello.push(0);
        client.send(&hello)?;
        client.receive()?;
        Ok(client)
    }

    fn send(&mut self, message: &[u8]) -> Result<()> {
        let mut frame = u32::try_from(message.len())?.to_be_bytes().to_vec();
        frame.extend(message);
        Ok(self.stream.write_all(&frame)?)
    }

    fn receive(&mut self) -> Result<Reader> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut message = vec![0; usize::try_from(u32::from_be_bytes(length))?];
        self.stream.read_exact(&mut message)?;
        Ok(Reader(message, 0))
    }

    /// The body of the answer, or the error code.
    fn ask(&mut self, kind: i32, body: &[u8]) -> Result<std::result::Result<Reader, i32>> {
        self.xid += 1;
        let mut message = self.xid.to_be_bytes().to_vec();
        message.extend(kind.to_be_bytes());
        message.extend(body);
        self.send(&message)?;
        let mut answer = self.receive()?;
        let (_xid, _zxid, error) = (answer.int()?, answer.long()?, answer.int()?);
        Ok(if error == 0 { Ok(answer) } else { Err(error) })
    }

    fn children(&mut self, path: &str) -> Result<Vec<String>> {
        let mut body = Vec::new();
        text(&mut body, path);
        body.push(0);
        match self.ask(CHILDREN, &body)? {
            Ok(mut answer) => (0..answer.int()?).map(|_| answer.text()).collect(),
            Err(NO_NODE) => Ok(Vec::new()),
            Err(code) => Err(format!("ZooKeeper: {path}: {code}").into()),
        }
    }

    /// The value, the owner, and whether it is a directory.
    fn get(&mut self, path: &str) -> Result<Option<(String, i64, bool)>> {
        let mut body = Vec::new();
        text(&mut body, path);
        body.push(0);
        match self.ask(GET, &body)? {
            Ok(mut answer) => {
                let value = answer.text()?;
                for _ in 0..4 {
                    answer.long()?;
                }
                let (_version, cversion, _aversion) = (answer.int()?, answer.int()?, answer.int()?);
                let owner = answer.long()?;
                Ok(Some((value.clone(), owner, value.is_empty() && cversion > 0)))
            }
            Err(NO_NODE) => Ok(None),
            Err(code) => Err(format!("ZooKeeper: {path}: {code}").into()),
        }
    }

    fn create(&mut self, path: &str, value: &str) -> Result<i32> {
        let mut body = Vec::new();
        text(&mut body, path);
        text(&mut body, value);
        body.extend(1_i32.to_be_bytes());
        body.extend(31_i32.to_be_bytes());
        text(&mut body, "world");
        text(&mut body, "anyone");
        body.extend(0_i32.to_be_bytes());
        Ok(self.ask(CREATE, &body)?.map_or_else(|code| code, |_| 0))
    }

    fn put(&mut self, path: &str, value: &str) -> Result<()> {
        let mut body = Vec::new();
        text(&mut body, path);
        text(&mut body, value);
        body.extend((-1_i32).to_be_bytes());
        match self.ask(SET, &body)? {
            Ok(_) => return Ok(()),
            Err(NO_NODE) => {}
            Err(code) => return Err(format!("ZooKeeper: {path}: {code}").into()),
        }
        for (end, _) in path.match_indices('/').skip(1) {
            self.create(&path[..end], "")?;
        }
        match self.create(path, value)? {
            0 | NODE_EXISTS => Ok(()),
            code => Err(format!("ZooKeeper: {path}: {code}").into()),
        }
    }

    fn delete(&mut self, path: &str) -> Result<()> {
        let mut body = Vec::new();
        text(&mut body, path);
        body.extend((-1_i32).to_be_bytes());
        match self.ask(DELETE, &body)? {
            Ok(_) | Err(NO_NODE) => Ok(()),
            Err(code) => Err(format!("ZooKeeper: {path}: {code}").into()),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.ask(CLOSE, &[]);
    }
}
