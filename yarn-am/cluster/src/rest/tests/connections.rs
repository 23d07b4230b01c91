//! What comes over the wire: slow, senseless, or too much.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::rest::server::{Limits, serve_within};

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct Door {
    address: SocketAddr,
    _serving: JoinSet<std::io::Result<()>>,
}

async fn door(limits: Limits) -> Door {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server().router;
    let mut serving = JoinSet::new();
    serving.spawn(serve_within(listener, router, limits));
    Door {
        address,
        _serving: serving,
    }
}

/// Times that a test can wait for.
fn short() -> Limits {
    Limits {
        connections: 4,
        head: Duration::from_millis(200),
        lifetime: Duration::from_secs(10),
        last: Duration::from_millis(200),
    }
}

impl Door {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// All that comes until the other side has ended the connection, orderly or not.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // It may have been ended while it was written to.
        drop(stream.write_all(bytes).await);
        rest_of(&mut stream).await
    }

    async fn is_open(&self) {
        let request = format!(
            "GET /overview HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {}\r\n\r\n",
            secret().to_bearer()
        );
        let answer = self.send(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

async fn rest_of(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..read]);
        }
    };
    let ended = tokio::time::timeout(PATIENCE, read).await;
    ended.expect("the connection is ended by the server");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_no_http_1_is_ended() {
    let door = door(short()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n";
    let mut noise: Vec<u8> = (0..4000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    noise.extend_from_slice(b"\r\n\r\n");
    let mut many = b"GET / HTTP/1.1\r\n".to_vec();
    for at in 0..200 {
        many.extend_from_slice(format!("h{at}: x\r\n").as_bytes());
    }
    many.extend_from_slice(b"\r\n");
    let mut large = b"GET / HTTP/1.1\r\nhost: ".to_vec();
    large.extend(std::iter::repeat_n(b'a', 1 << 20));
    for bytes in [
        &preface[..],
        hello,
        &noise,
        &many,
        &large,
        b"\0",
        b"GET\r\n\r\n",
    ] {
        let answer = door.send(bytes).await;
        let start: String = answer.chars().take(60).collect();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{start}"
        );
    }
    door.is_open().await;
}

#[tokio::test]
async fn who_is_slow_is_not_waited_for() {
    let door = door(short()).await;
    for start in [
        "",
        "GET /overview HT",
        "GET /overview HTTP/1.1\r\nhost: x\r\n",
    ] {
        let answer = door.send(start.as_bytes()).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    // A connection that was of use is not kept for ever either.
    let mut stream = door.connect().await;
    let request = format!(
        "GET /overview HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\n\r\n",
        secret().to_bearer()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = rest_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_body_is_not_asked_for_before_its_sender_is_let_in() {
    let door = door(short()).await;
    // None of the body is sent: the answer does not wait for it.
    let head = "POST /jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n\
                content-length: 1000000\r\nexpect: 100-continue\r\n\r\n";
    for head in [head, &head.replacen("expect: 100-continue\r\n", "", 1)] {
        let answer = door.send(head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    let known = head.replacen(
        "host: x",
        &format!("host: x\r\nauthorization: {}", secret().to_bearer()),
        1,
    );
    let large = known.replacen("1000000", "100000000000", 1);
    let answer = door.send(large.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn connections_that_only_wait_make_room_for_those_with_a_right() {
    let limits = Limits {
        head: Duration::from_secs(600),
        ..short()
    };
    let door = door(limits).await;
    let mut idle = Vec::new();
    for _ in 0..limits.connections {
        let mut stream = door.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        idle.push(stream);
    }
    door.is_open().await;
    // The oldest had to go.
    assert_eq!(rest_of(&mut idle[0]).await, "");
}

#[tokio::test]
async fn no_connection_lasts_for_ever() {
    let limits = Limits {
        head: Duration::from_secs(600),
        lifetime: Duration::from_millis(200),
        ..short()
    };
    let door = door(limits).await;
    let mut stream = door.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    drop(rest_of(&mut stream).await);
    door.is_open().await;
}
