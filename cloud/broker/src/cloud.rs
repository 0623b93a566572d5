//! The whole node: opens the log, makes the topics, binds the listeners, and ends them.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, ensure};
use tidegate_bridge::{Listener, Tasks};
use tidegate_cloud_protocol::groups::GroupLimits;
use tidegate_cloud_protocol::ledger::command::{
    Begin, CreateTopic, Entry, OpenBroker, TopicChange,
};
use tidegate_cloud_protocol::ledger::{CLUSTER_STORE, Command, Effect};
use tidegate_cloud_protocol::packing::PackRule;
use tidegate_shared::data_lock::DataLock;
use tidegate_shared::id::TopicId;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use crate::authority;
use crate::backup::restore;
use crate::broker::{Broker, Wal};
use crate::care::Care;
use crate::config::{Config, PackConfig, TopicConfig, WalConfig};
use crate::coordinator::Coordinator;
use crate::credentials::Credentials;
use crate::http::HttpListener;
use crate::hub;
use crate::kafka;
use crate::limits::{KAFKA_REQUESTS_BYTES_MAX, KAFKA_SESSION_PARTITIONS_MAX};
use crate::listening::{KafkaListener, bind, warn_of_http};
use crate::log::ObjectLog;
use crate::metrics::Metrics;
use crate::packer::Packer;
use crate::snapshotter::Kept;
use crate::store::{Cache, CacheLimits, Store, StoreOptions};
use crate::stores::Stores;
use crate::tls::{self, Tls};
use crate::{administrator, http, open_files, topic_store};

/// A running cloud node.
#[derive(Debug)]
pub struct Cloud {
    broker: Broker,
    /// At least one, in the configuration's order.
    kafka_addresses: Vec<SocketAddr>,
    http_address: SocketAddr,
    bridge_address: SocketAddr,
    shutdown: watch::Sender<bool>,
    tasks: Tasks,
    /// Of listeners.
    certificates: Vec<Tls>,
    _lock: DataLock,
}

