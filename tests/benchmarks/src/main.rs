//! The load tool: publishes over MQTT at QoS 1 in a closed loop (a fixed number under way, nothing
//! dropped) or at a fixed rate, and prints what the acknowledgements took as one line of JSON.
//!
//! Each payload begins with the time of its sending in nanoseconds since the Unix epoch, 20 digits, so
//! that a consumer can tell how long the message was under way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use clap::Parser;
use tidegate_edge_protocol::mqtt::codec::{
    Connect, Decoder, Message, Packet, PacketId, PublishHeader, PublishProperties, PublishQos,
    Text, Version, encode, encode_publish,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep_until;

/// Publishes at QoS 1 and measures.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    #[arg(long, default_value = "127.0.0.1:1883")]
    address: SocketAddr,
    /// Connections, each a device of its own.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Topics `PREFIX-0000/value …`, shared out among the connections.
    #[arg(long, default_value_t = 1)]
    topics: usize,
    #[arg(long, default_value = "load")]
    prefix: String,
    /// Messages per second over all connections; 0 is as fast as acknowledgements come.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Messages over all connections.
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
    #[arg(long, default_value_t = 200)]
    payload_bytes: usize,
    /// Publishes under way per connection.
    #[arg(long, default_value_t = 100)]
    inflight: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..arguments.connections {
        tasks.spawn(run(arguments.clone(), index, start));
    }
    let mut latencies_us: Vec<u32> = Vec::with_capacity(arguments.messages);
    while let Some(done) = tasks.join_next().await {
        latencies_us.extend(done??);
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies_us.sort_unstable();
    let at = |fraction: f64| {
        let index = (latencies_us.len() as f64 * fraction) as usize;
        latencies_us
            .get(index.min(latencies_us.len() - 1))
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{{\"messages\":{},\"seconds\":{seconds:.3},\"messages_per_second\":{:.0},\
         \"ack_p50_us\":{},\"ack_p99_us\":{},\"ack_p999_us\":{}}}",
        latencies_us.len(),
        latencies_us.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        at(0.999),
    );
    Ok(())
}

/// One device.
struct Device {
    socket: TcpStream,
    decoder: Decoder,
    input: BytesMut,
    output: BytesMut,
    under_way: VecDeque<(PacketId, Instant)>,
    next_id: u16,
    latencies_us: Vec<u32>,
}

async fn run(arguments: Arguments, index: usize, start: Instant) -> anyhow::Result<Vec<u32>> {
    let socket = TcpStream::connect(arguments.address).await?;
    socket.set_nodelay(true)?;
    let connect = Connect {
        version: Version::V3_1_1,
        clean_start: true,
        keep_alive_s: 0,
        client_id: Text::new(format!("{}-{index}", arguments.prefix))?,
        will: None,
        username: None,
        password: None,
        properties: Default::default(),
    };
    let mut device = Device {
        socket,
        decoder: Decoder::client(Version::V3_1_1, 1 << 20),
        input: BytesMut::new(),
        output: BytesMut::new(),
        under_way: VecDeque::new(),
        next_id: 0,
        latencies_us: Vec::new(),
    };
    encode(
        &Packet::Connect(Box::new(connect)),
        Version::V3_1_1,
        &mut device.output,
    )?;
    device.flush().await?;
    match device.read().await? {
        Packet::Connack(connack) if !connack.reason.is_error() => {}
        other => bail!("instead of CONNACK came {other:?}"),
    }
    let share = |total: usize| {
        total / arguments.connections + usize::from(index < total % arguments.connections)
    };
    let topics = topics(&arguments, index)?;
    let interval = match arguments.rate {
        0 => None,
        rate => Some(Duration::from_secs_f64(
            arguments.connections as f64 / rate as f64,
        )),
    };
    // Devices are spread over the interval, as real ones are.
    let offset =
        interval.map(|interval| interval.mul_f64(index as f64 / arguments.connections as f64));
    let first = start + Duration::from_millis(100) + offset.unwrap_or_default();
    device
        .publish(
            &arguments,
            &topics,
            share(arguments.messages),
            interval,
            first,
        )
        .await?;
    Ok(device.latencies_us)
}

fn topics(arguments: &Arguments, index: usize) -> anyhow::Result<Vec<Text>> {
    let mine = (0..arguments.topics).filter(|topic| topic % arguments.connections == index);
    let mine: Result<Vec<_>, _> = mine
        .map(|topic| Text::new(format!("{}-{topic:04}/value", arguments.prefix)))
        .collect();
    let mut mine = mine?;
    if mine.is_empty() {
        mine.push(Text::new(format!("{}-{index:04}/value", arguments.prefix))?);
    }
    Ok(mine)
}

impl Device {
    async fn publish(
        &mut self,
        arguments: &Arguments,
        topics: &[Text],
        messages: usize,
        interval: Option<Duration>,
        first: Instant,
    ) -> anyhow::Result<()> {
        let mut sent = 0;
        while self.latencies_us.len() < messages {
            let due = interval.map(|interval| first + interval * sent as u32);
            let now = Instant::now();
            let may_send = sent < messages
                && self.under_way.len() < arguments.inflight
                && due.is_none_or(|due| due <= now);
            if may_send {
                self.encode(&topics[sent % topics.len()], arguments.payload_bytes)?;
                sent += 1;
                if self.output.len() < 32 << 10 {
                    continue;
                }
            }
            self.flush().await?;
            let waits_for_time = sent < messages && self.under_way.len() < arguments.inflight;
            tokio::select! {
                packet = self.read() => self.take(packet?)?,
                () = sleep_until(due.unwrap_or(now).into()), if waits_for_time => {}
            }
            while let Some(packet) = self.decoder.decode(&mut self.input)? {
                self.take(packet)?;
            }
        }
        Ok(())
    }

    fn encode(&mut self, topic: &Text, payload_bytes: usize) -> anyhow::Result<()> {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let id = PacketId::new(self.next_id).context("packet ids start at 1")?;
        let now_ns = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let mut payload = format!(
            "{now_ns:020}{:012}",
            self.latencies_us.len() + self.under_way.len()
        );
        while payload.len() < payload_bytes {
            // JSON-like text: it compresses about as readings do.
            payload.push_str(",\"value\":21.53,\"unit\":\"C\",\"ok\":true");
        }
        payload.truncate(payload_bytes.max(32));
        let message = Message {
            topic: topic.clone(),
            payload: Bytes::from(payload),
            properties: PublishProperties::default().into(),
        };
        let header = PublishHeader {
            duplicate: false,
            qos: PublishQos::AtLeastOnce(id),
            retain: false,
            topic_alias: None,
            is_topic_known: false,
            subscription_identifiers: &[],
            message_expiry_interval_s: None,
        };
        encode_publish(&header, &message, Version::V3_1_1, &mut self.output)?;
        self.under_way.push_back((id, Instant::now()));
        Ok(())
    }

    fn take(&mut self, packet: Packet) -> anyhow::Result<()> {
        let Packet::Puback(ack) = packet else {
            bail!("instead of PUBACK came {packet:?}")
        };
        let (id, sent_at) = self.under_way.pop_front().context("a PUBACK too many")?;
        if id != ack.packet_id {
            bail!("PUBACKs are out of order");
        }
        self.latencies_us.push(sent_at.elapsed().as_micros() as u32);
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.socket.write_all(&self.output).await?;
        self.output.clear();
        Ok(())
    }

    /// Safe to cancel.
    async fn read(&mut self) -> anyhow::Result<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.input)? {
                return Ok(packet);
            }
            self.input.reserve(64 << 10);
            if self.socket.read_buf(&mut self.input).await? == 0 {
                bail!("the server closed the connection");
            }
        }
    }
}
