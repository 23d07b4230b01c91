//! Why an application stays in ACCEPTED: which limit of which queue, and what to do about it.

use spindle_hadoop::proto::yarn::ApplicationReport;

use super::scheduler::{Nodes, Queue, RmRest, nodes, queue};

/// What is known of an application that waits for its first container.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Observed {
    /// The ResourceManager's own words, without the time in front.
    pub(crate) diagnostics: String,
    /// The queue's name as it was given.
    pub(crate) queue_name: String,
    /// Its figures, if the ResourceManager tells them.
    pub(crate) queue: Option<Queue>,
    /// The cluster's nodes, if the ResourceManager tells them.
    pub(crate) nodes: Option<Nodes>,
    pub(crate) user: String,
    /// What the ApplicationMaster's container needs.
    pub(crate) master_mib: u64,
    /// The nodes it has to be on, if only some will do.
    pub(crate) label: Option<String>,
}

/// Why an application waits, of which the ResourceManager says `words`.
pub(crate) async fn reason(
    rest: Option<&RmRest>,
    report: &ApplicationReport,
    words: &str,
) -> String {
    match rest {
        Some(rest) => explain(&observe(rest, report, words).await),
        None => words.to_owned(),
    }
}

/// Asks what the ResourceManager tells; what it does not tell is absent.
async fn observe(rest: &RmRest, report: &ApplicationReport, words: &str) -> Observed {
    let (scheduler, metrics) = tokio::join!(
        rest.get("/ws/v1/cluster/scheduler"),
        rest.get("/ws/v1/cluster/metrics")
    );
    let queue = scheduler
        .ok()
        .and_then(|answer| queue(&answer.json(), report.queue()));
    let own = report.am_node_label_expression();
    let default = queue.as_ref().map_or("", |queue| &queue.default_label);
    let label = if own.is_empty() { default } else { own };
    Observed {
        diagnostics: words.to_owned(),
        queue_name: report.queue().to_owned(),
        label: Some(label.to_owned()).filter(|label| !label.is_empty() && !label.starts_with('<')),
        queue,
        nodes: metrics.ok().map(|answer| nodes(&answer.json())),
        user: report.user().to_owned(),
        master_mib: requested_mib(words),
    }
}

/// What the ApplicationMaster needs, as the ResourceManager's words have it: `AM Resource Request = <memory:256, vCores:1>`.
fn requested_mib(words: &str) -> u64 {
    let number = || {
        let (_, rest) = words.split_once("AM Resource Request")?;
        let (_, rest) = rest.split_once("memory:")?;
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[..end].parse().ok()
    };
    // Some memory is needed by any.
    number().unwrap_or(1)
}

/// One sentence: what it waits for and what to do. The ResourceManager's words, if nothing better is known.
pub(crate) fn explain(seen: &Observed) -> String {
    let words = seen.diagnostics.to_ascii_lowercase();
    let name = seen
        .queue
        .as_ref()
        .map_or(seen.queue_name.as_str(), |queue| queue.path.as_str());
    let need = seen.master_mib;
    if let Some(nodes) = seen.nodes
        && nodes.active == 0
    {
        return format!(
            "no NodeManager is active ({} lost, {} unhealthy): an admin has to bring nodes back",
            nodes.lost, nodes.unhealthy
        );
    }
    let Some(queue) = &seen.queue else {
        return seen.diagnostics.clone();
    };
    if queue.state == "STOPPED" || queue.state == "DRAINING" {
        return format!(
            "the queue {name} is {}: use another queue (--queue), or ask an admin to start it",
            queue.state
        );
    }
    // The share of a user is named with the word `user`, the queue's without.
    if words.contains("user's am resource limit") {
        return format!(
            "your ApplicationMasters in queue {name} have all that one user's may have: end one of your applications, use another queue \
             (--queue), or ask an admin to raise yarn.scheduler.capacity.{name}.maximum-am-resource-percent or its user limit"
        );
    }
    let am_is_full = queue.am_limit_mib > 0
        && queue.am_used_mib > 0
        && queue.am_used_mib + need > queue.am_limit_mib;
    if words.contains("am resource limit") || am_is_full {
        return format!(
            "the share of queue {name} for ApplicationMasters is used up ({} of {} MiB, {need} MiB needed): wait for one of its {} \
             running applications to end, use another queue (--queue), or ask an admin to raise \
             yarn.scheduler.capacity.{name}.maximum-am-resource-percent{}",
            queue.am_used_mib,
            queue.am_limit_mib,
            queue.active_applications,
            share(queue)
        );
    }
    if queue.max_parallel_applications > 0
        && queue.active_applications >= queue.max_parallel_applications
    {
        return format!(
            "the queue {name} runs {} applications, the most that it may (max-parallel-apps): wait, or use another queue (--queue)",
            queue.active_applications
        );
    }
    if let Some(label) = &seen.label
        && (words.contains("label") || words.contains("partition"))
    {
        return format!(
            "no node with the label {label} has room: choose another label (yarn.application.node-label), or ask an admin for such nodes"
        );
    }
    let left = queue.max_mib.saturating_sub(queue.used_mib);
    if queue.max_mib > 0 && left < need {
        return format!(
            "the queue {name} is full ({} of {} MiB in use, {need} MiB needed): wait, use another queue (--queue), or ask for less memory",
            queue.used_mib, queue.max_mib
        );
    }
    let (headroom, limit) = queue.headroom_mib(&seen.user);
    if queue.max_mib > 0 && headroom < need {
        return format!(
            "you have reached your limit of {limit} MiB in queue {name} ({headroom} MiB left, {need} MiB needed): end one of your \
             applications, use another queue (--queue), or ask an admin to raise its user-limit-factor"
        );
    }
    if let Some(nodes) = seen.nodes
        && nodes.available_mib < need
    {
        return format!(
            "the cluster is full ({} of {} MiB free on {} nodes, {need} MiB needed): wait until other applications end",
            nodes.available_mib, nodes.total_mib, nodes.active
        );
    }
    seen.diagnostics.clone()
}

