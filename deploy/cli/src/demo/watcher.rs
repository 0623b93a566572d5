//! The demo's consumer: what any Kafka client would see, counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::kafka_client::{Consumed, Consumer};
use crate::terminal::printable;

const RECONNECT_WAIT: Duration = Duration::from_secs(1);

/// Key and value of a record as the status line shows them.
const KEY_CHARS_MAX: usize = 60;
const VALUE_CHARS_MAX: usize = 50;

/// What has been consumed; a clone shows the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    consumed: AtomicU64,
    last: Mutex<Option<String>>,
}

impl Watched {
    pub(super) fn consumed(&self) -> u64 {
        self.shared.consumed.load(Ordering::Relaxed)
    }

    pub(super) fn last(&self) -> Option<String> {
        let last = self.shared.last.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts `records`, and keeps one of them for the status line: not always the last, which would
    /// be the same sensor each second.
    fn count(&self, records: &[Consumed], turn: usize) {
        let Some(index) = turn.checked_rem(records.len()) else {
            return;
        };
        let count = records.len() as u64;
        self.shared.consumed.fetch_add(count, Ordering::Relaxed);
        let last = self.shared.last.lock();
        *last.unwrap_or_else(PoisonError::into_inner) = Some(shown(&records[index]));
    }
}

fn shown(consumed: &Consumed) -> String {
    let key = consumed.record.key.as_deref().unwrap_or_default();
    let value = consumed.record.value.as_deref().unwrap_or_default();
    let (key, value) = (
        printable(key, KEY_CHARS_MAX),
        printable(value, VALUE_CHARS_MAX),
    );
    format!("{key} = {value}")
}

/// Consumes until it is told to stop; connects again when the connection fails.
pub(super) async fn run(
    mut consumer: Consumer,
    watched: Watched,
    mut stopping: watch::Receiver<bool>,
) {
    let consuming = async {
        for turn in 0.. {
            match consumer.poll().await {
                Ok(records) => watched.count(&records, turn),
                Err(error) => {
                    tracing::warn!(%error, "the demo's consumer connects again");
                    reconnect(&mut consumer).await;
                }
            }
        }
    };
    tokio::select! {
        () = consuming => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}

async fn reconnect(consumer: &mut Consumer) {
    loop {
        tokio::time::sleep(RECONNECT_WAIT).await;
        match consumer.reconnect().await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "the demo's consumer cannot connect yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_shared::id::{KafkaOffset, PartitionId};
    use tidegate_shared::record::Record;

    use super::*;

    fn consumed(key: &'static str, value: &'static [u8]) -> Consumed {
        Consumed {
            partition: PartitionId(0),
            offset: KafkaOffset(0),
            record: Record {
                key: Some(key.into()),
                value: Some(value.into()),
                ..Record::default()
            },
        }
    }

    #[test]
    fn records_are_counted_and_shown_in_turn() {
        let watched = Watched::default();
        watched.count(&[], 0);
        assert_eq!((watched.consumed(), watched.last()), (0, None));
        let records = [consumed("a", b"1"), consumed("b", b"\x1b[2J")];
        watched.count(&records, 2);
        assert_eq!(watched.last().as_deref(), Some("a = 1"));
        watched.count(&records, 3);
        assert_eq!(watched.last().as_deref(), Some("b = \\u{1b}[2J"));
        assert_eq!(watched.consumed(), 4);
    }
}
