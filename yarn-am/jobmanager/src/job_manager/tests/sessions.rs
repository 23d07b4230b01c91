//! Stories of clusters with several jobs: their shares, their limits, their ends.

use std::time::Duration;

use spindle_common::config::RestartConfig;

use super::script::check;
use crate::config::{ClusterMode, JobManagerConfig, ResourceLimits};

/// Where the snapshots are, as seen from here.
const STORIES: &str = "stories";

fn session() -> JobManagerConfig {
    JobManagerConfig {
        mode: ClusterMode::Session,
        heartbeat_timeout: Duration::from_secs(3600),
        ..JobManagerConfig::default()
    }
}

fn session_of(slots: u32) -> JobManagerConfig {
    JobManagerConfig {
        limits: ResourceLimits {
            slots: Some(slots),
            ..ResourceLimits::default()
        },
        ..session()
    }
}

fn application(attached: bool) -> JobManagerConfig {
    JobManagerConfig {
        mode: ClusterMode::Application { attached },
        ..session()
    }
}

/// Jobs 1 and 2 run beside each other on one TaskManager.
const TWO_ON_ONE: &str = "
    quietly
    submit 1 1
    submit 1 2
    grant c1@n1
    register c1
    offer c1 1
    offer c1 2
    all Running
    loudly
";

fn two_on_one_then(story: &str) -> String {
    format!("{TWO_ON_ONE}{story}")
}

fn two_slots_each(config: JobManagerConfig) -> JobManagerConfig {
    JobManagerConfig {
        slots_per_task_manager: 2,
        ..config
    }
}

story!(
    a_task_manager_that_no_job_uses_is_given_back_after_its_time,
    session(),
    "
    quietly
    submit 1 1
    grant c1@n1
    register c1
    offer c1 1
    all Running
    all AwaitingCommit
    loudly
    all Finished
    wait 29999
    wait 1
    heartbeat c1
    completed c1 stopped as asked
    wait 3600000
    submit 1 2
    "
);

story!(
    a_task_manager_that_is_used_again_in_time_stays,
    session(),
    "
    quietly
    submit 1 1
    grant c1@n1
    register c1
    offer c1 1
    all Running
    all AwaitingCommit
    all Finished
    wait 29999
    loudly
    submit 1 2
    offer c1 2
    wait 100000
    "
);

story!(
    jobs_that_wait_for_room_are_served_in_the_order_of_submission,
    session_of(3),
    "
    submit 1 1
    submit 3 2
    submit 1 3
    grant c1@n1
    register c1
    offer c1 1
    view
    quietly
    all Running
    all AwaitingCommit
    loudly
    all Finished
    view
    grant c2@n1 c3@n2
    register c2
    register c3
    canceljob 2 too slow
    view
    "
);

story!(
    idle_task_managers_are_kept_while_a_job_waits_that_could_use_them,
    session_of(3),
    "
    quietly
    submit 1 1
    submit 1 2
    grant c1@n1 c2@n2
    register c1
    register c2
    offer c1 1
    offer c2 2
    all Running
    canceljob 2 enough
    state c2 src/0.0 Canceled
    state c2 sink/0.0 Canceled
    loudly
    submit 3 3
    wait 100000
    view
    canceljob 3 waited for too long
    wait 29999
    wait 1
    "
);

story!(
    a_job_beyond_the_limits_fails_and_leaves_the_others_alone,
    session_of(2),
    "
    submit 1 1
    submit 3 2
    grant c1@n1
    register c1
    offer c1 1
    view
    "
);

story!(
    a_memory_limit_counts_containers,
    JobManagerConfig {
        limits: ResourceLimits {
            memory: Some(spindle_common::resource::ByteSize::from_mib(2500)),
            ..ResourceLimits::default()
        },
        ..two_slots_each(session())
    },
    "
    submit 5 1
    submit 4 2
    grant c1@n1 c2@n2 c3@n3
    "
);

story!(
    a_job_brings_its_own_restart_strategy,
    session(),
    "
    quietly
    submit 1 1 restart-strategy.type=none
    submit 1 2
    grant c1@n1 c2@n2
    register c1
    register c2
    offer c1 1
    offer c2 2
    all Running
    loudly
    fail c1 1:src/0.0 Restart panicked
    fail c2 2:src/0.0 Restart panicked
    state c1 1:sink/0.0 Canceled
    state c2 2:sink/0.0 Canceled
    "
);

story!(
    a_job_with_wrong_settings_fails_when_it_is_handed_in,
    session(),
    "submit 1 1 restart-strategy.type=sometimes"
);

story!(
    a_job_that_fails_or_is_cancelled_leaves_its_neighbour_alone,
    two_slots_each(JobManagerConfig {
        restart: spindle_common::config::RestartConfig::None,
        ..session()
    }),
    two_on_one_then(
        "
    workerlost c1 killed for memory
    submit 1 3
    offer c1 3
    state c1 3:src/0.0 Running
    canceljob 3 enough
    state c1 3:src/0.0 Canceled
    state c1 3:sink/0.0 Canceled
    view
    "
    )
);

story!(
    a_job_that_does_not_stop_loses_its_worker_but_its_neighbour_does_not,
    two_slots_each(session()),
    two_on_one_then(
        "
    canceljob 1 enough
    wait 29999
    wait 1
    view
    "
    )
);

