//! The rules by example, and against a plain reference: what they say of a filter is what they say of each of its
//! topics.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use proptest::sample::select;
use tidegate_shared::fleet::parse_yaml;
use tidegate_shared::topic::TopicFilter;

use super::rule::RuleForm;
use super::*;

fn rules(text: &str) -> Rules {
    parse_yaml::<RulesForm>(text).unwrap().try_into().unwrap()
}

fn rights(text: &str, user: Option<&str>, id: &str) -> Rights {
    rules(text).rights(Client { user, id })
}

#[test]
fn without_rules_all_is_allowed_and_with_one_only_what_is_said() {
    let open = rights("rules: []", None, "c");
    assert!(open.may_publish("a") && open.may_subscribe("#") && open.may_publish("$direct/x/y"));
    let one = rights("rules: [{allow: [publish], topics: ['a/#']}]", None, "c");
    assert!(one.may_publish("a") && one.may_publish("a/b"));
    assert!(!one.may_publish("b") && !one.may_subscribe("a/b"));
    // Also for whom no rule concerns.
    let of_ada = "rules: [{users: [ada], allow: [publish], topics: ['a/#']}]";
    assert!(!rights(of_ada, Some("bob"), "ada").may_publish("a"));
    assert!(!rights(of_ada, None, "ada").may_publish("a"));
    assert!(rights(of_ada, Some("ada"), "c").may_publish("a"));
    let of_both = "rules: [{users: [ada], client_ids: [c, d], allow: [publish], topics: ['#']}]";
    assert!(rights(of_both, Some("ada"), "d").may_publish("a"));
    assert!(!rights(of_both, Some("ada"), "e").may_publish("a"));
    assert!(!rights(of_both, Some("bob"), "d").may_publish("a"));
}

#[test]
fn what_is_denied_is_denied_wherever_it_stands() {
    for text in [
        "rules: [{deny: [subscribe], topics: ['a/secret/#']}, {allow: [subscribe], topics: ['a/#', b]}]",
        "rules: [{allow: [subscribe], topics: ['a/#', b]}, {deny: [subscribe], topics: ['a/secret/#']}]",
    ] {
        let rights = rights(text, None, "c");
        for filter in ["a/b", "a/b/#", "a/+/c/d", "b"] {
            let overlaps = filter == "a/+/c/d";
            assert_eq!(rights.may_subscribe(filter), !overlaps, "{filter}");
        }
        for filter in [
            "a/#",
            "a/+",
            "a/+/#",
            "#",
            "+",
            "a/secret",
            "a/secret/b",
            "+/secret",
        ] {
            assert!(!rights.may_subscribe(filter), "{filter}");
        }
    }
}

#[test]
fn a_filter_is_allowed_as_a_whole_or_not_at_all() {
    let rights = rights(
        "rules: [{allow: [subscribe], topics: ['a/+/c', 'd/#', '+/x']}]",
        None,
        "c",
    );
    for (filter, allowed) in [
        ("a/b/c", true),
        ("a/+/c", true),
        ("a/#", false),
        ("a/+/+", false),
        ("d", true),
        ("d/#", true),
        ("d/+/#", true),
        ("d/+", true),
        ("+/x", true),
        ("q/x", true),
        ("+/+", false),
        ("#", false),
        ("$SYS/x", false),
    ] {
        assert_eq!(rights.may_subscribe(filter), allowed, "{filter}");
    }
    // A root of + and # is all that # is.
    let all = super::tests::rights("rules: [{allow: [subscribe], topics: ['+/#']}]", None, "c");
    assert!(all.may_subscribe("#") && all.may_subscribe("a") && !all.may_subscribe("$SYS/#"));
}

#[test]
fn names_stand_for_one_level_and_never_for_more() {
    let text = "rules: [{allow: [publish, subscribe], topics: ['u/%u/#', 'c/dev-%c', '%u/own']}]";
    let of = |user, id| rights(text, user, id);
    let ada = of(Some("ada"), "7");
    assert!(
        ada.may_publish("u/ada/x") && ada.may_publish("c/dev-7") && ada.may_subscribe("ada/own")
    );
    assert!(
        !ada.may_publish("u/bob/x") && !ada.may_publish("c/dev-8") && !ada.may_publish("u/%u/x")
    );
    for name in ["+", "#", "a/b", "", "b+", "/"] {
        let strange = of(Some(name), name);
        for topic in [
            "u/a/b",
            "u/x",
            "c/dev-a/b",
            "c/dev-x",
            "x/own",
            "a/b/own",
            "u//x",
        ] {
            assert!(!strange.may_publish(topic), "{name} {topic}");
            assert!(!strange.may_subscribe(topic), "{name} {topic}");
        }
        for filter in ["u/+/#", "c/dev-+", "u/#", "+/own", "#"] {
            assert!(!strange.may_subscribe(filter), "{name} {filter}");
        }
    }
    // Nobody's name leads to the server's own topics, or to those with rights of their own.
    for name in ["$SYS", "$broadcast", "$direct"] {
        assert!(
            !of(Some(name), "7").may_publish(&format!("{name}/own")),
            "{name}"
        );
        assert!(
            !of(Some(name), "7").may_subscribe(&format!("{name}/own")),
            "{name}"
        );
    }
    // Who has no name has none to be filled in.
    assert!(!of(None, "7").may_publish("u//x") && of(None, "7").may_publish("c/dev-7"));
}

