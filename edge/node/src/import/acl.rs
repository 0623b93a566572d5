//! An ACL file of mosquitto, as rules.

use std::path::Path;

use tidegate_edge_protocol::mqtt::authorization::RulesForm;
use tidegate_shared::fleet::parse_yaml;
use tidegate_shared::topic::TopicFilter;

use super::lines::{Line, Problem};
use super::report::{Fate, Place, Report};
use super::yaml::quoted;

/// Who comes in, as far as rules ask for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comers {
    /// Clients without a proved name come in somewhere.
    pub(super) anonymous: bool,
    /// They come in by each listener.
    pub(super) anonymous_everywhere: bool,
    /// Names can be proved.
    pub(super) named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Allow(&'static str),
    Deny,
}

/// The file of `mqtt.acl`.
pub(super) fn translate(
    path: &Path,
    text: &str,
    comers: Comers,
    report: &mut Report,
) -> Result<String, Vec<Problem>> {
    let mut rules = Vec::new();
    let mut problems = Vec::new();
    let mut user: Option<String> = None;
    for line in Line::all(path, text) {
        let read = match line.option.as_str() {
            "user" => line.text().map(|name| user = Some(name)),
            "topic" => topic(&line, user.as_deref(), comers, &mut rules, report),
            "pattern" => pattern(&line, &mut rules, report),
            _ => Err(line.problem("an ACL file has topic, user and pattern")),
        };
        problems.extend(read.err());
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if rules.is_empty() {
        rules.push("{deny: [publish, subscribe], topics: ['#']}".to_owned());
    }
    let mut yaml = "rules:\n".to_owned();
    for rule in rules {
        yaml.push_str(&format!("  - {rule}\n"));
    }
    match parse_yaml::<RulesForm>(&yaml) {
        Ok(_) => Ok(yaml),
        Err(error) => Err(vec![Problem {
            place: Place {
                file: path.to_owned(),
                line: 0,
            },
            message: format!("the rules that come of it cannot be used: {error}"),
        }]),
    }
}

/// Access and topic. Without an access, all is meant, and the topic may have no spaces.
fn parts(line: &Line) -> Result<(Access, String), Problem> {
    let whole = (Access::Allow("[publish, subscribe]"), line.text()?);
    // `topic read` is of a topic that is called so.
    let Some((first, rest)) = line.value.split_once([' ', '\t']) else {
        return Ok(whole);
    };
    let access = match first {
        "read" => Access::Allow("[subscribe]"),
        "write" => Access::Allow("[publish]"),
        "readwrite" => Access::Allow("[publish, subscribe]"),
        "deny" => Access::Deny,
        _ => return Ok(whole),
    };
    Ok((access, rest.trim().to_owned()))
}

/// `None`: it was said why not.
fn checked(
    line: &Line,
    access: Access,
    topic: &str,
    report: &mut Report,
) -> Result<Option<Access>, Problem> {
    TopicFilter::new(topic).map_err(|error| line.problem(error.to_string()))?;
    let first = topic.split('/').next().unwrap_or_default();
    if matches!(first, "$broadcast" | "$direct" | "$share" | "$delayed") {
        report.not_carried(
            line,
            format!(
                "topics that begin with {first} have rights of their own here: see edge-security.md"
            ),
        );
        return Ok(None);
    }
    if first != "$SYS" {
        return Ok(Some(access));
    }
    match access {
        Access::Allow("[publish]") => {
            report.not_carried(line, "nobody but the server publishes below $SYS/");
            Ok(None)
        }
        Access::Allow(_) => Ok(Some(Access::Allow("[subscribe]"))),
        Access::Deny => Ok(Some(access)),
    }
}

fn said(access: Access) -> String {
    match access {
        Access::Allow(actions) => format!("allow: {actions}"),
        Access::Deny => "deny: [publish, subscribe]".to_owned(),
    }
}

fn deny_differs(line: &Line, report: &mut Report) {
    report.add(
        line,
        Fate::Differs,
        "who subscribes to a filter that reaches denied topics is refused the subscription, and is not left out of them alone",
    );
}

fn topic(
    line: &Line,
    user: Option<&str>,
    comers: Comers,
    rules: &mut Vec<String>,
    report: &mut Report,
) -> Result<(), Problem> {
    let (access, topic) = parts(line)?;
    let Some(access) = checked(line, access, &topic, report)? else {
        return Ok(());
    };
    let shown = quoted(&topic);
    if topic.contains("%u") || topic.contains("%c") {
        report.not_carried(
            line,
            "%u and %c are text in a topic line of mosquitto's, and stand for names here",
        );
        return Ok(());
    }
    match user {
        Some(user) if !comers.named => report.not_carried(
            line,
            format!("nobody can prove to be {user}: a name that is only said counts for nothing here; make a user of it with tidegate-edge passwd"),
        ),
        Some(user) => {
            rules.push(format!("{{users: [{}], {}, topics: [{shown}]}}", quoted(user), said(access)));
            match access {
                Access::Deny => deny_differs(line, report),
                Access::Allow(_) => report.add(line, Fate::Mapped, "a rule of acl.yaml"),
            }
        }
        None if comers.named && !comers.anonymous_everywhere && comers.anonymous => report.not_carried(
            line,
            "it is of clients without a name, and a rule is of everybody: users who come by a listener where nobody does without a name would have it, too",
        ),
        None if !comers.anonymous => report.add(line, Fate::IsSo, "it is of clients without a name, and none comes in"),
        None => {
            rules.push(format!("{{{}, topics: [{shown}]}}", said(access)));
            match (access, comers.named) {
                (Access::Deny, true) => report.not_carried(line, "a rule is of everybody, or of named users: here it denies named users, too"),
                (Access::Deny, false) => deny_differs(line, report),
                // They could come without a name as well.
                (Access::Allow(_), true) => report.add(line, Fate::Differs, "a rule of everybody: named users may do it, too, as they could without a name"),
                (Access::Allow(_), false) => report.add(line, Fate::Mapped, "a rule of acl.yaml"),
            }
        }
    }
    Ok(())
}

/// Of everybody, with placeholders.
fn pattern(line: &Line, rules: &mut Vec<String>, report: &mut Report) -> Result<(), Problem> {
    let (access, topic) = parts(line)?;
    let Some(access) = checked(line, access, &topic, report)? else {
        return Ok(());
    };
    let is_mixed = |level: &str| (level.contains("%u") || level.contains("%c")) && level.len() > 2;
    if topic.split('/').any(is_mixed) {
        report.not_carried(
            line,
            "mosquitto wants %u and %c to be a level by themselves; here they would stand for names",
        );
        return Ok(());
    }
    rules.push(format!(
        "{{{}, topics: [{}]}}",
        said(access),
        quoted(&topic)
    ));
    match access {
        Access::Deny => deny_differs(line, report),
        Access::Allow(_) => report.add(line, Fate::Mapped, "a rule of acl.yaml"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Comers = Comers {
        anonymous: true,
        anonymous_everywhere: true,
        named: true,
    };

    fn translated(text: &str, comers: Comers) -> (Vec<String>, Vec<String>) {
        let mut report = Report::default();
        let yaml = translate(Path::new("acl"), text, comers, &mut report).unwrap();
        let rules = yaml.lines().skip(1);
        let rules = rules.map(|line| line.trim_start_matches("  - ").to_owned());
        let told = report.worth_reading().map(ToString::to_string).collect();
        (rules.collect(), told)
    }

    #[test]
    fn each_line_becomes_a_rule() {
        let text = "# x\nuser ada\ntopic read a/#\ntopic write b\ntopic readwrite c d\ntopic e\npattern read dev/%c/+\n";
        let (rules, told) = translated(text, BOTH);
        assert_eq!(
            rules,
            [
                "{users: [\"ada\"], allow: [subscribe], topics: [\"a/#\"]}",
                "{users: [\"ada\"], allow: [publish], topics: [\"b\"]}",
                "{users: [\"ada\"], allow: [publish, subscribe], topics: [\"c d\"]}",
                "{users: [\"ada\"], allow: [publish, subscribe], topics: [\"e\"]}",
                "{allow: [subscribe], topics: [\"dev/%c/+\"]}",
            ]
        );
        assert_eq!(told, [""; 0]);
    }

    #[test]
    fn what_cannot_be_said_here_is_named() {
        let text = "topic read $SYS/#\ntopic deny x\nuser ada\ntopic deny y\npattern write $SYS/broker/connection/%c/state\npattern read a-%u/b\n";
        let (rules, told) = translated(text, BOTH);
        assert_eq!(rules.len(), 3, "{rules:?}");
        let named = told.iter().filter(|line| line.contains("NOT CARRIED OVER"));
        let named: Vec<_> = named.map(|line| line.split(':').nth(1).unwrap()).collect();
        assert_eq!(named, ["2", "5", "6"], "{told:?}");
        // Where nobody comes without a name, and where nobody proves one.
        let mixed = Comers {
            anonymous_everywhere: false,
            ..BOTH
        };
        let (rules, told) = translated("topic readwrite #\nuser ada\ntopic b\n", mixed);
        assert_eq!(rules.len(), 1, "{rules:?}");
        assert!(told[0].contains("NOT CARRIED OVER"), "{told:?}");
        let anonymous = Comers {
            anonymous: true,
            anonymous_everywhere: true,
            named: false,
        };
        let named = Comers {
            anonymous: false,
            anonymous_everywhere: false,
            named: true,
        };
        let (rules, told) = translated("topic a\nuser ada\ntopic b\n", anonymous);
        assert_eq!(rules, ["{allow: [publish, subscribe], topics: [\"a\"]}"]);
        assert!(told[0].contains("nobody can prove to be ada"), "{told:?}");
        let (rules, told) = translated("topic a\n", named);
        assert_eq!(rules, ["{deny: [publish, subscribe], topics: ['#']}"]);
        assert_eq!(told, [""; 0]);
    }

    #[test]
    fn a_line_that_is_none_is_located() {
        let mut report = Report::default();
        let refused = translate(
            Path::new("acl"),
            "topic a\ntopick b\ntopic read\ntopic a#b\n",
            BOTH,
            &mut report,
        );
        let lines: Vec<_> = refused
            .unwrap_err()
            .iter()
            .map(|problem| problem.place.line)
            .collect();
        assert_eq!(lines, [2, 4]);
    }
}
