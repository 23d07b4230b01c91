//! The status page: one HTML document without scripts or anything to load, readable behind YARN's proxy.

use std::fmt::{self, Write};

use spindle_common::execution::ExecutionState;
use spindle_common::id::JobId;
use spindle_common::resource::ByteSize;
use spindle_jobmanager::message::{JobView, TaskView, View};

use super::jobs::{tasks_of, vertex_state};
use crate::clock::Clock;

const REFRESH_SECONDS: u32 = 2;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em;color:#1c2430;background:#fff}\
h1{font-size:1.5em;margin:0}h2{font-size:1.15em;margin:2em 0 .4em}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3em .8em .3em 0;border-bottom:1px solid #dde2e8}\
th{font-weight:600;color:#5b6675;font-size:.85em}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
p{margin:.3em 0}.sub{color:#5b6675}code{font:13px ui-monospace,monospace}\
.s{display:inline-block;padding:0 .5em;border-radius:.6em;background:#e7ebf0}\
.FINISHED{background:#d4efdc}.RUNNING{background:#d5e6fb}.FAILED,.FAILING{background:#f9d6d5}\
.RESTARTING,.CANCELING,.CANCELLING,.CANCELED{background:#fbe8c8}\
.cause{background:#fdf0ef;border-left:4px solid #c8372f;padding:.5em .9em;white-space:pre-wrap;overflow-wrap:anywhere}\
@media(prefers-color-scheme:dark){body{background:#14181d;color:#dfe5ec}th,.sub{color:#93a0af}th,td{border-color:#2b333d}\
.s{background:#2b333d}.FINISHED{background:#1f4a2c}.RUNNING{background:#1d3d63}.FAILED,.FAILING{background:#5e2321}\
.RESTARTING,.CANCELING,.CANCELLING,.CANCELED{background:#574217}.cause{background:#331b1a}a{color:#8ab8f5}}";

/// Text as it may stand in a page, also inside quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['&', '<', '>', '"', '\'']) {
            let text = part.trim_end_matches(['&', '<', '>', '"', '\'']);
            f.write_str(text)?;
            f.write_str(match &part[text.len()..] {
                "&" => "&amp;",
                "<" => "&lt;",
                ">" => "&gt;",
                "\"" => "&quot;",
                "'" => "&#39;",
                _ => "",
            })?;
        }
        Ok(())
    }
}

/// The page. `base` is the path that relative links start from, if it is not where the page itself is.
pub(super) fn render(view: &View, clock: Clock, name: &str, base: Option<&str>) -> String {
    let mut page = String::new();
    write(&mut page, view, clock, name, base).expect("writing to a string does not fail");
    page
}

fn write(
    page: &mut String,
    view: &View,
    clock: Clock,
    name: &str,
    base: Option<&str>,
) -> fmt::Result {
    let name = Escaped(name);
    page.push_str("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    if let Some(base) = base {
        write!(page, "<base href=\"{}/\">", Escaped(base))?;
    }
    write!(
        page,
        "<meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{name} - Spindle</title><style>{STYLE}</style></head><body>\n<h1>{name}</h1>\n"
    )?;
    let slots: u32 = view.task_managers.values().map(|one| one.slots).sum();
    let free: u32 = view.task_managers.values().map(|one| one.free_slots).sum();
    writeln!(
        page,
        "<p class=\"sub\">Spindle {} &middot; {} TaskManagers, {free} of {slots} slots free &middot; \
         {} containers asked for, {} starting &middot; up {} &middot; \
         JSON: <a href=\"overview\">overview</a>, <a href=\"jobs/overview\">jobs</a>, \
         <a href=\"taskmanagers\">TaskManagers</a>, <a href=\"jobmanager/config\">settings</a>, \
         <a href=\"jobmanager/logs\">logs</a>, <a href=\"openapi.json\">all paths</a></p>",
        env!("CARGO_PKG_VERSION"),
        view.task_managers.len(),
        view.containers_pending,
        view.containers_starting,
        Span(clock.now().as_millis()),
    )?;
    if view.jobs.is_empty() {
        page.push_str("<h2>Jobs</h2><p>No job has been submitted yet.</p>\n");
    }
    let jobs = view.jobs.iter();
    let mut jobs: Vec<(JobId, &JobView)> = jobs.map(|(id, job)| (*id, job.as_ref())).collect();
    // What runs comes first, then the newest.
    jobs.sort_by_key(|(_, job)| (job.status.is_terminal(), std::cmp::Reverse(job.started)));
    if jobs.len() > 1 {
        write_list(page, &jobs, clock)?;
    }
    for (id, job) in jobs.iter().take(JOBS_DETAILED) {
        write_job(page, *id, job, view, clock)?;
    }
    write_task_managers(page, view, clock)?;
    page.push_str("</body></html>\n");
    Ok(())
}

/// More jobs than these are in the list alone.
const JOBS_DETAILED: usize = 10;
/// More jobs than these are only counted.
const JOBS_LISTED: usize = 200;

fn write_list(page: &mut String, jobs: &[(JobId, &JobView)], clock: Clock) -> fmt::Result {
    write!(
        page,
        "<h2>Jobs</h2>\n<table><tr><th>Job<th>State<th>Submitted<th class=\"n\">Took<th class=\"n\">Restarts<th>Waits for, or why it failed\n"
    )?;
    for (id, job) in jobs.iter().take(JOBS_LISTED) {
        let end = job.ended.unwrap_or_else(|| clock.now());
        let remark = match (&job.waiting_for, &job.cause) {
            (Some(waiting), _) => waiting.clone(),
            (None, Some(cause)) => cause.to_string(),
            (None, None) => String::new(),
        };
        let remark: String = remark.chars().take(200).collect();
        // The details of a job that are not on this page are behind its name.
        writeln!(
            page,
            "<tr><td><a href=\"jobs/{id}\">{}</a><td>{}<td>{} ago<td class=\"n\">{}<td class=\"n\">{}<td>{}",
            Escaped(&job.graph.name),
            State(job.status.rest_name()),
            Span(millis(clock.now().since(job.started))),
            Span(millis(end.since(job.started))),
            job.restarts,
            Escaped(&remark),
        )?;
    }
    page.push_str("</table>\n");
    if let Some(more) = jobs.len().checked_sub(JOBS_LISTED).filter(|more| *more > 0) {
        write!(page, "<p class=\"sub\">and {more} more</p>")?;
    }
    Ok(())
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn write_job(
    page: &mut String,
    id: JobId,
    job: &JobView,
    view: &View,
    clock: Clock,
) -> fmt::Result {
    let end = job.ended.unwrap_or_else(|| clock.now());
    write!(
        page,
        "<h2>{} {}</h2>\n<p class=\"sub\">Job <a href=\"jobs/{id}\"><code>{id}</code></a> &middot; {} &middot; \
         {} restarts &middot; <a href=\"jobs/{id}/exceptions\">failures</a> &middot; \
         <a href=\"jobs/{id}/plan\">plan</a> &middot; <a href=\"jobs/{id}/result\">result</a></p>\n",
        Escaped(&job.graph.name),
        State(job.status.rest_name()),
        Span(millis(end.since(job.started))),
        job.restarts,
    )?;
    if let Some(waiting) = &job.waiting_for {
        writeln!(page, "<p>Waits for {}.</p>", Escaped(waiting))?;
    }
    if let Some(cause) = &job.cause {
        let cause = cause.to_string();
        writeln!(page, "<p class=\"cause\">{}</p>", Escaped(&cause))?;
    }
    page.push_str(
        "<table><tr><th>Vertex<th>State<th class=\"n\">Tasks<th class=\"n\">Records in<th class=\"n\">Records out\
         <th class=\"n\">Bytes in<th class=\"n\">Bytes out<th class=\"n\">Late\n",
    );
    for vertex in &job.graph.vertices {
        let tasks: Vec<&TaskView> = tasks_of(job, vertex.id).collect();
        let sum = |of: fn(&TaskView) -> u64| tasks.iter().map(|task| of(task)).sum::<u64>();
        writeln!(
            page,
            "<tr><td><a href=\"jobs/{id}/vertices/{}\">{}</a><td>{}<td class=\"n\">{}<td class=\"n\">{}\
             <td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}",
            vertex.id,
            Escaped(&vertex.name()),
            State(vertex_state(&tasks)),
            vertex.parallelism,
            Count(sum(|task| task.metrics.records_in)),
            Count(sum(|task| task.metrics.records_out)),
            Bytes(sum(|task| task.metrics.bytes_in)),
            Bytes(sum(|task| task.metrics.bytes_out)),
            Count(sum(|task| task.metrics.late_records_dropped)),
        )?;
    }
    page.push_str("</table>\n");
    write_tasks(page, job, view)
}

/// More tasks than these are not listed one by one.
const TASKS_LISTED: usize = 500;

fn write_tasks(page: &mut String, job: &JobView, view: &View) -> fmt::Result {
    writeln!(
        page,
        "<details open><summary>{} tasks</summary><table><tr><th>Task<th>State<th>Attempt<th>TaskManager\
         <th class=\"n\">Records in<th class=\"n\">Records out<th class=\"n\">Read",
        job.tasks.len()
    )?;
    for task in job.tasks.iter().take(TASKS_LISTED) {
        let vertex = job.graph.vertex(task.execution.vertex);
        let name = vertex.map_or_else(String::new, |vertex| vertex.name());
        let of = vertex.map_or(0, |vertex| vertex.parallelism);
        let place = task.resource.as_ref().map_or_else(String::new, |resource| {
            let host = view.task_managers.get(resource);
            let host = host.map_or("gone", |manager| manager.host.as_str());
            format!("{resource} ({host})")
        });
        let read = task
            .metrics
            .progress
            .map_or_else(String::new, |share| format!("{:.0} %", share * 100.0));
        let state = match task.state {
            ExecutionState::AwaitingCommit => "AWAITING COMMIT",
            ExecutionState::Created
            | ExecutionState::Scheduled
            | ExecutionState::Deploying
            | ExecutionState::Initializing
            | ExecutionState::Running
            | ExecutionState::Finished
            | ExecutionState::Canceling
            | ExecutionState::Canceled
            | ExecutionState::Failed => task.state.rest_name(),
        };
        writeln!(
            page,
            "<tr><td>{} ({}/{of})<td>{}<td>{}<td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{read}",
            Escaped(&name),
            task.execution.subtask + 1,
            State(state),
            task.execution.attempt,
            Escaped(&place),
            Count(task.metrics.records_in),
            Count(task.metrics.records_out),
        )?;
    }
    page.push_str("</table>");
    if let Some(more) = job
        .tasks
        .len()
        .checked_sub(TASKS_LISTED)
        .filter(|more| *more > 0)
    {
        write!(page, "<p class=\"sub\">and {more} more</p>")?;
    }
    page.push_str("</details>\n");
    Ok(())
}

fn write_task_managers(page: &mut String, view: &View, clock: Clock) -> fmt::Result {
    page.push_str("<h2>TaskManagers</h2>\n");
    if view.task_managers.is_empty() {
        page.push_str("<p>None is registered.</p>\n");
        return Ok(());
    }
    page.push_str(
        "<table><tr><th>TaskManager<th>Host<th class=\"n\">Free slots<th class=\"n\">Memory\
         <th class=\"n\">Resident<th class=\"n\">Workers<th class=\"n\">Up<th class=\"n\">Heard\n",
    );
    let now = clock.now();
    let ago = |since| Span(millis(now.since(since)));
    for (resource, manager) in &view.task_managers {
        let id = Escaped(resource.as_str());
        writeln!(
            page,
            "<tr><td><a href=\"taskmanagers/{id}\">{id}</a><td>{}<td class=\"n\">{} / {}<td class=\"n\">{}\
             <td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{} ago",
            Escaped(&manager.host),
            manager.free_slots,
            manager.slots,
            manager.profile.memory,
            Bytes(manager.resident_bytes),
            Bytes(manager.worker_resident_bytes),
            ago(manager.since),
            ago(manager.last_heartbeat),
        )?;
    }
    page.push_str("</table>\n");
    Ok(())
}

struct State(&'static str);

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<span class=\"s {0}\">{0}</span>", self.0)
    }
}

/// Milliseconds for people.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        match (seconds / 3600, seconds / 60 % 60) {
            (0, 0) => write!(f, "{}.{} s", seconds, self.0 % 1000 / 100),
            (0, minutes) => write!(f, "{minutes} min {} s", seconds % 60),
            (hours, minutes) => write!(f, "{hours} h {minutes} min"),
        }
    }
}

/// A number with its thousands set apart.
struct Count(u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_char('\u{202f}')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// Bytes for people: never more than four digits.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: u64 = ByteSize::from_mib(1).as_bytes() >> 10;
        match self.0 {
            bytes if bytes < 10 * KIB => write!(f, "{bytes} B"),
            bytes if bytes < 10 * KIB * KIB => write!(f, "{} KiB", bytes / KIB),
            bytes if bytes < 10 * KIB * KIB * KIB => write!(f, "{} MiB", bytes / KIB / KIB),
            bytes => write!(f, "{} GiB", bytes / KIB / KIB / KIB),
        }
    }
}
