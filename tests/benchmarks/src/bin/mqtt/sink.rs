//! A broker that does as little as a client can bear: it accepts everybody, passes a publisher's bytes on
//! to the subscribers of its topic as they are, and acknowledges. It shows how fast the tool is at most,
//! and is no broker: no wildcards, no sessions, no checks.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::Value;

use crate::link::{Link, Poller, Scratch};
use crate::wire::{self, Frame, PUBCOMP, PUBLISH, PUBREC, PUBREL, Version};

const CONNECT: u8 = 1;
const SUBSCRIBE: u8 = 8;

/// CONNECT's protocol level lies behind the six bytes of its name.
const LEVEL_AT: usize = 6;

const WAIT: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub address: SocketAddr,
    /// Lose each so manyth message, to see that the tool notices.
    #[arg(long, hide = true)]
    pub lose_each: Option<u64>,
}

struct Client {
    link: Link,
    output: Vec<u8>,
    version: Version,
    /// Of the topic that it publishes to, once it has.
    subscribers: Option<Vec<usize>>,
    /// Its output is on the sink's list.
    listed: bool,
}

struct Sink {
    lose_each: Option<u64>,
    passed: u64,
    poller: Poller,
    /// By token, which is one more than the place here: 0 is the listener.
    clients: Vec<Option<Client>>,
    topics: HashMap<Vec<u8>, Vec<usize>>,
    /// What one read brought for the subscribers.
    batch: Vec<u8>,
    /// Clients with output: all that came at once is written at once.
    listed: Vec<usize>,
    scratch: Scratch,
}

/// Runs until it is killed.
pub fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    serve(&TcpListener::bind(arguments.address)?, arguments.lose_each)
}

pub fn serve(listener: &TcpListener, lose_each: Option<u64>) -> anyhow::Result<Value> {
    let mut sink = Sink {
        lose_each,
        passed: 0,
        poller: Poller::new()?,
        clients: Vec::new(),
        topics: HashMap::new(),
        batch: Vec::new(),
        listed: Vec::new(),
        scratch: Scratch::new(),
    };
    sink.poller.watch(listener, 0)?;
    let mut ready = Vec::new();
    loop {
        sink.poller.wait(&mut ready, WAIT)?;
        for &token in &ready {
            match token.checked_sub(1) {
                None => sink.accept(listener)?,
                // What is wrong with one client ends that client.
                Some(number) => {
                    if !sink.serve(number).unwrap_or(false) {
                        sink.let_go(number);
                    }
                }
            }
        }
        while let Some(number) = sink.listed.pop() {
            sink.send(number).unwrap_or_else(|_| sink.let_go(number));
        }
    }
}

impl Sink {
    fn accept(&mut self, listener: &TcpListener) -> anyhow::Result<()> {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let number = self.clients.iter().position(Option::is_none);
        let number = number.unwrap_or(self.clients.len());
        self.poller.watch(&socket, number + 1)?;
        let client = Client {
            link: Link::of(socket),
            output: Vec::new(),
            version: Version::V3,
            subscribers: None,
            listed: false,
        };
        self.clients
            .resize_with(self.clients.len().max(number + 1), || None);
        self.clients[number] = Some(client);
        Ok(())
    }

    fn let_go(&mut self, number: usize) {
        self.clients[number] = None;
        for subscribers in self.topics.values_mut() {
            subscribers.retain(|subscriber| *subscriber != number);
        }
    }

    /// Reads from a client and passes on; false when it is gone.
    fn serve(&mut self, number: usize) -> anyhow::Result<bool> {
        let Some(client) = &mut self.clients[number] else {
            return Ok(true);
        };
        let (link, output) = (&mut client.link, &mut client.output);
        let (version, subscribers) = (&mut client.version, &mut client.subscribers);
        let (batch, topics) = (&mut self.batch, &mut self.topics);
        let (passed, lose_each) = (&mut self.passed, self.lose_each);
        batch.clear();
        let open = link.receive(&mut self.scratch, |frame: Frame<'_>| {
            match frame.kind() {
                PUBLISH => {
                    if subscribers.is_none() {
                        *subscribers = topics.get(frame.topic()?).cloned();
                    }
                    *passed += 1;
                    if lose_each.is_none_or(|each| *passed % each != 0) {
                        batch.extend_from_slice(frame.packet);
                    }
                    wire::put_answer(output, &frame)?;
                }
                // The publisher's; and of a subscriber whom a message of QoS 2 went to.
                PUBREL => wire::put_ack(output, PUBCOMP, frame.acknowledged()?),
                PUBREC => wire::put_ack(output, PUBREL, frame.acknowledged()?),
                CONNECT => {
                    let is_v5 = *frame.body.get(LEVEL_AT).context("short")? == 5;
                    *version = if is_v5 { Version::V5 } else { Version::V3 };
                    output.extend(wire::connack(*version));
                }
                SUBSCRIBE => subscribe(topics, number, *version, frame, output)?,
                _ => {}
            }
            Ok(())
        })?;
        self.list(number);
        self.pass_on(number);
        Ok(open)
    }

    fn list(&mut self, number: usize) {
        if let Some(client) = &mut self.clients[number]
            && !std::mem::replace(&mut client.listed, true)
        {
            self.listed.push(number);
        }
    }

    /// The batch, to all who have subscribed to what this client publishes.
    fn pass_on(&mut self, from: usize) {
        let client = self.clients[from].as_mut();
        let Some(to) = client.and_then(|client| client.subscribers.take()) else {
            return;
        };
        for &number in &to {
            if let Some(client) = &mut self.clients[number] {
                client.output.extend_from_slice(&self.batch);
                self.list(number);
            }
        }
        if let Some(client) = &mut self.clients[from] {
            client.subscribers = Some(to);
        }
    }

    fn send(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(client) = &mut self.clients[number] else {
            return Ok(());
        };
        client.listed = false;
        client
            .link
            .send(&self.poller, number + 1, &mut client.output)
    }
}

fn subscribe(
    topics: &mut HashMap<Vec<u8>, Vec<usize>>,
    number: usize,
    version: Version,
    frame: Frame<'_>,
    output: &mut Vec<u8>,
) -> anyhow::Result<()> {
    let start = if version == Version::V5 { 5 } else { 4 };
    let (&qos, body) = frame.body.split_last().context("short")?;
    ensure!(body.len() > start, "short");
    topics
        .entry(body[start..].to_vec())
        .or_default()
        .push(number);
    output.extend(wire::suback(version, [body[0], body[1]], qos));
    Ok(())
}
