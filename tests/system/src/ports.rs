//! Ports for the nodes under test.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Mutex;

use crate::random::Random;

/// Below the range from which the kernel takes the ports of outgoing connections: a client that
/// knocks at a dead node's port could otherwise be given that port, and hold it.
const FIRST: u16 = 15_000;
const LAST: u16 = 32_000;

/// Those that were given, and where the next are sought.
static GIVEN: Mutex<Option<(HashSet<u16>, Random)>> = Mutex::new(None);

/// A loopback address whose port is free for TCP and UDP, and given only once by this process.
pub fn free() -> SocketAddr {
    let mut given = GIVEN.lock().expect("no panic happens under this lock");
    let (given, random) = given.get_or_insert_with(|| {
        let random = Random::seeded(u64::from(std::process::id()) << 20);
        (HashSet::new(), random)
    });
    loop {
        let port = FIRST + random.below(u64::from(LAST - FIRST)) as u16;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // One that was given is not even tried: who has it may be about to bind it.
        let is_new = given.insert(port);
        if is_new && TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
