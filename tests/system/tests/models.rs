//! How a message reaches clients beside by their subscriptions: delayed, for everybody, for one client, by its priority;
//! and what the configuration says of topics and of who is kept out. By raw packets, and as the documentation shows it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_system_tests::interop::pages;
use tidegate_system_tests::mqtt::raw::Peer;
use tidegate_system_tests::mqtt::wire::{self, Connect, Publish, Version, Will, property};
use tidegate_system_tests::node::{Edge, STREAM};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{wait, workspace};

/// Delayed messages that are due within three seconds, when all are published.
const DELAYED: u64 = 300;
const KILLS_MAX: u32 = 8;

const V3: Version = Version::V3_1_1;
const V5: Version = Version::V5;

fn edge(scratch: &Scratch, mqtt: &str, rest: &str) -> Edge {
    let mut edge = Edge::alone(scratch.path(), scratch.path());
    edge.configure_mqtt(mqtt);
    edge.configure(rest);
    edge.start();
    edge.wait_ready();
    edge
}

fn again(edge: &mut Edge) {
    edge.kill();
    edge.start();
    edge.wait_ready();
}

/// The topics of so many messages, which are acknowledged.
fn topics(peer: &mut Peer, count: usize) -> Vec<String> {
    let delivered = std::iter::repeat_with(|| peer.answered_delivery()).take(count);
    delivered.map(|it| it.topic).collect()
}

/// What a PUBLISH of QoS 1 is answered.
fn told(peer: &mut Peer, publish: Publish) -> u8 {
    peer.send(&publish.qos(1, 77).bytes());
    peer.acknowledged(wire::PUBACK, 77)
}

#[test]
fn a_broadcast_reaches_who_is_connected_and_who_has_a_session() {
    let scratch = Scratch::new("broadcast");
    let mut edge = edge(&scratch, "", "");
    let mut live: Vec<Peer> = [(V3, "live-3"), (V5, "live-5")]
        .map(|(version, id)| Peer::connected(edge.mqtt, &Connect::new(version, id)))
        .into();
    let lasting = |id| Connect::lasting(V5, id);
    let mut fed = Peer::connected(edge.mqtt, &lasting("fed"));
    Peer::connected(edge.mqtt, &lasting("away")).leave();
    // One that has subscribed to it, too, has it once, with what it asked for.
    let mut both = Peer::connected(edge.mqtt, &Connect::new(V5, "both"));
    both.subscribe_with("$broadcast/#", 1, &[property::identifier(7)]);
    let mut sender = Peer::connected(edge.mqtt, &Connect::new(V5, "sender"));
    sender.publish(Publish::new(V5, "$broadcast/alarm", "1"), 1);
    // Who sends it has it.
    sender.nothing();
    for peer in live.iter_mut().chain([&mut fed]) {
        assert_eq!(topics(peer, 1), ["$broadcast/alarm"]);
        peer.nothing();
    }
    let delivered = both.answered_delivery();
    assert_eq!((delivered.qos, delivered.all(0x0b).len()), (1, 1));
    both.nothing();
    // Who comes later has missed it.
    Peer::connected(edge.mqtt, &Connect::new(V5, "late")).nothing();
    Peer::connected(edge.mqtt, &lasting("late-too")).nothing();
    again(&mut edge);
    let mut away = Peer::connected(edge.mqtt, &lasting("away"));
    assert_eq!(topics(&mut away, 1), ["$broadcast/alarm"]);
    away.nothing();
}

#[test]
fn a_direct_message_reaches_its_client_alone() {
    let scratch = Scratch::new("direct");
    let mut edge = edge(&scratch, "", "");
    let mut pump = Peer::connected(edge.mqtt, &Connect::new(V3, "pump-7"));
    let mut other = Peer::connected(edge.mqtt, &Connect::new(V5, "pump-8"));
    // Its id is no level of a topic: nothing that is for another comes to it, nor its own to others.
    let mut odd = Peer::connected(edge.mqtt, &Connect::new(V5, "pump-7/x"));
    Peer::connected(edge.mqtt, &Connect::lasting(V5, "away")).leave();
    let mut sender = Peer::connected(edge.mqtt, &Connect::new(V5, "control"));
    let mut send = |topic: &str| told(&mut sender, Publish::new(V5, topic, "1"));
    assert_eq!(send("$direct/pump-7/x/set"), 0);
    assert_eq!(send("$direct/away/set"), 0);
    assert_eq!(send("$direct/nobody/set"), 0);
    assert_eq!(topics(&mut pump, 1), ["$direct/pump-7/x/set"]);
    for peer in [&mut pump, &mut other, &mut odd] {
        peer.nothing();
    }
    again(&mut edge);
    let mut away = Peer::connected(edge.mqtt, &Connect::lasting(V5, "away"));
    assert_eq!(topics(&mut away, 1), ["$direct/away/set"]);
    away.nothing();
}

