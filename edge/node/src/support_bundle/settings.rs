//! The configuration as it counts, key by key: one that is not named here is left out, so that a new one is until somebody
//! has thought about it. Files are named, and never read.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate_shared::fleet::{
    ByteSize, EdgeSpec, LimitsSpec, ListenerSpec, MqttSpec, OriginHeader, OverflowSpec, SourceSpec,
    Span, StreamSpec, UplinkSpec,
};
use tidegate_shared::record::Compression;

pub(super) fn effective(spec: &EdgeSpec) -> Value {
    let routes = spec.routes.iter().map(|route| {
        json!({
            "filter": route.filter.as_str(),
            "stream": route.stream.as_str(),
            "key": format!("{:?}", route.key),
            "priority": route.priority,
        })
    });
    let streams = spec.streams.iter();
    let streams = streams.map(|(name, stream)| (name.as_str().to_owned(), of_stream(stream)));
    json!({
        "data": path(&spec.data),
        "mqtt": of_mqtt(&spec.mqtt),
        "http": { "address": spec.http.address.to_string(), "insecure": spec.http.insecure },
        "journal": {
            "commit_linger": span(spec.journal.commit_linger),
            "commit_bytes_max": size(spec.journal.commit_bytes_max),
            "bytes_max": size(spec.journal.bytes_max),
            "free_disk_min": size(spec.journal.free_disk_min),
        },
        "routes": routes.collect::<Vec<_>>(),
        "streams": streams.collect::<serde_json::Map<_, _>>(),
        "uplink": spec.uplink.as_ref().map(of_uplink),
        "sources": spec.sources.iter().map(of_source).collect::<Vec<_>>(),
    })
}

fn of_mqtt(mqtt: &MqttSpec) -> Value {
    json!({
        "listeners": mqtt.listeners.iter().map(of_listener).collect::<Vec<_>>(),
        "packet_bytes_max": size(mqtt.packet_bytes_max),
        "connections_max": mqtt.connections_max,
        "limits": of_limits(&mqtt.limits),
        "users": mqtt.users.as_deref().map(path),
        "jwt": mqtt.jwt.as_ref().map(|jwt| json!({
            "secret": jwt.secret.as_deref().map(path),
            "public_key": jwt.public_key.as_deref().map(path),
            "jwks": jwt.jwks.as_deref().map(path),
            "user_claim": jwt.user_claim,
        })),
        "failures_free": mqtt.failures_free,
        "client_id_of_user": mqtt.client_id_of_user,
        "acl": mqtt.acl.as_deref().map(path),
        "blocked": mqtt.blocked.as_deref().map(path),
        "auto_subscribe": mqtt.auto_subscribe.iter().map(|subscription| json!({
            "filter": subscription.filter.as_str(),
            "qos": subscription.qos,
        })).collect::<Vec<_>>(),
        "rewrite": mqtt.rewrite.iter().map(|rule| json!({
            "from": rule.from.as_str(),
            "to": rule.to,
            "publish": rule.publish,
            "subscribe": rule.subscribe,
        })).collect::<Vec<_>>(),
        "sparkplug_aware": mqtt.sparkplug_aware,
        "priority_property": mqtt.priority_property,
        "keep_alive_max": mqtt.keep_alive_max.map(span),
        "redirect": mqtt.redirect.as_ref().map(|redirect| json!({
            "server": hosts(&redirect.server),
            "permanent": redirect.permanent,
            "when": format!("{:?}", redirect.when),
        })),
        "session_backlog_bytes_max": size(mqtt.session_backlog_bytes_max),
        "sys_interval": span(mqtt.sys_interval),
    })
}

fn of_listener(listener: &ListenerSpec) -> Value {
    json!({
        "address": listener.address.to_string(),
        "transport": format!("{:?}", listener.transport),
        "path": listener.path,
        "tls": listener.tls.as_ref().map(|tls| json!({
            "certificate": path(&tls.certificate),
            "key": path(&tls.key),
            "client_ca": tls.client_ca.as_deref().map(path),
            "client_certificates": format!("{:?}", tls.client_certificates),
        })),
        "proxy_protocol": listener.proxy_protocol,
        "insecure": listener.insecure,
        "anonymous": listener.anonymous,
        "certificate_user": listener.certificate_user.map(|name| format!("{name:?}")),
        "limits": of_limits(&listener.limits),
    })
}

