//! How long a message takes at a fixed rate: each has its time to go, and is late from then on, also where
//! the tool or the broker could not take it at that time. One publisher and one subscriber, in one process,
//! by one clock.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use serde_json::{Value, json};

use crate::link::{Link, Output, Poller, Scratch};
use crate::process::cpu_seconds;
use crate::publisher::{PAYLOAD_BYTES_MIN, numbers};
use crate::wire::{self, Frame, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL};

/// After the last one was sent, all have come within.
const DEADLINE: Duration = Duration::from_secs(20);

const WAIT: Duration = Duration::from_millis(100);

const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;
const TIMER: usize = 2;

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    broker: crate::Broker,
    #[arg(long, default_value_t = 100)]
    payload_bytes: usize,
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Messages per second.
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    #[arg(long, default_value_t = 0.5)]
    warm_up_seconds: f64,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

struct Run {
    arguments: Arguments,
    start: Instant,
    /// In messages: those before `first` warm up.
    first: u32,
    end: u32,
    sent: u32,
    received: u32,
    acknowledged: u32,
    latencies_ns: Vec<u64>,
    packet: Vec<u8>,
    publisher: (Link, Output),
    subscriber: (Link, Output),
    poller: Poller,
    scratch: Scratch,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Value> {
    ensure!(
        arguments.payload_bytes >= PAYLOAD_BYTES_MIN,
        "payloads are too small"
    );
    ensure!(arguments.rate > 0, "no messages at all");
    let pid = arguments.broker.pid;
    let mut run = Run::prepare(arguments)?;
    let interval = Duration::from_secs(1) / run.arguments.rate;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    run.poller.watch(&timer, TIMER)?;
    run.start = Instant::now();
    set(&timer, interval)?;
    let mut first_cpu_s = None;
    let mut last_cpu_s = None;
    let (mut ready, deadline) = (Vec::new(), interval * run.end + DEADLINE);
    while !run.is_done() {
        ensure!(run.start.elapsed() < deadline, "{}", run.what_is_missing());
        run.poller.wait(&mut ready, WAIT)?;
        for &token in &ready {
            if token == TIMER {
                rustix::io::read(&timer, &mut [0; 8]).ok();
            } else {
                run.take(token)?;
            }
        }
        run.send()?;
        if first_cpu_s.is_none() && run.sent >= run.first {
            first_cpu_s = pid.map(cpu_seconds).transpose()?;
        }
        if last_cpu_s.is_none() && run.sent == run.end {
            last_cpu_s = pid.map(cpu_seconds).transpose()?;
        }
    }
    Ok(run.report(
        last_cpu_s
            .zip(first_cpu_s)
            .map(|(last, first)| last - first),
    ))
}

fn set(timer: &OwnedFd, interval: Duration) -> anyhow::Result<()> {
    let period = Timespec::try_from(interval)?;
    let setting = Itimerspec {
        it_interval: period,
        it_value: period,
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &setting)?;
    Ok(())
}

impl Run {
    fn prepare(arguments: Arguments) -> anyhow::Result<Self> {
        let crate::Broker {
            address, version, ..
        } = arguments.broker;
        let poller = Poller::new()?;
        let (mut subscriber, _) = Link::open(address, version, "sub")?;
        subscriber.subscribe(version, "bench/0", arguments.qos)?;
        let (publisher, _) = Link::open(address, version, "pub")?;
        for (token, link) in [(PUBLISHER, &publisher), (SUBSCRIBER, &subscriber)] {
            link.socket.set_nonblocking(true)?;
            poller.watch_both(&link.socket, token)?;
        }
        let payload = vec![b'x'; arguments.payload_bytes];
        let of = |seconds: f64| (seconds * f64::from(arguments.rate)) as u32;
        Ok(Self {
            start: Instant::now(),
            first: of(arguments.warm_up_seconds),
            end: of(arguments.warm_up_seconds + arguments.seconds),
            sent: 0,
            received: 0,
            acknowledged: 0,
            latencies_ns: Vec::with_capacity(of(arguments.seconds) as usize),
            packet: wire::publish(version, "bench/0", arguments.qos, 1, &payload),
            publisher: (publisher, Output::default()),
            subscriber: (subscriber, Output::default()),
            poller,
            scratch: Scratch::new(),
            arguments,
        })
    }

