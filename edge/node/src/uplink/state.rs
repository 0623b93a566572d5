//! How the uplink stands, for who asks where a message is: whether there is a link and since when, and
//! which streams are held up and why. It decides nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_bridge_protocol::sender::Alarm;
use tidegate_shared::id::StreamId;

use crate::committer::now_ms;

#[derive(Debug, Default)]
pub(crate) struct LinkState(Mutex<Link>);

/// Times are the edge's own clock's, in milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    pub connected: bool,
    /// When it came, or went; `None`: there has been none since the start.
    pub since_ms: Option<i64>,
    /// Why there is none: of the newest attempt.
    pub why: Option<String>,
    pub held: BTreeMap<StreamId, String>,
}

impl LinkState {
    pub(crate) fn get(&self) -> Link {
        self.lock().clone()
    }

    pub(super) fn connected(&self) {
        let mut link = self.lock();
        link.connected = true;
        link.since_ms = Some(now_ms());
        link.why = None;
        // Said again where it still holds.
        link.held.clear();
    }

    pub(super) fn lost(&self, why: String) {
        let mut link = self.lock();
        link.connected = false;
        link.since_ms = Some(now_ms());
        link.why = Some(why);
    }

    /// An attempt has failed: there is no link since when there was none.
    pub(super) fn failed(&self, why: &str) {
        self.lock().why = Some(why.to_owned());
    }

    pub(super) fn alarm(&self, alarm: &Alarm) {
        let (Alarm::Parked { stream, .. }
        | Alarm::Diverged { stream, .. }
        | Alarm::Unreadable { stream, .. }) = alarm
        else {
            return;
        };
        self.lock().held.insert(*stream, alarm.to_string());
    }

    pub(super) fn landed(&self, stream: StreamId) {
        self.lock().held.remove(&stream);
    }

    fn lock(&self) -> MutexGuard<'_, Link> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_bridge_protocol::landing::RefusedReason;

    use super::*;

    #[test]
    fn what_holds_a_stream_up_is_told_until_it_lands() {
        let state = LinkState::default();
        state.connected();
        let (stream, reason) = (StreamId(3), RefusedReason::Parked);
        state.alarm(&Alarm::Parked { stream, reason });
        assert!(state.get().held[&stream].contains("parked"));
        state.landed(stream);
        assert!(state.get().held.is_empty());
        state.lost("gone".to_owned());
        let since = state.get().since_ms;
        state.failed("no answer");
        let link = state.get();
        assert_eq!((link.connected, link.since_ms), (false, since));
        assert_eq!(link.why.as_deref(), Some("no answer"));
    }
}
