//! Judgements of the queue, and of the containers that it will give.

use spindle_common::resource::ResourceProfile;

use super::Check;
use crate::yarn::scheduler::Queue;

/// The containers that a job wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) master: ResourceProfile,
    pub(super) task_manager: ResourceProfile,
}

/// How the scheduler sizes containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    /// Memory is rounded up to a multiple of this, in MiB; 0 if it is not known.
    pub(super) min_mib: u64,
    pub(super) max_mib: u64,
    pub(super) max_vcores: u64,
}

impl Steps {
    /// What is granted to one who asks for so much.
    pub(super) const fn granted(self, mib: u64) -> u64 {
        if self.min_mib == 0 {
            mib
        } else {
            mib.next_multiple_of(self.min_mib)
        }
    }
}

/// Whether the queue is there and takes applications.
pub(super) fn queue(name: &str, queue: Option<&Queue>, all: &[String]) -> Check {
    const NAME: &str = "queue";
    match queue {
        Some(queue) if queue.state.is_empty() || queue.state == "RUNNING" => Check::ok(
            NAME,
            format!(
                "{} is RUNNING: {} of {} MiB in use, {} applications run, {} wait",
                queue.path,
                queue.used_mib,
                queue.max_mib,
                queue.active_applications,
                queue.pending_applications
            ),
        ),
        Some(queue) => Check::fail(
            NAME,
            format!("{} is {}", queue.path, queue.state),
            "choose another with --queue or yarn.application.queue, or ask an admin to start it",
        ),
        None if all.is_empty() => Check::skip(NAME, "the ResourceManager does not tell its queues"),
        None => Check::fail(
            NAME,
            format!("there is no leaf queue `{name}`"),
            format!(
                "choose one of {} with --queue or yarn.application.queue",
                all.join(", ")
            ),
        ),
    }
}

/// Whether the user may submit to it.
pub(super) fn may_submit(user: &str, queue: &str, allowed: Option<bool>) -> Check {
    const NAME: &str = "may submit";
    match allowed {
        Some(true) => Check::ok(NAME, format!("{user} may submit to {queue}")),
        Some(false) => Check::fail(
            NAME,
            format!("{user} may not submit to {queue}"),
            "choose another queue with --queue, or ask an admin for the right (acl_submit_applications)",
        ),
        None => Check::skip(
            NAME,
            format!("the ResourceManager does not tell whether {user} may submit to {queue}"),
        ),
    }
}

/// Whether another ApplicationMaster has room in the queue's share for them.
pub(super) fn am_share(queue: &Queue, need_mib: u64) -> Check {
    const NAME: &str = "AM share";
    let seen = format!(
        "ApplicationMasters have {} of {} MiB in {} ({:.0} %), one needs {need_mib} MiB",
        queue.am_used_mib,
        queue.am_limit_mib,
        queue.path,
        queue.am_share * 100.0
    );
    let raise = format!(
        "yarn.scheduler.capacity.{}.maximum-am-resource-percent raises the limit",
        queue.path
    );
    if queue.am_limit_mib == 0 {
        Check::skip(
            NAME,
            "the scheduler tells of no share for ApplicationMasters",
        )
    } else if queue.am_used_mib > 0 && queue.am_used_mib + need_mib > queue.am_limit_mib {
        Check::warn(
            NAME,
            seen,
            format!("a new application stays in ACCEPTED until another ends; {raise}"),
        )
    } else if queue.am_limit_mib < 2 * need_mib {
        Check::warn(
            NAME,
            seen,
            format!("applications run one at a time; {raise}"),
        )
    } else {
        Check::ok(NAME, seen)
    }
}

/// What the user may get at this moment.
pub(super) fn headroom(queue: &Queue, user: &str, steps: Steps, wanted: Wanted) -> Check {
    const NAME: &str = "headroom";
    if queue.max_mib == 0 {
        return Check::skip(NAME, "the scheduler tells of no capacity");
    }
    let (left, limit) = queue.headroom_mib(user);
    let master = steps.granted(wanted.master.memory.as_mib_ceil());
    let each = steps
        .granted(wanted.task_manager.memory.as_mib_ceil())
        .max(1);
    let fit = left.saturating_sub(master) / each;
    let seen = format!(
        "{user} may have {limit} MiB in {} and {left} MiB more now: an ApplicationMaster and {fit} TaskManagers",
        queue.path
    );
    if limit < master + each {
        Check::fail(
            NAME,
            seen,
            "that is too little for any job: smaller containers, another queue, or a higher user-limit-factor",
        )
    } else if fit == 0 {
        Check::warn(NAME, seen, "a job has to wait until other applications end")
    } else {
        Check::ok(NAME, seen)
    }
}

