//! The bridge's drivers: QUIC and TLS, and the certificates that say who is who.
//!
//! Nothing here decides: frames go in and out, connections come and go. The cloud's CA signs one
//! certificate for the hub and one for each edge; an edge's identity is a URI in its certificate, and
//! nothing that it says. TLS of listeners for MQTT and Kafka clients is read here too: edge and cloud have it the same.

mod certificates;
mod channel;
mod endpoint;
mod identity;
mod server_tls;

pub use certificates::{CertificateError, Credentials, EdgeFiles, HubAuthority};
pub use channel::{ChannelError, FrameReader, FrameWriter};
pub use endpoint::{Attempt, ConnectError, Connection, Dialer, Handle, ListenError, Listener};
pub use identity::{IdentityError, edge_uri};
pub use server_tls::{Reloaded, ServerTls, TlsFileError, TlsOptions};
