//! A node of few lines: it answers what it was told, and says what it was asked.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::show::{cell, table, time};
use super::{Client, segment};

/// Answers requests in turn with `status` and body; gives what was asked of it.
pub(crate) fn answering(answers: Vec<(u16, String)>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            asked.push(request(&mut stream));
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
        asked
    });
    (url, thread)
}

/// The request line, and the body behind a space.
fn request(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    let line = head.lines().next().unwrap();
    format!("{line} {}", String::from_utf8(body).unwrap())
}

fn client(url: &str) -> Client {
    Client::new(url, "cloud", "--cloud").unwrap()
}

#[test]
fn what_is_asked_and_answered_arrives() {
    let answers = vec![(200, r#"{"a":1}"#.to_owned()), (200, "{}".to_owned())];
    let (url, node) = answering(answers);
    let client = client(&url);
    let query = [("topic", "a b/#".to_owned()), ("offset", "7".to_owned())];
    let answer = client.get("/api/v1/x", &query).unwrap();
    assert_eq!(answer, json!({"a": 1}));
    client.post("/y", &json!({"edge": "e"})).unwrap();
    let asked = node.join().unwrap();
    assert_eq!(
        asked[0],
        "GET /api/v1/x?topic=a%20b%2F%23&offset=7 HTTP/1.1 "
    );
    assert_eq!(asked[1], r#"POST /y HTTP/1.1 {"edge":"e"}"#);
}

#[test]
fn every_failure_says_what_to_do() {
    let (url, node) = answering(vec![
        (404, r#"{"error":"there is no topic x"}"#.to_owned()),
        (200, "<html>".to_owned()),
    ]);
    let said = |error: anyhow::Error| error.to_string();
    let client = client(&url);
    assert_eq!(
        said(client.get("/", &[]).unwrap_err()),
        "there is no topic x"
    );
    let other = said(client.get("/", &[]).unwrap_err());
    assert!(other.contains("is the address right?"), "{other}");
    node.join().unwrap();
    let away = said(client.get("/", &[]).unwrap_err());
    assert!(
        away.contains("is it running?") && away.contains("--cloud"),
        "{away}"
    );
    let wrong = Client::new("ftp://x", "cloud", "--cloud").unwrap_err();
    assert!(said(wrong).contains("http://127.0.0.1:8080"));
}

#[test]
fn columns_are_aligned_and_numbers_to_the_right() {
    let rows = [["alarms", "12"], ["telemetry", "-"], ["ü", "3"]];
    let rows = rows.map(|row| row.map(str::to_owned));
    let expected = "STREAM     NEXT\nalarms       12\ntelemetry     -\nü             3";
    assert_eq!(table(["STREAM", "NEXT"], &rows), expected);
}

#[test]
fn cells_are_fit_for_a_terminal() {
    assert_eq!(cell(&json!("\u{1b}[2J")), "\\u{1b}[2J");
    assert_eq!(
        (cell(&Value::Null), cell(&json!(true))),
        ("-".into(), "yes".into())
    );
    assert_eq!(time(&json!(1_700_000_000_123_u64)), "2023-11-14 22:13:20Z");
    assert_eq!(
        (time(&Value::Null), time(&json!(u64::MAX))),
        ("-".into(), u64::MAX.to_string())
    );
}

#[test]
fn a_path_holds_whatever_was_typed() {
    assert_eq!(segment("a/../b?c#1"), "a%2F..%2Fb%3Fc%231");
}