/// What a container really gets.
pub(super) fn container(
    who: &'static str,
    key: &str,
    wanted: ResourceProfile,
    steps: Steps,
) -> Check {
    let mib = wanted.memory.as_mib_ceil();
    let granted = steps.granted(mib);
    if steps.max_mib > 0 && granted > steps.max_mib {
        return Check::fail(
            who,
            format!("{mib} MiB are asked for, the most is {} MiB", steps.max_mib),
            format!(
                "set {key} to {}m or less, or ask an admin to raise yarn.scheduler.maximum-allocation-mb",
                steps.max_mib
            ),
        );
    }
    if steps.max_vcores > 0 && u64::from(wanted.vcores) > steps.max_vcores {
        return Check::fail(
            who,
            format!(
                "{} vcores are asked for, the most is {}",
                wanted.vcores, steps.max_vcores
            ),
            "lower yarn.appmaster.vcores or yarn.containers.vcores",
        );
    }
    let seen = format!(
        "{mib} MiB are asked for, {granted} MiB are granted, the most is {} MiB",
        steps.max_mib
    );
    if steps.min_mib == 0 {
        Check::ok(
            who,
            format!(
                "{mib} MiB are asked for, the most is {} MiB; the scheduler's steps are not known",
                steps.max_mib
            ),
        )
    } else if (granted - mib) * 2 > mib {
        Check::warn(
            who,
            seen,
            format!(
                "set {key} to {granted}m to use what is paid for (yarn.scheduler.minimum-allocation-mb is {})",
                steps.min_mib
            ),
        )
    } else {
        Check::ok(who, seen)
    }
}

/// Whether a container gets the vcores that it asks for.
pub(super) fn vcores(honoured: Option<bool>) -> Check {
    const NAME: &str = "vcores";
    match honoured {
        Some(true) => Check::ok(NAME, "counted by the scheduler"),
        Some(false) => Check::ok(
            NAME,
            "not counted: the scheduler looks at memory alone (DefaultResourceCalculator), a container shows 1 vcore whatever it asks for",
        ),
        None => Check::skip(NAME, "whether the scheduler counts them is not known"),
    }
}

/// DefaultResourceCalculator shows in a limit of 1 vcore where the share is more; a limit of several means that they are counted.
pub(super) fn are_vcores_counted(queue: &Queue) -> Option<bool> {
    let fair = queue.max_vcores as f64 * queue.am_share;
    match queue.am_limit_vcores {
        0 => None,
        1 if fair >= 2.0 => Some(false),
        1 => None,
        _ => Some(true),
    }
}

/// Which nodes the queue may use.
pub(super) fn labels(queue: &Queue, known: &[String]) -> Check {
    const NAME: &str = "node labels";
    let own = &queue.default_label;
    if !own.is_empty() && !known.contains(own) {
        return Check::fail(
            NAME,
            format!("{} asks for the label {own}, which no node has", queue.path),
            "ask an admin for nodes with that label, or choose another queue",
        );
    }
    if known.is_empty() {
        return Check::ok(NAME, "none in this cluster");
    }
    let usable = if queue.labels.iter().any(|label| label == "*") {
        "all".to_owned()
    } else {
        queue.labels.join(", ")
    };
    let default = if own.is_empty() { "no label" } else { own };
    Check::ok(
        NAME,
        format!(
            "{} in this cluster; {} may use {usable}, by default {default}",
            known.join(", "),
            queue.path
        ),
    )
}

#[cfg(test)]
mod tests {
    use spindle_common::resource::ByteSize;

    use super::*;
    use crate::doctor::Level;

    const STEPS: Steps = Steps {
        min_mib: 256,
        max_mib: 4096,
        max_vcores: 4,
    };

    fn profile(mib: u64) -> ResourceProfile {
        ResourceProfile {
            memory: ByteSize::from_mib(mib),
            vcores: 1,
        }
    }

