//! Asking other systems about the records of a stream, without waiting for each answer.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use spindle_dataflow::operator::{
    Answer, AnswerOrder, Ask, AsyncDriver, AsyncMap, Request, with_causes,
};
use spindle_dataflow::record::Record;

use crate::data_stream::DataStream;

#[cfg(test)]
mod tests;

/// How a stream's records are asked about: in which order answers go on, how many requests may be in flight, how long each may take and
/// whether it is repeated. Flink: the arguments of `AsyncDataStream.orderedWait` and its like, and `AsyncRetryStrategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsyncOptions {
    order: AnswerOrder,
    capacity: usize,
    timeout: Duration,
    attempts: u32,
    delay: Duration,
}

impl AsyncOptions {
    /// Answers go on in the order of the records. At most 100 requests are in flight in each subtask, each for a minute at most, and none is
    /// repeated.
    pub const fn ordered() -> Self {
        Self {
            order: AnswerOrder::Ordered,
            capacity: 100,
            timeout: Duration::from_secs(60),
            attempts: 1,
            delay: Duration::ZERO,
        }
    }

    /// Answers go on as they come, but none overtakes a watermark, or is overtaken by one. Otherwise as [`Self::ordered`].
    pub const fn unordered() -> Self {
        Self {
            order: AnswerOrder::Unordered,
            ..Self::ordered()
        }
    }

    /// Has a subtask wait when so many requests have no answer that was handed on; at least 1.
    #[must_use]
    pub const fn capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// Has the job fail if a request takes longer, with all its attempts.
    #[must_use]
    pub const fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Has a request that fails be repeated after a delay, until there were so many attempts.
    #[must_use]
    pub const fn retry(self, attempts: u32, delay: Duration) -> Self {
        Self {
            attempts,
            delay,
            ..self
        }
    }
}

impl<T: Record> DataStream<T> {
    /// Makes one record of each by asking for it: the function makes a future, which runs on a tokio runtime beside the tasks. A future that fails
    /// for good, panics or takes too long fails the task. Flink: `AsyncDataStream`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use spindle_stream::AsyncOptions;
    ///
    /// async fn price(item: u64) -> Result<u64, std::io::Error> {
    ///     // Ask a service here.
    ///     Ok(item * 100)
    /// }
    ///
    /// let mut harness = spindle_stream::testing::Harness::new(1);
    /// let options = AsyncOptions::ordered().capacity(20).timeout(Duration::from_secs(5));
    /// harness.env().generate(3, |n| n).map_async(options.retry(3, Duration::from_millis(10)), price).collect("prices");
    /// assert_eq!(harness.run().unwrap().collected::<u64>("prices"), [0, 100, 200]);
    /// ```
    pub fn map_async<U, E, F>(
        &self,
        options: AsyncOptions,
        function: impl Fn(T) -> F + Send + Sync + 'static,
    ) -> DataStream<U>
    where
        U: Record,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
        F: Future<Output = Result<U, E>> + Send + 'static,
    {
        let function = Arc::new(function);
        let ask: Arc<Ask<T, U>> = Arc::new(move |record| {
            let function = Arc::clone(&function);
            Box::pin(answer(options, record, function))
        });
        let io = self.io();
        self.read_by("Async Map", move |context, next| {
            let driver = Arc::new(Tokio {
                handle: io.handle().clone(),
                requests: Mutex::new(JoinSet::new()),
            });
            let AsyncOptions {
                order, capacity, ..
            } = options;
            let ask = Arc::clone(&ask);
            Box::new(AsyncMap::new(context, ask, driver, order, capacity, next))
        })
        .set(|node| node.waits = true)
    }
}

/// What a request comes to, with all its attempts.
async fn answer<T, U, E, F>(
    options: AsyncOptions,
    record: T,
    function: Arc<impl Fn(T) -> F + Send + Sync>,
) -> Answer<U>
where
    T: Record,
    E: Into<Box<dyn Error + Send + Sync>>,
    F: Future<Output = Result<U, E>> + Send,
{
    let attempts = AssertUnwindSafe(attempts(options, record, &*function)).catch_unwind();
    match timeout(options.timeout, attempts).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!(
                "the request panicked: {}",
                text.unwrap_or("with a value that is no text")
            ))
        }
        Err(_) => Err(format!(
            "the request took longer than its time-out of {:?}",
            options.timeout
        )),
    }
}

async fn attempts<T, U, E, F>(
    options: AsyncOptions,
    mut record: T,
    function: &(impl Fn(T) -> F + Send + Sync),
) -> Answer<U>
where
    T: Record,
    E: Into<Box<dyn Error + Send + Sync>>,
    F: Future<Output = Result<U, E>> + Send,
{
    for _ in 1..options.attempts {
        let again = record.clone();
        if let Ok(answer) = function(record).await {
            return Ok(answer);
        }
        record = again;
        sleep(options.delay).await;
    }
    let last = function(record).await;
    last.map_err(|error| {
        let error: Box<dyn Error + Send + Sync> = error.into();
        let text = with_causes(&*error);
        match options.attempts {
            0 | 1 => format!("the request failed: {text}"),
            attempts => format!("the request failed {attempts} times, at last with: {text}"),
        }
    })
}

/// Runs requests on the runtime beside the tasks. Those that are still running when the operator is dropped end with it.
struct Tokio {
    handle: Handle,
    requests: Mutex<JoinSet<()>>,
}

impl AsyncDriver for Tokio {
    fn spawn(&self, request: Request) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        while requests.try_join_next().is_some() {}
        requests.spawn_on(request, &self.handle);
    }
}
