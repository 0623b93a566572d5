//! A broker that does as little as a client can bear: it accepts everybody, passes a publisher's bytes on
//! to the subscribers of its topic as they are, and acknowledges. It shows how fast the tool is at most,
//! and is no broker: no wildcards, no sessions, no checks.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::Value;

use crate::link::{Link, Poller, Scratch};
use crate::wire::{self, Frame, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Version};

const CONNECT: u8 = 1;
const SUBSCRIBE: u8 = 8;

/// CONNECT's protocol level lies behind the six bytes of its name.
const LEVEL_AT: usize = 6;

const WAIT: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[arg(long, default_value = "127.0.0.1:1883")]
    address: SocketAddr,
}

struct Client {
    link: Link,
    output: Vec<u8>,
    version: Version,
    /// Of the topic that it publishes to, once it has.
    subscribers: Option<Vec<usize>>,
}

struct Sink {
    poller: Poller,
    /// By token, which is one more than the place here: 0 is the listener.
    clients: Vec<Option<Client>>,
    topics: HashMap<Vec<u8>, Vec<usize>>,
    /// What one read brought for the subscribers.
    batch: Vec<u8>,
    scratch: Scratch,
}

/// Runs until it is killed.
pub fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let listener = TcpListener::bind(arguments.address)?;
    let mut sink = Sink {
        poller: Poller::new()?,
        clients: Vec::new(),
        topics: HashMap::new(),
        batch: Vec::new(),
        scratch: Scratch::new(),
    };
    sink.poller.watch(&listener, 0)?;
    let mut ready = Vec::new();
    loop {
        sink.poller.wait(&mut ready, WAIT)?;
        for &token in &ready {
            match token.checked_sub(1) {
                None => sink.accept(&listener)?,
                // What is wrong with one client ends that client.
                Some(number) => {
                    if !sink.serve(number).unwrap_or(false) {
                        sink.let_go(number);
                    }
                }
            }
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
        let Client {
            link,
            output,
            version,
            subscribers,
        } = client;
        let (batch, topics) = (&mut self.batch, &mut self.topics);
        batch.clear();
        let open = link.receive(&mut self.scratch, |frame: Frame<'_>| {
            match frame.kind() {
                PUBLISH => {
                    if subscribers.is_none() {
                        *subscribers = topics.get(frame.topic()?).cloned();
                    }
                    batch.extend_from_slice(frame.packet);
                    match frame.qos() {
                        0 => {}
                        1 => wire::put_ack(output, PUBACK, frame.packet_id()?),
                        _ => wire::put_ack(output, PUBREC, frame.packet_id()?),
                    }
                }
                // The publisher's; and of a subscriber whom a message of QoS 2 went to.
                PUBREL => wire::put_ack(output, PUBCOMP, frame.acknowledged()?),
                PUBREC => wire::put_ack(output, PUBREL, frame.acknowledged()?),
                CONNECT => {
                    let level = *frame.body.get(LEVEL_AT).context("short")?;
                    *version = if level == 5 { Version::V5 } else { Version::V3 };
                    output.extend(wire::connack(*version));
                }
                SUBSCRIBE => subscribe(topics, number, *version, frame, output)?,
                _ => {}
            }
            Ok(())
        })?;
        link.send(&self.poller, number + 1, output)?;
        if !self.batch.is_empty() {
            let subscribers = subscribers.take().unwrap_or_default();
            let passed = subscribers.iter().try_for_each(|to| self.pass_on(*to));
            if let Some(client) = &mut self.clients[number] {
                client.subscribers = Some(subscribers);
            }
            passed?;
        }
        Ok(open)
    }

    fn pass_on(&mut self, to: usize) -> anyhow::Result<()> {
        let Some(client) = &mut self.clients[to] else {
            return Ok(());
        };
        if client.output.is_empty() {
            let written = crate::link::room(client.link.socket.write(&self.batch))?;
            client.output.extend_from_slice(&self.batch[written..]);
            let waits = !client.output.is_empty();
            return client.link.watch_for_room(&self.poller, to + 1, waits);
        }
        client.output.extend_from_slice(&self.batch);
        client.link.send(&self.poller, to + 1, &mut client.output)
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
