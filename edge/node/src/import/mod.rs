//! A mosquitto.conf as an edge.yaml: what maps, and the name of all that does not. No I/O: the files' reader is passed in.

mod acl;
mod bridges;
mod draft;
mod lines;
mod listeners;
mod options;
mod report;
mod settings;
#[cfg(test)]
mod tests;
mod yaml;

use std::path::Path;

use tidegate_shared::fleet::{EdgeSpec, parse_yaml};

use acl::Comers;
use bridges::Bridge;
use lines::Line;
pub(crate) use lines::{Files, Problem};
use listeners::{Listeners, ListenersText};
use options::Kind;
pub(crate) use report::{Fate, Report};
use report::{Finding, Place};
use settings::Settings;
use yaml::quoted;

/// The files that an import makes.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// `edge.yaml`.
    pub(crate) edge: String,
    /// `acl.yaml`.
    pub(crate) acl: Option<String>,
    /// The file of users, with a comment for each that needs a new password.
    pub(crate) users: Option<String>,
    /// Names and contents of files with the passwords of sources.
    pub(crate) passwords: Vec<(String, String)>,
    pub(crate) report: Report,
}

/// # Errors
/// A file cannot be read, or mosquitto would not take it: with each place.
pub(crate) fn import(main: &Path, files: &dyn Files) -> Result<Imported, Vec<Problem>> {
    let lines = lines::read(main, files)?;
    let mut importer = Importer::new(&lines);
    for line in &lines {
        if let Err(problem) = importer.take(line) {
            importer.problems.push(problem);
        }
    }
    importer.finish(main, files)
}

/// While lines are read.
struct Importer {
    settings: Settings,
    listeners: Listeners,
    bridges: Vec<Bridge>,
    report: Report,
    problems: Vec<Problem>,
}

impl Importer {
    fn new(lines: &[Line]) -> Self {
        let is_per_listener = |line: &Line| {
            line.option == "per_listener_settings" && line.boolean().unwrap_or_default()
        };
        Self {
            settings: Settings::default(),
            listeners: Listeners::new(lines.iter().any(is_per_listener)),
            bridges: Vec::new(),
            report: Report::default(),
            problems: Vec::new(),
        }
    }

    fn take(&mut self, line: &Line) -> Result<(), Problem> {
        let report = &mut self.report;
        match options::kind(&line.option) {
            None => return Err(line.problem("mosquitto has no such option")),
            Some(Kind::General) => self.settings.take(line, report)?,
            Some(Kind::Listener) => self.listeners.take(line, report)?,
            Some(Kind::Security) => self.listeners.secure(line, report)?,
            Some(Kind::Bridge) if line.option == "connection" => {
                self.bridges.push(Bridge::new(line)?);
            }
            Some(Kind::Bridge) => match self.bridges.last_mut() {
                Some(bridge) => bridge.take(line, report)?,
                None => {
                    return Err(
                        line.problem("it belongs to a connection, and there is none before")
                    );
                }
            },
            Some(Kind::IsSo(why)) => report.add(line, Fate::IsSo, why),
            Some(Kind::Differs(why)) => report.add(line, Fate::Differs, why),
            Some(Kind::No(why)) => {
                report.not_carried(line, why);
                self.listeners.guarded_by(line);
            }
            Some(Kind::NoIfTrue(why)) => match line.boolean()? {
                true => {
                    report.not_carried(line, why);
                    self.listeners.guarded_by(line);
                }
                false => report.add(line, Fate::IsSo, why),
            },
            Some(Kind::NoIfFalse(why)) => match line.boolean()? {
                true => report.add(line, Fate::IsSo, why),
                false => report.not_carried(line, why),
            },
        }
        Ok(())
    }

    fn finish(mut self, main: &Path, files: &dyn Files) -> Result<Imported, Vec<Problem>> {
        let mut sources = String::new();
        let mut passwords = Vec::new();
        for (bridge, index) in std::mem::take(&mut self.bridges).into_iter().zip(1..) {
            match bridge.finish(index, &mut self.report) {
                Ok(Some(source)) => {
                    sources.push_str(&source.yaml);
                    passwords.extend(source.password);
                }
                Ok(None) => {}
                Err(problem) => self.problems.push(problem),
            }
        }
        let listeners = self.listeners.finish(&mut self.report);
        let report = &mut self.report;
        let users = match users(&listeners, files, report) {
            Ok(users) => users,
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        };
        let acl = match rules(&listeners, files, report) {
            Ok(acl) => acl,
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        };
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        report.sort();
        let mut edge = text(&self.settings, &listeners, &sources, users.is_some());
        check(&edge, main)?;
        edge.insert_str(
            0,
            &format!("# Of {}, by tidegate-edge import.\n", main.display()),
        );
        edge.push_str(&remarks(report));
        Ok(Imported {
            edge,
            acl,
            users,
            passwords,
            report: self.report,
        })
    }
}

