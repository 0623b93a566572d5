//! A relay before an S3 server that does, to the requests it is told of, what a store may do wrong. One request
//! for each connection. It needs nothing but the standard library: the broker's own tests use this file, too.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
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
    /// The answer comes after this time, in small pieces.
    Slow(Duration),
}

struct Rule {
    /// The beginning of a request line, and a text in it.
    method: &'static str,
    text: &'static str,
    fault: Fault,
    times: u32,
}

/// Says of a request, by its line, what goes wrong with it where no rule does.
type Chance = Box<dyn FnMut(&str) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    chance: Option<Chance>,
    hits: u32,
    /// All that ever went wrong, by operation and fault.
    histogram: BTreeMap<(&'static str, String), u32>,
}

impl State {
    fn fault(&mut self, line: &str) -> Option<Fault> {
        let rule = self.rules.iter_mut().find(|rule| {
            rule.times > 0 && line.starts_with(rule.method) && line.contains(rule.text)
        });
        let fault = match rule {
            Some(rule) => {
                rule.times -= 1;
                Some(rule.fault)
            }
            None => self.chance.as_mut().and_then(|chance| chance(line)),
        };
        if let Some(fault) = fault {
            self.hits += 1;
            let name = (operation(line), format!("{fault:?}"));
            *self.histogram.entry(name).or_default() += 1;
        }
        fault
    }
}

/// What a request asks of the store, by its line.
fn operation(line: &str) -> &'static str {
    let of_upload = [
        ("POST", "uploads", "begin upload"),
        ("PUT", "partNumber", "part"),
        ("POST", "uploadId", "end upload"),
        ("DELETE", "uploadId", "abort upload"),
        ("GET", "list-type", "LIST"),
    ];
    let of_upload = of_upload
        .iter()
        .find(|(method, text, _)| line.starts_with(method) && line.contains(text));
    let plain = ["PUT", "GET", "HEAD", "DELETE"].into_iter();
    let plain = || plain.clone().find(|method| line.starts_with(method));
    match of_upload {
        Some((_, _, name)) => name,
        None => plain().unwrap_or("other"),
    }
}

/// The relay; its threads end with the test's process.
pub struct Relay {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// What goes wrong by chance.
pub const BY_CHANCE: [Fault; 7] = [
    Fault::Answer(500),
    Fault::Answer(503),
    Fault::Cut,
    Fault::DoneButAnswered(500),
    Fault::DoneButCut,
    Fault::HalfAnswer,
    Fault::Slow(Duration::from_millis(400)),
];

impl fmt::Debug for Relay {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Relay({})", self.address)
    }
}

impl Relay {
    pub fn new(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
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

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on so many requests of a method, with a text in their line, go wrong.
    pub fn fail(&self, method: &'static str, text: &'static str, fault: Fault, times: u32) {
        let rule = Rule {
            method,
            text,
            fault,
            times,
        };
        lock(&self.state).rules.push(rule);
    }

    /// From now on every second request goes wrong, in each of [`BY_CHANCE`]'s ways as often; `below` gives a number by
    /// chance.
    pub fn fail_every_second(&self, mut below: impl FnMut(u64) -> u64 + Send + 'static) {
        self.fail_by_chance(move |_| {
            let at = below(2 * BY_CHANCE.len() as u64);
            BY_CHANCE.get(at as usize).copied()
        });
    }

    /// From now on it is asked of each request, by its line, what goes wrong with it.
    pub fn fail_by_chance(&self, chance: impl FnMut(&str) -> Option<Fault> + Send + 'static) {
        lock(&self.state).chance = Some(Box::new(chance));
    }

    /// How many requests went wrong since it was last asked; nothing goes wrong from now on.
    pub fn heal(&self) -> u32 {
        let mut state = lock(&self.state);
        state.rules.clear();
        state.chance = None;
        std::mem::take(&mut state.hits)
    }

    /// How often what has gone wrong since the start, by operation and fault.
    pub fn histogram(&self) -> BTreeMap<(&'static str, String), u32> {
        lock(&self.state).histogram.clone()
    }

    /// How often something went wrong of what is meant, by operation and fault.
    pub fn hits(&self, is_meant: impl Fn(&str, &str) -> bool) -> u32 {
        let histogram = self.histogram();
        let meant = histogram.iter();
        let meant = meant.filter(|((operation, fault), _)| is_meant(operation, fault));
        meant.map(|(_, count)| count).sum()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slow answer comes in so many.
const SLOW_PIECES: u32 = 4;

fn relay(mut client: TcpStream, server: SocketAddr, state: &Mutex<State>) -> std::io::Result<()> {
    let (head, body) = read_request(&mut client)?;
    let line = head.lines().next().unwrap_or_default();
    let fault = lock(state).fault(line);
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
        Some(Fault::Slow(time)) => {
            for piece in response.chunks(response.len().div_ceil(SLOW_PIECES as usize)) {
                thread::sleep(time / SLOW_PIECES);
                client.write_all(piece)?;
            }
            Ok(())
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
