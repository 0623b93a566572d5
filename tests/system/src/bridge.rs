//! The edge's end of the bridge by hand, so that it can say what no edge of ours would. The frames
//! are those of `bridge/protocol/src/frame`: `bytes u32 | type u8 | version u8 | body`,
//! little-endian.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, ReadExactError, RecvStream, SendStream};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const ANNOUNCE: u8 = 3;
const GRANTED: u8 = 4;
const BATCH: u8 = 5;
/// The answer to a batch that was taken.
pub const LANDED: u8 = 6;
/// The answer to one that was not; the reason is at [`REFUSED_REASON_AT`].
pub const REFUSED: u8 = 7;
/// Behind request, stream and incarnation.
pub const REFUSED_REASON_AT: usize = 8 + 4 + 8;

/// What an edge by hand calls its stream.
pub const STREAM: &str = "by-hand";

const ANSWER_MAX: Duration = Duration::from_secs(20);

/// One connection with one stream, granted.
#[derive(Debug)]
pub struct Bridge {
    connection: quinn::Connection,
    control_out: SendStream,
    control_in: RecvStream,
    bulk: SendStream,
    session_epoch: u64,
    incarnation: u64,
    hash: [u8; 16],
}

impl Bridge {
    /// Connects with the certificate in `certificates`, and announces a stream that lands in `topic`.
    pub async fn connect(hub: SocketAddr, certificates: &Path, topic: &str) -> Self {
        let connection = dial(hub, certificates)
            .await
            .expect("the hub takes the certificate");
        let (control_out, control_in) = connection.open_bi().await.expect("the hub is there");
        let bulk = connection.open_uni().await.expect("the hub is there");
        let (session_epoch, incarnation, hash) = (0, 0, [0; 16]);
        let mut bridge = Self {
            connection,
            control_out,
            control_in,
            bulk,
            session_epoch,
            incarnation,
            hash,
        };
        bridge.hello().await;
        bridge.announce(topic).await;
        bridge
    }

    /// The session epoch that was granted.
    pub fn session_epoch(&self) -> u64 {
        self.session_epoch
    }

    /// Offers from here on carry this session epoch, whosever it is.
    pub fn speak_under(&mut self, session_epoch: u64) {
        self.session_epoch = session_epoch;
    }

    /// Bytes on the bulk stream, whatever they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        // The hub may have closed meanwhile.
        let _ = self.bulk.write_all(bytes).await;
    }

    /// A second Hello, as a replay would be.
    pub async fn hello_again(&mut self) {
        write(&mut self.control_out, HELLO, &hello()).await;
    }

    async fn hello(&mut self) {
        write(&mut self.control_out, HELLO, &hello()).await;
        let welcome = self.expect(WELCOME).await;
        self.session_epoch = number(&welcome[2..10]);
    }

    async fn announce(&mut self, topic: &str) {
        let mut item = 1_u32.to_le_bytes().to_vec();
        for text in [STREAM, topic] {
            item.extend((text.len() as u32).to_le_bytes());
            item.extend(text.as_bytes());
        }
        // Incarnation, first, next and landed offset; the life in which that landed.
        item.extend([0; 4 * 8 + 4]);
        // A list of one item, with its length.
        let mut body = 1_u32.to_le_bytes().to_vec();
        body.extend((item.len() as u16).to_le_bytes());
        body.extend(item);
        write(&mut self.control_out, ANNOUNCE, &body).await;
        let granted = self.expect(GRANTED).await;
        // Behind count, length and stream; and behind E.
        self.incarnation = number(&granted[10..18]);
        self.hash.copy_from_slice(&granted[26..42]);
    }

    /// Offers a record batch with `count` records; its base offset is put to `base_offset`.
    pub async fn offer(&mut self, batch: &[u8], base_offset: u64, count: u64) {
        let mut batch = batch.to_vec();
        batch[..8].copy_from_slice(&base_offset.to_be_bytes());
        // Request, stream; then the offer; then the batch.
        let mut body = base_offset.to_le_bytes().to_vec();
        body.extend(1_u32.to_le_bytes());
        for field in [self.session_epoch, self.incarnation, base_offset, count] {
            body.extend(field.to_le_bytes());
        }
        body.extend(self.hash);
        self.hash = (u128::from_le_bytes(self.hash) + 1).to_le_bytes();
        body.extend(self.hash);
        body.extend((batch.len() as u32).to_le_bytes());
        body.extend(batch);
        write(&mut self.bulk, BATCH, &body).await;
    }

    /// The next frame of this type.
    pub async fn expect(&mut self, wanted: u8) -> Vec<u8> {
        let reading = async {
            loop {
                let mut frame = read(&mut self.control_in).await.expect("a frame comes");
                if frame[0] == wanted {
                    return frame.split_off(2);
                }
            }
        };
        let read = tokio::time::timeout(ANSWER_MAX, reading).await;
        read.unwrap_or_else(|_| panic!("no frame of type {wanted}"))
    }

    /// The code with which the hub closes the connection.
    pub async fn close_code(&self) -> u64 {
        close_code(&self.connection).await
    }
}