#[test]
fn a_delayed_message_comes_at_its_time_and_once_whatever_is_killed() {
    let scratch = Scratch::new("delayed");
    let mut edge = edge(&scratch, "", "");
    let lasting = Connect::lasting(V5, "sub");
    let mut peer = Peer::connected(edge.mqtt, &lasting);
    peer.subscribe("plant/#", 1);
    peer.leave();
    let mut sender = Peer::connected(edge.mqtt, &Connect::new(V5, "dev"));
    sender.publish(Publish::new(V5, "$delayed/1/plant/kept", "9").retain(), 1);
    let sent = Instant::now();
    // Those that are due together keep their order.
    for value in ["0", "1", "2"] {
        let qos = value.parse::<u8>().unwrap().max(1);
        sender.publish(Publish::new(V5, "$delayed/2/plant/x", value), qos);
    }
    let expires = property::four(0x02, 1);
    sender.publish(
        Publish::new(V5, "$delayed/2/plant/gone", "").with(expires),
        1,
    );
    assert_eq!(
        told(&mut sender, Publish::new(V5, "$delayed/soon/plant/x", "")),
        0x90
    );
    assert_eq!(
        told(&mut sender, Publish::new(V5, "$delayed/4294968/x", "")),
        0x90
    );
    assert_eq!(told(&mut sender, Publish::new(V5, "$direct/x", "")), 0x90);
    again(&mut edge);
    let mut peer = Peer::connected(edge.mqtt, &lasting);
    let first = peer.answered_delivery();
    assert_eq!(first.topic, "plant/kept");
    let values = std::iter::repeat_with(|| peer.answered_delivery()).take(3);
    let values: Vec<_> = values.map(|it| it.text()).collect();
    assert_eq!(values, ["0", "1", "2"]);
    assert!(sent.elapsed() >= Duration::from_secs(2));
    peer.nothing();
    nothing_is_delayed(&edge);
    let mut late = Peer::connected(edge.mqtt, &Connect::new(V3, "late"));
    late.subscribe("plant/#", 1);
    let retained = late.answered_delivery();
    assert_eq!((retained.text().as_str(), retained.retain), ("9", true));
    late.nothing();
    peer.leave();
    again(&mut edge);
    // Each was appended once: what a session is sent again is its own affair.
    nothing_is_delayed(&edge);
    assert_eq!(edge.metric("tidegate_stored_messages_total"), Some(4.0));
}

/// Each is journalled in the commit that takes its row away, and the edge is killed around those.
#[test]
fn delayed_messages_come_once_however_often_the_edge_is_killed_when_they_are_due() {
    let scratch = Scratch::new("delayed-killed");
    let mut edge = edge(&scratch, "", "");
    let mut sender = Peer::connected(edge.mqtt, &Connect::new(V5, "sender"));
    for nth in 0..DELAYED {
        let topic = format!("$delayed/{}/plant/{nth}", 3 + nth % 3);
        sender.publish(Publish::new(V5, &topic, "x"), 1);
    }
    let (mut left, mut kills) = (DELAYED as f64, 0);
    wait::until("nothing is delayed any more", wait::SOON * 2, || {
        let now = edge.metric("tidegate_mqtt_delayed_messages")?;
        if now > 0.0 && now < left && kills < KILLS_MAX {
            left = now;
            kills += 1;
            again(&mut edge);
        }
        (now == 0.0).then_some(())
    });
    again(&mut edge);
    assert!(kills > 0, "it was never killed meanwhile");
    assert_eq!(edge.next_of(STREAM), Some(DELAYED), "{kills} kills");
}

fn nothing_is_delayed(edge: &Edge) {
    wait::until("nothing is delayed", wait::SOON, || {
        (edge.metric("tidegate_mqtt_delayed_messages") == Some(0.0)).then_some(())
    });
}

