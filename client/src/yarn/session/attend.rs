//! Stays with a session: tells what changes, takes commands from standard input; and stops it.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::Duration;

use spindle_hadoop::proto::yarn::YarnApplicationState;
use spindle_hadoop::yarn::ApplicationId;
use tokio::sync::mpsc;

use super::{Session, find, forget, hint_file};
use crate::error::{CliError, Exit};
use crate::output::{Event, Reporter};
use crate::rest::{JobOverview, RestClient};
use crate::settings::Settings;
use crate::yarn::cluster::Cluster;
use crate::yarn::jobs::draw;
use crate::yarn::reports::{Reports, conclude, is_over};
use crate::yarn::watch::{INTERRUPTED, left};

/// Between two looks at the session.
const PACE: Duration = Duration::from_millis(500);
/// How long a session may take to end: its jobs are cancelled first.
const END_LIMIT: Duration = Duration::from_secs(60);

const HELP: &str = "help  this text\njobs  the session's jobs\nstop  ends the session and all its jobs\nquit  leaves; the session goes on";

/// Finds a session and stays with it; the exit code.
pub(crate) async fn attach(
    settings: &Settings,
    given: Option<ApplicationId>,
    reporter: &mut Reporter,
) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop()?;
    let cluster = Cluster::open(&hadoop, &settings.user)?;
    let session = find(&cluster, settings, given).await?;
    reporter.set_name(session.report.name());
    reporter.event(&Event::Session {
        application_id: session.id.to_string(),
        name: session.report.name().to_owned(),
        tracking_url: session.report.tracking_url().to_owned(),
    });
    attend(&cluster, settings, &session, reporter).await
}

/// Finds a session and ends it; the exit code.
pub(crate) async fn stop(
    settings: &Settings,
    given: Option<ApplicationId>,
    reporter: &mut Reporter,
) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop()?;
    let cluster = Cluster::open(&hadoop, &settings.user)?;
    let session = find(&cluster, settings, given).await?;
    end(&cluster, &session, reporter).await
}

/// What a line on standard input wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Nothing,
    Help,
    Jobs,
    Stop,
    Quit,
    Unknown,
}

impl Line {
    fn of(text: &str) -> Self {
        match text.trim() {
            "" => Self::Nothing,
            "help" | "?" => Self::Help,
            "jobs" | "list" => Self::Jobs,
            "stop" => Self::Stop,
            "quit" | "exit" => Self::Quit,
            _ => Self::Unknown,
        }
    }
}

/// Stays until the session is over or the user leaves; the exit code.
pub(super) async fn attend(
    cluster: &Cluster,
    settings: &Settings,
    session: &Session,
    reporter: &mut Reporter,
) -> Result<u8, CliError> {
    let say = |reporter: &mut Reporter, text: &str| {
        reporter.event(&Event::Remark {
            text: text.to_owned(),
        });
    };
    say(reporter, "commands: help, jobs, stop, quit");
    let mut reports = Reports::new(cluster, session.id).after(&session.report);
    let mut rest: Option<RestClient> = None;
    let (mut told, mut first) = (BTreeMap::new(), true);
    let mut lines = lines_of_stdin();
    let mut pace = tokio::time::interval(PACE);
    let gone = left();
    tokio::pin!(gone);
    let (reason, code) = loop {
        tokio::select! {
            () = &mut gone => break ("this client is ended", INTERRUPTED),
            line = lines.recv() => match line.as_deref().map(Line::of) {
                None => break ("standard input has ended", 0),
                Some(Line::Quit) => break ("this client leaves", 0),
                Some(Line::Stop) => return end(cluster, session, reporter).await,
                Some(Line::Help) => say(reporter, HELP),
                Some(Line::Unknown) => say(reporter, &format!("not a command\n{HELP}")),
                Some(Line::Nothing) => {}
                Some(Line::Jobs) => match &rest {
                    Some(rest) => match rest.overview().await {
                        Ok(jobs) => say(reporter, &draw(&jobs)),
                        Err(error) => say(reporter, &crate::error::report(&error)),
                    },
                    None => say(reporter, "the session does not answer yet"),
                },
            },
            _ = pace.tick() => {
                let report = reports.ask(reporter).await?;
                if is_over(report.yarn_application_state()) {
                    if let Some(file) = hint_file() {
                        forget(&file, session.id);
                    }
                    return conclude(cluster, &session.staging, session.id, &report, reporter).await;
                }
                if report.yarn_application_state() == YarnApplicationState::Running && rest.is_none() {
                    rest = RestClient::new(report.original_tracking_url(), &session.secret).ok();
                }
                let Some(known) = &rest else { continue };
                match known.overview().await {
                    Ok(jobs) => tell(&jobs, &mut told, std::mem::take(&mut first), reporter),
                    // Another attempt has another address.
                    Err(_) => rest = None,
                }
            }
        }
    };
    if settings.execution.shutdown_on_attached_exit && reason != "this client leaves" {
        say(
            reporter,
            &format!("{reason}; the session is stopped, as --shutdownOnAttachedExit says"),
        );
        return end(cluster, session, reporter).await;
    }
    reporter.event(&Event::Detached {
        application_id: session.id.to_string(),
        job_id: None,
        reason: format!("{reason}; the session goes on"),
        to_stop: format!("spindle session stop -id {}", session.id),
    });
    Ok(code)
}

/// Tells of each job whose state is another than the one told last.
fn tell(
    jobs: &[JobOverview],
    told: &mut BTreeMap<String, String>,
    first: bool,
    reporter: &mut Reporter,
) {
    for job in jobs {
        let before = told.insert(job.jid.clone(), job.state.clone());
        // What was over before is no news.
        let is_old = first && job.is_over();
        if before.as_ref() != Some(&job.state) && !is_old {
            reporter.event(&Event::Remark {
                text: format!("job {} `{}` is {}", job.jid, job.name, job.state),
            });
        }
    }
    // The session forgets old jobs, and so do we.
    told.retain(|jid, _| jobs.iter().any(|job| job.jid == *jid));
}

/// Lines of standard input, until its end. The thread that reads cannot be stopped and so is nobody's.
fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(8);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Ends a session: its own way if it answers, else through YARN.
async fn end(
    cluster: &Cluster,
    session: &Session,
    reporter: &mut Reporter,
) -> Result<u8, CliError> {
    let stopped = match session.rest() {
        Ok(rest) => rest
            .stop_cluster()
            .await
            .map_err(|error| crate::error::report(&error)),
        Err(error) => Err(error.message()),
    };
    if let Err(why) = &stopped {
        reporter.event(&Event::Remark {
            text: format!("ended through YARN, since {why}"),
        });
        cluster.kill(session.id, "stopped by its owner").await?;
    }
    let mut reports = Reports::new(cluster, session.id);
    let what = "the session was told to stop";
    let report = reports.until_end_quietly(END_LIMIT, what).await?;
    if let Some(file) = hint_file() {
        forget(&file, session.id);
    }
    let code = conclude(cluster, &session.staging, session.id, &report, reporter).await?;
    // Killed is what was asked for.
    Ok(if stopped.is_err() && code == Exit::Cancelled as u8 {
        0
    } else {
        code
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands() {
        for (text, line) in [
            ("help", Line::Help),
            (" stop \r", Line::Stop),
            ("jobs", Line::Jobs),
            ("quit", Line::Quit),
            ("", Line::Nothing),
            ("stopp", Line::Unknown),
        ] {
            assert_eq!(Line::of(text), line, "{text}");
        }
    }
}
