//! Topics of clients that are to have another name here: `from` is a filter, and what its wildcards stand for goes to the
//! places `$1`, `$2` … of `to`. The first rule that matches counts, once.

use thiserror::Error;
use tidegate_shared::topic::{TopicFilter, check_topic, split_share};

use super::authorization::{Client, is_one_level};

/// Rules of one node: each is looked at for each message.
pub const REWRITES_MAX: usize = 100;

/// Why a rule cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RewriteError {
    #[error("`to` is empty")]
    Empty,
    #[error("`to` has ${place}, and `from` has {wildcards} wildcards")]
    Place { place: usize, wildcards: usize },
    #[error(
        "in `to` a $ begins the whole, or is followed by a number: $1 is what the first wildcard of `from` stands for"
    )]
    Dollar,
    #[error("`to` has no wildcards: $1, $2 … are what those of `from` stand for")]
    Wildcard,
    #[error("`to` is $SYS, which is the server's own")]
    System,
    #[error("it is for neither: set publish or subscribe")]
    Nothing,
    #[error("more than {REWRITES_MAX}")]
    TooMany,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    User,
    ClientId,
    /// What the wildcard of this number, from 0, stands for.
    Place(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewriteRule {
    from: TopicFilter,
    to: Vec<Part>,
    publish: bool,
    subscribe: bool,
}

impl RewriteRule {
    /// # Errors
    /// `to` can't be made of what `from` gives.
    pub fn new(
        from: TopicFilter,
        to: &str,
        publish: bool,
        subscribe: bool,
    ) -> Result<Self, RewriteError> {
        if !publish && !subscribe {
            return Err(RewriteError::Nothing);
        }
        let levels = from.as_str().split('/');
        let wildcards = levels.filter(|level| matches!(*level, "+" | "#")).count();
        Ok(Self {
            to: parts(to, wildcards)?,
            from,
            publish,
            subscribe,
        })
    }

    fn rewritten(&self, client: Client<'_>, name: &str) -> Option<String> {
        let places = places(self.from.as_str(), name)?;
        let mut out = String::new();
        for part in &self.to {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::User => out.push_str(client.user.filter(|name| is_one_level(name))?),
                Part::ClientId => out.push_str(Some(client.id).filter(|name| is_one_level(name))?),
                Part::Place(place) => match places.get(*place).copied().flatten() {
                    Some(text) => out.push_str(text),
                    // `a/#` matches `a`, too: then there is no level for what is behind it.
                    None => drop(out.ends_with('/').then(|| out.pop())),
                },
            }
        }
        Some(out)
    }
}

/// All of a node, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrites(Vec<RewriteRule>);

