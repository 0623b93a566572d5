//! The description of this API for programs (OpenAPI 3.1), as a file beside this one.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use super::Context;

const DESCRIPTION: &str = include_str!("openapi.json");

pub(super) fn routes() -> Router<Context> {
    Router::new().route("/openapi.json", get(describe))
}

async fn describe() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The paths of all routes in the sources below a folder.
    fn routes_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                routes_in(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let routes = text.split(concat!(".route", "(")).skip(1);
            for route in routes.filter_map(|text| text.split('"').nth(1)) {
                found.insert(route.to_owned());
            }
        }
    }

    #[test]
    fn every_path_is_described_and_no_other() {
        let description: serde_json::Value = serde_json::from_str(DESCRIPTION).unwrap();
        let described = description["paths"].as_object().unwrap().keys();
        let described: BTreeSet<_> = described.map(String::as_str).collect();
        let mut served = BTreeSet::new();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
        routes_in(&folder, &mut served);
        for root in ["/healthz", "/readyz", "/metrics"] {
            assert!(served.remove(root), "{root}");
        }
        let served: Vec<String> = served.iter().map(|path| format!("/api/v1{path}")).collect();
        assert_eq!(described, served.iter().map(String::as_str).collect());
    }
}
