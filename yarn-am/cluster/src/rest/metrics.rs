//! Metrics as Flink's REST API shows them, one by one and aggregated. Flink: `MetricCollectionResponseBody`,
//! `AggregatedMetricsResponseBody`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use spindle_common::execution::JobStatus;
use spindle_jobmanager::message::{JobView, TaskManagerView, TaskView, View};

use super::Failure;
use crate::clock::Clock;

/// Metrics of one thing: name and number.
pub(super) type Metrics = BTreeMap<String, Value>;

/// What of the metrics is wanted.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    /// Names, with commas between them; without it the names alone are told.
    get: Option<String>,
    /// Of `min,max,sum,avg,skew`; without it all of them.
    agg: Option<String>,
    pub(super) jobs: Option<String>,
    pub(super) taskmanagers: Option<String>,
    pub(super) subtasks: Option<String>,
}

impl Wanted {
    fn names(&self) -> Option<Vec<&str>> {
        self.get.as_deref().map(|names| names.split(',').collect())
    }
}

/// Flink's minimum, which a task has that has seen no watermark yet.
const NO_WATERMARK: i64 = i64::MIN;

pub(super) fn of_task(task: &TaskView) -> Metrics {
    let of = task.metrics;
    let mut metrics = named([
        ("numRecordsIn", json!(of.records_in)),
        ("numRecordsOut", json!(of.records_out)),
        ("numBytesIn", json!(of.bytes_in)),
        ("numBytesOut", json!(of.bytes_out)),
        ("numLateRecordsDropped", json!(of.late_records_dropped)),
        (
            "currentInputWatermark",
            json!(of.watermark_ms.unwrap_or(NO_WATERMARK)),
        ),
    ]);
    if let Some(load) = task.load {
        metrics.extend(named([
            (
                "busyTimeMsPerSecond",
                json!(f64::from(load.busy_ms_per_second)),
            ),
            ("idleTimeMsPerSecond", json!(load.idle_ms_per_second)),
            (
                "backPressuredTimeMsPerSecond",
                json!(load.backpressured_ms_per_second),
            ),
        ]));
    }
    if let Some(progress) = of.progress {
        metrics.insert("progress".to_owned(), json!(progress));
    }
    metrics
}

/// Those of all tasks of a vertex, each named with the subtask before it.
pub(super) fn of_vertex(tasks: &[&TaskView]) -> Metrics {
    let all = tasks.iter().flat_map(|task| {
        let subtask = task.execution.subtask;
        let metrics = of_task(task).into_iter();
        metrics.map(move |(name, value)| (format!("{subtask}.{name}"), value))
    });
    all.collect()
}

pub(super) fn of_job(job: &JobView, clock: Clock) -> Metrics {
    let running = job.timestamps.get(&JobStatus::Running);
    let uptime = match (job.status, running) {
        (JobStatus::Running, Some(since)) => {
            i64::try_from(clock.now().since(*since).as_millis()).unwrap_or(i64::MAX)
        }
        // As Flink has it.
        (status, _) if status.is_terminal() => -1,
        _ => 0,
    };
    named([
        ("numRestarts", json!(job.restarts)),
        ("uptime", json!(uptime)),
    ])
}

pub(super) fn of_task_manager(manager: &TaskManagerView) -> Metrics {
    named([
        ("taskSlotsTotal", json!(manager.slots)),
        ("taskSlotsAvailable", json!(manager.free_slots)),
        (
            "Status.Process.Memory.Resident",
            json!(manager.resident_bytes),
        ),
        (
            "Status.Workers.Memory.Resident",
            json!(manager.worker_resident_bytes),
        ),
    ])
}

pub(super) fn of_job_manager(view: &View) -> Metrics {
    let managers = || view.task_managers.values();
    let jobs = view.jobs.values();
    let running = jobs.filter(|job| !job.status.is_terminal()).count();
    named([
        ("numRegisteredTaskManagers", json!(view.task_managers.len())),
        ("numRunningJobs", json!(running)),
        (
            "taskSlotsTotal",
            json!(managers().map(|one| one.slots).sum::<u32>()),
        ),
        (
            "taskSlotsAvailable",
            json!(managers().map(|one| one.free_slots).sum::<u32>()),
        ),
        ("staleMessages", json!(view.stale_messages)),
    ])
}