async fn close_code(connection: &quinn::Connection) -> u64 {
    let closed = tokio::time::timeout(ANSWER_MAX, connection.closed()).await;
    match closed.expect("the hub closes the connection") {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("closed without a code: {other}"),
    }
}

/// A frame, without its length.
async fn read(stream: &mut RecvStream) -> Result<Vec<u8>, ReadExactError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write(stream: &mut SendStream, kind: u8, body: &[u8]) {
    let mut frame = (body.len() as u32 + 2).to_le_bytes().to_vec();
    frame.extend([kind, 1]);
    frame.extend(body);
    stream
        .write_all(&frame)
        .await
        .expect("the hub takes a frame");
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

/// Protocol version, store id, cluster incarnation (counter and id), session epoch.
fn hello() -> Vec<u8> {
    let mut body = 1_u16.to_le_bytes().to_vec();
    body.extend(7_u128.to_le_bytes());
    body.extend([0; 4 + 16 + 8]);
    body
}

/// Connects, says Hello and leaves when it is welcomed; the code where the hub closes the connection instead.
pub async fn knock(hub: SocketAddr, certificates: &Path) -> Result<(), u64> {
    let connection = dial(hub, certificates)
        .await
        .expect("the certificate is good");
    let (mut control_out, mut control_in) = connection.open_bi().await.expect("the hub is there");
    write(&mut control_out, HELLO, &hello()).await;
    let is_welcomed = async {
        while let Ok(frame) = read(&mut control_in).await {
            if frame[0] == WELCOME {
                return true;
            }
        }
        false
    };
    let answer = tokio::time::timeout(ANSWER_MAX, is_welcomed).await;
    if answer.expect("the hub answers a Hello") {
        Ok(())
    } else {
        Err(close_code(&connection).await)
    }
}

/// A QUIC connection with the client certificate of a folder; an error where the hub turns it away.
pub async fn dial(hub: SocketAddr, certificates: &Path) -> Result<quinn::Connection, String> {
    let read = |name: &str| certificates.join(name);
    let chain = CertificateDer::pem_file_iter(read("edge.crt")).expect("edge.crt is there");
    let chain = chain
        .collect::<Result<Vec<_>, _>>()
        .expect("edge.crt is PEM");
    let key = PrivateKeyDer::from_pem_file(read("edge.key")).expect("edge.key is PEM");
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(read("ca.crt")).expect("ca.crt is PEM");
    roots.add(ca).expect("ca.crt is a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("the key is the certificate's");
    tls.alpn_protocols = vec![b"tidegate-bridge/1".to_vec()];
    let quic = QuicClientConfig::try_from(tls).expect("ring has QUIC's initial suite");
    let config = quinn::ClientConfig::new(Arc::new(quic));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let endpoint = quinn::Endpoint::client(any).expect("a UDP socket can be made");
    let connecting = endpoint.connect_with(config, hub, "hub.tidegate");
    connecting
        .expect("the address is valid")
        .await
        .map_err(|error| error.to_string())
}
