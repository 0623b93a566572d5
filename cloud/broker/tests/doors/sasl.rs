//! The gate of a Kafka listener, over a socket.

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader};
use kafka_protocol::protocol::Encodable;

use super::*;

const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const ILLEGAL_SASL_STATE: i16 = 34;
const SASL_AUTHENTICATION_FAILED: i16 = 58;

#[tokio::test]
async fn a_user_comes_in_by_each_mechanism() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    add_user(&cloud, "ada", "pencil").await;
    for mechanism in Mechanism::ALL {
        let mut client = at_the_gate(&cloud).await;
        assert_eq!(by_scram(&mut client, mechanism, "ada", "pencil").await, 0);
        // Each listener tells its own address.
        assert_eq!(
            told(&mut client).await,
            cloud.kafka_addresses()[1].to_string()
        );
    }
    // The second time the password is known.
    for _ in 0..2 {
        let mut client = at_the_gate(&cloud).await;
        assert_eq!(by_plain(&mut client, "ada", "pencil").await.error_code, 0);
        told(&mut client).await;
    }
    let mut open = connect(cloud.kafka_addresses()[0]).await;
    assert_eq!(
        told(&mut open).await,
        cloud.kafka_addresses()[0].to_string()
    );
    cloud.shutdown().await;
}

#[tokio::test]
async fn who_cannot_prove_it_is_told_so_late_and_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    add_user(&cloud, "ada", "pencil").await;
    for (name, password) in [("ada", "Pencil"), ("nobody", "pencil")] {
        let mut client = at_the_gate(&cloud).await;
        let begun = Instant::now();
        let code = by_scram(&mut client, Mechanism::Sha512, name, password).await;
        assert_eq!(code, SASL_AUTHENTICATION_FAILED);
        assert!(
            begun.elapsed() >= Duration::from_millis(100),
            "guessing is slow"
        );
        assert_eq!(client.receive().await, None, "there is no second try");
        let mut client = at_the_gate(&cloud).await;
        let failed = by_plain(&mut client, name, password).await;
        assert_eq!(failed.error_code, SASL_AUTHENTICATION_FAILED);
        let why = failed.error_message.unwrap();
        assert_eq!(
            why.as_str(),
            "Authentication failed: Invalid username or password"
        );
        assert_eq!(client.receive().await, None);
    }
    let failed = cloud.broker().metrics().encode();
    let line = "tidegate_failed_authentications_total{door=\"kafka\"} 4";
    assert!(failed.contains(line), "{failed}");
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_password_that_is_changed_is_wrong_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    add_user(&cloud, "ada", "pencil").await;
    let mut client = at_the_gate(&cloud).await;
    assert_eq!(by_plain(&mut client, "ada", "pencil").await.error_code, 0);
    let body = "{\"password\": \"chalk\"}";
    let changed = support::http::ask(&cloud, "PUT", "/users/ada/password", body).await;
    assert_eq!(changed.0, 200, "{}", changed.1);
    for (password, code) in [("pencil", SASL_AUTHENTICATION_FAILED), ("chalk", 0)] {
        let mut client = at_the_gate(&cloud).await;
        assert_eq!(
            by_plain(&mut client, "ada", password).await.error_code,
            code
        );
    }
    cloud.shutdown().await;
}

#[tokio::test]
async fn nothing_else_is_served_before() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let mut client = at_the_gate(&cloud).await;
    let request = RequestKind::ApiVersions(ApiVersionsRequest::default());
    let versions = client.ask(ApiKey::ApiVersions, 0, request).await;
    assert!(matches!(versions, ResponseKind::ApiVersions(_)));
    let mut metadata = BytesMut::new();
    let header = RequestHeader::default().with_request_api_key(ApiKey::Metadata as i16);
    header
        .with_request_api_version(1)
        .encode(&mut metadata, 1)
        .unwrap();
    metadata.put_i32(-1);
    client.send(&metadata).await;
    assert_eq!(client.receive().await, None);

    let mut client = at_the_gate(&cloud).await;
    let refused = handshake(&mut client, "GSSAPI").await;
    assert_eq!(refused.error_code, UNSUPPORTED_SASL_MECHANISM);
    let offered: Vec<_> = refused.mechanisms.iter().map(|one| one.as_str()).collect();
    assert_eq!(offered, ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"]);
    assert_eq!(client.receive().await, None);

    let mut client = at_the_gate(&cloud).await;
    let mut early = BytesMut::new();
    let header = RequestHeader::default().with_request_api_key(ApiKey::SaslAuthenticate as i16);
    header.encode(&mut early, 1).unwrap();
    early.put_i32(14);
    early.put_slice(b"n,,n=ada,r=abc");
    client.send(&early).await;
    assert_eq!(client.receive().await, None);

    let mut client = at_the_gate(&cloud).await;
    assert_eq!(handshake(&mut client, "PLAIN").await.error_code, 0);
    let again = handshake(&mut client, "PLAIN").await;
    assert_eq!(again.error_code, ILLEGAL_SASL_STATE);
    assert!(again.mechanisms.is_empty());
    assert_eq!(client.receive().await, None);

    // A length that no token has.
    let mut client = at_the_gate(&cloud).await;
    let length = 1_u32 << 20;
    tokio::io::AsyncWriteExt::write_u32(&mut client.stream, length)
        .await
        .unwrap();
    assert_eq!(client.receive().await, None);
    cloud.shutdown().await;
}

#[tokio::test]
async fn who_is_in_or_was_not_asked_does_not_authenticate() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    add_user(&cloud, "ada", "pencil").await;
    let mut known = at_the_gate(&cloud).await;
    assert_eq!(by_plain(&mut known, "ada", "pencil").await.error_code, 0);
    let open = connect(cloud.kafka_addresses()[0]).await;
    for mut client in [known, open] {
        let refused = handshake(&mut client, "PLAIN").await;
        assert_eq!(refused.error_code, ILLEGAL_SASL_STATE);
        let refused = authenticate(&mut client, "\0ada\0pencil").await;
        assert_eq!(refused.error_code, ILLEGAL_SASL_STATE);
        told(&mut client).await;
    }
    cloud.shutdown().await;
}

/// As clients of before Kafka 1.0 do it: tokens without requests around them.
#[tokio::test]
async fn the_old_handshake_is_followed_by_bare_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    add_user(&cloud, "ada", "pencil").await;
    for (password, is_in) in [("pencil", true), ("Pencil", false)] {
        let mut client = at_the_gate(&cloud).await;
        let mechanism = StrBytes::from_static_str("PLAIN");
        let request = SaslHandshakeRequest::default().with_mechanism(mechanism);
        let request = RequestKind::SaslHandshake(request);
        client.ask(ApiKey::SaslHandshake, 0, request).await;
        client.send(format!("\0ada\0{password}").as_bytes()).await;
        let answer = client.receive().await;
        assert_eq!(answer.map(|token| token.len()), is_in.then_some(0));
        if is_in {
            told(&mut client).await;
        }
    }
    cloud.shutdown().await;
}