#[test]
fn what_is_urgent_goes_first() {
    let scratch = Scratch::new("priority");
    let routes = "routes:\n  - {filter: 'alarms/#', stream: alarms, priority: 7}\n  - {filter: '#', stream: telemetry}\n";
    let edge = edge(&scratch, "  priority_property: urgency\n", routes);
    let mut sender = Peer::connected(edge.mqtt, &Connect::new(V5, "dev"));
    let one_at_once = Connect::new(V5, "sub").with(property::two(0x21, 1));
    let mut peer = Peer::connected(edge.mqtt, &one_at_once);
    peer.subscribe("#", 1);
    let urgent = property::user("urgency", "9");
    for topic in ["a", "b", "alarms/x", "c", "alarms/y"] {
        sender.publish(Publish::new(V5, topic, ""), 1);
    }
    sender.publish(Publish::new(V5, "d", "").with(urgent), 1);
    sender.publish(
        Publish::new(V5, "alarms/z", "").with(property::user("urgency", "0")),
        1,
    );
    // The first has its place; the others waited for its acknowledgement.
    let order = ["a", "d", "alarms/x", "alarms/y", "b", "c", "alarms/z"];
    assert_eq!(topics(&mut peer, order.len()), order);
    peer.nothing();
}

#[test]
fn the_configuration_subscribes_and_rewrites() {
    let scratch = Scratch::new("topic-rules");
    let mqtt = "  auto_subscribe:\n    - {filter: 'commands/%c/#', qos: 1}\n    - {filter: 'notes/%c', retain_handling: 1}\n  rewrite:\n    - {from: 'old/+/#', to: 'plant/$1/$2'}\n    - {from: 'me/#', to: 'of/%c/$1', subscribe: false}\n";
    let mut edge = edge(&scratch, mqtt, "");
    let mut sender = Peer::connected(edge.mqtt, &Connect::new(V5, "dev"));
    for id in ["live", "fed"] {
        sender.publish(Publish::new(V5, &format!("notes/{id}"), "1").retain(), 1);
    }
    for connect in [Connect::new(V3, "live"), Connect::lasting(V5, "fed")] {
        let id = String::from_utf8(connect.client_id.clone()).unwrap();
        let mut peer = Peer::connected(edge.mqtt, &connect);
        // The retained message of a subscription that nobody asked for.
        assert_eq!(peer.answered_delivery().topic, format!("notes/{id}"));
        sender.publish(Publish::new(V5, &format!("commands/{id}/stop"), ""), 1);
        sender.publish(Publish::new(V5, "commands/other/stop", ""), 1);
        let delivered = peer.answered_delivery();
        assert_eq!(
            (delivered.topic, delivered.qos),
            (format!("commands/{id}/stop"), 1)
        );
        peer.nothing();
        peer.leave();
    }
    // By a clean stop: after a kill, what was acknowledged just before may come again.
    edge.process().signal("TERM");
    assert!(edge.process().wait(wait::SOON * 2).success());
    edge.start();
    edge.wait_ready();
    let mut fed = Peer::connected(edge.mqtt, &Connect::lasting(V5, "fed"));
    // Its subscription was there before: no retained message.
    fed.nothing();
    assert_eq!(fed.subscribe("old/1/+", 1), 1);
    let mut sender = Peer::connected(edge.mqtt, &Connect::new(V5, "dev"));
    sender.publish(Publish::new(V5, "old/1/t", ""), 1);
    sender.publish(Publish::new(V5, "plant/1/u", ""), 1);
    sender.publish(Publish::new(V5, "me/x", ""), 1);
    assert_eq!(topics(&mut fed, 2), ["plant/1/t", "plant/1/u"]);
    fed.send(&wire::unsubscribe(V5, 9, &["old/1/+"]));
    assert_eq!(fed.take(wire::UNSUBACK).reasons(), [0]);
    sender.publish(Publish::new(V5, "old/1/t", ""), 1);
    fed.nothing();
    let mut watcher = Peer::connected(edge.mqtt, &Connect::new(V5, "watcher"));
    watcher.subscribe("of/#", 1);
    sender.publish(Publish::new(V5, "me/y", ""), 1);
    assert_eq!(topics(&mut watcher, 1), ["of/dev/y"]);
}

