//! Sources: brokers of others that this node is a client of. A message goes to the router as a device's publish does, and
//! is acknowledged to its broker when the journal's commit is durable. What is decided is decided in `intake` (what goes on,
//! what waits, what is acknowledged) and `subscribed` (what the session subscribes to); this is the driver around them.

mod backoff;
mod figures;
mod intake;
mod link;
mod proof;
mod subscribed;
mod taking;
mod topics;
mod trial;

use std::sync::Arc;
use std::time::Instant;

use tidegate_shared::fleet::{EdgeSpec, MqttSourceSpec, SourceSpec};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use crate::limits::{
    FAREWELL_TIMEOUT, RECONNECT_MIN, SOURCE_HELD_BYTES_MAX, SOURCE_RETRY_INTERVAL,
    SOURCE_STABLE_MIN,
};
use crate::mqtt::{Context, Inlet, Offered};
use crate::random;

use backoff::Backoff;
use figures::Figures;
pub(crate) use figures::SourceFamilies;
use intake::Intake;
use link::{Clogged, Event, EventLoop, Speaker};
use subscribed::{NotGranted, Subscribed};
use topics::Topics;
pub(crate) use trial::{Trial, try_once};

/// One broker's client.
#[derive(Debug)]
pub(crate) struct Source {
    events: EventLoop,
    driver: Driver,
}

/// All but what hears the broker: that goes on while this speaks.
#[derive(Debug)]
struct Driver {
    name: String,
    spec: MqttSourceSpec,
    topics: Topics,
    speaker: Speaker,
    inlet: Inlet,
    intake: Intake<Offered>,
    /// Acknowledgements that the event loop has and has not written.
    unwritten: usize,
    subscribed: Subscribed,
    backoff: Backoff,
    figures: Figures,
    connected_at: Option<Instant>,
    was_connected: bool,
    /// Why there is no connection, as the log was told.
    told: Option<String>,
    /// Messages wait for space, as the log was told.
    told_full: bool,
    /// The last moment for a farewell.
    stops_at: Option<Instant>,
}

/// Why a connection, or the attempt at one, is over.
#[derive(Debug)]
enum End {
    Stopping,
    Lost(String),
}

impl From<Clogged> for End {
    fn from(_: Clogged) -> Self {
        Self::Lost("too much waits to be said to the broker".to_owned())
    }
}

impl Source {
    pub(crate) fn new(source: &SourceSpec, spec: &EdgeSpec, context: &Arc<Context>) -> Self {
        let (name, mqtt) = (source.name.as_str(), &source.mqtt);
        let client_id = mqtt.client_id.clone().unwrap_or_else(|| {
            // As long as the data folder is the same, so is the session.
            let store = format!("{:032x}", context.reader.store_id().0);
            format!("tidegate-{name}-{}", &store[..8])
        });
        let (speaker, events) = link::open(mqtt, &client_id, Some(mqtt.session_expiry.0));
        let remembered = spec.data.join("sources").join(format!("{name}.json"));
        let driver = Driver {
            name: name.to_owned(),
            topics: Topics::new(mqtt, spec.mqtt.packet_bytes_max.0 as usize),
            speaker,
            inlet: Inlet::new(Arc::clone(context), &client_id),
            intake: Intake::new(SOURCE_RETRY_INTERVAL),
            unwritten: 0,
            subscribed: Subscribed::new(remembered, mqtt, &client_id),
            backoff: Backoff::new(RECONNECT_MIN, mqtt.reconnect_max.0, SOURCE_STABLE_MIN),
            figures: context.metrics.sources.of(name),
            connected_at: None,
            was_connected: false,
            told: None,
            told_full: false,
            stops_at: None,
            spec: mqtt.clone(),
        };
        tracing::info!(source = name, server = %mqtt.server, client_id, "source: a client of this broker");
        Self { events, driver }
    }

    /// Connects, again and again, until told to stop.
    pub(crate) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let Self {
            mut events,
            mut driver,
        } = self;
        loop {
            let why = match driver.connection(&mut events, &mut stopping).await {
                Err(End::Stopping) | Ok(()) => return,
                Err(End::Lost(why)) => why,
            };
            let pause = driver.lost(why);
            tokio::select! {
                () = sleep(pause) => {}
                () = told(&mut stopping) => return,
            }
        }
    }
}

impl Driver {
    /// From an attempt to connect to the connection's end.
    async fn connection(
        &mut self,
        events: &mut EventLoop,
        stopping: &mut watch::Receiver<bool>,
    ) -> Result<(), End> {
        let spec = self.spec.clone();
        let proof = tokio::task::spawn_blocking(move || proof::load(&spec)).await;
        let proof = proof.map_err(|error| End::Lost(error.to_string()))?;
        let proof = proof.map_err(|error| End::Lost(format!("{error:#}")))?;
        events.prepare(self.spec.user.as_deref(), proof);
        loop {
            let event = {
                // Never cancelled but with the connection: what it was about to write would be lost.
                let mut next = Box::pin(events.next());
                loop {
                    let retry_at = self.intake.deadline().filter(|_| self.stops_at.is_none());
                    tokio::select! {
                        event = &mut next, if self.listens() => break event,
                        answers = self.inlet.answers() => self.answered(answers).await?,
                        () = at(retry_at) => self.try_again().await,
                        () = at(self.stops_at) => return Err(End::Stopping),
                        () = told(stopping), if self.stops_at.is_none() => self.stop()?,
                    }
                }
            };
            let event = event.map_err(|why| match self.stops_at {
                Some(_) => End::Stopping,
                None => End::Lost(why),
            });
            self.handle(event?).await?;
        }
    }

