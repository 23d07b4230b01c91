use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Sender, TryRecvError, channel};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use spindle_common::time::MonoTime;

use super::*;
use crate::mailbox::Signals;
use crate::operator::tests::{Seen, Seens, at, context, tape};

fn finish(mut request: Request) {
    let poll = request
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(poll, Poll::Ready(()));
}

/// Runs requests on a thread, in an order that the numbers choose.
struct Thread {
    requests: Mutex<Sender<Request>>,
    /// Those that are in flight, and the most that ever were.
    now: Arc<AtomicUsize>,
    most: AtomicUsize,
}

impl Thread {
    fn new(choices: Vec<usize>) -> Self {
        let (requests, queue) = channel::<Request>();
        let now = Arc::new(AtomicUsize::new(0));
        let running = Arc::clone(&now);
        std::thread::spawn(move || {
            let mut waiting: Vec<Request> = Vec::new();
            let mut choices = choices.into_iter().cycle();
            loop {
                match queue.try_recv() {
                    Ok(request) => waiting.push(request),
                    Err(_) if !waiting.is_empty() => {
                        let which = choices.next().unwrap_or(0) % waiting.len();
                        running.fetch_sub(1, Ordering::SeqCst);
                        finish(waiting.remove(which));
                    }
                    Err(TryRecvError::Empty) => match queue.recv() {
                        Ok(request) => waiting.push(request),
                        Err(_) => return,
                    },
                    Err(TryRecvError::Disconnected) => return,
                }
            }
        });
        Self {
            requests: Mutex::new(requests),
            now,
            most: AtomicUsize::new(0),
        }
    }
}

impl AsyncDriver for Thread {
    fn spawn(&self, request: Request) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.requests.lock().unwrap().send(request).unwrap();
    }
}

/// Keeps requests until they are finished by hand.
#[derive(Default)]
struct Hand(Mutex<Vec<Option<Request>>>);

impl AsyncDriver for Hand {
    fn spawn(&self, request: Request) {
        self.0.lock().unwrap().push(Some(request));
    }
}

impl Hand {
    fn finish(&self, which: usize) {
        let request = self.0.lock().unwrap()[which].take();
        finish(request.unwrap());
    }
}

fn operator(
    driver: &Arc<impl AsyncDriver + 'static>,
    order: AnswerOrder,
    capacity: usize,
) -> (AsyncMap<u64, u64>, Seens<u64>) {
    let (next, seen) = tape();
    let ask: Arc<Ask<u64, u64>> = Arc::new(|n| {
        let answer = if n == 13 {
            Err("no answer to 13".to_owned())
        } else {
            Ok(n * 10)
        };
        Box::pin(std::future::ready(answer))
    });
    let driver = Arc::clone(driver);
    let operator = AsyncMap::new(&context(0, 1), ask, driver, order, capacity, next);
    (operator, seen)
}

fn taken<U>(seen: &Seens<U>) -> Vec<Seen<U>> {
    seen.lock().unwrap().drain(..).collect()
}

#[test]
fn ordered_answers_wait_for_those_before_them() {
    let hand = Arc::new(Hand::default());
    let (mut operator, seen) = operator(&hand, AnswerOrder::Ordered, 10);
    operator.push(&mut Batch::from(vec![1, 2, 3])).unwrap();
    operator.watermark(at(5)).unwrap();
    hand.finish(1);
    operator.processing_time(EventTime(0)).unwrap();
    assert_eq!(taken(&seen), []);
    hand.finish(0);
    operator.processing_time(EventTime(0)).unwrap();
    assert_eq!(
        taken(&seen),
        [Seen::Record(10, None), Seen::Record(20, None)]
    );
    hand.finish(2);
    operator.flush().unwrap();
    assert_eq!(taken(&seen), [Seen::Record(30, None), Seen::Watermark(5)]);
    assert_eq!(operator.deadline(), None);
}

#[test]
fn unordered_answers_overtake_each_other_but_no_watermark() {
    let hand = Arc::new(Hand::default());
    let (mut operator, seen) = operator(&hand, AnswerOrder::Unordered, 10);
    operator.push(&mut Batch::from(vec![1, 2])).unwrap();
    operator.watermark(at(5)).unwrap();
    operator.push(&mut Batch::from(vec![3, 4])).unwrap();
    hand.finish(1);
    hand.finish(3);
    operator.flush().unwrap();
    assert_eq!(taken(&seen), [Seen::Record(20, None)]);
    assert_eq!(operator.deadline(), None);
    hand.finish(0);
    assert_eq!(operator.deadline(), Some(EventTime::MIN));
    operator.flush().unwrap();
    let rest = [
        Seen::Record(10, None),
        Seen::Watermark(5),
        Seen::Record(40, None),
    ];
    assert_eq!(taken(&seen), rest);
    hand.finish(2);
    operator.end().unwrap();
    assert_eq!(taken(&seen), [Seen::Record(30, None), Seen::End]);
}

#[test]
fn a_request_without_answer_fails_the_task_with_the_operators_name() {
    for lost in [false, true] {
        let hand = Arc::new(Hand::default());
        let (mut operator, _) = operator(&hand, AnswerOrder::Ordered, 10);
        operator.push(&mut Batch::from(vec![13])).unwrap();
        let expected = if lost {
            hand.0.lock().unwrap().clear();
            "operator `operator` the request panicked or was dropped"
        } else {
            hand.finish(0);
            "operator `operator` no answer to 13"
        };
        let cause = operator.flush().unwrap_err().into_cause();
        assert_eq!(cause.to_string(), expected);
    }
}

