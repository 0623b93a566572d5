//! Ports for the nodes under test.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Mutex;

use crate::random::Random;

/// Below the range from which the kernel takes the ports of outgoing connections: a client that
/// knocks at a dead node's port could otherwise be given that port, and hold it.
const FIRST: u16 = 15_000;
const LAST: u16 = 32_000;

static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A loopback address whose port is free for TCP and UDP, and given only once by this process.
pub fn free() -> SocketAddr {
    let mut taken = TAKEN.lock().expect("no panic happens under this lock");
    let taken = taken.get_or_insert_default();
    let mut random = Random::seeded(u64::from(std::process::id()) << 20);
    loop {
        let port = FIRST + random.below(u64::from(LAST - FIRST)) as u16;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let free = TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok();
        if taken.insert(port) && free {
            return address;
        }
    }
}
