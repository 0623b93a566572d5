//! Which messages of a broker are taken, and what they are called here.

use tidegate_edge_protocol::mqtt::codec::Message;
use tidegate_shared::fleet::{MqttSourceSpec, SourceSubscription};
use tidegate_shared::topic::check_topic;

use super::link::Arrived;

#[derive(Debug)]
pub(super) struct Topics {
    subscriptions: Vec<SourceSubscription>,
    message_bytes_max: usize,
}

impl Topics {
    pub(super) fn new(spec: &MqttSourceSpec, message_bytes_max: usize) -> Self {
        Self {
            subscriptions: spec.subscribe.clone(),
            message_bytes_max,
        }
    }

    /// The message under its topic here; the first filter that matches counts.
    ///
    /// # Errors
    /// Why it cannot be taken, as metrics name it.
    pub(super) fn take(&self, arrived: Arrived) -> Result<Message, &'static str> {
        let remote = std::str::from_utf8(&arrived.topic).map_err(|_| "topic")?;
        let local = self.local(remote)?;
        if local.len() + arrived.payload.len() > self.message_bytes_max {
            return Err("too_large");
        }
        arrived.message(&local).ok_or("topic")
    }

    fn local(&self, remote: &str) -> Result<String, &'static str> {
        let mut all = self.subscriptions.iter();
        // The session may still subscribe to what an earlier configuration said.
        let subscription = all.find(|subscription| subscription.filter.matches(remote));
        let local = subscription.ok_or("not_subscribed")?.local_topic(remote);
        // Such topics have a meaning of their own here; $SYS is each server's.
        if local.starts_with('$') || check_topic(&local).is_err() {
            return Err("topic");
        }
        Ok(local)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_shared::fleet::{EdgeSpec, parse_yaml};

    use super::*;

    #[test]
    fn the_first_filter_that_matches_names_a_message() {
        let yaml = "sources: [{name: a, mqtt: {server: 'mqtt://b', subscribe: [
            {filter: 'line/#', remote_prefix: line/, local_prefix: plant/},
            {filter: '$SYS/broker/uptime', local_prefix: 'plant/'},
            {filter: 'x/#', remote_prefix: x/},
            {filter: '#', local_prefix: all/}]}}]";
        let spec: EdgeSpec = parse_yaml(yaml).unwrap();
        spec.check().unwrap();
        let topics = Topics::new(&spec.sources[0].mqtt, 1 << 20);
        let local = |remote: &str| topics.local(remote);
        assert_eq!(local("line/7"), Ok("plant/7".to_owned()));
        assert_eq!(local("other"), Ok("all/other".to_owned()));
        assert_eq!(
            local("$SYS/broker/uptime"),
            Ok("plant/$SYS/broker/uptime".to_owned())
        );
        assert_eq!(local("$SYS/broker/load"), Err("not_subscribed"));
        // Nobody outside speaks for this server.
        assert_eq!(local("x/$SYS/broker/uptime"), Err("topic"));
        assert_eq!(local("x/"), Err("topic"));
    }
}
