//! MQTT through everything it may travel in: one edge with a listener of each kind, and a client made of
//! the same few bytes each time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use support::{DEADLINE, metric, packet, publish, string, subscribe};
use tidegate_edge::Edge;
use tidegate_shared::fleet::{EdgeSpec, parse_yaml};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Larger than a read, a frame and a QUIC packet.
const PAYLOAD_BYTES: usize = 200 << 10;

/// Long after the last byte was acknowledged, and before the server gives the client up.
const OPEN: Duration = Duration::from_millis(500);

/// A CA, and what it signs, in a folder.
struct Certificates<'a> {
    folder: &'a Path,
    ca: Issuer<'static, KeyPair>,
}

impl<'a> Certificates<'a> {
    fn new(folder: &'a Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.join("ca.crt"), certificate.pem()).unwrap();
        let certificates = Self {
            folder,
            ca: Issuer::new(params, key),
        };
        certificates.sign("server");
        certificates.sign("client");
        certificates
    }

    /// Anew, where it is there.
    fn sign(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        // As people do it: one file after the other.
        std::fs::write(self.folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.folder.join(format!("{name}.crt"))).unwrap()
    }

    fn client(&self, with_certificate: bool, alpn: &[&[u8]]) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate("ca")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match with_certificate {
            true => {
                let key = PrivateKeyDer::from_pem_file(self.folder.join("client.key")).unwrap();
                let chain = vec![self.certificate("client")];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            false => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

fn spec(folder: &Path) -> EdgeSpec {
    let shown = folder.display();
    let tls = format!("tls: {{certificate: {shown}/server.crt, key: {shown}/server.key");
    let text = format!(
        "data: {shown}/data
mqtt:
  listeners:
    - address: 127.0.0.1:0
    - address: '[::1]:0'
    - {{address: 127.0.0.1:0, {tls}}}}}
    - {{address: 127.0.0.1:0, {tls}, client_ca: {shown}/ca.crt}}}}
    - {{address: 127.0.0.1:0, transport: websocket}}
    - {{address: 127.0.0.1:0, transport: websocket, path: /devices, {tls}}}}}
    - {{address: 127.0.0.1:0, transport: quic, {tls}}}}}
    - {{address: 127.0.0.1:0, proxy_protocol: true}}
    - {{address: 127.0.0.1:0, proxy_protocol: true, {tls}}}}}
    - address: unix:{shown}/mqtt.sock
http:
  address: 127.0.0.1:0
"
    );
    parse_yaml(&text).unwrap()
}

/// Which of the listeners, in the order above.
#[derive(Clone, Copy)]
enum At {
    Tcp,
    Tcp6,
    Tls,
    MutualTls,
    WebSocket,
    SecureWebSocket,
    Quic,
    Proxy,
    ProxyTls,
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

async fn tls<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: Arc<rustls::ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<S>> {
    let connector = tokio_rustls::TlsConnector::from(config);
    connector.connect(server_name(), stream).await
}

/// A WebSocket's other end as a stream of bytes. Each piece of bytes is a frame of its own.
async fn websocket<S>(
    stream: S,
    path: &str,
    subprotocol: Option<&str>,
) -> Result<DuplexStream, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = format!("ws://localhost{path}").into_client_request()?;
    if let Some(name) = subprotocol {
        let name = name.parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", name);
    }
    let (frames, _) = tokio_tungstenite::client_async(request, stream).await?;
    let (near, far) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        let (mut send, mut receive) = frames.split();
        let (mut out, mut into) = tokio::io::split(far);
        let outwards = async {
            let mut bytes = vec![0; 7_000];
            while let Ok(read @ 1..) = out.read(&mut bytes).await {
                let frame = Message::binary(bytes[..read].to_vec());
                if send.send(frame).await.is_err() {
                    break;
                }
            }
        };
        let inwards = async {
            while let Some(Ok(frame)) = receive.next().await {
                if into.write_all(&frame.into_data()).await.is_err() {
                    break;
                }
            }
            let _ = into.shutdown().await;
        };
        tokio::join!(outwards, inwards);
    });
    Ok(near)
}

