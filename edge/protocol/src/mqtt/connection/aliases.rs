//! Topic aliases towards the client (3.3.2.3.4): which topics it knows by a number. They live as long as
//! the connection, and it is for the client's Topic Alias Maximum to allow any.

use std::{collections::HashMap, num::NonZeroU16};

use crate::mqtt::{codec::Text, limits::ConnectionLimits};

/// What an alias adds to a packet at most: the property, and a byte for each of the two lengths that may
/// grow by it.
pub(super) const ALIAS_BYTES_MAX: usize = 5;

/// How one PUBLISH names its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    InFull,
    /// In full, and the client keeps it under this number.
    Introduced(NonZeroU16),
    /// By the number alone.
    Known(NonZeroU16),
}

/// Where all numbers are taken, the one that was not used for a while is given to another topic: a hand
/// goes round, and passes by whoever was used since it last came (the clock algorithm).
#[derive(Debug, Default)]
pub(super) struct Aliases {
    aliases_max: usize,
    bytes_max: usize,
    numbers: HashMap<Text, NonZeroU16>,
    /// By number, from 1.
    places: Vec<Place>,
    bytes: usize,
    hand: usize,
}

#[derive(Debug)]
struct Place {
    /// Empty where the topic had to make room for another that is longer.
    topic: Text,
    was_used: bool,
}

impl Aliases {
    pub(super) fn new(client_max: u16, limits: &ConnectionLimits) -> Self {
        Self {
            aliases_max: client_max.min(limits.topic_alias_outbound_max).into(),
            bytes_max: limits.topic_alias_outbound_bytes_max,
            ..Self::default()
        }
    }

    /// How a PUBLISH of this topic names it, of which `room_bytes` are left below what the client takes
    /// when it names it in full.
    pub(super) fn name(&mut self, topic: &Text, room_bytes: usize) -> Naming {
        if self.aliases_max == 0 {
            return Naming::InFull;
        }
        if let Some(number) = self.numbers.get(topic) {
            if room_bytes + topic.len() < ALIAS_BYTES_MAX {
                return Naming::InFull;
            }
            self.places[usize::from(number.get()) - 1].was_used = true;
            return Naming::Known(*number);
        }
        if room_bytes < ALIAS_BYTES_MAX || topic.len() > self.bytes_max {
            return Naming::InFull;
        }
        Naming::Introduced(self.introduce(topic))
    }

    fn introduce(&mut self, topic: &Text) -> NonZeroU16 {
        let mut at = self.places.len();
        if at < self.aliases_max && self.bytes + topic.len() <= self.bytes_max {
            let (topic, was_used) = (Text::default(), false);
            self.places.push(Place { topic, was_used });
        } else {
            at = self.vacate();
            while self.bytes + topic.len() > self.bytes_max {
                at = self.vacate();
            }
        }
        let number = u16::try_from(at + 1).ok().and_then(NonZeroU16::new);
        let number = number.expect("there are at most as many as the client's maximum");
        // A slice would keep the buffer that the message was read into.
        let topic = topic.detached();
        self.bytes += topic.len();
        self.numbers.insert(topic.clone(), number);
        self.places[at].topic = topic;
        number
    }

    /// Takes the number of a topic that was not used for a while.
    fn vacate(&mut self) -> usize {
        loop {
            let at = self.hand;
            self.hand = (at + 1) % self.places.len();
            let place = &mut self.places[at];
            if !std::mem::take(&mut place.was_used) {
                let topic = std::mem::take(&mut place.topic);
                self.bytes -= topic.len();
                self.numbers.remove(&topic);
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES_MAX: usize = 20;

    fn aliases(client_max: u16) -> Aliases {
        let limits = ConnectionLimits {
            topic_alias_outbound_max: 3,
            topic_alias_outbound_bytes_max: BYTES_MAX,
            ..ConnectionLimits::default()
        };
        Aliases::new(client_max, &limits)
    }

    fn number(value: u16) -> NonZeroU16 {
        NonZeroU16::new(value).unwrap()
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_makes_room() {
        let mut aliases = aliases(2);
        let mut name = |topic: &str| aliases.name(&Text::try_from(topic).unwrap(), 100);
        assert_eq!(name("a"), Naming::Introduced(number(1)));
        assert_eq!(name("b"), Naming::Introduced(number(2)));
        assert_eq!(name("a"), Naming::Known(number(1)));
        assert_eq!(name("c"), Naming::Introduced(number(2)));
        assert_eq!(name("a"), Naming::Known(number(1)));
        assert_eq!(name("b"), Naming::Introduced(number(2)));
    }

    #[test]
    fn no_alias_where_the_client_allows_none_or_has_no_room() {
        let topic = Text::try_from("abc").unwrap();
        assert_eq!(aliases(0).name(&topic, 100), Naming::InFull);
        let mut aliases = aliases(1);
        assert_eq!(aliases.name(&topic, 4), Naming::InFull);
        assert_eq!(aliases.name(&topic, 5), Naming::Introduced(number(1)));
        assert_eq!(aliases.name(&topic, 1), Naming::InFull);
        assert_eq!(aliases.name(&topic, 2), Naming::Known(number(1)));
    }

    proptest! {
        /// A client that keeps what it is told knows each topic, and never more than its maximum; what
        /// is kept here is bounded.
        #[test]
        fn the_client_knows_every_topic(
            client_max in 0_u16..5,
            topics in proptest::collection::vec("[ab]{1,9}|c{21}", 0..200),
        ) {
            let mut aliases = aliases(client_max);
            let mut client = HashMap::new();
            for topic in topics {
                let topic = Text::try_from(topic).unwrap();
                match aliases.name(&topic, 100) {
                    Naming::InFull => prop_assert!(client_max == 0 || topic.len() > BYTES_MAX),
                    Naming::Introduced(number) => {
                        prop_assert!(number.get() <= client_max.min(3));
                        client.insert(number, topic);
                    }
                    Naming::Known(number) => prop_assert_eq!(client.get(&number), Some(&topic)),
                }
                let kept: usize = aliases.places.iter().map(|place| place.topic.len()).sum();
                prop_assert_eq!(aliases.bytes, kept);
                prop_assert!(kept <= BYTES_MAX && aliases.numbers.len() <= 3);
            }
        }
    }
}
