//! A relay before an S3 server that does, to the requests it is told of, what a store may do wrong. One request
//! for each connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The server is not asked; the answer is this.
    Answer(u16),
    /// The server does it; the answer is this.
    DoneButAnswered(u16),
    /// The server does it, and the connection ends before the answer.
    DoneButCut,
    /// The connection ends before the server is asked.
    Cut,
    /// No answer ever comes.
    Silence,
    /// Half of the answer's body comes; then the connection ends.
    HalfAnswer,
}

struct Rule {
    /// The beginning of a request line, and a text in it.
    method: &'static str,
    text: &'static str,
    fault: Fault,
    times: u32,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    hits: u32,
}

/// The relay; its threads end with the test's process.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || drop(relay(client, server, &state)));
            }
        });
        Self { address, state }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on so many requests of a method, with a text in their line, go wrong.
    pub(crate) fn fail(&self, method: &'static str, text: &'static str, fault: Fault, times: u32) {
        let rule = Rule {
            method,
            text,
            fault,
            times,
        };
        self.state.lock().unwrap().rules.push(rule);
    }

    /// How many requests went wrong since it was last asked; nothing goes wrong from now on.
    pub(crate) fn heal(&self) -> u32 {
        let mut state = self.state.lock().unwrap();
        state.rules.clear();
        std::mem::take(&mut state.hits)
    }
}

fn relay(mut client: TcpStream, server: SocketAddr, state: &Mutex<State>) -> std::io::Result<()> {
    let (head, body) = read_request(&mut client)?;
    let line = head.lines().next().unwrap_or_default();
    let fault = {
        let mut state = state.lock().unwrap();
        let rule = state.rules.iter_mut().find(|rule| {
            rule.times > 0 && line.starts_with(rule.method) && line.contains(rule.text)
        });
        let fault = rule.map(|rule| {
            rule.times -= 1;
            rule.fault
        });
        state.hits += u32::from(fault.is_some());
        fault
    };
    match fault {
        Some(Fault::Answer(status)) => return answer(&mut client, status),
        Some(Fault::Cut) => return Ok(()),
        Some(Fault::Silence) => {
            // Until the client gives up.
            let _ = client.read(&mut [0]);
            return Ok(());
        }
        _ => {}
    }
    let response = ask(server, &head, &body)?;
    match fault {
        Some(Fault::DoneButAnswered(status)) => answer(&mut client, status),
        Some(Fault::DoneButCut) => Ok(()),
        Some(Fault::HalfAnswer) => {
            let split = response
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
                .unwrap_or(0)
                + 4;
            client.write_all(&response[..split + (response.len() - split) / 2])
        }
        _ => client.write_all(&response),
    }
}

fn read_request(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let (head, length) = loop {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes.drain(..end + 4);
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.trim().parse().ok()).flatten()
            });
            break (head, length.unwrap_or(0));
        }
    };
    let have = bytes.len();
    bytes.resize(length, 0);
    if have < length {
        client.read_exact(&mut bytes[have..])?;
    }
    Ok((head, bytes))
}

fn ask(server: SocketAddr, head: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(server)?;
    let mut request = String::new();
    for line in head
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
    {
        request.push_str(line);
        request.push_str("\r\n");
    }
    request.push_str("connection: close\r\n\r\n");
    server.write_all(request.as_bytes())?;
    server.write_all(body)?;
    let mut response = Vec::new();
    server.read_to_end(&mut response)?;
    Ok(response)
}

fn answer(client: &mut TcpStream, status: u16) -> std::io::Result<()> {
    let code = if status == 503 {
        "SlowDown"
    } else {
        "InternalError"
    };
    let body = format!("<Error><Code>{code}</Code><Message>by the relay</Message></Error>");
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status} By the relay\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
