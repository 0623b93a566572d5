//! Bad input closes the one connection that it came on, with the protocol's own code, a log line
//! with the peer and a count; a bystander at 100 messages a second notices nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate_system_tests::bridge::{self, Bridge};
use tidegate_system_tests::mqtt::{self, Client};
use tidegate_system_tests::node::{Cloud, Edge, STREAM, Site};
use tidegate_system_tests::process::Process;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{http, kafka, ports, wait, workspace};

/// A bystander's p99 may double, and a busy machine is no fault: where cores or disk stand still for all, twice
/// what it takes at an edge that nobody talks to is allowed, too.
const P99_FLOOR: Duration = Duration::from_millis(250);

/// Messages that are looked at before the attacks, and at least from then on.
const BEFORE: usize = 200;
const BESIDE: usize = 500;

/// A topic beside the bystander's.
const SPARE: &str = "spare";

/// Publishes 100 messages a second, one after the other, and counts.
struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
    waits: mpsc::Receiver<Duration>,
}

impl Publisher {
    fn start(broker: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (report, waits) = mpsc::channel();
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(broker, "bystander").expect("the bystander connects");
            let start = Instant::now();
            let mut count = 0;
            while !stopping.load(Ordering::Relaxed) {
                let sent = Instant::now();
                let id = (count % 60_000) as u16 + 1;
                let payload = format!("bystander:{count}:");
                let published = client.publish(id, "plant/bystander", payload.as_bytes());
                published.expect("the bystander sees no error");
                report.send(sent.elapsed()).expect("the test listens");
                count += 1;
                let due = start + Duration::from_millis(10 * count);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            count
        });
        Self {
            stop,
            thread,
            waits,
        }
    }

    /// The 99th percentile of the waits for a PUBACK since the last look, and of `more` to come.
    fn p99_since(&self, more: usize) -> Duration {
        let mut waits: Vec<_> = self.waits.try_iter().collect();
        let next = |_| {
            self.waits
                .recv_timeout(wait::SOON)
                .expect("the bystander goes on")
        };
        waits.extend((0..more).map(next));
        waits.sort();
        waits[waits.len() * 99 / 100]
    }

    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the bystander sees no error")
    }
}

/// A consumer group that ends after `count` records, or at an error.
fn follow(site: &Site, scratch: &Scratch, group: &str, count: u64) -> Process {
    let mut command = workspace::python("kafka_follow.py");
    let kafka = site.cloud.kafka.to_string();
    command.args([&kafka, STREAM, group, &count.to_string(), "120"]);
    Process::start(group, command, &scratch.path().join(format!("{group}.log")))
}

/// Runs `attack` beside the bystanders, and holds what they notice against nothing.
fn beside_bystanders(name: &str, attack: impl FnOnce(&mut Site, &Scratch)) {
    let scratch = Scratch::new(name);
    let mut site = Site::new(scratch.path(), scratch.path());
    let topics = format!("topics:\n  - name: {STREAM}\n  - name: {SPARE}\n    partitions: 1\n");
    site.cloud.configure(&topics);
    site.start();
    let mut idle_edge = Edge::alone(&scratch.folder("idle"), &scratch.folder("idle"));
    idle_edge.start();
    idle_edge.wait_ready();
    let publisher = Publisher::start(site.edge.mqtt);
    let control = Publisher::start(idle_edge.mqtt);
    // More than will come: it follows until it is ended.
    let mut consumer = follow(&site, &scratch, "bystander", u64::MAX);
    consumer.wait_for_log("following", wait::SOON);
    let before = publisher.p99_since(BEFORE);
    // What came before is not asked for.
    control.p99_since(1);
    attack(&mut site, &scratch);
    let beside = publisher.p99_since(BESIDE);
    let elsewhere = control.p99_since(1);
    assert!(
        consumer.exited().is_none(),
        "the consumer saw an error: {}",
        consumer.log()
    );
    let count = publisher.finish();
    control.finish();
    println!("{count} messages; p99 {before:?} before, {beside:?} beside, {elsewhere:?} elsewhere");
    assert!(
        beside <= (before * 2).max(P99_FLOOR).max(elsewhere * 2),
        "p99 {before:?} before, {beside:?} beside, {elsewhere:?} elsewhere"
    );
    assert_eq!(site.edge.wait_landed(count), count);
    let mut all = follow(&site, &scratch, "afterwards", count);
    let status = all.wait(wait::SOON);
    assert!(status.success(), "{}", all.log());
}

