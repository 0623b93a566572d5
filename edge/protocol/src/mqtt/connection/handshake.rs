//! CONNECT and CONNACK: what is refused without asking anybody, and what the server announces.

use crate::mqtt::{
    codec::{Connack, ConnackProperties, Connect, Qos, Text, Version},
    connection::event::{Accepted, ConnectRequest},
    limits::ConnectionLimits,
    reply_code::ReasonCode,
};

/// The request, or the code and the message with which it is refused.
pub(super) fn check(
    mut connect: Connect,
    limits: &ConnectionLimits,
) -> Result<ConnectRequest, (ReasonCode, &'static str)> {
    let version = connect.version;
    // [MQTT-3.1.3-8] of 3.1.1; 3.1 has no empty client id at all.
    let needs_id = match version {
        Version::V3_1 => true,
        Version::V3_1_1 => !connect.clean_start,
        Version::V5 => false,
    };
    if needs_id && connect.client_id.is_empty() {
        let message = "the client id is empty, and the session is not clean";
        return Err((ReasonCode::ClientIdentifierNotValid, message));
    }
    if let Some(will) = &mut connect.will {
        if version == Version::V5 && will.qos > limits.qos_max {
            return Err((ReasonCode::QosNotSupported, "the will's QoS is not offered"));
        }
        if version == Version::V5 && will.retain && !limits.retain_available {
            let message = "the will is retained, which is not offered";
            return Err((ReasonCode::RetainNotSupported, message));
        }
        // An older client was never told; its will is kept as far as we can.
        will.qos = will.qos.min(limits.qos_max);
        will.retain &= limits.retain_available;
    }
    Ok(ConnectRequest::new(connect))
}

/// The keep alive that counts, and whether the client must be told `[MQTT-3.1.2-21]`.
pub(super) fn keep_alive_s(request: &ConnectRequest, limits: &ConnectionLimits) -> (u16, bool) {
    let asked_s = request.keep_alive_s;
    match limits.keep_alive_s_max {
        Some(max) if request.version == Version::V5 && (asked_s == 0 || asked_s > max.get()) => {
            (max.get(), true)
        }
        _ => (asked_s, false),
    }
}

/// What is as the specification's default is not said.
pub(super) fn connack(
    request: &ConnectRequest,
    accepted: Accepted,
    limits: &ConnectionLimits,
) -> Connack {
    let (keep_alive_s, told) = keep_alive_s(request, limits);
    let unless = |available: bool| (!available).then_some(false);
    Connack {
        session_present: accepted.session_present,
        reason: ReasonCode::Success,
        properties: ConnackProperties {
            session_expiry_interval_s: accepted.session_expiry_interval_s,
            receive_maximum: Some(limits.inflight_inbound_max),
            qos_max: Some(limits.qos_max).filter(|qos| *qos < Qos::ExactlyOnce),
            retain_available: unless(limits.retain_available),
            packet_bytes_max: Some(limits.packet_bytes_max),
            assigned_client_id: accepted.assigned_client_id,
            topic_alias_max: Some(limits.topic_alias_inbound_max).filter(|max| *max > 0),
            wildcard_subscription_available: unless(limits.wildcard_subscription_available),
            subscription_identifier_available: unless(limits.subscription_identifier_available),
            shared_subscription_available: unless(limits.shared_subscription_available),
            server_keep_alive_s: told.then_some(keep_alive_s),
            response_information: accepted
                .response_information
                .filter(|_| request.request_response_information),
            user_properties: accepted.user_properties,
            ..ConnackProperties::default()
        },
    }
}

/// `None` where the version has no code for the reason: then the connection is closed in silence
/// (`[MQTT-3.2.2-6]` of 3.1.1).
pub(super) fn refusal(version: Version, reason: ReasonCode, message: &str) -> Option<Connack> {
    let sayable = match version {
        Version::V5 => reason.is_allowed_in(crate::mqtt::codec::PacketType::Connack),
        Version::V3_1 | Version::V3_1_1 => reason.connack_return_code().is_some(),
    };
    sayable.then(|| Connack {
        session_present: false,
        reason,
        properties: ConnackProperties {
            reason_string: Text::try_from(message).ok().filter(|text| !text.is_empty()),
            ..ConnackProperties::default()
        },
    })
}
