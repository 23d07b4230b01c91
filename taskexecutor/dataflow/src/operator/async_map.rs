//! Asks other systems about records without waiting for each answer. Flink: `AsyncWaitOperator`.
//!
//! ```text
//! in flight, in order of arrival:   request · request (answered) · watermark · request · …
//! ```
//! Requests run on whatever drives them ([`AsyncDriver`]), beside the task's thread. They leave their answers where the task takes them, and wake
//! it: from its gate, from its wait for room because as many requests are in flight as may be, or from that at the end of input.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spindle_common::time::{EventTime, Watermark};

use crate::attribution::attribute;
use crate::batch::Batch;
use crate::chain::Clock;
use crate::collector::{Collector, Control, Output};
use crate::connector::OperatorError;
use crate::mailbox::Mailbox;
use crate::operator::OperatorContext;
use crate::snapshot::Snapshot;
use crate::task::{TaskError, TaskMetrics, Waiting};

#[cfg(test)]
mod tests;

/// How long the operator waits before it lets go what it handed on, which nobody else does while it waits.
const WAIT: Duration = Duration::from_millis(50);

/// Runs requests beside the task's thread.
pub trait AsyncDriver: Send + Sync {
    /// Runs a request to its end, or drops it.
    fn spawn(&self, request: Request);
}

/// A request on its way: it leaves its answer itself.
pub type Request = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a request comes to: a record, or why not, in words.
pub type Answer<U> = Result<U, String>;

/// Asks about a record.
pub type Ask<T, U> = dyn Fn(T) -> Pin<Box<dyn Future<Output = Answer<U>> + Send>> + Send + Sync;

/// In which order answers are handed on. Flink: `AsyncDataStream.OutputMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerOrder {
    /// That of the records.
    Ordered,
    /// That in which they come; but none overtakes a watermark, or is overtaken by one.
    Unordered,
}

/// Answers that the task has not taken yet.
struct Answers<U> {
    came: Mutex<Vec<(u64, Answer<U>)>>,
    /// Whether there are some: changed under the lock, read without it.
    some: AtomicBool,
    mailbox: Mailbox,
}

impl<U> Answers<U> {
    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Answer<U>)>> {
        // Nothing panics while it holds the lock.
        self.came.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, number: u64, answer: Answer<U>) {
        let mut came = self.lock();
        came.push((number, answer));
        // Whoever left the first of several wakes the task.
        let first = !self.some.swap(true, Ordering::SeqCst);
        drop(came);
        if first {
            self.mailbox.wake();
        }
    }

    fn take(&self, taken: &mut Vec<(u64, Answer<U>)>) {
        if self.some.load(Ordering::SeqCst) {
            let mut came = self.lock();
            std::mem::swap(&mut *came, taken);
            self.some.store(false, Ordering::SeqCst);
        }
    }
}

/// Leaves an answer, whatever becomes of the request.
struct Answering<U> {
    number: u64,
    answers: Arc<Answers<U>>,
    answer: Option<Answer<U>>,
}

impl<U> Answering<U> {
    fn leave(mut self, answer: Answer<U>) {
        self.answer = Some(answer);
    }
}

impl<U> Drop for Answering<U> {
    fn drop(&mut self) {
        let answer = self.answer.take();
        let answer =
            answer.unwrap_or_else(|| Err("the request panicked or was dropped".to_owned()));
        self.answers.leave(self.number, answer);
    }
}

/// What waits.
enum InFlight<U> {
    /// A request without an answer, and its record's event time.
    Asked(Option<EventTime>),
    /// A request whose answer has to wait for what is before it.
    Answered(Option<EventTime>, U),
    /// A request whose answer was handed on before others were.
    Gone,
    Watermark(Watermark),
    Idle(bool),
}

/// Hands on the answer to a request for each record, with the record's event time.
pub struct AsyncMap<T, U> {
    name: Arc<str>,
    ask: Arc<Ask<T, U>>,
    driver: Arc<dyn AsyncDriver>,
    order: AnswerOrder,
    capacity: usize,
    answers: Arc<Answers<U>>,
    taken: Vec<(u64, Answer<U>)>,
    /// In order of arrival.
    in_flight: VecDeque<InFlight<U>>,
    /// Number of the first.
    front: u64,
    /// Numbers of those that are no requests.
    fences: VecDeque<u64>,
    /// Requests whose answers were not handed on.
    requests: usize,
    clock: Clock,
    metrics: Arc<TaskMetrics>,
    out: Output<U>,
}

impl<T: 'static, U: Send + 'static> AsyncMap<T, U> {
    /// The operator that asks `ask` about at most `capacity` records at a time, and feeds `next`.
    pub fn new(
        context: &OperatorContext,
        ask: Arc<Ask<T, U>>,
        driver: Arc<dyn AsyncDriver>,
        order: AnswerOrder,
        capacity: usize,
        next: Box<dyn Collector<U>>,
    ) -> Self {
        let answers = Answers {
            came: Mutex::new(Vec::new()),
            some: AtomicBool::new(false),
            mailbox: context.mailbox.clone(),
        };
        Self {
            name: Arc::clone(&context.name),
            ask,
            driver,
            order,
            capacity: capacity.max(1),
            answers: Arc::new(answers),
            taken: Vec::new(),
            in_flight: VecDeque::new(),
            front: 0,
            fences: VecDeque::new(),
            requests: 0,
            clock: context.clock.clone(),
            metrics: Arc::clone(&context.metrics),
            out: Output::new(next),
        }
    }

    fn ask(&mut self, record: T, timestamp: Option<EventTime>) {
        let answering = Answering {
            number: self.front + self.in_flight.len() as u64,
            answers: Arc::clone(&self.answers),
            answer: None,
        };
        let request = (self.ask)(record);
        self.in_flight.push_back(InFlight::Asked(timestamp));
        self.requests += 1;
        self.driver.spawn(Box::pin(async move {
            answering.leave(request.await);
        }));
    }