impl Rewrites {
    /// # Errors
    /// There are more than are looked through.
    pub fn new(rules: Vec<RewriteRule>) -> Result<Self, RewriteError> {
        match rules.len() > REWRITES_MAX {
            true => Err(RewriteError::TooMany),
            false => Ok(Self(rules)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Another topic for a client's message, behind `$delayed/<seconds>/`, too. Where a client's name makes none of it,
    /// the message keeps its own.
    pub fn topic(&self, client: Client<'_>, topic: &str) -> Option<String> {
        let is_of = |rule: &RewriteRule| rule.publish;
        let own = super::destination::final_topic(topic);
        let other = self.first(client, own, is_of)?;
        let other = format!("{}{other}", &topic[..topic.len() - own.len()]);
        check_topic(&other).is_ok().then_some(other)
    }

    /// Another filter for what a client subscribes to; of a shared subscription behind the group's name.
    pub fn filter(&self, client: Client<'_>, name: &str) -> Option<String> {
        let is_of = |rule: &RewriteRule| rule.subscribe;
        let filter = match split_share(name) {
            Ok(Some((_, filter))) => filter,
            _ => name,
        };
        let other = self.first(client, filter, is_of)?;
        let is_filter = TopicFilter::new(other.as_str()).is_ok();
        is_filter.then(|| format!("{}{other}", &name[..name.len() - filter.len()]))
    }

    fn first(
        &self,
        client: Client<'_>,
        name: &str,
        is_of: impl Fn(&RewriteRule) -> bool,
    ) -> Option<String> {
        let mut rules = self.0.iter().filter(|rule| is_of(rule));
        rules.find_map(|rule| rule.rewritten(client, name))
    }
}

/// What each wildcard of `from` stands for in a topic or a filter; `None`: it does not match, or not all that a filter
/// matches. A `#` that stands for no level is `None` in its place.
fn places<'a>(from: &str, name: &'a str) -> Option<Vec<Option<&'a str>>> {
    if name.starts_with('$') && from.starts_with(['+', '#']) {
        return None;
    }
    let mut places = Vec::new();
    let mut rest = Some(name);
    for own in from.split('/') {
        if own == "#" {
            places.push(rest);
            return Some(places);
        }
        let (level, behind) = match rest?.split_once('/') {
            Some((level, behind)) => (level, Some(behind)),
            None => (rest?, None),
        };
        match own {
            "+" if level != "#" => places.push(Some(level)),
            own if own == level && own != "+" => {}
            _ => return None,
        }
        rest = behind;
    }
    rest.is_none().then_some(places)
}

fn parts(to: &str, wildcards: usize) -> Result<Vec<Part>, RewriteError> {
    if to.is_empty() {
        return Err(RewriteError::Empty);
    }
    if to.contains(['+', '#']) {
        return Err(RewriteError::Wildcard);
    }
    if to == "$SYS" || to.starts_with("$SYS/") {
        return Err(RewriteError::System);
    }
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = to;
    while let Some(letter) = rest.chars().next() {
        let (part, bytes) = if rest.starts_with("%u") {
            (Part::User, 2)
        } else if rest.starts_with("%c") {
            (Part::ClientId, 2)
        } else if letter == '$' && rest[1..].starts_with(|digit: char| digit.is_ascii_digit()) {
            let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
            let place: usize = rest[1..=digits].parse().unwrap_or(usize::MAX);
            if place == 0 || place > wildcards {
                return Err(RewriteError::Place { place, wildcards });
            }
            (Part::Place(place - 1), digits + 1)
        } else if letter == '$' && rest.len() < to.len() {
            return Err(RewriteError::Dollar);
        } else {
            text.push(letter);
            rest = &rest[letter.len_utf8()..];
            continue;
        };
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        parts.push(part);
        rest = &rest[bytes..];
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: Client<'_> = Client {
        user: Some("ann"),
        id: "pump 7",
    };

    fn rule(from: &str, to: &str) -> RewriteRule {
        RewriteRule::new(TopicFilter::new(from).unwrap(), to, true, true).unwrap()
    }

    fn rewrites(rules: &[(&str, &str)]) -> Rewrites {
        let rules = rules.iter().map(|(from, to)| rule(from, to));
        Rewrites::new(rules.collect()).unwrap()
    }

    #[test]
    fn what_wildcards_stand_for_goes_to_its_place() {
        let rewrites = rewrites(&[
            ("y/+/z/#", "x/$1/$2"),
            ("old/#", "new/$1"),
            ("swap/+/+", "swapped/$2/$1"),
            ("mine", "%u/%c"),
            ("me/#", "$direct/%c/$1"),
            ("x/#", "never/again"),
        ]);
        let topic = |topic| rewrites.topic(CLIENT, topic);
        for (from, to) in [
            ("y/1/z/2/3", Some("x/1/2/3")),
            ("y/1/z", Some("x/1")),
            ("y/1/a", None),
            ("old", Some("new")),
            ("old/", Some("new/")),
            ("old/a/b", Some("new/a/b")),
            ("older", None),
            ("swap/a/b", Some("swapped/b/a")),
            ("swap/a/b/c", None),
            ("mine", Some("ann/pump 7")),
            ("me/x", Some("$direct/pump 7/x")),
            ("$delayed/5/old/a", Some("$delayed/5/new/a")),
            ("$SYS/old", None),
        ] {
            assert_eq!(topic(from).as_deref(), to, "{from}");
        }
        let filter = |filter| rewrites.filter(CLIENT, filter);
        for (from, to) in [
            ("y/+/z/#", Some("x/+/#")),
            ("y/+/z", Some("x/+")),
            ("y/#", None),
            ("#", None),
            ("+/1/z/2", None),
            ("old/+", Some("new/+")),
            ("$share/g/old/+", Some("$share/g/new/+")),
            ("$share/g/other", None),
        ] {
            assert_eq!(filter(from).as_deref(), to, "{from}");
        }
    }

    #[test]
    fn what_makes_no_topic_leaves_the_topic() {
        let rewrites = rewrites(&[("a", "%c")]);
        let topic = |id| rewrites.topic(Client { user: None, id }, "a");
        assert_eq!(topic("dev").as_deref(), Some("dev"));
        assert_eq!(topic("de+v"), None);
        assert_eq!(topic(""), None);
        // A name is one level and nothing else.
        assert_eq!(topic("a/b"), None);
        let named = RewriteRule::new(TopicFilter::new("a").unwrap(), "of/%u", true, true);
        let named = Rewrites::new(vec![named.unwrap()]).unwrap();
        let topic = |user| named.topic(Client { user, id: "dev" }, "a");
        assert_eq!(topic(Some("ada")).as_deref(), Some("of/ada"));
        assert_eq!((topic(Some("ada/x")), topic(None)), (None, None));
    }

    #[test]
    fn a_rule_that_cannot_be_is_refused() {
        let new = |from, to| RewriteRule::new(TopicFilter::new(from).unwrap(), to, true, true);
        for (from, to, error) in [
            ("a", "", RewriteError::Empty),
            ("a", "b/#", RewriteError::Wildcard),
            ("a", "$SYS/x", RewriteError::System),
            (
                "a/+",
                "b/$2",
                RewriteError::Place {
                    place: 2,
                    wildcards: 1,
                },
            ),
            (
                "a/+",
                "b/$0",
                RewriteError::Place {
                    place: 0,
                    wildcards: 1,
                },
            ),
            ("a/+", "b/$x", RewriteError::Dollar),
        ] {
            assert_eq!(new(from, to), Err(error), "{from} {to}");
        }
        let neither = RewriteRule::new(TopicFilter::new("a").unwrap(), "b", false, false);
        assert_eq!(neither, Err(RewriteError::Nothing));
    }

    proptest! {
        /// A topic that a filter matches is rewritten to one that the rewritten filter matches.
        #[test]
        fn who_subscribes_gets_what_is_published(
            levels in proptest::collection::vec(("[ab]", any::<bool>()), 1..5),
            kept in 0..6_usize,
            rule in 0..4_usize,
        ) {
            let rule = [("a/+/#", "n/$1/$2"), ("#", "m/$1"), ("+/b", "o/$1"), ("+/+/a", "p/$2/x/$1")][rule];
            let rewrites = rewrites(&[rule]);
            let topic: Vec<&str> = levels.iter().map(|(level, _)| level.as_str()).collect();
            let filter = levels.iter().map(|(level, wild)| if *wild { "+" } else { level.as_str() });
            let mut filter: Vec<&str> = filter.take(kept).collect();
            if kept < levels.len() {
                filter.push("#");
            }
            let (topic, filter) = (topic.join("/"), filter.join("/"));
            // Of a filter that says more than `from`, nothing comes.
            let Some(filter) = rewrites.filter(CLIENT, &filter) else { return Ok(()) };
            let topic = rewrites.topic(CLIENT, &topic);
            let filter = TopicFilter::new(filter).unwrap();
            prop_assert!(topic.is_some_and(|topic| filter.matches(&topic)), "{filter}");
        }
    }
}
