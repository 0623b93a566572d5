//! Who comes in, and who does not: SASL on Kafka listeners, tokens and passwords on HTTP, and users through both.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod http;
mod rights;
mod sasl;
mod users;

use std::net::SocketAddr;

use kafka_protocol::messages::{
    ApiKey, MetadataRequest, RequestKind, ResponseKind, SaslAuthenticateRequest,
    SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use support::Client;
use tidegate_cloud::Cloud;
use tidegate_shared::scram::Mechanism;
use tidegate_shared::scram::client::{client_final, server_final};
use tokio::net::TcpStream;

/// Two listeners: one for all, and one that wants SASL.
const LISTENERS: &str = "listeners: [{address: 127.0.0.1:0}, \
    {address: 127.0.0.1:0, authentication: sasl, sasl_mechanisms: [SCRAM-SHA-256, SCRAM-SHA-512, PLAIN]}]";

async fn start(data: &std::path::Path) -> Cloud {
    start_with(data, LISTENERS, "").await
}

async fn start_with(data: &std::path::Path, kafka: &str, http: &str) -> Cloud {
    let yaml = format!(
        "{{data: {}, kafka: {{{kafka}}}, http: {{address: 127.0.0.1:0{http}}}, \
         bridge: {{address: 127.0.0.1:0}}, topics: [{{name: telemetry, partitions: 3}}], \
         authorization: {{allow_everyone_if_no_acl_found: true}}}}",
        data.display()
    );
    let config = tidegate_cloud::Config::parse(&yaml).unwrap();
    Box::pin(Cloud::start(config)).await.unwrap()
}

async fn connect(address: SocketAddr) -> Client {
    let stream = TcpStream::connect(address).await.unwrap();
    Client { stream }
}

/// To the listener that wants SASL.
async fn at_the_gate(cloud: &Cloud) -> Client {
    connect(cloud.kafka_addresses()[1]).await
}

async fn handshake(client: &mut Client, mechanism: &str) -> SaslHandshakeResponse {
    let mechanism = StrBytes::from_string(mechanism.to_owned());
    let request = SaslHandshakeRequest::default().with_mechanism(mechanism);
    let request = RequestKind::SaslHandshake(request);
    match client.ask(ApiKey::SaslHandshake, 1, request).await {
        ResponseKind::SaslHandshake(response) => response,
        other => panic!("{other:?}"),
    }
}

async fn authenticate(client: &mut Client, token: &str) -> SaslAuthenticateResponse {
    let token = token.as_bytes().to_vec().into();
    let request = SaslAuthenticateRequest::default().with_auth_bytes(token);
    let request = RequestKind::SaslAuthenticate(request);
    match client.ask(ApiKey::SaslAuthenticate, 2, request).await {
        ResponseKind::SaslAuthenticate(response) => response,
        other => panic!("{other:?}"),
    }
}

/// The code at the end.
async fn by_scram(client: &mut Client, mechanism: Mechanism, name: &str, password: &str) -> i16 {
    assert_eq!(handshake(client, mechanism.name()).await.error_code, 0);
    let bare = format!("n={name},r=abc");
    let first = authenticate(client, &format!("n,,{bare}")).await;
    assert_eq!(first.error_code, 0);
    let server_first = String::from_utf8(first.auth_bytes.to_vec()).unwrap();
    let last = client_final(mechanism, password, &bare, &server_first, "n,,");
    let done = authenticate(client, &last).await;
    if done.error_code == 0 {
        let proof = server_final(mechanism, password, &bare, &server_first, &last);
        assert_eq!(
            done.auth_bytes,
            proof.as_bytes(),
            "the server proves itself"
        );
        assert_eq!(done.session_lifetime_ms, 0);
    }
    done.error_code
}

async fn by_plain(client: &mut Client, name: &str, password: &str) -> SaslAuthenticateResponse {
    assert_eq!(handshake(client, "PLAIN").await.error_code, 0);
    authenticate(client, &format!("\0{name}\0{password}")).await
}

/// The address that the client is told to use.
async fn told(client: &mut Client) -> String {
    let request = RequestKind::Metadata(MetadataRequest::default());
    let ResponseKind::Metadata(response) = client.ask(ApiKey::Metadata, 12, request).await else {
        panic!("no metadata");
    };
    let broker = &response.brokers[0];
    format!("{}:{}", broker.host, broker.port)
}

async fn add_user(cloud: &Cloud, name: &str, password: &str) {
    let body = format!("{{\"user\": {name:?}, \"password\": {password:?}}}");
    let (status, answer) = support::http::ask(cloud, "POST", "/users", &body).await;
    assert_eq!(status, 200, "{answer}");
}