impl Cloud {
    /// Starts a node: returns once its log is replayed and its listeners answer.
    ///
    /// # Errors
    /// With what to do about it: the folder is in use, the log is damaged, a port is taken.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        open_files::raise_limit();
        let lock = DataLock::take(&config.data)?;
        restore::check_ended(&config.data)?;
        let kafka = KafkaListener::bind_all(&config.kafka).await?;
        let http_tls = Tls::load(config.http.tls.as_ref(), "http", &[b"http/1.1"])?;
        let http = bind("http", config.http.address).await?;
        let metrics = Metrics::default();
        let store = open_store(&config, &metrics).await?;
        let wal = wal_of(&config, store.0.cluster()).await?;
        let bridge = bind_bridge(&config, &wal, store.0.cluster()).await?;
        let (policy, rule) = (config.policy(), pack_rule(&config.pack));
        let open = move || Broker::open(&wal, store, metrics, policy, rule);
        let opened = tokio::task::spawn_blocking(open).await?;
        let (broker, kept) = opened.context("cannot open the log")?;
        broker.warn_if_closed();
        check_store(&broker).await?;
        let stores = broker.shared().segments.stores();
        stores.open_all(broker.unwell_stores()).await;
        prepare(&broker, &config.topics).await?;
        let care = take_care(&broker, &config, kept).await?;
        let administrator = administrator::write_token(&config.data)?;
        let credentials = Credentials::new(broker.clone(), administrator);
        let (shutdown, stopping) = watch::channel(false);
        let of_kafka = kafka.iter().filter_map(|listener| listener.tls.as_ref());
        let mut cloud = Self {
            broker,
            kafka_addresses: kafka.iter().map(|listener| listener.address).collect(),
            certificates: of_kafka.chain(&http_tls).cloned().collect(),
            http_address: http.local_addr()?,
            bridge_address: bridge.local_address()?,
            shutdown,
            tasks: Tasks::default(),
            _lock: lock,
        };
        let coordinator = Coordinator::new(GroupLimits::default(), cloud.broker());
        let place = http::Place {
            data: std::path::absolute(&config.data)?,
            restore_window: config.restore_window.0,
        };
        let (of_kafka, stop) = (Arc::clone(&credentials), stopping.clone());
        let kafka = cloud.serve_kafka(kafka, &config, &coordinator, of_kafka, &stop)?;
        warn_of_http(&config.http);
        let http = HttpListener {
            listener: http,
            tls: http_tls,
            authentication: config.http.authentication,
        };
        cloud.serve_http(http, kafka, place, credentials, stopping.clone());
        let certificates = cloud.certificates.clone();
        let renew = tls::renew(certificates, stopping.clone());
        cloud.tasks.spawn("the watch over certificates", renew);
        let mut stop = stopping.clone();
        cloud.tasks.spawn("the housekeeping", async move {
            let mut care = tokio::spawn(care.run());
            tokio::select! {
                Err(error) = &mut care => tracing::error!(
                    %error,
                    "the housekeeping has failed: nothing is packed or deleted until this is started anew"
                ),
                _ = stop.changed() => care.abort(),
            }
        });
        let hub = hub::serve(bridge, cloud.broker(), stopping);
        cloud.tasks.spawn("the hub", hub);
        tracing::info!(
            kafka = %format_args!("{:?}", cloud.kafka_addresses),
            http = %cloud.http_address,
            bridge = %cloud.bridge_address,
            data = %config.data.display(),
            "the cloud is ready"
        );
        Ok(cloud)
    }

    /// The handle for submitting to the ledger and looking at it.
    pub fn broker(&self) -> Broker {
        self.broker.clone()
    }

    /// Where Kafka clients are served by the first listener; the port that was given where the configuration said 0.
    pub fn kafka_address(&self) -> SocketAddr {
        self.kafka_addresses[0]
    }

    /// The same of all listeners, in the configuration's order.
    pub fn kafka_addresses(&self) -> &[SocketAddr] {
        &self.kafka_addresses
    }

    /// Reads the listeners' certificates again, changed or not. Those that cannot be used leave the old ones.
    pub async fn reload(&self) {
        tls::reload(&self.certificates, true).await;
    }

    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where edges connect (UDP).
    pub fn bridge_address(&self) -> SocketAddr {
        self.bridge_address
    }

    /// Returns true once the sequencer has had its turn: it decides what comes, or waits for its object store. False
    /// where it has ended.
    pub async fn answers(&self) -> bool {
        self.broker.answers().await
    }

    /// Returns when the node is of no use any more, with the reason: its log has failed, or a task. A new start opens all
    /// anew.
    pub async fn failed(&self) -> String {
        tokio::select! {
            reason = self.broker.failed() => format!("the log failed: {reason}"),
            what = self.tasks.failed() => format!("a panic ended {what}"),
        }
    }

    /// Stops listeners, then the log after what is queued. Returns when all has ended.
    pub async fn shutdown(mut self) {
        self.shutdown.send_replace(true);
        while let Some(ended) = self.tasks.ended().await {
            if let Err(error) = ended.as_ref().map_err(ToString::to_string) {
                tracing::error!(%error, "a listener's task has failed");
            }
        }
        self.broker.stop().await;
    }

    fn serve_kafka(
        &mut self,
        listeners: Vec<KafkaListener>,
        config: &Config,
        coordinator: &Arc<Coordinator>,
        credentials: Arc<Credentials>,
        stopping: &watch::Receiver<bool>,
    ) -> anyhow::Result<kafka::Context> {
        let shared = kafka::Context {
            broker: self.broker.clone(),
            coordinator: Arc::clone(coordinator),
            advertised_host: String::new(),
            advertised_port: 0,
            client_host: String::new(),
            principal: kafka::ANONYMOUS.into(),
            gate: None,
            credentials,
            auto_create: Arc::new(kafka::AutoCreate::new(config.kafka.auto_create_topics)),
            unpacking: Arc::default(),
            room: Arc::new(Semaphore::new(KAFKA_REQUESTS_BYTES_MAX >> 10)),
            fetch_session: Arc::default(),
            fetch_memory: kafka::FetchMemory::default(),
            session_room: Arc::new(Semaphore::new(KAFKA_SESSION_PARTITIONS_MAX)),
            start: (Uuid::new_v4().as_u128() as u32 >> 1).max(1),
        };
        // As a client of the first listener.
        let own = listeners[0].context(&shared)?;
        for listener in listeners {
            let context = listener.context(&shared)?;
            let served = kafka::serve(listener.listener, listener.tls, context, stopping.clone());
            self.tasks.spawn("a Kafka listener", served);
        }
        let (coordinator, mut stop) = (Arc::clone(coordinator), stopping.clone());
        self.tasks.spawn("the group coordinator", async move {
            tokio::select! {
                _ = stop.changed() => {}
                () = Arc::clone(&coordinator).run() => {}
            }
            coordinator.keep_rest().await;
        });
        Ok(own)
    }

    fn serve_http(
        &mut self,
        listener: HttpListener,
        kafka: kafka::Context,
        place: http::Place,
        credentials: Arc<Credentials>,
        stopping: watch::Receiver<bool>,
    ) {
        let context = http::Context {
            broker: self.broker.clone(),
            coordinator: Arc::clone(&kafka.coordinator),
            kafka,
            place: Arc::new(place),
            scrub: Arc::new(Semaphore::new(1)),
            imports: Arc::default(),
            credentials,
        };
        let serve = http::serve(listener, context, stopping);
        self.tasks.spawn("the HTTP listener", serve);
    }
}

