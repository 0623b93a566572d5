//! What a profile asks of MQTT connections, beside where they are taken: redirects and limits, and what
//! they may be.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{ByteSize, ListenerSpec, MqttSpec, Span, SpecError};
use crate::topic::TopicFilter;

/// What one listener, and each client that it serves, may take. What is not said is as `mqtt.limits` says,
/// and where that says nothing, as it stands here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Connections of one listener at once. Default: none but `mqtt.connections_max`.
    pub connections_max: Option<usize>,
    /// The largest packet. Default, and at most: `mqtt.packet_bytes_max`.
    pub packet_bytes_max: Option<ByteSize>,
    /// PUBLISH packets of one client; a second's worth may come at once. Past it the client is not read
    /// from for a while. Default: none.
    pub messages_per_second_max: Option<u32>,
    /// The same for the bytes of all its packets. Default: none.
    pub bytes_per_second_max: Option<ByteSize>,
    /// Its QoS 1 and 2 messages that are not acknowledged yet, the Receive Maximum. Default: 1024.
    pub inflight_max: Option<u16>,
    /// Those that it has not acknowledged. Default: 128, or what the client says if that is less.
    pub outbound_inflight_max: Option<u16>,
    /// Messages for it that wait in memory. Past it, one of QoS 0 is dropped and counted, and the others
    /// stay in the journal if the client's session does; else the client is disconnected. Default: 4096.
    pub outbound_queue_messages_max: Option<usize>,
    /// The same in bytes; at least a packet. Default: `8MiB`.
    pub outbound_queue_bytes_max: Option<ByteSize>,
    /// Filters of one client. Default: 10000.
    pub subscriptions_max: Option<usize>,
    /// Levels of a topic or a filter. Default, and at most: 128.
    pub topic_levels_max: Option<u32>,
}

impl LimitsSpec {
    /// With what `general` says of the rest.
    pub fn or(&self, general: &Self) -> Self {
        macro_rules! each {
            ($($name:ident),* $(,)?) => {
                Self { $($name: self.$name.or(general.$name),)* }
            };
        }
        each! {
            connections_max,
            packet_bytes_max,
            messages_per_second_max,
            bytes_per_second_max,
            inflight_max,
            outbound_inflight_max,
            outbound_queue_messages_max,
            outbound_queue_bytes_max,
            subscriptions_max,
            topic_levels_max,
        }
    }

    fn check(&self, packet_bytes_max: ByteSize) -> Result<(), SpecError> {
        let packet = self.packet_bytes_max.unwrap_or(packet_bytes_max);
        number("connections_max", self.connections_max, 1..=1_000_000)?;
        bytes(
            "packet_bytes_max",
            Some(packet),
            1 << 10..=packet_bytes_max.0,
        )?;
        number(
            "messages_per_second_max",
            self.messages_per_second_max,
            1..=10_000_000,
        )?;
        bytes(
            "bytes_per_second_max",
            self.bytes_per_second_max,
            1 << 10..=1 << 40,
        )?;
        number("inflight_max", self.inflight_max, 1..=INFLIGHT_MAX)?;
        number(
            "outbound_inflight_max",
            self.outbound_inflight_max,
            1..=INFLIGHT_MAX,
        )?;
        let (messages, taken) = (
            self.outbound_queue_messages_max,
            self.outbound_queue_bytes_max,
        );
        number(
            "outbound_queue_messages_max",
            messages,
            1..=QUEUE_MESSAGES_MAX,
        )?;
        bytes("outbound_queue_bytes_max", taken, packet.0..=64 << 20)?;
        number("subscriptions_max", self.subscriptions_max, 1..=10_000)?;
        number("topic_levels_max", self.topic_levels_max, 1..=128)
    }
}

/// What a client session keeps in mind of messages in flight is bounded at 4,096 each way.
const INFLIGHT_MAX: u64 = 2_000;

/// With what is in flight, fewer than there are packet identifiers.
const QUEUE_MESSAGES_MAX: u64 = 30_000;

fn number<N: TryInto<u64>>(
    key: &'static str,
    value: Option<N>,
    range: RangeInclusive<u64>,
) -> Result<(), SpecError> {
    let value = value.map(|value| value.try_into().unwrap_or(u64::MAX));
    match value.filter(|value| !range.contains(value)) {
        Some(value) => Err(out_of_range(key, value, range.start(), range.end())),
        None => Ok(()),
    }
}

fn bytes(
    key: &'static str,
    value: Option<ByteSize>,
    range: RangeInclusive<u64>,
) -> Result<(), SpecError> {
    match value.filter(|value| !range.contains(&value.0)) {
        Some(value) => {
            let (min, max) = (ByteSize(*range.start()), ByteSize(*range.end()));
            Err(out_of_range(key, value, &min, &max))
        }
        None => Ok(()),
    }
}

fn out_of_range<V: ToString, B: ToString>(
    key: &'static str,
    value: V,
    min: &B,
    max: &B,
) -> SpecError {
    SpecError::Range {
        key,
        value: value.to_string(),
        min: min.to_string(),
        max: max.to_string(),
    }
}