    fn etl() -> Queue {
        Queue {
            path: "root.etl".to_owned(),
            state: "RUNNING".to_owned(),
            max_mib: 8192,
            max_vcores: 16,
            promised_mib: 8192,
            user_limit_factor: 1.0,
            am_share: 0.5,
            am_limit_mib: 4096,
            am_limit_vcores: 1,
            ..Queue::default()
        }
    }

    #[test]
    fn a_queue_has_to_exist_and_to_run() {
        let all = ["root.etl".to_owned()];
        assert_eq!(queue("etl", Some(&etl()), &all).level, Level::Ok);
        let stopped = Queue {
            state: "STOPPED".to_owned(),
            ..etl()
        };
        assert_eq!(queue("etl", Some(&stopped), &all).level, Level::Fail);
        let missing = queue("elt", None, &all);
        assert_eq!(missing.level, Level::Fail);
        assert!(missing.advice.unwrap().contains("root.etl"));
        assert_eq!(queue("elt", None, &[]).level, Level::Skip);
        assert_eq!(may_submit("ann", "etl", Some(false)).level, Level::Fail);
        assert_eq!(may_submit("ann", "etl", None).level, Level::Skip);
    }

    #[test]
    fn what_is_granted_is_the_next_step_up() {
        assert_eq!(
            (STEPS.granted(256), STEPS.granted(257), STEPS.granted(1)),
            (256, 512, 256)
        );
        let check = |mib| {
            container(
                "TaskManager",
                "taskmanager.memory.process.size",
                profile(mib),
                STEPS,
            )
        };
        assert_eq!(check(1024).level, Level::Ok);
        assert_eq!(check(1000).level, Level::Ok);
        assert_eq!(check(300).level, Level::Warn);
        assert!(check(300).seen.contains("512 MiB are granted"));
        assert_eq!(check(4097).level, Level::Fail);
        let wide = ResourceProfile {
            vcores: 5,
            ..profile(256)
        };
        assert_eq!(container("x", "k", wide, STEPS).level, Level::Fail);
    }

    #[test]
    fn a_share_of_application_masters_that_is_used_up_is_a_warning() {
        let with = |used, limit| {
            let queue = Queue {
                am_used_mib: used,
                am_limit_mib: limit,
                ..etl()
            };
            am_share(&queue, 512)
        };
        assert_eq!(with(0, 4096).level, Level::Ok);
        assert_eq!(with(3584, 4096).level, Level::Ok);
        let full = with(3585, 4096);
        assert_eq!(full.level, Level::Warn);
        assert!(
            full.advice
                .unwrap()
                .contains("root.etl.maximum-am-resource-percent")
        );
        assert_eq!(
            with(0, 256).level,
            Level::Warn,
            "YARN lets the first one in all the same"
        );
    }

    #[test]
    fn headroom_is_counted_in_containers() {
        let wanted = Wanted {
            master: profile(256),
            task_manager: profile(1000),
        };
        let with = |used| {
            headroom(
                &Queue {
                    used_mib: used,
                    ..etl()
                },
                "ann",
                STEPS,
                wanted,
            )
        };
        assert!(
            with(0)
                .seen
                .contains("an ApplicationMaster and 7 TaskManagers"),
            "{}",
            with(0).seen
        );
        assert_eq!(with(8000).level, Level::Warn);
        let small = Queue {
            promised_mib: 1024,
            ..etl()
        };
        assert_eq!(headroom(&small, "ann", STEPS, wanted).level, Level::Fail);
    }

    #[test]
    fn a_limit_of_one_vcore_where_many_are_due_means_that_none_are_counted() {
        let with = |limit, share| {
            are_vcores_counted(&Queue {
                am_limit_vcores: limit,
                am_share: share,
                ..etl()
            })
        };
        assert_eq!(with(1, 0.5), Some(false));
        assert_eq!(with(8, 0.5), Some(true));
        assert_eq!(with(1, 0.1), None);
        assert_eq!(with(0, 0.5), None);
    }

    #[test]
    fn a_queue_whose_label_no_node_has_will_never_run_anything() {
        let labelled = Queue {
            default_label: "gpu".to_owned(),
            ..etl()
        };
        assert_eq!(labels(&labelled, &[]).level, Level::Fail);
        assert_eq!(labels(&labelled, &["gpu".to_owned()]).level, Level::Ok);
        assert_eq!(labels(&etl(), &[]).level, Level::Ok);
    }
}