#[test]
fn rights_are_asked_of_who_sends_and_of_the_topic_in_the_end() {
    let scratch = Scratch::new("model-rights");
    let rules = "rules:\n  - {client_ids: [control], allow: [publish], topics: ['x/#'], broadcast: ['alarm'], direct: ['+/set']}\n  - {client_ids: [dev], allow: [publish], topics: ['x/#']}\n";
    std::fs::write(scratch.path().join("acl.yaml"), rules).unwrap();
    let edge = edge(&scratch, "  acl: acl.yaml\n", "");
    let mut dev = Peer::connected(edge.mqtt, &Connect::new(V5, "dev"));
    let mut fed = Peer::connected(edge.mqtt, &Connect::lasting(V5, "fed"));
    for (topic, reason) in [
        ("$broadcast/alarm", 0x87),
        ("$direct/fed/set", 0x87),
        ("$delayed/0/y", 0x87),
        ("$delayed/0/$broadcast/alarm", 0x87),
        ("$delayed/0/$SYS/broker/x", 0x87),
        ("$delayed/0/x/y", 0),
    ] {
        assert_eq!(
            told(&mut dev, Publish::new(V5, topic, "")),
            reason,
            "{topic}"
        );
    }
    let mut control = Peer::connected(edge.mqtt, &Connect::new(V5, "control"));
    for (topic, reason) in [
        ("$direct/fed/set", 0),
        ("$direct/fed/get", 0x87),
        ("$broadcast/other", 0x87),
        ("$delayed/0/$direct/dev/set", 0),
    ] {
        assert_eq!(
            told(&mut control, Publish::new(V5, topic, "")),
            reason,
            "{topic}"
        );
    }
    // They receive without a right of their own.
    assert_eq!(topics(&mut fed, 1), ["$direct/fed/set"]);
    assert_eq!(topics(&mut dev, 1), ["$direct/dev/set"]);
    // But for what is not theirs they need one.
    assert_eq!(fed.subscribe("$direct/dev/#", 1), 0x87);
    assert_eq!(fed.subscribe("$broadcast/#", 1), 0x87);
}

#[test]
fn who_is_blocked_is_kept_out_and_goes() {
    let scratch = Scratch::new("blocked");
    let list = scratch.path().join("blocked.yaml");
    std::fs::write(&list, "blocked: [{client_id: 'rogue-*', note: stolen}]\n").unwrap();
    let mut edge = edge(&scratch, "  blocked: blocked.yaml\n", "");
    let reason = |edge: &Edge, version, id| {
        Peer::asked(edge.mqtt, &Connect::new(version, id))
            .1
            .reason()
    };
    assert_eq!(reason(&edge, V5, "rogue-1"), 0x8a);
    assert_eq!(reason(&edge, V3, "rogue-1"), 5);
    assert_eq!(reason(&edge, V5, "rogue"), 0);
    let will = Will {
        topic: "fan/will".into(),
        qos: 1,
        ..Will::default()
    };
    let mut pump = Peer::connected(edge.mqtt, &Connect::new(V5, "pump").will(will));
    let mut fan = Peer::connected(edge.mqtt, &Connect::new(V5, "fan"));
    fan.subscribe("fan/#", 1);
    // A mistake leaves the list as it was, and says where.
    std::fs::write(&list, "blocked: [{client_id: pump}, {adress: 1.2.3.4}]\n").unwrap();
    edge.process().signal("HUP");
    wait::until("the mistake is named", wait::SOON, || {
        edge.process().log().contains("adress").then_some(())
    });
    pump.nothing();
    assert_eq!(reason(&edge, V5, "rogue-1"), 0x8a);
    pump.publish(Publish::new(V5, "$delayed/5/fan/late", "x"), 1);
    std::fs::write(
        &list,
        "blocked: [{client_id: pump}, {address: 192.0.2.0/24}]\n",
    )
    .unwrap();
    edge.process().signal("HUP");
    let said = pump.end();
    assert_eq!(said.last().map(|packet| packet.reason()), Some(0x98));
    // Nor does it say anything any more: neither its will, nor what waited to be published.
    wait::until("what it had delayed is dropped", wait::SOON, || {
        (edge.metric("tidegate_mqtt_messages_dropped_total")? >= 1.0).then_some(())
    });
    fan.nothing();
    assert_eq!(reason(&edge, V5, "rogue-1"), 0);
    std::fs::write(&list, "blocked: [{address: 127.0.0.0/8}]\n").unwrap();
    edge.process().signal("HUP");
    fan.end();
    assert_eq!(reason(&edge, V5, "anybody"), 0x8a);
}