fn named<const N: usize>(pairs: [(&str, Value); N]) -> Metrics {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The metrics of one thing: their names, or the values of those that are wanted and there.
pub(super) fn answer(metrics: &Metrics, wanted: &Wanted) -> Value {
    let Some(names) = wanted.names() else {
        return metrics.keys().map(|name| json!({"id": name})).collect();
    };
    names
        .into_iter()
        .filter_map(|name| {
            let value = metrics.get(name)?;
            Some(json!({"id": name, "value": value.to_string()}))
        })
        .collect()
}

/// The metrics of several things of one kind.
pub(super) fn aggregate(things: &[Metrics], wanted: &Wanted) -> Result<Value, Failure> {
    let modes = ["min", "max", "avg", "sum", "skew"];
    let chosen: Vec<&str> = match &wanted.agg {
        None => modes.to_vec(),
        Some(names) => {
            let known = |name: &str| {
                let name = name.to_ascii_lowercase();
                let mode = modes.into_iter().find(|mode| *mode == name);
                mode.ok_or_else(|| {
                    Failure::bad_request(format!(
                        "`{name}` is no aggregation: those are min, max, avg, sum and skew"
                    ))
                })
            };
            names.split(',').map(known).collect::<Result<_, _>>()?
        }
    };
    let Some(names) = wanted.names() else {
        let names: BTreeSet<&String> = things.iter().flat_map(BTreeMap::keys).collect();
        return Ok(names.into_iter().map(|name| json!({"id": name})).collect());
    };
    let one = |name: &str| {
        let numbers: Vec<f64> = things
            .iter()
            .filter_map(|metrics| metrics.get(name)?.as_f64())
            .collect();
        let first = *numbers.first()?;
        let sum: f64 = numbers.iter().sum();
        let mut one = Map::from_iter([("id".to_owned(), json!(name))]);
        for mode in &chosen {
            let value = match *mode {
                "min" => numbers.iter().copied().fold(first, f64::min),
                "max" => numbers.iter().copied().fold(first, f64::max),
                "avg" => sum / numbers.len() as f64,
                "skew" => skew(&numbers),
                _ => sum,
            };
            one.insert((*mode).to_owned(), json!(value));
        }
        Some(Value::Object(one))
    };
    Ok(names.into_iter().filter_map(one).collect())
}

/// How unevenly numbers are spread, 0 to 100: their mean distance from the mean, in per cent of it. Flink: `DoubleDataSkew`.
fn skew(numbers: &[f64]) -> f64 {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    if mean == 0.0 {
        return 0.0;
    }
    let distance = numbers.iter().map(|number| (number - mean).abs());
    (distance.sum::<f64>() / count / mean * 100.0).min(100.0)
}

/// The numbers that `0,2-4` names.
pub(super) fn indices(text: &str) -> Result<BTreeSet<u32>, Failure> {
    let wrong = || Failure::bad_request(format!("`{text}` is no list of subtasks like 0,2-4"));
    let mut indices = BTreeSet::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: u32 = from.trim().parse().map_err(|_| wrong())?;
        let to: u32 = to.trim().parse().map_err(|_| wrong())?;
        // No vertex has more: a wide range must not cost anything.
        if to.checked_sub(from).is_none_or(|span| span > 1 << 16) {
            return Err(wrong());
        }
        indices.extend(from..=to);
    }
    Ok(indices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_is_nothing_for_equal_numbers_and_all_for_one_among_many() {
        assert_eq!(skew(&[5.0, 5.0, 5.0]), 0.0);
        assert_eq!(skew(&[0.0, 0.0]), 0.0);
        assert_eq!(skew(&[1.0, 3.0]), 50.0);
        assert_eq!(skew(&[0.0, 0.0, 0.0, 8.0]), 100.0);
    }

    #[test]
    fn a_list_of_subtasks_has_ranges() {
        assert_eq!(indices("0,2-4,3").unwrap(), BTreeSet::from([0, 2, 3, 4]));
        for text in ["", "-", "4-2", "a", "0-4294967295", "-1"] {
            assert!(indices(text).is_err(), "{text}");
        }
    }
}