async fn open_store(config: &Config, metrics: &Metrics) -> anyhow::Result<(Stores, Cache)> {
    let url = config.store_url()?;
    if url.is_memory() {
        match config.wal {
            WalConfig::Local => {
                tracing::warn!("object_store is memory: what is packed is gone with this process");
            }
            WalConfig::Object => tracing::warn!(
                "object_store is memory, and wal is object: all that has landed is gone with this process"
            ),
        }
    }
    let options = StoreOptions::from_env();
    let store = Store::open(&url, &options, &metrics.object_stores)?;
    ensure!(
        store.is_writable(),
        "object_store is {}, which can only be read: what has landed could never leave the log",
        url.as_str()
    );
    let (folder, cached) = (
        config.data.join("cache"),
        metrics.object_store_cache.clone(),
    );
    let open = move || Cache::open(Some(folder), CacheLimits::default(), &cached);
    let cache = tokio::task::spawn_blocking(open).await?;
    Ok((
        Stores::new(store, options, metrics.object_stores.clone()),
        cache,
    ))
}

/// Where the log is. The setting must not be another one than before: the log would begin anew beside the old one.
async fn wal_of(config: &Config, store: &Store) -> anyhow::Result<Wal> {
    let log = config.data.join("log");
    let has_files = std::fs::read_dir(&log).is_ok_and(|mut files| files.next().is_some());
    let url = store.url().as_str();
    match config.wal {
        WalConfig::Object => {
            ensure!(
                !has_files,
                "{} has a log, and wal is object: set wal to local, or data to another folder",
                log.display()
            );
            Ok(Wal::Object {
                linger: config.wal_linger.0,
            })
        }
        WalConfig::Local => {
            let is_other = match has_files {
                true => false,
                false => ObjectLog::is_there(store).await.context(
                    "before its first start the object store is looked into for a log, and it does not answer",
                )?,
            };
            ensure!(
                !is_other,
                "{url} has a log, {} has none, and wal is local: set wal to object, or object_store to another URL",
                log.display()
            );
            Ok(Wal::Local {
                log,
                snapshots: config.data.join("snapshots"),
            })
        }
    }
}

