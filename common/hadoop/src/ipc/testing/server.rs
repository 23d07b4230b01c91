//! A Hadoop server for tests, on loopback: frames, contexts, SASL with its own check of the digest, scripted answers.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ipc::frame::{self, FrameDecoder, MAX_FRAME};
use crate::proto::common as pb;
use crate::proto::common::rpc_response_header::RpcStatus;
use crate::proto::common::rpc_sasl::{SaslAuth, SaslState};
use crate::sasl::{Challenge, Exchange, Layer, Password, Qop};
use crate::token::Token;

const SERVER_NONCE: &str = "c2VydmVyLCBub25jZQ";

/// What the server lets clients in with.
#[derive(Clone)]
pub(crate) enum Offer {
    Simple,
    Token {
        tokens: Arc<Mutex<Vec<Token>>>,
        qop: Qop,
        /// The challenge comes with the offer, as Hadoop does it.
        at_once: bool,
        /// The server proves its knowledge of the password.
        honest: bool,
    },
}

impl Offer {
    pub(crate) fn token(token: &Token, qop: Qop) -> Self {
        let tokens = Arc::new(Mutex::new(vec![token.clone()]));
        Self::Token {
            tokens,
            qop,
            at_once: true,
            honest: true,
        }
    }
}

/// A call as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Counts from 0 in the order of acceptance.
    pub(crate) connection: usize,
    pub(crate) call_id: i32,
    pub(crate) client_id: Vec<u8>,
    pub(crate) retry_count: i32,
    pub(crate) method: String,
    body: Bytes,
}

impl Call {
    pub(crate) fn request<M: Message + Default>(&self) -> M {
        M::decode_length_delimited(self.body.clone()).unwrap()
    }
}

/// What the server does about a call.
pub(crate) enum Reply {
    Success(Vec<u8>),
    Error(&'static str, &'static str),
    Fatal(&'static str, &'static str),
    /// Closes the connection.
    Hangup,
    Silence,
    /// Waits until so many calls are held, then answers them with this message, the last first.
    Hold(usize, Vec<u8>),
    /// Answers after the next ping.
    AfterPing(Vec<u8>),
}

impl Reply {
    pub(crate) fn message(message: &impl Message) -> Self {
        Self::Success(message.encode_length_delimited_to_vec())
    }
}

/// What the server saw.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Connected,
    Context {
        user: Option<String>,
        protocol: String,
    },
    Ping,
    Call(Call),
    Closed,
}

type Handler = dyn Fn(&Call) -> Reply + Send + Sync;

struct Shared {
    offer: Offer,
    handler: Box<Handler>,
    events: watch::Sender<Vec<Event>>,
}

/// Ends with its value.
pub(crate) struct FakeServer {
    pub(crate) address: String,
    events: watch::Receiver<Vec<Event>>,
    _tasks: JoinSet<()>,
}

impl FakeServer {
    pub(crate) async fn start(
        offer: Offer,
        handler: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, events) = watch::channel(Vec::new());
        let shared = Arc::new(Shared {
            offer,
            handler: Box::new(handler),
            events: sender,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut peers = JoinSet::new();
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&shared);
                peers.spawn(async move {
                    shared.saw(Event::Connected);
                    // A client that hangs up is no trouble of the server's.
                    let _ = serve(stream, &shared, connection).await;
                    shared.saw(Event::Closed);
                });
            }
        });
        Self {
            address,
            events,
            _tasks: tasks,
        }
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        let call = |event| {
            if let Event::Call(call) = event {
                Some(call)
            } else {
                None
            }
        };
        self.events().into_iter().filter_map(call).collect()
    }

    pub(crate) async fn wait_for(&self, seen: impl Fn(&Event) -> bool) {
        let mut events = self.events.clone();
        events
            .wait_for(|events| events.iter().any(&seen))
            .await
            .unwrap();
    }
}

impl Shared {
    fn saw(&self, event: Event) {
        self.events.send_modify(|events| events.push(event));
    }
}

struct Peer {
    stream: TcpStream,
    outer: FrameDecoder,
    inner: FrameDecoder,
    layer: Option<Layer>,
}

