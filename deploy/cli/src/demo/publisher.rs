//! The demo's device: an MQTT client like any other, which publishes the readings with QoS 1 once a
//! second and connects again when it is cut off.

use std::net::SocketAddr;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, QoS};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::readings::{READINGS_MAX, Sampler};

const PUBLISH_EACH: Duration = Duration::from_secs(1);
const RECONNECT_WAIT: Duration = Duration::from_secs(1);
const GOODBYE_WAIT: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Publishes that wait for the connection; where they do not fit, this second's readings are left out.
const QUEUE_MAX: usize = 2 * READINGS_MAX;

/// Publishes until it is told to stop, then disconnects.
pub(super) async fn run(mqtt: SocketAddr, host: String, mut stopping: watch::Receiver<bool>) {
    let id = format!("tidegate-demo-{host}");
    let mut options = MqttOptions::new(id, mqtt.ip().to_string(), mqtt.port());
    options.set_keep_alive(KEEP_ALIVE);
    let (client, connection) = AsyncClient::new(options, QUEUE_MAX);
    let driver = tokio::spawn(drive(connection, stopping.clone()));
    tokio::select! {
        () = publish(&client, Sampler::new(&host)) => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    let _ = client.try_disconnect();
    let abort = driver.abort_handle();
    if tokio::time::timeout(GOODBYE_WAIT, driver).await.is_err() {
        abort.abort();
    }
}

async fn publish(client: &AsyncClient, mut sampler: Sampler) {
    let mut clock = tokio::time::interval(PUBLISH_EACH);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        clock.tick().await;
        // A disk that hangs must not hold up the rest of the process.
        let sampled = tokio::task::spawn_blocking(move || {
            let readings = sampler.sample();
            (sampler, readings)
        });
        let Ok((back, readings)) = sampled.await else {
            tracing::error!("the demo cannot read this host");
            return;
        };
        sampler = back;
        for reading in readings {
            let payload = reading.payload();
            let sent = client.try_publish(&reading.topic, QoS::AtLeastOnce, false, payload);
            if let Err(error) = sent {
                tracing::debug!(%error, topic = reading.topic, "the demo leaves a reading out");
            }
        }
    }
}

/// Moves the connection on, and says once when it is lost.
async fn drive(mut connection: EventLoop, stopping: watch::Receiver<bool>) {
    let mut connected = true;
    loop {
        match connection.poll().await {
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => connected = true,
            Err(_) if *stopping.borrow() => return,
            Err(error) => {
                if std::mem::take(&mut connected) {
                    tracing::warn!(%error, "the demo's device connects again");
                }
                tokio::time::sleep(RECONNECT_WAIT).await;
            }
        }
    }
}
