//! What who comes in by HTTP may do there: the same rules as for Kafka clients.

use serde_json::{Value, json};
use tidegate_cloud::Cloud;

use super::http::{administrator, ask, basic};

async fn closed(data: &std::path::Path) -> Cloud {
    let yaml = format!(
        "{{data: {}, kafka: {{address: 127.0.0.1:0}}, http: {{address: 127.0.0.1:0, authentication: users}}, \
         bridge: {{address: 127.0.0.1:0}}, topics: [{{name: telemetry, partitions: 1}}, {{name: orders, partitions: 1}}]}}",
        data.display()
    );
    let config = tidegate_cloud::Config::parse(&yaml).unwrap();
    Box::pin(Cloud::start(config)).await.unwrap()
}

/// A user whose password is its name twice.
async fn add_user(cloud: &Cloud, admin: &str, name: &str) -> String {
    let password = format!("{name}-{name}-password");
    let body = json!({ "user": name, "password": password }).to_string();
    let (status, answer) = ask(cloud, "POST", "/api/v1/users", admin, &body).await;
    assert_eq!(status, 200, "{answer}");
    basic(&format!("{name}:{password}"))
}

#[tokio::test]
async fn who_has_no_right_is_refused_on_every_path() {
    let data = tempfile::tempdir().unwrap();
    let cloud = closed(data.path()).await;
    let admin = administrator(data.path());
    let bob = add_user(&cloud, &admin, "bob").await;
    let (_, description) = ask(&cloud, "GET", "/api/v1/openapi.json", &bob, "").await;
    let mut count = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let lists = [("GET", "/api/v1/topics"), ("GET", "/api/v1/groups")];
            if lists.contains(&(&method, path)) {
                let (status, answer) = ask(&cloud, &method, path, &bob, "").await;
                let all = answer["topics"].as_array().or(answer["groups"].as_array());
                assert_eq!((status, all.unwrap().len()), (200, 0), "{answer}");
                continue;
            }
            if path == "/api/v1/openapi.json" {
                continue;
            }
            // Right for each path that looks into what is sent before it asks.
            let body = json!({
                "name": "new", "partitions": 1, "records": [{"value": "1"}], "topic": "telemetry", "to": "end",
            });
            let body = match path.as_str() {
                "/api/v1/topics" => json!({"name": "new", "partitions": 1}),
                "/api/v1/groups/{group}/offsets" => json!({"topic": "telemetry", "to": "end"}),
                "/api/v1/offsets/groups/{group}" => {
                    json!({"edge": "press-4", "stream": "telemetry", "offset": 0})
                }
                "/api/v1/topics/{topic}/records" => json!({"records": [{"value": "1"}]}),
                _ => body,
            };
            let named = path
                .replace("{topic}", "telemetry")
                .replace("{group}", "readers");
            let named = named.replace("{user}", "ada").replace("{token}", "ci");
            let named = named.replace("{edge}", "press-4");
            let (status, answer) = ask(&cloud, &method, &named, &bob, &body.to_string()).await;
            assert_eq!(status, 403, "{method} {path}: {answer}");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_rule_opens_what_it_says_and_no_more() {
    let data = tempfile::tempdir().unwrap();
    let cloud = closed(data.path()).await;
    let admin = administrator(data.path());
    let ada = add_user(&cloud, &admin, "ada").await;
    for operation in ["read", "write"] {
        let rule = json!({
            "resource_type": "topic", "resource_name": "telemetry", "pattern_type": "literal",
            "principal": "User:ada", "operation": operation, "permission": "allow",
        });
        let body = json!({ "rules": [rule] }).to_string();
        let (status, answer) = ask(&cloud, "POST", "/api/v1/acls", &admin, &body).await;
        assert_eq!(status, 200, "{answer}");
    }
    let (_, topics) = ask(&cloud, "GET", "/api/v1/topics", &ada, "").await;
    let names: Vec<&Value> = topics["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["topic"])
        .collect();
    assert_eq!(names, ["telemetry"], "the other one is not seen");
    let record = json!({"records": [{"value": "1"}]}).to_string();
    for (method, path, body, expected) in [
        ("POST", "/api/v1/topics/telemetry/records", &*record, 200),
        ("GET", "/api/v1/topics/telemetry/records", "", 200),
        ("POST", "/api/v1/topics/orders/records", &*record, 403),
        ("GET", "/api/v1/topics/orders/records", "", 403),
        ("DELETE", "/api/v1/topics/telemetry", "", 403),
        ("GET", "/api/v1/topics/telemetry", "", 403),
        ("GET", "/api/v1/users", "", 403),
        ("HEAD", "/api/v1/users", "", 403),
        ("PUT", "/api/v1/users", "", 403),
        ("GET", "/metrics", "", 200),
    ] {
        let (status, answer) = ask(&cloud, method, path, &ada, body).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
    }
    let (status, _) = ask(&cloud, "DELETE", "/api/v1/topics/telemetry", &admin, "").await;
    assert_eq!(
        status, 200,
        "who has the node's own token may do everything"
    );
    cloud.shutdown().await;
}
