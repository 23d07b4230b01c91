//! What the ResourceManager's REST API tells of queues and nodes, as plain figures. The remote answers differ between versions:
//! what is missing is 0 or absent, a list of one may come without its brackets, numbers may be text.

use std::time::Duration;

use serde_json::Value;
use spindle_hadoop::conf::{Configuration, RmAddress};

use crate::error::report;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A leaf queue.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Queue {
    pub(crate) path: String,
    pub(crate) state: String,
    pub(crate) used_mib: u64,
    /// The most that it may have at all.
    pub(crate) max_mib: u64,
    pub(crate) max_vcores: u64,
    /// What it is promised.
    pub(crate) promised_mib: u64,
    pub(crate) am_used_mib: u64,
    pub(crate) am_limit_mib: u64,
    pub(crate) am_limit_vcores: u64,
    /// Share of the queue that ApplicationMasters may have, 0 to 1.
    pub(crate) am_share: f64,
    pub(crate) active_applications: u64,
    pub(crate) pending_applications: u64,
    pub(crate) max_parallel_applications: u64,
    /// A user may have this many times the promised capacity.
    pub(crate) user_limit_factor: f64,
    pub(crate) users: Vec<User>,
    /// `*` stands for all.
    pub(crate) labels: Vec<String>,
    pub(crate) default_label: String,
}

/// A user's part of a queue.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) used_mib: u64,
    pub(crate) limit_mib: u64,
}

/// The nodes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Nodes {
    pub(crate) active: u64,
    pub(crate) lost: u64,
    pub(crate) unhealthy: u64,
    pub(crate) decommissioning: u64,
    pub(crate) total_mib: u64,
    pub(crate) available_mib: u64,
}

impl Queue {
    /// What `user` may still get from the queue, and the limit that says so.
    pub(crate) fn headroom_mib(&self, user: &str) -> (u64, u64) {
        let own = self.users.iter().find(|one| one.name == user);
        let by_factor = (self.promised_mib as f64 * self.user_limit_factor) as u64;
        let limit = match own {
            Some(own) if own.limit_mib > 0 => own.limit_mib,
            _ if by_factor > 0 => by_factor,
            _ => self.max_mib,
        }
        .min(self.max_mib);
        let left = limit.saturating_sub(own.map_or(0, |own| own.used_mib));
        (left.min(self.max_mib.saturating_sub(self.used_mib)), limit)
    }
}

/// The queue of that name or path in an answer to `/ws/v1/cluster/scheduler`.
pub(crate) fn queue(scheduler: &Value, name: &str) -> Option<Queue> {
    let mut found = Vec::new();
    leaves(&scheduler["scheduler"]["schedulerInfo"], "", &mut found);
    let path = name.strip_prefix("root.").unwrap_or(name);
    let is_it = |queue: &&Queue| {
        let own = queue.path.strip_prefix("root.").unwrap_or(&queue.path);
        own == path || (!path.contains('.') && own.rsplit('.').next() == Some(path))
    };
    found.iter().find(is_it).cloned()
}

/// Paths of all leaf queues in an answer to `/ws/v1/cluster/scheduler`.
pub(crate) fn leaf_paths(scheduler: &Value) -> Vec<String> {
    let mut found = Vec::new();
    leaves(&scheduler["scheduler"]["schedulerInfo"], "", &mut found);
    found.into_iter().map(|queue| queue.path).collect()
}

/// The nodes in an answer to `/ws/v1/cluster/metrics`.
pub(crate) fn nodes(metrics: &Value) -> Nodes {
    let metrics = &metrics["clusterMetrics"];
    Nodes {
        active: number(&metrics["activeNodes"]),
        lost: number(&metrics["lostNodes"]),
        unhealthy: number(&metrics["unhealthyNodes"]),
        decommissioning: number(&metrics["decommissioningNodes"]),
        total_mib: number(&metrics["totalMB"]),
        available_mib: number(&metrics["availableMB"]),
    }
}

fn leaves(value: &Value, parent: &str, found: &mut Vec<Queue>) {
    let name = text(&value["queueName"]);
    let path = match text(&value["queuePath"]) {
        path if !path.is_empty() => path,
        _ if parent.is_empty() => name,
        _ => format!("{parent}.{name}"),
    };
    let children = many(&value["queues"]["queue"]);
    if children.is_empty() && !path.is_empty() {
        found.push(leaf(value, path));
    } else {
        for child in children {
            leaves(child, &path, found);
        }
    }
}

fn leaf(value: &Value, path: String) -> Queue {
    let users = many(&value["users"]["user"]);
    Queue {
        path,
        state: text(&value["state"]),
        used_mib: number(&value["resourcesUsed"]["memory"]),
        max_mib: number(&value["maxEffectiveCapacity"]["memory"]),
        max_vcores: number(&value["maxEffectiveCapacity"]["vCores"]),
        promised_mib: number(&value["minEffectiveCapacity"]["memory"]),
        am_used_mib: number(&value["usedAMResource"]["memory"]),
        am_limit_mib: number(&value["AMResourceLimit"]["memory"]),
        am_limit_vcores: number(&value["AMResourceLimit"]["vCores"]),
        am_share: value["configuredMaxAMResourceLimit"]
            .as_f64()
            .unwrap_or(0.0),
        active_applications: number(&value["numActiveApplications"]),
        pending_applications: number(&value["numPendingApplications"]),
        max_parallel_applications: number(&value["maxParallelApps"]),
        user_limit_factor: value["userLimitFactor"].as_f64().unwrap_or(0.0),
        users: users
            .into_iter()
            .map(|user| User {
                name: text(&user["username"]),
                used_mib: number(&user["resourcesUsed"]["memory"]),
                limit_mib: number(&user["userResourceLimit"]["memory"]),
            })
            .collect(),
        labels: many(&value["nodeLabels"]).into_iter().map(text).collect(),
        default_label: text(&value["defaultNodeLabelExpression"]),
    }
}