/// The node's own loader has the last word.
fn check(edge: &str, main: &Path) -> Result<(), Vec<Problem>> {
    let spec = parse_yaml::<EdgeSpec>(edge).map_err(|error| error.to_string());
    let checked = spec.and_then(|spec| spec.check().map_err(|error| error.to_string()));
    checked.map_err(|error| {
        vec![Problem {
            place: Place {
                file: main.to_owned(),
                line: 0,
            },
            message: format!("what comes of it cannot be used: {error}"),
        }]
    })
}

fn text(settings: &Settings, listeners: &ListenersText, sources: &str, has_users: bool) -> String {
    let mut yaml = match listeners.yaml.is_empty() {
        true => "mqtt:\n  listeners: []\n".to_owned(),
        false => format!("mqtt:\n  listeners:\n{}", listeners.yaml),
    };
    if has_users {
        yaml.push_str("  users: users\n");
    }
    if listeners.acl_file.is_some() {
        yaml.push_str("  acl: acl.yaml\n");
    }
    for (key, value) in &settings.mqtt {
        yaml.push_str(&format!("  {key}: {value}\n"));
    }
    if !settings.limits.is_empty() {
        yaml.push_str("  limits:\n");
        for (key, value) in &settings.limits {
            yaml.push_str(&format!("    {key}: {value}\n"));
        }
    }
    if !sources.is_empty() {
        yaml.push_str(&format!("sources:\n{sources}"));
    }
    yaml
}

/// What somebody should read, as comments.
fn remarks(report: &Report) -> String {
    let mut text = String::new();
    for (fate, title) in [
        (Fate::NotCarried, "Not carried over:"),
        (Fate::Differs, "Carried over, and somewhat otherwise here:"),
    ] {
        let mut lines = report.of(fate).peekable();
        if lines.peek().is_some() {
            text.push_str(&format!("\n# {title}\n"));
        }
        for Finding {
            place, what, why, ..
        } in lines
        {
            text.push_str(&format!("#   {place}: {what}: {why}\n"));
        }
    }
    text
}

/// The file of users. Their hashes are of another kind, and nobody can make one of the other.
fn users(
    listeners: &ListenersText,
    files: &dyn Files,
    report: &mut Report,
) -> Result<Option<String>, Problem> {
    if listeners.password_files.is_empty() {
        return Ok(None);
    }
    let mut text = String::new();
    for line in &listeners.password_files {
        let path = Path::new(&line.value);
        let read = files.read(path).map_err(|error| line.problem(error))?;
        let entries = read.lines().zip(1..);
        let entries = entries.filter(|(entry, _)| !entry.is_empty() && !entry.starts_with('#'));
        let mut count = 0;
        for (entry, number) in entries {
            let Some((name, _)) = entry.split_once(':') else {
                continue;
            };
            count += 1;
            text.push_str(&format!(
                "# tidegate-edge passwd {} >> users\n",
                quoted(name)
            ));
            report.push(Finding {
                place: Place {
                    file: path.to_owned(),
                    line: number,
                },
                what: format!("user {name}"),
                fate: Fate::NotCarried,
                why: "the hash is one-way, and of another kind than the node's: give the user a password with tidegate-edge passwd".to_owned(),
            });
        }
        report.add(
            line,
            Fate::Mapped,
            format!("mqtt.users; {count} users need new passwords"),
        );
    }
    Ok(Some(text))
}

/// The file of rules.
fn rules(
    listeners: &ListenersText,
    files: &dyn Files,
    report: &mut Report,
) -> Result<Option<String>, Vec<Problem>> {
    let Some(line) = &listeners.acl_file else {
        return Ok(None);
    };
    let path = Path::new(&line.value);
    let read = files
        .read(path)
        .map_err(|error| vec![line.problem(error)])?;
    let comers = Comers {
        anonymous: listeners.lets_anonymous_in,
        anonymous_everywhere: !listeners.asks_somewhere,
        named: listeners.names_users,
    };
    let rules = acl::translate(path, &read, comers, report)?;
    report.add(line, Fate::Mapped, "mqtt.acl");
    Ok(Some(rules))
}
