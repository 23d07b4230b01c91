//! Where this process opens sockets and looks names up.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use spindle_common::config::PortRange;
use tokio::net::{TcpListener, lookup_host};

/// No port could be had.
#[derive(Debug, thiserror::Error)]
#[error("none of the ports of {key} ({ports}) can be had on `{host}`")]
pub(crate) struct BindError {
    key: &'static str,
    ports: String,
    host: String,
    #[source]
    cause: io::Error,
}

/// Listens on the first free port of a range, at the address of `host` if it is one of this machine, else at all of them.
pub(crate) async fn bind(
    host: &str,
    ports: &PortRange,
    key: &'static str,
) -> Result<TcpListener, BindError> {
    let mut addresses = addresses(host).await;
    addresses.push(Ipv4Addr::UNSPECIFIED.into());
    let mut last = io::Error::other("no port is given");
    for address in addresses {
        for port in ports.ports() {
            match TcpListener::bind((address, port)).await {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
    }
    Err(BindError {
        key,
        ports: ports.to_string(),
        host: host.to_owned(),
        cause: last,
    })
}

/// The addresses of a host; IPv4 first, as Hadoop has it.
pub(crate) async fn addresses(host: &str) -> Vec<IpAddr> {
    let mut found: BTreeSet<IpAddr> = BTreeSet::new();
    match lookup_host((host, 0)).await {
        Ok(addresses) => found.extend(addresses.map(|address| address.ip().to_canonical())),
        Err(error) => tracing::warn!(host, %error, "a host name cannot be resolved"),
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_passed_over() {
        let any: PortRange = "0".parse().unwrap();
        let first = bind("127.0.0.1", &any, "rest.port").await.unwrap();
        let taken = first.local_addr().unwrap().port();
        let ports: PortRange = format!("{taken},0").parse().unwrap();
        let second = bind("127.0.0.1", &ports, "rest.port").await.unwrap();
        assert!(second.local_addr().unwrap().ip().is_loopback());
    }
}