async fn quic(
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
) -> (quinn::Connection, impl AsyncRead + AsyncWrite + Unpin) {
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let crypto = QuicClientConfig::try_from(config).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, address, "localhost").unwrap();
    let connection = connecting.await.unwrap();
    let (send, receive) = connection.open_bi().await.unwrap();
    (connection, tokio::io::join(receive, send))
}

async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let read = async {
        let first = stream.read_u8().await.unwrap();
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = stream.read_u8().await.unwrap();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        (first, body)
    };
    timeout(DEADLINE, read)
        .await
        .expect("a packet comes in time")
}

async fn connect(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), client_id: &str) {
    let mut body = string(b"MQTT");
    body.extend([4, 2, 0, 0]);
    body.extend(string(client_id.as_bytes()));
    stream.write_all(&packet(0x10, &body)).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(read_packet(stream).await, (0x20, vec![0, 0]));
}

async fn ping(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(b"\xc0\x00").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(read_packet(stream).await.0, 0xd0);
}

/// Subscribes to what it publishes, and gets it back whole.
async fn speaks_mqtt(mut stream: impl AsyncRead + AsyncWrite + Unpin, name: &str) {
    connect(&mut stream, name).await;
    let topic = format!("transports/{name}");
    stream.write_all(&subscribe(1, &[&topic], 1)).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(read_packet(&mut stream).await.0, 0x90, "{name}");
    let payload: Vec<u8> = (0..PAYLOAD_BYTES).map(|at| (at % 251) as u8).collect();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = async {
        writer
            .write_all(&publish(0x32, &topic, 7, &payload))
            .await
            .unwrap();
        writer.flush().await.unwrap();
    };
    let reading = async {
        let mut seen = [false; 2];
        while seen != [true; 2] {
            match read_packet(&mut reader).await {
                (0x40, body) => {
                    assert_eq!(body, [0, 7], "{name}");
                    seen[0] = true;
                }
                (first, body) => {
                    assert_eq!(first & 0xf0, 0x30, "{name}");
                    assert!(body.ends_with(&payload), "{name}: the payload came whole");
                    seen[1] = true;
                }
            }
        }
    };
    tokio::join!(writing, reading);
    // DISCONNECT, and the server closes.
    writer.write_all(b"\xe0\x00").await.unwrap();
    writer.flush().await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, reader.read_to_end(&mut rest))
        .await
        .expect("it is closed");
    assert!(rest.is_empty(), "{name}");
}

/// Version 2, IPv4, of a client at 192.0.2.7.
fn proxy_header() -> Vec<u8> {
    let mut header = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend([192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x34, 0x07, 0x5b]);
    header
}

async fn behind_proxy(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&proxy_header()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_transport_speaks_mqtt() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(folder.path());
    let edge = Edge::start(spec(folder.path())).await.unwrap();
    let addresses = edge.mqtt_addresses();
    let tcp = async |at: At| TcpStream::connect(addresses[at as usize]).await.unwrap();
    speaks_mqtt(tcp(At::Tcp).await, "tcp").await;
    speaks_mqtt(tcp(At::Tcp6).await, "tcp6").await;
    let unix = UnixStream::connect(folder.path().join("mqtt.sock")).await;
    speaks_mqtt(unix.unwrap(), "unix").await;
    let plain = certificates.client(false, &[]);
    let secure = tls(tcp(At::Tls).await, Arc::clone(&plain)).await.unwrap();
    speaks_mqtt(secure, "tls").await;
    let known = certificates.client(true, &[]);
    let mutual = tls(tcp(At::MutualTls).await, known).await.unwrap();
    speaks_mqtt(mutual, "mutual_tls").await;
    let frames = websocket(tcp(At::WebSocket).await, "/mqtt", Some("mqtt")).await;
    speaks_mqtt(frames.unwrap(), "websocket").await;
    let secure = tls(tcp(At::SecureWebSocket).await, Arc::clone(&plain))
        .await
        .unwrap();
    let frames = websocket(secure, "/devices", Some("mqttv3.1, mqtt")).await;
    speaks_mqtt(frames.unwrap(), "secure_websocket").await;
    let (_connection, stream) = quic(
        addresses[At::Quic as usize],
        certificates.client(false, &[b"mqtt"]),
    )
    .await;
    speaks_mqtt(stream, "quic").await;
    speaks_mqtt(behind_proxy(addresses[At::Proxy as usize]).await, "proxy").await;
    let secure = tls(behind_proxy(addresses[At::ProxyTls as usize]).await, plain).await;
    speaks_mqtt(secure.unwrap(), "proxy_tls").await;
    edge.shutdown().await;
    assert!(
        !folder.path().join("mqtt.sock").exists(),
        "the socket's file goes with the node"
    );
}

