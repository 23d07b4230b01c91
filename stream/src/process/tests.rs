use std::sync::atomic::{AtomicBool, Ordering};

use spindle_common::job_graph::SourceSplit;
use spindle_dataflow::batch::Batch;
use spindle_dataflow::connector::{OperatorError, SourceReader, SourceStatus};

use super::*;
use crate::connector::Source;
use crate::context::{PlanContext, PlanError, SourceContext};
use crate::testing::Harness;
use crate::{
    EventTime, FunctionResult, KeyedContext, OutputTag, ProcessContext, TimeDomain, Timer,
};

/// One record, and no end before somebody says so.
struct OneThenWait(Arc<AtomicBool>);

impl Source<u64> for OneThenWait {
    fn plan(&self, context: &PlanContext) -> Result<Vec<Vec<SourceSplit>>, PlanError> {
        Ok(vec![Vec::new(); context.parallelism as usize])
    }

    fn reader(
        &self,
        _: Vec<SourceSplit>,
        _: SourceContext,
    ) -> Result<Box<dyn SourceReader<u64>>, OperatorError> {
        let end = Arc::clone(&self.0);
        Ok(Box::new(Reader { end, read: false }))
    }
}

struct Reader {
    end: Arc<AtomicBool>,
    read: bool,
}

impl SourceReader<u64> for Reader {
    fn read(&mut self, out: &mut Batch<u64>) -> Result<SourceStatus, OperatorError> {
        if !self.read {
            self.read = true;
            out.push(7, None);
        }
        if self.end.load(Ordering::SeqCst) {
            return Ok(SourceStatus::EndOfInput);
        }
        std::thread::yield_now();
        Ok(SourceStatus::More)
    }
}

/// Ends the input when its timer has fired, and sets another that is never to fire.
struct Alarm(Arc<AtomicBool>);

impl KeyedProcessFunction<u64, u64, (u64, bool)> for Alarm {
    fn process(&mut self, _: u64, ctx: &mut KeyedContext<'_, u64, (u64, bool)>) -> FunctionResult {
        let due = ctx.processing_time().as_millis() + 5;
        ctx.register_processing_time_timer(EventTime::from_millis(due));
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut KeyedContext<'_, u64, (u64, bool)>,
    ) -> FunctionResult {
        let in_time =
            timer.domain == TimeDomain::ProcessingTime && ctx.processing_time() >= timer.time;
        let key = *ctx.key();
        ctx.emit((key, in_time));
        ctx.register_processing_time_timer(EventTime::MAX);
        self.0.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_timer_of_processing_time_fires_while_no_records_come() {
    for parallelism in [1, 2] {
        let mut harness = Harness::new(parallelism);
        let end = Arc::new(AtomicBool::new(false));
        let source = OneThenWait(Arc::clone(&end));
        harness
            .env()
            .source("wait", source)
            .set_parallelism(1)
            .key_by(|n| *n)
            .process(move |_: &mut States| Alarm(Arc::clone(&end)))
            .collect("fired");
        let fired: Vec<(u64, bool)> = harness.run().unwrap().collected("fired");
        assert_eq!(fired, [(7, true)]);
    }
}

#[test]
fn side_outputs_go_their_own_ways() {
    let mut harness = Harness::new(2);
    let (odd, large) = (
        OutputTag::<String>::new("odd"),
        OutputTag::<u64>::new("large"),
    );
    let unread = OutputTag::<u8>::new("unread");
    let tags = (odd.clone(), large.clone());
    let all = harness
        .env()
        .generate(10_000, |n| n)
        .process(move |_: &mut OperatorStates| {
            let ((odd, large), unread) = (tags.clone(), unread.clone());
            move |n: u64, ctx: &mut ProcessContext<'_, u64>| {
                ctx.emit(n);
                ctx.output(&unread, 1);
                if n % 2 == 1 {
                    ctx.output(&odd, n.to_string());
                }
                if n >= 9000 {
                    ctx.output(&large, n);
                }
                Ok(())
            }
        });
    all.collect("all");
    all.side_output(&large)
        .key_by(|n| n % 10)
        .reduce(u64::max)
        .collect("large");
    all.side_output(&odd).map(|text| text.len()).collect("odd");
    let finished = harness.run().unwrap();
    assert_eq!(finished.collected::<u64>("all").len(), 10_000);
    assert_eq!(finished.collected::<usize>("odd").len(), 5_000);
    assert_eq!(finished.collected::<u64>("large").len(), 1_000);
}
