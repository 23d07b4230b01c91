//! Containers on their nodes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::super::*;
use super::{ONE_MOMENT, token};
use crate::ipc::testing::{FakeServer, Offer, Reply};
use crate::ipc::{ClientConfig, ExceptionClass};
use crate::proto::common::Token as TokenMessage;
use crate::proto::yarn as pb;
use crate::sasl::Qop;
use crate::token::TokenKind;

const NOT_READY: &str = "org.apache.hadoop.yarn.exceptions.NMNotYetReadyException";
const YARN: &str = "org.apache.hadoop.yarn.exceptions.YarnException";

fn container(id: u64) -> ContainerId {
    let application = ApplicationId {
        cluster_timestamp: 1,
        id: 1,
    };
    ContainerId {
        attempt: ApplicationAttemptId {
            application,
            attempt: 1,
        },
        id,
    }
}

fn failure(id: u64, class: &str, message: &str) -> pb::ContainerExceptionMap {
    let exception = pb::SerializedException {
        class_name: Some(class.into()),
        message: Some(message.into()),
        ..Default::default()
    };
    pb::ContainerExceptionMap {
        container_id: Some(container(id).into()),
        exception: Some(exception),
    }
}

fn node_of(server: &FakeServer) -> NodeId {
    server.address.parse().unwrap()
}

#[tokio::test]
async fn a_container_that_was_started_before_is_no_failure() {
    let nm_token = token(TokenKind::Nm, b"nm");
    let attempts = AtomicUsize::new(0);
    let server = FakeServer::start(Offer::token(&nm_token, Qop::Auth), move |_| match attempts
        .fetch_add(1, Ordering::Relaxed)
    {
        0 => Reply::Error(NOT_READY, "recovering"),
        1 => Reply::Hangup,
        _ => Reply::message(&pb::StartContainersResponse {
            succeeded_requests: vec![container(2).into()],
            failed_requests: vec![
                failure(3, YARN, "Attempt to relaunch the same container with id x."),
                failure(4, YARN, "no disk"),
            ],
            ..Default::default()
        }),
    })
    .await;
    let tokens = NmTokenCache::new();
    let message = pb::NmToken {
        node_id: Some(node_of(&server).into()),
        token: Some(TokenMessage::from(&nm_token)),
    };
    tokens.extend(&[message, pb::NmToken::default()]);
    let nodes = NodeManagerClient::new(tokens, ClientConfig::default(), ONE_MOMENT);
    let started = nodes
        .start_containers(&node_of(&server), Vec::new())
        .await
        .unwrap();
    assert_eq!(
        (started.started, started.already_running),
        (vec![container(2)], vec![container(3)])
    );
    assert_eq!(started.failed.len(), 1);
    assert_eq!(started.failed[0].container, Some(container(4)));
    assert_eq!(
        (
            started.failed[0].class(),
            started.failed[0].exception.first_line()
        ),
        (&ExceptionClass::Yarn, "no disk")
    );
}

#[tokio::test]
async fn a_node_without_token_is_not_called() {
    let nodes = NodeManagerClient::new(NmTokenCache::new(), ClientConfig::default(), ONE_MOMENT);
    let error = nodes
        .container_statuses(&NodeId::new("h", 1), &[container(1)])
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "there is no NMToken for h:1");
}

#[tokio::test]
async fn the_newest_token_of_a_node_opens_its_next_connection() {
    let tokens = Arc::new(Mutex::new(vec![token(TokenKind::Nm, b"first")]));
    let offer = Offer::Token {
        tokens: Arc::clone(&tokens),
        qop: Qop::Auth,
        at_once: true,
        honest: true,
    };
    let server = FakeServer::start(offer, |call| match call.method.as_str() {
        "stopContainers" if call.connection == 0 => Reply::Hangup,
        _ => Reply::message(&pb::StopContainersResponse::default()),
    })
    .await;
    let cache = NmTokenCache::new();
    let nodes = NodeManagerClient::new(cache.clone(), ClientConfig::default(), ONE_MOMENT);
    cache.insert(node_of(&server), token(TokenKind::Nm, b"first"));
    assert_eq!(
        nodes
            .container_statuses(&node_of(&server), &[])
            .await
            .unwrap(),
        Statuses::default()
    );
    *tokens.lock().unwrap() = vec![token(TokenKind::Nm, b"second")];
    cache.insert(node_of(&server), token(TokenKind::Nm, b"second"));
    let stopped = nodes
        .stop_containers(&node_of(&server), &[container(1)])
        .await
        .unwrap();
    assert_eq!(stopped, Stopped::default());
}
