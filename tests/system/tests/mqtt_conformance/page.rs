//! The table of statements: it is made of the clauses' files and of the tests that cite them, and holds
//! both together. `TIDEGATE_WRITE_PAGE=1` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate_system_tests::workspace;

/// Statements that bind the server and have a reason in place of a test, in both files together.
const REASONS_MAX: usize = 2;

/// How the page begins, and each specification's short and long name.
const TITLE: &str = "# MQTT conformance

Each normative statement of MQTT 5 and of MQTT 3.1.1, in words of our own, and the tests that show it: raw packets over a
real socket, in `tests/system/tests/mqtt_conformance`. `tests/run mqtt_conformance` runs them, makes this page of their
names, and fails where a statement that binds a server has neither a test nor one of two reasons.
*client* is a statement that binds clients alone; where a test stands beside it, it shows what the server does with a
client that breaks it, or that the server keeps to it as well. Where the server knowingly does less (retained messages to
sessions that last, refusals told after a delivery) stands under [Not yet](architecture.md#not-yet).
";
const SPECIFICATIONS: [(&str, &str); 2] = [("v5", "MQTT 5"), ("v311", "MQTT 3.1.1")];

#[derive(Clone, Debug)]
struct Clause {
    number: String,
    binds: String,
    statement: String,
    reason: Option<String>,
}

/// A test: its module and name, and what it cites as (specification, number).
#[derive(Clone, Debug)]
struct Test {
    name: String,
    cites: BTreeSet<(String, String)>,
}

fn folder() -> PathBuf {
    workspace::root().join("tests/system/tests/mqtt_conformance")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn clauses(specification: &str) -> Vec<Clause> {
    let file = if specification == "v5" {
        "mqtt5.tsv"
    } else {
        "mqtt311.tsv"
    };
    let text = read(&workspace::root().join("tests/system/clauses").join(file));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| clause(file, line)).collect()
}

fn clause(file: &str, line: &str) -> Clause {
    let fields: Vec<_> = line.split('\t').collect();
    let (number, binds, statement) = match fields[..] {
        [number, binds, statement] | [number, binds, statement, _] => (number, binds, statement),
        _ => panic!("{file}: {line:?} has not three or four fields"),
    };
    assert!(
        ["server", "client", "both"].contains(&binds),
        "{file}: {line}"
    );
    Clause {
        number: number.to_owned(),
        binds: binds.to_owned(),
        statement: statement.to_owned(),
        reason: fields.get(3).map(|reason| (*reason).to_owned()),
    }
}

/// All tests of this folder, as they stand in the source.
fn tests() -> Vec<Test> {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut tests = Vec::new();
    for file in files {
        let module = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = read(&file);
        // A test ends where the next begins.
        for part in text.split("#[test]\nfn ").skip(1) {
            let name = part.split('(').next().unwrap();
            if module != "page" {
                tests.push(test(&format!("{module}::{name}"), name, part));
            }
        }
    }
    tests
}

fn test(full_name: &str, name: &str, part: &str) -> Test {
    let mut cites =
        BTreeSet::from([number_of(name).unwrap_or_else(|| panic!("{name} names no statement"))]);
    let macros = part.split("clauses!(").skip(1);
    for text in macros.filter_map(|text| text.split(");").next()) {
        for group in text.split(';') {
            let specification = group.split_whitespace().next().unwrap();
            let numbers = group.split('"').skip(1).step_by(2);
            cites.extend(numbers.map(|number| (specification.to_owned(), number.to_owned())));
        }
    }
    Test {
        name: full_name.to_owned(),
        cites,
    }
}

/// `v5_3_1_2_5_a_session…` is 3.1.2-5 of MQTT 5.
fn number_of(name: &str) -> Option<(String, String)> {
    let mut words = name.split('_');
    let specification = words.next().filter(|word| ["v5", "v311"].contains(word))?;
    let numbers: Vec<_> = words
        .take(4)
        .filter(|word| word.parse::<u32>().is_ok())
        .collect();
    match numbers[..] {
        [a, b, c, d] => Some((specification.to_owned(), format!("{a}.{b}.{c}-{d}"))),
        _ => None,
    }
}

fn row(
    clause: &Clause,
    cited: &BTreeMap<(String, String), Vec<String>>,
    specification: &str,
) -> String {
    let key = (specification.to_owned(), clause.number.clone());
    let tests = cited.get(&key).map(|names| names.join("<br>"));
    let shown = match (tests, &clause.reason, &clause.binds[..]) {
        (Some(tests), _, "client") => format!("*client*<br>{tests}"),
        (Some(tests), _, _) => tests,
        (None, Some(reason), _) => format!("**no test**: {reason}"),
        (None, None, _) => "*client*".to_owned(),
    };
    format!(
        "| MQTT-{} | {} | {shown} |\n",
        clause.number, clause.statement
    )
}

/// The page, and what is wrong with what it is made of.
fn page() -> (String, Vec<String>) {
    let mut wrong = Vec::new();
    let mut cited: BTreeMap<_, Vec<String>> = BTreeMap::new();
    let tests = tests();
    for test in &tests {
        for key in &test.cites {
            cited
                .entry(key.clone())
                .or_default()
                .push(format!("`{}`", test.name));
        }
    }
    let mut text = TITLE.to_owned();
    let mut known = BTreeSet::new();
    let mut reasons = 0;
    for (specification, name) in SPECIFICATIONS {
        let clauses = clauses(specification);
        let is_cited = |clause: &&Clause| {
            cited.contains_key(&(specification.to_owned(), clause.number.clone()))
        };
        for clause in &clauses {
            if !known.insert((specification.to_owned(), clause.number.clone())) {
                wrong.push(format!("{name}: {} stands there twice", clause.number));
            }
            match (is_cited(&clause), &clause.reason) {
                (true, Some(_)) => {
                    wrong.push(format!("{name}: {} has a test and a reason", clause.number))
                }
                (false, None) if clause.binds != "client" => {
                    wrong.push(format!(
                        "{name}: {} has no test: {}",
                        clause.number, clause.statement
                    ));
                }
                (false, Some(_)) => reasons += 1,
                _ => {}
            }
        }
        let count = clauses.iter().filter(is_cited).count();
        let client = clauses
            .iter()
            .filter(|clause| !is_cited(clause) && clause.binds == "client");
        let client = client.count();
        let total = clauses.len();
        write!(text, "\n## {name}\n\n{total} statements: {count} with tests, {client} that bind clients and \
            show nothing at a server, {} with a reason.\n\n| statement | says | tests |\n|---|---|---|\n",
            total - count - client).unwrap();
        text.extend(
            clauses
                .iter()
                .map(|clause| row(clause, &cited, specification)),
        );
    }
    let unknown = cited.keys().filter(|key| !known.contains(*key));
    wrong.extend(
        unknown.map(|key| format!("{key:?} is cited by {:?}, and is no statement", cited[key])),
    );
    if reasons > REASONS_MAX {
        wrong.push(format!(
            "{reasons} statements have a reason for a test, more than {REASONS_MAX}"
        ));
    }
    (text, wrong)
}

#[test]
fn every_statement_has_a_test_and_the_page_says_which() {
    let (text, wrong) = page();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let path = workspace::root().join("deploy/docs/mqtt-conformance.md");
    if std::env::var_os("TIDEGATE_WRITE_PAGE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "{} is stale: write it with TIDEGATE_WRITE_PAGE=1",
        path.display()
    );
}

/// What is read from the source is what runs: no test is hidden from the page, and none is made up.
#[test]
fn the_tests_of_the_page_are_those_that_run() {
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("--list")
        .output()
        .unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    let ran: BTreeSet<_> = list
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let of_page = |name: &&&str| name.contains("::page::");
    assert_eq!(ran.iter().filter(of_page).count(), 2);
    let ran: BTreeSet<_> = ran.into_iter().filter(|name| !of_page(&name)).collect();
    let names: Vec<_> = tests()
        .iter()
        .map(|test| format!("mqtt_conformance::{}", test.name))
        .collect();
    assert_eq!(ran, names.iter().map(String::as_str).collect());
}
