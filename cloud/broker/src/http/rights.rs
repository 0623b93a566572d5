//! Which right each path needs: looked up before its handler is called, in one table for all, decided by the same rules as a
//! Kafka client's. What asks Kafka's handlers (records, groups) is decided there.

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::Ledger;

use super::Context;
use super::answer::ApiError;
use super::door::Asking;
use crate::kafka::ANONYMOUS;

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// To be let in.
    Nothing,
    /// The handler asks, since it depends on what is sent.
    OfHandler,
    Cluster(Operation),
    /// Of the topic that the path names.
    Topic(Operation),
    /// Of the topic that the path names, or of the cluster.
    TopicOrCluster(Operation),
}

/// By method and path below `/api/v1`; `None` for what the table does not have.
fn needed(method: &Method, path: &str) -> Option<Need> {
    use Need::{Cluster, Nothing, OfHandler, Topic, TopicOrCluster};
    use Operation as O;
    // Whoever answers GET answers HEAD, too.
    let method = match *method {
        Method::HEAD => &Method::GET,
        ref method => method,
    };
    Some(match (method.as_str(), path) {
        ("GET", "/openapi.json" | "/metrics") => Nothing,
        ("GET" | "POST", "/topics") => OfHandler,
        ("GET" | "POST", "/topics/{topic}/records") => OfHandler,
        ("GET", "/groups") => OfHandler,
        ("GET" | "DELETE", "/groups/{group}") => OfHandler,
        ("POST", "/groups/{group}/offsets") => OfHandler,
        ("GET", "/topics/{topic}") => Topic(O::DescribeConfigs),
        ("DELETE", "/topics/{topic}") => TopicOrCluster(O::Delete),
        // A store that is named is the handler's.
        ("POST", "/topics/{topic}/config") => Topic(O::AlterConfigs),
        ("POST", "/topics/{topic}/partitions") => Topic(O::Alter),
        ("POST", "/topics/{topic}/trim") => Topic(O::Delete),
        ("GET", "/topics/{topic}/verify") => Topic(O::Read),
        ("GET" | "POST", "/offsets/groups/{group}") => OfHandler,
        ("GET", "/offsets/lookup" | "/offsets/translate" | "/offsets/export" | "/where") => {
            Cluster(O::Describe)
        }
        ("GET" | "POST", "/offsets/verify") => Cluster(O::Describe),
        ("POST", "/offsets/import") => Cluster(O::Alter),
        ("GET", "/edges" | "/edges/{edge}" | "/cluster" | "/storage/cost") => Cluster(O::Describe),
        ("POST", "/edges/{edge}/release" | "/cluster/incarnation" | "/cluster/hold") => {
            Cluster(O::Alter)
        }
        ("GET", "/users" | "/acls") => Cluster(O::Describe),
        ("POST", "/users" | "/acls") | ("DELETE", "/acls") => Cluster(O::Alter),
        ("DELETE", "/users/{user}") | ("PUT", "/users/{user}/password") => Cluster(O::Alter),
        ("POST", "/users/{user}/tokens") | ("DELETE", "/users/{user}/tokens/{token}") => {
            Cluster(O::Alter)
        }
        _ => return None,
    })
}

/// Lets through who may do it.
pub(super) async fn check(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let matched = parts.extensions.get::<MatchedPath>().cloned();
    let path = matched.as_ref().map_or("", MatchedPath::as_str);
    let need = needed(&parts.method, path.trim_start_matches("/api/v1"));
    let named = RawPathParams::from_request_parts(&mut parts, &()).await;
    let name = named.ok().and_then(|named| {
        let first = named.iter().next();
        first.map(|(_, value)| value.to_owned())
    });
    let asking = Asking::from_request_parts(&mut parts, &context).await;
    let Ok(Asking(context)) = asking;
    let name = name.unwrap_or_default();
    let allowed = match need {
        Some(Need::Nothing | Need::OfHandler) => Ok(()),
        // What the table does not have has no handler either.
        None => context.allow(Operation::Alter, Resource::Cluster),
        Some(Need::Cluster(operation)) => context.allow(operation, Resource::Cluster),
        Some(Need::Topic(operation)) => context.allow(operation, Resource::Topic(&name)),
        Some(Need::TopicOrCluster(operation)) => match context.may(operation, Resource::Cluster) {
            true => Ok(()),
            false => context.allow(operation, Resource::Topic(&name)),
        },
    };
    match allowed {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refused) => refused.into_response(),
    }
}

impl Context {
    /// Whether who asks may do it.
    pub(super) fn may(&self, operation: Operation, resource: Resource<'_>) -> bool {
        self.kafka.may(operation, resource)
    }

    /// The same for who is looking at the ledger.
    pub(super) fn may_in(
        &self,
        ledger: &Ledger,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool {
        self.kafka.may_in(ledger, operation, resource)
    }

    /// Refuses what who asks may not do.
    pub(super) fn allow(
        &self,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Result<(), ApiError> {
        if self.may(operation, resource) {
            return Ok(());
        }
        let principal = &self.kafka.principal;
        let hint = match **principal == *ANONYMOUS {
            true => {
                ": say who you are (tidegate --token; the node's own is admin-token in its data folder)"
            }
            false => "",
        };
        let operation = operation.name();
        let why = format!("{principal} may not {operation} {resource}{hint}");
        Err(ApiError::forbidden(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_that_is_described_has_its_right() {
        let description = include_str!("openapi.json");
        let description: serde_json::Value = serde_json::from_str(description).unwrap();
        let mut count = 0;
        for (path, methods) in description["paths"].as_object().unwrap() {
            let path = path.strip_prefix("/api/v1").unwrap();
            for method in methods.as_object().unwrap().keys() {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                assert!(needed(&method, path).is_some(), "{method} {path}");
                count += 1;
            }
        }
        assert!(count > 20, "{count}");
    }
}