fn share(queue: &Queue) -> String {
    if queue.am_share > 0.0 {
        format!(" (now {})", queue.am_share)
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yarn::scheduler::User;

    fn calm() -> Observed {
        Observed {
            diagnostics: "Application is added to the scheduler and is not yet activated."
                .to_owned(),
            queue_name: "etl".to_owned(),
            queue: Some(Queue {
                path: "root.etl".to_owned(),
                state: "RUNNING".to_owned(),
                used_mib: 1024,
                max_mib: 8192,
                promised_mib: 8192,
                am_used_mib: 256,
                am_limit_mib: 1024,
                am_share: 0.1,
                active_applications: 1,
                user_limit_factor: 1.0,
                ..Queue::default()
            }),
            nodes: Some(Nodes {
                active: 2,
                total_mib: 8192,
                available_mib: 7168,
                ..Nodes::default()
            }),
            user: "ann".to_owned(),
            master_mib: 512,
            label: None,
        }
    }

    fn with(change: impl FnOnce(&mut Observed, &mut Queue)) -> String {
        let mut seen = calm();
        let mut queue = seen.queue.take().unwrap();
        change(&mut seen, &mut queue);
        seen.queue = Some(queue);
        explain(&seen)
    }

    #[track_caller]
    fn says(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
    }

    #[test]
    fn the_limit_that_holds_it_is_named_with_its_queue() {
        says(
            &with(|_, queue| queue.am_used_mib = 768),
            &[
                "root.etl",
                "768 of 1024 MiB",
                "root.etl.maximum-am-resource-percent (now 0.1)",
            ],
        );
        says(
            &with(|seen, _| seen.diagnostics = "Queue's AM resource limit exceeded.".to_owned()),
            &["share of queue root.etl for ApplicationMasters"],
        );
        says(
            &with(|seen, _| seen.diagnostics = "User's AM resource limit exceeded.".to_owned()),
            &["one user's", "root.etl"],
        );
        says(
            &with(|_, queue| queue.used_mib = 8000),
            &["root.etl is full", "8000 of 8192"],
        );
        says(
            &with(|_, queue| {
                queue.users.push(User {
                    name: "ann".to_owned(),
                    used_mib: 1000,
                    limit_mib: 1024,
                });
            }),
            &["your limit of 1024 MiB", "24 MiB left", "user-limit-factor"],
        );
        says(
            &with(|_, queue| queue.state = "STOPPED".to_owned()),
            &["root.etl is STOPPED"],
        );
        says(
            &with(|_, queue| queue.max_parallel_applications = 1),
            &["max-parallel-apps"],
        );
    }

    #[test]
    fn nodes_that_are_missing_or_full_are_named() {
        says(
            &with(|seen, _| {
                let lost = 3;
                seen.nodes = Some(Nodes {
                    lost,
                    ..Nodes::default()
                });
            }),
            &["no NodeManager is active", "3 lost"],
        );
        says(
            &with(|seen, _| seen.nodes.as_mut().unwrap().available_mib = 100),
            &["the cluster is full", "100 of 8192"],
        );
        says(
            &with(|seen, _| {
                seen.label = Some("gpu".to_owned());
                seen.diagnostics = "no space in partition gpu".to_owned();
            }),
            &["label gpu"],
        );
    }

    #[test]
    fn what_is_needed_is_read_from_the_words() {
        let words = "limit exceeded. Details : AM Partition = <DEFAULT_PARTITION>; AM Resource Request = <memory:256, vCores:1>; Queue";
        assert_eq!(requested_mib(words), 256);
        assert_eq!(requested_mib("AM Resource Request = <memory:"), 1);
        assert_eq!(requested_mib("no figures, memory:12 elsewhere"), 1);
    }

    #[test]
    fn without_a_better_reason_the_resource_managers_own_words_are_said() {
        assert_eq!(explain(&calm()), calm().diagnostics);
        let blind = Observed {
            queue: None,
            nodes: None,
            ..calm()
        };
        assert_eq!(explain(&blind), blind.diagnostics);
    }
}
