//! The edge that all tests of this suite share, and what most of them do first.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

pub use tidegate_system_tests::mqtt::hostile::Awaited;
use tidegate_system_tests::mqtt::hostile::auth_with_data;
pub use tidegate_system_tests::mqtt::raw::{Delivered, Packet, Peer};
pub use tidegate_system_tests::mqtt::scram;
pub use tidegate_system_tests::mqtt::wire::Version::{self, V3_1, V3_1_1, V5};
pub use tidegate_system_tests::mqtt::wire::{self, Connect, Publish, Will, property};
use tidegate_system_tests::standing::Standing;
use tidegate_system_tests::workspace;

/// The versions whose specifications number their statements.
pub const NUMBERED: [Version; 2] = [V3_1_1, V5];

/// Says which statements a test shows: `clauses!(v5 "3.1.2-5" "3.1.2-6"; v311 "3.1.2-4");`.
macro_rules! clauses {
    ($($version:ident $($clause:literal)+);+ $(;)?) => {
        println!(concat!("clauses:", $(" ", stringify!($version), $(" MQTT-", $clause,)+)+));
    };
}

/// Acknowledgements wait for no company.
pub const YAML: &str = "journal:\n  commit_linger: 0\n  bytes_max: 512MiB\n  free_disk_min: 0\n";

pub fn edge() -> &'static Standing {
    static EDGE: OnceLock<Standing> = OnceLock::new();
    EDGE.get_or_init(|| Standing::start("mqtt-conformance", "", YAML))
}

/// Another one, with the longest keep alive that it allows.
pub fn edge_with_keep_alive_max(seconds: u16) -> Standing {
    let keys = format!("  keep_alive_max: {seconds}s\n");
    Standing::start("mqtt-conformance-keep-alive", &keys, YAML)
}

