//! The API under `/api/v1` over real HTTP, by a client of a few lines.

use serde_json::Value;
use tidegate_cloud::Cloud;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Status and body, as JSON where it is some.
pub async fn ask(cloud: &Cloud, method: &str, path: &str, body: &str) -> (u16, Value) {
    let (status, text) = ask_text(cloud, method, path, body).await;
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

pub async fn ask_text(cloud: &Cloud, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(cloud.http_address()).await.unwrap();
    // Version 1.0: the body comes in one piece, and its end is the connection's.
    let request = format!(
        "{method} /api/v1{path} HTTP/1.0\r\nHost: x\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

pub async fn get(cloud: &Cloud, path: &str) -> Value {
    let (status, answer) = ask(cloud, "GET", path, "").await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}
