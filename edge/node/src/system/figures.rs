//! The figures by topic, below `$SYS/broker/`.

use std::time::Duration;

use serde_json::json;

use crate::metrics::Metrics;
use crate::mqtt::Context;

/// A count since the start: its topic, the name of its rate, and its value.
pub(super) struct Total {
    pub topic: Option<&'static str>,
    pub load: &'static str,
    pub value: u64,
}

pub(super) fn totals(metrics: &Metrics) -> Vec<Total> {
    let rows = [
        (
            Some("messages/received"),
            "messages/received",
            &metrics.mqtt_packets_received,
        ),
        (
            Some("messages/sent"),
            "messages/sent",
            &metrics.mqtt_packets_sent,
        ),
        (
            Some("publish/messages/received"),
            "publish/received",
            &metrics.messages_received,
        ),
        (
            Some("publish/messages/sent"),
            "publish/sent",
            &metrics.mqtt_publishes_sent,
        ),
        (
            Some("publish/messages/dropped"),
            "publish/dropped",
            &metrics.mqtt_messages_dropped,
        ),
        (
            Some("bytes/received"),
            "bytes/received",
            &metrics.mqtt_received_bytes,
        ),
        (Some("bytes/sent"), "bytes/sent", &metrics.mqtt_sent_bytes),
        (None, "connections", &metrics.mqtt_connects),
    ];
    let total = |(topic, load, counter): (Option<&'static str>, _, &crate::metrics::Count)| Total {
        topic,
        load,
        value: counter.get(),
    };
    rows.into_iter().map(total).collect()
}

/// All but the rates.
pub(super) fn figures(
    context: &Context,
    uptime: Duration,
    totals: &[Total],
) -> Vec<(String, String)> {
    let version = concat!("tidegate version ", env!("CARGO_PKG_VERSION"));
    let mut figures = vec![
        ("version".to_owned(), version.to_owned()),
        ("uptime".to_owned(), format!("{} seconds", uptime.as_secs())),
    ];
    let topics = totals
        .iter()
        .filter_map(|total| Some((total.topic?, total.value)));
    let numbers = topics.chain(clients(context)).chain(journal(context));
    figures.extend(numbers.map(|(name, value)| (name.to_owned(), value.to_string())));
    for (rank, (name, lost)) in context.sessions.losses.worst().into_iter().enumerate() {
        let value = json!({"client": name.as_str(), "lost": lost});
        figures.push((
            format!("sessions/lost/worst/{}", rank + 1),
            value.to_string(),
        ));
    }
    figures
}

fn clients(context: &Context) -> Vec<(&'static str, u64)> {
    let (connected, total) = (context.sessions.online(), context.sessions.len() as u64);
    let (paused, (pauses, refused)) = (
        context.metrics.mqtt_rate_paused_clients.get().max(0) as u64,
        context.metrics.limited(),
    );
    vec![
        ("clients/connected", connected),
        ("clients/disconnected", total.saturating_sub(connected)),
        ("clients/total", total.max(connected)),
        ("clients/maximum", context.sessions.online_max()),
        ("subscriptions/count", context.router.subscriptions() as u64),
        ("retained messages/count", context.retained.len() as u64),
        ("limits/clients paused", paused),
        ("limits/pauses", pauses),
        ("limits/connections refused", refused),
        ("sessions/lost", context.sessions.losses.total()),
    ]
}

fn journal(context: &Context) -> Vec<(&'static str, u64)> {
    let (committer, metrics) = (&context.committer, &context.metrics);
    let stats = committer.stats();
    let streams = committer.reader().streams();
    let sum = |value: fn(&tidegate_edge_journal::StreamStatus) -> u64| -> u64 {
        streams.iter().map(value).sum()
    };
    let kept = sum(|stream| stream.next.0.saturating_sub(stream.first.0));
    vec![
        ("messages/stored", kept),
        ("store/messages/count", kept),
        ("journal/bytes", committer.log_bytes()),
        ("journal/messages", sum(|stream| stream.next.0)),
        ("journal/landed", sum(|stream| stream.landed.0)),
        ("journal/refused", committer.refused()),
        (
            "journal/withheld",
            metrics.mqtt_publishes_withheld.get().max(0) as u64,
        ),
        (
            "journal/gaps",
            stats.gap_records.saturating_sub(stats.gap_records_landed),
        ),
        (
            "uplink/connected",
            metrics.uplink_connected.get().max(0) as u64,
        ),
    ]
}
