//! The documentation's lines to paste, run as they stand there. A page is Markdown; its blocks run in their order, in one
//! folder, each by what its language says. What a line before a block names, as in "`sink.properties`:", is a file: the
//! block is written there and not run. A block of `text` is what the one before it prints, among other lines.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::workspace;

/// A block of a page.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    pub language: String,
    /// The file that it is.
    pub file: Option<String>,
    pub text: String,
    /// Lines that it prints.
    pub prints: Vec<String>,
}

/// The page's text, without what a shell would not take.
pub fn read(path: &str) -> String {
    let path = workspace::root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn blocks(page: &str) -> Vec<Block> {
    let mut all: Vec<Block> = Vec::new();
    let (mut open, mut before) = (None::<Block>, String::new());
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => {
                close(open.take().expect("it is open"), &mut all);
                // What named this block names no other.
                before.clear();
            }
            (Some(block), None) => block.text.extend([line, "\n"]),
            (None, Some(language)) => {
                let file = file_named(&before);
                open = Some(Block {
                    language: language.to_owned(),
                    file,
                    text: String::new(),
                    prints: Vec::new(),
                });
            }
            (None, None) if !line.is_empty() => before = line.to_owned(),
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a block that does not end");
    all
}

fn close(block: Block, all: &mut Vec<Block>) {
    match all.last_mut() {
        Some(last) if block.language == "text" => {
            last.prints = block.text.lines().map(str::to_owned).collect();
        }
        _ => all.push(block),
    }
}

/// "… `name.properties`:" names a file.
fn file_named(line: &str) -> Option<String> {
    let (_, name) = line.strip_suffix("`:")?.rsplit_once('`')?;
    name.contains('.').then(|| name.to_owned())
}

/// Whether the lines of a block of `text` must come in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    AsPrinted,
    Any,
}

/// Runs a page's blocks in `folder`: `prepare` makes what a block is replaced by, and `runner` the command that has the
/// block's file as its argument still to come.
#[track_caller]
pub fn run(
    page: &str,
    folder: &Path,
    order: Order,
    replace: impl Fn(&str) -> String,
    runner: impl Fn(&str) -> Option<(Command, &'static str)>,
) {
    let mut count = 0;
    for (at, block) in blocks(page).into_iter().enumerate() {
        let text = replace(&block.text);
        if let Some(file) = &block.file {
            write(&folder.join(file), &text);
            continue;
        }
        let Some((mut command, name)) = runner(&block.language) else {
            panic!("nothing runs {}:\n{text}", block.language);
        };
        // What is compiled is compiled by itself.
        let own = folder.join(format!("block-{at}"));
        fs::create_dir_all(&own).expect("a folder can be made");
        write(&own.join(name), &text);
        command.arg(own.join(name));
        let output = command.output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", block.language));
        let [said, errors] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        assert!(output.status.success(), "{text}\n{said}\n{errors}");
        let mut behind = said.lines();
        for wanted in &block.prints {
            let wanted = replace(wanted);
            let is_it = |line: &str| line.trim_end() == wanted;
            let there = match order {
                Order::AsPrinted => behind.any(is_it),
                Order::Any => said.lines().any(is_it),
            };
            assert!(
                there,
                "no {wanted:?} is printed by\n{text}\n{said}\n{errors}"
            );
        }
        count += 1;
    }
    assert!(count > 0, "no block is run");
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n\n`a.properties`:\n\n```properties\nk=v\n```\n\nThen:\n\n```sh\ncat a.properties\n```\n\nprints\n\n```text\nk=v\n```\n";

    #[test]
    fn a_block_right_behind_a_file_is_run() {
        let page = "`a.properties`:\n\n```properties\nk=v\n```\n\n```sh\ncat a.properties\n```\n";
        let blocks = blocks(page);
        assert_eq!(blocks[0].file.as_deref(), Some("a.properties"));
        assert_eq!(blocks[1].file, None);
    }

    #[test]
    fn a_block_is_a_file_or_is_run_and_text_is_what_it_prints() {
        let blocks = blocks(PAGE);
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].file.as_deref(), Some("a.properties"));
        assert_eq!(blocks[1].language, "sh");
        assert_eq!(blocks[1].file, None);
        assert_eq!(blocks[1].prints, ["k=v"]);
    }
}
