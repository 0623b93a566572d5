//! The service manager's end of `sd_notify(3)`: the socket on which a node tells that it is ready, and alive.

use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than any message.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    watchdog: Duration,
    folder: TempDir,
}

impl ServiceManager {
    /// One that takes for dead who is silent for longer than `watchdog`. Its socket is in a folder of its own below
    /// `parent`; whoever is the service's user may write to it.
    pub fn below(parent: &Path, watchdog: Duration) -> Self {
        let folder = tempfile::Builder::new().prefix("notify").tempdir_in(parent);
        let folder = folder.expect("the folder can be written");
        open_to_all(folder.path());
        // By a short name: a longer one than 107 bytes cannot be bound.
        let opened = File::open(folder.path()).expect("it is there");
        let short = format!("/proc/self/fd/{}/socket", opened.as_raw_fd());
        let socket = UnixDatagram::bind(short).expect("the name is short, and new");
        open_to_all(&folder.path().join("socket"));
        Self {
            socket,
            watchdog,
            folder,
        }
    }

    /// The same for services of this machine.
    pub fn new(watchdog: Duration) -> Self {
        Self::below(&std::env::temp_dir(), watchdog)
    }

    /// What the environment of a service whose root is `root` says of it.
    pub fn environment(&self, root: &Path) -> [(&'static str, String); 2] {
        let path = self.folder.path().join("socket");
        let path = path.strip_prefix(root).expect("the socket is below it");
        [
            ("NOTIFY_SOCKET", format!("/{}", path.display())),
            ("WATCHDOG_USEC", self.watchdog.as_micros().to_string()),
        ]
    }

    /// Waits for this assignment, and passes over others.
    #[track_caller]
    pub fn wait_for(&self, assignment: &str, within: Duration) {
        let deadline = Instant::now() + within;
        while let Some(message) = self.next_before(deadline) {
            if message.lines().any(|line| line == assignment) {
                return;
            }
        }
        panic!("not within {within:?}: {assignment}");
    }

    /// Waits until nobody has said anything for as long as the watchdog waits: the service would be killed.
    #[track_caller]
    pub fn wait_for_silence(&self, within: Duration) {
        let deadline = Instant::now() + within;
        while self.next_before(Instant::now() + self.watchdog).is_some() {
            assert!(Instant::now() < deadline, "not silent within {within:?}");
        }
    }

    fn next_before(&self, deadline: Instant) -> Option<String> {
        let mut message = [0; MESSAGE_BYTES_MAX];
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Some(left.max(Duration::from_millis(1)));
        self.socket
            .set_read_timeout(timeout)
            .expect("it is not zero");
        match self.socket.recv(&mut message) {
            Ok(length) => Some(String::from_utf8_lossy(&message[..length]).into_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            Err(error) => panic!("the socket of the service manager: {error}"),
        }
    }
}

/// Services have users of their own.
fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, Permissions::from_mode(0o777)).expect("it is ours");
}
