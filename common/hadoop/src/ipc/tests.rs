//! The client against a server on loopback.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::testing::{Call, Event, FakeServer, Offer, Reply};
use super::*;
use crate::proto::yarn as pb;
use crate::sasl::{Qop, SaslError};
use crate::token::TokenKind;
use crate::yarn::APPLICATION_CLIENT;

const READ: Method = Method::idempotent("getClusterMetrics");
const WRITE: Method = Method::once("submitApplication");
const RETRIABLE: &str = "org.apache.hadoop.ipc.RetriableException";
const NOT_FOUND: &str = "org.apache.hadoop.yarn.exceptions.ApplicationNotFoundException";

fn config() -> ClientConfig {
    let retry = RetryPolicy {
        attempts: 3,
        pause: Duration::from_millis(1),
        max_pause: Duration::from_millis(1),
    };
    ClientConfig {
        retry,
        ..Default::default()
    }
}

fn simple(server: &FakeServer, config: ClientConfig) -> Client {
    Client::new(
        server.address.as_str(),
        APPLICATION_CLIENT,
        Auth::Simple {
            user: "alice".into(),
        },
        config,
    )
}

fn token(password: &[u8]) -> Token {
    Token {
        identifier: b"who".to_vec(),
        password: password.into(),
        kind: TokenKind::AmRm,
        service: String::new(),
    }
}

fn by_token(server: &FakeServer, password: &[u8]) -> Client {
    Client::new(
        server.address.as_str(),
        APPLICATION_CLIENT,
        Auth::Token(token(password)),
        config(),
    )
}

async fn call(client: &Client, method: Method) -> Result<i32, IpcError> {
    let answer: pb::GetClusterMetricsResponse = client
        .call(method, &pb::GetClusterMetricsRequest {})
        .await?;
    Ok(answer
        .cluster_metrics
        .unwrap_or_default()
        .num_node_managers())
}

fn metrics(nodes: i32) -> pb::GetClusterMetricsResponse {
    let cluster_metrics = Some(pb::YarnClusterMetrics {
        num_node_managers: Some(nodes),
        ..Default::default()
    });
    pb::GetClusterMetricsResponse { cluster_metrics }
}

fn seven(_: &Call) -> Reply {
    Reply::message(&metrics(7))
}

#[tokio::test]
async fn a_simple_call_names_user_protocol_and_method() {
    let server = FakeServer::start(Offer::Simple, seven).await;
    assert_eq!(call(&simple(&server, config()), READ).await.unwrap(), 7);
    let events = server.events();
    assert!(
        matches!(&events[1], Event::Context { user: Some(user), protocol } if user == "alice" && protocol == APPLICATION_CLIENT.name),
        "{events:?}"
    );
    assert_eq!(server.calls()[0].method, "getClusterMetrics");
}

#[tokio::test]
async fn answers_find_their_calls_in_whatever_order_they_come() {
    let server = FakeServer::start(Offer::Simple, |call| {
        let request: pb::GetQueueInfoRequest = call.request();
        let queue_info = Some(pb::QueueInfo {
            queue_name: request.queue_name,
            ..Default::default()
        });
        match call.call_id {
            0 => Reply::message(&pb::GetQueueInfoResponse { queue_info }),
            _ => Reply::Hold(3, Vec::from([0])),
        }
    })
    .await;
    let client = simple(&server, config());
    let ask = |name: &str| {
        let request = pb::GetQueueInfoRequest {
            queue_name: Some(name.into()),
            ..Default::default()
        };
        let client = client.clone();
        async move {
            client
                .call::<_, pb::GetQueueInfoResponse>(READ, &request)
                .await
                .unwrap()
        }
    };
    assert_eq!(ask("first").await.queue_info.unwrap().queue_name(), "first");
    let answers = futures::join!(ask("a"), ask("b"), ask("c"));
    assert!(
        answers.0.queue_info.is_none()
            && answers.1.queue_info.is_none()
            && answers.2.queue_info.is_none()
    );
    assert!(
        server.calls().iter().all(|call| call.connection == 0),
        "one connection for all"
    );
}

#[tokio::test]
async fn a_remote_error_has_its_class_and_leaves_the_connection() {
    let server = FakeServer::start(Offer::Simple, |call| match call.call_id {
        0 => Reply::Error(NOT_FOUND, "no such application"),
        _ => seven(call),
    })
    .await;
    let client = simple(&server, config());
    let error = call(&client, READ).await.unwrap_err();
    assert_eq!(error.class(), Some(&ExceptionClass::ApplicationNotFound));
    assert_eq!(
        error.to_string(),
        format!(
            "ApplicationClientProtocolPB.getClusterMetrics at {} was refused",
            server.address
        )
    );
    assert_eq!(
        error.source().unwrap().to_string(),
        "ApplicationNotFoundException: no such application"
    );
    assert_eq!(call(&client, READ).await.unwrap(), 7);
    assert_eq!(server.calls()[1].connection, 0);
}