/// Counts; the task is told to stop, or gets an answer, while it waits the third time.
struct Counting {
    hand: Arc<Hand>,
    woken: AtomicUsize,
    parked: AtomicUsize,
    now: AtomicUsize,
    cancels: bool,
}

impl Signals for Counting {
    fn is_cancelled(&self) -> bool {
        self.cancels && self.parked.load(Ordering::SeqCst) == 3
    }

    fn wake(&self) {
        self.woken.fetch_add(1, Ordering::SeqCst);
    }

    fn park(&self, limit: Option<Duration>) {
        // The first two times it is woken for no reason, the second when it has waited for long.
        let parked = self.parked.fetch_add(1, Ordering::SeqCst) + 1;
        let expected = [Some(WAIT), Some(WAIT - Duration::from_millis(20)), None];
        assert_eq!(limit, expected[parked - 1]);
        self.now.fetch_add(parked * 20, Ordering::SeqCst);
        if parked == 3 && !self.cancels {
            self.hand.finish(0);
        }
    }
}

#[test]
fn a_full_operator_waits_for_an_answer_or_for_being_told_to_stop() {
    for cancels in [false, true] {
        let hand = Arc::new(Hand::default());
        let signals = Arc::new(Counting {
            hand: Arc::clone(&hand),
            woken: AtomicUsize::new(0),
            parked: AtomicUsize::new(0),
            now: AtomicUsize::new(0),
            cancels,
        });
        let time = Arc::clone(&signals);
        let clock = Clock::new(
            move || MonoTime::from_millis(time.now.load(Ordering::SeqCst) as u64),
            || EventTime(0),
        );
        let metrics = Arc::new(TaskMetrics::timed(clock.clone()));
        metrics.time.begin();
        let context = OperatorContext {
            clock,
            metrics: Arc::clone(&metrics),
            mailbox: Mailbox::new(Arc::clone(&signals) as _),
            ..context(0, 1)
        };
        let ask: Arc<Ask<u64, u64>> = Arc::new(|n| Box::pin(std::future::ready(Ok(n))));
        let (next, seen) = tape();
        let mut operator = AsyncMap::new(&context, ask, hand, AnswerOrder::Ordered, 1, next);
        let result = operator.push(&mut Batch::from(vec![1, 2]));
        assert_eq!(signals.parked.load(Ordering::SeqCst), 3);
        assert_eq!(metrics.snapshot().backpressured_ms, 20 + 40 + 60);
        if cancels {
            assert!(matches!(result, Err(TaskError::Cancelled)), "{result:?}");
        } else {
            result.unwrap();
            assert_eq!(taken(&seen), [Seen::Record(1, None)]);
        }
    }
}

#[test]
fn the_first_answer_that_nobody_took_wakes_the_task() {
    struct Woken(AtomicUsize);

    impl Signals for Woken {
        fn is_cancelled(&self) -> bool {
            false
        }

        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn park(&self, _: Option<Duration>) {}
    }

    let hand = Arc::new(Hand::default());
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let context = OperatorContext {
        mailbox: Mailbox::new(Arc::clone(&woken) as _),
        ..context(0, 1)
    };
    let ask: Arc<Ask<u64, u64>> = Arc::new(|n| Box::pin(std::future::ready(Ok(n))));
    let (next, seen) = tape();
    let driver = Arc::clone(&hand);
    let mut operator = AsyncMap::new(&context, ask, driver, AnswerOrder::Ordered, 5, next);
    operator.push(&mut Batch::from(vec![1, 2, 3])).unwrap();
    hand.finish(0);
    hand.finish(1);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    operator.processing_time(EventTime(0)).unwrap();
    assert_eq!(taken(&seen).len(), 2);
    assert_eq!(operator.deadline(), None);
    hand.finish(2);
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn answers_keep_their_places_among_watermarks(
        steps in prop::collection::vec(prop_oneof![
            4 => (14_u64..1000).prop_map(Some),
            1 => Just(None),
        ], 0..100),
        choices in prop::collection::vec(0_usize..10, 1..20),
        capacity in 1_usize..12,
        ordered in any::<bool>(),
    ) {
        let driver = Arc::new(Thread::new(choices));
        let order = if ordered { AnswerOrder::Ordered } else { AnswerOrder::Unordered };
        let (mut operator, seen) = operator(&driver, order, capacity);
        let mut expected = Vec::new();
        for (ms, step) in (0..).zip(steps) {
            match step {
                Some(n) => {
                    let mut batch = Batch::new();
                    batch.push(n, Some(EventTime(ms)));
                    operator.push(&mut batch).unwrap();
                    expected.push(Seen::Record(n * 10, Some(ms)));
                }
                None => {
                    operator.watermark(at(ms)).unwrap();
                    expected.push(Seen::Watermark(ms));
                }
            }
        }
        operator.end().unwrap();
        expected.push(Seen::End);
        let mut seen = taken(&seen);
        if !ordered {
            // Between two watermarks they may come in any order.
            for part in seen.split_mut(|seen| !matches!(seen, Seen::Record(..))) {
                part.sort_by_key(|seen| match seen {
                    Seen::Record(_, time) => *time,
                    Seen::Watermark(_) | Seen::Idle(_) | Seen::End => None,
                });
            }
        }
        prop_assert_eq!(seen, expected);
        prop_assert!(driver.most.load(Ordering::SeqCst) <= capacity);
    }
}
