//! Messages as fast as they go in a closed loop: a fixed number under way, each counted when all of its
//! subscribers have it and the broker has acknowledged it. Nothing may be lost, come twice or out of
//! order: that ends the run with an error, and so does a broker that stands still.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::link::{Link, Poller, Scratch};
use crate::process::cpu_seconds;
use crate::publisher::{PAYLOAD_BYTES_MIN, Publisher, Publishing};
use crate::subscriber::Subscriber;
use crate::wire::Version;

/// A broker that brings nothing for so long stands still.
const STALL: Duration = Duration::from_secs(10);

/// One wait for events at most; then the clock is looked at.
const WAIT: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub broker: crate::Broker,
    #[arg(long, default_value_t = 1)]
    pub publishers: usize,
    /// As many as publishers: each has a topic and a subscriber of its own. Else all share one topic.
    #[arg(long, default_value_t = 1)]
    pub subscribers: usize,
    #[arg(long, default_value_t = 100)]
    pub payload_bytes: usize,
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Messages under way, over all publishers.
    #[arg(long, default_value_t = 500)]
    pub under_way: usize,
    /// What is measured comes after.
    #[arg(long, default_value_t = 0.5)]
    pub warm_up_seconds: f64,
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Measure so many messages instead of some seconds, without warming up.
    #[arg(long)]
    pub messages: Option<u64>,
}

struct Run {
    arguments: Arguments,
    poller: Poller,
    scratch: Scratch,
    publishers: Vec<Publisher>,
    /// Their tokens come after the publishers'.
    subscribers: Vec<Subscriber>,
    /// Publishers that may have something to send.
    listed: Vec<usize>,
    /// Subscribers that have something to acknowledge.
    acknowledging: Vec<usize>,
    delivered: u64,
}

/// What stands at one moment.
struct Mark {
    at: Instant,
    delivered: u64,
    broker_cpu_s: Option<f64>,
    tool_cpu_s: f64,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Value> {
    ensure!(
        arguments.payload_bytes >= PAYLOAD_BYTES_MIN,
        "payloads are too small"
    );
    ensure!(
        arguments.publishers > 0 && arguments.subscribers > 0,
        "nobody takes part"
    );
    ensure!(
        arguments.under_way >= arguments.publishers && arguments.under_way <= 65_535,
        "each publisher needs a message under way, and all together have at most 65,535"
    );
    let mut run = Run::prepare(arguments)?;
    let (first, last) = run.measure()?;
    Ok(run.report(&first, &last))
}

/// Publishers' and subscribers' topics: pairs, or one for all.
fn topic(arguments: &Arguments, number: usize) -> String {
    if arguments.publishers == arguments.subscribers {
        format!("bench/{number}")
    } else {
        "bench/0".to_owned()
    }
}

impl Run {
    fn prepare(arguments: Arguments) -> anyhow::Result<Self> {
        let poller = Poller::new()?;
        let crate::Broker {
            address, version, ..
        } = arguments.broker;
        let mut subscribers = Vec::new();
        for number in 0..arguments.subscribers {
            let (mut link, _) = Link::open(address, version, &format!("sub-{number}"))?;
            link.subscribe(version, &topic(&arguments, number), arguments.qos)?;
            subscribers.push(Subscriber::new(
                link,
                version,
                &topic(&arguments, number),
                arguments.qos,
                arguments.payload_bytes,
                arguments.publishers,
            )?);
        }
        let publishers = (0..arguments.publishers)
            .map(|number| publisher(&arguments, address, version, number))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let links = publishers.iter().map(|publisher| &publisher.link);
        let links = links.chain(subscribers.iter().map(Subscriber::link));
        for (token, link) in links.enumerate() {
            link.socket.set_nonblocking(true)?;
            poller.watch_both(&link.socket, token)?;
        }
        Ok(Self {
            listed: Vec::with_capacity(arguments.publishers),
            acknowledging: Vec::with_capacity(arguments.subscribers),
            arguments,
            poller,
            scratch: Scratch::new(),
            publishers,
            subscribers,
            delivered: 0,
        })
    }

    fn mark(&self) -> anyhow::Result<Mark> {
        let pid = self.arguments.broker.pid;
        Ok(Mark {
            at: Instant::now(),
            delivered: self.delivered,
            broker_cpu_s: pid.map(cpu_seconds).transpose()?,
            tool_cpu_s: cpu_seconds(std::process::id())?,
        })
    }

    /// Warms up, measures, and sees that everything that was sent has come.
    fn measure(&mut self) -> anyhow::Result<(Mark, Mark)> {
        let share = |messages: u64| messages.div_ceil(self.arguments.publishers as u64);
        let mut left = self.arguments.messages.map_or(u64::MAX, share);
        if self.arguments.messages.is_none() {
            let warm_up = Duration::from_secs_f64(self.arguments.warm_up_seconds);
            self.pump(u64::MAX, Some(Instant::now() + warm_up))?;
        }
        let first = self.mark()?;
        let mut last = None;
        if self.arguments.messages.is_none() {
            let seconds = Duration::from_secs_f64(self.arguments.seconds);
            self.pump(u64::MAX, Some(first.at + seconds))?;
            last = Some(self.mark()?);
            left = 0;
        }
        self.pump(left, None)?;
        let last = match last {
            Some(last) => last,
            None => self.mark()?,
        };
        Ok((first, last))
    }