/// A client may have acknowledged what it has not read, and lose that with the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_the_client_has_the_last_word() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(folder.path());
    let edge = Edge::start(spec(folder.path())).await.unwrap();
    let address = edge.mqtt_addresses()[At::Quic as usize];
    let (connection, mut stream) = quic(address, certificates.client(false, &[b"mqtt"])).await;
    // MQTT 3.1.1 without a client id, for a session that lasts: it is refused.
    let mut body = string(b"MQTT");
    body.extend([4, 0, 0, 0, 0, 0]);
    stream.write_all(&packet(0x10, &body)).await.unwrap();
    assert_eq!(read_packet(&mut stream).await, (0x20, vec![0, 2]));
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert!(
        timeout(OPEN, connection.closed()).await.is_err(),
        "it is open for as long as the client has not ended its half"
    );
    stream.shutdown().await.unwrap();
    timeout(DEADLINE, connection.closed()).await.unwrap();
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_listener_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let _certificates = Certificates::new(folder.path());
    let edge = Edge::start(spec(folder.path())).await.unwrap();
    let addresses = edge.mqtt_addresses();
    let over = [
        "tcp",
        "tcp",
        "tcp+tls",
        "tcp+tls",
        "websocket",
        "websocket+tls",
        "quic",
        "tcp",
        "tcp+tls",
    ];
    let expected = over.iter().zip(addresses);
    let mut expected: Vec<_> = expected
        .map(|(over, address)| format!("{over} {address}"))
        .collect();
    expected.push(format!("unix:{}/mqtt.sock", folder.path().display()));
    assert_eq!(edge.mqtt_listeners(), expected);
    edge.shutdown().await;
}

/// Nothing comes back, and the connection ends.
async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest))
        .await
        .expect("it is closed");
    assert_eq!(rest, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_speak_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(folder.path());
    let edge = Edge::start(spec(folder.path())).await.unwrap();
    let addresses = edge.mqtt_addresses();
    let tcp = async |at: At| TcpStream::connect(addresses[at as usize]).await.unwrap();
    // A client without a certificate learns it with its first read.
    let stranger = tls(tcp(At::MutualTls).await, certificates.client(false, &[])).await;
    if let Ok(mut stranger) = stranger {
        let read = timeout(DEADLINE, stranger.read_u8())
            .await
            .expect("it is closed");
        assert!(read.is_err());
    }
    // No PROXY header before the CONNECT.
    let mut direct = tcp(At::Proxy).await;
    direct
        .write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
        .await
        .unwrap();
    is_closed(&mut direct).await;
    // Plain MQTT to TLS.
    let mut plain = tcp(At::Tls).await;
    plain
        .write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
        .await
        .unwrap();
    let _ = timeout(DEADLINE, plain.read_to_end(&mut Vec::new()))
        .await
        .expect("it is closed");
    let refused = async |path, subprotocol| match websocket(
        tcp(At::WebSocket).await,
        path,
        subprotocol,
    )
    .await
    {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("/", Some("mqtt")).await, 404);
    // [MQTT-6.0.0-3]
    assert_eq!(refused("/mqtt", None).await, 400);
    assert_eq!(refused("/mqtt", Some("amqp")).await, 400);
    // [MQTT-6.0.0-1]
    let (mut frames, response) = upgraded(tcp(At::WebSocket).await).await;
    // [MQTT-6.0.0-4]
    assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt");
    frames.send(Message::text("hello")).await.unwrap();
    let ended = timeout(DEADLINE, async {
        while let Some(Ok(frame)) = frames.next().await {
            assert!(frame.is_close(), "{frame:?}");
        }
    });
    ended.await.expect("a text frame ends the connection");
    let http = edge.http_address();
    let name = "tidegate_mqtt_closed_total{name=\"handshake\"}";
    let closed = tokio::task::spawn_blocking(move || metric(http, name))
        .await
        .unwrap();
    assert_eq!(closed, 6);
    edge.shutdown().await;
}

