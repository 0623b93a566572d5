//! What the clients are to do at the doors, and what is to become of it.

use std::path::Path;

use serde_json::{Value, json};
use tidegate_system_tests::node::Edge;

/// Where a client can show a certificate.
pub const WITH_TLS: [&str; 3] = ["tls", "secure_websocket", "quic"];

/// A listener, and how a client comes there.
#[derive(Clone)]
pub struct Door {
    pub transport: &'static str,
    address: String,
}

/// A listener of a transport, with these keys beside those that it needs.
pub fn door(edge: &Edge, folder: &Path, transport: &'static str, tls: &str, keys: &str) -> Door {
    let kind = match transport {
        "websocket" | "secure_websocket" => "transport: websocket, ",
        "quic" => "transport: quic, ",
        _ => "",
    };
    let tls = if WITH_TLS.contains(&transport) {
        tls
    } else {
        ""
    };
    let keys = format!("{kind}{keys}{tls}");
    let address = if transport == "unix" {
        let number = std::fs::read_dir(folder).unwrap().count();
        let socket = folder.join(format!("{number}-{}.sock", keys.len()));
        edge.listen_at(&format!("unix:{}", socket.display()), &keys);
        socket.display().to_string()
    } else {
        edge.listen(&keys).to_string()
    };
    Door { transport, address }
}

/// What the clients are to do, and what is to become of it.
#[derive(Default)]
pub struct Script {
    pub ca: String,
    pub cases: Vec<Value>,
    /// Nothing: TLS ends the connection.
    pub expected: Vec<Option<Value>>,
    /// Topic and client id of what may be published.
    pub published: Vec<[String; 2]>,
    /// Who could not prove a name, and was told so by MQTT.
    pub failures: f64,
}

impl Script {
    /// A visit, as the client that all others tell from.
    pub fn visit(&self, door: &Door, version: u8, client_id: &str, who: &Value) -> Value {
        let mut visit = json!({
            "version": version, "transport": door.transport, "address": door.address,
            "ca": self.ca, "client_id": client_id,
        });
        let visit_keys = visit.as_object_mut().unwrap();
        visit_keys.extend(who.as_object().unwrap().clone());
        visit
    }

    fn next_id(&self) -> String {
        format!("client-{}", self.cases.len())
    }

    /// With filters and topics of which each says whether it is allowed.
    pub fn comes_in(
        &mut self,
        door: &Door,
        version: u8,
        who: &Value,
        filters: &[(&str, bool)],
        topics: &[(&str, bool)],
    ) {
        let id = self.next_id();
        let mut visit = self.visit(door, version, &id, who);
        let (not_subscribed, not_published) = if version == 5 {
            (0x87, 0x87)
        } else {
            (0x80, 0)
        };
        let code = |allowed, otherwise| if allowed { 0 } else { otherwise };
        let mut told = json!({"connack": 0});
        if !filters.is_empty() {
            let codes = filters.iter().map(|(_, may)| code(*may, not_subscribed));
            told["suback"] = codes.collect();
            visit["filters"] = filters.iter().map(|(filter, _)| *filter).collect();
        }
        if !topics.is_empty() {
            let codes = topics.iter().map(|(_, may)| code(*may, not_published));
            told["puback"] = codes.collect();
            let topics = topics
                .iter()
                .map(|(topic, may)| (topic.replace("%c", &id), may));
            let topics: Vec<_> = topics.collect();
            visit["topics"] = topics.iter().map(|(topic, _)| topic.clone()).collect();
            let allowed = topics.into_iter().filter(|(_, may)| **may);
            let allowed = allowed.map(|(topic, _)| [topic, id.clone()]);
            self.published.extend(allowed);
        }
        if who.get("scram").is_some() {
            told["proved"] = json!(true);
        }
        if let Some(again) = who.pointer("/scram/again") {
            let right = *again == who["scram"]["password"];
            told["again"] = json!(if right { 0 } else { 0x87 });
            self.failures += f64::from(u8::from(!right));
        }
        self.cases.push(visit);
        self.expected.push(Some(told));
    }

    /// As somebody with this name, who may use what is theirs.
    pub fn comes_in_as(&mut self, door: &Door, version: u8, who: &Value, name: &str) {
        let own = ["x", "secret"].map(|last| format!("of/{name}/{last}"));
        let filters = [
            (&*own[0], true),
            (&*own[1], false),
            ("open/#", true),
            ("of/other/x", false),
            ("of/#", false),
        ];
        let topics = [
            (&*own[0], true),
            (&*own[1], false),
            ("of/other/x", false),
            ("by/%c/x", true),
            ("by/other/x", false),
        ];
        self.comes_in(door, version, who, &filters, &topics);
    }

    /// With these codes, of MQTT 3.1.1 and of 5.
    pub fn is_refused(&mut self, door: &Door, version: u8, who: &Value, codes: [u8; 2]) {
        let visit = self.visit(door, version, &self.next_id(), who);
        self.cases.push(visit);
        let code = codes[usize::from(version == 5)];
        self.expected.push(Some(json!({"connack": code})));
    }

    /// Since they cannot prove a name.
    pub fn proves_nothing(&mut self, door: &Door, version: u8, who: &Value, codes: [u8; 2]) {
        self.is_refused(door, version, who, codes);
        self.failures += 1.0;
    }

    pub fn is_cut(&mut self, door: &Door, version: u8, who: &Value) {
        let visit = self.visit(door, version, &self.next_id(), who);
        self.cases.push(visit);
        self.expected.push(None);
    }
}
