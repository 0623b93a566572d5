//! Real QUIC over loopback: frames both ways, and strangers turned away.

#![allow(
    clippy::unwrap_used,
    reason = "helpers outside a test function are tests too"
)]

use std::net::SocketAddr;

use tidegate_bridge::{Credentials, Dialer, EdgeFiles, HubAuthority, Listener};
use tidegate_bridge_protocol::frame::{Frame, Ping};
use tidegate_shared::id::EdgeId;

fn credentials(files: &EdgeFiles) -> Credentials {
    Credentials::load(&files.certificate, &files.key, &files.ca).unwrap()
}

fn listener(authority: &HubAuthority) -> (Listener, SocketAddr) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(any, authority.hub_credentials().unwrap()).unwrap();
    let address = listener.local_address().unwrap();
    (listener, address)
}

#[tokio::test]
async fn frames_go_both_ways_between_an_edge_and_its_hub() {
    let folder = tempfile::tempdir().unwrap();
    let authority = HubAuthority::open(folder.path().join("cloud")).unwrap();
    let edge = EdgeId::new("plant-7").unwrap();
    let files = authority
        .issue_edge(&edge, &folder.path().join("edge"))
        .unwrap();
    let (listener, address) = listener(&authority);
    let hub = tokio::spawn(async move {
        let (edge, mut connection) = listener.next().await.unwrap().accept().await.unwrap();
        let from_control = connection.control_in.read().await.unwrap();
        let from_bulk = connection.bulk_in.as_mut().unwrap().read().await.unwrap();
        connection
            .control_out
            .write(&Frame::Ping(Ping { nonce: 3 }))
            .await
            .unwrap();
        connection.control_out.flush().await.unwrap();
        connection.handle.closed().await;
        (edge, from_control, from_bulk)
    });
    let mut dialer = Dialer::new(credentials(&files)).unwrap();
    let mut connection = dialer.connect(address).await.unwrap();
    connection
        .control_out
        .write(&Frame::Ping(Ping { nonce: 1 }))
        .await
        .unwrap();
    connection.control_out.flush().await.unwrap();
    let bulk = connection.bulk_out.as_mut().unwrap();
    bulk.write(&Frame::Ping(Ping { nonce: 2 })).await.unwrap();
    bulk.flush().await.unwrap();
    assert_eq!(
        connection.control_in.read().await.unwrap(),
        Frame::Ping(Ping { nonce: 3 })
    );
    connection.handle.close(
        tidegate_bridge_protocol::reply_code::CloseCode::Shutdown,
        "done",
    );
    let (who, from_control, from_bulk) = hub.await.unwrap();
    assert_eq!(who, edge);
    assert_eq!(from_control, Frame::Ping(Ping { nonce: 1 }));
    assert_eq!(from_bulk, Frame::Ping(Ping { nonce: 2 }));
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    let ours = HubAuthority::open(folder.path().join("ours")).unwrap();
    let theirs = HubAuthority::open(folder.path().join("theirs")).unwrap();
    let edge = EdgeId::new("plant-7").unwrap();
    let stranger = theirs
        .issue_edge(&edge, &folder.path().join("edge"))
        .unwrap();
    // The stranger trusts our CA, so that it is the hub that must refuse.
    let stranger = EdgeFiles {
        ca: folder.path().join("ours/ca.crt"),
        ..stranger
    };
    let (listener, address) = listener(&ours);
    let hub = tokio::spawn(async move { listener.next().await.unwrap().accept().await.map(drop) });
    let mut dialer = Dialer::new(credentials(&stranger)).unwrap();
    if let Ok(mut connection) = dialer.connect(address).await {
        assert!(connection.control_in.read().await.is_err());
    }
    assert!(hub.await.unwrap().is_err());
}