/// A WebSocket as it is, for who sends what it should not.
async fn upgraded(stream: TcpStream) -> (WebSocketStream<TcpStream>, Response) {
    let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", "mqtt".parse().unwrap());
    tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap()
}

/// Far more than may come in a second, and still little.
const FRAMES: usize = 10_000;

/// Sends one frame again and again; says whether the server ended the connection.
async fn is_ended_by(address: SocketAddr, frame: Message, times: usize) -> bool {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut send, mut receive) = upgraded(stream).await.0.split();
    let sending = async {
        for _ in 0..times {
            if send.send(frame.clone()).await.is_err() {
                return;
            }
        }
        // A CONNECT behind them, to be answered.
        let connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01w";
        let _ = send.send(Message::binary(&connect[..])).await;
    };
    let receiving = async {
        loop {
            match receive.next().await {
                Some(Ok(Message::Binary(_))) => return false,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return true,
            }
        }
    };
    let both = async { tokio::join!(sending, receiving).1 };
    timeout(DEADLINE, both).await.expect("an answer or the end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_frames_that_carry_nothing_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let _certificates = Certificates::new(folder.path());
    let edge = Edge::start(spec(folder.path())).await.unwrap();
    let address = edge.mqtt_addresses()[At::WebSocket as usize];
    for frame in [
        Message::Ping("?".into()),
        Message::Pong("!".into()),
        Message::binary(""),
    ] {
        assert!(!is_ended_by(address, frame.clone(), 50).await, "{frame:?}");
        assert!(
            is_ended_by(address, frame.clone(), FRAMES).await,
            "{frame:?}"
        );
    }
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_under_those_who_are_connected() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(folder.path());
    let edge = Edge::start(spec(folder.path())).await.unwrap();
    let addresses = edge.mqtt_addresses();
    let over_tls = async || {
        let stream = TcpStream::connect(addresses[At::Tls as usize])
            .await
            .unwrap();
        tls(stream, certificates.client(false, &[])).await.unwrap()
    };
    let shown = |stream: &tokio_rustls::client::TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let over_quic = async || {
        let config = certificates.client(false, &[b"mqtt"]);
        let (connection, _stream) = quic(addresses[At::Quic as usize], config).await;
        let chain = connection.peer_identity().unwrap();
        chain.downcast::<Vec<CertificateDer<'static>>>().unwrap()[0].clone()
    };
    let mut old = over_tls().await;
    connect(&mut old, "old").await;
    let first = certificates.certificate("server");
    assert_eq!(
        (shown(&old), over_quic().await),
        (first.clone(), first.clone())
    );

    certificates.sign("server");
    let second = certificates.certificate("server");
    assert_ne!(first, second);
    edge.reload().await;
    assert_eq!(
        (shown(&over_tls().await), over_quic().await),
        (second.clone(), second.clone())
    );
    ping(&mut old).await;

    // What can't be used is not.
    std::fs::write(folder.path().join("server.key"), "nothing").unwrap();
    edge.reload().await;
    assert_eq!(
        (shown(&over_tls().await), over_quic().await),
        (second.clone(), second)
    );
    ping(&mut old).await;

    // And without being told, it is noticed.
    certificates.sign("server");
    let third = certificates.certificate("server");
    let noticed = timeout(2 * DEADLINE, async {
        while shown(&over_tls().await) != third {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    noticed.await.expect("a change of the files is noticed");
    edge.shutdown().await;
}
