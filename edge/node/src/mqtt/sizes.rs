//! What an idle connection is made of: one with a client id of 16 bytes, a keep alive, no will and no
//! subscription, whose session ends with it.

use std::future::ready;

use tokio::time::Sleep;

use super::Mailbox;
use super::driver::{Task, run};
use crate::sessions::{IDLE_PARTS, heap_bytes};

/// What is asked for of the heap in all. Beside it are malloc's headers and gaps, and tables that have room
/// for more: `tests/bench mqtt --only idle` measures what the node grows by.
const IDLE_HEAP_BYTES_MAX: usize = 1_500;
/// So that the future is not the reason why tokio's task takes a step more.
const IDLE_FUTURE_BYTES_MAX: usize = 2 * TOKIO_STEP_BYTES - TOKIO_TASK_BYTES;
const TASK_BYTES_MAX: usize = 592;

/// Of tokio 1.54, on machines of 64 bits: a task's header, its scheduler and id, and its trailer; tasks and
/// places in the poller begin at a multiple of a step.
const TOKIO_TASK_BYTES: usize = 80;
const TOKIO_STEP_BYTES: usize = 128;
const TOKIO_POLLER_BYTES: usize = 256;

const CLIENT_ID_BYTES: usize = 16;
/// What `Bytes` counts its owners in.
const SHARED_BYTES: usize = 24;

#[cfg(target_pointer_width = "64")]
#[test]
fn what_an_idle_connection_is_made_of() {
    let future = size_of_val(&run(Box::pin(ready(None))));
    let tokio_task = (TOKIO_TASK_BYTES + future).next_multiple_of(TOKIO_STEP_BYTES);
    let mut parts = vec![
        ("the connection's state", size_of::<Task>()),
        ("tokio's task, with the alarm", tokio_task),
        ("its place in tokio's poller", TOKIO_POLLER_BYTES),
        ("the mailbox", heap_bytes::<Mailbox>()),
        ("the client id", CLIENT_ID_BYTES + SHARED_BYTES),
    ];
    parts.extend(IDLE_PARTS);
    parts.sort_unstable_by_key(|(_, bytes)| usize::MAX - bytes);
    for (part, bytes) in &parts {
        println!("{bytes:5} B  {part}");
    }
    let all: usize = parts.iter().map(|(_, bytes)| bytes).sum();
    println!("{all:5} B  asked for in all");
    let alarm = size_of::<Sleep>();
    assert!(
        future <= IDLE_FUTURE_BYTES_MAX,
        "{future} B, {alarm} of them the alarm"
    );
    assert!(size_of::<Task>() <= TASK_BYTES_MAX);
    assert!(all <= IDLE_HEAP_BYTES_MAX);
}
