//! How many clients a broker can accept in a second, and how much memory those take that only stay.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::link::{Link, Poller, Scratch};
use crate::process::{Memory, cpu_seconds};
use crate::wire::{self, DISCONNECT, Frame};

/// A broker that accepts nobody for so long stands still.
const STALL: Duration = Duration::from_secs(10);

const WAIT: Duration = Duration::from_millis(100);

/// Memory is settled when it has not changed for so long.
const SETTLED: Duration = Duration::from_millis(300);
const SETTLE_DEADLINE: Duration = Duration::from_secs(10);

/// Files beside the connections.
const FILES_BESIDE: usize = 32;

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    broker: crate::Broker,
    /// Clients that connect, are accepted and leave.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Of them at once.
    #[arg(long, default_value_t = 50)]
    under_way: usize,
}

#[derive(Clone, Debug, Args)]
pub struct IdleArguments {
    #[command(flatten)]
    broker: crate::Broker,
    /// Clients that connect and stay.
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let of = &arguments.broker;
    let start = Instant::now();
    let first_cpu_s = of.pid.map(cpu_seconds).transpose()?;
    come_and_go(arguments)?;
    let seconds = start.elapsed().as_secs_f64();
    let last_cpu_s = of.pid.map(cpu_seconds).transpose()?;
    let broker_cpu_s = last_cpu_s
        .zip(first_cpu_s)
        .map(|(last, first)| last - first);
    let connections = arguments.connections as f64;
    Ok(json!({
        "connections": arguments.connections,
        "under_way": arguments.under_way,
        "seconds": seconds,
        "connects_per_second": connections / seconds,
        "broker_cpu_s_per_million": broker_cpu_s.map(|cpu_s| cpu_s * 1e6 / connections),
    }))
}

/// Each client that is accepted leaves, and the next one comes.
fn come_and_go(arguments: &Arguments) -> anyhow::Result<()> {
    let of = &arguments.broker;
    let (mut poller, mut scratch) = (Poller::new()?, Scratch::new());
    let at_once = arguments.under_way.min(arguments.connections);
    let clients = (0..at_once).map(|number| connect(of, &poller, number, number));
    let mut clients = clients.collect::<anyhow::Result<Vec<_>>>()?;
    let (mut begun, mut accepted) = (at_once, 0);
    let (mut progress, mut ready) = (Instant::now(), Vec::new());
    while accepted < arguments.connections {
        poller.wait(&mut ready, WAIT)?;
        ensure!(
            progress.elapsed() < STALL,
            "{accepted} of {begun} were accepted"
        );
        for &token in &ready {
            let mut is_accepted = false;
            let open = clients[token].receive(&mut scratch, |input| {
                wire::frames(input, |frame: Frame<'_>| {
                    is_accepted = true;
                    frame.accepted(of.version).map(drop)
                })
            })?;
            ensure!(
                open,
                "the broker closed a connection instead of accepting it"
            );
            if !is_accepted {
                continue;
            }
            (accepted, progress) = (accepted + 1, Instant::now());
            clients[token].socket.write_all(&DISCONNECT)?;
            if begun < arguments.connections {
                clients[token] = connect(of, &poller, token, begun)?;
                begun += 1;
            } else {
                // It must not tell of its end.
                poller.forget(&clients[token].socket)?;
            }
        }
    }
    Ok(())
}

fn connect(
    of: &crate::Broker,
    poller: &Poller,
    token: usize,
    number: usize,
) -> anyhow::Result<Link> {
    let mut socket = TcpStream::connect(of.address).context("connect")?;
    socket.set_nodelay(true)?;
    socket.write_all(&wire::connect(of.version, &format!("client-{number}")))?;
    socket.set_nonblocking(true)?;
    poller.watch(&socket, token)?;
    Ok(Link::of(socket))
}

pub fn run_idle(arguments: &IdleArguments) -> anyhow::Result<Value> {
    let of = &arguments.broker;
    let pid = of.pid.context("whose memory? --pid is missing")?;
    let files = (arguments.connections + FILES_BESIDE) as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < files) {
        let maximum = limit.maximum;
        let current = Some(files);
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).context("too many files")?;
    }
    let before = settled(pid)?;
    let start = Instant::now();
    let mut links = Vec::with_capacity(arguments.connections);
    for number in 0..arguments.connections {
        let (link, _) = Link::open(of.address, of.version, &format!("idle-{number}"))
            .with_context(|| format!("connection {number}"))?;
        links.push(link);
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = settled(pid)?;
    let each = |after: u64, before: u64| (after as f64 - before as f64) / links.len() as f64;
    Ok(json!({
        "connections": links.len(),
        "seconds": seconds,
        "resident_before_bytes": before.resident,
        "private_before_bytes": before.private,
        "resident_bytes": after.resident,
        "private_bytes": after.private,
        "bytes_per_connection": each(after.resident, before.resident),
    }))
}

/// A process's memory once it does not change any more.
fn settled(pid: u32) -> anyhow::Result<Memory> {
    let start = Instant::now();
    let (mut last, mut since) = (Memory::of(pid)?, Instant::now());
    while since.elapsed() < SETTLED && start.elapsed() < SETTLE_DEADLINE {
        std::thread::sleep(SETTLED / 10);
        let now = Memory::of(pid)?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}
