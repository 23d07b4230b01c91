//! The logs of containers that run, from the web servers of their NodeManagers.

use std::time::Duration;

use serde::Deserialize;
use spindle_common::id::JobId;
use spindle_hadoop::conf::Configuration;
use spindle_hadoop::proto::yarn::{ApplicationReport, ContainerReport};
use spindle_hadoop::yarn::{ApplicationAttemptId, ApplicationId, ContainerId};

use super::cluster::Cluster;
use super::jobs::holder;
use super::reports::is_over;
use crate::error::CliError;
use crate::output::{self, Format};
use crate::settings::Settings;

/// Bytes that are fetched for each line that is asked for.
const BYTES_A_LINE: u64 = 1024;

/// Files in a container's log directory that are YARN's, not ours.
const OF_YARN: [&str; 4] = [
    "launch_container.sh",
    "directory.info",
    "prelaunch.out",
    "prelaunch.err",
];

/// Whose logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// All of an application's.
    Application(ApplicationId),
    /// Those of a job's workers.
    Job(JobId),
}

impl std::str::FromStr for Whose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Application(id));
        }
        text.parse().map(Self::Job).map_err(|_| {
            "expected an application id (application_…) or a job id (32 hexadecimal digits)"
                .to_owned()
        })
    }
}

/// Prints logs; the exit code.
pub(crate) async fn logs(
    settings: &Settings,
    whose: Whose,
    given: Option<ApplicationId>,
    tail: Option<u64>,
    format: Format,
) -> Result<u8, CliError> {
    let hadoop = Settings::hadoop()?;
    let cluster = Cluster::open(&hadoop, &settings.user)?;
    let (id, job) = match whose {
        Whose::Application(id) => (id, None),
        Whose::Job(job) => (holder(&cluster, settings, given, job).await?.id, Some(job)),
    };
    let report = cluster
        .first()
        .application_report(id)
        .await
        .map_err(|error| cluster.rm_failed("asking for the application's report", error))?;
    if is_over(report.yarn_application_state()) {
        output::print(&match format {
            Format::Json => serde_json::json!({"event": "logs_elsewhere", "application_id": id.to_string(), "where": elsewhere(id, &hadoop)}).to_string(),
            Format::Text => format!("{id} is over. {}", elsewhere(id, &hadoop)),
        });
        return Ok(0);
    }
    let web = Web::new(&settings.user)?;
    let mut printed = 0;
    for container in containers(&cluster, &report).await? {
        for file in web.files(&container).await? {
            if !is_wanted(&file.name, job) || file.is_empty() {
                continue;
            }
            let text = web.read(&container, &file, tail).await?;
            show(&container, &file.name, &text, format);
            printed += 1;
        }
    }
    if printed == 0 {
        let what = job.map_or_else(|| "the application".to_owned(), |job| format!("job {job}"));
        return Err(CliError::cluster(format!(
            "{what} has written nothing into the logs of containers that run"
        ))
        .hint(format!("all logs of the application: spindle logs {id}")));
    }
    Ok(0)
}

/// Where the logs of an application that is over are.
fn elsewhere(id: ApplicationId, hadoop: &Configuration) -> String {
    if hadoop
        .get_bool("yarn.log-aggregation-enable", false)
        .unwrap_or(false)
    {
        return format!("Its logs are collected in HDFS: yarn logs -applicationId {id}");
    }
    format!(
        "This cluster does not collect logs (yarn.log-aggregation-enable), so they are on its machines as long as those keep them, \
         in the directory {id} below yarn.nodemanager.log-dirs"
    )
}

/// A container that runs, and where its machine's web server is.
struct Container {
    id: String,
    web: String,
}

async fn containers(
    cluster: &Cluster,
    report: &ApplicationReport,
) -> Result<Vec<Container>, CliError> {
    let Ok(attempt) =
        ApplicationAttemptId::try_from(report.current_application_attempt_id.as_ref())
    else {
        return Ok(Vec::new());
    };
    let mut found = cluster
        .first()
        .containers(attempt)
        .await
        .map_err(|error| cluster.rm_failed("asking for the application's containers", error))?;
    // The ApplicationMaster's container comes first.
    found.sort_by_key(ContainerReport::creation_time);
    Ok(found.iter().filter_map(Container::of).collect())
}

