//! The sockets that connectors open.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connects to the first of a host's addresses that answers, within a time.
pub(super) async fn connect(host: &str, port: u16, within: Duration) -> io::Result<TcpStream> {
    match timeout(within, TcpStream::connect((host, port))).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::new(
            ErrorKind::TimedOut,
            format!("no answer within {} s", within.as_secs()),
        )),
    }
}
