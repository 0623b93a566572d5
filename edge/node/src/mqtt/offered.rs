//! What the YAML says of connections, in the session machine's terms.

use std::num::NonZeroU16;

use tidegate_edge_protocol::mqtt::codec::Text;
use tidegate_edge_protocol::mqtt::connection::Redirect;
use tidegate_shared::fleet::{MqttSpec, RedirectSpec, RedirectWhen};

/// In whole seconds, as MQTT says it.
pub(super) fn keep_alive_s_max(spec: &MqttSpec) -> Option<NonZeroU16> {
    let seconds = spec.keep_alive_max?.0.as_secs();
    u16::try_from(seconds).ok().and_then(NonZeroU16::new)
}

/// Where clients are sent instead, by when they are told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Redirects {
    pub at_connect: Option<Redirect>,
    pub at_shutdown: Option<Redirect>,
}

impl Redirects {
    pub(super) fn new(spec: Option<&RedirectSpec>) -> Self {
        let redirect = spec.and_then(|spec| {
            let server = Text::try_from(spec.server.as_str()).ok()?;
            let is_permanent = spec.permanent;
            Some(Redirect {
                server,
                is_permanent,
            })
        });
        let when = spec.map(|spec| spec.when);
        Self {
            at_connect: redirect
                .clone()
                .filter(|_| when == Some(RedirectWhen::Always)),
            at_shutdown: redirect,
        }
    }
}
