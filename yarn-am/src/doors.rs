//! The servers: for TaskExecutors, and for people.

use std::collections::BTreeSet;

use spindle_cluster::ClusterHandle;
use spindle_cluster::rest::{self, Access, RestConfig};
use spindle_common::id::FencingToken;
use spindle_hadoop::proto::yarn as pb;
use spindle_rpc::{Secret, serve_job_manager};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::process::report;
use crate::told::Told;
use crate::{net, settings};

/// TaskExecutors that may connect at the same instant.
const ACCEPTED: usize = 64;

/// The servers, bound but not yet answering.
pub(crate) struct Doors {
    pub(crate) rpc: TcpListener,
    pub(crate) rest: TcpListener,
}

impl Doors {
    /// Lets TaskExecutors in, and people as soon as `ready` is through: what they asked before waits. A server that ends tells why.
    pub(crate) fn open(
        self,
        servers: &mut JoinSet<String>,
        handle: &ClusterHandle,
        ready: impl Future<Output = ()> + Send + 'static,
        secret: Secret,
        fencing: FencingToken,
        config: RestConfig,
    ) {
        let (accepted, mut streams) = mpsc::channel(ACCEPTED);
        let serving = serve_job_manager(self.rpc, secret, fencing, accepted);
        servers.spawn(async move {
            match serving.await {
                Ok(()) => "the server for TaskExecutors ended".to_owned(),
                Err(error) => report(&error),
            }
        });
        let cluster = handle.clone();
        servers.spawn(async move {
            while let Some(stream) = streams.recv().await {
                if cluster.attach_stream(stream).await.is_err() {
                    break;
                }
            }
            // The end of the cluster comes before this one's.
            std::future::pending().await
        });
        let router = rest::router(handle.clone(), config);
        servers.spawn(async move {
            ready.await;
            match rest::serve(self.rest, router).await {
                Ok(()) => "the REST server ended".to_owned(),
                Err(error) => format!("the REST server ended: {error}"),
            }
        });
    }
}

/// Who may do what over REST.
pub(crate) async fn access(
    told: &Told,
    registered: &pb::RegisterApplicationMasterResponse,
) -> anyhow::Result<Access> {
    let mut proxies = BTreeSet::new();
    for host in settings::proxy_hosts(&told.hadoop)? {
        proxies.extend(net::addresses(&host).await);
    }
    Ok(Access {
        secret: told.secret.clone(),
        proxies,
        owner: told.spec.user.clone(),
        viewers: settings::viewers(&told.hadoop, &registered.application_ac_ls)?,
        modifiers: settings::modifiers(&told.hadoop, &registered.application_ac_ls)?,
    })
}
