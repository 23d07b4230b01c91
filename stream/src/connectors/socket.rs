//! Lines of text from a TCP connection.

mod line_buffer;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::connector::{OperatorError, SourceReader, SourceStatus};

use self::line_buffer::LineBuffer;
use super::idle::Idle;
use super::net;
use crate::connector::Source;
use crate::context::{IoContext, PlanContext, PlanError, SourceContext};

/// How long a host may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Time from a connection's end to the next one. Flink: `SocketTextStreamFunction`.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Bytes that are read at once.
const READ: usize = 64 << 10;
/// The longest line, unless told otherwise.
const MAX_LINE: usize = 1 << 20;

/// Connects to a server and reads the lines of text that it sends. Flink: `socketTextStream`.
///
/// For trying things out: what was sent while nobody was connected, or before a restart, is lost. Read by one subtask alone,
/// so the stream's parallelism has to be 1; [`crate::StreamEnvironment::socket_text_stream`] sees to that. The source ends when the
/// server has closed the connection and no retry is left.
///
/// ```
/// use std::io::Write;
/// use std::net::TcpListener as Server;
///
/// let server = Server::bind("127.0.0.1:0").unwrap();
/// let port = server.local_addr().unwrap().port();
/// let serving = std::thread::spawn(move || server.accept().unwrap().0.write_all(b"to be\nor not\n").unwrap());
///
/// let mut harness = spindle_stream::testing::Harness::new(2);
/// harness.env().socket_text_stream("127.0.0.1", port).collect("lines");
/// assert_eq!(harness.run().unwrap().collected::<String>("lines"), ["to be", "or not"]);
/// serving.join().unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct SocketSource {
    host: String,
    port: u16,
    delimiter: String,
    max_retries: Option<u32>,
    retry_delay: Duration,
    max_line: usize,
}

impl SocketSource {
    /// Lines that end with `\n` or `\r\n`, without a retry.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            delimiter: "\n".to_owned(),
            max_retries: Some(0),
            retry_delay: RETRY_DELAY,
            max_line: MAX_LINE,
        }
    }

    /// What stands between two lines.
    #[must_use]
    pub fn delimiter(mut self, delimiter: impl Into<String>) -> Self {
        self.delimiter = delimiter.into();
        self
    }

    /// How often, one after the other, it tries to connect again when a connection has ended, broken or not come about; nothing: for ever.
    /// Flink counts all retries of the source's life; here a connection over which something came begins anew.
    #[must_use]
    pub fn max_retries(mut self, retries: impl Into<Option<u32>>) -> Self {
        self.max_retries = retries.into();
        self
    }

    /// Time from the end of a connection to the next try, half a second if it is not called.
    #[must_use]
    pub const fn retry_delay(mut self, delay: Duration) -> Self {
        self.retry_delay = delay;
        self
    }

    /// The longest line in bytes, 1 MiB if it is not called. A longer one fails the job.
    #[must_use]
    pub const fn max_line(mut self, bytes: usize) -> Self {
        self.max_line = bytes;
        self
    }
}

impl Source<String> for SocketSource {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        let Self { host, port, .. } = self;
        if context.parallelism != 1 {
            return Err(PlanError::Input(format!(
                "the socket {host}:{port} can be read by one subtask only, not by {}: add `.set_parallelism(1)` to the source",
                context.parallelism
            )));
        }
        if self.delimiter.is_empty() {
            return Err(PlanError::Input(format!(
                "the lines from the socket {host}:{port} need a delimiter that is not empty"
            )));
        }
        Ok(vec![vec![SourceSplit {
            name: format!("{host}:{port}"),
            payload: Vec::new(),
        }]])
    }

    fn reader(
        &self,
        _: Vec<SourceSplit>,
        context: SourceContext,
    ) -> Result<Box<dyn SourceReader<String>>, OperatorError> {
        Ok(Box::new(SocketReader::of(self, context)))
    }
}

struct SocketReader {
    io: Arc<IoContext>,
    source: SocketSource,
    state: State,
    lines: LineBuffer,
    /// Connections in a row over which nothing came.
    failures: u32,
    bytes: u64,
    idle: Idle,
}

enum State {
    /// Until it is time to connect.
    Waiting(Instant),
    /// One attempt.
    Connecting(JoinSet<io::Result<TcpStream>>),
    Connected(TcpStream),
    /// What is left are the lines at hand.
    Ended,
}

/// How a connection ended.
enum End {
    /// The server has closed it.
    Closed,
    /// It broke, or did not come about.
    Broken(io::Error),
}