#[test]
fn a_name_that_fits_no_level_escapes_no_denial() {
    let text = "rules: [{allow: [publish], topics: ['#']}, {deny: [publish], topics: ['a/%c/x']}]";
    let denied = |id, topic| !rights(text, None, id).may_publish(topic);
    assert!(denied("c", "a/c/x") && !denied("c", "a/c/y") && !denied("c", "a/d/x"));
    assert!(denied("c/x", "a/c/x") && denied("+", "a/d/x") && denied("#", "a/c"));
    assert!(!denied("c/x", "b"));
}

#[test]
fn broadcast_and_direct_have_rights_of_their_own() {
    let all = rights(
        "rules: [{allow: [publish, subscribe], topics: ['#', '$SYS/#']}]",
        None,
        "c",
    );
    for topic in ["$broadcast/a", "$direct/c/a", "$direct/c"] {
        assert!(
            !all.may_publish(topic) && !all.may_subscribe(topic),
            "{topic}"
        );
    }
    let text = "rules:
  - {allow: [publish], broadcast: ['alarms/#'], direct: ['+/reply/#']}
  - {allow: [subscribe], direct: ['%c/#']}
  - {deny: [publish], direct: ['boss/#']}";
    let own = rights(text, None, "c");
    assert!(own.may_publish("$broadcast/alarms/7") && !own.may_publish("$broadcast/other"));
    assert!(own.may_publish("$direct/d/reply/1") && !own.may_publish("$direct/d/other"));
    assert!(!own.may_publish("$direct/boss/reply/1") && !own.may_publish("alarms/7"));
    assert!(own.may_subscribe("$direct/c/#") && !own.may_subscribe("$direct/d/#"));
    assert!(!own.may_subscribe("$direct/+/#") && !own.may_subscribe("$broadcast/#"));
}

#[test]
fn what_a_rule_cannot_mean_is_said_with_its_line() {
    for (rule, problem) in [
        ("{topics: [a]}", "either allow or deny"),
        (
            "{allow: [publish], deny: [publish], topics: [a]}",
            "either allow or deny",
        ),
        ("{allow: [], topics: [a]}", "at least one of publish"),
        ("{allow: [publish]}", "names topics, broadcast or direct"),
        (
            "{allow: [publish], users: [], topics: [a]}",
            "users is empty",
        ),
        (
            "{allow: [publish], client_ids: [], topics: [a]}",
            "client_ids is empty",
        ),
        (
            "{allow: [publish], topics: ['a/#/b']}",
            "is not a topic filter",
        ),
        (
            "{allow: [publish], topics: ['$broadcast/a/#']}",
            "write broadcast: [\"a/#\"]",
        ),
        (
            "{allow: [publish], topics: ['$direct/#']}",
            "write direct: [\"#\"]",
        ),
        (
            "{allow: [subscribe], topics: ['$share/g/a']}",
            "behind its group",
        ),
        (
            "{deny: [publish], topics: ['$delayed/#']}",
            "by the topic that it has in the end",
        ),
        ("{allow: [publsh], topics: [a]}", "publsh"),
        ("{allow: [publish], topic: [a]}", "did you mean `topics`"),
    ] {
        let text = format!("rules:\n  - {{allow: [publish], topics: ['ok']}}\n  - {rule}\n");
        let error = parse_yaml::<RulesForm>(&text).unwrap_err();
        assert_eq!(error.line, 3, "{rule}: {error}");
        assert!(error.to_string().contains(problem), "{rule}: {error}");
    }
    let rule = "rules: [{allow: [publish], topics: [a]}]";
    let rule = parse_yaml::<RulesForm>(rule).unwrap().rules.remove(0);
    let many = vec![rule; RULES_MAX + 1];
    assert_eq!(Rules::new(many), Err(RulesError::Rules(RULES_MAX + 1)));
}

/// The reference knows no filters: only topics, one by one. These are all of a few levels that the random filters and
/// patterns can tell apart; `z` stands for every level that nobody names.
const TOPIC_LEVELS: [&str; 5] = ["a", "b", "$x", "z", ""];
const DEPTH_MAX: usize = 4;

fn topics() -> Vec<String> {
    let mut all: Vec<String> = TOPIC_LEVELS.map(str::to_owned).to_vec();
    let mut deepest = all.clone();
    for _ in 1..DEPTH_MAX {
        let longer = deepest
            .iter()
            .flat_map(|topic| TOPIC_LEVELS.map(|level| format!("{topic}/{level}")));
        deepest = longer.collect();
        all.extend(deepest.iter().cloned());
    }
    all.retain(|topic| !topic.is_empty());
    all
}

