//! A broker that does as little as a client can bear: it accepts everybody, passes a publisher's bytes on
//! to the subscribers of its topic as they are, and acknowledges. It shows how fast the tool is at most,
//! and is no broker: no wildcards, no sessions, no checks, and subscribers' acknowledgements are read when
//! nothing else is to be done.

use std::collections::HashMap;
use std::io::{IoSlice, Write};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::Value;

use crate::link::{Link, Output, Poller, Scratch};
use crate::wire::{self, Frame, PUBCOMP, PUBLISH, PUBREC, PUBREL, Shape, Version};

const CONNECT: u8 = 1;
const SUBSCRIBE: u8 = 8;

/// CONNECT's protocol level lies behind the six bytes of its name.
const LEVEL_AT: usize = 6;

/// It does not sleep before nothing has come for so long: to wake it would be at the tool's cost.
const AWAKE: Duration = Duration::from_millis(1);

/// After that nothing has come for so long: then subscribers are read from, and less and less often.
const QUIET_MIN: Duration = Duration::from_millis(1);
const QUIET_MAX: Duration = Duration::from_millis(100);

/// A subscriber that was written to so many times is read from, for its acknowledgements take room.
const WRITES_UNREAD_MAX: u32 = 32;

/// What came at once for a subscriber is written at once if it is so much, and gathered if it is less.
const WRITE_BYTES_MIN: usize = 16 << 10;

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
    state: State,
}

#[derive(Default)]
struct State {
    output: Output,
    version: Version,
    topic: Option<Topic>,
    is_subscriber: bool,
    writes_unread: u32,
    /// It is on the sink's list.
    listed: bool,
}

/// What a client publishes to, once it has.
struct Topic {
    shape: Shape,
    qos: u8,
    subscribers: Vec<usize>,
}

struct Sink {
    poller: Poller,
    /// By token, which is one more than the place here: 0 is the listener.
    clients: Vec<Option<Client>>,
    topics: HashMap<Vec<u8>, Vec<usize>>,
    losses: Losses,
    /// Of what one read brought: runs of bytes for the subscribers.
    runs: Vec<Range<usize>>,
    /// Only one client has something at the moment.
    is_alone: bool,
    /// Clients with output, and subscribers to read from.
    listed: Vec<usize>,
    unread: Vec<usize>,
}

/// Which messages are lost on purpose.
struct Losses {
    each: Option<u64>,
    passed: u64,
}

impl Losses {
    #[inline]
    fn is_next(&mut self) -> bool {
        self.passed += 1;
        self.each
            .is_some_and(|each| self.passed.is_multiple_of(each))
    }
}

/// Runs until it is killed.
pub fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    serve(&TcpListener::bind(arguments.address)?, arguments.lose_each)
}

pub fn serve(listener: &TcpListener, lose_each: Option<u64>) -> anyhow::Result<Value> {
    let mut sink = Sink {
        poller: Poller::new()?,
        clients: Vec::new(),
        topics: HashMap::new(),
        losses: Losses {
            each: lose_each,
            passed: 0,
        },
        runs: Vec::new(),
        is_alone: false,
        listed: Vec::new(),
        unread: Vec::new(),
    };
    listener.set_nonblocking(true)?;
    sink.poller.watch(listener, 0)?;
    let (mut ready, mut scratch, mut quiet) = (Vec::new(), Scratch::new(), QUIET_MIN);
    loop {
        sink.wait(&mut ready, quiet)?;
        if ready.is_empty() {
            quiet = (quiet * 2).min(QUIET_MAX);
            sink.list_subscribers();
        } else {
            quiet = QUIET_MIN;
        }
        sink.is_alone = ready.len() == 1;
        for &token in &ready {
            match token.checked_sub(1) {
                None => sink.accept(listener)?,
                Some(number) => sink.serve(number, &mut scratch),
            }
        }
        while let Some(number) = sink.unread.pop() {
            sink.serve(number, &mut scratch);
        }
        while let Some(number) = sink.listed.pop() {
            sink.flush(number);
        }
    }
}

