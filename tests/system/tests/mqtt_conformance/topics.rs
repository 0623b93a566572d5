//! Topic names and filters (4.7).

use super::support::*;

const BAD_FILTERS: [&str; 10] = [
    "", "a#", "#/a", "a/#/b", "a/b#", "a+", "+a", "a/+b/c", "a/b+", "##",
];

#[test]
fn v5_4_7_1_1_wildcards_stand_where_they_may() {
    clauses!(v5 "4.7.1-1" "4.7.1-2" "4.7.3-1"; v311 "4.7.1-2" "4.7.1-3" "4.7.3-1");
    for filter in BAD_FILTERS {
        // 0x8f is a SUBACK's code, too; a filter of the wrong form ends the connection.
        let codes = [0x81, 0x82, 0x8f];
        each_ends(
            |version| wire::subscribe(version, 1, &[(filter, 0)]),
            &codes,
        );
        each_ends(|version| wire::unsubscribe(version, 1, &[filter]), &codes);
    }
}

/// Filters, what they match, and what they do not; `r` and `a` stand for names that no other test has.
const CASES: [(&str, &[&str], &[&str]); 9] = [
    (
        "r/#",
        &["r", "r/", "r/a", "r/a/b", "r//"],
        &["s", "rx", "R/a"],
    ),
    ("r/+", &["r/a", "r/"], &["r", "r/a/b", "/r", "r/a/"]),
    ("+/a", &["r/a", "/a"], &["r/b", "a", "r/a/a"]),
    ("r/+/b", &["r/a/b", "r//b"], &["r/b", "r/a/b/c"]),
    ("/+", &["/r", "/a"], &["r", "r/"]),
    ("+/+", &["r/a", "/r"], &["r", "r/a/b"]),
    ("+", &["r", "a"], &["r/a", "/r"]),
    // Letters, spaces, dots, and characters that look alike are what they are.
    (
        "r/\u{e9}",
        &["r/\u{e9}"],
        &["r/e\u{301}", "r/e", "r/\u{c9}"],
    ),
    (
        "r/b c//.",
        &["r/b c//."],
        &["r/b  c//.", "r/b c/.", "r/b c//", "r/bc//."],
    ),
];

/// With its names made unique.
fn named(text: &str, names: &[String; 2]) -> String {
    let levels = text.split('/').map(|level| match level {
        "r" => &names[0][..],
        "a" => &names[1][..],
        other => other,
    });
    levels.collect::<Vec<_>>().join("/")
}

#[test]
fn v5_4_7_1_2_wildcards_match_as_they_should() {
    clauses!(v5 "4.7.1-1" "4.7.1-2" "3.3.2-3" "4.7.3-4"; v311 "4.7.1-2" "4.7.1-3" "3.3.2-3" "4.7.3-4");
    for (version, case) in NUMBERED
        .into_iter()
        .flat_map(|version| CASES.map(|case| (version, case)))
    {
        matches_as_it_should(version, case);
    }
}

#[track_caller]
fn matches_as_it_should(version: Version, (filter, matching, others): (&str, &[&str], &[&str])) {
    let names = [unique("Root"), unique("Leaf")];
    let end = unique("end/of/the/case");
    let mut peers = [client(version), lasting(version).1];
    for peer in &mut peers {
        // Last, since other tests' retained messages may follow.
        peer.subscribe(&end, 1);
        peer.subscribe_amid_others(&named(filter, &names), 1);
    }
    let mut publisher = client(version);
    let topics = others.iter().chain(matching);
    let published: Vec<_> = topics.map(|topic| named(topic, &names)).collect();
    for topic in published.iter().chain([&end]) {
        publisher.publish(Publish::new(version, topic, "x"), 1);
    }
    let mut expected = published[others.len()..].to_vec();
    expected.push(end);
    for peer in &mut peers {
        for topic in &expected {
            // Another test's topics may match, too: they have other names.
            let found = loop {
                let found = peer.answered_delivery().topic;
                if published.contains(&found) || expected.contains(&found) {
                    break found;
                }
            };
            assert_eq!(found, *topic, "{filter} in {version:?}");
        }
    }
}

#[test]
fn v5_4_7_2_1_a_leading_wildcard_does_not_match_a_dollar() {
    clauses!(v5 "4.7.2-1"; v311 "4.7.2-1");
    for version in NUMBERED {
        let name = unique("dollar");
        let topic = format!("$private/{name}");
        let open = format!("private/{name}");
        for mut peer in [client(version), lasting(version).1] {
            for filter in [format!("+/{name}"), format!("+/{name}/#")] {
                peer.subscribe(&filter, 1);
            }
            publish(version, &topic, "hidden", 1);
            publish(version, &open, "open", 1);
            assert_eq!(peer.answered_delivery().text(), "open", "{topic} is hidden");
        }
        // One that begins with it does.
        let mut named = client(version);
        named.subscribe(&format!("$private/{name}"), 1);
        publish(version, &topic, "named", 1);
        assert_eq!(named.answered_delivery().text(), "named");
    }
}

#[test]
fn v5_4_7_3_1_an_empty_topic_ends_the_connection() {
    clauses!(v5 "4.7.3-1"; v311 "4.7.3-1");
    each_ends(
        |version| Publish::new(version, "", "x").bytes(),
        &[0x81, 0x82],
    );
}

#[test]
fn v5_4_7_3_3_long_topics_work() {
    clauses!(v5 "4.7.3-3"; v311 "4.7.3-3");
    for version in NUMBERED {
        let prefix = unique("long");
        let topic = format!("{prefix}{}", "x".repeat(65_535 - prefix.len()));
        let mut peer = client(version);
        peer.subscribe(&topic, 0);
        publish(version, &topic, "y", 0);
        assert_eq!(peer.delivery().topic, topic);
        // One byte more has no length: what follows is no packet.
        let mut body = wire::field(&topic);
        body.insert(2, b'x');
        body.truncate(65_000);
        ends(
            client(version),
            &wire::packet(wire::PUBLISH, &body),
            &[0x81],
        );
    }
}
