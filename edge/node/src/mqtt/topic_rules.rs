//! What the YAML says of topics for each client: what it is subscribed to of itself, under which names its topics go, and
//! how urgent its messages are.

use anyhow::Context as _;
use tidegate_edge_protocol::mqtt::authorization::Client;
use tidegate_edge_protocol::mqtt::automatic::{AutomaticSubscription, addressed};
use tidegate_edge_protocol::mqtt::codec::{Qos, RetainHandling, SubscriptionOptions, Text};
use tidegate_edge_protocol::mqtt::connection::{SharedFilter, SubscriptionRequest};
use tidegate_edge_protocol::mqtt::rewrite::{RewriteRule, Rewrites};
use tidegate_shared::fleet::{AutoSubscribeSpec, MqttSpec, RewriteSpec};

use super::driver::Task;
use super::priority::Priorities;

#[derive(Debug, Default)]
pub(crate) struct TopicRules {
    automatic: Vec<AutomaticSubscription>,
    rewrites: Rewrites,
    pub(super) priorities: Priorities,
    pub(super) is_sparkplug_aware: bool,
}

impl TopicRules {
    /// # Errors
    /// With the key, and which of its rules is wrong.
    pub(crate) fn new(spec: &MqttSpec) -> anyhow::Result<Self> {
        let rules = spec.rewrite.iter().enumerate().map(|(at, rule)| {
            let RewriteSpec {
                from,
                to,
                publish,
                subscribe,
            } = rule;
            RewriteRule::new(from.clone(), to, *publish, *subscribe)
                .with_context(|| format!("mqtt.rewrite, rule {}, from {from} to {to:?}", at + 1))
        });
        let rules = rules.collect::<Result<_, _>>()?;
        Ok(Self {
            automatic: spec.auto_subscribe.iter().map(automatic).collect(),
            rewrites: Rewrites::new(rules).context("mqtt.rewrite")?,
            priorities: Priorities::new(spec.priority_property.as_deref()),
            is_sparkplug_aware: spec.sparkplug_aware,
        })
    }

    /// What the configuration subscribes a client to.
    fn automatic(&self, client: Client<'_>) -> impl Iterator<Item = SubscriptionRequest> {
        self.automatic.iter().filter_map(move |own| own.of(client))
    }

    /// Whether a client has the messages of a topic without asking for them.
    pub(super) fn gives(&self, client: Client<'_>, topic: &str) -> bool {
        let mut all = self.automatic(client).chain(addressed(client.id));
        all.any(|own| own.filter.filter.matches(topic))
    }

    /// Puts the name in place under which the topic of a message goes, if it is another one.
    pub(super) fn rewrite(&self, client: Client<'_>, topic: &mut Text) {
        let other = self.rewrites.topic(client, topic);
        if let Some(Ok(other)) = other.map(Text::try_from) {
            *topic = other;
        }
    }
}

fn automatic(spec: &AutoSubscribeSpec) -> AutomaticSubscription {
    let options = SubscriptionOptions {
        qos_max: match spec.qos {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        },
        no_local: spec.no_local,
        retain_as_published: spec.retain_as_published,
        retain_handling: match spec.retain_handling {
            0 => RetainHandling::AtSubscribe,
            1 => RetainHandling::AtNewSubscribe,
            _ => RetainHandling::Never,
        },
    };
    AutomaticSubscription::new(&spec.filter, options)
}

impl Task {
    fn client(&self) -> Client<'_> {
        Client {
            user: self.user().map(|user| user.as_str()),
            id: std::str::from_utf8(&self.client_id).unwrap_or_default(),
        }
    }

    /// What the configuration subscribes the client to.
    pub(super) fn automatic(&self) -> impl Iterator<Item = SubscriptionRequest> {
        self.context.topics.automatic(self.client())
    }

    /// Whether it has a subscription without asking for it.
    pub(super) fn has_automatically(&self, filter: &SharedFilter) -> bool {
        let client = self.client();
        let mut all = self.automatic().chain(addressed(client.id));
        all.any(|own| own.filter.name == filter.name)
    }

    pub(super) fn rewrite_topic(&self, topic: &mut Text) {
        if !self.context.topics.rewrites.is_empty() {
            self.context.topics.rewrite(self.client(), topic);
        }
    }

    pub(super) fn rewrite_filter(&self, filter: &mut SharedFilter) {
        let rewrites = &self.context.topics.rewrites;
        if rewrites.is_empty() {
            return;
        }
        let name = rewrites.filter(self.client(), &filter.name);
        let other = name.and_then(|name| Text::try_from(name).ok());
        if let Some(Ok(other)) = other.map(SharedFilter::parse) {
            *filter = other;
        }
    }
}