impl Sink {
    /// For somebody who has something, at first without sleeping; for nobody when it is quiet for long.
    fn wait(&mut self, ready: &mut Vec<usize>, quiet: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let sleep = if start.elapsed() < AWAKE {
                Duration::ZERO
            } else {
                quiet
            };
            self.poller.wait(ready, sleep)?;
            if !ready.is_empty() || !sleep.is_zero() {
                return Ok(());
            }
        }
    }

    fn accept(&mut self, listener: &TcpListener) -> anyhow::Result<()> {
        while let Ok((socket, _)) = listener.accept() {
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let number = self.clients.iter().position(Option::is_none);
            let number = number.unwrap_or(self.clients.len());
            self.poller.watch_both(&socket, number + 1)?;
            self.clients
                .resize_with(self.clients.len().max(number + 1), || None);
            self.clients[number] = Some(Client {
                link: Link::of(socket),
                state: State::default(),
            });
        }
        Ok(())
    }

    /// Reads from a client, and passes on. What is wrong with one client ends that client.
    fn serve(&mut self, number: usize, scratch: &mut Scratch) {
        // Apart from the others, to whom its messages go.
        let Some(mut client) = self.clients[number].take() else {
            return;
        };
        let Client { link, state } = &mut client;
        let was_subscriber = state.is_subscriber;
        let open = link.receive(scratch, |input| self.take(number, state, input));
        let mut open = open.unwrap_or(false);
        if !state.output.is_empty() {
            list(&mut self.listed, number, state);
        }
        if state.is_subscriber && !was_subscriber {
            let watched = self.poller.watch_room(&link.socket, number + 1);
            open &= watched.is_ok();
        }
        if open {
            self.clients[number] = Some(client);
        } else {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: usize) {
        self.clients[number] = None;
        for subscribers in self.topics.values_mut() {
            subscribers.retain(|subscriber| *subscriber != number);
        }
    }

    /// Takes whole packets; tells how many bytes they have.
    fn take(&mut self, number: usize, state: &mut State, input: &[u8]) -> anyhow::Result<usize> {
        let mut at = 0;
        self.runs.clear();
        loop {
            at = self.take_alike(state, input, at)?;
            let Some(frame) = Frame::next(&input[at..])? else {
                break;
            };
            if frame.kind() == PUBLISH {
                // From now on all look like this one, and it is the first of them.
                let subscribers = self.topics.get(frame.topic()?);
                state.topic = Some(Topic {
                    shape: Shape::of(&frame)?,
                    qos: frame.qos(),
                    subscribers: subscribers.cloned().unwrap_or_default(),
                });
            } else {
                self.take_other(number, state, &frame)?;
                at += frame.packet.len();
            }
        }
        if let Some(topic) = &state.topic
            && !self.runs.is_empty()
        {
            self.pass_on(&topic.subscribers, input);
        }
        Ok(at)
    }

    /// Acknowledges messages that look like the last one, and lets them pass; tells where they end.
    #[inline]
    fn take_alike(
        &mut self,
        state: &mut State,
        input: &[u8],
        start: usize,
    ) -> anyhow::Result<usize> {
        let Some(topic) = &state.topic else {
            return Ok(start);
        };
        let (mut at, mut run, answer) = (start, start, wire::answer(topic.qos));
        while let Some(packet) = topic.shape.first(&input[at..]) {
            if let Some(kind) = answer {
                let id = topic.shape.packet_id(packet)?;
                wire::put_ack(&mut state.output.bytes, kind, id);
            }
            let end = at + packet.len();
            if self.losses.is_next() {
                self.runs.push(run..at);
                run = end;
            }
            at = end;
        }
        if run < at {
            self.runs.push(run..at);
        }
        Ok(at)
    }

    fn take_other(
        &mut self,
        number: usize,
        state: &mut State,
        frame: &Frame<'_>,
    ) -> anyhow::Result<()> {
        let output = &mut state.output.bytes;
        match frame.kind() {
            // The publisher's; and of a subscriber whom a message of QoS 2 went to.
            PUBREL => wire::put_ack(output, PUBCOMP, frame.acknowledged()?),
            PUBREC => wire::put_ack(output, PUBREL, frame.acknowledged()?),
            CONNECT => {
                if *frame.body.get(LEVEL_AT).context("short")? == 5 {
                    state.version = Version::V5;
                }
                output.extend(wire::connack(state.version));
            }
            SUBSCRIBE => {
                let filter = subscribe(state.version, frame, output)?;
                self.topics.entry(filter).or_default().push(number);
                state.is_subscriber = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// The runs of `input`, to all of these.
    fn pass_on(&mut self, subscribers: &[usize], input: &[u8]) {
        let runs = self
            .runs
            .iter()
            .map(|run| IoSlice::new(&input[run.clone()]));
        let runs: Vec<IoSlice<'_>> = runs.collect();
        let bytes: usize = runs.iter().map(|run| run.len()).sum();
        let at_once = self.is_alone || bytes >= WRITE_BYTES_MIN;
        for &number in subscribers {
            let Some(Client { link, state }) = &mut self.clients[number] else {
                continue;
            };
            let mut written = 0;
            if at_once && state.output.is_empty() {
                // Whoever has gone is noticed where it is read from.
                written = link.socket.write_vectored(&runs).unwrap_or(0);
                state.writes_unread += 1;
            }
            if written < bytes {
                put_rest(&mut state.output.bytes, &runs, written);
                list(&mut self.listed, number, state);
            }
            if state.writes_unread >= WRITES_UNREAD_MAX {
                state.writes_unread = 0;
                self.unread.push(number);
            }
        }
    }

    fn flush(&mut self, number: usize) {
        let Some(Client { link, state }) = &mut self.clients[number] else {
            return;
        };
        state.listed = false;
        state.writes_unread += u32::from(state.is_subscriber);
        if link.send(&mut state.output).is_err() {
            self.forget(number);
        }
    }

    fn list_subscribers(&mut self) {
        let numbered = self.clients.iter().enumerate();
        let subscribers = numbered.filter_map(|(number, client)| {
            let is_subscriber = client.as_ref()?.state.is_subscriber;
            is_subscriber.then_some(number)
        });
        self.unread.extend(subscribers);
    }
}

fn list(listed: &mut Vec<usize>, number: usize, state: &mut State) {
    if !std::mem::replace(&mut state.listed, true) {
        listed.push(number);
    }
}

/// What of the runs was not written.
fn put_rest(output: &mut Vec<u8>, runs: &[IoSlice<'_>], mut written: usize) {
    for run in runs {
        let skipped = written.min(run.len());
        output.extend_from_slice(&run[skipped..]);
        written -= skipped;
    }
}

/// Grants; tells the filter.
fn subscribe(version: Version, frame: &Frame<'_>, output: &mut Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let start = if version == Version::V5 { 5 } else { 4 };
    let (&qos, body) = frame.body.split_last().context("short")?;
    ensure!(body.len() > start, "short");
    output.extend(wire::suback(version, [body[0], body[1]], qos));
    Ok(body[start..].to_vec())
}
