#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConnection};

use super::*;

/// Files of a CA, and of a server's and a client's certificate.
fn files(folder: &Path, with_clients: bool) -> TlsSpec {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(folder.join("ca"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let own = own.signed_by(&key, &issuer).unwrap();
        fs::write(folder.join(name), own.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    TlsSpec {
        certificate: folder.join("server"),
        key: folder.join("server.key"),
        client_ca: with_clients.then(|| folder.join("ca")),
        client_certificates: ClientCertificates::Required,
    }
}

/// A client that resumes where it can.
fn client(folder: &Path, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in certificates(&folder.join("ca")).unwrap() {
        roots.add(root).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[version]).unwrap();
    let own = certificates(&folder.join("client")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("client.key")).unwrap();
    let config = builder.with_root_certificates(roots);
    Arc::new(config.with_client_auth_cert(own, key).unwrap())
}

/// Shakes hands, and says how.
fn connect(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> HandshakeKind {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().unwrap();
    }
    client.handshake_kind().expect("it has come to its end")
}

/// Who resumes shows no certificate: where one is wanted, each connection shows it anew. (Without, resuming works.)
#[test]
fn a_client_that_has_to_show_a_certificate_shows_it_each_time() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (with_clients, again) in [(false, HandshakeKind::Resumed), (true, HandshakeKind::Full)]
        {
            let folder = tempfile::tempdir().unwrap();
            let files = files(folder.path(), with_clients);
            let server = Arc::new(configure(&files, &TlsOptions::default()).unwrap());
            let client = client(folder.path(), version);
            assert_eq!(connect(&client, &server), HandshakeKind::Full);
            assert_eq!(connect(&client, &server), again, "{version:?}");
        }
    }
}

/// Backups and `cp -p` keep a file's time.
#[test]
fn a_file_that_is_replaced_with_its_time_kept_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let served = files(folder.path(), false);
    let server = ServerTls::load(&served, TlsOptions::default()).unwrap();
    assert_eq!(server.reload(false), Reloaded::Unchanged);
    let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let times = [&served.certificate, &served.key].map(|path| modified(path));
    files(folder.path(), false);
    for (path, time) in [&served.certificate, &served.key].iter().zip(times) {
        File::open(path).unwrap().set_modified(time).unwrap();
        assert_eq!(modified(path), time);
    }
    assert_eq!(server.reload(false), Reloaded::Renewed);
    assert_eq!(server.reload(false), Reloaded::Unchanged);
}
