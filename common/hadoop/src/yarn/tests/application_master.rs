//! The rules that an ApplicationMaster has to keep.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::super::*;
use super::{ONE_MOMENT, token};
use crate::ipc::ClientConfig;
use crate::ipc::testing::{Event, FakeServer, Offer, Reply};
use crate::proto::yarn as pb;
use crate::sasl::Qop;
use crate::token::{Credentials, Token, TokenKind};

const NOT_REGISTERED: &str =
    "org.apache.hadoop.yarn.exceptions.ApplicationMasterNotRegisteredException";
const NOT_FOUND: &str = "org.apache.hadoop.yarn.exceptions.ApplicationAttemptNotFoundException";
const TOO_LARGE: &str = "org.apache.hadoop.yarn.exceptions.InvalidResourceRequestException";
const INVALID_MASTER: &str =
    "org.apache.hadoop.yarn.exceptions.InvalidApplicationMasterRequestException";

fn am_offer() -> (Offer, Arc<Mutex<Vec<Token>>>) {
    let tokens = Arc::new(Mutex::new(vec![token(TokenKind::AmRm, b"first")]));
    (
        Offer::Token {
            tokens: Arc::clone(&tokens),
            qop: Qop::Auth,
            at_once: true,
            honest: true,
        },
        tokens,
    )
}

fn am(server: &FakeServer) -> ApplicationMasterClient {
    let mut credentials = Credentials::new();
    credentials.add_token("other", token(TokenKind::HdfsDelegation, b"x"));
    credentials.add_token("", token(TokenKind::AmRm, b"first"));
    let rms = ResourceManagers::new([("rm", server.address.as_str())]).unwrap();
    ApplicationMasterClient::new(rms, &credentials, ClientConfig::default(), ONE_MOMENT).unwrap()
}

fn allocated(response_id: i32) -> pb::AllocateResponse {
    pb::AllocateResponse {
        response_id: Some(response_id),
        ..Default::default()
    }
}

fn response_ids(server: &FakeServer) -> Vec<i32> {
    let allocates = server
        .calls()
        .into_iter()
        .filter(|call| call.method == "allocate");
    allocates
        .map(|call| call.request::<pb::AllocateRequest>().response_id())
        .collect()
}

#[test]
fn without_its_token_there_is_no_application_master() {
    let rms = ResourceManagers::new([("rm", "127.0.0.1:1")]).unwrap();
    let made = ApplicationMasterClient::new(
        rms,
        &Credentials::new(),
        ClientConfig::default(),
        ONE_MOMENT,
    );
    assert!(matches!(made, Err(AmError::NoToken)));
}

#[tokio::test]
async fn each_heartbeat_carries_the_response_id_of_the_last_answer() {
    let server = FakeServer::start(am_offer().0, |call| {
        Reply::message(&allocated(
            call.request::<pb::AllocateRequest>().response_id() + 10,
        ))
    })
    .await;
    let mut am = am(&server);
    for _ in 0..3 {
        am.allocate(pb::AllocateRequest::default()).await.unwrap();
    }
    assert_eq!(response_ids(&server), [0, 10, 20]);
}

#[tokio::test]
async fn a_heartbeat_whose_answer_was_lost_is_repeated_as_it_was() {
    let server = FakeServer::start(am_offer().0, |call| match (call.connection, call.call_id) {
        (0, 0) => Reply::message(&allocated(1)),
        (0, _) => Reply::Hangup,
        _ => Reply::message(&allocated(2)),
    })
    .await;
    let mut am = am(&server);
    am.allocate(pb::AllocateRequest::default()).await.unwrap();
    let ask = pb::ResourceRequest {
        num_containers: Some(3),
        ..Default::default()
    };
    am.allocate(pb::AllocateRequest {
        ask: vec![ask],
        ..Default::default()
    })
    .await
    .unwrap();
    assert_eq!(response_ids(&server), [0, 1, 1]);
    let asks: Vec<_> = server
        .calls()
        .iter()
        .map(|call| call.request::<pb::AllocateRequest>().ask.len())
        .collect();
    assert_eq!(asks, [0, 1, 1]);
}

