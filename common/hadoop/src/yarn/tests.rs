//! The three clients against servers on loopback: failover here, the two others beside.

mod application_master;
mod node_manager;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::ipc::testing::{Call, FakeServer, Offer, Reply};
use crate::ipc::{ClientConfig, ExceptionClass};
use crate::proto::yarn as pb;
use crate::token::{Token, TokenKind};

const STANDBY: &str = "org.apache.hadoop.ipc.StandbyException";

const ONE_MOMENT: FailoverPolicy = FailoverPolicy {
    max_wait: Duration::from_secs(20),
    pause: Duration::from_millis(1),
};

fn token(kind: TokenKind, password: &[u8]) -> Token {
    Token {
        identifier: b"attempt".to_vec(),
        password: password.into(),
        kind,
        service: String::new(),
    }
}

fn metrics(_: &Call) -> Reply {
    let cluster_metrics = Some(pb::YarnClusterMetrics {
        num_node_managers: Some(2),
        ..Default::default()
    });
    Reply::message(&pb::GetClusterMetricsResponse { cluster_metrics })
}

async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

fn client(addresses: &[&str], policy: FailoverPolicy) -> ResourceManagerClient {
    let rms = ResourceManagers::new(addresses.iter().map(|&address| ("rm", address))).unwrap();
    ResourceManagerClient::new(rms, "alice", ClientConfig::default(), policy)
}

#[test]
fn a_cluster_without_resource_manager_is_none() {
    assert_eq!(
        ResourceManagers::new(Vec::<(String, String)>::new()),
        Err(NoResourceManager)
    );
}

#[tokio::test]
async fn a_closed_standby_and_one_that_says_so_are_passed_over() {
    let closed = closed_port().await;
    let standby = FakeServer::start(Offer::Simple, |_| Reply::Error(STANDBY, "not active")).await;
    let active = FakeServer::start(Offer::Simple, metrics).await;
    let rm = client(
        &[&closed, &standby.address, &active.address],
        FailoverPolicy::ONCE,
    );
    assert_eq!(rm.cluster_metrics().await.unwrap().num_node_managers(), 2);
    assert_eq!(rm.cluster_metrics().await.unwrap().num_node_managers(), 2);
    assert_eq!(standby.calls().len(), 1, "the active one is remembered");
}

#[tokio::test]
async fn a_failover_under_way_is_waited_for() {
    let count = AtomicUsize::new(0);
    let server = FakeServer::start(Offer::Simple, move |call| {
        match count.fetch_add(1, Ordering::Relaxed) {
            0..3 => Reply::Error(STANDBY, "not yet"),
            3 => Reply::Hangup,
            _ => metrics(call),
        }
    })
    .await;
    let rm = client(&[&server.address], ONE_MOMENT);
    assert_eq!(rm.cluster_metrics().await.unwrap().num_node_managers(), 2);
}

#[tokio::test]
async fn when_all_are_away_the_error_names_the_last() {
    let (first, second) = (closed_port().await, closed_port().await);
    let rm = client(&[&first, &second], FailoverPolicy::ONCE);
    let error = rm.cluster_metrics().await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot connect to {second} for ")),
        "{error}"
    );
}

#[tokio::test]
async fn other_exceptions_are_not_tried_elsewhere() {
    let server = FakeServer::start(Offer::Simple, |_| {
        Reply::Error(
            "org.apache.hadoop.yarn.exceptions.ApplicationNotFoundException",
            "unknown",
        )
    })
    .await;
    let rm = client(&[&server.address, &server.address], ONE_MOMENT);
    let id = ApplicationId {
        cluster_timestamp: 1,
        id: 1,
    };
    let error = rm.application_report(id).await.unwrap_err();
    assert_eq!(error.class(), Some(&ExceptionClass::ApplicationNotFound));
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn an_answer_without_id_is_named() {
    let server = FakeServer::start(Offer::Simple, |_| {
        Reply::message(&pb::GetNewApplicationResponse::default())
    })
    .await;
    let error = client(&[&server.address], FailoverPolicy::ONCE)
        .new_application()
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the answer to getNewApplication has an invalid id"
    );
}
