//! IncrementalAlterConfigs (KIP-339): only the settings that the request names change. Source: Kafka's
//! `ConfigAdminManager` and `ConfigurationControlManager`.

use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::alter_configs::{Resource, alter, check_names, no_nulls, times, twice};
use super::configs::{self, Asked, Kind, Mode, Row};
use super::refusal::{Refusal, fields};
use super::{Context, reply_code};

/// What is done with a setting. Source: `AlterConfigOp.OpType` of Kafka.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(super) async fn handle(
    context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mode = Mode::of(request.validate_only);
    let named = request.resources.iter();
    let times = times(named.map(|one| (one.resource_type, one.resource_name.as_str())));
    let mut done = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let target = Resource {
            kind: resource.resource_type,
            name: resource.resource_name.as_str(),
        };
        done.push(match times[&(target.kind, target.name)] {
            1 => change(context, target, &resource.configs, mode).await,
            _ => Err(twice()),
        });
    }
    let responses = request.resources.into_iter().zip(done);
    let responses = responses.map(|(resource, done)| {
        let (code, message) = fields(done);
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

async fn change(
    context: &Context,
    target: Resource<'_>,
    settings: &[AlterableConfig],
    mode: Mode,
) -> Result<(), Refusal> {
    target.check(context)?;
    check_names(settings.iter().map(|one| one.name.as_str()))?;
    let valued = settings.iter().filter(|one| one.config_operation != DELETE);
    let without = valued.filter(|one| one.value.is_none());
    no_nulls(without.map(|one| one.name.as_str()))?;
    let named: Vec<_> = settings
        .iter()
        .map(|one| (one.name.as_str().to_owned(), one))
        .collect();
    let Some((topic_id, now)) = target.topic(context, &named)? else {
        return Ok(());
    };
    let rows = configs::of_topic(context, &now);
    // What is not there has the default that it is to have.
    let known = |name: &str| rows.iter().any(|row| row.name == name);
    let named = named.into_iter();
    let named = named.filter(|(name, one)| one.config_operation != DELETE || known(name));
    let asked = named.map(|(name, one)| {
        let row = rows.iter().find(|row| row.name == name);
        Ok((name, value(one, row)?))
    });
    let asked = asked.collect::<Result<Asked, Refusal>>()?;
    configs::check_store(context, &now, &asked)?;
    alter(context, (target.name, topic_id), &asked, mode).await
}

/// What a setting is to be; `row` is what it is now, where there is such a setting.
fn value(asked: &AlterableConfig, row: Option<&Row>) -> Result<Option<String>, Refusal> {
    let value = asked.value.as_ref().map(|value| value.as_str());
    let words = value.unwrap_or_default().split(',').map(str::trim);
    let name = asked.name.as_str();
    let list = |what| match row {
        Some(row) if row.kind != Kind::List => {
            let why = format!("Can't {what} to key {name} because its type is not LIST.");
            Err(Refusal::new(reply_code::INVALID_CONFIG, why))
        }
        // One that does not exist is refused by its name afterwards.
        row => Ok(row.map_or_else(Vec::new, |row| row.value.split(',').collect())),
    };
    match asked.config_operation {
        SET => Ok(value.map(str::to_owned)),
        DELETE => Ok(None),
        APPEND => {
            let mut all: Vec<&str> = list("APPEND")?;
            for word in words {
                if !all.contains(&word) {
                    all.push(word);
                }
            }
            Ok(Some(all.join(",")))
        }
        SUBTRACT => {
            let mut all = list("SUBTRACT")?;
            let words: Vec<&str> = words.collect();
            all.retain(|word| !words.contains(word));
            Ok(Some(all.join(",")))
        }
        other => {
            let why = format!("Unknown operations type {other}");
            Err(Refusal::new(reply_code::INVALID_REQUEST, why))
        }
    }
}