/// Keys by which JSON Web Tokens count as passwords, and what those must say. Files are read again when they change or
/// on SIGHUP; relative paths start at the configuration file's folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSpec {
    /// HS256, HS384, HS512: a file with the secret, 32 bytes at least.
    #[serde(default)]
    pub secret: Option<PathBuf>,
    /// RS256 to RS512, PS256 to PS512, ES256, ES384, EdDSA, as the key's kind says: PEM, `BEGIN PUBLIC KEY`.
    #[serde(default)]
    pub public_key: Option<PathBuf>,
    /// A set of keys, of either kind.
    #[serde(default)]
    pub jwks: Option<PathBuf>,
    /// The claim that is the user's name. Default: `sub`.
    #[serde(default = "user_claim")]
    pub user_claim: String,
    /// What `iss` must be. Default: anything.
    #[serde(default)]
    pub issuer: Option<String>,
    /// What `aud` must be, or hold. Default: anything.
    #[serde(default)]
    pub audience: Option<String>,
}

fn user_claim() -> String {
    "sub".to_owned()
}

impl JwtSpec {
    /// The same with paths that start at `folder`, where they are relative.
    pub fn resolve(&mut self, folder: &Path) {
        let paths = [&mut self.secret, &mut self.public_key, &mut self.jwks];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&path);
        }
    }

    fn has_keys(&self) -> bool {
        self.secret.is_some() || self.public_key.is_some() || self.jwks.is_some()
    }
}

/// A subscription that each client has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoSubscribeSpec {
    /// `%u` is the client's user name, `%c` its id; a client whose name can't stand there does not have it.
    pub filter: TopicFilter,
    /// Default: 0.
    #[serde(default)]
    pub qos: u8,
    #[serde(default)]
    pub no_local: bool,
    #[serde(default)]
    pub retain_as_published: bool,
    /// 0: retained messages come at each connection; 1: where the subscription is new; 2: never. Default: 0.
    #[serde(default)]
    pub retain_handling: u8,
}

/// Another name for topics, in what clients publish and what they subscribe to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewriteSpec {
    pub from: TopicFilter,
    /// `$1`, `$2` … are what the wildcards of `from` stand for, `%u` and `%c` the client's names.
    pub to: String,
    /// Default: true.
    #[serde(default = "yes")]
    pub publish: bool,
    /// Default: true.
    #[serde(default = "yes")]
    pub subscribe: bool,
}

fn yes() -> bool {
    true
}

/// Another server, for clients of this one. Those of MQTT 5 are told its name; older ones only that this
/// one is unavailable.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedirectSpec {
    /// As clients write it: `host` or `host:port`, several with a space between them.
    pub server: String,
    /// For good (0x9D, "server moved") rather than for now (0x9C, "use another server"). Default: false.
    #[serde(default)]
    pub permanent: bool,
    /// Default: `always`.
    #[serde(default)]
    pub when: RedirectWhen,
}

/// When clients are sent to another server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedirectWhen {
    /// At each CONNECT: nobody new is taken.
    #[default]
    Always,
    /// When the node stops, in the farewell.
    Shutdown,
}

/// A keep alive is sent in seconds, in two bytes.
const KEEP_ALIVE_MAX_RANGE: [Span; 2] = [
    Span(Duration::from_secs(1)),
    Span(Duration::from_secs(u16::MAX as u64)),
];

/// The name of another server.
const REDIRECT_SERVER_BYTES_MAX: usize = 1_024;

impl MqttSpec {
    /// What counts for one listener.
    pub fn limits_of(&self, listener: &ListenerSpec) -> LimitsSpec {
        listener.limits.or(&self.limits)
    }

    /// Whether users can prove who they are otherwise than by certificates.
    pub fn knows_users(&self) -> bool {
        self.users.is_some() || self.jwt.is_some()
    }

    /// What its own file's types can't have wrong.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        let [min, max] = KEEP_ALIVE_MAX_RANGE;
        if let Some(keep_alive_max) = self.keep_alive_max
            && !(min..=max).contains(&keep_alive_max)
        {
            return Err(SpecError::Range {
                key: "mqtt.keep_alive_max",
                value: format!("{:?}", keep_alive_max.0),
                min: format!("{:?}", min.0),
                max: format!("{:?}", max.0),
            });
        }
        number("auto_subscribe", Some(self.auto_subscribe.len()), 0..=100)?;
        for own in &self.auto_subscribe {
            number("qos", Some(own.qos), 0..=2)?;
            number("retain_handling", Some(own.retain_handling), 0..=2)?;
            if own.no_local && own.filter.as_str().starts_with("$share/") {
                return Err(SpecError::SharedNoLocal(own.filter.clone()));
            }
        }
        if self.jwt.as_ref().is_some_and(|jwt| !jwt.has_keys()) {
            return Err(SpecError::JwtKeys);
        }
        self.limits.check(self.packet_bytes_max)?;
        for listener in &self.listeners {
            listener.check(self.knows_users())?;
        }
        for listener in &self.listeners {
            self.limits_of(listener).check(self.packet_bytes_max)?;
        }
        for (at, listener) in self.listeners.iter().enumerate() {
            if self.listeners[..at]
                .iter()
                .any(|before| before.collides(listener))
            {
                let why =
                    "this address is there twice: take one of them out, or give it another port";
                return Err(SpecError::Listener(listener.address.clone(), why));
            }
        }
        let server = self.redirect.as_ref().map(|redirect| &redirect.server);
        match server.filter(|server| !is_server_name(server)) {
            Some(server) => Err(SpecError::RedirectServer(server.clone())),
            None => Ok(()),
        }
    }
}