    /// Takes the answers that came, and hands on what may go.
    fn take(&mut self) -> Result<(), TaskError> {
        self.answers.take(&mut self.taken);
        self.answered()
    }

    /// Waits for answers, and takes them.
    fn wait(&mut self, waiting: Waiting) -> Result<(), TaskError> {
        let mailbox = &self.answers.mailbox;
        let mut until = Some(self.clock.now() + WAIT);
        loop {
            self.answers.take(&mut self.taken);
            if !self.taken.is_empty() {
                return self.answered();
            }
            // What the last answers made does not wait for others.
            self.out.hand_on()?;
            if mailbox.is_cancelled() {
                return Err(TaskError::Cancelled);
            }
            let left = until.map(|until| until.since(self.clock.now()));
            if left == Some(Duration::ZERO) {
                self.out.flush()?;
                until = None;
            } else {
                self.metrics.time.wait(waiting, || mailbox.park(left));
            }
        }
    }

    fn answered(&mut self) -> Result<(), TaskError> {
        let mut taken = std::mem::take(&mut self.taken);
        for (number, answer) in taken.drain(..) {
            let answer = answer.map_err(|why| OperatorError::transient(why).of(&self.name))?;
            let at = &mut self.in_flight[(number - self.front) as usize];
            let InFlight::Asked(timestamp) = *at else {
                unreachable!("a request leaves one answer");
            };
            let overtakes = match self.order {
                AnswerOrder::Ordered => false,
                AnswerOrder::Unordered => self.fences.front().is_none_or(|fence| number < *fence),
            };
            if overtakes {
                *at = InFlight::Gone;
                self.requests -= 1;
                self.out.push_mixed(answer, timestamp)?;
            } else {
                *at = InFlight::Answered(timestamp, answer);
            }
        }
        self.taken = taken;
        while let Some(first) = self.in_flight.pop_front() {
            self.front += 1;
            match first {
                InFlight::Asked(_) => {
                    self.in_flight.push_front(first);
                    self.front -= 1;
                    break;
                }
                InFlight::Answered(timestamp, answer) => {
                    self.requests -= 1;
                    self.out.push_mixed(answer, timestamp)?;
                }
                InFlight::Gone => {}
                InFlight::Watermark(watermark) => {
                    self.out.watermark(watermark)?;
                    self.pass_fence()?;
                }
                InFlight::Idle(idle) => {
                    self.out.idle(idle)?;
                    self.pass_fence()?;
                }
            }
        }
        Ok(())
    }

    /// A fence was at the front, and is gone: what waited for that may go now.
    fn pass_fence(&mut self) -> Result<(), TaskError> {
        self.fences.pop_front();
        match self.order {
            AnswerOrder::Ordered => Ok(()),
            AnswerOrder::Unordered => {
                let free = self.fences.front().map(|fence| fence - self.front);
                let free = free.map_or(self.in_flight.len(), |free| free as usize);
                for waiting in self.in_flight.range_mut(..free) {
                    if let InFlight::Answered(..) = waiting
                        && let InFlight::Answered(timestamp, answer) =
                            std::mem::replace(waiting, InFlight::Gone)
                    {
                        self.requests -= 1;
                        self.out.push_mixed(answer, timestamp)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Has something wait that no answer may overtake.
    fn fence(&mut self, fence: InFlight<U>) {
        self.fences
            .push_back(self.front + self.in_flight.len() as u64);
        self.in_flight.push_back(fence);
    }

    /// Waits until nothing is in flight.
    fn await_all(&mut self) -> Result<(), TaskError> {
        let name = Arc::clone(&self.name);
        attribute(&name, || {
            self.take()?;
            while !self.in_flight.is_empty() {
                self.wait(Waiting::Input)?;
            }
            Ok(())
        })
    }

    fn look(&mut self) -> Result<(), TaskError> {
        let name = Arc::clone(&self.name);
        attribute(&name, || self.take())
    }
}

impl<T: 'static, U: Send + 'static> Control for AsyncMap<T, U> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        Some(self.out.downstream())
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        self.fence(InFlight::Watermark(watermark));
        self.look()
    }

    fn idle(&mut self, idle: bool) -> Result<(), TaskError> {
        self.fence(InFlight::Idle(idle));
        self.look()
    }

    fn processing_time(&mut self, now: EventTime) -> Result<(), TaskError> {
        self.look()?;
        self.out.processing_time(now)
    }

    fn deadline(&mut self) -> Option<EventTime> {
        // Answers that came are to be looked at now.
        let look = self.answers.some.load(Ordering::SeqCst);
        let look = look.then_some(EventTime::MIN);
        let downstream = self.out.downstream().deadline();
        [look, downstream].into_iter().flatten().min()
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.look()?;
        self.out.flush()
    }

    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        // Requests are part of the state of whoever answers, not of ours: what was asked before the barrier is answered before it.
        self.await_all()?;
        self.out.snapshot(into)
    }

    fn end(&mut self) -> Result<(), TaskError> {
        self.await_all()?;
        self.out.end()
    }
}

impl<T: 'static, U: Send + 'static> Collector<T> for AsyncMap<T, U> {
    fn push(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        let name = Arc::clone(&self.name);
        attribute(&name, || {
            for (record, timestamp) in batch.drain() {
                while self.requests >= self.capacity {
                    self.wait(Waiting::Output)?;
                }
                self.ask(record, timestamp);
            }
            Ok::<(), TaskError>(())
        })?;
        self.look()?;
        self.out.hand_on()
    }
}
