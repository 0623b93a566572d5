use super::*;
use crate::fleet::{EdgeSpec, parse_yaml};

fn parsed(mqtt: &str) -> Result<EdgeSpec, String> {
    let yaml = format!("sources:\n  - name: plant\n    mqtt:\n      {mqtt}\n");
    let spec = parse_yaml::<EdgeSpec>(&yaml).map_err(|error| error.to_string())?;
    spec.check().map_err(|error| error.to_string())?;
    Ok(spec)
}

#[test]
fn a_source_is_read_with_its_defaults() {
    let spec = parsed("{server: 'mqtt://broker.local', subscribe: [{filter: 'line/#'}]}").unwrap();
    let mqtt = &spec.sources[0].mqtt;
    assert_eq!(mqtt.server.to_string(), "mqtt://broker.local:1883");
    assert_eq!(mqtt.version, MqttVersion::V5);
    assert_eq!(mqtt.session_expiry, Span(Duration::from_secs(604_800)));
    assert_eq!(mqtt.subscribe[0].qos, 1);
    let spec = parsed(
        "{server: 'mqtts://10.0.0.7:9', version: 3.1.1, subscribe: [{filter: a, qos: 0}], tls: {ca: x}}",
    )
    .unwrap();
    let mqtt = &spec.sources[0].mqtt;
    assert_eq!(mqtt.server.to_string(), "mqtts://10.0.0.7:9");
    assert_eq!(mqtt.version, MqttVersion::V311);
}

#[test]
fn a_topic_loses_one_prefix_and_gets_another() {
    let subscription = SourceSubscription {
        filter: TopicFilter::new("line/#").unwrap(),
        qos: 1,
        remote_prefix: "line/".to_owned(),
        local_prefix: "plant/".to_owned(),
    };
    assert_eq!(subscription.local_topic("line/7/x"), "plant/7/x");
    // `line/#` matches its own parent, which has not the whole prefix.
    assert_eq!(subscription.local_topic("line"), "plant/line");
}

#[test]
fn what_cannot_be_is_named() {
    let with = |server: &str, subscribe: &str, more: &str| {
        parsed(&format!(
            "{{server: '{server}', subscribe: [{subscribe}]{more}}}"
        ))
        .unwrap_err()
    };
    let of = |subscribe: &str| with("mqtt://b", subscribe, "");
    for (error, why) in [
        (with("b:1883", "{filter: a}", ""), "mqtt://broker.local"),
        (with("mqtt://b:0", "{filter: a}", ""), "mqtt://broker.local"),
        (with("mqtt://b/x", "{filter: a}", ""), "mqtt://broker.local"),
        (
            with("mqtt://[::1", "{filter: a}", ""),
            "mqtt://broker.local",
        ),
        (
            with("mqtt://127.0.0.1:1883", "{filter: a}", ""),
            "this node itself",
        ),
        (
            with("mqtt://localhost", "{filter: a}", ""),
            "this node itself",
        ),
        (
            with("mqtts://[::1]", "{filter: a}", ""),
            "a name or an IPv4 address",
        ),
        (of(""), "1 to 1000"),
        (
            of("{filter: a, qos: 2}"),
            "sends what was published with 2 as 1",
        ),
        (of("{filter: a, qos: 3}"), "qos is 0 or 1"),
        (of("{filter: 'a#'}"), "# the whole last level"),
        (of("{filter: '$share/g/a'}"), "shared"),
        (of("{filter: '$SYS/#'}"), "need a local_prefix"),
        (of("{filter: a, local_prefix: '$SYS/'}"), "begins with $"),
        (of("{filter: a, local_prefix: '+/'}"), "no + or #"),
        (
            of("{filter: a/b, remote_prefix: b/}"),
            "does not begin with",
        ),
        (of("{filter: a}, {filter: a}"), "twice"),
        (of("{filter: a, strip: b}"), "unknown field `strip`"),
        (
            with("mqtt://b", "{filter: a}", ", version: 4"),
            "5 and 3.1.1",
        ),
        (
            with("mqtt://b", "{filter: a}", ", password_file: x"),
            "needs user",
        ),
        (
            with("mqtt://b", "{filter: a}", ", tls: {ca: x}"),
            "mqtts://",
        ),
        (
            with("mqtts://b", "{filter: a}", ", tls: {key: x}"),
            "go together",
        ),
        (
            with("mqtt://b", "{filter: a}", ", client_id: ''"),
            "client_id",
        ),
        (
            with("mqtt://b", "{filter: a}", ", session_expiry: 1s"),
            "session_expiry",
        ),
        (
            with("mqtt://b", "{filter: a}", ", reconnect_max: 1ms"),
            "reconnect_max",
        ),
    ] {
        assert!(error.contains(why), "{error:?} has no {why:?}");
    }
    let error = with("http://b", "{filter: a}", "");
    assert!(error.starts_with("line 4"), "{error}");
    let error = of("{filter: a, qos: 2}");
    assert!(error.starts_with("sources plant: filter \"a\""), "{error}");
}
