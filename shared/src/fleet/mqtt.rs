//! What a profile asks of MQTT connections, beside where they are taken: redirects and limits, and what
//! they may be.

use std::time::Duration;

use serde::Deserialize;

use super::{MqttSpec, Span, SpecError};

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
            ("redirect: {server: ''}", "mqtt.redirect.server"),
            ("redirect: {server: 'bröker'}", "mqtt.redirect.server"),
            ("redirect: {permanent: true}", "server"),
            ("redirect: {server: a, when: never}", "never"),
        ] {
            let error = check(mqtt).unwrap_err();
            assert!(error.contains(key), "{mqtt}: {error}");
        }
        for mqtt in [
            "keep_alive_max: 1s",
            "redirect: {server: 'b:1883 [::1]:1883', when: shutdown, permanent: true}",
        ] {
            assert_eq!(check(mqtt), Ok(()), "{mqtt}");
        }
    }
}
