//! Stories of slot sharing groups, of slots that say what they have, and of nodes that share the load.

use std::time::Duration;

use super::per_job;
use super::script::check;
use crate::config::{ClusterMode, JobManagerConfig, ResourceLimits};
use spindle_common::resource::ByteSize;

/// Where the snapshots are, as seen from here.
const STORIES: &str = "stories";

fn session(slots: u32) -> JobManagerConfig {
    JobManagerConfig {
        mode: ClusterMode::Session,
        slots_per_task_manager: slots,
        ..JobManagerConfig::default()
    }
}

story!(
    each_slot_sharing_group_has_slots_of_its_own,
    per_job(),
    "
    submit 1 1 group=
    grant c1@n1 c2@n2
    register c1
    register c2
    offer c2 2
    offer c1 1
    "
);

story!(
    slots_of_a_group_with_a_profile_are_cut_from_what_is_there_or_come_made_to_measure,
    session(2),
    "
    submit 2 1 sink=0.25/200m
    grant c1@n1
    register c1
    view
    offer c1 1
    offer c1 2
    grant c2@n1
    submit 1 2 sink=2/2g
    grant c3@n2+
    register c3
    register c2
    view
    grant c4@n1
    register c4
    view
    "
);

story!(
    a_profile_that_the_platform_never_grants_fails_the_job_that_wants_it,
    session(1),
    "
    submit 1 1 sink=2/64g
    submit 1 2
    refusedlarge 65568 MiB are more than the largest container
    grant c1@n1
    register c1
    offer c1 1
    "
);

story!(
    a_profile_that_the_limits_leave_no_room_for_fails_its_job,
    JobManagerConfig {
        limits: ResourceLimits {
            memory: Some(ByteSize::from_mib(3000)),
            ..ResourceLimits::default()
        },
        ..session(1)
    },
    "
    submit 1 1 sink=1/2g
    submit 3 2
    submit 1 3 sink=1/1500m
    "
);

story!(
    an_idle_task_manager_goes_when_the_limits_leave_no_room_beside_it,
    JobManagerConfig {
        heartbeat_timeout: Duration::from_secs(60),
        limits: ResourceLimits {
            memory: Some(ByteSize::from_mib(2200)),
            ..ResourceLimits::default()
        },
        ..session(1)
    },
    "
    quietly
    submit 2 1
    grant c1@n1 c2@n2
    register c1
    register c2
    offer c1 1
    offer c2 2
    all Initializing
    all Running
    state c1 src/0.0 Finished
    state c2 src/1.0 Finished
    state c1 sink/0.0 AwaitingCommit
    state c2 sink/1.0 AwaitingCommit
    state c1 sink/0.0 Finished
    loudly
    state c2 sink/1.0 Finished
    submit 1 2 sink=0.5/1100m
    view
    wait 29999
    wait 1
    grant c3@n1+
    register c3
    "
);

story!(
    spread_out_containers_and_slots_go_to_all_nodes_evenly,
    JobManagerConfig {
        spread: true,
        ..session(2)
    },
    "
    nodes 2
    submit 4 1
    grant c1@n1 c2@n2
    register c1
    register c2
    submit 3 2
    grant c3@n1 c4@n2
    register c3
    register c4
    canceljob 1 enough
    submit 2 3
    "
);
