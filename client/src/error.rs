//! What a command can end with besides success, and the exit code of each.

use std::error::Error;
use std::fmt;

/// Why a command ended, by exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The job failed.
    JobFailed = 1,
    /// Wrong usage, configuration, file or input: nothing was uploaded or started.
    Usage = 2,
    /// The cluster cannot be reached, or refused.
    Cluster = 3,
    /// The job was cancelled.
    Cancelled = 4,
}

impl Exit {
    /// Its name in JSON output.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::JobFailed => "job-failed",
            Self::Usage => "usage",
            Self::Cluster => "cluster",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An error that ends a command: what was tried, why it failed, and what to do.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) exit: Exit,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl CliError {
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            hint: None,
            source: None,
        }
    }

    /// The user can mend it before anything was started.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// The cluster does not answer or does not want to.
    pub(crate) fn cluster(what: impl Into<String>) -> Self {
        Self::new(Exit::Cluster, what)
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What caused it.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The sentence with all its causes, on one line.
    pub(crate) fn message(&self) -> String {
        report(self)
    }

    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for CliError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

impl miette::Diagnostic for CliError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint
            .as_ref()
            .map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }
}

/// An error and its causes, joined by colons.
pub(crate) fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    text
}