    fn is_done(&self) -> bool {
        let acknowledged = self.arguments.qos == 0 || self.acknowledged == self.end;
        self.received == self.end && acknowledged
    }

    fn what_is_missing(&self) -> String {
        let (received, acknowledged) = (self.received, self.acknowledged);
        format!(
            "of {} messages came {received}; acknowledged: {acknowledged}",
            self.sent
        )
    }

    /// Sends what is due.
    fn send(&mut self) -> anyhow::Result<()> {
        let now = self.start.elapsed().as_nanos() as u64;
        let payload = self.packet.len() - self.arguments.payload_bytes;
        let properties = usize::from(self.arguments.broker.version == wire::Version::V5);
        while self.sent < self.end && due_ns(self.sent, self.arguments.rate) <= now {
            self.packet[payload..payload + 4].copy_from_slice(&0u32.to_le_bytes());
            self.packet[payload + 4..payload + 8].copy_from_slice(&self.sent.to_le_bytes());
            if self.arguments.qos > 0 {
                let id = (self.sent % 65_535) as u16 + 1;
                let at = payload - properties - 2;
                self.packet[at..at + 2].copy_from_slice(&id.to_be_bytes());
            }
            self.publisher.1.bytes.extend_from_slice(&self.packet);
            self.sent += 1;
        }
        let (link, output) = &mut self.publisher;
        link.send(output)
    }

    fn take(&mut self, token: usize) -> anyhow::Result<()> {
        let (whose, open) = match token {
            PUBLISHER => ("publisher", self.take_acknowledgements()?),
            _ => ("subscriber", self.take_messages()?),
        };
        ensure!(open, "the broker closed the {whose}'s connection");
        Ok(())
    }

    fn take_acknowledgements(&mut self) -> anyhow::Result<bool> {
        let acknowledged = &mut self.acknowledged;
        let (link, output) = &mut self.publisher;
        let mut take = |frame: Frame<'_>| {
            let id = frame.acknowledged()?;
            match frame.kind() {
                PUBREC => wire::put_ack(&mut output.bytes, PUBREL, id),
                PUBACK | PUBCOMP => *acknowledged += 1,
                other => bail!("packet {other} came to a publisher"),
            }
            Ok(())
        };
        link.receive(&mut self.scratch, |input| wire::frames(input, &mut take))
    }

    fn take_messages(&mut self) -> anyhow::Result<bool> {
        let of = &self.arguments;
        let (start, first, received) = (self.start, self.first, &mut self.received);
        let latencies_ns = &mut self.latencies_ns;
        let (link, output) = &mut self.subscriber;
        let mut take = |frame: Frame<'_>| {
            if frame.kind() != PUBLISH {
                wire::put_ack(&mut output.bytes, PUBCOMP, frame.acknowledged()?);
                return Ok(());
            }
            let now = start.elapsed().as_nanos() as u64;
            let (_, message) = numbers(frame.payload(of.payload_bytes)?).context("short")?;
            ensure!(
                message == *received,
                "message {message} came instead of {received}"
            );
            *received += 1;
            if message >= first {
                latencies_ns.push(now.saturating_sub(due_ns(message, of.rate)));
            }
            wire::put_answer(&mut output.bytes, &frame)
        };
        let open = link.receive(&mut self.scratch, |input| wire::frames(input, &mut take))?;
        link.send(output)?;
        Ok(open)
    }

    fn report(mut self, broker_cpu_s: Option<f64>) -> Value {
        self.latencies_ns.sort_unstable();
        let all = &self.latencies_ns;
        let at_us = |share: f64| {
            let index = (all.len() as f64 * share) as usize;
            all.get(index.min(all.len().saturating_sub(1)))
                .map(|ns| *ns as f64 / 1000.0)
        };
        json!({
            "payload_bytes": self.arguments.payload_bytes,
            "qos": self.arguments.qos,
            "rate": self.arguments.rate,
            "messages": all.len(),
            "p50_us": at_us(0.5),
            "p99_us": at_us(0.99),
            "p999_us": at_us(0.999),
            "max_us": at_us(1.0),
            "broker_cpu_s_per_million": broker_cpu_s.map(|cpu_s| cpu_s * 1e6 / all.len() as f64),
        })
    }
}

/// When this one is to go, after the start.
fn due_ns(message: u32, rate: u32) -> u64 {
    u64::from(message) * 1_000_000_000 / u64::from(rate)
}
