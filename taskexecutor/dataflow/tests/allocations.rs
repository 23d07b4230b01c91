//! What a task takes from the allocator once its memory has grown to what it needs: some for a batch at most, none for a record.
//!
//! Whole tasks are counted: buffers are decoded, records go through an operator, and buffers are filled and given back, as a worker
//! does it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use spindle_common::checkpoint::SubtaskSnapshot;
use spindle_common::time::{EventTime, MonoTime, Watermark};
use spindle_dataflow::batch::{BATCH_RECORDS, Batch};
use spindle_dataflow::chain::{Clock, GateTask, Inputs, SourceTask, TaskParts, TypedPort};
use spindle_dataflow::channel::{Buffer, GateEvent, InputGate, ResultPartition};
use spindle_dataflow::collector::{Collector, SideOutputs};
use spindle_dataflow::connector::{OperatorError, Sink, SourceReader, SourceStatus};
use spindle_dataflow::exchange::{Encoder, Event, ExchangeWriter, Forward, HashPartitioner};
use spindle_dataflow::key::{ByRef, ByValue, KeySelector};
use spindle_dataflow::mailbox::Mailbox;
use spindle_dataflow::operator::{
    AssignTimestamps, Count, EndOfWindow, OperatorContext, Results, RunningAggregate, Scan,
    SinkOperator, SlidingWindows, TimeWindow, TumblingWindows, WatermarkStrategy, WindowSpec,
    Windows, window_operator,
};
use spindle_dataflow::record::Record;
use spindle_dataflow::snapshot::{Restored, StateOwner};
use spindle_dataflow::task::{NoSnapshots, Task, TaskError};

/// The system's allocator, which counts for each thread how often it is asked for memory.
struct Counting;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may still ask.
    let _ = TAKEN.try_with(|taken| taken.set(taken.get() + 1));
}

#[expect(unsafe_code, reason = "an allocator cannot be had without")]
// SAFETY: it hands all calls on as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller has promised what the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller has promised what the system's allocator asks for.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller has promised what the system's allocator asks for.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Different keys.
const KEYS: u64 = 1000;
/// Records after which memory has grown to what is needed: with the event times of [`event`], of three windows.
const WARM_UP: u64 = 300_000;
/// Records that are counted: of five windows.
const COUNTED: u64 = 500_000;
const ALL: u64 = WARM_UP + COUNTED;
/// Buffers go when they are full, and not before.
const HOUR: Duration = Duration::from_secs(3600);

/// The key of a record: each comes once in so many.
const fn key(index: u64) -> u64 {
    index * 7919 % KEYS
}

/// A key and an event time: 10,000 in a second.
const fn event(index: u64) -> (u64, i64) {
    (key(index), (index / 10) as i64)
}

fn word(index: u64) -> String {
    format!("word number {:05}", key(index))
}

/// Buffers that are there from the beginning, in the order of their coming.
struct Arrived(VecDeque<Buffer>);

impl InputGate for Arrived {
    fn channels(&self) -> usize {
        1
    }

    fn next(&mut self, _: Option<MonoTime>) -> Result<GateEvent, TaskError> {
        let buffer = self.0.pop_front().ok_or(TaskError::Cancelled)?;
        Ok(GateEvent::Buffer(0, buffer))
    }

    fn block(&mut self, _: usize) {}

    fn resume(&mut self) {}
}

/// Two consumers that have read everything at once.
struct Read {
    local: bool,
    records: Arc<AtomicU64>,
    read: [Option<Buffer>; 2],
}

impl ResultPartition for Read {
    fn subpartitions(&self) -> usize {
        2
    }

    fn emit(&mut self, subpartition: usize, buffer: Buffer) -> Result<(), TaskError> {
        self.records
            .fetch_add(u64::from(buffer.records), Ordering::Relaxed);
        self.read[subpartition] = Some(buffer);
        Ok(())
    }

    fn is_local(&self, _: usize) -> bool {
        self.local
    }

    fn recycled(&mut self, subpartition: usize) -> Option<Buffer> {
        self.read[subpartition].take()
    }
}

/// The way out to two consumers by a key, and how many records went it.
fn exit<T: Record>(
    local: bool,
    key: impl Fn(&T) -> u64 + Send + Sync + 'static,
) -> (Box<dyn Collector<T>>, Arc<AtomicU64>) {
    let records = Arc::<AtomicU64>::default();
    let partition = Read {
        local,
        records: Arc::clone(&records),
        read: [None, None],
    };
    let partitioner = HashPartitioner::new(Arc::new(ByValue(key)), 128);
    let writer = ExchangeWriter::new(
        Arc::from("counted"),
        Box::new(partition),
        Box::new(partitioner),
        Arc::default(),
    );
    (Box::new(writer), records)
}

