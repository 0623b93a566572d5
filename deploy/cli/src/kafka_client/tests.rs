//! The client against a real cloud node in this process. What arrives through an edge is tested with
//! the whole of `up`.

use std::net::SocketAddr;
use std::path::Path;

use kafka_protocol::ResponseError;
use tidegate_cloud::{Cloud, Config};
use tidegate_shared::id::TopicName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::{ClientError, Consumer, StartAt};

async fn cloud(data: &Path) -> Cloud {
    let yaml = format!(
        "{{data: {}, kafka: {{address: 127.0.0.1:0}}, http: {{address: 127.0.0.1:0}}, \
         bridge: {{address: 127.0.0.1:0}}, topics: [{{name: telemetry, partitions: 3}}]}}",
        data.display()
    );
    let config = Config::parse(&yaml).unwrap();
    Box::pin(Cloud::start(config)).await.unwrap()
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

#[tokio::test]
async fn an_empty_topic_is_read_and_a_missing_one_named() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud(folder.path()).await;
    let address = cloud.kafka_address();
    for start in [StartAt::Beginning, StartAt::End] {
        let mut consumer = Consumer::connect(address, topic("telemetry"), start)
            .await
            .unwrap();
        assert_eq!(consumer.poll().await.unwrap(), vec![]);
        consumer.reconnect().await.unwrap();
        assert_eq!(consumer.poll().await.unwrap(), vec![]);
    }
    let missing = Consumer::connect(address, topic("other"), StartAt::End).await;
    assert!(
        matches!(
            missing,
            Err(ClientError::Refused {
                error: ResponseError::UnknownTopicOrPartition,
                ..
            })
        ),
        "{missing:?}"
    );
    cloud.shutdown().await;
    let gone = Consumer::connect(address, topic("telemetry"), StartAt::End).await;
    assert!(matches!(gone, Err(ClientError::Connect { .. })), "{gone:?}");
}

/// A listener that answers each connection with `answer` and closes it.
async fn liar(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(answer).await;
        }
    });
    address
}

#[tokio::test]
async fn a_listener_that_is_no_kafka_is_an_error_and_no_panic() {
    let huge = liar(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = Consumer::connect(huge, topic("telemetry"), StartAt::End).await;
    assert!(
        matches!(error, Err(ClientError::TooLarge { .. })),
        "{error:?}"
    );
    let short = liar(b"\0\0\0\x05\0\0\0\x01").await;
    let error = Consumer::connect(short, topic("telemetry"), StartAt::End).await;
    assert!(
        matches!(error, Err(ClientError::Broken { .. })),
        "{error:?}"
    );
    let other = liar(b"\0\0\0\x05\0\0\0\x09\0").await;
    let error = Consumer::connect(other, topic("telemetry"), StartAt::End).await;
    assert!(
        matches!(error, Err(ClientError::Protocol { .. })),
        "{error:?}"
    );
}
