//! What only lacks the secret: messages as our own processes write them, on every port of a session with a running job. That each
//! is well-formed is shown, too: with the secret it is answered.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use spindle_common::PROTOCOL_VERSION;
use spindle_common::id::{JobId, JobVertexId};
use spindle_common::job_graph::{
    JobGraph, JobSubmission, JobVertex, OperatorDescriptor, OperatorKind, ProgramArtifact,
    ProgramSpec,
};
use spindle_rpc::Secret;
use spindle_rpc::data_plane::{Role as Side, answer, verify};
use spindle_rpc::job_graph::encode_submission;
use spindle_tests::hadoop::{hadoop, wait};
use spindle_tests::process::{Process, Role, of_application, with_role};

use super::{PATIENCE, exchange, ports, status};
use crate::sessions::{Session, expected, job_id};
use crate::{LIMIT, fresh, trial, user};

const MAGIC: &[u8; 8] = b"spindle1";
/// Of a welcome: magic, attempt, challenge, proof.
const WELCOME: usize = 8 + 8 + 32 + 32;
/// Of a frame of the data plane that welcomes: length, kind, proof, challenge.
const DATA_WELCOME: usize = 4 + 1 + 32 + 32;
const CHALLENGE: [u8; 32] = [5; 32];

/// A connection on which several things are said.
struct Talk(TcpStream);

impl Talk {
    fn begin(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the port takes connections");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// A server that has closed already is right to have done so.
    fn say(&mut self, bytes: &[u8]) {
        drop(self.0.write_all(bytes));
    }

    /// So many bytes, or fewer if it ends before.
    fn hear(&mut self, most: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        drop((&mut self.0).take(most as u64).read_to_end(&mut heard));
        heard
    }

    /// All until the other side closes, which it has to do.
    fn hear_the_end(mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        match self.0.read_to_end(&mut heard) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
        heard
    }
}

/// A protobuf field of bytes.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    assert!(length < 128, "one byte of length will do");
    [&[number << 3 | 2, length], value].concat()
}

/// A gRPC request as bytes of HTTP/2: its head, with the secret's place filled by `bearer`, and its first message.
fn grpc(service: &str, message: &[u8], bearer: &str) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let mut head = Vec::new();
    let path = format!("/spindle.{service}/Connect");
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", &path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", bearer),
    ] {
        // HPACK: a literal that is not indexed, with a new name.
        head.push(0);
        for text in [name, value] {
            head.push(u8::try_from(text.len()).unwrap());
            head.extend_from_slice(text.as_bytes());
        }
    }
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let data = [&[0], &length[..], message].concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 4, 1, &head));
    bytes.extend(frame(0, 0, 1, &data));
    bytes
}

/// Whether these bytes of HTTP/2 hold the head of an answer on the first stream.
fn has_answer(mut bytes: &[u8]) -> bool {
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if head[3] == 1 && head[8] == 1 {
            return true;
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
    false
}

/// A TaskExecutor that would like to be one, and a worker.
fn messages(job: JobId) -> [(&'static str, Vec<u8>); 4] {
    let registration = [
        field(1, b"container_1"),
        vec![2 << 3, 1],
        field(3, b"n:1"),
        field(4, b"n"),
        vec![5 << 3, 8, 6 << 3, 1],
    ]
    .concat();
    let lost = field(1, &job.to_bytes());
    let hello = [
        vec![1 << 3, u8::try_from(PROTOCOL_VERSION).unwrap()],
        field(2, &job.to_bytes()),
        vec![3 << 3, 1],
        field(4, b"n:1"),
    ]
    .concat();
    [
        ("JobManager", field(1, &registration)),
        ("JobManager", field(6, &lost)),
        ("TaskExecutor", field(1, &hello)),
        ("TaskExecutor", field(15, b"")),
    ]
}

/// The greeting of a stream's opener.
fn hello(service: u8) -> Vec<u8> {
    [&MAGIC[..], &[service], &CHALLENGE].concat()
}

/// What the opener of a stream proves.
fn proof(secret: &Secret, service: u8, role: u8, welcome: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.to_bytes()).unwrap();
    mac.update(b"spindle stream 1");
    mac.update(&[service, role]);
    mac.update(&welcome[8..16]);
    mac.update(&CHALLENGE);
    mac.update(&welcome[16..48]);
    mac.finalize().into_bytes().to_vec()
}

/// A worker's greeting to another.
fn data_hello(job: JobId) -> Vec<u8> {
    let address = b"localhost:1";
    let body = [
        &[1][..],
        &1_u32.to_le_bytes(),
        &job.to_bytes(),
        &u16::try_from(address.len()).unwrap().to_le_bytes(),
        address,
        &CHALLENGE,
    ]
    .concat();
    [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], &body].concat()
}

