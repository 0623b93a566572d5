//! `tidegate acl`: who may do what with the cloud's topics, groups and the cloud itself. The rules are Kafka's ACLs, and
//! Kafka's tools see them, too.

use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use crate::remote::show::{cell, count, items, print, table};
use crate::remote::{Output, Remote};

/// Kafka's name of the one cluster.
const CLUSTER_NAME: &str = "kafka-cluster";

const PATH: &str = "/api/v1/acls";

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct AclArguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Every rule, or those that the options mean
    List(Filter),
    /// Make rules: --principal User:ada --allow read --topic telemetry --prefixed
    Add(New),
    /// Remove the rules that the options mean
    Remove {
        #[command(flatten)]
        filter: Filter,
        /// Every rule, where nothing else is said
        #[arg(long)]
        all: bool,
    },
}

/// What rules are about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
struct Resource {
    /// A topic; * for every one
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// A consumer group; * for every one
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// The cloud itself: its settings, rules, and all topics' creation
    #[arg(long)]
    cluster: bool,
    /// A transactional id; * for every one
    #[arg(long, value_name = "ID")]
    transactional_id: Option<String>,
}

impl Resource {
    /// Kafka's word for it, and the name.
    fn said(&self) -> Option<(&'static str, &str)> {
        let named = [
            ("topic", &self.topic),
            ("group", &self.group),
            ("transactional_id", &self.transactional_id),
        ];
        let mut named = named.into_iter();
        let named = named.find_map(|(kind, name)| Some((kind, name.as_deref()?)));
        named.or(self.cluster.then_some(("cluster", CLUSTER_NAME)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("about").args(["topic", "group", "cluster", "transactional_id"]).required(true))]
#[command(group = ArgGroup::new("says").args(["allow", "deny"]).required(true).multiple(true))]
struct New {
    /// Whom it is for, such as User:ada; User:* is everybody
    #[arg(long)]
    principal: String,
    /// What is allowed: read, write, create, delete, alter, describe, describe-configs, alter-configs,
    /// idempotent-write, all; several with commas between
    #[arg(long, value_name = "OPERATION", value_delimiter = ',')]
    allow: Vec<String>,
    /// What is denied, whatever else allows it
    #[arg(long, value_name = "OPERATION", value_delimiter = ',')]
    deny: Vec<String>,
    #[command(flatten)]
    resource: Resource,
    /// Everything whose name begins with the name
    #[arg(long)]
    prefixed: bool,
    /// Only from this address
    #[arg(long, default_value = "*")]
    host: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("about").args(["topic", "group", "cluster", "transactional_id"]))]
#[command(group = ArgGroup::new("pattern").args(["prefixed", "literal", "matching"]))]
struct Filter {
    #[arg(long)]
    principal: Option<String>,
    /// Rules that allow this
    #[arg(long, value_name = "OPERATION", conflicts_with = "deny")]
    allow: Option<String>,
    /// Rules that deny this
    #[arg(long, value_name = "OPERATION")]
    deny: Option<String>,
    #[command(flatten)]
    resource: Resource,
    /// Only rules for all names that begin so
    #[arg(long)]
    prefixed: bool,
    /// Only rules for exactly this name
    #[arg(long)]
    literal: bool,
    /// Every rule that a topic or group of this name is ruled by
    #[arg(long)]
    matching: bool,
    #[arg(long)]
    host: Option<String>,
}

impl New {
    fn body(&self) -> Value {
        let (kind, name) = self.resource.said().unwrap_or_default();
        let pattern = if self.prefixed { "prefixed" } else { "literal" };
        let says = |permission| {
            move |operation: &String| {
                json!({
                    "resource_type": kind,
                    "resource_name": name,
                    "pattern_type": pattern,
                    "principal": self.principal,
                    "host": self.host,
                    "operation": operation,
                    "permission": permission,
                })
            }
        };
        let allowed = self.allow.iter().map(says("allow"));
        let denied = self.deny.iter().map(says("deny"));
        json!({ "rules": allowed.chain(denied).collect::<Vec<_>>() })
    }
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let (kind, name) = self.resource.said().unzip();
        let pattern = [
            (self.prefixed, "prefixed"),
            (self.literal, "literal"),
            (self.matching, "match"),
        ];
        let pattern = pattern
            .iter()
            .find_map(|(is_meant, word)| is_meant.then_some(*word));
        let permission = match (&self.allow, &self.deny) {
            (Some(_), _) => Some("allow"),
            (_, Some(_)) => Some("deny"),
            _ => None,
        };
        let pairs = [
            ("resource_type", kind),
            ("resource_name", name),
            ("pattern_type", pattern),
            ("principal", self.principal.as_deref()),
            ("host", self.host.as_deref()),
            ("operation", self.allow.as_deref().or(self.deny.as_deref())),
            ("permission", permission),
        ];
        let said = pairs.into_iter();
        said.filter_map(|(name, value)| Some((name, value?.to_owned())))
            .collect()
    }
}