impl Peer {
    async fn outer_frame(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(frame) = self.outer.next_frame().unwrap() {
                return Ok(frame);
            }
            if self.stream.read_buf(self.outer.buffer_mut()).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn frame(&mut self) -> io::Result<Bytes> {
        loop {
            if self.layer.is_none() {
                return self.outer_frame().await;
            }
            if let Some(frame) = self.inner.next_frame().unwrap() {
                return Ok(frame);
            }
            let wrapped = self.sasl().await?;
            assert_eq!(wrapped.state(), SaslState::Wrap);
            let plain = self
                .layer
                .as_mut()
                .unwrap()
                .open
                .unwrap(wrapped.token())
                .unwrap();
            self.inner.extend(&plain);
        }
    }

    async fn sasl(&mut self) -> io::Result<pb::RpcSasl> {
        let mut frame = self.outer_frame().await?;
        let header: pb::RpcRequestHeader = frame::take_message(&mut frame, "header").unwrap();
        assert_eq!(
            (header.call_id, header.client_id.len()),
            (frame::SASL_CALL, 0)
        );
        Ok(frame::take_message(&mut frame, "sasl").unwrap())
    }

    async fn send_sasl(&mut self, message: &pb::RpcSasl) -> io::Result<()> {
        let mut out = BytesMut::new();
        let header = header(frame::SASL_CALL, RpcStatus::Success);
        frame::put_response(
            &mut out,
            &header,
            Some(&message.encode_length_delimited_to_vec()),
        );
        self.stream.write_all(&out).await
    }

    async fn send(&mut self, plain: &[u8]) -> io::Result<()> {
        if self.layer.is_none() {
            return self.stream.write_all(plain).await;
        }
        // Two halves: what is wrapped is a stream, not a sequence of frames.
        for half in [&plain[..plain.len() / 2], &plain[plain.len() / 2..]] {
            let token = Some(self.layer.as_mut().unwrap().seal.wrap(half));
            self.send_sasl(&sasl(SaslState::Wrap, token)).await?;
        }
        Ok(())
    }

    async fn respond(&mut self, call_id: i32, body: &[u8]) -> io::Result<()> {
        let mut out = BytesMut::new();
        frame::put_response(&mut out, &header(call_id, RpcStatus::Success), Some(body));
        self.send(&out).await
    }

    async fn fail(
        &mut self,
        call_id: i32,
        status: RpcStatus,
        class: &str,
        message: &str,
    ) -> io::Result<()> {
        let mut out = BytesMut::new();
        let header = pb::RpcResponseHeader {
            exception_class_name: Some(class.into()),
            error_msg: Some(format!("{message}\n\tat org.example.Server(Server.java:1)")),
            ..header(call_id, status)
        };
        frame::put_response(&mut out, &header, None);
        self.send(&out).await
    }

    /// Like Hadoop: offer, the client's choice and response, proof.
    async fn authenticate(
        &mut self,
        tokens: &[Token],
        qop: Qop,
        at_once: bool,
        honest: bool,
    ) -> io::Result<()> {
        assert_eq!(self.sasl().await?.state(), SaslState::Negotiate);
        let challenge = format!(
            "realm=\"default\",nonce=\"{SERVER_NONCE}\",qop=\"{}\",charset=utf-8,cipher=\"3des,rc4\",algorithm=md5-sess",
            qop.as_str()
        );
        let auth = SaslAuth {
            method: "TOKEN".into(),
            mechanism: "DIGEST-MD5".into(),
            protocol: Some(String::new()),
            server_id: Some("default".into()),
            challenge: None,
        };
        let offered = SaslAuth {
            challenge: at_once.then(|| challenge.clone().into_bytes()),
            ..auth.clone()
        };
        let kerberos = SaslAuth {
            method: "KERBEROS".into(),
            mechanism: "GSSAPI".into(),
            ..Default::default()
        };
        let offers = vec![kerberos, offered];
        self.send_sasl(&pb::RpcSasl {
            auths: offers,
            ..sasl(SaslState::Negotiate, None)
        })
        .await?;
        let mut answer = self.sasl().await?;
        assert_eq!(answer.state(), SaslState::Initiate);
        assert_eq!(answer.auths, [auth], "echoed without the challenge");
        if !at_once {
            assert_eq!(answer.token, None);
            self.send_sasl(&sasl(
                SaslState::Challenge,
                Some(challenge.clone().into_bytes()),
            ))
            .await?;
            answer = self.sasl().await?;
            assert_eq!(answer.state(), SaslState::Response);
        }
        let text = String::from_utf8(answer.token.unwrap()).unwrap();
        let cnonce = text
            .split("cnonce=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let challenge = Challenge::parse(challenge.as_bytes()).unwrap();
        // Whoever knows the password writes the same text.
        let known = tokens.iter().find_map(|token| {
            let (expected, exchange) = Exchange::respond(
                &challenge,
                &Password::of_token(token),
                "/default",
                &[qop],
                cnonce,
            )
            .unwrap();
            (expected == text).then_some(exchange)
        });
        let Some(exchange) = known else {
            let class = "javax.security.sasl.SaslException";
            self.fail(
                frame::SASL_CALL,
                RpcStatus::Fatal,
                class,
                "DIGEST-MD5: Mismatched response.",
            )
            .await?;
            return Err(io::ErrorKind::PermissionDenied.into());
        };
        let proof = if honest {
            exchange.expected_proof()
        } else {
            format!("rspauth={}", "0".repeat(32))
        };
        self.send_sasl(&sasl(SaslState::Success, Some(proof.into_bytes())))
            .await?;
        self.layer = exchange.server_layer();
        Ok(())
    }
}

fn sasl(state: SaslState, token: Option<Vec<u8>>) -> pb::RpcSasl {
    pb::RpcSasl {
        state: state.into(),
        token,
        ..Default::default()
    }
}

fn header(call_id: i32, status: RpcStatus) -> pb::RpcResponseHeader {
    pb::RpcResponseHeader {
        call_id: call_id.cast_unsigned(),
        status: status.into(),
        ..Default::default()
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared, connection: usize) -> io::Result<()> {
    let mut preamble = [0; 7];
    stream.read_exact(&mut preamble).await?;
    assert_eq!(&preamble[..6], b"hrpc\x09\x00");
    let (outer, inner) = (FrameDecoder::new(MAX_FRAME), FrameDecoder::new(MAX_FRAME));
    let mut peer = Peer {
        stream,
        outer,
        inner,
        layer: None,
    };
    match (&shared.offer, preamble[6]) {
        (Offer::Simple, 0x00) => {}
        (Offer::Simple, 0xdf) => {
            peer.sasl().await?;
            peer.send_sasl(&sasl(SaslState::Success, None)).await?;
        }
        (
            Offer::Token {
                tokens,
                qop,
                at_once,
                honest,
            },
            0xdf,
        ) => {
            let tokens = tokens.lock().unwrap().clone();
            peer.authenticate(&tokens, *qop, *at_once, *honest).await?;
        }
        (Offer::Token { .. }, _) => {
            let class = "org.apache.hadoop.security.AccessControlException";
            peer.fail(
                -1,
                RpcStatus::Fatal,
                class,
                "SIMPLE authentication is not enabled.",
            )
            .await?;
            return Ok(());
        }
        (Offer::Simple, other) => panic!("auth byte {other}"),
    }
    let mut held: Vec<i32> = Vec::new();
    let mut after_ping: Option<(i32, Vec<u8>)> = None;
    loop {
        let mut frame = peer.frame().await?;
        let header: pb::RpcRequestHeader = frame::take_message(&mut frame, "header").unwrap();
        match header.call_id {
            frame::CONTEXT_CALL => {
                let context: pb::IpcConnectionContext =
                    frame::take_message(&mut frame, "context").unwrap();
                let protocol = context.protocol().to_owned();
                shared.saw(Event::Context {
                    user: context.user_info.unwrap().effective_user,
                    protocol,
                });
            }
            frame::PING_CALL => {
                shared.saw(Event::Ping);
                if let Some((call_id, body)) = after_ping.take() {
                    peer.respond(call_id, &body).await?;
                }
            }
            call_id => {
                let target: pb::RequestHeader = frame::take_message(&mut frame, "target").unwrap();
                let call = Call {
                    connection,
                    call_id,
                    client_id: header.client_id.clone(),
                    retry_count: header.retry_count(),
                    method: target.method_name,
                    body: frame,
                };
                shared.saw(Event::Call(call.clone()));
                match (shared.handler)(&call) {
                    Reply::Success(body) => peer.respond(call_id, &body).await?,
                    Reply::Error(class, text) => {
                        peer.fail(call_id, RpcStatus::Error, class, text).await?
                    }
                    Reply::Fatal(class, text) => {
                        peer.fail(call_id, RpcStatus::Fatal, class, text).await?;
                        return Ok(());
                    }
                    Reply::Hangup => return Ok(()),
                    Reply::Silence => {}
                    Reply::Hold(count, body) => {
                        held.push(call_id);
                        if held.len() == count {
                            for call_id in held.drain(..).rev() {
                                peer.respond(call_id, &body).await?;
                            }
                        }
                    }
                    Reply::AfterPing(body) => after_ping = Some((call_id, body)),
                }
            }
        }
    }
}