impl SocketReader {
    fn of(source: &SocketSource, context: SourceContext) -> Self {
        Self {
            io: context.io,
            lines: LineBuffer::new(&source.delimiter, source.max_line),
            source: source.clone(),
            state: State::Waiting(Instant::now()),
            failures: 0,
            bytes: 0,
            idle: Idle::new(),
        }
    }

    /// Takes one step: none of them waits for longer than a reader may.
    fn step(&mut self) -> Result<(), OperatorError> {
        let ended = match &mut self.state {
            State::Waiting(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let mut connecting = JoinSet::new();
                    let (host, port) = (self.source.host.clone(), self.source.port);
                    connecting.spawn_on(
                        async move { net::connect(&host, port, CONNECT_WITHIN).await },
                        self.io.handle(),
                    );
                    self.state = State::Connecting(connecting);
                } else {
                    let wait = self.idle.next_wait(Some(left));
                    self.io.block_on(async { tokio::time::sleep(wait).await });
                }
                return Ok(());
            }
            State::Connecting(connecting) => {
                let wait = self.idle.next_wait(None);
                let connected = async { timeout(wait, connecting.join_next()).await };
                match self.io.block_on(connected) {
                    Ok(Some(Ok(Ok(connection)))) => {
                        self.state = State::Connected(connection);
                        self.idle.reset();
                        return Ok(());
                    }
                    Ok(Some(Ok(Err(error)))) => End::Broken(error),
                    Ok(Some(Err(error))) => End::Broken(io::Error::other(error)),
                    Ok(None) | Err(_) => return Ok(()),
                }
            }
            State::Connected(connection) => {
                let wait = self.idle.next_wait(None);
                let space = self.lines.space(READ);
                let read = async { timeout(wait, connection.read_buf(space)).await };
                match self.io.block_on(read) {
                    Ok(Ok(0)) => End::Closed,
                    Ok(Ok(read)) => {
                        self.bytes += read as u64;
                        self.failures = 0;
                        self.idle.reset();
                        return Ok(());
                    }
                    Ok(Err(error)) => End::Broken(error),
                    Err(_) => return Ok(()),
                }
            }
            State::Ended => return Ok(()),
        };
        self.end(ended)
    }

    /// A connection has ended: whether to try again.
    fn end(&mut self, end: End) -> Result<(), OperatorError> {
        let SocketSource { host, port, .. } = &self.source;
        let connected = matches!(self.state, State::Connected(_));
        let retry = self
            .source
            .max_retries
            .is_none_or(|most| self.failures < most);
        let what = match &end {
            // The last line of what a server sends needs no end.
            End::Closed => {
                self.lines.end_line();
                format!("{host}:{port} closed the connection")
            }
            End::Broken(error) if connected => {
                let lost = self.lines.drop_begun();
                format!(
                    "the connection to {host}:{port} broke after {} bytes, {lost} of them of a line that was not complete: {error}",
                    self.bytes
                )
            }
            End::Broken(error) => format!("cannot connect to {host}:{port}: {error}"),
        };
        if retry {
            self.failures += 1;
            tracing::warn!(retry = self.failures, "{what}; trying again");
            self.state = State::Waiting(Instant::now() + self.source.retry_delay);
            return Ok(());
        }
        self.state = State::Ended;
        match end {
            End::Closed => Ok(()),
            End::Broken(_) => {
                let tries = match self.failures {
                    0 => String::new(),
                    1 => "; tried again once".to_owned(),
                    n => format!("; tried again {n} times"),
                };
                Err(OperatorError::transient(format!("{what}{tries}")))
            }
        }
    }

    fn next_line(&mut self) -> Result<Option<String>, OperatorError> {
        let SocketSource { host, port, .. } = &self.source;
        let Some(line) = self.lines.next_line().map_err(|longest| {
            OperatorError::permanent(format!(
                "{host}:{port} sent a line of more than {longest} bytes: is the delimiter the right one? `max_line` allows longer ones"
            ))
        })?
        else {
            return Ok(None);
        };
        match std::str::from_utf8(line) {
            Ok(line) => Ok(Some(line.to_owned())),
            Err(error) => Err(OperatorError::permanent(format!(
                "{host}:{port} sent a line that is not UTF-8 text: {error}"
            ))),
        }
    }
}

impl SourceReader<String> for SocketReader {
    fn read(&mut self, out: &mut Batch<String>) -> Result<SourceStatus, OperatorError> {
        let before = out.len();
        for stepped in [false, true] {
            for _ in 0..BATCH_RECORDS {
                let Some(line) = self.next_line()? else {
                    break;
                };
                out.push(line, None);
            }
            if out.len() > before || stepped {
                break;
            }
            if matches!(self.state, State::Ended) {
                return Ok(SourceStatus::EndOfInput);
            }
            self.step()?;
        }
        Ok(SourceStatus::More)
    }

    fn bytes_read(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
