//! Judges a cluster before it is needed: each check is a pure judgement of what was seen, one line with what to do.

pub(crate) mod fetch;
mod hdfs;
mod queue;
mod reach;

pub(crate) use fetch::examine;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It works, but somebody should know.
    Warn,
    /// Jobs will not run.
    Fail,
    /// It could not be looked at.
    Skip,
}

/// What kind of failure it is, by the exit code that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A setting, a right or a limit is not as it should be.
    #[default]
    Configuration,
    /// Somebody does not answer.
    Unreachable,
}

/// One line.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(crate) struct Check {
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    #[serde(skip)]
    pub(crate) kind: Kind,
    /// What was looked at, and what was seen.
    pub(crate) seen: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

impl Check {
    fn new(check: &'static str, level: Level, seen: impl Into<String>) -> Self {
        Self {
            check,
            level,
            kind: Kind::Configuration,
            seen: seen.into(),
            advice: None,
        }
    }

    fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, seen)
    }

    fn warn(check: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(check, Level::Warn, seen).advise(advice)
    }

    fn fail(check: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(check, Level::Fail, seen).advise(advice)
    }

    fn unreachable(
        check: &'static str,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            kind: Kind::Unreachable,
            ..Self::fail(check, seen, advice)
        }
    }

    fn skip(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, Level::Skip, why)
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The line for people.
    pub(crate) fn line(&self) -> String {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
            Level::Skip => "-",
        };
        let advice = self.advice.as_ref();
        let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
        let line = format!("{level:<5} {:<18} {}{advice}", self.check, self.seen);
        line.split('\n').collect::<Vec<_>>().join(" ")
    }
}

/// The exit code: 0 if nothing failed, 3 if somebody does not answer, else 2.
pub(crate) fn exit_code(checks: &[Check]) -> u8 {
    let failed = |kind| {
        let mut checks = checks.iter();
        checks.any(|check| check.level == Level::Fail && check.kind == kind)
    };
    if failed(Kind::Unreachable) {
        crate::error::Exit::Cluster as u8
    } else if failed(Kind::Configuration) {
        crate::error::Exit::Usage as u8
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_failure_gives_the_exit_code() {
        let fine = Check::ok("a", "x");
        let warned = Check::warn("a", "x", "y");
        let wrong = Check::fail("a", "x", "y");
        let away = Check::unreachable("a", "x", "y");
        assert_eq!(exit_code(&[fine.clone(), warned, Check::skip("a", "x")]), 0);
        assert_eq!(exit_code(&[fine.clone(), wrong.clone()]), 2);
        assert_eq!(exit_code(&[wrong, away, fine]), 3);
    }

    #[test]
    fn a_check_is_one_line() {
        let check = Check::fail("queue", "first\nsecond", "do this");
        assert_eq!(
            check.line(),
            "FAIL  queue              first second; do this"
        );
    }
}
