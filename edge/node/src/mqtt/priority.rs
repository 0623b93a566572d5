//! How urgent a message is: as a user property says where the configuration names one, or else as its route does.

use tidegate_edge_protocol::mqtt::codec::{Message, Text};
use tidegate_shared::fleet::PRIORITY_MAX;

use crate::router::Way;

/// Where priorities come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Priorities {
    property: Option<Text>,
}

impl Priorities {
    pub(super) fn new(property: Option<&str>) -> Self {
        Self {
            property: property.and_then(|name| Text::try_from(name).ok()),
        }
    }

    /// Whether messages may say theirs.
    pub(super) fn counts(&self) -> bool {
        self.property.is_some()
    }

    /// From 0 to 9.
    pub(super) fn of(&self, message: &Message, way: &Way) -> u8 {
        let said = self.property.as_ref().and_then(|name| said(message, name));
        let of_route = || way.kept.as_ref().map_or(0, |route| route.priority);
        said.unwrap_or_else(of_route)
    }
}

fn said(message: &Message, name: &Text) -> Option<u8> {
    let mut properties = message.properties.user_properties.iter();
    let (_, value) = properties.find(|(own, _)| own == name)?;
    value.parse().ok().filter(|value| *value <= PRIORITY_MAX)
}

#[cfg(test)]
mod tests {
    use tidegate_edge_protocol::mqtt::codec::PublishProperties;
    use tidegate_shared::fleet::RouteKey;
    use tidegate_shared::id::StreamId;

    use super::*;
    use crate::router::Route;

    #[test]
    fn a_property_counts_before_the_route() {
        let way = |priority| Way {
            kept: Some(Route {
                stream: StreamId(0),
                key: RouteKey::None,
                origin: Default::default(),
                priority,
            }),
            ..Way::default()
        };
        let text = |text| Text::try_from(text).unwrap();
        let message = |value| Message {
            properties: PublishProperties {
                user_properties: vec![(text("other"), text("9")), (text("priority"), text(value))],
                ..PublishProperties::default()
            }
            .into(),
            ..Message::default()
        };
        let by_property = Priorities::new(Some("priority"));
        for (value, priority) in [
            ("0", 0),
            ("7", 7),
            ("9", 9),
            ("10", 4),
            ("high", 4),
            ("", 4),
        ] {
            assert_eq!(
                by_property.of(&message(value), &way(4)),
                priority,
                "{value}"
            );
        }
        assert_eq!(by_property.of(&Message::default(), &Way::default()), 0);
        assert_eq!(Priorities::default().of(&message("7"), &way(4)), 4);
    }
}
