//! What a process takes of memory, at its most, while something goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The resident set of a process, in bytes.
pub fn resident_bytes(process_id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status"));
    let status = status.expect("the process lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("Linux says it");
    let kib = line.trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") << 10
}

/// Looks at a process until it is asked.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
    pub idle_bytes: u64,
}

impl Watch {
    /// What the process takes now is what it takes idle.
    pub fn start(process_id: u32) -> Self {
        let idle_bytes = resident_bytes(process_id);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut most = idle_bytes;
            while !stopping.load(Ordering::Relaxed) {
                most = most.max(resident_bytes(process_id));
                std::thread::sleep(LOOK_EVERY);
            }
            most
        });
        Self {
            stop,
            thread,
            idle_bytes,
        }
    }

    /// The most above idle.
    pub fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let most = self.thread.join().expect("the process lived on");
        most - self.idle_bytes
    }
}
