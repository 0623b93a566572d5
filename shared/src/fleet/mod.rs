//! Fleet types: what YAML says of edges. A lone node's `edge.yaml` is the `spec` of a profile, so the
//! cloud validates with these types what an edge will run.

mod listener;
mod mqtt;
mod source;
mod spec;
mod units;

pub use listener::{
    CertificateUser, ClientCertificates, ListenerAddress, ListenerAddressError, ListenerSpec,
    TlsSpec, Transport,
};
pub use mqtt::{AutoSubscribeSpec, JwtSpec, LimitsSpec, RedirectSpec, RedirectWhen, RewriteSpec};
pub use source::{
    MqttServer, MqttSourceSpec, MqttVersion, SourceError, SourceName, SourceSpec,
    SourceSubscription, SourceTlsSpec,
};
pub use spec::{
    EdgeSpec, HttpSpec, JournalSpec, MqttSpec, OriginHeader, OverflowSpec, PRIORITY_MAX,
    RetentionSpec, RouteKey, RouteSpec, SpecError, StreamSpec, UplinkSpec, reconnect_max,
};
pub use units::{ByteSize, Span, UnitError};
#[cfg(feature = "yaml")]
pub use yaml::{YamlError, parse_yaml};

#[cfg(feature = "yaml")]
mod yaml;
