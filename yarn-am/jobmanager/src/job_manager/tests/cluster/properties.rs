//! What has to hold whatever happens in the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use spindle_common::config::{CheckpointConfig, RestartConfig};
use spindle_common::execution::JobStatus;
use spindle_common::id::JobId;
use spindle_common::job_graph::Partitioning;

use super::Cluster;
use super::chance::{Action, benign, checkpoint_config, checkpointing, config, fault};
use super::checkpoints::RULES;
use crate::config::{ClusterMode, JobManagerConfig};
use crate::message::FinalStatus;

/// A run with checkpoints.
#[derive(Debug)]
struct Checkpointed {
    config: JobManagerConfig,
    checkpoints: CheckpointConfig,
    /// In milliseconds.
    interval: u64,
    parallelism: u32,
    actions: Vec<Action>,
    crashes: Vec<usize>,
    /// After which action all goes well for a while, and whether for the storage, too.
    recovers: Vec<(prop::sample::Index, bool)>,
}

fn checkpointed_actions() -> impl Strategy<Value = Vec<Action>> {
    let one = prop_oneof![
        20 => checkpointing().boxed(),
        1 => fault().boxed(),
        1 => any::<usize>().prop_map(Action::FailTask).boxed(),
    ];
    prop::collection::vec(one, 0..400)
}

/// Plays it, but for its end.
fn played(run: Checkpointed) -> Cluster {
    let Checkpointed {
        config,
        checkpoints,
        interval,
        parallelism,
        actions,
        crashes,
        recovers,
    } = run;
    let checkpoints = CheckpointConfig {
        interval: Some(Duration::from_millis(interval)),
        directory: Some("hdfs:///checkpoints".to_owned()),
        ..checkpoints
    };
    let restart = RestartConfig::FixedDelay {
        attempts: 10,
        delay: Duration::from_millis(interval),
    };
    let edges = if interval % 2 == 0 {
        Partitioning::Hash
    } else {
        Partitioning::Forward
    };
    let mut cluster = Cluster::with_edges(
        JobManagerConfig {
            checkpoints,
            restart,
            ..config
        },
        parallelism,
        edges,
    );
    cluster.bring_up(true);
    // Now and then all goes well for a while, but perhaps for the storage.
    let at = |index: &prop::sample::Index| index.index(actions.len().max(1));
    let recovers: BTreeMap<usize, bool> = recovers
        .iter()
        .map(|(index, storage)| (at(index), *storage))
        .collect();
    for (at, action) in actions.into_iter().enumerate() {
        cluster.act(action);
        if let Some(storage) = recovers.get(&at) {
            cluster.bring_up(*storage);
        }
    }
    for n in crashes {
        // An attempt that knows that its job is over starts no other.
        let per_job = matches!(cluster.config.mode, ClusterMode::PerJob { .. });
        if per_job && !cluster.observer.all_jobs_are_over() {
            cluster = cluster.next_attempt(n, parallelism);
            cluster.bring_up(true);
        }
    }
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_breaks_all_jobs_end_and_no_rule_is_broken(
        config in config(),
        parallelism in 1_u32..4,
        actions in prop::collection::vec(prop_oneof![12 => benign().boxed(), 1 => fault().boxed()], 0..300),
    ) {
        let mut cluster = Cluster::new(config, parallelism);
        for action in actions {
            cluster.act(action);
        }
        cluster.go_well();
        cluster.replay_is_the_same();
    }

    #[test]
    fn whatever_breaks_checkpoints_keep_their_rules(
        config in config(),
        checkpoints in checkpoint_config(),
        interval in 20_u64..600,
        parallelism in 1_u32..4,
        actions in checkpointed_actions(),
        crashes in prop::collection::vec(any::<usize>(), 0..3),
        recovers in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..6),
    ) {
        let mut cluster = played(Checkpointed {
            config, checkpoints, interval, parallelism, actions, crashes, recovers,
        });
        cluster.go_well();
        cluster.replay_is_the_same();
    }

    #[test]
    fn when_nothing_breaks_all_jobs_succeed_at_the_first_attempt(
        config in config(),
        parallelism in 1_u32..4,
        actions in prop::collection::vec(benign(), 0..100),
    ) {
        let mut cluster = Cluster::new(config, parallelism);
        for action in actions {
            // Ten seconds are not filled with these waits: nobody is taken for silent.
            if !matches!(action, Action::Wait(_)) {
                cluster.act(action);
            }
        }
        let status = cluster.go_well();
        let all = cluster.observer.statuses();
        // What the limits leave no room for fails, and nothing else.
        let fits = |(job, _): &(JobId, JobStatus)| cluster.observer.fits(*job);
        for (job, status) in all.iter().filter(|of| fits(of)) {
            prop_assert_eq!(*status, JobStatus::Finished, "job {}", job);
        }
        if all.iter().all(fits) {
            prop_assert_eq!(status, FinalStatus::Succeeded);
        }
        prop_assert!(cluster.manager.view().jobs.values().all(|job| job.restarts == 0));
    }
}

#[test]
fn no_rule_of_checkpoints_is_without_cases() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<&str, u32>::new();
    for _ in 0..150 {
        let strategy = (
            config(),
            checkpoint_config(),
            20_u64..600,
            1_u32..4,
            checkpointed_actions(),
        );
        let (config, checkpoints, interval, parallelism, actions) =
            strategy.new_tree(&mut runner).unwrap().current();
        let mut cluster = played(Checkpointed {
            config,
            checkpoints,
            interval,
            parallelism,
            actions,
            crashes: Vec::new(),
            recovers: Vec::new(),
        });
        cluster.go_well();
        for (rule, count) in cluster.checkpoints.seen {
            *seen.entry(rule).or_default() += count;
        }
    }
    for rule in RULES {
        assert!(
            seen.get(rule).is_some_and(|count| *count >= 5),
            "{rule}: {seen:?}"
        );
    }
}
