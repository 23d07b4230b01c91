//! The ApplicationMaster dies, and the next attempt goes on with what the one before had taken.

use std::time::{Duration, Instant};

use serde_json::Value;
use spindle_tests::durable::{counts, pairs};
use spindle_tests::hadoop::{hadoop, wait};
use spindle_tests::process::{Role, kill_9, with_role};
use spindle_tests::spindle::{Attached, binary, spindle};

use super::sessions::{Session, expected, job_id};
use super::{LIMIT, fresh, proxied};

const RECORDS: u64 = 40_000;
const RATE: u64 = 1000;

const SETTINGS: [&str; 8] = [
    "-D",
    "execution.checkpointing.interval=300 ms",
    "-D",
    "execution.checkpointing.tolerable-failed-checkpoints=1000",
    "-D",
    "restart-strategy.type=fixed-delay",
    "-D",
    "restart-strategy.fixed-delay.attempts=1000",
];

/// The arguments of a job with checkpoints whose output is known, from the settings on.
fn durable(output: &str) -> Vec<String> {
    let mut arguments: Vec<String> = SETTINGS.map(str::to_owned).to_vec();
    arguments.extend(["-p", "2"].map(str::to_owned));
    arguments.push(binary("durable").to_str().unwrap().to_owned());
    let (records, rate) = (RECORDS.to_string(), RATE.to_string());
    let output = format!("hdfs://{output}");
    let of_job = ["--records", &records, "--rate", &rate, "--output", &output];
    arguments.extend(of_job.map(str::to_owned));
    arguments
}

fn check_output(output: &str) {
    let rows = |name: &str, header: &str| {
        let text = hadoop().fs(&["-cat", &format!("{output}/{name}/part-*")]);
        let rows = text.lines().filter(|line| *line != header);
        let mut rows: Vec<String> = rows.map(str::to_owned).collect();
        rows.sort();
        rows
    };
    assert!(
        rows("counts", "key,start,count") == counts(RECORDS),
        "counts of {output} differ"
    );
    assert!(
        rows("pairs", "ask,bid") == pairs(RECORDS),
        "pairs of {output} differ"
    );
}

fn completed_checkpoints(application: &str, job: &str) -> u64 {
    let (code, text) = proxied(application, &format!("/jobs/{job}/checkpoints"));
    let seen: Value = serde_json::from_str(&text).unwrap_or_default();
    if code == 200 {
        seen["counts"]["completed"].as_u64().unwrap_or(0)
    } else {
        0
    }
}

/// Kills the ApplicationMaster and returns when another answers.
fn kill_application_master(application: &str) {
    let old = with_role(application, Role::ApplicationMaster);
    let old: Vec<u32> = old.iter().map(|master| master.pid).collect();
    old.iter().for_each(|pid| kill_9(*pid));
    wait(LIMIT, "the next attempt answers", || {
        let there = with_role(application, Role::ApplicationMaster);
        let fresh = there.iter().any(|master| !old.contains(&master.pid));
        (fresh && proxied(application, "/overview").0 == 200).then_some(())
    });
}

/// What `spindle list -a` says of a session.
fn listed(session: &Session) -> String {
    let outcome = session.verb("list", &["-a", "--output", "json"]);
    assert_eq!(outcome.code, 0, "{}\n{}", outcome.stdout, outcome.stderr);
    outcome.stdout
}

