//! Who may do what. Flink's REST API has no locks; these are ours.
//!
//! The decision is a pure one, on the head of a request: nothing of a body has been read when it falls.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::{StatusCode, header};
use spindle_rpc::Secret;

/// The cookie in which YARN's proxy tells who is logged in.
const PROXY_USER: &str = "proxy-user";

/// A list of users, as YARN writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acl {
    /// Everybody whom the proxy lets through.
    Everybody,
    /// These.
    Users(BTreeSet<String>),
}

impl Acl {
    /// The list in the form `user,user group,group`, or `*`. Whose groups a user is in is not known here, so that they let
    /// nobody in.
    pub fn parse(text: &str) -> Self {
        if text.trim() == "*" {
            return Self::Everybody;
        }
        let users = text.split(' ').next().unwrap_or_default().split(',');
        Self::Users(
            users
                .filter(|user| !user.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    /// Everybody who is on either list.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Users(mut users), Self::Users(others)) => {
                users.extend(others);
                Self::Users(users)
            }
            (Self::Everybody, _) | (_, Self::Everybody) => Self::Everybody,
        }
    }

    fn names(&self, user: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users(users) => users.contains(user),
        }
    }
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To look.
    View,
    /// To change something: to cancel, to stop.
    Modify,
    /// To run a program in the owner's name. No ACL gives this: YARN's MODIFY is about an application, not about its user.
    Run,
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
    /// The users who may look through a proxy: those of the application's VIEW ACL, and admins.
    pub viewers: Acl,
    /// The users who may do everything through a proxy: those of the application's MODIFY ACL, and admins.
    pub modifiers: Acl,
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

/// Why somebody was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

/// What of a request counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    /// `Authorization`, if there is one; empty if it is no text.
    pub(super) authorization: Option<&'a str>,
    /// Where the connection comes from.
    pub(super) peer: Option<IpAddr>,
    /// `proxy-user` of the cookies.
    pub(super) proxy_user: Option<&'a str>,
}

impl<'a> Asker<'a> {
    pub(super) fn of(request: &'a Request) -> Self {
        let headers = request.headers();
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let authorization = headers.get(header::AUTHORIZATION);
        let proxy_user = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .find_map(|cookie| cookie.trim().strip_prefix(PROXY_USER)?.strip_prefix('='));
        Self {
            authorization: authorization.map(|given| given.to_str().unwrap_or_default()),
            peer: peer.map(|ConnectInfo(peer)| peer.ip().to_canonical()),
            proxy_user: proxy_user.filter(|user| !user.is_empty()),
        }
    }
}

impl Access {
    /// Whether somebody who is known has a right.
    pub(super) fn lets(&self, caller: &Caller, right: Right) -> bool {
        let Caller::Proxied(user) = caller else {
            return true;
        };
        let owns = *user == self.owner;
        match right {
            Right::View => owns || self.modifiers.names(user) || self.viewers.names(user),
            Right::Modify => owns || self.modifiers.names(user),
            Right::Run => owns,
        }
    }

    /// Who asks, or why it is refused.
    pub(super) fn decide(&self, asker: Asker<'_>, right: Right) -> Result<Caller, Refusal> {
        let unknown = |message: &str| Refusal {
            status: StatusCode::UNAUTHORIZED,
            message: message.to_owned(),
        };
        if let Some(given) = asker.authorization {
            // The comparison takes the same time for every wrong secret.
            return if self.secret.is_bearer(given) {
                Ok(Caller::Owner)
            } else {
                Err(unknown(
                    "the bearer token is not the secret of this application",
                ))
            };
        }
        let proxied = asker.peer.is_some_and(|peer| self.proxies.contains(&peer));
        let Some(user) = asker.proxy_user.filter(|_| proxied) else {
            return Err(unknown(
                "the secret of this application is needed as a bearer token, or a request through \
                 YARN's web proxy",
            ));
        };
        let caller = Caller::Proxied(user.to_owned());
        if self.lets(&caller, right) {
            return Ok(caller);
        }
        let what = match right {
            Right::View => "look at",
            Right::Modify => "change",
            Right::Run => "run a job in",
        };
        let owner = &self.owner;
        Err(Refusal {
            status: StatusCode::FORBIDDEN,
            message: format!("user {user} may not {what} this application of {owner}"),
        })
    }
}
