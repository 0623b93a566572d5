//! rumqttc as a program of `tests/interop`; the contract stands in `../README.md` beside this folder.

mod client;
mod scenarios;

use std::process::ExitCode;

use scenarios::Failure;
use serde_json::json;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub url: String,
    pub version_5: bool,
    /// Begins all topics and client ids.
    pub name: String,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(run())
}

async fn run() -> ExitCode {
    let (options, wanted) = match parse(std::env::args().skip(1)) {
        Ok(parsed) => parsed,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    for scenario in wanted.split(',') {
        if let Err(Failure(error)) = scenarios::run(scenario, &options).await {
            println!("{}", json!({ "scenario": scenario, "error": error }));
            return ExitCode::FAILURE;
        }
        println!("{}", json!({ "scenario": scenario, "passed": true }));
    }
    ExitCode::SUCCESS
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Options, String), String> {
    let (mut options, mut wanted) = (Options::default(), String::new());
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} has no value"))?;
        match name.as_str() {
            "--url" => options.url = value,
            "--version" => options.version_5 = value == "5",
            "--name" => options.name = value,
            "--scenario" => wanted = value,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok((options, wanted))
}