/// A rule as the reference reads it.
#[derive(Clone, Debug)]
struct Plain {
    user: Option<&'static str>,
    id: Option<&'static str>,
    allow: bool,
    action: Action,
    pattern: String,
}

impl Plain {
    fn rule(&self) -> Rule {
        let set = |name: Option<&str>| name.map(|name| [name.to_owned()].into());
        let actions = Some([self.action].into());
        let form = RuleForm {
            users: set(self.user),
            client_ids: set(self.id),
            allow: actions.clone().filter(|_| self.allow),
            deny: actions.filter(|_| !self.allow),
            topics: vec![TopicFilter::new(self.pattern.as_str()).unwrap()],
            ..RuleForm::default()
        };
        form.try_into().unwrap()
    }

    fn concerns(&self, user: Option<&str>, id: &str) -> bool {
        self.user.is_none_or(|name| Some(name) == user) && self.id.is_none_or(|name| name == id)
    }

    /// Of one topic, by the words of the documentation: level by level.
    fn meets(&self, topic: &str, user: Option<&str>, id: &str) -> bool {
        let (pattern, topic): (Vec<_>, Vec<_>) = (
            self.pattern.split('/').collect(),
            topic.split('/').collect(),
        );
        if topic[0].starts_with('$') && matches!(pattern[0], "+" | "#" | "%u" | "%c") {
            return !self.allow
                && matches!(pattern[0], "%u" | "%c")
                && Some(topic[0]) == named(pattern[0], user, id)
                && self.meets_below(&pattern, &topic, user, id);
        }
        self.meets_below(&pattern, &topic, user, id)
    }

    fn meets_below(&self, pattern: &[&str], topic: &[&str], user: Option<&str>, id: &str) -> bool {
        match (pattern, topic) {
            (["#"], _) => true,
            ([], []) => true,
            (["+", pattern @ ..], [_, topic @ ..]) => self.meets_below(pattern, topic, user, id),
            ([name @ ("%u" | "%c"), pattern @ ..], topic) => {
                let name = named(name, user, id)
                    .filter(|name| !name.is_empty() && !name.contains(['/', '+', '#']));
                match (name, topic) {
                    (None, _) => !self.allow,
                    (Some(name), [level, topic @ ..]) => {
                        name == *level && self.meets_below(pattern, topic, user, id)
                    }
                    (Some(_), []) => false,
                }
            }
            ([text, pattern @ ..], [level, topic @ ..]) => {
                text == level && self.meets_below(pattern, topic, user, id)
            }
            _ => false,
        }
    }
}

fn named<'a>(placeholder: &str, user: Option<&'a str>, id: &'a str) -> Option<&'a str> {
    match placeholder {
        "%u" => user,
        _ => Some(id),
    }
}

const NAMES: [&str; 7] = ["a", "b", "a/b", "+", "#", "$x", ""];

fn plain() -> impl Strategy<Value = Plain> {
    let who = || prop_oneof![3 => Just(None), 1 => select(&NAMES[..]).prop_map(Some)];
    let pattern = "(a|b|\\+|%u|%c|\\$x)(/(a|b|\\+|%u|%c|)){0,2}(/#)?|#";
    let action = prop_oneof![Just(Action::Publish), Just(Action::Subscribe)];
    (who(), who(), prop::bool::weighted(0.7), action, pattern).prop_map(
        |(user, id, allow, action, pattern)| Plain {
            user,
            id,
            allow,
            action,
            pattern,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_rules_agree_with_the_reference(
        plain in prop::collection::vec(plain(), 1..6),
        user in prop::option::of(select(&NAMES[..])),
        id in select(&NAMES[..6]),
        topic in select(topics()),
        filter in "(a|b|\\+|\\$x)(/(a|b|\\+|)){0,2}(/#)?|#",
    ) {
        thread_local!(static TOPICS: Vec<String> = topics());
        let rules = Rules::new(plain.iter().map(Plain::rule).collect()).unwrap();
        let rights = rules.rights(Client { user, id });
        let own: Vec<_> = plain.iter().filter(|rule| rule.concerns(user, id)).collect();
        let meets = |allow: bool, action, topic: &str| own.iter().any(|rule| {
            rule.allow == allow && rule.action == action && rule.meets(topic, user, id)
        });
        let expected = !meets(false, Action::Publish, &topic) && meets(true, Action::Publish, &topic);
        prop_assert_eq!(rights.may_publish(&topic), expected);
        let wanted = TopicFilter::new(filter.as_str()).unwrap();
        let expected = TOPICS.with(|topics| {
            let matched: Vec<_> = topics.iter().filter(|topic| wanted.matches(topic)).collect();
            // One rule allows them all, and none of them is denied.
            !matched.iter().any(|topic| meets(false, Action::Subscribe, topic))
                && own.iter().any(|rule| {
                    let allows = rule.allow && rule.action == Action::Subscribe;
                    allows && matched.iter().all(|topic| rule.meets(topic, user, id))
                })
        });
        prop_assert_eq!(rights.may_subscribe(&filter), expected);
    }
}