/// One more, that knows a user: `pump`, whose password is `pencil`.
pub fn edge_with_user() -> &'static Standing {
    static EDGE: OnceLock<Standing> = OnceLock::new();
    EDGE.get_or_init(|| {
        let mut command = Command::new(workspace::binary("tidegate-edge"));
        command.args(["scram", "pump"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut input = process.stdin.take().unwrap();
        input.write_all(b"pencil\n").unwrap();
        drop(input);
        let line = process.wait_with_output().unwrap().stdout;
        let users = workspace::target().join("tests/scratch/mqtt-conformance-users");
        std::fs::create_dir_all(users.parent().unwrap()).unwrap();
        std::fs::write(&users, line).unwrap();
        let keys = format!("  users: {}\n  failures_free: 1000000\n", users.display());
        Standing::start("mqtt-conformance-scram", &keys, YAML)
    })
}

pub fn broker() -> SocketAddr {
    edge().mqtt
}

/// A name that no other test has.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A client whose session ends with its connection.
#[track_caller]
pub fn client(version: Version) -> Peer {
    connect(&Connect::new(version, &unique("client")))
}

#[track_caller]
pub fn connect(connect: &Connect) -> Peer {
    Peer::connected(broker(), connect)
}

/// A client with a session that lasts, and its CONNECT for coming back.
#[track_caller]
pub fn lasting(version: Version) -> (Connect, Peer) {
    let again = Connect::lasting(version, &unique("lasting"));
    let peer = connect(&again);
    (again, peer)
}

/// Comes back to a session that must be there.
#[track_caller]
pub fn come_back(connect: &Connect) -> Peer {
    let (peer, connack) = Peer::asked(broker(), connect);
    assert_eq!(connack.reason(), 0, "{connack:x?}");
    assert!(connack.session_present(), "{connack:x?}");
    peer
}

/// Publishes as a client of its own, with success.
#[track_caller]
pub fn publish(version: Version, topic: &str, payload: &str, qos: u8) {
    client(version).publish(Publish::new(version, topic, payload), qos);
}

/// Publishes a retained message with success.
#[track_caller]
pub fn retain(version: Version, topic: &str, payload: &str, qos: u8) {
    let publish = Publish::new(version, topic, payload).retain();
    client(version).publish(publish, qos);
}

/// Sends a CONNECT that must be refused, with one of these codes or (`None` among them) in silence; the
/// connection ends.
#[track_caller]
pub fn refused(version: Version, bytes: &[u8], codes: &[Option<u8>]) {
    let mut peer = Peer::open(broker(), version);
    peer.send(bytes);
    let packets = peer.end();
    let code = match &packets[..] {
        [] => None,
        [connack] if connack.kind() == wire::CONNACK => {
            assert!(!connack.session_present(), "{connack:x?}");
            Some(connack.reason())
        }
        other => panic!("{other:x?}"),
    };
    assert!(
        codes.contains(&code),
        "{code:x?} for {bytes:x?}, not one of {codes:x?}"
    );
}

/// Sends a packet that must end the connection of this client: with one of these reasons in MQTT 5, and in
/// silence before. Gives what came before.
#[track_caller]
pub fn ends(peer: Peer, bytes: &[u8], reasons: &[u8]) -> Vec<Packet> {
    let mut peer = peer;
    peer.send(bytes);
    let mut packets = peer.end();
    let last = packets.pop();
    match (peer.version, last) {
        (V5, Some(packet)) if packet.kind() == wire::DISCONNECT => {
            let reason = packet.reason();
            assert!(
                reasons.contains(&reason),
                "{reason:#x} for {bytes:x?}, not {reasons:x?}"
            );
            packets
        }
        (V5, other) => panic!("{other:x?} instead of a DISCONNECT for {bytes:x?}"),
        (_, last) => {
            packets.extend(last);
            let said = packets
                .iter()
                .any(|packet| packet.kind() == wire::DISCONNECT);
            assert!(!said, "{packets:x?}");
            packets
        }
    }
}

/// The same for a new client of each version that has numbered statements.
#[track_caller]
pub fn each_ends(bytes: impl Fn(Version) -> Vec<u8>, reasons: &[u8]) {
    for version in NUMBERED {
        let before = ends(client(version), &bytes(version), reasons);
        assert_eq!(before, [], "{version:?}");
    }
}

/// Lets so many seconds pass, by the broker's own clock: waits for a will that is delayed by as much.
#[track_caller]
pub fn pass(seconds: u32) {
    let topic = unique("time/passes");
    let mut watcher = client(V5);
    watcher.subscribe(&topic, 0);
    let mut will = Will::new(&topic, "now");
    will.properties = vec![property::four(property::WILL_DELAY, seconds)];
    connect(&Connect::lasting(V5, &unique("clock")).will(will)).cut();
    watcher.delivery();
}

/// A topic of its own for wills, and who sees them.
#[track_caller]
pub fn watcher(version: Version) -> (String, Peer) {
    let topic = unique("will");
    let mut watcher = client(version);
    watcher.subscribe(&topic, 2);
    (topic, watcher)
}

/// A client that is asked for a message of SCRAM, and what it is told with that.
#[track_caller]
pub fn authenticating(awaited: Awaited, user: &scram::Client) -> (Peer, Packet) {
    let mut peer = Peer::open(edge_with_user().mqtt, V5);
    let method = property::bytes(property::AUTHENTICATION_METHOD, scram::METHOD);
    peer.send(&Connect::new(V5, &unique("scram")).with(method).bytes());
    let asked = peer.take(wire::AUTH);
    let told = match awaited {
        Awaited::First => asked,
        Awaited::Final => asks(&mut peer, 0x18, awaited, user),
    };
    (peer, told)
}

/// Sends its first message, or says without one that it has one.
#[track_caller]
pub fn asks(peer: &mut Peer, reason: u8, awaited: Awaited, user: &scram::Client) -> Packet {
    let method = property::bytes(property::AUTHENTICATION_METHOD, scram::METHOD);
    let data = property::bytes(property::AUTHENTICATION_DATA, user.first());
    let properties = match awaited {
        Awaited::First => wire::block(&[method]),
        Awaited::Final => wire::block(&[method, data]),
    };
    peer.send(&wire::packet(
        wire::AUTH,
        &[vec![reason], properties].concat(),
    ));
    let told = peer.take(wire::AUTH);
    assert_eq!(told.reason(), 0x18, "{told:x?}");
    told
}

/// A client that is connected by its proof.
#[track_caller]
pub fn authenticated(user: &mut scram::Client) -> Peer {
    let (mut peer, told) = authenticating(Awaited::Final, user);
    peer.send(&proof(&told, user));
    let connack = peer.take(wire::CONNACK);
    assert_eq!(connack.reason(), 0, "{connack:x?}");
    peer
}

/// The AUTH that answers the server's challenge.
pub fn proof(challenge: &Packet, user: &mut scram::Client) -> Vec<u8> {
    let server_first = challenge.property(property::AUTHENTICATION_DATA).unwrap();
    let server_first = String::from_utf8(server_first[2..].to_vec()).unwrap();
    auth_with_data(0x18, user.last(&server_first).as_bytes()).bytes()
}
