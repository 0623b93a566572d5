//! A Kafka client of few lines: requests out, responses in, in their order, over one connection.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A response that says it is longer is none.
const RESPONSE_BYTES_MAX: usize = 256 << 20;

const METADATA_VERSION: i16 = 5;

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    pub async fn ask<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> anyhow::Result<R::Response> {
        self.send(&encode(version, request)?).await?;
        self.receive::<R>(version).await
    }

    pub async fn send(&mut self, encoded: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(encoded).await?)
    }

    /// Until there is something of a response; may be given up at any time.
    pub async fn answered(&self) -> anyhow::Result<()> {
        let there = self.stream.peek(&mut [0]).await?;
        ensure!(there > 0, "the server closed the connection");
        Ok(())
    }

    /// The next response, which is to a request of that kind.
    pub async fn receive<R: Request>(&mut self, version: i16) -> anyhow::Result<R::Response> {
        let length = self.stream.read_u32().await? as usize;
        ensure!(length <= RESPONSE_BYTES_MAX, "a response of {length} bytes");
        let mut response = BytesMut::with_capacity(length);
        while response.len() < length {
            let mut rest = (&mut self.stream).take((length - response.len()) as u64);
            let read = rest.read_buf(&mut response).await?;
            ensure!(read > 0, "the server closed the connection");
        }
        let mut response = response.freeze();
        ResponseHeader::decode(&mut response, R::Response::header_version(version))?;
        R::Response::decode(&mut response, version)
    }

    /// A topic's partitions, by number.
    pub async fn partitions(&mut self, topic: &str) -> anyhow::Result<Vec<i32>> {
        let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![asked]))
            .with_allow_auto_topic_creation(false);
        let metadata = self.ask(METADATA_VERSION, &request).await?;
        let topic = metadata.topics.first().context("no topic is answered")?;
        ensure!(
            topic.error_code == 0,
            "error {} for the topic",
            topic.error_code
        );
        let led = topic
            .partitions
            .iter()
            .filter(|partition| partition.leader_id.0 >= 0);
        let mut numbers: Vec<i32> = led.map(|partition| partition.partition_index).collect();
        ensure!(
            numbers.len() == topic.partitions.len(),
            "a partition has no leader yet"
        );
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// A whole request, its length included.
pub fn encode<R: Request>(version: i16, request: &R) -> anyhow::Result<Bytes> {
    let key = ApiKey::try_from(R::KEY).map_err(|()| anyhow::anyhow!("no API {}", R::KEY))?;
    let mut out = BytesMut::new();
    out.put_u32(0);
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("log-load")))
        .encode(&mut out, key.request_header_version(version))?;
    request.encode(&mut out, version)?;
    let length = u32::try_from(out.len() - 4)?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out.freeze())
}

pub fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
