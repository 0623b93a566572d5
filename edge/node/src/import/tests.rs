//! Whole files, in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;

struct Memory(BTreeMap<PathBuf, String>);

impl Files for Memory {
    fn read(&self, path: &Path) -> Result<String, String> {
        let found = self.0.get(path).cloned();
        found.ok_or_else(|| format!("cannot read {}", path.display()))
    }

    fn configurations(&self, folder: &Path) -> Result<Vec<PathBuf>, String> {
        let all = self.0.keys();
        Ok(all
            .filter(|path| path.parent() == Some(folder))
            .cloned()
            .collect())
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        Path::new("/start").join(path)
    }
}

fn imported(files: &[(&str, &str)]) -> Result<Imported, Vec<Problem>> {
    let files = files.iter();
    let files = files.map(|(path, text)| (PathBuf::from(path), (*text).to_owned()));
    import(Path::new("m.conf"), &Memory(files.collect()))
}

/// Of a configuration in one file: the result without remarks, and what was said.
fn of(text: &str) -> (String, Vec<String>) {
    let made = imported(&[("m.conf", text)]).unwrap();
    let yaml = made.edge.lines().filter(|line| !line.starts_with('#'));
    let yaml = yaml.collect::<Vec<_>>().join("\n").trim_end().to_owned();
    let told = made.report.worth_reading().map(ToString::to_string);
    (yaml, told.collect())
}

#[test]
fn an_empty_file_is_a_listener_on_loopback() {
    let (yaml, told) = of("# nothing\n\n");
    assert_eq!(
        yaml,
        "mqtt:\n  listeners:\n    - address: \"127.0.0.1:1883\""
    );
    assert_eq!(told, [""; 0]);
}

