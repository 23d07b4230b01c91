//! Nobody gets in by knowing a port: every port of every process is tried without the application's secret.

mod well_formed;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use spindle_tests::hadoop::{hadoop, wait};
use spindle_tests::process::{Role, listening_ports, of_application, with_role};
use spindle_tests::spindle::Attached;

use super::{LIMIT, fresh, run_json, trial};

const PATIENCE: Duration = Duration::from_secs(3);

/// Sends bytes and returns what comes back until the other side closes or a short time is over.
fn exchange(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the port takes connections");
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // A server that closes early is right to do so.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    let start = Instant::now();
    let mut buffer = [0; 4096];
    while start.elapsed() < PATIENCE && answer.len() < 1 << 20 {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
        }
    }
    answer
}

/// Deterministic noise.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// What an answer of HTTP says; nothing for other protocols.
fn status(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    text.strip_prefix("HTTP/1.1 ")
        .or_else(|| text.strip_prefix("HTTP/1.0 "))?
        .get(..3)?
        .parse()
        .ok()
}

/// Every port that a process of the application listens on, and what that process is. Each kind of process has one.
fn ports(application: &str) -> Vec<(u16, Role)> {
    let mut ports = Vec::new();
    for process in of_application(application) {
        for port in listening_ports(process.pid) {
            ports.push((port, process.role));
        }
    }
    for role in [Role::ApplicationMaster, Role::TaskExecutor, Role::Worker] {
        assert!(
            ports.iter().any(|(_, listener)| *listener == role),
            "{role:?} listens: {ports:?}"
        );
    }
    ports
}

fn try_port(port: u16, job: &str) {
    for seed in 0..20 {
        let answer = exchange(port, &noise(seed, 1 + 97 * seed as usize));
        assert!(
            status(&answer).is_none_or(|status| status >= 400),
            "port {port} answered noise: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    let verbs = [
        "GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT",
    ];
    let job_path = format!("/jobs/{job}");
    let paths = [
        "/",
        "/overview",
        "/jobs",
        &job_path,
        "/taskmanagers",
        "/config",
        "/cluster",
        "/cluster/stop",
        "/jobmanager/log",
        "/../../etc/passwd",
        "/openapi.json",
    ];
    for verb in verbs {
        for path in paths {
            for credentials in [
                "",
                "authorization: Bearer 00\r\n",
                "authorization: Basic cm9vdDpyb290\r\n",
            ] {
                let request = format!(
                    "{verb} {path} HTTP/1.1\r\nhost: localhost\r\n{credentials}content-length: 2\r\nconnection: close\r\n\r\n{{}}"
                );
                let answer = exchange(port, request.as_bytes());
                let refused = status(&answer).is_none_or(|status| status >= 400);
                assert!(
                    refused,
                    "{verb} {path} on port {port}: {}",
                    String::from_utf8_lossy(&answer)
                );
                let text = String::from_utf8_lossy(&answer);
                assert!(
                    !text.contains("RUNNING") && !text.contains("count upwards"),
                    "{verb} {path} on port {port} tells: {text}"
                );
            }
        }
    }
    // The beginning of HTTP/2, then noise; and a head that never ends.
    let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    preface.extend(noise(7, 500));
    exchange(port, &preface);
    let mut endless = b"GET / HTTP/1.1\r\n".to_vec();
    for n in 0..20_000 {
        endless.extend(format!("x-{n}: y\r\n").into_bytes());
    }
    let answer = exchange(port, &endless);
    assert!(status(&answer).is_none_or(|status| status >= 400));
}

#[test]
fn without_the_secret_no_port_gives_anything_away_or_is_disturbed() {
    let output = fresh("doors");
    let mut command = run_json();
    command.args(["-p", "2"]).arg(trial());
    command.args([
        "--records",
        "60000",
        "--rate",
        "1500",
        "--output",
        &format!("hdfs://{output}"),
    ]);
    let mut client = Attached::start(&mut command);
    let application = client.application();
    let submitted = client
        .seen
        .iter()
        .find(|event| event["event"] == "submitted")
        .unwrap();
    let job = submitted["job_id"].as_str().unwrap().to_owned();
    client.wait_state("RUNNING", LIMIT);
    wait(LIMIT, "two workers", || {
        (with_role(&application, Role::Worker).len() == 2).then_some(())
    });

    let ports = ports(&application);
    // Slow clients stay on each port while all else goes on.
    let slow: Vec<TcpStream> = ports
        .iter()
        .flat_map(|(port, _)| {
            (0..20).map(|_| {
                TcpStream::connect(("127.0.0.1", *port)).expect("the port takes connections")
            })
        })
        .collect();
    for mut stream in &slow {
        stream.write_all(b"G").unwrap();
    }
    std::thread::scope(|scope| {
        for (port, _) in &ports {
            let job = &job;
            scope.spawn(move || try_port(*port, job));
        }
    });
    drop(slow);

    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    assert!(
        !events
            .iter()
            .any(|event| event["event"] == "job_state" && event["state"] == "RESTARTING"),
        "{events:#?}"
    );
    assert_eq!(hadoop().rows(&output).len(), 100);
}
