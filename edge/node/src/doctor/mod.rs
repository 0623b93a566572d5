//! `tidegate-edge doctor`: looks at all that an edge needs of its machine, its network and its files, and says
//! what to do about what is wrong. It changes nothing, and disturbs no node that runs: it takes no lock and says
//! no Hello.
//!
//! Each check is two things: facts, which are read from the machine, and a judgement of them, which is a function.

pub mod card;
mod certificates;
mod clock;
mod disk;
mod doors;
mod listeners;
mod mounts;
mod network;
mod open_files;
mod owners;
mod report;
mod sources;
mod standing;
mod times;

use std::path::{Path, PathBuf};

use tidegate_shared::fleet::EdgeSpec;

pub use mounts::Mount;
pub use report::{Finding, Level, Report};
pub use standing::{Standing, http_get};

use crate::load_spec;

/// Looks at everything. `data` overrides what the configuration says.
pub async fn examine(config: Option<&Path>, data: Option<PathBuf>) -> Report {
    let mut report = Report::default();
    let mut spec = match load(config) {
        Ok((spec, finding)) => {
            report.add(finding);
            spec
        }
        Err(finding) => {
            report.add(*finding);
            return report;
        }
    };
    if let Some(data) = data {
        spec.data = data;
    }
    let standing = Standing::of(&spec);
    report.add(standing.judge(&spec));
    let link = network::look(&spec).await;
    report.extend(network::judge(&spec, &link));
    report.extend(certificates::look(&spec, clock::now_ms()));
    report.add(clock::judge(&clock::look(&spec, link.cloud_clock())));
    report.extend(disk::judge(&disk::look(&spec)));
    report.add(open_files::judge(&open_files::look(&spec, &standing)));
    report.extend(listeners::look(&spec, &standing).await);
    report.extend(doors::look(&spec));
    report.extend(sources::look(&spec).await);
    report
}

fn load(config: Option<&Path>) -> Result<(EdgeSpec, Finding), Box<Finding>> {
    let Some(path) = config else {
        let found = "no --config: the defaults are looked at, and there is no uplink";
        return Ok((EdgeSpec::default(), Finding::ok("config", found)));
    };
    match load_spec(path) {
        Ok(spec) => {
            let found = format!("{} loads", path.display());
            Ok((spec, Finding::ok("config", found)))
        }
        Err(error) => Err(Box::new(Finding::problem(
            "config",
            format!("{error:#}"),
            "correct it; nothing else can be looked at before. Every key is explained in the sample edge.yaml",
        ))),
    }
}
