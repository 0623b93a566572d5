//! The bridge's drivers: QUIC and TLS, and the certificates that say who is who.
//!
//! Nothing here decides: frames go in and out, connections come and go. The cloud's CA signs one
//! certificate for the hub and one for each edge; an edge's identity is a URI in its certificate, and
//! nothing that it says. What else of a daemon edge and cloud have the same is here
//! too: the TLS of listeners for MQTT and Kafka clients, what tells that a file has changed, the tasks that a node
//! consists of, and what goes on around them: signals, the service manager and its watchdog, and the end.

mod certificates;
mod channel;
pub mod daemon;
mod endpoint;
mod file_state;
mod identity;
mod server_tls;
mod tasks;
mod trouble;
mod watchdog;

pub use certificates::{CertificateError, Credentials, EdgeFiles, HubAuthority};
pub use channel::{ChannelError, FrameReader, FrameWriter};
pub use endpoint::{Attempt, ConnectError, Connection, Dialer, Handle, ListenError, Listener};
pub use file_state::FileState;
pub use identity::{IdentityError, edge_uri};
pub use server_tls::{Reloaded, ServerTls, TlsFileError, TlsOptions};
pub use tasks::Tasks;
pub use trouble::Trouble;
