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
    /// YARN has the application, or the session has the job.
    Submitted {
        application_id: String,
        /// Absent where the ApplicationMaster plans.
        #[serde(skip_serializing_if = "Option::is_none")]
        job_id: Option<String>,
        tracking_url: String,
        bytes_uploaded: u64,
        /// Whether the application was there before.
        #[serde(skip)]
        to_session: bool,
    },
    /// The ApplicationMaster has a job that it planned itself.
    Job { job_id: String, name: String },
    /// A session can take jobs.
    Session {
        application_id: String,
        name: String,
        tracking_url: String,
    },
    /// Something worth knowing about what was asked for.
    Remark { text: String },
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
    /// The client leaves, the job or the session goes on.
    Detached {
        application_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        job_id: Option<String>,
        reason: String,
        /// The command that ends it.
        to_stop: String,
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
                to_session,
                ..
            } => {
                self.close_line();
                if *to_session {
                    out(&format!("Submitted to session {application_id}"));
                } else {
                    out(&format!("Submitted application {application_id}"));
                }
                out(&format!("Tracking URL: {tracking_url}"));
                if let Some(job_id) = job_id {
                    out(&format!("Job has been submitted with JobID {job_id}"));
                }
            }
            Event::Job { job_id, .. } => {
                self.close_line();
                out(&format!("Job has been submitted with JobID {job_id}"));
            }
            Event::Session {
                application_id,
                name,
                tracking_url,
            } => {
                self.note(&format!("session `{name}` is RUNNING"));
                out(&format!("Session {application_id}"));
                out(&format!("Tracking URL: {tracking_url}"));
                err(&format!(
                    "to submit:  spindle run -t yarn-session -yid {application_id} JOB [ARGS]...\n\
                     to stop:    spindle session stop -id {application_id}"
                ));
            }
            Event::Remark { text } => self.note(text),
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
                reason, to_stop, ..
            } => self.note(&format!("{reason}. To stop it: {to_stop}")),
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

/// A table for people: columns as wide as their widest cell, under a line of headings.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .chain([headings[column].len()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut headings.iter().copied())];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
}

/// A time for people, in UTC, from milliseconds since the epoch.
pub(crate) fn time(epoch_ms: i64) -> String {
    let seconds = epoch_ms.div_euclid(1000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March have their leap day at the end.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
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
    fn a_table_has_columns_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".to_owned(), "RUNNING".to_owned()],
            vec!["a longer name".to_owned(), String::new()],
        ];
        assert_eq!(
            table(&["NAME", "STATE"], &rows),
            "NAME           STATE\na              RUNNING\na longer name"
        );
        assert_eq!(table(&["NAME", "STATE"], &[]), "NAME  STATE");
    }

    #[test]
    fn times_are_told_in_utc() {
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(951_782_399_000), "2000-02-28 23:59:59");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(time(1_795_232_731_999), "2026-11-21 03:45:31");
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
