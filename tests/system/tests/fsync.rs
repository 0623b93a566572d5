//! PUBACK only after fdatasync, and one fdatasync for many: read from a trace of the edge's system
//! calls.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tidegate_system_tests::mqtt::{self, Client};
use tidegate_system_tests::node::{EDGE_ID, Site};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{skip, wait, workspace};

const ONE_BY_ONE: u16 = 20;
const IN_FLIGHT: u16 = 1_000;

/// "Far fewer": a commit gathers what came within its linger.
const SYNCS_MAX: usize = 100;

/// What the trace tells, in its order.
#[derive(Debug, PartialEq)]
enum Event {
    /// The payload with this number was read from a socket.
    Read(u16),
    SyncBegins {
        thread: u32,
    },
    SyncDone {
        thread: u32,
    },
    /// The PUBACK with this id was handed to a socket.
    Puback(u16),
}

fn marker(number: u16) -> String {
    format!("marker-{number:05}-")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// The events of a trace by `strace -f -xx -yy`. A call that another thread's call interrupts is
/// printed in two lines.
fn events(trace: &str, data: &Path) -> Vec<Event> {
    let data = hex(data.as_os_str().as_encoded_bytes());
    let markers: Vec<_> = (0..ONE_BY_ONE)
        .map(|id| hex(marker(id).as_bytes()))
        .collect();
    let mut events = Vec::new();
    let mut syncing = std::collections::HashSet::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.trim_start().split_once(' ') else {
            continue;
        };
        let Ok(thread) = thread.parse::<u32>() else {
            continue;
        };
        let call = call.trim_start();
        let resumed = call.strip_prefix("<... ").unwrap_or_default();
        if call.starts_with("fdatasync(") && call.contains(&data) {
            events.push(Event::SyncBegins { thread });
            if call.ends_with("= 0") {
                events.push(Event::SyncDone { thread });
            } else {
                syncing.insert(thread);
            }
        } else if resumed.starts_with("fdatasync resumed") && syncing.remove(&thread) {
            assert!(call.ends_with("= 0"), "a sync failed: {line}");
            events.push(Event::SyncDone { thread });
        } else if call.starts_with("read") || call.starts_with("recv") || resumed.starts_with("re")
        {
            let found = markers.iter().position(|marker| call.contains(marker));
            events.extend(found.map(|number| Event::Read(number as u16)));
        } else if call.contains("TCP:[") {
            let puback = |id: &u16| call.contains(&format!("\"{}\"", hex(&puback(*id))));
            events.extend(
                (1..=ONE_BY_ONE)
                    .find(puback)
                    .map(|id| Event::Puback(id - 1)),
            );
        }
    }
    events
}

fn puback(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x40, 2, high, low]
}

/// Whether between the read of a message and its PUBACK a sync began and ended.
fn synced(events: &[Event], number: u16) -> Result<(), String> {
    let at = |event: Event| {
        events
            .iter()
            .position(|found| *found == event)
            .ok_or(format!("no {event:?} in the trace"))
    };
    let (read, acknowledged) = (at(Event::Read(number))?, at(Event::Puback(number))?);
    let between = events
        .get(read..acknowledged)
        .ok_or("the PUBACK came before the PUBLISH")?;
    let mut begun = Vec::new();
    for event in between {
        match event {
            Event::SyncBegins { thread } => begun.push(thread),
            Event::SyncDone { thread } if begun.contains(&thread) => return Ok(()),
            _ => {}
        }
    }
    Err(format!(
        "no fdatasync between the read of message {number} and its PUBACK"
    ))
}

#[test]
fn the_check_notices_a_missing_sync() {
    let sync = [
        Event::SyncBegins { thread: 2 },
        Event::SyncDone { thread: 2 },
    ];
    let [begins, done] = sync;
    assert!(synced(&[Event::Read(0), Event::Puback(0)], 0).is_err());
    // Begun before the message was there: it need not cover it.
    assert!(synced(&[begins, Event::Read(0), done, Event::Puback(0)], 0).is_err());
    let trace = format!(
        "7 recvfrom(9<TCP:[a->b]>, \"\\x32{}\", 99, 0, NULL, NULL) = 30\n\
         8 fdatasync(5<{}> <unfinished ...>\n\
         7 epoll_wait(3) = 1\n\
         8 <... fdatasync resumed>) = 0\n\
         7 sendto(9<TCP:[a->b]>, \"{}\", 4, 0, NULL, 0) = 4\n",
        hex(marker(3).as_bytes()),
        hex(b"/data/x"),
        hex(&puback(4)),
    );
    let found = events(&trace, Path::new("/data"));
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(synced(&found, 3), Ok(()));
    assert!(synced(&events(&trace, Path::new("/elsewhere")), 3).is_err());
}

#[test]
fn puback_follows_an_fdatasync_that_many_share() {
    if !workspace::has_tool("strace") {
        skip!("strace is missing (apt-get install strace)");
    }
    let scratch = Scratch::new("fsync");
    let trace = scratch.path().join("trace");
    let mut site = Site::new(scratch.path(), scratch.path());
    let calls = "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,fdatasync,fsync";
    let out = trace.display().to_string();
    // -D: the edge stays our child, and strace follows its end.
    site.edge.program.wrap(&[
        "strace", "-D", "-f", "-xx", "-yy", "-s", "256", "-e", calls, "-o", &out,
    ]);
    site.start();

    let mut client = Client::connect(site.edge.mqtt, EDGE_ID).unwrap();
    for number in 0..ONE_BY_ONE {
        client
            .publish(number + 1, "plant/traced", marker(number).as_bytes())
            .unwrap();
    }
    let wanted = hex(&puback(ONE_BY_ONE));
    let quiet = wait::until("strace has written the last PUBACK", wait::SOON, || {
        let text = read(&trace);
        text.contains(&wanted).then_some(text)
    });
    let events = events(&quiet, &site.edge.data);
    for number in 0..ONE_BY_ONE {
        synced(&events, number).unwrap();
    }

    let mut flood = Vec::new();
    for id in 1..=IN_FLIGHT {
        flood.extend(mqtt::publish(id, "plant/traced", b"one of many"));
    }
    let mut sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || sender.write_all(&flood));
    for _ in 0..IN_FLIGHT {
        client.read_puback().unwrap();
    }
    sending.join().unwrap().unwrap();
    let after = read(&trace);
    let syncs = after[quiet.len()..].matches("fdatasync(").count();
    println!("{IN_FLIGHT} messages in flight: {syncs} fdatasyncs");
    assert!(
        (1..=SYNCS_MAX).contains(&syncs),
        "{syncs} fdatasyncs for {IN_FLIGHT} messages"
    );
}

fn read(trace: &PathBuf) -> String {
    String::from_utf8_lossy(&std::fs::read(trace).unwrap_or_default()).into_owned()
}
