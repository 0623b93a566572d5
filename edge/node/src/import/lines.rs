//! The lines of a mosquitto.conf and of what it includes. The reader is passed in: no I/O here.

use std::path::{Path, PathBuf};

use super::report::Place;

/// What the files are read with.
pub(crate) trait Files {
    /// # Errors
    /// In one line.
    fn read(&self, path: &Path) -> Result<String, String>;

    /// The `*.conf` of a folder, in the order of their names.
    ///
    /// # Errors
    /// In one line.
    fn configurations(&self, folder: &Path) -> Result<Vec<PathBuf>, String>;

    /// The same from wherever it is read: mosquitto's paths start where it starts, and so do those of an import.
    fn absolute(&self, path: &Path) -> PathBuf;
}

/// Paths that the result names as they are.
const NAMED: [&str; 6] = [
    "bridge_cafile",
    "bridge_certfile",
    "bridge_keyfile",
    "cafile",
    "certfile",
    "keyfile",
];

/// An option and its value, which may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) option: String,
    pub(super) value: String,
}

/// A file that cannot be used, or a place in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(super) place: Place,
    pub(super) message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.place, self.message)
    }
}

/// All lines, each `include_dir` replaced by what it names. As mosquitto does, it is taken from the main file alone.
pub(super) fn read(main: &Path, files: &dyn Files) -> Result<Vec<Line>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut lines = Vec::new();
    for line in of_file(main, None, files, &mut problems) {
        if line.option != "include_dir" {
            lines.push(line);
            continue;
        }
        let names = files.configurations(Path::new(&line.value));
        let refused = |message| Problem {
            place: line.place.clone(),
            message,
        };
        match names {
            Ok(names) => {
                for name in names {
                    lines.extend(of_file(&name, Some(&line.place), files, &mut problems));
                }
                lines.push(line);
            }
            Err(message) => problems.push(refused(message)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    for line in &mut lines {
        if NAMED.contains(&line.option.as_str()) && !line.value.is_empty() {
            let path = files.absolute(Path::new(&line.value));
            line.value = path.display().to_string();
        }
    }
    Ok(lines)
}

fn of_file(
    path: &Path,
    included_at: Option<&Place>,
    files: &dyn Files,
    problems: &mut Vec<Problem>,
) -> Vec<Line> {
    let text = match files.read(path) {
        Ok(text) => text,
        Err(message) => {
            let place = included_at.cloned().unwrap_or(Place {
                file: path.to_owned(),
                line: 0,
            });
            problems.push(Problem { place, message });
            return Vec::new();
        }
    };
    let lines: Vec<_> = Line::all(path, &text).collect();
    let nested = lines.iter().filter(|line| line.option == "include_dir");
    for line in nested.filter(|_| included_at.is_some()) {
        problems.push(line.problem("include_dir is for the main file alone"));
    }
    lines
}

impl Line {
    /// Those of a file, without comments.
    pub(super) fn all(path: &Path, text: &str) -> impl Iterator<Item = Self> {
        text.lines().zip(1..).filter_map(|(text, number)| {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                return None;
            }
            let (option, value) = text.split_once([' ', '\t']).unwrap_or((text, ""));
            Some(Self {
                place: Place {
                    file: path.to_owned(),
                    line: number,
                },
                option: option.to_owned(),
                value: value.trim().to_owned(),
            })
        })
    }

    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            place: self.place.clone(),
            message: format!("{}: {}", self.option, message.into()),
        }
    }

    /// Of a value that is one word. mosquitto looks at nothing behind it, and people write comments there.
    pub(super) fn word(&self) -> &str {
        self.value.split_whitespace().next().unwrap_or_default()
    }

    pub(super) fn boolean(&self) -> Result<bool, Problem> {
        match self.word() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(self.problem(format!("{other:?} is neither true nor false"))),
        }
    }

    /// Negative ones are mosquitto's "none".
    pub(super) fn number(&self) -> Result<i64, Problem> {
        let text = self.word();
        let wrong = |_| self.problem(format!("{text:?} is not a number"));
        text.parse().map_err(wrong)
    }

    pub(super) fn text(&self) -> Result<String, Problem> {
        match self.value.is_empty() {
            true => Err(self.problem("it has no value")),
            false => Ok(self.value.clone()),
        }
    }
}