#[test]
fn sparkplug_births_are_kept_and_deaths_say_when_they_are_told() {
    let scratch = Scratch::new("sparkplug");
    // No route: a birth is kept all the same.
    let mut edge = edge(&scratch, "  sparkplug_aware: true\n", "routes: []\n");
    let mut host = Peer::connected(edge.mqtt, &Connect::lasting(V5, "host"));
    host.subscribe("$sparkplug/certificates/#", 1);
    host.subscribe("spBv1.0/+/NDEATH/#", 1);
    // timestamp 300, and sequence number 0 behind it.
    let payload = [0x08, 0xac, 0x02, 0x18, 0];
    let will = Will {
        topic: "spBv1.0/plant/NDEATH/line".into(),
        payload: payload.into(),
        qos: 1,
        ..Will::default()
    };
    let mut node = Peer::connected(edge.mqtt, &Connect::new(V3, "line").will(will));
    let birth = "spBv1.0/plant/NBIRTH/line";
    let of_device = "spBv1.0/plant/DBIRTH/line/pump";
    for topic in [birth, of_device, "spBv1.0/plant/NDATA/line"] {
        node.publish(Publish::new(V3, topic, payload), 1);
    }
    let kept = [birth, of_device].map(|topic| format!("$sparkplug/certificates/{topic}"));
    assert_eq!(topics(&mut host, 2), kept);
    let before_ms = now_ms();
    node.cut();
    let death = host.answered_delivery();
    assert_eq!(death.topic, "spBv1.0/plant/NDEATH/line");
    let told_ms = timestamp(&death.payload);
    assert!((before_ms..=now_ms()).contains(&told_ms), "{told_ms}");
    assert_eq!(death.payload[death.payload.len() - 2..], [0x18, 0]);
    host.nothing();
    again(&mut edge);
    let mut late = Peer::connected(edge.mqtt, &Connect::new(V5, "late"));
    late.subscribe("$sparkplug/certificates/spBv1.0/plant/NBIRTH/#", 1);
    let delivered = late.answered_delivery();
    assert_eq!((delivered.topic, delivered.retain), (kept[0].clone(), true));
    assert_eq!(delivered.payload, payload);
    let forged = Publish::new(V5, &kept[0], payload);
    assert_eq!(told(&mut late, forged), 0x87);
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

/// The first field of a payload, a varint.
fn timestamp(payload: &[u8]) -> u64 {
    assert_eq!(payload[0], 0x08);
    let digits = payload[1..].iter().enumerate();
    let mut is_last = false;
    let digits = digits.take_while(|(_, byte)| !std::mem::replace(&mut is_last, **byte < 0x80));
    digits
        .map(|(at, byte)| u64::from(byte & 0x7f) << (7 * at))
        .sum()
}

/// The examples of the page, with the ports of an edge of its own.
#[test]
fn the_documentation_s_examples_do_what_they_say() {
    let scratch = Scratch::new("models-page");
    let page = pages::read("deploy/docs/messages.md");
    let blocks = pages::blocks(&page);
    let yaml = blocks
        .iter()
        .find(|it| it.file.as_deref() == Some("edge.yaml"));
    let mut edge = Edge::alone(scratch.path(), scratch.path());
    let text = &yaml.expect("the page has a configuration").text;
    let (mqtt, rest) = text.split_once("routes:").expect("it has routes");
    edge.configure_mqtt(mqtt.strip_prefix("mqtt:\n").unwrap());
    edge.configure(&format!("routes:{rest}"));
    edge.start();
    edge.wait_ready();
    let folder = scratch.folder("page");
    let port = format!("-p {}", edge.mqtt.port());
    let of_python = format!("\"127.0.0.1\", {}", edge.mqtt.port());
    let replace = |text: &str| {
        let text = text.replace("-p 1883", &port);
        text.replace("\"127.0.0.1\", 1883", &of_python)
    };
    let runner = |language: &str| {
        let (mut command, name) = match language {
            "sh" => {
                let mut command = Command::new("sh");
                command.arg("-e");
                (command, "run.sh")
            }
            "python" => (workspace::python_at(Path::new("-u")), "run.py"),
            _ => return None,
        };
        command.current_dir(&folder);
        Some((command, name))
    };
    pages::run(&page, &folder, pages::Order::AsPrinted, replace, runner);
}