    /// Whether to hear the broker. It is heard, too, while there is something to be said to it.
    fn listens(&self) -> bool {
        self.intake.bytes() < SOURCE_HELD_BYTES_MAX || self.unwritten > 0
    }

    async fn handle(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Connected {
                session_present,
                expiry_s,
            } => self.connected(session_present, expiry_s).await?,
            Event::Publish(arrived) => self.arrived(arrived).await?,
            Event::Subscribed(granted) => {
                let (less, is_last) = self.subscribed.handle_suback(&granted);
                for NotGranted { filter, granted } in less {
                    let source = &self.name;
                    match granted {
                        None => tracing::error!(
                            source,
                            filter,
                            "source: the broker does not grant this subscription"
                        ),
                        Some(qos) => tracing::error!(
                            source,
                            filter,
                            qos,
                            "source: the broker grants this subscription with a lower QoS only: it keeps nothing of it while this node is away"
                        ),
                    }
                    self.figures.subscriptions_refused.inc();
                }
                if is_last {
                    self.remember().await;
                }
            }
            Event::Unsubscribed => {
                if self.subscribed.handle_unsuback() {
                    self.remember().await;
                }
            }
            Event::Acknowledged => self.unwritten = self.unwritten.saturating_sub(1),
            Event::Other => {}
        }
        Ok(())
    }

    async fn connected(&mut self, session_present: bool, expiry_s: Option<u32>) -> Result<(), End> {
        let (source, server) = (&self.name, &self.spec.server);
        tracing::info!(source, %server, session_present, "source: connected");
        if let Some(expiry_s) = expiry_s
            && u64::from(expiry_s) < self.spec.session_expiry.0.as_secs()
        {
            tracing::warn!(
                source,
                expiry_s,
                "source: the broker keeps the session for less time than it was asked to"
            );
        }
        self.intake.handle_connected();
        self.unwritten = 0;
        self.connected_at = Some(Instant::now());
        self.told = None;
        self.figures.connected.set(1);
        if std::mem::replace(&mut self.was_connected, true) {
            self.figures.reconnects.inc();
        }
        let plan = self.subscribed.handle_connected(session_present);
        if plan.has_lost_session {
            tracing::error!(
                source,
                %server,
                "source: the broker has lost the session: what it kept for this node while it was away is gone"
            );
            self.figures.sessions_lost.inc();
            self.remember().await;
        }
        if !plan.subscribe.is_empty() {
            self.speaker.subscribe(&plan.subscribe)?;
        }
        for filter in &plan.unsubscribe {
            self.speaker.unsubscribe(filter)?;
        }
        Ok(())
    }

    /// What is on its way into the journal is waited for, so that it does not come twice. Then the broker is heard until it
    /// closes the connection: closing with something unheard would throw away, at the broker, acknowledgements that it
    /// has not looked at yet.
    fn stop(&mut self) -> Result<(), End> {
        if self.connected_at.is_none() {
            return Err(End::Stopping);
        }
        self.intake.handle_stopping();
        self.stops_at = Some(Instant::now() + FAREWELL_TIMEOUT);
        match self.intake.is_settled() {
            true => Ok(self.speaker.disconnect()?),
            false => Ok(()),
        }
    }

    /// The pause before the next attempt.
    fn lost(&mut self, why: String) -> std::time::Duration {
        let (source, server) = (&self.name, &self.spec.server);
        let connected_at = self.connected_at.take();
        self.intake.handle_disconnected();
        self.figures.connected.set(0);
        self.figures.held.set(0);
        match connected_at {
            Some(_) => tracing::warn!(source, %server, why, "source: the connection is lost"),
            None => {
                self.figures.connect_failures.inc();
                // Once per reason; the counter tells the rest.
                match self.told.as_ref() == Some(&why) {
                    true => tracing::debug!(source, %server, why, "source: no connection"),
                    false => {
                        tracing::warn!(source, %server, why, "source: no connection; it is tried again");
                    }
                }
                self.told = Some(why);
            }
        }
        let chance = random::bytes().map_or(u32::MAX, u32::from_le_bytes);
        self.backoff.pause(Instant::now(), connected_at, chance)
    }

    /// The log is told of the first of a kind; the counter tells the rest.
    fn drop_one(&self, reason: &'static str, what: &str) {
        let source = &self.name;
        match self.figures.drop_one(reason) {
            1 => tracing::error!(
                source,
                reason,
                what,
                "source: a message cannot be taken: it is dropped"
            ),
            _ => tracing::debug!(
                source,
                reason,
                what,
                "source: a message cannot be taken: it is dropped"
            ),
        }
    }

    async fn remember(&self) {
        let source = &self.name;
        let saved = tokio::task::spawn_blocking(self.subscribed.saving()).await;
        if let Ok(Err(error)) = saved {
            tracing::error!(source, %error, "source: what is subscribed to cannot be written down");
        }
    }
}

/// Returns once the node stops.
async fn told(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Never, without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