fn clock() -> Clock {
    Clock::new(|| MonoTime::ZERO, || EventTime(0))
}

fn context() -> OperatorContext {
    OperatorContext {
        uid: Arc::from("counted"),
        name: Arc::from("counted"),
        subtask: 0,
        parallelism: 1,
        max_parallelism: 128,
        metrics: Arc::default(),
        clock: clock(),
        sides: SideOutputs::default(),
        stores: None,
        mailbox: Mailbox::default(),
    }
}

/// A task that gets all records, with a watermark behind each batch.
fn gate_task<T: Record>(
    make: impl Fn(u64) -> (T, Option<i64>),
    first: Box<dyn Collector<T>>,
) -> GateTask {
    let mut buffers = VecDeque::new();
    let mut encoder = Encoder::default();
    for index in 0..ALL {
        let (record, time) = make(index);
        encoder
            .record(&record, time.map(EventTime))
            .expect("the record encodes");
        if let Some(time) = time
            && index % BATCH_RECORDS as u64 == 0
        {
            encoder.event(Event::Watermark(Watermark(EventTime(time - 1))));
        }
        if encoder.is_full() {
            buffers.extend(encoder.take());
        }
    }
    buffers.extend(encoder.take());
    GateTask::new(
        Inputs {
            gate: Box::new(Arrived(buffers)),
            ports: vec![Box::new(TypedPort::new(first))],
            ports_of_edges: vec![0],
            edges: vec![0],
            owner: StateOwner::of(&context()),
            unaligned: true,
        },
        &Restored::new(SubtaskSnapshot::default()),
        parts(),
    )
    .expect("nothing is restored")
}

fn parts() -> TaskParts {
    TaskParts {
        metrics: Arc::default(),
        clock: clock(),
        buffer_timeout: HOUR,
        snapshots: Box::new(NoSnapshots),
    }
}

/// Makes records from their numbers, for ever.
struct Numbered<F> {
    next: u64,
    make: F,
}

impl<T, F: Fn(u64) -> T + Send> SourceReader<T> for Numbered<F> {
    fn read(&mut self, out: &mut Batch<T>) -> Result<SourceStatus, OperatorError> {
        let end = self.next + BATCH_RECORDS as u64;
        out.records.extend((self.next..end).map(&self.make));
        self.next = end;
        Ok(SourceStatus::More)
    }
}

fn source_task<T: 'static>(
    make: impl Fn(u64) -> T + Send + 'static,
    first: Box<dyn Collector<T>>,
) -> SourceTask<T> {
    SourceTask::new(
        StateOwner::of(&context()),
        Box::new(Numbered { next: 0, make }),
        first,
        &Restored::new(SubtaskSnapshot::default()),
        parts(),
    )
    .expect("nothing is restored")
}

/// Drops what it is given.
struct Discard;