#[test]
fn jobs_of_a_session_go_on_after_the_death_of_its_application_master() {
    let session = Session::start("goes on", &[]);
    let outputs = [fresh("attempts"), fresh("attempts")];
    let mut clients: Vec<Attached> = outputs
        .iter()
        .map(|output| {
            let arguments = durable(output);
            session.submit(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .collect();
    let jobs: Vec<String> = clients.iter_mut().map(job_id).collect();
    // One is over before, and must not come back; one has no end, and is cancelled after.
    let short_output = fresh("attempts-short");
    let trial = super::trial();
    let trial = trial.to_str().unwrap();
    let hdfs = format!("hdfs://{short_output}");
    let mut short = session.submit(&[trial, "--records", "1000", "--output", &hdfs]);
    let short_job = job_id(&mut short);
    let (code, events) = short.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    let endless = fresh("attempts-endless");
    let hdfs = format!("hdfs://{endless}");
    let mut endless = session.submit(&[
        trial,
        "--records",
        "10000000",
        "--rate",
        "1000",
        "--output",
        &hdfs,
    ]);
    let endless_job = job_id(&mut endless);
    for (client, job) in clients.iter_mut().zip(&jobs) {
        client.wait_state("RUNNING", LIMIT);
        wait(LIMIT, "a complete checkpoint", || {
            (completed_checkpoints(&session.application, job) > 0).then_some(())
        });
    }

    kill_application_master(&session.application);

    let wanted: Vec<&String> = jobs.iter().chain([&endless_job]).collect();
    let there = wait(LIMIT, "the jobs that had not ended are there again", || {
        let there = listed(&session);
        wanted
            .iter()
            .all(|job| there.contains(job.as_str()))
            .then_some(there)
    });
    assert!(!there.contains(&short_job), "{there}");
    let cancelled = session.verb("cancel", &[&endless_job]);
    assert_eq!(
        cancelled.code, 0,
        "{}\n{}",
        cancelled.stdout, cancelled.stderr
    );
    let limit = LIMIT + Duration::from_secs(RECORDS / RATE);
    for client in clients {
        let (code, events) = client.end(limit);
        assert_eq!(code, 0, "{events:#?}");
    }
    outputs.iter().for_each(|output| check_output(output));
    assert_eq!(hadoop().rows(&short_output), expected(1000));
    drop(endless.end(limit));
    assert_eq!(session.stop().code, 0);
}

#[test]
fn the_program_of_an_application_is_not_planned_again_after_the_death_of_its_application_master() {
    let output = fresh("attempts-application");
    let mut command = spindle(&hadoop().conf_dir());
    command.args(["run", "-t", "yarn-application", "--output", "json"]);
    command.args(durable(&output));
    let mut client = Attached::start(&mut command);
    let application = client.application();
    client.wait_state("RUNNING", LIMIT);
    let jobs = || {
        let (_, text) = proxied(&application, "/jobs/overview");
        let seen: Value = serde_json::from_str(&text).unwrap_or_default();
        let jobs = seen["jobs"].as_array().cloned().unwrap_or_default();
        let ids = jobs
            .iter()
            .filter_map(|job| job["jid"].as_str().map(str::to_owned));
        ids.collect::<Vec<_>>()
    };
    let before = wait(LIMIT, "the job", || {
        Some(jobs()).filter(|jobs| !jobs.is_empty())
    });
    wait(LIMIT, "a complete checkpoint", || {
        (completed_checkpoints(&application, &before[0]) > 0).then_some(())
    });
    kill_application_master(&application);
    wait(LIMIT, "the same job goes on", || {
        (jobs() == before).then_some(())
    });
    let (code, events) = client.end(LIMIT + Duration::from_secs(RECORDS / RATE));
    assert_eq!(code, 0, "{events:#?}");
    check_output(&output);
}

/// What a submission to a session costs, its record on HDFS included. Seen beside others at work: told, not judged.
#[test]
fn a_submission_is_written_down_before_it_is_acknowledged() {
    let session = Session::start("written down", &[]);
    let trial = super::trial();
    let trial = trial.to_str().unwrap();
    let output = fresh("attempts-written");
    let hdfs = format!("hdfs://{output}");
    let begun = Instant::now();
    let mut client = session.submit(&[
        trial,
        "--records",
        "10000000",
        "--rate",
        "1000",
        "--output",
        &hdfs,
    ]);
    let job = job_id(&mut client);
    println!(
        "submitted {:.3} s after the start of the client",
        begun.elapsed().as_secs_f64()
    );
    let staging = hadoop().fs(&["-ls", "-R", "/user"]);
    assert!(staging.contains(&format!("jobs/{job}.1")), "{staging}");
    assert_eq!(session.verb("cancel", &[&job]).code, 0);
    drop(client.end(LIMIT));
    wait(LIMIT, "the record of a job that is over goes", || {
        let staging = hadoop().fs(&["-ls", "-R", "/user"]);
        (!staging.contains(&format!("jobs/{job}"))).then_some(())
    });
    assert_eq!(session.stop().code, 0);
}
