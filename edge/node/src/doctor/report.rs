//! What was found, as people and as programs read it.

use std::fmt;

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// The node works, and something will hurt one day.
    Warning,
    /// The node does not start, or does not do what it is for.
    Problem,
}

/// One line, and what to do about it where it is not ok.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    pub check: &'static str,
    pub found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// All of them, in the order of the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
}

impl Finding {
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            check,
            found: found.into(),
            advice: None,
        }
    }

    pub fn warning(
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Warning,
            check,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }

    pub fn problem(
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Problem,
            ..Self::warning(check, found, advice)
        }
    }
}

impl Report {
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    pub fn count(&self, level: Level) -> usize {
        let of_level = |finding: &&Finding| finding.level == level;
        self.findings.iter().filter(of_level).count()
    }

    /// For programs: the findings, and how many of each level.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "problems": self.count(Level::Problem),
            "warnings": self.count(Level::Warning),
            "findings": self.findings,
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks = self.findings.iter().map(|finding| finding.check.len());
        let width = checks.max().unwrap_or_default();
        for finding in &self.findings {
            let (level, check, found) = (finding.level, finding.check, &finding.found);
            writeln!(formatter, "{level:<7}  {check:<width$}  {found}")?;
            if let Some(advice) = &finding.advice {
                writeln!(formatter, "{:<7}  {:<width$}  -> {advice}", "", "")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_aligned_and_advice_stands_below() {
        let mut report = Report::default();
        report.add(Finding::ok("dns", "all is well"));
        report.add(Finding::problem("certificate", "it is over", "renew it"));
        let expected = "ok       dns          all is well\n\
                        problem  certificate  it is over\n                      -> renew it\n";
        assert_eq!(report.to_string(), expected);
        let json = report.to_json();
        assert_eq!(
            (json["problems"].as_u64(), json["warnings"].as_u64()),
            (Some(1), Some(0))
        );
        assert_eq!(json["findings"][1]["level"], "problem");
        assert!(json["findings"][0].get("advice").is_none());
    }
}
