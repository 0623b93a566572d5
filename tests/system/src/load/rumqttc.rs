//! The devices that use rumqttc.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, Request};
use tokio::sync::Semaphore;

use super::{Plan, payload, topic};
use crate::account::{Message, Sent};

/// Messages that a device has queued or under way at most.
const IN_FLIGHT_MAX: u16 = 20;

/// How many packet ids rumqttc uses. It loses messages when, after a reconnect, what it repeats and
/// what was queued need more; so it gets more than can be there.
const PACKET_IDS: u16 = 5 * IN_FLIGHT_MAX;

const RECONNECT_AFTER: Duration = Duration::from_millis(50);

/// A thread per device.
#[derive(Debug)]
pub(super) struct Publishers {
    threads: Vec<JoinHandle<Sent>>,
}

impl Publishers {
    pub(super) fn start(broker: SocketAddr, plan: Plan) -> Self {
        let devices = plan.devices("rumqttc").into_iter();
        let threads = devices.map(|device| std::thread::spawn(move || run(broker, plan, device)));
        Self {
            threads: threads.collect(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.threads.iter().any(|thread| !thread.is_finished())
    }

    pub(super) fn finish(self) -> Sent {
        let mut sent = Sent::default();
        for thread in self.threads {
            sent.add(thread.join().expect("a publisher does not panic"));
        }
        sent
    }
}

fn run(broker: SocketAddr, plan: Plan, device: String) -> Sent {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime can be made");
    let mut options = MqttOptions::new(&device, broker.ip().to_string(), broker.port());
    options
        .set_inflight(PACKET_IDS)
        .set_keep_alive(Duration::from_secs(30));
    runtime.block_on(async {
        let (client, event_loop) = AsyncClient::new(options, usize::from(IN_FLIGHT_MAX));
        let room = Semaphore::new(usize::from(IN_FLIGHT_MAX));
        let publishing = publish(client, plan, device.clone(), &room);
        let following = Follower::new(device, plan.messages_per_device, &room).follow(event_loop);
        tokio::join!(publishing, following).1
    })
}

async fn publish(client: AsyncClient, plan: Plan, device: String, room: &Semaphore) {
    let start = Instant::now();
    let topic = topic(&device);
    for number in 0..plan.messages_per_device {
        let due = start + Duration::from_secs_f64(number as f64 / plan.rate);
        tokio::time::sleep_until(due.into()).await;
        room.acquire().await.expect("it is never closed").forget();
        let payload = payload(&device, number);
        let queued = client
            .publish(&topic, QoS::AtLeastOnce, false, payload)
            .await;
        queued.expect("the event loop lives as long as its publisher");
    }
}

/// Learns from the event loop what was sent and acknowledged. Messages get their packet ids in the
/// order in which they were queued, and keep them when they are sent again.
#[derive(Debug)]
struct Follower<'a> {
    device: String,
    count: u64,
    next: u64,
    under_way: HashMap<u16, u64>,
    acknowledged: u64,
    sent: Sent,
    room: &'a Semaphore,
    kept: Vec<Request>,
}

impl<'a> Follower<'a> {
    fn new(device: String, count: u64, room: &'a Semaphore) -> Self {
        let (under_way, sent) = (HashMap::new(), Sent::default());
        Self {
            device,
            count,
            next: 0,
            under_way,
            acknowledged: 0,
            sent,
            room,
            kept: Vec::new(),
        }
    }

    async fn follow(mut self, mut event_loop: EventLoop) -> Sent {
        while self.acknowledged < self.count {
            match event_loop.poll().await {
                Ok(Event::Outgoing(Outgoing::Publish(id))) => self.sent(id),
                Ok(Event::Incoming(Packet::PubAck(ack))) => self.acknowledged(ack.pkid),
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    event_loop.pending.extend(self.kept.drain(..));
                }
                Ok(_) => {}
                Err(_) => {
                    self.keep(&mut event_loop);
                    tokio::time::sleep(RECONNECT_AFTER).await;
                }
            }
        }
        self.sent
    }

    fn message(&self, number: u64) -> Message {
        Message {
            device: self.device.clone(),
            number,
        }
    }

    fn sent(&mut self, id: u16) {
        let number = *self.under_way.entry(id).or_insert_with(|| {
            self.next += 1;
            self.next - 1
        });
        self.sent.sent(self.message(number));
    }

    fn acknowledged(&mut self, id: u16) {
        if let Some(number) = self.under_way.remove(&id) {
            self.acknowledged += 1;
            self.room.add_permits(1);
            self.sent.acknowledged(self.message(number));
        }
    }

    /// After a cut, takes what is to be sent again out of the event loop: rumqttc forgets it when the
    /// broker has no session, and repeats it in a wrong order when it was cut while it repeated.
    fn keep(&mut self, event_loop: &mut EventLoop) {
        self.kept.extend(event_loop.pending.drain(..));
        self.kept.sort_by_key(number);
    }
}

/// Which message a request publishes.
fn number(request: &Request) -> Option<u64> {
    let Request::Publish(publish) = request else {
        return None;
    };
    let text = std::str::from_utf8(&publish.payload).ok()?;
    text.split(':').nth(1)?.parse().ok()
}
