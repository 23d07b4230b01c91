//! Stories of an attempt of the JobManager that was thought dead.

use super::checkpoints::{each_second, running_then};
use super::script::check;

/// Where the snapshots are, as seen from here.
const STORIES: &str = "stories";

story!(
    an_attempt_that_has_lost_its_job_stops_the_tasks_and_leaves_it_as_it_is,
    each_second(),
    running_then(
        "
        wait 1000
        prepared 1
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        superseded of attempt 2
        superseded of attempt 2
        all Canceled
        wait 20000
        cancel by a user
        checkpoints
        "
    )
);

story!(
    nobody_commits_what_no_checkpoint_holds_before_it_is_known_whose_the_job_is,
    each_second(),
    running_then(
        "
        wait 1000
        prepared 1
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        persisted 1
        state c1 src/0.0 Finished
        state c1 sink/0.0 AwaitingCommit
        notconfirmed the NameNode does not answer
        wait 2000
        confirmed
        state c1 sink/0.0 Finished
        "
    )
);

story!(
    what_another_attempt_does_again_is_not_committed,
    each_second(),
    running_then(
        "
        wait 1000
        prepared 1
        ack c1 src/0.0 1 at 5
        ack c1 sink/0.0 1 open
        persisted 1
        state c1 src/0.0 Finished
        state c1 sink/0.0 AwaitingCommit
        superseded of attempt 2
        all Canceled
        wait 20000
        "
    )
);