fn is_server_name(server: &str) -> bool {
    let is_short = (1..=REDIRECT_SERVER_BYTES_MAX).contains(&server.len());
    is_short
        && server
            .chars()
            .all(|letter| letter.is_ascii_graphic() || letter == ' ')
}

#[cfg(all(test, feature = "yaml"))]
mod tests {
    use crate::fleet::{EdgeSpec, parse_yaml};

    fn check(mqtt: &str) -> Result<(), String> {
        let spec = parse_yaml::<EdgeSpec>(&format!("mqtt: {{{mqtt}}}"));
        let spec = spec.map_err(|error| error.to_string())?;
        spec.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        for (mqtt, key) in [
            ("keep_alive_max: 999ms", "mqtt.keep_alive_max"),
            ("keep_alive_max: 65536s", "mqtt.keep_alive_max"),
            (
                "listeners: [{address: '127.0.0.1:1'}, {address: '127.0.0.1:1', transport: websocket}]",
                "127.0.0.1:1: this address is there twice",
            ),
            (
                "listeners: [{address: 'unix:/a'}, {address: 'unix:/a'}]",
                "unix:/a: this address is there twice",
            ),
            ("redirect: {server: ''}", "mqtt.redirect.server"),
            ("redirect: {server: 'bröker'}", "mqtt.redirect.server"),
            ("limits: {inflight_max: 0}", "inflight_max"),
            ("limits: {packet_bytes_max: 2MiB}", "packet_bytes_max"),
            ("limits: {bytes_per_second_max: 1B}", "bytes_per_second_max"),
            (
                "limits: {outbound_queue_bytes_max: 512KiB}",
                "outbound_queue_bytes_max",
            ),
            (
                "listeners: [{address: '127.0.0.1:1', limits: {subscriptions_max: 10001}}]",
                "subscriptions_max",
            ),
            (
                "limits: {conections_max: 1}",
                "did you mean `connections_max`",
            ),
            ("jwt: {user_claim: sub}", "mqtt.jwt"),
            ("jwt: {secrets: a}", "did you mean `secret`"),
            ("redirect: {permanent: true}", "server"),
            ("auto_subscribe: [{filter: a, qos: 3}]", "qos"),
            ("auto_subscribe: [{filter: 'a#'}]", "a#"),
            (
                "auto_subscribe: [{filter: $share/g/a, no_local: true}]",
                "$share/g/a",
            ),
            (
                "auto_subscribe: [{filter: a, retain_handling: 3}]",
                "retain_handling",
            ),
            ("rewrite: [{from: 'a/#'}]", "to"),
            ("redirect: {server: a, when: never}", "never"),
        ] {
            let error = check(mqtt).unwrap_err();
            assert!(error.contains(key), "{mqtt}: {error}");
        }
        for mqtt in [
            "keep_alive_max: 1s",
            // Another each time, and the port of another protocol.
            "listeners: [{address: '127.0.0.1:0'}, {address: '127.0.0.1:0'}]",
            "listeners: [{address: '127.0.0.1:1'}, {address: '127.0.0.1:1', transport: quic, tls: {certificate: a, key: b}}]",
            "limits: {packet_bytes_max: 64KiB, outbound_queue_bytes_max: 64KiB}",
            "redirect: {server: 'b:1883 [::1]:1883', when: shutdown, permanent: true}",
        ] {
            assert_eq!(check(mqtt), Ok(()), "{mqtt}");
        }
    }

    #[test]
    fn a_listener_has_what_it_says_and_else_what_the_node_says() {
        let text = "mqtt:
  limits: {inflight_max: 7, subscriptions_max: 5}
  listeners: [{address: '127.0.0.1:1', limits: {inflight_max: 9, connections_max: 2}}]";
        let mqtt = parse_yaml::<EdgeSpec>(text).unwrap().mqtt;
        let limits = mqtt.limits_of(&mqtt.listeners[0]);
        let (inflight_max, subscriptions_max) = (limits.inflight_max, limits.subscriptions_max);
        assert_eq!((inflight_max, subscriptions_max), (Some(9), Some(5)));
        assert_eq!(
            (limits.connections_max, limits.topic_levels_max),
            (Some(2), None)
        );
    }
}