pub(crate) fn run(arguments: &AclArguments) -> anyhow::Result<ExitCode> {
    let client = arguments.remote.client()?;
    let (answer, what) = match &arguments.verb {
        Verb::List(filter) => (client.get(PATH, &filter.query())?, ""),
        Verb::Add(new) => (client.post(PATH, &new.body())?, "held by: "),
        Verb::Remove { filter, all } => {
            let mut query = filter.query();
            if *all {
                query.push(("all", "true".to_owned()));
            }
            (client.delete_where(PATH, &query)?, "removed: ")
        }
    };
    print(&match arguments.remote.output {
        Output::Json => answer.to_string(),
        Output::Table => shown(&answer, what),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn shown(answer: &Value, what: &str) -> String {
    let rules = items(answer, "rules");
    let names = [
        "principal",
        "host",
        "permission",
        "operation",
        "resource_type",
        "pattern_type",
        "resource_name",
    ];
    let rows = rules.iter().map(|rule| names.map(|name| cell(&rule[name])));
    let columns = [
        "PRINCIPAL",
        "HOST",
        "PERMISSION",
        "OPERATION",
        "RESOURCE",
        "PATTERN",
        "NAME",
    ];
    let rules_shown = table(columns, &rows.collect::<Vec<_>>());
    match what {
        "" => rules_shown,
        what => format!(
            "{what}{}\n\n{rules_shown}",
            count(rules.len() as u64, "rule")
        ),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::remote::tests::answering;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        acl: AclArguments,
    }

    fn parse(line: &str) -> Result<AclArguments, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.acl)
    }

    #[test]
    fn a_rule_is_about_one_thing_and_says_something() {
        let add = "acl add --principal User:ada";
        assert!(parse(&format!("{add} --allow read --topic t --prefixed")).is_ok());
        assert!(parse(&format!("{add} --allow read,write --deny all --cluster")).is_ok());
        for bad in [
            "--allow read",
            "--topic t",
            "--allow read --topic t --group g",
        ] {
            assert!(parse(&format!("{add} {bad}")).is_err(), "{bad}");
        }
        assert!(parse("acl list --topic t --matching --literal").is_err());
    }

    #[test]
    fn what_is_said_is_asked() {
        let answers = vec![(200, r#"{"rules":[]}"#.to_owned()); 3];
        let (url, node) = answering(answers);
        for line in [
            "acl add --principal User:ada --allow read,write --topic telemetry --prefixed",
            "acl list --topic telemetry --matching",
            "acl remove --principal User:ada --deny read",
        ] {
            run(&parse(&format!("{line} --cloud {url}")).unwrap()).unwrap();
        }
        let asked = node.join().unwrap();
        let body = asked[0].split_once("HTTP/1.1 ").unwrap().1;
        let body: Value = serde_json::from_str(body).unwrap();
        let rules = body["rules"].as_array().unwrap();
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[1]["operation"], "write");
        assert_eq!(rules[1]["pattern_type"], "prefixed");
        assert_eq!(rules[1]["resource_type"], "topic");
        assert_eq!(rules[1]["host"], "*");
        assert!(asked[1].starts_with(
            "GET /api/v1/acls?resource_type=topic&resource_name=telemetry&pattern_type=match "
        ));
        assert!(asked[2].starts_with(
            "DELETE /api/v1/acls?principal=User%3Aada&operation=read&permission=deny "
        ));
    }
}