/// A worker's proof.
fn data_proof(proof: &[u8]) -> Vec<u8> {
    [&33_u32.to_le_bytes()[..], &[3], proof].concat()
}

fn submission() -> JobSubmission {
    let vertex = |name: &str, kind, splits| JobVertex {
        id: JobVertexId::of_uid(name),
        parallelism: 1,
        max_parallelism: 128,
        operators: vec![OperatorDescriptor {
            uid: name.to_owned(),
            name: name.to_owned(),
            kind,
        }],
        splits,
        staging: Vec::new(),
        slot_sharing_group: "default".to_owned(),
    };
    JobSubmission {
        job: JobId::from_bytes([7; 16]),
        graph: JobGraph {
            name: "a stranger's".to_owned(),
            vertices: vec![vertex("read", OperatorKind::Source, vec![Vec::new()])],
            edges: Vec::new(),
            slot_profiles: BTreeMap::new(),
        },
        program: ProgramSpec {
            executable: "job".to_owned(),
            args: Vec::new(),
            artifact: Some(ProgramArtifact {
                uri: "hdfs://localhost:1/programs/job".to_owned(),
                size: 1,
                sha256: "00".repeat(32),
            }),
        },
        config: Vec::new(),
    }
}

fn post(authorization: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\n{authorization}content-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// All of it on one port, without the secret.
fn try_port(port: u16, job: JobId) -> Answered {
    let mut answered = Answered::default();
    for (service, message) in messages(job) {
        for bearer in ["", "Bearer 00"] {
            let answer = exchange(port, &grpc(service, &message, bearer));
            let refused = answer.is_empty() || status(&answer).is_some_and(|status| status >= 400);
            assert!(refused, "port {port} answers gRPC: {answer:?}");
            // Behind a greeting that is as it should be, and a proof that is not.
            let service_byte = service.as_bytes()[0];
            let mut talk = Talk::begin(port);
            talk.say(&hello(service_byte));
            let welcome = talk.hear(WELCOME);
            if welcome.starts_with(MAGIC) {
                answered.streams.push(service_byte);
                talk.say(&[6; 32]);
                talk.say(&grpc(service, &message, bearer));
                let after = talk.hear_the_end();
                assert!(
                    after.is_empty(),
                    "port {port} takes a wrong proof: {after:?}"
                );
                // Its own proof is none of ours, for it is that of the other side.
                let mut mirror = Talk::begin(port);
                mirror.say(&hello(service_byte));
                let welcome = mirror.hear(WELCOME);
                mirror.say(&welcome[48..]);
                mirror.say(&grpc(service, &message, bearer));
                let after = mirror.hear_the_end();
                assert!(
                    after.is_empty(),
                    "port {port} takes its own proof: {after:?}"
                );
            } else {
                let refused = status(&welcome).is_none_or(|status| status >= 400);
                assert!(refused, "port {port} answers a greeting: {welcome:?}");
            }
        }
    }
    let mut talk = Talk::begin(port);
    talk.say(&data_hello(job));
    let welcome = talk.hear(DATA_WELCOME);
    if welcome.len() == DATA_WELCOME && welcome[..5] == [65, 0, 0, 0, 2] {
        answered.data_plane = true;
        talk.say(&data_proof(&[6; 32]));
        // A credit for a channel.
        talk.say(&[&9_u32.to_le_bytes()[..], &[5, 1, 0, 0, 0, 9, 0, 0, 0]].concat());
        let after = talk.hear_the_end();
        assert!(
            after.is_empty(),
            "port {port} takes a wrong proof: {after:?}"
        );
    } else {
        let refused = status(&welcome).is_none_or(|status| status >= 400);
        assert!(refused, "port {port} answers a worker: {welcome:?}");
    }
    let body = encode_submission(&submission());
    // Not with the cookie of YARN's proxy: here that runs on this machine, so that its word would be taken.
    for authorization in ["", "authorization: Bearer 00\r\n"] {
        let answer = exchange(port, &post(authorization, &body));
        if let Some(status) = status(&answer) {
            assert!(status >= 400, "port {port} takes a submission: {status}");
            answered.http |= status == 401;
        }
    }
    answered
}

/// The protocols that a port speaks.
#[derive(Debug, Default)]
struct Answered {
    streams: Vec<u8>,
    data_plane: bool,
    http: bool,
}

/// With the secret the same bytes are answered, so it is nothing else that was missing.
fn with_the_secret(port: u16, service: &str, secret: &Secret) {
    let service_byte = service.as_bytes()[0];
    let mut talk = Talk::begin(port);
    talk.say(&hello(service_byte));
    let welcome = talk.hear(WELCOME);
    assert_eq!(welcome[48..], proof(secret, service_byte, b'A', &welcome));
    talk.say(&proof(secret, service_byte, b'C', &welcome));
    // A farewell: a stream that begins with its end.
    talk.say(&grpc(service, &field(15, b""), ""));
    let mut heard = Vec::new();
    wait(LIMIT, "an answer to well-formed gRPC", || {
        heard.extend(talk.hear(1));
        has_answer(&heard).then_some(())
    });
}

fn data_with_the_secret(port: u16, job: JobId, secret: &Secret) {
    let mut talk = Talk::begin(port);
    talk.say(&data_hello(job));
    let welcome = talk.hear(DATA_WELCOME);
    let (theirs, challenge) = welcome[5..].split_first_chunk::<32>().unwrap();
    let address = b"localhost:1";
    assert!(verify(
        secret,
        &CHALLENGE,
        Side::Accepting,
        job,
        address,
        theirs
    ));
    let challenge = challenge.try_into().unwrap();
    talk.say(&data_proof(&answer(
        secret,
        &challenge,
        Side::Connecting,
        job,
        address,
    )));
    // A channel of subtask 0 for subtask 1: the answer says that this cannot be.
    let vertex = [9; 16];
    let open = [
        &[4, 1, 0, 0, 0][..],
        &vertex,
        &[0; 16],
        &vertex,
        &[1, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    talk.say(&[&u32::try_from(open.len()).unwrap().to_le_bytes()[..], &open].concat());
    let heard = talk.hear(5);
    assert_eq!(heard[4], 9, "{heard:?}");
}

#[test]
fn well_formed_messages_without_the_secret_get_nothing_from_a_running_session() {
    let session = Session::start("doors", &[]);
    let output = fresh("doors");
    let mut client = session.submit(&[
        "-p",
        "2",
        trial().to_str().unwrap(),
        "--records",
        "60000",
        "--rate",
        "1500",
        "--output",
        &format!("hdfs://{output}"),
    ]);
    let job: JobId = job_id(&mut client).parse().unwrap();
    client.wait_state("RUNNING", LIMIT);
    wait(LIMIT, "a worker", || {
        (!with_role(&session.application, Role::Worker).is_empty()).then_some(())
    });
    let ports = ports(&session.application);
    let before = processes(&session.application);
    let mut speaks: Vec<(u16, Role, Answered)> = Vec::new();
    std::thread::scope(|scope| {
        let tries = ports
            .iter()
            .map(|&(port, role)| (port, role, scope.spawn(move || try_port(port, job))));
        let tries: Vec<_> = tries.collect();
        speaks.extend(tries.into_iter().map(|(port, role, answered)| {
            (
                port,
                role,
                answered.join().expect("the port keeps to itself"),
            )
        }));
    });
    // Each protocol was met where it is spoken, and nowhere else.
    for (port, role, answered) in &speaks {
        let streams = |service| {
            !answered.streams.is_empty() && answered.streams.iter().all(|s| *s == service)
        };
        let right = match role {
            Role::ApplicationMaster => answered.http != streams(b'J') && !answered.data_plane,
            Role::TaskExecutor => streams(b'T') && !answered.http && !answered.data_plane,
            Role::Worker => answered.data_plane && !answered.http && answered.streams.is_empty(),
            Role::Other => false,
        };
        assert!(right, "{role:?} at {port}: {answered:?}");
    }
    assert_eq!(processes(&session.application), before);
    let listed = session.verb("list", &["-a"]);
    assert!(!listed.stdout.contains("a stranger's"), "{}", listed.stdout);

    let staging = format!("/user/{}/.spindle/{}/secret", user(), session.application);
    let secret = Secret::from_hex(&hadoop().fs(&["-cat", &staging])).unwrap();
    for (port, _, answered) in &speaks {
        match answered.streams.first() {
            Some(b'J') => with_the_secret(*port, "JobManager", &secret),
            Some(_) => with_the_secret(*port, "TaskExecutor", &secret),
            None if answered.data_plane => data_with_the_secret(*port, job, &secret),
            None => {}
        }
    }

    let (code, events) = client.end(LIMIT);
    assert_eq!(code, 0, "{events:#?}");
    assert!(
        !events
            .iter()
            .any(|event| event["event"] == "job_state" && event["state"] == "RESTARTING"),
        "{events:#?}"
    );
    assert_eq!(hadoop().rows(&output), expected(60_000));

    // The submission of before, by somebody who may.
    let (rest, ..) = speaks.iter().find(|(.., answered)| answered.http).unwrap();
    let authorization = format!("authorization: {}\r\n", secret.to_bearer());
    let body = encode_submission(&submission());
    let answer = exchange(*rest, &post(&authorization, &body));
    assert_eq!(status(&answer), Some(202));
    let listed = session.verb("list", &["-a"]);
    assert!(listed.stdout.contains("a stranger's"), "{}", listed.stdout);
    let outcome = session.stop();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}

fn processes(application: &str) -> Vec<Process> {
    of_application(application)
}
