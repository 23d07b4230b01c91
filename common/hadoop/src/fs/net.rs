//! Is there a NameNode at all: a bounded look before anything waits for one.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::conf::HostPort;

/// Longest wait for a connection; refusals come back at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns as soon as one of the addresses accepts a connection.
///
/// # Errors
/// The failure of the last address when none does.
pub(super) async fn any_reachable(addresses: &[HostPort]) -> io::Result<()> {
    let mut attempts = JoinSet::new();
    for address in addresses {
        let (host, port) = (address.connect_host().to_owned(), address.port);
        attempts.spawn(async move {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), port))).await {
                Ok(connected) => connected.map(drop),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
                )),
            }
        });
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address is configured");
    while let Some(joined) = attempts.join_next().await {
        match joined {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => last = error,
            Err(error) => last = io::Error::other(error),
        }
    }
    Err(last)
}