    /// Runs until the time is over, or, without one, until each publisher has sent `left` and all of it
    /// has come.
    fn pump(&mut self, left: u64, until: Option<Instant>) -> anyhow::Result<()> {
        let ends: Vec<u64> = self
            .publishers
            .iter()
            .map(|of| of.sent().saturating_add(left))
            .collect();
        (0..self.publishers.len())
            .for_each(|number| list(&mut self.publishers, &mut self.listed, number));
        let mut ready = Vec::new();
        let mut progress = (self.delivered, Instant::now());
        loop {
            self.send(&ends)?;
            let now = Instant::now();
            match until {
                Some(until) if now >= until => return Ok(()),
                None if self.is_done(&ends) => return Ok(()),
                _ => {}
            }
            self.poller.wait(&mut ready, WAIT)?;
            for &token in &ready {
                self.take(token)?;
            }
            if self.delivered > progress.0 {
                progress = (self.delivered, now);
            } else if now - progress.1 > STALL {
                bail!("the broker stands still: {}", self.what_is_missing());
            }
        }
    }

    /// Messages first: whoever waits for them works while the acknowledgements are written.
    fn send(&mut self, ends: &[u64]) -> anyhow::Result<()> {
        while let Some(number) = self.listed.pop() {
            let received = self.received(number);
            let publisher = &mut self.publishers[number];
            publisher.listed = false;
            publisher.release(received, ends[number] - publisher.sent())?;
            publisher.flush()?;
        }
        while let Some(number) = self.acknowledging.pop() {
            self.subscribers[number].flush()?;
        }
        Ok(())
    }

    /// How many messages of this publisher all have who should.
    fn received(&self, publisher: usize) -> u64 {
        if self.publishers.len() == self.subscribers.len() {
            return self.subscribers[publisher].count(publisher);
        }
        let counts = self.subscribers.iter().map(|of| of.count(publisher));
        counts.min().unwrap_or_default()
    }

    fn is_done(&self, ends: &[u64]) -> bool {
        let mut of = self.publishers.iter().zip(ends);
        of.all(|(publisher, end)| publisher.is_idle() && publisher.sent() >= *end)
    }

    fn what_is_missing(&self) -> String {
        let sent: u64 = self.publishers.iter().map(Publisher::sent).sum();
        let done: u64 = self.publishers.iter().map(|publisher| publisher.done).sum();
        format!(
            "{} of {sent} messages are missing or not acknowledged",
            sent - done
        )
    }

    /// Reads from one connection, and has it go on where it waited for room.
    fn take(&mut self, token: usize) -> anyhow::Result<()> {
        if let Some(publisher) = self.publishers.get_mut(token) {
            publisher.receive(&mut self.scratch)?;
            list(&mut self.publishers, &mut self.listed, token);
            return Ok(());
        }
        let number = token - self.publishers.len();
        let subscriber = &mut self.subscribers[number];
        let (publishers, listed) = (&mut self.publishers, &mut self.listed);
        self.delivered += subscriber.receive(&mut self.scratch, |publisher| {
            list(publishers, listed, publisher);
        })?;
        if subscriber.has_output() {
            self.acknowledging.push(number);
        }
        Ok(())
    }

    fn report(&self, first: &Mark, last: &Mark) -> Value {
        let of = &self.arguments;
        let seconds = (last.at - first.at).as_secs_f64();
        let delivered = last.delivered - first.delivered;
        // A message to a hundred subscribers counts as a hundred.
        let per_million = |cpu_s: f64| cpu_s * 1e6 / delivered as f64;
        let broker_cpu_s = last
            .broker_cpu_s
            .zip(first.broker_cpu_s)
            .map(|(last, first)| last - first);
        let rate = delivered as f64 / seconds;
        json!({
            "publishers": of.publishers,
            "subscribers": of.subscribers,
            "payload_bytes": of.payload_bytes,
            "qos": of.qos,
            "under_way": of.under_way,
            "seconds": seconds,
            "deliveries": delivered,
            "messages_per_second": rate,
            "broker_cpu_s": broker_cpu_s,
            "broker_cpu_s_per_million": broker_cpu_s.map(per_million),
            "tool_cpu_s_per_million": per_million(last.tool_cpu_s - first.tool_cpu_s),
        })
    }
}

fn publisher(
    arguments: &Arguments,
    address: SocketAddr,
    version: Version,
    number: usize,
) -> anyhow::Result<Publisher> {
    let (link, under_way_max) = Link::open(address, version, &format!("pub-{number}"))?;
    let (of, publishers) = (arguments, arguments.publishers);
    let window = of.under_way / publishers + usize::from(number < of.under_way % publishers);
    ensure!(
        of.qos == 0 || window <= usize::from(under_way_max),
        "the broker allows {under_way_max} messages under way, not {window}"
    );
    let publishing = Publishing {
        version,
        topic: &topic(of, number),
        number,
        qos: of.qos,
        payload_bytes: of.payload_bytes,
        window,
    };
    Ok(Publisher::new(link, &publishing))
}

fn list(publishers: &mut [Publisher], listed: &mut Vec<usize>, number: usize) {
    if !std::mem::replace(&mut publishers[number].listed, true) {
        listed.push(number);
    }
}

#[cfg(test)]
#[path = "throughput_tests.rs"]
mod tests;
