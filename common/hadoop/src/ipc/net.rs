//! The one place where IPC opens a socket.

use std::io;

use tokio::net::TcpStream;

/// Connects to `host:port`; small frames go out at once.
pub(super) async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
