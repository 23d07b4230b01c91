//! Attempts of the JobManager that were thought dead and go on beside the next one.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use spindle_common::config::{CheckpointConfig, RestartConfig};
use spindle_common::gateway::ToJobManager;
use spindle_common::job_graph::Partitioning;

use super::Cluster;
use super::chance::{Action, checkpoint_config, checkpointing, config, fault};
use super::storage::REFUSED;
use crate::config::JobManagerConfig;
use crate::job_manager::tests::script::job;
use crate::message::{ConnectionId, Effect, Input};

/// What chance does next, and to which of the attempts that run: 0 for the newest.
#[derive(Debug, Clone, Copy)]
enum Move {
    One(usize, Action),
    /// All that there is to be done is done, once; perhaps but for the storage.
    Round(usize, bool),
    /// What a TaskExecutor has told one attempt it tells another, as it has found the way to both.
    Stray(usize, usize),
}

/// Attempts of the JobManager that run at the same time, the newest last. What they have in common is the storage.
struct Haunted {
    attempts: Vec<Cluster>,
    parallelism: u32,
}

impl Haunted {
    fn new(config: JobManagerConfig, parallelism: u32, edges: Partitioning) -> Self {
        let mut first = Cluster::with_edges(config, parallelism, edges);
        first.bring_up(true);
        Self {
            attempts: vec![first],
            parallelism,
        }
    }

    fn newest(&mut self) -> &mut Cluster {
        self.attempts.last_mut().unwrap()
    }

    /// YARN starts another attempt if the newest one may have work to do.
    fn replace(&mut self, ends: bool) {
        let newest = self.attempts.last().unwrap();
        if !newest.observer.is_over(job(1)) {
            let next = newest.beside(self.parallelism);
            self.attempts.push(next);
            let count = self.attempts.len() - 1;
            for before in &mut self.attempts[..count] {
                for executor in before.executors.values_mut() {
                    executor.lingers = !ends;
                }
            }
        }
    }

    fn act(&mut self, what: Move) {
        let (Move::One(whom, _) | Move::Round(whom, _) | Move::Stray(whom, _)) = what;
        let at = self.attempts.len() - 1 - whom % self.attempts.len();
        let other = (at + 1) % self.attempts.len();
        if let Move::Stray(_, n) = what
            && other != at
            && let Some(message) = self.attempts[other].told(n)
        {
            self.attempts[at].stray(message);
        }
        let attempt = &mut self.attempts[at];
        match what {
            Move::One(_, action) => attempt.act(action),
            Move::Round(_, storage) => {
                let lingers = attempt.executors.values().all(|one| one.lingers);
                attempt.round(lingers, storage);
                attempt.wait(Duration::from_millis(100));
            }
            Move::Stray(..) => {}
        }
        self.forget_what_is_over();
    }

    /// A job that was brought to its end before the newest attempt had looked is no more to be gone on with: its record is gone.
    fn forget_what_is_over(&mut self) {
        let store = |attempt: &Cluster| attempt.checkpoints.store.has_ended_elsewhere(job(1));
        while self.attempts.last().is_some_and(store) {
            self.attempts.pop();
        }
    }
}

impl Cluster {
    /// Something that a TaskExecutor has told this attempt.
    fn told(&self, n: usize) -> Option<ToJobManager> {
        let mut told = Vec::new();
        for (_, input) in &self.inputs {
            if let Input::TaskExecutor { message, .. } = input {
                told.push(message);
            }
        }
        told.get(n % told.len().max(1))
            .map(|&message| message.clone())
    }

    /// A TaskExecutor of another attempt tells something here. Nothing follows but that its stream is ended.
    fn stray(&mut self, message: ToJobManager) {
        self.next += 1;
        let connection = ConnectionId(self.next);
        let before = self.effects.len();
        self.input(Input::TaskExecutor {
            connection,
            message,
        });
        self.observer.refused(connection, &self.effects[before..]);
        let told = |effect: &Effect| {
            matches!(
                effect,
                Effect::Send { .. } | Effect::Checkpoint { .. } | Effect::RemoveStaging { .. }
            )
        };
        assert!(!self.effects[before..].iter().any(told), "a stray is heard");
    }
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        30 => checkpointing().boxed(),
        1 => fault().boxed(),
        1 => any::<usize>().prop_map(Action::FailTask).boxed(),
    ];
    let whom = any::<usize>();
    let one = prop_oneof![
        30 => (whom, one).prop_map(|(whom, action)| Move::One(whom, action)),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(whom, n)| Move::Stray(whom, n)),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(whom, storage)| Move::Round(whom, storage)),
    ];
    prop::collection::vec(one, 0..200)
}

