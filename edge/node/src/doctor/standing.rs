//! Whether a node runs on this data folder, and what can be learnt of it from outside: from the kernel's list of locks,
//! `/proc`, and its own HTTP. Its lock is only looked at.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tidegate_shared::fleet::EdgeSpec;

use super::Finding;

/// A node of this machine answers within this, or not at all.
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);

/// An answer is read up to this.
const HTTP_BYTES_MAX: u64 = 8 << 20;

/// What is known of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Somebody holds the data folder's lock.
    pub is_running: bool,
    /// As far as this process may see it.
    pub pid: Option<u32>,
    /// What `/readyz` answers; `None` where nobody does.
    pub ready: Option<bool>,
}

impl Standing {
    pub fn of(spec: &EdgeSpec) -> Self {
        let (is_running, pid) = holder(&spec.data.join("lock"));
        let answer = is_running.then(|| http_get(spec.http.address, "/readyz").ok());
        Self {
            is_running,
            pid,
            ready: answer.flatten().map(|(status, _)| status == 200),
        }
    }

    pub(super) fn judge(&self, spec: &EdgeSpec) -> Finding {
        let process = match self.pid {
            Some(pid) => format!(" (process {pid})"),
            None => String::new(),
        };
        let address = spec.http.address;
        match (self.is_running, self.ready) {
            (false, _) => Finding::ok("node", "no node runs on this data folder"),
            (true, Some(true)) => Finding::ok(
                "node",
                format!("a node runs{process}, and says that it is ready"),
            ),
            (true, Some(false)) => Finding::problem(
                "node",
                format!("a node runs{process}, and says that it is not ready"),
                "its log says why: journalctl -u tidegate-edge",
            ),
            (true, None) => Finding::warning(
                "node",
                format!("a node runs{process}, and does not answer at http://{address}/readyz"),
                "it may be starting, or run with another configuration than this one: systemctl status tidegate-edge",
            ),
        }
    }

    /// A file of the node's `/proc` folder.
    pub(super) fn proc_file(&self, name: &str) -> Option<String> {
        let pid = self.pid?;
        fs::read_to_string(format!("/proc/{pid}/{name}")).ok()
    }
}

/// Whether a lock file is locked, and by which process.
fn holder(lock: &Path) -> (bool, Option<u32>) {
    let Ok(metadata) = fs::metadata(lock) else {
        return (false, None);
    };
    match fs::read_to_string("/proc/locks") {
        Ok(locks) => match listed(&locks, metadata.dev(), metadata.ino()) {
            Some(pid) => (true, pid),
            None => (false, None),
        },
        // A shared lock for a moment: a node that runs does not notice.
        Err(_) => {
            let locked = File::open(lock).map(|file| file.try_lock_shared());
            (matches!(locked, Ok(Err(TryLockError::WouldBlock))), None)
        }
    }
}

/// `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`. Some file systems (btrfs, overlay) show another device there than
/// to `stat`: then the inode alone must do.
fn listed(locks: &str, device: u64, inode: u64) -> Option<Option<u32>> {
    let of_device = format!(
        "{:02x}:{:02x}:{inode}",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    );
    let of_inode = format!(":{inode}");
    let find = |fits: &dyn Fn(&str) -> bool| {
        locks.lines().find_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let [_, "FLOCK", _, "WRITE", pid, file, ..] = words[..] else {
                return None;
            };
            // 0: of a process that this one may not see.
            let pid = pid.parse().ok().filter(|pid| *pid > 0);
            fits(file).then_some(pid)
        })
    };
    find(&|file| file == of_device).or_else(|| find(&|file| file.ends_with(&of_inode)))
}

/// What a node of this machine answers: status and body.
///
/// # Errors
/// Nobody answers there, or not in HTTP.
pub fn http_get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&reachable(address), HTTP_TIMEOUT)?;
    stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
    stream.set_write_timeout(Some(HTTP_TIMEOUT))?;
    // Of HTTP 1.0, so that the body ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(HTTP_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let no_http = || io::Error::new(io::ErrorKind::InvalidData, "what answers is no HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_http)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(no_http)?, body.to_owned()))
}

/// Who listens everywhere is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tidegate_shared::data_lock::DataLock;

    use super::*;

    #[test]
    fn a_lock_is_seen_and_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert_eq!(holder(&path), (false, None));
        let lock = DataLock::take(folder.path()).unwrap();
        assert_eq!(holder(&path), (true, Some(std::process::id())));
        drop(lock);
        assert_eq!(holder(&path), (false, None));
    }

    #[test]
    fn locks_are_told_apart() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:00:12 0 EOF\n\
                     2: FLOCK  ADVISORY  READ 8 fe:00:12 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 00:1f:12 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 0 fe:00:13 0 EOF\n";
        let device = rustix::fs::makedev(0xfe, 0);
        assert_eq!(listed(locks, device, 12), Some(Some(9)));
        assert_eq!(listed(locks, device, 13), Some(None));
        assert_eq!(listed(locks, device, 2), None);
    }
}