impl<T> Sink<T> for Discard {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<(), OperatorError> {
        batch.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<bool, OperatorError> {
        Ok(false)
    }
}

/// How often a task asks for memory while it works on the counted records, after as many steps as the others take.
fn allocations(task: &mut dyn Task, steps: u64) -> u64 {
    let step = |task: &mut dyn Task| {
        task.step().expect("the task goes on");
    };
    let warm_up = steps * WARM_UP / ALL;
    (0..warm_up).for_each(|_| step(task));
    let before = TAKEN.get();
    (warm_up..steps).for_each(|_| step(task));
    TAKEN.get() - before
}

/// Steps that a source takes for all records.
const SOURCE_STEPS: u64 = ALL / BATCH_RECORDS as u64;

/// Checks that next to nothing was taken: a hundredth of what one for each record would be.
#[track_caller]
fn assert_none_per_record(allocations: u64) {
    assert!(
        allocations < COUNTED / 100,
        "{allocations} allocations for {COUNTED} records"
    );
}

fn windows(
    windows: impl Into<Windows<(u64, i64)>>,
    next: Box<dyn Collector<(u64, i64, u64)>>,
) -> Box<dyn Collector<(u64, i64)>> {
    let windows = windows.into();
    let spec = WindowSpec {
        selector: Arc::new(ByValue(|(key, _): &(u64, i64)| *key)),
        windows: windows.clone(),
        lateness_ms: 0,
        late: None,
    };
    let output = |key: &u64, window: TimeWindow, count: u64| (*key, window.start.0, count);
    window_operator(
        &context(),
        &spec,
        Arc::new(Count),
        Arc::new(Results(output)),
        Arc::new(EndOfWindow::of(&windows)),
        next,
    )
}

/// Steps of the task that [`gate_task`] makes.
fn buffers<T: Record>(make: impl Fn(u64) -> (T, Option<i64>)) -> u64 {
    let mut encoder = Encoder::default();
    let mut buffers = 0;
    for index in 0..ALL {
        let (record, time) = make(index);
        encoder
            .record(&record, time.map(EventTime))
            .expect("the record encodes");
        if encoder.is_full() {
            encoder.take();
            buffers += 1;
        }
    }
    buffers
}

#[test]
fn the_counter_counts() {
    let mut task = source_task(
        word,
        Box::new(SinkOperator::new(&context(), Box::new(Discard))),
    );
    let taken = allocations(&mut task, SOURCE_STEPS);
    assert!((COUNTED..COUNTED * 11 / 10).contains(&taken), "{taken}");
}

#[test]
fn windows_that_fire_between_two_exchanges_take_none_for_a_record() {
    let timed = |index| (event(index), Some(event(index).1));
    let ten_seconds = Duration::from_secs(10);
    let all: [Windows<(u64, i64)>; 2] = [
        TumblingWindows::of(ten_seconds).into(),
        SlidingWindows::of(ten_seconds, ten_seconds / 5).into(),
    ];
    for (local, kind) in [false, true].into_iter().zip(all) {
        let (next, out) = exit(local, |(key, _, _): &(u64, i64, u64)| *key);
        let mut task = gate_task(timed, windows(kind, next));
        assert_none_per_record(allocations(&mut task, buffers(timed)));
        assert!(out.load(Ordering::Relaxed) >= 5 * KEYS, "{out:?}");
    }
}

#[test]
fn a_source_with_event_times_and_windows_takes_none_for_a_record() {
    let (next, out) = exit(true, |(key, _, _): &(u64, i64, u64)| *key);
    let first = AssignTimestamps::new(
        &context(),
        &WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(1)),
        Arc::new(|(_, time): &(u64, i64)| EventTime(*time)),
        windows(TumblingWindows::of(Duration::from_secs(10)), next),
    );
    let mut task = source_task(event, Box::new(first));
    assert_none_per_record(allocations(&mut task, SOURCE_STEPS));
    assert!(out.load(Ordering::Relaxed) >= 5 * KEYS, "{out:?}");
}

/// A word is its own key.
fn whole(word: &String) -> &String {
    word
}

fn words_by_ref() -> Arc<dyn KeySelector<String, String>> {
    Arc::new(ByRef(whole))
}

#[test]
fn words_that_are_counted_between_two_exchanges_take_none_for_a_record() {
    let (next, out) = exit(false, |count: &u64| *count);
    let first = RunningAggregate::new(&context(), words_by_ref(), Arc::new(Count), next);
    let mut task = gate_task(|index| (word(index), None), Box::new(first));
    let steps = buffers(|index| (word(index), None));
    assert_none_per_record(allocations(&mut task, steps));
    assert!(out.load(Ordering::Relaxed) > COUNTED, "{out:?}");
}

/// The word count of the benchmark: the word goes on with its count.
fn scan(next: Box<dyn Collector<(String, u64)>>) -> Box<dyn Collector<String>> {
    let count = |count: &mut u64, word| {
        *count += 1;
        (word, *count)
    };
    Box::new(Scan::new(
        &context(),
        words_by_ref(),
        Arc::new(|| 0),
        Arc::new(count),
        next,
    ))
}

#[test]
fn a_source_of_words_that_are_counted_takes_only_what_makes_the_words() {
    let sink = Box::new(SinkOperator::new(&context(), Box::new(Discard)));
    let mut task = source_task(word, scan(sink));
    let taken = allocations(&mut task, SOURCE_STEPS);
    assert!(taken >= COUNTED, "{taken}: the words are counted too");
    // Each word is taken from the allocator by `format!`, in the user's code.
    let mut only_words = source_task(
        word,
        Box::new(SinkOperator::new(&context(), Box::new(Discard))),
    );
    let words = allocations(&mut only_words, SOURCE_STEPS);
    assert_none_per_record(taken.saturating_sub(words));
}

#[test]
fn a_source_that_deals_words_out_takes_only_what_makes_the_words() {
    let out = Read {
        local: true,
        records: Arc::default(),
        read: [None, None],
    };
    let writer = ExchangeWriter::<String>::new(
        Arc::from("counted"),
        Box::new(out),
        Box::new(Forward),
        Arc::default(),
    );
    let mut task = source_task(word, Box::new(writer));
    let taken = allocations(&mut task, SOURCE_STEPS);
    let mut only_words = source_task(
        word,
        Box::new(SinkOperator::new(&context(), Box::new(Discard))),
    );
    let words = allocations(&mut only_words, SOURCE_STEPS);
    assert_none_per_record(taken.saturating_sub(words));
}
