//! The devices that use rumqttc.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, Request};

use super::{Plan, payload, topic};
use crate::account::{Message, Sent};

/// Messages that a device has under way at most.
const IN_FLIGHT_MAX: u16 = 20;

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
        .set_inflight(IN_FLIGHT_MAX)
        .set_keep_alive(Duration::from_secs(30));
    runtime.block_on(async {
        let (client, event_loop) = AsyncClient::new(options, 10);
        let publishing = publish(client, plan, device.clone());
        let following = Follower::new(device, plan.messages_per_device).follow(event_loop);
        tokio::join!(publishing, following).1
    })
}

async fn publish(client: AsyncClient, plan: Plan, device: String) {
    let start = Instant::now();
    let topic = topic(&device);
    for number in 0..plan.messages_per_device {
        let due = start + Duration::from_secs_f64(number as f64 / plan.rate);
        tokio::time::sleep_until(due.into()).await;
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
struct Follower {
    device: String,
    count: u64,
    next: u64,
    under_way: HashMap<u16, u64>,
    acknowledged: u64,
    sent: Sent,
}

impl Follower {
    fn new(device: String, count: u64) -> Self {
        let (under_way, sent) = (HashMap::new(), Sent::default());
        Self {
            device,
            count,
            next: 0,
            under_way,
            acknowledged: 0,
            sent,
        }
    }

    async fn follow(mut self, mut event_loop: EventLoop) -> Sent {
        while self.acknowledged < self.count {
            match event_loop.poll().await {
                Ok(Event::Outgoing(Outgoing::Publish(id))) => self.sent(id),
                Ok(Event::Incoming(Packet::PubAck(ack))) => self.acknowledged(ack.pkid),
                Ok(_) => {}
                Err(_) => {
                    self.put_in_order(&mut event_loop);
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
            self.sent.acknowledged(self.message(number));
        }
    }

    /// A cut while it repeats makes rumqttc repeat in a wrong order: what had been repeated goes to
    /// the end. The order is the device's, not the broker's, so it is put right here.
    fn put_in_order(&self, event_loop: &mut EventLoop) {
        let mut pending: Vec<_> = event_loop.pending.drain(..).collect();
        pending.sort_by_key(|request| {
            match request {
                Request::Publish(publish) => self.under_way.get(&publish.pkid).copied(),
                _ => None,
            }
            .map_or((1, 0), |number| (0, number))
        });
        event_loop.pending.extend(pending);
    }
}