#[tokio::test]
async fn an_answer_that_was_not_waited_for_is_fetched_before_the_next_request() {
    let count = AtomicUsize::new(0);
    let server = FakeServer::start(am_offer().0, move |call| {
        let request: pb::AllocateRequest = call.request();
        let done = |id| pb::ContainerStatus {
            container_id: Some(pb::ContainerId {
                id: Some(id),
                ..Default::default()
            }),
            ..Default::default()
        };
        match (count.fetch_add(1, Ordering::Relaxed), request.response_id()) {
            (0, _) => Reply::Silence,
            (_, id) => Reply::message(&pb::AllocateResponse {
                completed_container_statuses: vec![done(i64::from(id) + 1)],
                ..allocated(id + 1)
            }),
        }
    })
    .await;
    let mut am = am(&server);
    let first = pb::AllocateRequest {
        progress: Some(0.25),
        ..Default::default()
    };
    {
        let waiting = am.allocate(first);
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            answer = &mut waiting => panic!("{answer:?}"),
            () = server.wait_for(|event| matches!(event, Event::Call(_))) => {}
        }
    }
    // The future was dropped.
    let answer = am
        .allocate(pb::AllocateRequest {
            progress: Some(0.5),
            ..Default::default()
        })
        .await
        .unwrap();
    let ids: Vec<i64> = answer
        .completed_container_statuses
        .iter()
        .map(|s| s.container_id.as_ref().unwrap().id())
        .collect();
    assert_eq!(ids, [1, 2], "both answers are in it");
    assert_eq!(response_ids(&server), [0, 0, 1]);
    let progress: Vec<f32> = server
        .calls()
        .iter()
        .map(|call| call.request::<pb::AllocateRequest>().progress())
        .collect();
    assert_eq!(progress, [0.25, 0.25, 0.5]);
}

#[tokio::test]
async fn refusals_have_their_own_errors() {
    let server = FakeServer::start(am_offer().0, |call| match call.method.as_str() {
        "registerApplicationMaster" => Reply::Error(INVALID_MASTER, "already registered"),
        _ => match call.request::<pb::AllocateRequest>().progress() {
            0.1 => Reply::Error(NOT_REGISTERED, "who are you"),
            0.2 => Reply::Error(NOT_FOUND, "gone"),
            _ => Reply::Error(TOO_LARGE, "too large"),
        },
    })
    .await;
    let mut am = am(&server);
    let mut allocate = async |progress| {
        am.allocate(pb::AllocateRequest {
            progress: Some(progress),
            ..Default::default()
        })
        .await
        .unwrap_err()
    };
    assert!(matches!(allocate(0.1).await, AmError::NotRegistered(_)));
    assert!(matches!(allocate(0.2).await, AmError::AttemptOver(_)));
    assert!(matches!(allocate(0.3).await, AmError::RefusedAsk(_)));
    assert_eq!(
        response_ids(&server),
        [0, 0, 0],
        "what was refused is not repeated and moves nothing"
    );
    let registered = am.register(Registration::default()).await;
    assert!(matches!(registered, Err(AmError::AlreadyRegistered(_))));
}

#[tokio::test]
async fn a_new_registration_starts_again_at_zero() {
    let server = FakeServer::start(am_offer().0, |call| match call.method.as_str() {
        "allocate" => Reply::message(&allocated(5)),
        _ => Reply::message(&pb::RegisterApplicationMasterResponse::default()),
    })
    .await;
    let mut am = am(&server);
    am.allocate(pb::AllocateRequest::default()).await.unwrap();
    am.register(Registration::default()).await.unwrap();
    am.allocate(pb::AllocateRequest::default()).await.unwrap();
    assert_eq!(response_ids(&server), [0, 0]);
}

#[tokio::test]
async fn a_rolled_token_is_used_for_the_next_connection() {
    let (offer, tokens) = am_offer();
    let server = FakeServer::start(offer, |call| match call.call_id {
        0 => Reply::message(&pb::AllocateResponse {
            am_rm_token: Some((&token(TokenKind::AmRm, b"second")).into()),
            ..allocated(1)
        }),
        1 if call.connection == 0 => Reply::Hangup,
        _ => Reply::message(&allocated(2)),
    })
    .await;
    let mut am = am(&server);
    am.allocate(pb::AllocateRequest::default()).await.unwrap();
    *tokens.lock().unwrap() = vec![token(TokenKind::AmRm, b"second")];
    assert_eq!(
        am.allocate(pb::AllocateRequest::default())
            .await
            .unwrap()
            .response_id(),
        2
    );
}

#[tokio::test]
async fn finishing_repeats_until_unregistered_and_registers_again_where_needed() {
    let finishes = AtomicUsize::new(0);
    let server = FakeServer::start(am_offer().0, move |call| match call.method.as_str() {
        "finishApplicationMaster" => match finishes.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Error(NOT_REGISTERED, "failover"),
            1 => Reply::message(&pb::FinishApplicationMasterResponse {
                is_unregistered: Some(false),
            }),
            _ => Reply::message(&pb::FinishApplicationMasterResponse {
                is_unregistered: Some(true),
            }),
        },
        _ => Reply::message(&pb::RegisterApplicationMasterResponse::default()),
    })
    .await;
    let mut am = am(&server);
    am.register(Registration {
        host: "h".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    am.finish(pb::FinalApplicationStatus::AppSucceeded, "done", "")
        .await
        .unwrap();
    let calls = server.calls();
    let methods: Vec<&str> = calls.iter().map(|call| call.method.split_at(6).0).collect();
    assert_eq!(methods, ["regist", "finish", "regist", "finish", "finish"]);
    assert_eq!(
        calls[2]
            .request::<pb::RegisterApplicationMasterRequest>()
            .host(),
        "h"
    );
}
