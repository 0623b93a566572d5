//! Every option of mosquitto.conf(5), of mosquitto 2.0 and 2.1: whose it is, and what becomes of those whose fate does not
//! hang on the others. deploy/docs/from-mosquitto.md has the same table for people; a test holds them together.

/// Who decides about an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `settings`: of the whole node.
    General,
    /// `listeners`: of a listener, or of the default one.
    Listener,
    /// `listeners`: of the whole node, or with `per_listener_settings` of a listener.
    Security,
    /// `bridges`: begins with `connection`.
    Bridge,
    /// Whatever its value, the node does so.
    IsSo(&'static str),
    /// Whatever its value, it is otherwise here, and nothing needs to be done.
    Differs(&'static str),
    /// Whatever its value, there is no such thing here.
    No(&'static str),
    /// As [`Kind::No`] where it is `true`; where it is `false` it asks for nothing.
    NoIfTrue(&'static str),
    /// As [`Kind::No`] where it is `false`; where it is `true` the node does so.
    NoIfFalse(&'static str),
}

use Kind::{Bridge, Differs, General, IsSo, Listener, No, NoIfFalse, NoIfTrue, Security};

const LOG: &str =
    "the log goes to standard error, which the service manager keeps; --log says how much";
const PLUGIN: &str = "there are no plugins: users are in mqtt.users or come with tokens (mqtt.jwt), rights in mqtt.acl";
const CIPHERS: &str = "TLS 1.2 and 1.3 with rustls's suites, which cannot be chosen";
const ENGINE: &str = "keys are PEM files";
const AUTO_ID: &str =
    "client ids that the node assigns cannot be guessed, and have no prefix of one's choice";
const NOTIFIED: &str =
    "a source publishes nothing of its state: tidegate_source_connected and the log tell it";
const ALIAS: &str = "the node has its own bound of topic aliases";
const BRIDGE_OUT: &str = "a source only takes: nothing goes out by it";
const BRIDGE_TCP: &str = "a source asks its broker every 30 s whether it is there";
const DURABLE: &str = "the journal is always there, and what is acknowledged is on disk";

pub(super) const OPTIONS: &[(&str, Kind)] = &[
    (
        "accept_protocol_versions",
        No("each listener takes MQTT 3.1, 3.1.1 and 5"),
    ),
    ("acl_file", Security),
    ("address", Bridge),
    ("addresses", Bridge),
    ("allow_anonymous", Security),
    (
        "allow_duplicate_messages",
        IsSo("a message comes once by subscriptions that overlap"),
    ),
    (
        "allow_zero_length_clientid",
        NoIfFalse("a client may leave its id to the node"),
    ),
    ("auth_plugin", No(PLUGIN)),
    (
        "auth_plugin_deny_special_chars",
        IsSo("a name with +, # or / never counts in a rule's topic"),
    ),
    ("auto_id_prefix", Differs(AUTO_ID)),
    ("autosave_interval", IsSo(DURABLE)),
    ("autosave_on_changes", IsSo(DURABLE)),
    ("bind_address", Listener),
    ("bind_interface", Listener),
    ("bridge_alpn", No("a source asks for no protocol by ALPN")),
    (
        "bridge_attempt_unsubscribe",
        IsSo("what a source no longer wants it gives up"),
    ),
    (
        "bridge_bind_address",
        No("the system chooses the address that a source comes from"),
    ),
    ("bridge_cafile", Bridge),
    ("bridge_capath", Bridge),
    ("bridge_certfile", Bridge),
    ("bridge_ciphers", Differs(CIPHERS)),
    ("bridge_ciphers_tls1.3", Differs(CIPHERS)),
    ("bridge_identity", Bridge),
    (
        "bridge_insecure",
        NoIfTrue("the broker's certificate must name the host that server says"),
    ),
    ("bridge_keyfile", Bridge),
    (
        "bridge_max_packet_size",
        Differs(
            "a source hears packets of up to 4 MiB, and takes messages up to mqtt.packet_bytes_max",
        ),
    ),
    (
        "bridge_max_topic_alias",
        Differs("a source takes no topic aliases"),
    ),
    ("bridge_outgoing_retain", Differs(BRIDGE_OUT)),
    ("bridge_protocol_version", Bridge),
    ("bridge_psk", Bridge),
    (
        "bridge_receive_maximum",
        Differs("a source takes 256 messages before it acknowledges one"),
    ),
    (
        "bridge_reload_type",
        Differs("sources are read at the start of the node"),
    ),
    (
        "bridge_require_ocsp",
        NoIfTrue("a certificate's state is not asked for"),
    ),
    ("bridge_session_expiry_interval", Bridge),
    ("bridge_tcp_keepalive", Differs(BRIDGE_TCP)),
    ("bridge_tcp_user_timeout", Differs(BRIDGE_TCP)),
    ("bridge_tls_use_os_certs", Bridge),
    ("bridge_tls_version", Differs(CIPHERS)),
    ("cafile", Listener),
    ("capath", Listener),
    ("certfile", Listener),
    (
        "check_retain_source",
        NoIfTrue("a retained message stays when its publisher may no longer publish it"),
    ),
    ("ciphers", Differs(CIPHERS)),
    ("ciphers_tls1.3", Differs(CIPHERS)),
    ("cleansession", Bridge),
    ("clientid", Bridge),
    (
        "clientid_prefixes",
        No("who comes in is not judged by the client id, which anybody can say"),
    ),
    ("connection", Bridge),
    (
        "connection_messages",
        Differs("--log debug has each client that connects"),
    ),
    ("crlfile", Listener),
    ("dhparamfile", IsSo("TLS needs no such file")),
    (
        "disable_client_cert_date_checks",
        NoIfTrue("a certificate that has ended lets nobody in"),
    ),
    ("enable_control_api", NoIfTrue("there is no $CONTROL")),
    ("enable_proxy_protocol", Listener),
    (
        "global_max_clients",
        No("sessions are bounded by mqtt.session_backlog_bytes_max each, not by number"),
    ),
    ("global_max_connections", General),
    ("global_plugin", No(PLUGIN)),
    ("http_dir", No("the node serves no files")),
    ("idle_timeout", IsSo("a source stays connected")),
    ("include_dir", General),
    ("keepalive_interval", Differs(BRIDGE_TCP)),
    ("keyfile", Listener),
    ("listener", Listener),
    ("listener_allow_anonymous", Listener),
    ("listener_auto_id_prefix", Differs(AUTO_ID)),
    (
        "local_cleansession",
        IsSo("a source is no client of the node"),
    ),
    ("local_clientid", IsSo("a source is no client of the node")),
    (
        "local_password",
        IsSo("a source is no client of the node: the configuration is the operator's word"),
    ),
    (
        "local_username",
        IsSo("a source is no client of the node: the configuration is the operator's word"),
    ),
    ("log_dest", Differs(LOG)),
    ("log_facility", Differs(LOG)),
    ("log_timestamp", Differs(LOG)),
    ("log_timestamp_format", Differs(LOG)),
    ("log_type", Differs(LOG)),
    ("max_connections", Listener),
    (
        "max_inflight_bytes",
        Differs(
            "what is under way is bounded by number (mqtt.limits.outbound_inflight_max) and by what waits (outbound_queue_bytes_max)",
        ),
    ),
    ("max_inflight_messages", General),
    ("max_keepalive", General),
    ("max_packet_size", General),
    ("max_qos", Listener),
    ("max_queued_bytes", General),
    ("max_queued_messages", General),
    ("max_topic_alias", Differs(ALIAS)),
    ("max_topic_alias_broker", Differs(ALIAS)),
    ("maximum_qos", Listener),
    (
        "memory_limit",
        No("the node's memory is bounded by the bounds of its parts, not by a number"),
    ),
    ("message_size_limit", General),
    ("mount_point", Listener),
    ("notification_topic", Differs(NOTIFIED)),
    ("notifications", Differs(NOTIFIED)),
    ("notifications_local_only", Differs(NOTIFIED)),
    ("packet_buffer_size", IsSo("the node has its own buffers")),
    ("password", Bridge),
    ("password_file", Security),
    ("per_listener_settings", General),
    ("persistence", General),
    (
        "persistence_file",
        Differs("what is in mosquitto.db stays there: sessions and retained messages begin anew"),
    ),
    (
        "persistence_location",
        Differs("the node's folder is data, and what is in mosquitto.db stays there"),
    ),
    (
        "persistent_client_expiration",
        No("a session ends by what its client asked for (MQTT 5), or not at all (older ones)"),
    ),
    ("pid_file", IsSo("the service manager knows the process")),
    ("plugin", No(PLUGIN)),
    ("plugin_load", No(PLUGIN)),
    ("plugin_use", No(PLUGIN)),
    ("port", Listener),
    ("protocol", Listener),
    (
        "proxy_protocol_v2_require_tls",
        NoIfTrue("whether the proxy's client came by TLS is not asked"),
    ),
    ("psk_file", Security),
    ("psk_hint", Listener),
    (
        "queue_qos0_messages",
        Differs("messages of QoS 0 wait for a session, too"),
    ),
    ("remote_clientid", Bridge),
    ("remote_password", Bridge),
    ("remote_username", Bridge),
    ("require_certificate", Listener),
    ("restart_timeout", Bridge),
    (
        "retain_available",
        NoIfFalse("retained messages are always kept"),
    ),
    (
        "retain_expiry_interval",
        No("a retained message ends by its own expiry (MQTT 5)"),
    ),
    ("retained_persistence", General),
    (
        "retry_interval",
        IsSo("nothing is sent again but after a new connection"),
    ),
    ("round_robin", NoIfTrue("a source has one server")),
    ("set_tcp_nodelay", IsSo("small packets go at once")),
    ("socket_domain", Listener),
    ("start_type", Bridge),
    ("sys_interval", General),
    ("threshold", IsSo("a source stays connected")),
    ("tls_engine", No(ENGINE)),
    ("tls_engine_kpass_sha1", No(ENGINE)),
    ("tls_keyform", No(ENGINE)),
    ("tls_version", Listener),
    ("topic", Bridge),
    (
        "try_private",
        Differs(
            "the broker is not told that a bridge comes: see to it that no message runs in a circle",
        ),
    ),
    (
        "upgrade_outgoing_qos",
        NoIfTrue("a message comes with the lower of both QoS"),
    ),
    ("use_identity_as_username", Listener),
    ("use_subject_as_username", Listener),
    (
        "use_username_as_clientid",
        NoIfTrue("a client id is what the client says it is"),
    ),
    (
        "user",
        IsSo("the service manager starts the node as its own user"),
    ),
    ("username", Bridge),
    (
        "websockets_headers_size",
        IsSo("the node has its own buffers"),
    ),
    ("websockets_log_level", Differs(LOG)),
    (
        "websockets_origin",
        No("who may come is not judged by the page that asks"),
    ),
];

/// `None`: mosquitto has no such option.
pub(super) fn kind(option: &str) -> Option<Kind> {
    if option.starts_with("auth_opt_") || option.starts_with("plugin_opt_") {
        return Some(No(PLUGIN));
    }
    let found = OPTIONS.iter().find(|(name, _)| *name == option);
    found.map(|(_, kind)| *kind)
}