/// With another object store than the one that has the segments, nothing could be read of them, and what
/// comes would go elsewhere.
async fn check_store(broker: &Broker) -> anyhow::Result<()> {
    let newest = broker.ledger(|ledger| {
        let mut newest_first = ledger.logs().flat_map(|(_, log)| log.segments().rev());
        let newest = newest_first.find(|segment| segment.id.store == CLUSTER_STORE);
        newest.copied()
    });
    let Some(segment) = newest else {
        return Ok(());
    };
    let segments = &broker.shared().segments;
    let (key, store) = (segments.key(segment.id), segments.stores().cluster());
    match store.size(&key).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Err(anyhow!(
            "{} has no {key}, which the cloud knows: is object_store the one that was used before?",
            store.url().as_str()
        )),
        Err(error) => {
            tracing::warn!(%error, "the object store cannot be asked: what is packed cannot be read now");
            Ok(())
        }
    }
}

fn pack_rule(config: &PackConfig) -> PackRule {
    PackRule {
        segment_bytes: config.segment_size.0,
        max_age_ms: i64::try_from(config.max_age.0.as_millis()).unwrap_or(i64::MAX),
    }
}

/// Begins an epoch of the broker, under which segments are written.
async fn take_care(
    broker: &Broker,
    config: &Config,
    kept: watch::Receiver<Kept>,
) -> anyhow::Result<Care> {
    let id = Uuid::new_v4().as_u128();
    let open = Entry::OpenBroker(OpenBroker { id });
    let effects = broker.submit(vec![(open, None)]).await?;
    let [Effect::BrokerOpened { broker_epoch }] = effects[..] else {
        anyhow::bail!("the ledger opens no epoch: {effects:?}");
    };
    // 32 bits by chance, and as many to count.
    let first_number = (id as u64) << 32;
    let packer = Packer::new(broker.clone(), broker_epoch, first_number);
    let window = config.restore_window.0;
    Ok(Care::new(broker.clone(), packer, window, kept))
}

/// Begins the first cluster incarnation, and makes the topics that are missing.
async fn prepare(broker: &Broker, topics: &[TopicConfig]) -> anyhow::Result<()> {
    if broker.ledger(|ledger| ledger.cluster_incarnation().is_none()) {
        let begin = Begin {
            now_ms: broker.clock().now_ms(),
            cluster_incarnation_id: Uuid::new_v4().as_u128(),
        };
        broker.command(Command::Begin(begin)).await?;
    }
    for topic in topics {
        let known = broker.ledger(|ledger| {
            let id = ledger.topic_id(topic.name.as_str())?;
            let known = ledger.topic(id)?;
            let url = ledger.store_url(known.settings.store);
            Some((known.partitions().len(), url.map(str::to_owned)))
        });
        match known {
            None => {
                let store = topic_store::number_of(broker, topic.object_store.as_deref()).await;
                let store = store.with_context(|| format!("topic {}", topic.name))?;
                let create = CreateTopic {
                    name: topic.name.clone(),
                    topic_id: TopicId(Uuid::new_v4().as_u128()),
                    partitions: topic.partitions,
                    changes: vec![TopicChange::Store(store)],
                };
                broker.command(Command::CreateTopic(create)).await?;
                tracing::info!(topic = %topic.name, partitions = topic.partitions, "topic created");
            }
            Some((count, url)) => {
                if count != topic.partitions as usize {
                    tracing::warn!(
                        topic = %topic.name,
                        "the topic has {count} partitions and the configuration says {}: it is left as it is",
                        topic.partitions
                    );
                }
                let said = topic.store_url()?;
                if said.is_some() && said != url {
                    tracing::warn!(
                        topic = %topic.name,
                        "the topic's storage.url is {} and the configuration says {}: it is left as it is; tidegate topic alter changes it",
                        url.as_deref().unwrap_or("the cluster's object store"),
                        said.as_deref().unwrap_or_default()
                    );
                }
            }
        }
    }
    Ok(())
}

async fn bind_bridge(config: &Config, wal: &Wal, store: &Store) -> anyhow::Result<Listener> {
    let keeps_ca = matches!(wal, Wal::Object { .. });
    let authority = authority::open(config, keeps_ca.then_some(store)).await?;
    Ok(Listener::bind(
        config.bridge.address,
        authority.hub_credentials()?,
    )?)
}
