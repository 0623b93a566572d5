//! Tokens and passwords on HTTP, and the users that have them.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Status and body; `shown` is the header's value.
pub(super) async fn ask(
    cloud: &Cloud,
    method: &str,
    path: &str,
    shown: &str,
    body: &str,
) -> (u16, Value) {
    let mut stream = TcpStream::connect(cloud.http_address()).await.unwrap();
    let shown = match shown {
        "" => String::new(),
        shown => format!("Authorization: {shown}\r\n"),
    };
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: x\r\n{shown}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = serde_json::from_str(body).unwrap_or(Value::String(body.to_owned()));
    (status, body)
}

pub(super) fn basic(pair: &str) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {encoded}")
}

pub(super) fn administrator(data: &std::path::Path) -> String {
    let path = data.join("admin-token");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only the cloud's own user reads it");
    let token = std::fs::read_to_string(path).unwrap();
    format!("Bearer {}", token.trim())
}

const USERS: &str = "/api/v1/users";

#[tokio::test]
async fn only_who_is_known_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start_with(
        folder.path(),
        "address: 127.0.0.1:0",
        ", authentication: users",
    )
    .await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(&cloud, "GET", path, "", "").await.0, 200, "{path}");
    }
    for path in ["/metrics", USERS, "/api/v1/topics", "/api/v1/nothing"] {
        let (status, answer) = ask(&cloud, "GET", path, "", "").await;
        assert_eq!(status, 401, "{path}");
        assert!(
            answer["error"].as_str().unwrap().contains("--token"),
            "{answer}"
        );
    }
    let admin = administrator(folder.path());
    let made = ask(
        &cloud,
        "POST",
        USERS,
        &admin,
        r#"{"user": "ada", "password": "pen:cil"}"#,
    );
    assert_eq!(made.await.0, 200);
    let (status, token) = ask(&cloud, "POST", "/api/v1/users/ada/tokens", &admin, "{}").await;
    assert_eq!(status, 200, "{token}");
    let token = format!("bearer {}", token["secret"].as_str().unwrap());
    for shown in [&admin, &token, &basic("ada:pen:cil")] {
        assert_eq!(ask(&cloud, "GET", "/metrics", shown, "").await.0, 200);
    }
    let wrong = [
        basic("ada:pencil"),
        basic("nobody:pen:cil"),
        basic("ada"),
        "Basic !".to_owned(),
        "Bearer tidegate_".to_owned(),
        "Digest x".to_owned(),
        token[..token.len() - 1].to_owned(),
    ];
    for shown in &wrong {
        assert_eq!(
            ask(&cloud, "GET", "/metrics", shown, "").await.0,
            401,
            "{shown}"
        );
    }
    let metrics = ask(&cloud, "GET", "/metrics", &admin, "").await.1;
    let line = "tidegate_failed_authentications_total{door=\"http\"} 11";
    assert!(metrics.as_str().unwrap().contains(line), "{metrics}");
    cloud.shutdown().await;

    // Users and their tokens stay; the administrator's token is another one.
    let cloud = start_with(
        folder.path(),
        "address: 127.0.0.1:0",
        ", authentication: users",
    )
    .await;
    assert_eq!(ask(&cloud, "GET", "/metrics", &token, "").await.0, 200);
    assert_eq!(ask(&cloud, "GET", "/metrics", &admin, "").await.0, 401);
    let admin = administrator(folder.path());
    assert_eq!(
        ask(&cloud, "DELETE", "/api/v1/users/ada", &admin, "")
            .await
            .0,
        200
    );
    for shown in [&token, &basic("ada:pen:cil")] {
        assert_eq!(ask(&cloud, "GET", "/metrics", shown, "").await.0, 401);
    }
    cloud.shutdown().await;
}

#[tokio::test]
async fn where_nobody_must_say_who_they_are_what_is_said_must_be_true() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start_with(folder.path(), "address: 127.0.0.1:0", "").await;
    assert_eq!(ask(&cloud, "GET", "/metrics", "", "").await.0, 200);
    let admin = administrator(folder.path());
    assert_eq!(ask(&cloud, "GET", "/metrics", &admin, "").await.0, 200);
    assert_eq!(
        ask(&cloud, "GET", "/metrics", "Bearer wrong", "").await.0,
        401
    );
    cloud.shutdown().await;
}

#[tokio::test]
async fn users_are_made_shown_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start_with(folder.path(), "address: 127.0.0.1:0", "").await;
    let ask = |method, path: &'static str, body| {
        let cloud = &cloud;
        async move { ask(cloud, method, path, "", body).await }
    };
    assert_eq!(
        ask("POST", USERS, r#"{"user": "ada", "password": "pencil"}"#)
            .await
            .0,
        200
    );
    for (method, path, body, status, why) in [
        (
            "POST",
            USERS,
            r#"{"user": "ada", "password": "chalk"}"#,
            409,
            "there already",
        ),
        (
            "POST",
            USERS,
            r#"{"user": "", "password": "chalk"}"#,
            400,
            "1 to 255 bytes",
        ),
        (
            "POST",
            USERS,
            r#"{"user": "bob", "password": ""}"#,
            400,
            "empty",
        ),
        ("DELETE", "/api/v1/users/bob", "", 404, "no user bob"),
        (
            "PUT",
            "/api/v1/users/bob/password",
            r#"{"password": "x"}"#,
            404,
            "no user bob",
        ),
        ("POST", "/api/v1/users/bob/tokens", "{}", 404, "no user bob"),
        (
            "POST",
            "/api/v1/users/ada/tokens",
            r#"{"token": "a b"}"#,
            400,
            "a-z",
        ),
        (
            "DELETE",
            "/api/v1/users/ada/tokens/ci",
            "",
            404,
            "no such token",
        ),
    ] {
        let (found, answer) = ask(method, path, body).await;
        assert_eq!(found, status, "{method} {path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(why), "{answer}");
    }
    let (_, made) = ask("POST", USERS, r#"{"user": "robot"}"#).await;
    assert!(
        made["token"].as_str().unwrap().starts_with("tidegate_"),
        "{made}"
    );
    assert_eq!(
        ask("POST", "/api/v1/users/ada/tokens", r#"{"token": "ci"}"#)
            .await
            .0,
        200
    );
    let (_, all) = ask("GET", USERS, "").await;
    let [ada, robot] = &all["users"].as_array().unwrap()[..] else {
        panic!("{all}");
    };
    let passwords = json!([
        {"mechanism": "SCRAM-SHA-256", "iterations": 8192},
        {"mechanism": "SCRAM-SHA-512", "iterations": 8192},
    ]);
    assert_eq!(
        (&ada["user"], &ada["passwords"]),
        (&json!("ada"), &passwords)
    );
    assert_eq!(ada["tokens"][0]["token"], "ci");
    assert_eq!(
        (&robot["user"], &robot["passwords"]),
        (&json!("robot"), &json!([]))
    );
    let shown = all.to_string();
    assert!(
        !shown.contains("tidegate_") && !shown.contains("pencil"),
        "{shown}"
    );
    assert_eq!(
        ask("DELETE", "/api/v1/users/ada/tokens/ci", "").await.0,
        200
    );
    let (_, all) = ask("GET", USERS, "").await;
    assert_eq!(all["users"][0]["tokens"], json!([]));
    cloud.shutdown().await;
}