impl Container {
    fn of(report: &ContainerReport) -> Option<Self> {
        let id = ContainerId::try_from(report.container_id.as_ref()).ok()?;
        let web = report.node_http_address();
        let web = if web.contains("://") {
            web.to_owned()
        } else {
            format!("http://{web}")
        };
        (!report.node_http_address().is_empty()).then(|| Self {
            id: id.to_string(),
            web: web.trim_end_matches('/').to_owned(),
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogFile {
    #[serde(rename = "fileName")]
    name: String,
    /// Bytes, as text; absent in some versions.
    #[serde(default)]
    file_size: Option<serde_json::Value>,
}

impl LogFile {
    fn is_empty(&self) -> bool {
        self.file_size
            .as_ref()
            .is_some_and(|size| size.as_str() == Some("0") || size.as_u64() == Some(0))
    }
}

/// The web servers of NodeManagers.
struct Web {
    http: reqwest::Client,
    user: String,
}

impl Web {
    fn new(user: &str) -> Result<Self, CliError> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()
            .map_err(|cause| CliError::usage("the HTTP client cannot be made").because(cause))?;
        Ok(Self {
            http,
            user: user.to_owned(),
        })
    }

    async fn get(
        &self,
        url: &str,
        query: &[(&str, String)],
    ) -> Result<reqwest::Response, CliError> {
        let mut full = format!("{url}?user.name={}", self.user);
        for (name, value) in query {
            full += &format!("&{name}={value}");
        }
        let answer = self
            .http
            .get(full)
            .header("accept", "application/json, text/plain;q=0.5")
            .send()
            .await;
        let failed = |cause| {
            CliError::cluster(format!("the NodeManager's logs cannot be read at {url}"))
                .because(cause)
        };
        answer
            .and_then(reqwest::Response::error_for_status)
            .map_err(failed)
    }

    async fn files(&self, container: &Container) -> Result<Vec<LogFile>, CliError> {
        let url = format!(
            "{}/ws/v1/node/containers/{}/logs",
            container.web, container.id
        );
        let answer: serde_json::Value =
            self.get(&url, &[]).await?.json().await.map_err(|cause| {
                CliError::cluster(format!("the answer of {url} is not understood")).because(cause)
            })?;
        Ok(log_files(&answer))
    }

    async fn read(
        &self,
        container: &Container,
        file: &LogFile,
        tail: Option<u64>,
    ) -> Result<String, CliError> {
        let url = format!(
            "{}/ws/v1/node/containers/{}/logs/{}",
            container.web, container.id, file.name
        );
        // A negative size counts from the end.
        let query = tail.map(|lines| ("size", format!("-{}", lines.saturating_mul(BYTES_A_LINE))));
        let answer = self.get(&url, query.as_slice()).await?;
        let text = answer.text().await.map_err(|cause| {
            CliError::cluster(format!("the log {url} broke off")).because(cause)
        })?;
        let text = content(&text);
        Ok(match tail {
            Some(lines) => last_lines(text, lines).to_owned(),
            None => text.to_owned(),
        })
    }
}

/// The files in a NodeManager's answer, which is a list in some versions and a single object in others.
fn log_files(answer: &serde_json::Value) -> Vec<LogFile> {
    let list = |value: &serde_json::Value| {
        let single = value.is_object().then(|| vec![value.clone()]);
        value.as_array().cloned().or(single).unwrap_or_default()
    };
    let mut infos = list(&answer["containerLogsInfo"]);
    if infos.is_empty() {
        infos = list(answer);
    }
    infos
        .iter()
        .flat_map(|info| list(&info["containerLogInfo"]))
        .filter_map(|file| serde_json::from_value(file).ok())
        .collect()
}

/// A log without the header and the trailer that the NodeManager puts around it.
fn content(text: &str) -> &str {
    let text = match text.find("LogContents:\n") {
        Some(at) if text.starts_with("Container: ") => &text[at + "LogContents:\n".len()..],
        _ => text,
    };
    match text.rfind("\nEnd of LogType:") {
        Some(at) => &text[..at],
        None => text,
    }
}

fn last_lines(text: &str, lines: u64) -> &str {
    let text = text.trim_end_matches('\n');
    let lines = usize::try_from(lines).unwrap_or(usize::MAX);
    if lines == 0 {
        return "";
    }
    match text.rmatch_indices('\n').nth(lines - 1) {
        Some((at, _)) => &text[at + 1..],
        None => text,
    }
}

/// A worker's logs bear the id of its job.
fn is_wanted(file: &str, job: Option<JobId>) -> bool {
    match job {
        Some(job) => file.contains(&job.to_string()),
        None => !OF_YARN.contains(&file),
    }
}

fn show(container: &Container, file: &str, text: &str, format: Format) {
    match format {
        Format::Json => output::print(
            &serde_json::json!({"event": "log", "container_id": container.id, "node": container.web, "file": file, "text": text})
                .to_string(),
        ),
        Format::Text => output::print(&format!(
            "==> {} {file} ({}) <==\n{}\n",
            container.id,
            container.web,
            text.trim_end_matches('\n')
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_asked_for_by_application_or_by_job() {
        assert!(matches!(
            "application_1700000000000_0001".parse(),
            Ok(Whose::Application(_))
        ));
        assert!(matches!(
            "0123456789abcdef0123456789abcdef".parse(),
            Ok(Whose::Job(_))
        ));
        assert!("flights".parse::<Whose>().is_err());
    }

    #[test]
    fn files_are_found_in_both_forms_of_the_answer() {
        let files = serde_json::json!([{"fileName": "jobmanager.log", "fileSize": "120"}, {"fileName": "jobmanager.out", "fileSize": "0"}]);
        for answer in [
            serde_json::json!({"containerLogsInfo": {"containerLogInfo": files}}),
            serde_json::json!({"containerLogsInfo": [{"containerLogInfo": files}]}),
            serde_json::json!([{"containerLogInfo": files}]),
        ] {
            let found = log_files(&answer);
            assert_eq!(found.len(), 2, "{answer}");
            assert_eq!(found[0].name, "jobmanager.log");
            assert!(!found[0].is_empty() && found[1].is_empty());
        }
        assert!(log_files(&serde_json::json!({})).is_empty());
    }

    #[test]
    fn a_log_is_shown_without_what_the_node_manager_puts_around_it() {
        let text = "Container: container_1 on a_1\nLogType:x\nLogLength:9\nLogContents:\none\ntwo\nEnd of LogType:x\n\n";
        assert_eq!(content(text), "one\ntwo");
        assert_eq!(content("one\ntwo\n"), "one\ntwo\n");
        assert_eq!(last_lines("one\ntwo\nthree\n", 2), "two\nthree");
        assert_eq!(last_lines("one", 5), "one");
        assert_eq!(last_lines("one", 0), "");
    }

    #[test]
    fn a_job_has_the_logs_that_bear_its_id() {
        let job: JobId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        assert!(is_wanted(&format!("worker-{job}.err"), Some(job)));
        assert!(!is_wanted("taskexecutor.log", Some(job)));
        assert!(is_wanted("taskexecutor.log", None));
        assert!(!is_wanted("launch_container.sh", None));
    }
}
