//! What the server says of itself under `$SYS/broker`: mosquitto's topics where the meaning is the same,
//! since dashboards know them, and some of our own. It goes to who subscribes to it, as it comes, and
//! the last of each topic to who subscribes later. It never enters the journal or a route.

mod figures;
mod load;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_edge_protocol::mqtt::codec::{Message, Qos, Text};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::mqtt::Context;
use crate::retained::RetainedMessage;
use crate::router::ConnectionId;

/// Topics that only the server publishes to.
const PREFIX: &str = "$SYS/";

/// Connections have numbers from 1.
const SERVER: ConnectionId = 0;

/// Whether a topic or filter is of the server's own messages.
pub(crate) fn is_of_the_server(topic: &str) -> bool {
    topic.starts_with(PREFIX)
}

/// Publishes every `period` until told to stop; 0 is never.
pub(crate) async fn run(
    context: Arc<Context>,
    period: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    if period.is_zero() {
        return;
    }
    let mut system = System {
        context,
        started: Instant::now(),
        load: load::Load::default(),
        said: HashMap::new(),
    };
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => system.publish(Instant::now()),
            _ = stopping.changed() => return,
        }
    }
}

struct System {
    context: Arc<Context>,
    started: Instant,
    load: load::Load,
    /// The last of each topic.
    said: HashMap<String, String>,
}

impl System {
    /// What has changed, as mosquitto does.
    fn publish(&mut self, now: Instant) {
        let totals = figures::totals(&self.context.metrics);
        let mut figures = figures::figures(&self.context, now - self.started, &totals);
        figures.extend(self.load.rates(now, &totals));
        for (name, value) in figures {
            let topic = format!("{PREFIX}broker/{name}");
            if self.said.get(&topic) != Some(&value) {
                self.say(&topic, &value);
                self.said.insert(topic, value);
            }
        }
    }

    fn say(&self, topic: &str, value: &str) {
        let Ok(topic) = Text::try_from(topic) else {
            return;
        };
        let message = Arc::new(Message {
            topic,
            payload: Bytes::copy_from_slice(value.as_bytes()),
            ..Message::default()
        });
        let qos = Qos::AtMostOnce;
        self.context.system.take_up(RetainedMessage {
            message: Arc::clone(&message),
            qos,
            at_ms: self.context.clock.now_ms(),
        });
        self.context.router.fan_out(SERVER, &message, qos, true);
    }
}
