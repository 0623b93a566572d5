//! Somebody who does nothing wrong: publishes 100 messages a second at QoS 1, whatever became of those
//! before, and receives each of them. It is there to notice what others do to it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::mqtt::{self, Client};
use crate::wait;

const TOPIC: &str = "plant/bystander";
const INTERVAL: Duration = Duration::from_millis(10);
/// Not told yet when the last message is sent.
const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
pub struct Bystander {
    /// How many messages there are to be.
    last: Arc<AtomicU64>,
    stop: Sender<()>,
    threads: [JoinHandle<()>; 3],
    acknowledged: Receiver<Duration>,
    delivered: Receiver<Duration>,
}

/// The 99th percentiles of the times from when a message was due.
#[derive(Clone, Copy, Debug)]
pub struct P99 {
    pub acknowledged: Duration,
    pub delivered: Duration,
}

impl Bystander {
    #[track_caller]
    pub fn start(broker: SocketAddr) -> Self {
        let mut subscriber = Client::connect(broker, "bystander-in").expect("it connects");
        subscriber.subscribe(TOPIC, 1).expect("it subscribes");
        let publisher = Client::connect(broker, "bystander-out").expect("it connects");
        let sending = publisher.stream.try_clone().expect("a socket has two ends");
        let (start, last) = (Instant::now(), Arc::new(AtomicU64::new(UNKNOWN)));
        let (stop, stopped) = mpsc::channel();
        let (tell_acknowledged, acknowledged) = mpsc::channel();
        let (tell_delivered, delivered) = mpsc::channel();
        let [of_sending, of_acks, of_deliveries] = [0; 3].map(|_| Arc::clone(&last));
        let threads = [
            std::thread::spawn(move || send(sending, start, &stopped, &of_sending)),
            std::thread::spawn(move || {
                take_acknowledgements(publisher, start, &of_acks, &tell_acknowledged);
            }),
            std::thread::spawn(move || {
                take_deliveries(subscriber, start, &of_deliveries, &tell_delivered);
            }),
        ];
        Self {
            last,
            stop,
            threads,
            acknowledged,
            delivered,
        }
    }

    /// Of so many messages from now on.
    #[track_caller]
    pub fn measure(&self, count: usize) -> P99 {
        self.forget();
        self.next(count)
    }

    /// The same of two at the same time: this one, and one that nothing is done to.
    #[track_caller]
    pub fn measure_beside(&self, control: &Self, count: usize) -> (P99, P99) {
        self.forget();
        control.forget();
        // What the control has got meanwhile waits in its channels.
        (self.next(count), control.next(count))
    }

    /// What came before is not asked for.
    fn forget(&self) {
        for times in [&self.acknowledged, &self.delivered] {
            times.try_iter().for_each(drop);
        }
    }

    #[track_caller]
    fn next(&self, count: usize) -> P99 {
        P99 {
            acknowledged: p99(&self.acknowledged, count),
            delivered: p99(&self.delivered, count),
        }
    }

    /// Ends it, once all that it sent is acknowledged and has come; returns how many that was.
    #[track_caller]
    pub fn finish(self) -> u64 {
        drop(self.stop);
        for thread in self.threads {
            thread.join().expect("the bystander sees no error");
        }
        self.last.load(Ordering::SeqCst)
    }
}

#[track_caller]
fn p99(times: &Receiver<Duration>, count: usize) -> Duration {
    let next = |_| {
        times
            .recv_timeout(wait::SOON)
            .expect("the bystander goes on")
    };
    let mut times: Vec<_> = (0..count).map(next).collect();
    times.sort();
    times[count * 99 / 100]
}

fn due(start: Instant, number: u64) -> Instant {
    start + INTERVAL * number as u32
}

/// Sends one message after the other. Which is the last is said before it is sent: who waits for it then
/// knows that no other comes.
fn send(mut stream: TcpStream, start: Instant, stopped: &Receiver<()>, last: &AtomicU64) {
    let mut number = 0;
    while number < last.load(Ordering::SeqCst) {
        let pause = due(start, number).saturating_duration_since(Instant::now());
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            last.store(number + 1, Ordering::SeqCst);
        }
        let packet = mqtt::publish(packet_id(number), TOPIC, number.to_string().as_bytes());
        stream.write_all(&packet).expect("the broker takes it");
        number += 1;
    }
}

fn packet_id(number: u64) -> u16 {
    (number % 60_000) as u16 + 1
}

/// One each, in order.
fn take_acknowledgements(
    mut publisher: Client,
    start: Instant,
    last: &AtomicU64,
    tell: &Sender<Duration>,
) {
    let mut number = 0;
    while number < last.load(Ordering::SeqCst) {
        let id = publisher.read_puback().expect("a PUBACK comes");
        assert_eq!(id, packet_id(number), "PUBACKs come in order");
        // Nobody may ask any more.
        let _ = tell.send(due(start, number).elapsed());
        number += 1;
    }
}

fn take_deliveries(
    mut subscriber: Client,
    start: Instant,
    last: &AtomicU64,
    tell: &Sender<Duration>,
) {
    let mut number = 0;
    while number < last.load(Ordering::SeqCst) {
        let (first, body) = subscriber.read_packet().expect("a message comes");
        assert_eq!(first, 0x32, "a PUBLISH of QoS 1");
        let payload = &body[2 + TOPIC.len() + 2..];
        assert_eq!(
            String::from_utf8_lossy(payload),
            number.to_string(),
            "none is lost, none comes twice"
        );
        let acknowledgement = mqtt::puback(&body);
        let sent = subscriber.stream.write_all(&acknowledgement);
        sent.expect("the broker takes it");
        let _ = tell.send(due(start, number).elapsed());
        number += 1;
    }
}
