//! Subscriptions that a client has without asking for them: those that the node's configuration gives to each client, and
//! where a session is read from the journal, all that is for everybody or for it alone.

use tidegate_shared::topic::TopicFilter;

use super::authorization::{Client, NamedFilter};
use super::codec::{Qos, RetainHandling, SubscriptionOptions, Text};
use super::connection::{SharedFilter, SubscriptionRequest};
use super::destination::{broadcast_filter, direct_filter};

/// One that each client has. `%u` and `%c` in its filter are the client's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutomaticSubscription {
    filter: NamedFilter,
    options: SubscriptionOptions,
}

impl AutomaticSubscription {
    pub fn new(filter: &TopicFilter, options: SubscriptionOptions) -> Self {
        Self {
            filter: NamedFilter::new(filter),
            options,
        }
    }

    /// A client's; nothing where its names can't stand in a filter.
    pub fn of(&self, client: Client<'_>) -> Option<SubscriptionRequest> {
        request(self.filter.filled(client)?, self.options)
    }
}

/// What a session that outlives its connection has beside what its client asks for; not what that client sends itself.
/// Others are served without it.
pub fn addressed(client_id: &str) -> impl Iterator<Item = SubscriptionRequest> {
    let filters = [Some(broadcast_filter()), direct_filter(client_id)];
    let options = SubscriptionOptions {
        qos_max: Qos::ExactlyOnce,
        no_local: true,
        retain_as_published: false,
        retain_handling: RetainHandling::Never,
    };
    let filters = filters.into_iter().flatten();
    filters.filter_map(move |filter| request(filter, options))
}

fn request(filter: String, options: SubscriptionOptions) -> Option<SubscriptionRequest> {
    let filter = SharedFilter::parse(Text::try_from(filter).ok()?).ok()?;
    Some(SubscriptionRequest { filter, options })
}