/// What a peer sends, until it is cut off; returns its own address and what it was answered.
fn send(to: SocketAddr, bytes: &[&[u8]]) -> (SocketAddr, Vec<u8>) {
    let mut stream = TcpStream::connect(to).unwrap();
    let local = stream.local_addr().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    for part in bytes {
        // It may be cut off before it has sent all.
        let _ = stream.write_all(part);
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection was not closed: {error}"),
    }
    (local, answer)
}

/// Waits for a warning that names the peer, and until the count has grown by one.
fn noticed(process: &Process, peer: SocketAddr, count: impl Fn() -> f64, before: f64) {
    wait::until("a warning that names the peer", wait::SOON, || {
        let log = process.log();
        let peer = peer.to_string();
        let line = log
            .lines()
            .find(|line| line.contains(&peer) && line.contains("WARN"))?;
        println!("{line}");
        Some(())
    });
    wait::until("it is counted", wait::SOON, || {
        (count() == before + 1.0).then_some(())
    });
}

/// A CONNECT of MQTT 5 with a clean start.
fn connect_v5() -> Vec<u8> {
    let mut packet = vec![0x10, 16, 0, 4];
    packet.extend(b"MQTT");
    packet.extend([5, 2, 0, 60, 0, 0, 3]);
    packet.extend(b"bad");
    packet
}

/// The reason of the DISCONNECT that ends an answer: after CONNACK.
fn disconnect_reason(answer: &[u8]) -> Option<u8> {
    let connack = 2 + usize::from(*answer.get(1)?);
    let rest = answer.get(connack..)?;
    (*rest.first()? == 0xE0).then(|| rest.get(2).copied().unwrap_or(0))
}

fn mqtt_attack(site: &mut Site, version_5: bool, packet: &[u8]) -> Vec<u8> {
    let http = site.edge.http;
    let count = || http::metric_sum(http, "tidegate_mqtt_closed_total").unwrap_or_default();
    let before = count();
    let connect = if version_5 {
        connect_v5()
    } else {
        mqtt::connect("bad")
    };
    let (peer, answer) = send(site.edge.mqtt, &[&connect, packet]);
    noticed(site.edge.process(), peer, count, before);
    answer
}

