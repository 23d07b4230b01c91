//! Talks to the REST API of a running JobManager, with the application's secret.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::Value;
use spindle_common::id::JobId;
use spindle_rpc::Secret;

/// Limit of a request; a submission may have to wait its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// The REST API of one JobManager; cheap to clone.
#[derive(Clone)]
pub(crate) struct RestClient {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// Why a request has no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestError {
    /// Nobody answers, or the connection broke.
    #[error("no answer from {url}")]
    Unreachable {
        url: String,
        #[source]
        cause: reqwest::Error,
    },
    /// It answered that it will not, in its words.
    #[error("{message}")]
    Refused { status: u16, message: String },
    /// It answered something else than was asked.
    #[error("the answer of {url} is not understood: {text}")]
    Nonsense { url: String, text: String },
}

impl RestError {
    /// Whether there is no such thing there.
    pub(crate) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// The states of a job that are told; Flink has more names among its time stamps.
const JOB_STATES: [&str; 8] = [
    "CREATED",
    "RUNNING",
    "RESTARTING",
    "FAILING",
    "CANCELLING",
    "FINISHED",
    "FAILED",
    "CANCELED",
];

/// A job among others, from `/jobs/overview`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct JobOverview {
    pub(crate) jid: String,
    pub(crate) name: String,
    pub(crate) state: String,
    /// Milliseconds since the epoch.
    pub(crate) start_time: i64,
    /// Milliseconds.
    pub(crate) duration: i64,
}

impl JobOverview {
    pub(crate) fn is_over(&self) -> bool {
        is_job_over(&self.state)
    }
}

/// Whether a job in this state stays in it.
pub(crate) fn is_job_over(state: &str) -> bool {
    ["FINISHED", "FAILED", "CANCELED"].contains(&state)
}

/// What is known of a job, from `/jobs/:id`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct JobDetails {
    pub(crate) state: String,
    pub(crate) tasks: u32,
    pub(crate) running: u32,
    pub(crate) finished: u32,
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    /// When it entered each state that it has been in, in milliseconds since the epoch.
    pub(crate) entered: BTreeMap<String, u64>,
}

/// What became of a checkpoint or savepoint that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Snapshot {
    /// It is under way; where it will be, once that is known.
    InProgress {
        location: Option<String>,
    },
    Completed {
        location: String,
    },
    Failed {
        why: String,
    },
}

/// How a job ended, from `/jobs/:id/result`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct JobResult {
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) cause: Option<String>,
    #[serde(default)]
    pub(crate) progress: f64,
    #[serde(default)]
    pub(crate) late_records_dropped: u64,
}

impl RestClient {
    /// A client of the JobManager at `base`, such as `http://host:port/`.
    pub(crate) fn new(base: &str, secret: &Secret) -> Result<Self, RestError> {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .no_proxy()
            .build()
            .map_err(|cause| RestError::Unreachable {
                url: base.to_owned(),
                cause,
            })?;
        Ok(Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            token: secret.to_hex(),
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token)
    }