#[tokio::test]
async fn a_fatal_error_ends_the_connection_and_all_calls_on_it() {
    let server = FakeServer::start(Offer::Simple, |call| {
        match (call.connection, call.call_id) {
            (0, 0) => Reply::Silence,
            (0, _) => Reply::Fatal("org.apache.hadoop.ipc.RpcServerException", "bad state"),
            _ => seven(call),
        }
    })
    .await;
    let client = simple(&server, config());
    let (first, second) = futures::join!(call(&client, READ), call(&client, READ));
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!(error.class(), Some(&ExceptionClass::RpcServer));
        assert!(error.remote().unwrap().fatal);
    }
    assert_eq!(call(&client, READ).await.unwrap(), 7, "on a new connection");
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_and_the_next_call_connects_anew() {
    let server = FakeServer::start(Offer::Simple, |call| match call.connection {
        0 => Reply::Silence,
        _ => seven(call),
    })
    .await;
    let client = simple(
        &server,
        ClientConfig {
            call_timeout: Duration::from_millis(500),
            ..config()
        },
    );
    let error = call(&client, READ).await.unwrap_err();
    assert!(matches!(error, IpcError::Timeout { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "no answer to ApplicationClientProtocolPB.getClusterMetrics at {} within 500ms",
            server.address
        )
    );
    assert_eq!(call(&client, READ).await.unwrap(), 7);
}

#[tokio::test]
async fn an_idempotent_call_is_repeated_after_a_broken_connection_with_the_same_id() {
    let server = FakeServer::start(Offer::Simple, |call| match call.connection {
        0 => Reply::Hangup,
        _ => seven(call),
    })
    .await;
    assert_eq!(call(&simple(&server, config()), READ).await.unwrap(), 7);
    let calls = server.calls();
    assert_eq!([calls[0].retry_count, calls[1].retry_count], [0, 1]);
    assert_eq!(calls[0].call_id, calls[1].call_id);
    assert_eq!(calls[0].client_id, calls[1].client_id);
    assert_eq!(calls[0].client_id.len(), 16);
}

#[tokio::test]
async fn other_calls_are_not_repeated_after_a_broken_connection() {
    let server = FakeServer::start(Offer::Simple, |_| Reply::Hangup).await;
    let error = call(&simple(&server, config()), WRITE).await.unwrap_err();
    assert!(
        error.is_in_doubt() && matches!(error, IpcError::Broken { .. }),
        "{error:?}"
    );
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn repeating_ends_after_the_configured_tries() {
    let server = FakeServer::start(Offer::Simple, |_| Reply::Hangup).await;
    assert!(call(&simple(&server, config()), READ).await.is_err());
    assert_eq!(server.calls().len(), 3);
}

#[tokio::test]
async fn a_server_that_asks_for_it_is_asked_again() {
    let server = FakeServer::start(Offer::Simple, |call| match call.retry_count {
        0 => Reply::Error(RETRIABLE, "later"),
        _ => seven(call),
    })
    .await;
    assert_eq!(call(&simple(&server, config()), WRITE).await.unwrap(), 7);
}

#[tokio::test]
async fn a_refused_connection_names_address_and_method() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let auth = Auth::Simple {
        user: "alice".into(),
    };
    let client = Client::new(address.as_str(), APPLICATION_CLIENT, auth, config());
    let error = call(&client, WRITE).await.unwrap_err();
    assert!(error.was_not_made(), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("cannot connect to {address} for ApplicationClientProtocolPB.submitApplication")
    );
}

#[tokio::test]
async fn a_token_opens_the_door_with_every_protection() {
    for qop in [Qop::Auth, Qop::Integrity, Qop::Privacy] {
        let server = FakeServer::start(Offer::token(&token(b"secret"), qop), seven).await;
        let client = by_token(&server, b"secret");
        for _ in 0..3 {
            assert_eq!(call(&client, READ).await.unwrap(), 7, "{qop:?}");
        }
        assert!(
            matches!(&server.events()[1], Event::Context { user: None, .. }),
            "{:?}",
            server.events()
        );
    }
}

#[tokio::test]
async fn large_messages_pass_a_protected_connection() {
    let server = FakeServer::start(Offer::token(&token(b"secret"), Qop::Privacy), |call| {
        let request: pb::GetQueueInfoRequest = call.request();
        let queue_info = Some(pb::QueueInfo {
            queue_name: request.queue_name,
            ..Default::default()
        });
        Reply::message(&pb::GetQueueInfoResponse { queue_info })
    })
    .await;
    let name = "q".repeat(300_000);
    let request = pb::GetQueueInfoRequest {
        queue_name: Some(name.clone()),
        ..Default::default()
    };
    let answer: pb::GetQueueInfoResponse = by_token(&server, b"secret")
        .call(READ, &request)
        .await
        .unwrap();
    assert_eq!(answer.queue_info.unwrap().queue_name(), name);
}

#[tokio::test]
async fn a_challenge_may_come_after_the_offer() {
    let tokens = Arc::new(std::sync::Mutex::new(vec![token(b"secret")]));
    let offer = Offer::Token {
        tokens,
        qop: Qop::Auth,
        at_once: false,
        honest: true,
    };
    let server = FakeServer::start(offer, seven).await;
    assert_eq!(call(&by_token(&server, b"secret"), READ).await.unwrap(), 7);
}

#[tokio::test]
async fn a_wrong_password_is_an_authentication_error_and_not_repeated() {
    let server = FakeServer::start(Offer::token(&token(b"secret"), Qop::Auth), seven).await;
    let error = call(&by_token(&server, b"wrong"), READ).await.unwrap_err();
    assert!(matches!(error, IpcError::Auth { .. }), "{error:?}");
    assert_eq!(error.class(), Some(&ExceptionClass::Sasl));
    let connected = server
        .events()
        .iter()
        .filter(|event| matches!(event, Event::Connected))
        .count();
    assert_eq!(connected, 1);
}

#[tokio::test]
async fn a_server_that_does_not_know_the_password_gets_no_call() {
    let tokens = Arc::new(std::sync::Mutex::new(vec![token(b"secret")]));
    let offer = Offer::Token {
        tokens,
        qop: Qop::Auth,
        at_once: true,
        honest: false,
    };
    let server = FakeServer::start(offer, seven).await;
    let error = call(&by_token(&server, b"secret"), READ).await.unwrap_err();
    let IpcError::Auth { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(**source, AuthError::Sasl(SaslError::ServerNotAuthentic)),
        "{source:?}"
    );
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn a_server_without_tokens_gets_no_call_of_a_token_holder() {
    let server = FakeServer::start(Offer::Simple, seven).await;
    let error = call(&by_token(&server, b"secret"), READ).await.unwrap_err();
    assert_eq!(
        error.source().unwrap().to_string(),
        "the server takes no token, but SIMPLE"
    );
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn a_token_port_refuses_a_mere_name_and_says_why() {
    let server = FakeServer::start(Offer::token(&token(b"secret"), Qop::Auth), seven).await;
    let error = call(&simple(&server, config()), READ).await.unwrap_err();
    assert_eq!(error.class(), Some(&ExceptionClass::AccessControl));
    assert_eq!(
        error.remote().unwrap().message,
        "SIMPLE authentication is not enabled."
    );
}

#[tokio::test]
async fn a_ping_is_sent_while_a_call_is_outstanding() {
    let answer = prost::Message::encode_length_delimited_to_vec(&metrics(7));
    let server = FakeServer::start(Offer::Simple, move |_| Reply::AfterPing(answer.clone())).await;
    let client = simple(
        &server,
        ClientConfig {
            ping_interval: Duration::from_millis(10),
            ..config()
        },
    );
    assert_eq!(call(&client, READ).await.unwrap(), 7);
}

#[tokio::test]
async fn a_connection_at_rest_is_closed_and_opened_again() {
    let server = FakeServer::start(Offer::Simple, seven).await;
    let client = simple(
        &server,
        ClientConfig {
            idle_timeout: Duration::from_millis(10),
            ..config()
        },
    );
    assert_eq!(call(&client, WRITE).await.unwrap(), 7);
    server
        .wait_for(|event| matches!(event, Event::Closed))
        .await;
    assert_eq!(call(&client, WRITE).await.unwrap(), 7);
    assert_eq!(server.calls()[1].connection, 1);
}

#[tokio::test]
async fn the_connection_ends_with_the_last_handle() {
    let server = FakeServer::start(Offer::Simple, seven).await;
    let client = simple(&server, config());
    assert_eq!(call(&client, READ).await.unwrap(), 7);
    drop(client);
    server
        .wait_for(|event| matches!(event, Event::Closed))
        .await;
}

#[tokio::test]
async fn an_answer_that_is_no_message_is_a_protocol_error() {
    let server = FakeServer::start(Offer::Simple, |_| Reply::Success(vec![0xff, 0xff])).await;
    let error = call(&simple(&server, config()), READ).await.unwrap_err();
    assert!(matches!(error, IpcError::Protocol { .. }), "{error:?}");
}

#[test]
fn debug_output_of_a_client_and_its_proof_shows_no_password() {
    let shown = format!("{:?}", Auth::Token(token(b"hunter2")));
    assert!(shown.contains("<7 secret bytes>"), "{shown}");
}