#[test]
fn malformed_and_oversized_mqtt_packets() {
    beside_bystanders("bad-mqtt", |site, _| {
        // [MQTT-3.3.1-4]: QoS 3. MQTT 5 says so (0x81, malformed packet), 3.1.1 just closes.
        let malformed = [0x36, 7, 0, 1, b'a', 0, 1, 0, b'x'];
        let answer = mqtt_attack(site, true, &malformed);
        assert_eq!(disconnect_reason(&answer), Some(0x81), "{answer:x?}");
        let answer = mqtt_attack(site, false, &malformed);
        assert_eq!(answer, [0x20, 2, 0, 0], "only the CONNACK");
        // A remaining length of 256 MiB is refused when it is read (0x95, packet too large).
        let oversized = [0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, b'a'];
        let answer = mqtt_attack(site, true, &oversized);
        assert_eq!(disconnect_reason(&answer), Some(0x95), "{answer:x?}");
        // A length of five bytes is none.
        let answer = mqtt_attack(site, true, &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(disconnect_reason(&answer), Some(0x81), "{answer:x?}");
    });
}

#[test]
fn hostile_and_garbled_kafka_requests() {
    beside_bystanders("bad-kafka", |site, _| {
        let http = site.cloud.http;
        let count = || http::metric(http, "tidegate_kafka_bad_requests_total").unwrap_or_default();
        // Metadata version 1 whose array of topics claims 2 billion items.
        let mut items = vec![0, 0, 0, 16, 0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff];
        items.extend(i32::MAX.to_be_bytes());
        items.extend([0, 1]);
        let attacks: [&[u8]; 5] = [
            &i32::MAX.to_be_bytes(),
            &(-1_i32).to_be_bytes(),
            b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n",
            &[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
            &items,
        ];
        for attack in attacks {
            let before = count();
            let (peer, answer) = send(site.cloud.kafka, &[attack]);
            assert!(answer.is_empty(), "{attack:x?} was answered: {answer:x?}");
            noticed(site.cloud.process(), peer, count, before);
        }
    });
}

#[test]
fn a_certificate_of_another_ca() {
    beside_bystanders("bad-certificate", |site, scratch| {
        // Another cloud's CA signs for the same id; the hub's own CA is known, as an insider would.
        let other = Cloud::new(&scratch.folder("other"), &scratch.folder("other"));
        let certificates = scratch.folder("foreign");
        other.certificate("edge-1", &certificates);
        let ours = scratch.path().join("certificates/ca.crt");
        std::fs::copy(ours, certificates.join("ca.crt")).unwrap();

        let (hub, http) = (site.cloud.bridge, site.cloud.http);
        let sample = "tidegate_bridge_rejected_handshakes_total";
        let count = || http::metric(http, sample).unwrap_or_default();
        let before = count();
        run(async {
            // In TLS 1.3 a client is done before the server has judged its certificate.
            if let Ok(connection) = bridge::dial(hub, &certificates).await {
                let closed = tokio::time::timeout(wait::SOON, connection.closed()).await;
                let why = closed.expect("the hub turns it away").to_string();
                assert!(why.contains("cryptographic handshake failed"), "{why}");
            }
        });
        wait::until("it is counted", wait::SOON, || {
            (count() == before + 1.0).then_some(())
        });
        let log = site.cloud.process().log();
        assert!(log.contains("turned away"), "{log}");
        assert_eq!(site.cloud.metric("tidegate_connected_edges"), Some(1.0));
    });
}

#[test]
fn a_bridge_batch_with_a_wrong_crc() {
    beside_bystanders("bad-batch", |site, scratch| {
        let certificates = scratch.folder("edge-2");
        site.cloud.certificate("edge-2", &certificates);
        let out = scratch.path().join("records.jsonl");
        let partition = kafka::read_all(site.cloud.kafka, STREAM, &out)[0].partition;
        let set = kafka::fetch(site.cloud.kafka, STREAM, partition, 0);
        // The first batch of the bystander's, and its number of records.
        let length = u32::from_be_bytes(set[8..12].try_into().unwrap()) as usize;
        let batch = &set[..12 + length];
        let count = u64::from(u32::from_be_bytes(set[57..61].try_into().unwrap()));
        let sample = "tidegate_bridge_closed_connections_total{code=\"bad_batch\"}";
        run(async {
            let mut edge = Bridge::connect(site.cloud.bridge, &certificates, SPARE).await;
            // As it is, it lands: what follows is refused for its CRC and nothing else.
            edge.offer(batch, 0, count).await;
            edge.expect(bridge::LANDED).await;
            let mut wrong = batch.to_vec();
            *wrong.last_mut().unwrap() ^= 1;
            edge.offer(&wrong, count, count).await;
            assert_eq!(
                edge.close_code().await,
                3,
                "the bridge's code for a bad batch"
            );
        });
        wait::until("it is counted", wait::SOON, || {
            (site.cloud.metric(sample)? == 1.0).then_some(())
        });
        let log = site.cloud.process().log();
        let line = log
            .lines()
            .find(|line| line.contains("WARN") && line.contains("edge-2"));
        println!("{}", line.expect("a warning names the edge"));
        let spare = kafka::read_all(site.cloud.kafka, SPARE, &out);
        assert_eq!(spare.len() as u64, count, "the bad batch has not landed");
    });
}

fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future);
}

#[test]
fn ports_are_given_once() {
    assert_ne!(ports::free(), ports::free());
}
