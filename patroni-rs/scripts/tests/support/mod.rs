//! A server that gives prepared answers, and the directory and programs of a scenario.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

/// What a server was asked: method, path, headers (names in lower case), body.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }
}

/// Gives what the function says to each request, one connection after the other.
pub fn serve(
    answer: impl Fn(&Request, usize) -> (u16, String) + Send + 'static,
) -> (String, Arc<Mutex<Vec<Request>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Some(request) = read(&stream) {
                let number = log.lock().unwrap().len();
                let (status, body) = answer(&request, number);
                log.lock().unwrap().push(request);
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let mut stream = &stream;
                let _ = stream.write_all((head + &body).as_bytes());
            }
        }
    });
    (url, asked)
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let mut asked = Request { method, path, headers, body: String::new() };
    let mut body = vec![0; asked.header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).ok()?;
    Some(asked)
}

/// Runs a program of this crate with nothing in its environment but this.
pub fn run(program: &str, args: &[String], home: &Path, env: &[(&str, &str)]) -> Output {
    let program = match program {
        "patroni_barman" => env!("CARGO_BIN_EXE_patroni_barman"),
        "patroni_aws" => env!("CARGO_BIN_EXE_patroni_aws"),
        _ => env!("CARGO_BIN_EXE_patroni_wale_restore"),
    };
    let path = format!("{}/bin:/usr/bin:/bin", home.display());
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", path).env("HOME", home).envs(env.iter().copied());
    command.output().unwrap()
}
