//! Talks to the REST API of a running JobManager, with the application's secret.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use spindle_common::id::JobId;
use spindle_rpc::Secret;

use crate::error::report;

/// The REST API of one JobManager.
pub(crate) struct RestClient {
    http: reqwest::Client,
    base: String,
    token: String,
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
    pub(crate) fn new(base: &str, secret: &Secret) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .no_proxy()
            .build()
            .map_err(|error| report(&error))?;
        Ok(Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            token: secret.to_hex(),
        })
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let url = format!("{}{path}", self.base);
        let response = self
            .http
            .get(&url)
            .bearer_auth(&self.token)
            .send()
            .await
            .map_err(|error| report(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("{url} answered {status}"));
        }
        response.json().await.map_err(|error| report(&error))
    }

    /// The state of a job and its tasks.
    pub(crate) async fn job(&self, job: JobId) -> Result<JobDetails, String> {
        Ok(details(&self.get(&format!("/jobs/{job}")).await?))
    }

    /// How far a job is, and how it ended if it has. With `release`, the JobManager need not wait for this client any longer.
    pub(crate) async fn result(&self, job: JobId, release: bool) -> Result<JobResult, String> {
        let value = self
            .get(&format!("/jobs/{job}/result?release={release}"))
            .await?;
        serde_json::from_value(value).map_err(|error| report(&error))
    }

    /// What the collecting sinks of a finished job hold, by name.
    pub(crate) async fn collected(&self, job: JobId) -> Result<Vec<(String, Vec<Value>)>, String> {
        let value = self.get(&format!("/jobs/{job}/collected")).await?;
        let sinks = value.as_object().into_iter().flatten();
        Ok(sinks
            .map(|(name, rows)| (name.clone(), rows.as_array().cloned().unwrap_or_default()))
            .collect())
    }

    /// Stops a job.
    pub(crate) async fn cancel(&self, job: JobId) -> Result<(), String> {
        let url = format!("{}/jobs/{job}/cancel", self.base);
        let response = self
            .http
            .put(&url)
            .bearer_auth(&self.token)
            .json(&serde_json::json!({}))
            .send()
            .await;
        let status = response.map_err(|error| report(&error))?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("{url} answered {status}"))
        }
    }
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
}
