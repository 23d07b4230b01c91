//! Who may do what. Flink's REST API has no locks; these are ours.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::{Method, header};
use spindle_rpc::Secret;

/// The cookie in which YARN's proxy tells who is logged in.
const PROXY_USER: &str = "proxy-user";

/// Users who may look but not touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Viewers {
    /// Everybody whom the proxy lets through.
    All,
    /// These.
    Users(BTreeSet<String>),
}

/// The lock of the REST API.
#[derive(Debug, Clone)]
pub struct Access {
    /// Whoever has it may do everything.
    pub secret: Secret,
    /// Addresses of the proxies whose word on the user is taken.
    pub proxies: BTreeSet<IpAddr>,
    /// The user who may do everything through a proxy.
    pub owner: String,
    /// The users who may look through a proxy.
    pub viewers: Viewers,
}

/// Who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody with the secret.
    Owner,
    /// A user, by the word of a proxy.
    Proxied(String),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner => f.write_str("its owner"),
            Self::Proxied(user) => write!(f, "user {user} through the web proxy"),
        }
    }
}

impl Access {
    /// Who sends this request, or why it is refused.
    pub(super) fn admit(&self, request: &Request) -> Result<Caller, String> {
        let headers = request.headers();
        if let Some(given) = headers.get(header::AUTHORIZATION) {
            let opens = given.to_str().is_ok_and(|text| self.secret.is_bearer(text));
            return if opens {
                Ok(Caller::Owner)
            } else {
                Err("the bearer token is not the secret of this application".to_owned())
            };
        }
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let proxied = peer.is_some_and(|ConnectInfo(peer)| {
            let address = peer.ip().to_canonical();
            self.proxies.contains(&address)
        });
        let user = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .find_map(|cookie| cookie.trim().strip_prefix(PROXY_USER)?.strip_prefix('='));
        let Some(user) = user.filter(|_| proxied) else {
            return Err(
                "the secret of this application is needed as a bearer token, or a request \
                 through YARN's web proxy"
                    .to_owned(),
            );
        };
        let looks = matches!(*request.method(), Method::GET | Method::HEAD);
        if user == self.owner || (looks && self.may_view(user)) {
            return Ok(Caller::Proxied(user.to_owned()));
        }
        let what = if looks { "look at" } else { "change" };
        let owner = &self.owner;
        Err(format!(
            "user {user} may not {what} this application of {owner}"
        ))
    }

    fn may_view(&self, user: &str) -> bool {
        match &self.viewers {
            Viewers::All => true,
            Viewers::Users(users) => users.contains(user),
        }
    }
}