story!(
    a_commit_that_hangs_costs_its_task_manager_and_the_job_starts_again,
    session(),
    "
    quietly
    submit 2 1
    grant c1@n1 c2@n2
    register c1
    register c2
    offer c1 1
    offer c2 2
    all Running
    state c1 src/0.0 Finished
    state c2 src/1.0 Finished
    state c1 sink/0.0 AwaitingCommit
    loudly
    state c2 sink/1.0 AwaitingCommit
    wait 20000
    state c1 sink/0.0 Finished
    wait 29999
    wait 1
    wait 1000
    "
);

story!(
    when_a_stream_breaks_first_the_container_may_still_tell_why,
    JobManagerConfig {
        restart: spindle_common::config::RestartConfig::None,
        ..session()
    },
    "
    quietly
    submit 1 1
    grant c1@n1
    register c1
    offer c1 1
    all Running
    loudly
    disconnect c1
    wait 1000
    completed c1 it was killed for memory: 1.1 GiB of 1 GiB
    "
);

story!(
    a_task_manager_whose_stream_broke_is_stopped_if_it_does_not_end_by_itself,
    JobManagerConfig {
        restart: spindle_common::config::RestartConfig::None,
        ..session()
    },
    "
    quietly
    submit 1 1
    grant c1@n1
    register c1
    offer c1 1
    all Running
    loudly
    disconnect c1
    wait 1999
    wait 1
    completed c1 it was stopped by the ApplicationMaster
    "
);

story!(
    jobs_that_are_over_are_forgotten_when_they_are_too_many_or_too_old,
    JobManagerConfig {
        job_store_capacity: 1,
        ..session()
    },
    "
    quietly
    submit 1 1
    submit 1 2
    canceljob 1 enough
    loudly
    view
    canceljob 2 enough
    view
    submit 1 1
    wait 3599999
    view
    wait 1
    view
    "
);

story!(
    after_too_many_failed_starts_within_a_minute_none_is_asked_for_during_a_pause,
    JobManagerConfig {
        max_start_failures: 100,
        start_failure_rate: 2.0,
        ..session()
    },
    "
    submit 1 1
    grant c1@n1
    launchfailed c1 no space left on device
    grant c2@n2
    launchfailed c2 no space left on device
    grant c3@n3
    launchfailed c3 no space left on device
    view
    wait 2999
    wait 1
    wait 60000
    grant c4@n1
    launchfailed c4 no space left on device
    "
);

story!(
    a_session_that_is_told_to_end_twice_ends_once,
    session(),
    "
    quietly
    submit 1 1
    grant c1@n1
    register c1
    offer c1 1
    all Running
    loudly
    shutdown asked for by alice
    shutdown asked for by bob
    submit 1 2
    all Canceled
    shutdown asked for by carol
    "
);

story!(
    what_no_job_gets_over_ends_the_session_as_failed,
    two_slots_each(session()),
    two_on_one_then(
        "
    fail c1 1:src/0.0 FailCluster the file system of the cluster is gone
    all Canceled
    "
    )
);

story!(
    an_application_ends_when_its_last_job_has_and_no_more_come,
    application(false),
    "
    quietly
    submit 1 1
    submit 1 2
    grant c1@n1 c2@n2
    register c1
    register c2
    offer c1 1
    offer c2 2
    all Running
    all AwaitingCommit
    loudly
    state c1 sink/0.0 Finished
    state c1 src/0.0 Finished
    nomore
    submit 1 3
    state c2 src/0.0 Finished
    state c2 sink/0.0 Finished
    "
);

story!(
    an_application_fails_with_the_first_of_its_jobs_that_did,
    application(true),
    "
    quietly
    submit 1 1
    submit 1 2 restart-strategy.type=sometimes
    submit 9 3 restart-strategy.type=never
    canceljob 1 enough
    loudly
    nomore
    released
    "
);

story!(
    an_application_whose_job_was_cancelled_is_killed,
    application(false),
    "
    submit 1 1
    canceljob 1 enough
    nomore
    "
);

story!(
    an_application_without_a_job_has_failed,
    application(false),
    "nomore"
);

story!(
    an_application_that_is_shut_down_before_its_end_is_killed,
    application(false),
    "
    submit 1 1
    shutdown the application's lifetime is over
    "
);

story!(
    a_redundant_task_manager_takes_over_and_is_replaced_and_goes_with_the_last_job,
    JobManagerConfig {
        redundant_task_managers: 1,
        idle_timeout: Duration::from_secs(5),
        restart: RestartConfig::FixedDelay {
            attempts: 3,
            delay: Duration::from_millis(100),
        },
        ..session()
    },
    "
    nodes 3
    submit 1 1
    grant c1@n1 c2@n2
    register c1
    offer c1 1
    register c2
    quietly
    all Initializing
    all Running
    loudly
    wait 20000
    disconnect c1
    completed c1 killed by signal 9
    wait 3000
    offer c2 2
    quietly
    all Initializing
    all Running
    loudly
    grant c3@n3
    register c3
    wait 20000
    canceljob 1 by a user
    quietly
    all Canceled
    loudly
    wait 4999
    wait 5001
    "
);