/// Between two attempts.
#[derive(Debug, Clone)]
struct Stretch {
    /// Whether tasks of attempts that were thought dead come to their end.
    ends: bool,
    moves: Vec<Move>,
    /// After which move all goes well with the newest attempt for a while.
    recovers: Option<prop::sample::Index>,
}

fn stretch() -> impl Strategy<Value = Stretch> {
    let recovers = prop::option::of(any::<prop::sample::Index>());
    (any::<bool>(), moves(), recovers).prop_map(|(ends, moves, recovers)| Stretch {
        ends,
        moves,
        recovers,
    })
}

#[derive(Debug)]
struct Run {
    config: JobManagerConfig,
    checkpoints: CheckpointConfig,
    /// In milliseconds.
    interval: u64,
    parallelism: u32,
    stretches: Vec<Stretch>,
}

fn run() -> impl Strategy<Value = Run> {
    let stretches = prop::collection::vec(stretch(), 2..5);
    (
        config(),
        checkpoint_config(),
        20_u64..600,
        1_u32..4,
        stretches,
    )
        .prop_map(
            |(config, checkpoints, interval, parallelism, stretches)| Run {
                config,
                checkpoints,
                interval,
                parallelism,
                stretches,
            },
        )
}

/// Plays it to its end: what was thought dead dies at last, and the newest attempt has peace.
fn played(run: Run) -> Haunted {
    let checkpoints = CheckpointConfig {
        interval: Some(Duration::from_millis(run.interval)),
        directory: Some("hdfs:///checkpoints".to_owned()),
        ..run.checkpoints
    };
    let restart = RestartConfig::FixedDelay {
        attempts: 10,
        delay: Duration::from_millis(run.interval),
    };
    let config = JobManagerConfig {
        checkpoints,
        restart,
        ..run.config
    };
    let edges = if run.interval.is_multiple_of(2) {
        Partitioning::Hash
    } else {
        Partitioning::Forward
    };
    let mut haunted = Haunted::new(config, run.parallelism, edges);
    for (n, stretch) in run.stretches.into_iter().enumerate() {
        if n > 0 {
            haunted.replace(stretch.ends);
        }
        let count = stretch.moves.len().max(1);
        let recovers = stretch.recovers.map(|index| index.index(count));
        for (at, one) in stretch.moves.into_iter().enumerate() {
            haunted.act(one);
            if recovers == Some(at) {
                haunted.newest().bring_up(true);
            }
        }
    }
    haunted.newest().go_well();
    for attempt in &haunted.attempts {
        attempt.replay_is_the_same();
    }
    haunted
}

/// So many, or what `PROPTEST_CASES` says.
fn cases(count: u32) -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        None => ProptestConfig::with_cases(count),
        Some(_) => ProptestConfig::default(),
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn whatever_attempts_do_that_were_thought_dead_checkpoints_keep_their_rules(run in run()) {
        played(run);
    }
}

#[test]
fn attempts_are_thought_dead_at_all_times() {
    let mut runner = TestRunner::deterministic();
    let mut refused = BTreeMap::<&str, u32>::new();
    let (mut beside, mut goes_on) = (0, 0);
    for _ in 0..200 {
        let run = run().new_tree(&mut runner).unwrap().current();
        let haunted = played(run);
        let newest = haunted.attempts.last().unwrap();
        if haunted.attempts.len() > 1 {
            beside += 1;
            let seen = &newest.checkpoints.seen;
            goes_on += u32::from(seen.contains_key("a commit is told"));
        }
        for (what, count) in &newest.checkpoints.store.world().refused {
            *refused.entry(what).or_default() += count;
        }
    }
    assert!(beside >= 100, "{beside} runs with several attempts");
    assert!(goes_on >= 50, "{goes_on} with checkpoints of the newest");
    for what in REFUSED {
        assert!(refused.contains_key(what), "{what}: {refused:?}");
    }
}