fn of_limits(limits: &LimitsSpec) -> Value {
    json!({
        "connections_max": limits.connections_max,
        "packet_bytes_max": limits.packet_bytes_max.map(size),
        "messages_per_second_max": limits.messages_per_second_max,
        "bytes_per_second_max": limits.bytes_per_second_max.map(size),
        "inflight_max": limits.inflight_max,
        "outbound_inflight_max": limits.outbound_inflight_max,
        "outbound_queue_messages_max": limits.outbound_queue_messages_max,
        "outbound_queue_bytes_max": limits.outbound_queue_bytes_max.map(size),
        "subscriptions_max": limits.subscriptions_max,
        "topic_levels_max": limits.topic_levels_max,
    })
}

fn of_stream(stream: &StreamSpec) -> Value {
    let compression = match stream.compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
        _ => "another",
    };
    let headers = stream.headers.iter().map(|header| match header {
        OriginHeader::Edge => "edge",
        OriginHeader::Stream => "stream",
    });
    json!({
        "topic": stream.topic.as_ref().map(|topic| topic.as_str()),
        "compression": compression,
        "lanes": stream.lanes,
        "retention": {
            "age": stream.retention.age.map(span),
            "bytes": stream.retention.bytes.map(size),
            "keep_after_landed": span(stream.retention.keep_after_landed),
        },
        "overflow": match stream.overflow {
            OverflowSpec::Reject => "reject",
            OverflowSpec::DropOldest => "drop_oldest",
        },
        "headers": headers.collect::<Vec<_>>(),
    })
}

fn of_uplink(uplink: &UplinkSpec) -> Value {
    json!({
        "cloud": hosts(&uplink.cloud),
        "certificate": path(&uplink.certificate),
        "key": path(&uplink.key),
        "ca": path(&uplink.ca),
        "reconnect_max": span(uplink.reconnect_max),
    })
}

/// Of the user, whether there is one: people type passwords there.
fn of_source(source: &SourceSpec) -> Value {
    let mqtt = &source.mqtt;
    let subscribe = mqtt.subscribe.iter().map(|subscription| {
        json!({
            "filter": subscription.filter.as_str(),
            "qos": subscription.qos,
            "remote_prefix": subscription.remote_prefix,
            "local_prefix": subscription.local_prefix,
        })
    });
    json!({
        "name": source.name.as_str(),
        "mqtt": {
            "server": mqtt.server.to_string(),
            "client_id": mqtt.client_id,
            "has_user": mqtt.user.is_some(),
            "password_file": mqtt.password_file.as_deref().map(path),
            "version": format!("{:?}", mqtt.version),
            "subscribe": subscribe.collect::<Vec<_>>(),
            "session_expiry": span(mqtt.session_expiry),
            "tls": {
                "ca": mqtt.tls.ca.as_deref().map(path),
                "certificate": mqtt.tls.certificate.as_deref().map(path),
                "key": mqtt.tls.key.as_deref().map(path),
            },
            "reconnect_max": span(mqtt.reconnect_max),
        },
    })
}

/// Each server without what might stand before an @.
fn hosts(servers: &str) -> String {
    let hosts = servers
        .split(' ')
        .map(|server| server.rsplit('@').next().unwrap_or_default());
    hosts.collect::<Vec<_>>().join(" ")
}

fn path(path: &Path) -> PathBuf {
    path.to_owned()
}

fn size(size: ByteSize) -> String {
    size.to_string()
}

fn span(span: Span) -> String {
    format!("{:?}", span.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tidegate_shared::fleet::parse_yaml;

    use super::*;

    #[test]
    fn what_is_told_has_no_credentials() {
        let text = "
mqtt:
  users: users
  jwt: {secret: jwt-secret, issuer: 'https://me:hunter2@login', audience: hunter2}
  redirect: {server: 'me:hunter2@b:1883 c'}
streams: {telemetry: {topic: plant, retention: {age: 7d}}}
uplink: {cloud: 'me:hunter2@cloud:7443', certificate: a, key: b, ca: c}
sources:
  - {name: plant, mqtt: {server: 'mqtt://broker', user: hunter2, password_file: plant.password, subscribe: [{filter: 'a/#'}]}}
";
        let spec: EdgeSpec = parse_yaml(text).unwrap();
        let told = effective(&spec);
        assert!(!told.to_string().contains("hunter2"), "{told}");
        assert_eq!(told["uplink"]["cloud"], "cloud:7443");
        assert_eq!(told["mqtt"]["redirect"]["server"], "b:1883 c");
        assert_eq!(told["mqtt"]["users"], "users");
        assert_eq!(told["sources"][0]["mqtt"]["server"], "mqtt://broker:1883");
        assert_eq!(told["sources"][0]["mqtt"]["has_user"], true);
        assert_eq!(told["streams"]["telemetry"]["topic"], "plant");
        assert_eq!(told["journal"]["bytes_max"], "10GiB");
    }
}