fn many(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Null => Vec::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => vec![value],
    }
}

/// A count, 0 if it is none.
pub(crate) fn number(value: &Value) -> u64 {
    let text = value.as_str().and_then(|text| text.parse().ok());
    let whole = value.as_u64().or(text);
    whole.unwrap_or_else(|| value.as_f64().map_or(0, |number| number as u64))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The REST API of the ResourceManagers; a standby hands on to the active one.
#[derive(Debug, Clone)]
pub(crate) struct RmRest {
    http: reqwest::Client,
    bases: Vec<String>,
    user: String,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) text: String,
}

impl Answer {
    /// The answer as JSON, `null` if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
}

impl RmRest {
    /// Opens no connection. Addresses that speak https only are left out.
    pub(crate) fn new(hadoop: &Configuration, user: &str) -> Result<Self, String> {
        let managers = hadoop.resource_managers().map_err(|error| report(&error))?;
        let bases = managers.iter().filter(|rm| !rm.https).map(base).collect();
        Ok(Self {
            http: client()?,
            bases,
            user: user.to_owned(),
        })
    }

    /// Asks the ResourceManagers in turn.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer, String> {
        let mut last =
            "the ResourceManager's web address speaks https, which is not asked here".to_owned();
        for base in &self.bases {
            match get(&self.http, base, path, &self.user).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// A client for web addresses of Hadoop.
pub(crate) fn client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .build()
        .map_err(|error| report(&error))
}

/// The web address of a ResourceManager.
pub(crate) fn base(rm: &RmAddress) -> String {
    let host = rm.webapp.connect_host();
    if host.contains(':') {
        format!("http://[{host}]:{}", rm.webapp.port)
    } else {
        format!("http://{host}:{}", rm.webapp.port)
    }
}

/// Asks one server as `user`.
pub(crate) async fn get(
    http: &reqwest::Client,
    base: &str,
    path: &str,
    user: &str,
) -> Result<Answer, String> {
    let join = if path.contains('?') { '&' } else { '?' };
    let url = format!("{base}{path}{join}user.name={user}");
    let response = http
        .get(&url)
        .header("accept", "application/json")
        .send()
        .await
        .map_err(|error| report(&error.without_url()))?;
    let status = response.status();
    let text = response
        .text()
        .await
        .map_err(|error| report(&error.without_url()))?;
    if status.is_success() {
        Ok(Answer { text })
    } else {
        Err(format!("{base} answers {status}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(name: &str) -> Value {
        serde_json::json!({
            "queueName": name, "queuePath": format!("root.etl.{name}"), "state": "RUNNING",
            "resourcesUsed": {"memory": 1024}, "maxEffectiveCapacity": {"memory": "4096", "vCores": 8},
            "minEffectiveCapacity": {"memory": 2048}, "usedAMResource": {"memory": 256},
            "AMResourceLimit": {"memory": 512, "vCores": 1}, "configuredMaxAMResourceLimit": 0.1,
            "userLimitFactor": 1.0, "nodeLabels": ["*"],
            "users": {"user": {"username": "ann", "resourcesUsed": {"memory": 512}, "userResourceLimit": {"memory": 1536}}}
        })
    }

    fn answer() -> Value {
        let night = serde_json::json!({"queueName": "etl", "queues": {"queue": leaf("night")}});
        serde_json::json!({"scheduler": {"schedulerInfo": {"queueName": "root", "queues": {"queue": [night]}}}})
    }

    #[test]
    fn a_queue_is_found_by_its_leaf_and_its_path() {
        for name in ["night", "etl.night", "root.etl.night"] {
            let queue = queue(&answer(), name).unwrap();
            assert_eq!(
                (queue.path.as_str(), queue.max_mib, queue.am_limit_mib),
                ("root.etl.night", 4096, 512),
                "{name}"
            );
        }
        assert_eq!(queue(&answer(), "etl"), None);
        assert_eq!(queue(&Value::Null, "night"), None);
    }

    #[test]
    fn headroom_is_the_least_of_all_limits() {
        let queue = queue(&answer(), "night").unwrap();
        assert_eq!(queue.headroom_mib("ann"), (1024, 1536), "her own limit");
        assert_eq!(
            queue.headroom_mib("bob"),
            (2048, 2048),
            "the user limit factor"
        );
        let full = Queue {
            used_mib: 4000,
            ..queue
        };
        assert_eq!(
            full.headroom_mib("bob"),
            (96, 2048),
            "what the queue has left"
        );
    }
}