    async fn send(&self, path: &str, request: RequestBuilder) -> Result<Value, RestError> {
        let url = format!("{}{path}", self.base);
        let unreachable = |cause| RestError::Unreachable {
            url: url.clone(),
            cause,
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        let value = serde_json::from_slice::<Value>(&body);
        if !status.is_success() {
            let message = value.ok().and_then(|value| errors(&value));
            return Err(RestError::Refused {
                status: status.as_u16(),
                message: message.unwrap_or_else(|| format!("{url} answered {status}")),
            });
        }
        value.map_err(|error| RestError::Nonsense {
            url,
            text: error.to_string(),
        })
    }

    async fn get(&self, path: &str) -> Result<Value, RestError> {
        self.send(path, self.request(Method::GET, path)).await
    }

    async fn get_as<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, RestError> {
        serde_json::from_value(self.get(path).await?).map_err(|error| RestError::Nonsense {
            url: format!("{}{path}", self.base),
            text: error.to_string(),
        })
    }

    /// The state of a job and its tasks.
    pub(crate) async fn job(&self, job: JobId) -> Result<JobDetails, RestError> {
        Ok(details(&self.get(&format!("/jobs/{job}")).await?))
    }

    /// All jobs that the JobManager knows, in Flink's form.
    pub(crate) async fn overview(&self) -> Result<Vec<JobOverview>, RestError> {
        #[derive(Deserialize)]
        struct All {
            jobs: Vec<JobOverview>,
        }
        let All { mut jobs } = self.get_as("/jobs/overview").await?;
        jobs.sort_by_key(|job| job.start_time);
        Ok(jobs)
    }

    /// How far a job is, and how it ended if it has. With `release`, the JobManager need not wait for this client any longer.
    pub(crate) async fn result(&self, job: JobId, release: bool) -> Result<JobResult, RestError> {
        self.get_as(&format!("/jobs/{job}/result?release={release}"))
            .await
    }

    /// What the collecting sinks of a finished job hold, by name.
    pub(crate) async fn collected(
        &self,
        job: JobId,
    ) -> Result<Vec<(String, Vec<Value>)>, RestError> {
        let value = self.get(&format!("/jobs/{job}/collected")).await?;
        let sinks = value.as_object().into_iter().flatten();
        Ok(sinks
            .map(|(name, rows)| (name.clone(), rows.as_array().cloned().unwrap_or_default()))
            .collect())
    }

    /// Hands a job over; `submission` is encoded. The same job twice is one job, so a lost answer is asked for again.
    pub(crate) async fn submit(&self, submission: &[u8]) -> Result<(), RestError> {
        let once = async || {
            let request = self
                .request(Method::POST, "/jobs")
                .header("content-type", "application/x-protobuf")
                .body(submission.to_vec());
            self.send("/jobs", request).await.map(drop)
        };
        match once().await {
            Err(RestError::Unreachable { .. }) => once().await,
            answer => answer,
        }
    }

    /// Stops a job.
    pub(crate) async fn cancel(&self, job: JobId) -> Result<(), RestError> {
        let path = format!("/jobs/{job}?mode=cancel");
        let request = self.request(Method::PATCH, &path);
        self.send(&path, request).await.map(drop)
    }

    /// Asks for something of a job that takes a while; the id of the request.
    pub(crate) async fn ask_for(
        &self,
        job: JobId,
        what: &str,
        body: &Value,
    ) -> Result<String, RestError> {
        let path = format!("/jobs/{job}/{what}");
        let request = self.request(Method::POST, &path).json(body);
        let answer = self.send(&path, request).await?;
        match answer["request-id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => Err(RestError::Nonsense {
                url: format!("{}{path}", self.base),
                text: answer.to_string(),
            }),
        }
    }

    /// What became of it, if that was a snapshot.
    pub(crate) async fn snapshot(
        &self,
        job: JobId,
        what: &str,
        request: &str,
    ) -> Result<Snapshot, RestError> {
        let answer = self.get(&format!("/jobs/{job}/{what}/{request}")).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if answer["status"]["id"] != "COMPLETED" {
            let location = text(&answer["location"]);
            return Ok(Snapshot::InProgress { location });
        }
        let operation = &answer["operation"];
        let failure = text(&operation["failure-cause"]["stack-trace"]);
        match (text(&operation["location"]), failure) {
            (_, Some(why)) => Ok(Snapshot::Failed { why }),
            (Some(location), None) => Ok(Snapshot::Completed { location }),
            (None, None) => Err(RestError::Nonsense {
                url: self.base.clone(),
                text: answer.to_string(),
            }),
        }
    }

    /// Ends the cluster and all its jobs.
    pub(crate) async fn stop_cluster(&self) -> Result<(), RestError> {
        let request = self.request(Method::DELETE, "/cluster");
        self.send("/cluster", request).await.map(drop)
    }
}

/// The sentences of a refusal: Flink's `{"errors": […]}`.
fn errors(answer: &Value) -> Option<String> {
    let texts = answer["errors"].as_array()?.iter();
    let texts: Vec<_> = texts.filter_map(Value::as_str).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

fn details(job: &Value) -> JobDetails {
    let vertices = job["vertices"].as_array().map_or(&[][..], Vec::as_slice);
    let count = |state: &str| {
        vertices
            .iter()
            .map(|vertex| vertex["tasks"][state].as_u64().unwrap_or(0))
            .sum::<u64>()
    };
    let metric = |vertex: &Value, name: &str| vertex["metrics"][name].as_u64().unwrap_or(0);
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    JobDetails {
        state: job["state"].as_str().unwrap_or("UNKNOWN").to_owned(),
        tasks: small(
            vertices
                .iter()
                .map(|vertex| vertex["parallelism"].as_u64().unwrap_or(0))
                .sum(),
        ),
        running: small(count("RUNNING")),
        finished: small(count("FINISHED")),
        records_in: vertices
            .first()
            .map_or(0, |source| metric(source, "read-records")),
        entered: job["timestamps"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(state, at)| Some((state.clone(), at.as_u64().filter(|&at| at > 0)?)))
            .filter(|(state, _)| JOB_STATES.contains(&state.as_str()))
            .collect(),
        records_out: vertices
            .last()
            .map_or(0, |sink| metric(sink, "write-records")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_details_of_a_job_are_summed_over_its_vertices() {
        let job = serde_json::json!({
            "state": "RUNNING",
            "timestamps": {"CREATED": 5, "INITIALIZING": 6, "RUNNING": 7, "FINISHED": 0},
            "vertices": [
                {"parallelism": 2, "tasks": {"RUNNING": 1, "FINISHED": 1}, "metrics": {"read-records": 10, "write-records": 9}},
                {"parallelism": 3, "tasks": {"RUNNING": 3}, "metrics": {"read-records": 9, "write-records": 4}},
            ],
        });
        let expected = JobDetails {
            state: "RUNNING".to_owned(),
            tasks: 5,
            running: 4,
            finished: 1,
            records_in: 10,
            records_out: 4,
            entered: BTreeMap::from([("CREATED".to_owned(), 5), ("RUNNING".to_owned(), 7)]),
        };
        assert_eq!(details(&job), expected);
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_an_unknown_state() {
        assert_eq!(details(&Value::Null).state, "UNKNOWN");
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_job_manager() {
        let answer = serde_json::json!({"errors": ["there is no job 1 here", "and no 2"]});
        assert_eq!(
            errors(&answer).as_deref(),
            Some("there is no job 1 here; and no 2")
        );
        assert_eq!(errors(&serde_json::json!({"errors": []})), None);
        assert_eq!(errors(&Value::Null), None);
    }
}
