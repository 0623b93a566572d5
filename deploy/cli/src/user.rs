//! `tidegate user`: who may come in to Kafka and HTTP, by a password or a token.

mod password;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::remote::show::{cell, items, print, table, time};
use crate::remote::{Client, Output, Remote, segment};
use password::PasswordArguments;

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct UserArguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Verb {
    /// Every user, with what proves who they are
    List,
    /// Make a user with a password, which is asked for; or with a token alone
    Add {
        name: String,
        #[command(flatten)]
        password: PasswordArguments,
        /// No password: the user has a token, which is printed once
        #[arg(long, conflicts_with_all = ["password_stdin", "generate"])]
        token_only: bool,
    },
    /// Give a user another password
    Password {
        name: String,
        #[command(flatten)]
        password: PasswordArguments,
    },
    /// Remove a user with all tokens. Kafka connections that are open stay open
    Remove { name: String },
    /// Give a user a token for HTTP, which is printed once
    Token {
        name: String,
        /// What the token is called; a name of its own where it is left out
        // Not `token`: that is the option of all commands.
        #[arg(long = "as", value_name = "TOKEN")]
        called: Option<String>,
    },
    /// Take a user's token away
    Untoken {
        name: String,
        #[arg(value_name = "TOKEN")]
        called: String,
    },
}

pub(crate) fn run(arguments: &UserArguments) -> anyhow::Result<ExitCode> {
    let client = arguments.remote.client()?;
    let (answer, text) = answer(&client, &arguments.verb)?;
    print(&match arguments.remote.output {
        Output::Json => answer.to_string(),
        Output::Table => text,
    })?;
    Ok(ExitCode::SUCCESS)
}

const USERS: &str = "/api/v1/users";

fn answer(client: &Client, verb: &Verb) -> anyhow::Result<(Value, String)> {
    match verb {
        Verb::List => {
            let answer = client.get(USERS, &[])?;
            let text = list(&answer);
            Ok((answer, text))
        }
        Verb::Add {
            name,
            token_only: true,
            ..
        } => {
            let answer = client.post(USERS, &json!({ "user": name }))?;
            let text = cell(&answer["token"]);
            Ok((answer, text))
        }
        Verb::Add { name, password, .. } => {
            let chosen = password.choose()?;
            let body = json!({ "user": name, "password": chosen.text });
            let answer = client.post(USERS, &body)?;
            Ok(chosen.shown(answer, format!("user {name} is there")))
        }
        Verb::Password { name, password } => {
            let chosen = password.choose()?;
            let path = format!("{}/password", path(name));
            let answer = client.put(&path, &json!({ "password": chosen.text }))?;
            Ok(chosen.shown(answer, format!("user {name} has another password")))
        }
        Verb::Remove { name } => {
            let answer = client.delete(&path(name))?;
            Ok((answer, format!("user {name} is gone")))
        }
        Verb::Token { name, called } => {
            let path = format!("{}/tokens", path(name));
            let answer = client.post(&path, &json!({ "token": called }))?;
            let text = cell(&answer["secret"]);
            Ok((answer, text))
        }
        Verb::Untoken { name, called } => {
            let path = format!("{}/tokens/{}", path(name), segment(called));
            let answer = client.delete(&path)?;
            Ok((answer, format!("token {called} of {name} is gone")))
        }
    }
}

fn path(name: &str) -> String {
    format!("{USERS}/{}", segment(name))
}

fn list(answer: &Value) -> String {
    let rows = items(answer, "users").iter().map(|user| {
        let passwords = items(user, "passwords").iter();
        let passwords = passwords.map(|one| cell(&one["mechanism"]));
        let tokens = items(user, "tokens").iter();
        let tokens =
            tokens.map(|one| format!("{} ({})", cell(&one["token"]), time(&one["made_ms"])));
        [
            cell(&user["user"]),
            or_nothing(passwords.collect()),
            or_nothing(tokens.collect()),
        ]
    });
    table(
        ["USER", "PASSWORD FOR", "TOKENS"],
        &rows.collect::<Vec<_>>(),
    )
}

fn or_nothing(all: Vec<String>) -> String {
    match all.is_empty() {
        true => "-".to_owned(),
        false => all.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::tests::answering;

    /// What a token is called is not what one shows.
    #[test]
    fn a_token_s_name_is_no_token() {
        use crate::arguments::{Arguments, Command};
        use clap::Parser as _;
        for line in ["user token ada --as ci", "user untoken ada ci"] {
            let words = ["tidegate"].into_iter().chain(line.split(' '));
            let words = words.chain(["--token", "tidegate_abc"]);
            let Command::User(user) = Arguments::parse_from(words).command else {
                panic!("{line}");
            };
            assert!(user.remote.shows("tidegate_abc"), "{line}");
            match user.verb {
                Verb::Token { called, .. } => assert_eq!(called.as_deref(), Some("ci")),
                Verb::Untoken { called, .. } => assert_eq!(called, "ci"),
                other => panic!("{other:?}"),
            }
        }
    }

    fn client(url: &str) -> Client {
        Client::new(url, "cloud", "--cloud").unwrap()
    }

    #[test]
    fn what_is_asked_and_shown() {
        let users = json!({"users": [
            {"user": "ada", "passwords": [{"mechanism": "SCRAM-SHA-256", "iterations": 8192}], "tokens": []},
            {"user": "robot", "passwords": [], "tokens": [{"token": "ci", "made_ms": 0}]},
        ]});
        let answers = [
            users,
            json!({"user": "robot", "token": "tidegate_abc"}),
            json!({"user": "ada", "token": "ci", "secret": "tidegate_def"}),
            json!({}),
            json!({}),
        ];
        let answers = answers.map(|answer| (200, answer.to_string()));
        let (url, node) = answering(answers.to_vec());
        let client = client(&url);
        let (_, text) = answer(&client, &Verb::List).unwrap();
        let expected = "USER   PASSWORD FOR   TOKENS\n\
                        ada    SCRAM-SHA-256  -\n\
                        robot  -              ci (1970-01-01 00:00:00Z)";
        assert_eq!(text, expected);
        let add = Verb::Add {
            name: "robot".to_owned(),
            password: PasswordArguments::default(),
            token_only: true,
        };
        assert_eq!(answer(&client, &add).unwrap().1, "tidegate_abc");
        let token = Verb::Token {
            name: "ada".to_owned(),
            called: Some("ci".to_owned()),
        };
        assert_eq!(answer(&client, &token).unwrap().1, "tidegate_def");
        let untoken = Verb::Untoken {
            name: "CN=a/b".to_owned(),
            called: "ci".to_owned(),
        };
        answer(&client, &untoken).unwrap();
        let remove = Verb::Remove {
            name: "ada".to_owned(),
        };
        answer(&client, &remove).unwrap();
        let asked = node.join().unwrap();
        assert_eq!(
            asked,
            [
                "GET /api/v1/users HTTP/1.1 ",
                "POST /api/v1/users HTTP/1.1 {\"user\":\"robot\"}",
                "POST /api/v1/users/ada/tokens HTTP/1.1 {\"token\":\"ci\"}",
                "DELETE /api/v1/users/CN%3Da%2Fb/tokens/ci HTTP/1.1 ",
                "DELETE /api/v1/users/ada HTTP/1.1 ",
            ]
        );
    }
}
