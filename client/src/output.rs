//! What a command prints: sentences for people, or one JSON object a line for programs.
//!
//! For people, what they asked for goes to standard output (ids, collected results) and how it goes to standard error.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;
use spindle_common::id::JobId;

use crate::error::CliError;

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Sentences.
    Text,
    /// One JSON object a line.
    Json,
}

/// Something worth telling, in the order of a job's life.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// Artifacts are in HDFS.
    Uploaded { bytes: u64, files: usize },
    /// YARN has the application.
    Submitted {
        application_id: String,
        job_id: String,
        tracking_url: String,
        bytes_uploaded: u64,
    },
    /// YARN took it and it waits for its first container.
    Accepted {
        application_id: String,
        reason: String,
    },
    /// The ApplicationMaster has registered.
    Registered {
        application_id: String,
        host: String,
        tracking_url: String,
    },
    /// The job entered a state.
    JobState {
        job_id: String,
        state: String,
        /// Milliseconds since the epoch, by the JobManager's clock.
        at_ms: u64,
        cause: Option<String>,
    },
    /// How far it is.
    Progress {
        running: u32,
        finished: u32,
        tasks: u32,
        records_in: u64,
        records_out: u64,
        late: u64,
        progress: f64,
    },
    /// Rows of a collecting sink.
    Collected {
        name: String,
        rows: Vec<serde_json::Value>,
    },
    /// The application is over.
    Finished {
        application_id: String,
        status: String,
        diagnostics: String,
    },
    /// The client leaves, the job goes on.
    Detached {
        application_id: String,
        job_id: String,
        reason: String,
    },
}

/// Prints events and errors in the chosen form.
pub(crate) struct Reporter {
    format: Format,
    start: Instant,
    live: bool,
    line_open: bool,
    last_progress: Option<Instant>,
    name: String,
}

#[derive(Serialize)]
struct Timed<'a> {
    #[serde(flatten)]
    event: &'a Event,
    /// Seconds since the start of the command.
    t: f64,
}

impl Reporter {
    pub(crate) fn new(format: Format, start: Instant) -> Self {
        Self {
            format,
            start,
            live: std::io::stderr().is_terminal(),
            line_open: false,
            last_progress: None,
            name: String::new(),
        }
    }

    /// The job's name, for sentences.
    pub(crate) fn set_name(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// Tells of an event.
    pub(crate) fn event(&mut self, event: &Event) {
        match self.format {
            Format::Json => {
                let t = (self.start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
                let line =
                    serde_json::to_string(&Timed { event, t }).expect("an event is plain data");
                out(&line);
            }
            Format::Text => self.sentence(event),
        }
    }

    fn sentence(&mut self, event: &Event) {
        match event {
            Event::Uploaded { bytes, files } => {
                if *files > 0 {
                    self.note(&format!(
                        "uploaded {files} file{} ({})",
                        plural(*files),
                        size(*bytes)
                    ));
                }
            }
            Event::Submitted {
                application_id,
                job_id,
                tracking_url,
                ..
            } => {
                self.close_line();
                out(&format!("Submitted application {application_id}"));
                out(&format!("Tracking URL: {tracking_url}"));
                out(&format!("Job has been submitted with JobID {job_id}"));
            }
            Event::Accepted { reason, .. } => self.note(&format!(
                "ACCEPTED: waiting for the ApplicationMaster's container{}",
                colon(reason)
            )),
            Event::Registered { host, .. } => {
                self.note(&format!("the ApplicationMaster runs on {host}"))
            }
            Event::JobState { state, cause, .. } => {
                let name = self.name.clone();
                self.note(&format!(
                    "job `{name}` is {state}{}",
                    colon(cause.as_deref().unwrap_or_default())
                ));
            }
            Event::Progress {
                running,
                finished,
                tasks,
                records_in,
                late,
                progress,
                ..
            } => {
                let late = if *late > 0 {
                    format!(", {} late records dropped", number(*late))
                } else {
                    String::new()
                };
                let text = format!(
                    "RUNNING: {running} of {tasks} tasks running, {finished} finished, {} records read, {:.0} %{late}",
                    number(*records_in),
                    progress * 100.0
                );
                self.progress(&text);
            }
            Event::Collected { rows, .. } => {
                self.close_line();
                for row in rows {
                    out(&row.to_string());
                }
            }
            Event::Finished {
                application_id,
                status,
                diagnostics,
            } => {
                self.note(&format!(
                    "{application_id} ended: {status}{}",
                    colon(diagnostics)
                ));
            }
            Event::Detached {
                application_id,
                reason,
                ..
            } => {
                self.note(&format!(
                    "{reason}; the job goes on. To stop it: yarn application -kill {application_id}"
                ));
            }
        }
    }

    /// Tells of the error that ends the command.
    pub(crate) fn error(&mut self, error: CliError) {
        self.close_line();
        match self.format {
            Format::Json => {
                let line = serde_json::json!({
                    "event": "error",
                    "kind": error.exit.name(),
                    "message": error.message(),
                    "hint": error.hint_text(),
                });
                out(&line.to_string());
            }
            Format::Text => err(&format!("{:?}", miette::Report::new(error))),
        }
    }

    fn note(&mut self, text: &str) {
        self.close_line();
        err(&format!(
            "[{:6.2} s] {text}",
            self.start.elapsed().as_secs_f64()
        ));
    }

    fn progress(&mut self, text: &str) {
        let now = Instant::now();
        if self.live {
            drop(write!(
                std::io::stderr(),
                "\r\x1b[K[{:6.2} s] {text}",
                self.start.elapsed().as_secs_f64()
            ));
            drop(std::io::stderr().flush());
            self.line_open = true;
        } else if self
            .last_progress
            .is_none_or(|last| (now - last).as_secs() >= 2)
        {
            self.note(text);
            self.last_progress = Some(now);
        }
    }

    fn close_line(&mut self) {
        if std::mem::take(&mut self.line_open) {
            err("");
        }
    }
}

fn out(line: &str) {
    // A reader that has gone away is no reason to stop watching.
    drop(writeln!(std::io::stdout(), "{line}"));
    drop(std::io::stdout().flush());
}

fn err(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

fn colon(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

const fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Prints what was asked for.
pub(crate) fn print(text: &str) {
    out(text);
}

/// A job id drawn at random.
pub(crate) fn new_job_id() -> JobId {
    JobId::from_bytes(*uuid::Uuid::new_v4().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_read_well() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(336_776), "336,776");
        assert_eq!(number(1_000_000), "1,000,000");
        assert_eq!(size(512), "512 bytes");
        assert_eq!(size(13_337_000), "13.3 MB");
    }

    #[test]
    fn an_event_is_one_json_object_with_its_time() {
        let event = Event::Accepted {
            application_id: "application_1_0001".to_owned(),
            reason: String::new(),
        };
        let json = serde_json::to_value(Timed {
            event: &event,
            t: 0.5,
        })
        .unwrap();
        assert_eq!(
            json,
            serde_json::json!({"event": "accepted", "application_id": "application_1_0001", "reason": "", "t": 0.5})
        );
    }
}
