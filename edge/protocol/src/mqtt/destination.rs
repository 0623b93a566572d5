//! Topics below `$delayed`, `$broadcast` and `$direct` say what becomes of a message, beside being its topic.

use thiserror::Error;

/// The longest delay, 49 days and some: what MQTT brokers that know `$delayed` take.
pub const DELAY_S_MAX: u32 = 4_294_967;

const DELAYED: &str = "$delayed/";
const BROADCAST: &str = "$broadcast/";
const DIRECT: &str = "$direct/";

/// Where a message is meant to go, by its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// To who has subscribed.
    Subscribers,
    /// `$delayed/<seconds>/<topic>`: published to the topic so much later.
    Delayed { delay_s: u32, topic: &'a str },
    /// `$broadcast/<topic>`: to each client that is connected or has a session, and to who has subscribed.
    Broadcast,
    /// `$direct/<client id>/<topic>`: to that client, and to who has subscribed.
    Direct { client_id: &'a str },
}

/// Why a topic leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DestinationError {
    #[error("it is $delayed/<seconds>/<topic>, with 0 to {DELAY_S_MAX} seconds")]
    Delay,
    #[error("a delayed message is not delayed again")]
    DelayedTwice,
    #[error("it is $broadcast/<topic>")]
    Broadcast,
    #[error("it is $direct/<client id>/<topic>")]
    Direct,
}

impl<'a> Destination<'a> {
    /// # Errors
    /// It begins as one of the three, and goes on otherwise.
    pub fn of(topic: &'a str) -> Result<Self, DestinationError> {
        if !topic.starts_with('$') {
            return Ok(Self::Subscribers);
        }
        if let Some(rest) = topic.strip_prefix(DELAYED) {
            return delayed(rest);
        }
        if let Some(rest) = topic.strip_prefix(BROADCAST) {
            let is_whole = !rest.is_empty();
            return is_whole
                .then_some(Self::Broadcast)
                .ok_or(DestinationError::Broadcast);
        }
        if let Some(rest) = topic.strip_prefix(DIRECT) {
            return match rest.split_once('/') {
                Some((client_id, topic)) if !client_id.is_empty() && !topic.is_empty() => {
                    Ok(Self::Direct { client_id })
                }
                _ => Err(DestinationError::Direct),
            };
        }
        match topic {
            "$delayed" => Err(DestinationError::Delay),
            "$broadcast" => Err(DestinationError::Broadcast),
            "$direct" => Err(DestinationError::Direct),
            _ => Ok(Self::Subscribers),
        }
    }
}

fn delayed(rest: &str) -> Result<Destination<'_>, DestinationError> {
    let Some((seconds, topic)) = rest.split_once('/').filter(|(_, topic)| !topic.is_empty()) else {
        return Err(DestinationError::Delay);
    };
    let is_number = seconds.bytes().all(|byte| byte.is_ascii_digit());
    let delay_s = seconds.parse().ok().filter(|s| *s <= DELAY_S_MAX);
    let delay_s = delay_s.filter(|_| is_number);
    let delay_s = delay_s.ok_or(DestinationError::Delay)?;
    match Destination::of(topic)? {
        Destination::Delayed { .. } => Err(DestinationError::DelayedTwice),
        _ => Ok(Destination::Delayed { delay_s, topic }),
    }
}

/// The topic that a message has in the end: rules are asked about this one.
pub fn final_topic(topic: &str) -> &str {
    match Destination::of(topic) {
        Ok(Destination::Delayed { topic, .. }) => topic,
        _ => topic,
    }
}

/// Whether a filter matches nothing but what is for every client or for one.
pub fn is_addressed(filter: &str) -> bool {
    filter.starts_with(BROADCAST) || filter.starts_with(DIRECT)
}

/// The filter of all that is for every client.
pub fn broadcast_filter() -> String {
    format!("{BROADCAST}#")
}

/// The filter of all that is for one client alone; `None` where its id is no level of a topic.
pub fn direct_filter(client_id: &str) -> Option<String> {
    let is_level = !client_id.is_empty() && !client_id.contains(['/', '+', '#']);
    is_level.then(|| format!("{DIRECT}{client_id}/#"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_says_where_it_leads() {
        let delayed = |delay_s, topic| Ok(Destination::Delayed { delay_s, topic });
        for (topic, destination) in [
            ("plant/7", Ok(Destination::Subscribers)),
            ("$SYS/broker", Ok(Destination::Subscribers)),
            ("$delayedly/5/x", Ok(Destination::Subscribers)),
            ("$delayed/0/x", delayed(0, "x")),
            ("$delayed/4294967/x/y", delayed(4_294_967, "x/y")),
            ("$delayed/5//x", delayed(5, "/x")),
            ("$delayed/5/$direct/a/x", delayed(5, "$direct/a/x")),
            ("$delayed/4294968/x", Err(DestinationError::Delay)),
            ("$delayed/99999999999/x", Err(DestinationError::Delay)),
            ("$delayed/+5/x", Err(DestinationError::Delay)),
            ("$delayed/-1/x", Err(DestinationError::Delay)),
            ("$delayed/5s/x", Err(DestinationError::Delay)),
            ("$delayed//x", Err(DestinationError::Delay)),
            ("$delayed/5/", Err(DestinationError::Delay)),
            ("$delayed/5", Err(DestinationError::Delay)),
            ("$delayed", Err(DestinationError::Delay)),
            (
                "$delayed/5/$delayed/5/x",
                Err(DestinationError::DelayedTwice),
            ),
            ("$delayed/5/$direct/a", Err(DestinationError::Direct)),
            ("$broadcast/x", Ok(Destination::Broadcast)),
            ("$broadcast/", Err(DestinationError::Broadcast)),
            ("$broadcast", Err(DestinationError::Broadcast)),
            ("$direct/a/x/y", Ok(Destination::Direct { client_id: "a" })),
            ("$direct/a/", Err(DestinationError::Direct)),
            ("$direct/a", Err(DestinationError::Direct)),
            ("$direct//x", Err(DestinationError::Direct)),
        ] {
            assert_eq!(Destination::of(topic), destination, "{topic}");
        }
        assert_eq!(final_topic("$delayed/5/x"), "x");
        assert_eq!(final_topic("$direct/a/x"), "$direct/a/x");
    }

    #[test]
    fn an_id_that_is_no_level_has_no_messages_of_its_own() {
        assert_eq!(direct_filter("a").as_deref(), Some("$direct/a/#"));
        assert!(is_addressed("$direct/a/#") && is_addressed(&broadcast_filter()));
        assert!(!is_addressed("#") && !is_addressed("$direction/a"));
        for id in ["", "a/b", "+", "#", "a+"] {
            assert_eq!(direct_filter(id), None, "{id}");
        }
    }
}