#[test]
fn listeners_are_carried_over_with_who_may_come() {
    let (yaml, told) = of(
        "allow_anonymous true\nlistener 1883\nlistener 9001 192.168.1.5\nprotocol websockets\nmax_connections 7\n\
        listener 8883 ::1\ncafile ca\ncertfile crt\nkeyfile key\nrequire_certificate true\nuse_identity_as_username true\n\
        listener 0 /run/m.sock\n",
    );
    let expected = "mqtt:
  listeners:
    - address: \"0.0.0.0:1883\"
      insecure: true
    - address: \"192.168.1.5:9001\"
      transport: websocket
      insecure: true
      limits: {connections_max: 7}
    - address: \"[::1]:8883\"
      tls: {certificate: \"/start/crt\", key: \"/start/key\", client_ca: \"/start/ca\"}
      certificate_user: common_name
      anonymous: true
    - address: \"unix:/run/m.sock\"";
    assert_eq!(yaml, expected);
    assert!(told.iter().all(|line| line.contains("differs")), "{told:?}");
}

#[test]
fn what_stands_behind_a_value_is_a_comment() {
    let (yaml, _) = of(
        "allow_anonymous true # anyone\nlistener 1883 # not an address\nprotocol websockets # for pages\nsocket_domain ipv4 # only\nmax_connections 7 # few\n\
        connection cloud # ours\naddress mqtt.example:1883 # theirs\nstart_type automatic # at once\ntopic c/# in 1 # commands\n",
    );
    let expected = "mqtt:
  listeners:
    - address: \"0.0.0.0:1883\"
      transport: websocket
      insecure: true
      limits: {connections_max: 7}";
    assert!(yaml.starts_with(expected), "{yaml}");
    let source = "server: \"mqtt://mqtt.example:1883\"";
    assert!(yaml.contains(source), "{yaml}");
    assert!(yaml.contains("filter: \"c/#\""), "{yaml}");
    assert!(!yaml.contains("# "), "{yaml}");
    assert!(imported(&[("m.conf", "allow_anonymous # true\n")]).is_err());
}

#[test]
fn a_listener_that_would_let_in_who_may_not_come_is_left_out() {
    for (keys, why) in [
        ("", "nobody can come in by it"),
        (
            "allow_anonymous true\nmount_point a/",
            "would see all topics",
        ),
        ("allow_anonymous true\npsk_hint x", "shared key"),
        (
            "allow_anonymous true\nenable_proxy_protocol 1",
            "only version 2",
        ),
        (
            "allow_anonymous true\nrequire_certificate true\ncapath x",
            "no cafile says whose",
        ),
        ("allow_anonymous true\nprotocol http_api", "http.address"),
        ("allow_anonymous true\ncrlfile x", "taken back"),
        ("allow_anonymous true\nplugin /x.so", "would come in here"),
        (
            "allow_anonymous true\nuse_username_as_clientid true",
            "would come in here",
        ),
        (
            "allow_anonymous true\nclientid_prefixes a-",
            "would come in here",
        ),
    ] {
        let (yaml, told) = of(&format!("listener 1883 127.0.0.1\n{keys}\n"));
        assert_eq!(yaml, "mqtt:\n  listeners: []", "{keys}");
        let left_out = told
            .iter()
            .any(|line| line.contains("NOT CARRIED OVER") && line.contains(why));
        assert!(left_out, "{keys}: {told:?}");
    }
}

#[test]
fn what_comes_in_by_a_bridge_is_a_source() {
    let (yaml, told) = of(
        "connection Cloud\naddress mqtt.example:8883 other:1\nbridge_cafile /ca.pem\nremote_username me\nremote_password s3cret\n\
        remote_clientid gw-7\nbridge_protocol_version mqttv50\nrestart_timeout 5 60\ncleansession false\n\
        topic # in 1 local/ remote/7/\ntopic a/+ both 2\ntopic b out 1\n",
    );
    let expected = "mqtt:
  listeners:
    - address: \"127.0.0.1:1883\"
sources:
  - name: bridge-1
    mqtt:
      server: \"mqtts://mqtt.example:8883\"
      version: 5
      client_id: \"gw-7\"
      user: \"me\"
      password_file: \"bridge-1.password\"
      reconnect_max: 60s
      tls: {ca: \"/ca.pem\"}
      subscribe:
        - {filter: \"remote/7/#\", qos: 1, remote_prefix: \"remote/7/\", local_prefix: \"local/\"}
        - {filter: \"a/+\", qos: 1}";
    assert_eq!(yaml, expected);
    let lost = told.iter().filter(|line| line.contains("NOT CARRIED OVER"));
    let lines: Vec<_> = lost.map(|line| line.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["2", "11", "12"], "{told:?}");
    assert!(told.iter().all(|line| !line.contains("s3cret")));
    let made = imported(&[(
        "m.conf",
        "connection a\naddress b\nusername u\npassword s3cret\ntopic x in\n",
    )])
    .unwrap();
    assert_eq!(
        made.passwords,
        [("a.password".to_owned(), "s3cret".to_owned())]
    );
    assert!(!made.edge.contains("s3cret"));
    assert_eq!(made.report.of(Fate::NotCarried).count(), 0);
}

#[test]
fn users_are_named_and_rules_are_carried_over() {
    let made = imported(&[
        (
            "m.conf",
            "listener 1883 127.0.0.1\npassword_file pw\nacl_file acl\ninclude_dir d\n",
        ),
        ("pw", "ada:$7$101$x$y\n\ngrace:$6$x$y\n"),
        ("acl", "user ada\ntopic read a/#\n"),
        (
            "d/x.conf",
            "max_keepalive 60\nmax_packet_size 2000\nmax_inflight_messages 5\nsys_interval 3\n",
        ),
    ])
    .unwrap();
    let expected = "  users: users\n  acl: acl.yaml\n  keep_alive_max: 60s\n  packet_bytes_max: 2000B\n  sys_interval: 3s\n  \
                    limits:\n    inflight_max: 5\n    outbound_inflight_max: 5\n";
    assert!(made.edge.contains(expected), "{}", made.edge);
    assert_eq!(
        made.users.as_deref(),
        Some(
            "# tidegate-edge passwd \"ada\" >> users\n# tidegate-edge passwd \"grace\" >> users\n"
        )
    );
    let acl = "rules:\n  - {users: [\"ada\"], allow: [subscribe], topics: [\"a/#\"]}\n";
    assert_eq!(made.acl.as_deref(), Some(acl));
    assert_eq!(made.report.of(Fate::NotCarried).count(), 2);
}

#[test]
fn rules_of_one_listener_are_not_taken_for_anothers() {
    let text = "per_listener_settings true\nlistener 1883 127.0.0.1\nallow_anonymous true\nacl_file a\n\
                listener 1884 127.0.0.1\nallow_anonymous true\nacl_file b\n";
    let made = imported(&[("m.conf", text), ("a", "topic a\n"), ("b", "topic b\n")]).unwrap();
    assert!(made.edge.contains("127.0.0.1:1883"), "{}", made.edge);
    assert!(!made.edge.contains("127.0.0.1:1884\""), "{}", made.edge);
}

#[test]
fn what_mosquitto_would_not_take_is_located() {
    for (text, place, why) in [
        (
            "listener 1883\nlistner 1884\n",
            "m.conf:2",
            "no such option",
        ),
        (
            "allow_anonymous yes\n",
            "m.conf:1",
            "neither true nor false",
        ),
        ("listener x\n", "m.conf:1", "begins with a port"),
        ("listener 0\n", "m.conf:1", "path of a socket"),
        ("topic a in\n", "m.conf:1", "belongs to a connection"),
        ("connection a\ntopic b in\n", "m.conf:1", "no address"),
        (
            "connection a\naddress b\ntopic c#d in\n",
            "m.conf:3",
            "whole level",
        ),
        (
            "connection a\naddress b\ntopic c sideways\n",
            "m.conf:3",
            "direction",
        ),
        ("password_file nowhere\n", "m.conf:1", "cannot read nowhere"),
        ("acl_file nowhere\n", "m.conf:1", "cannot read nowhere"),
        (
            "allow_anonymous true\nlistener 1 127.0.0.1\nlistener 1 127.0.0.1\n",
            "m.conf",
            "cannot be used",
        ),
    ] {
        let told: Vec<_> = imported(&[("m.conf", text)])
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        let is_told = told
            .iter()
            .any(|line| line.starts_with(place) && line.contains(why));
        assert!(is_told, "{text}: {told:?}");
    }
    assert!(imported(&[]).is_err());
}

/// The page has each option, with what becomes of it.
#[test]
fn the_page_knows_each_option() {
    let page = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/docs/from-mosquitto.md"
    );
    let page = std::fs::read_to_string(page).unwrap();
    let missing: Vec<_> = options::OPTIONS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert_eq!(missing, [""; 0]);
    assert!(options::OPTIONS.is_sorted_by_key(|(name, _)| *name));
}
