//! An operator with two inputs, seen as the two collectors that a task feeds.

use std::cell::RefCell;
use std::rc::Rc;

use spindle_common::checkpoint::CheckpointId;
use spindle_common::time::{EventTime, Watermark};

use crate::batch::Batch;
use crate::collector::{Collector, Control};
use crate::snapshot::{Restored, Snapshot};
use crate::task::TaskError;

/// An operator that takes batches of two types.
pub(crate) trait TwoInputs<A, B>: Control {
    /// [`Collector::push`] of the first input.
    fn push_first(&mut self, batch: &mut Batch<A>) -> Result<(), TaskError>;

    /// [`Collector::push`] of the second input.
    fn push_second(&mut self, batch: &mut Batch<B>) -> Result<(), TaskError>;
}

/// A collector for each input. What concerns the whole operator comes through the first.
pub(crate) fn inputs<A: 'static, B: 'static>(
    operator: impl TwoInputs<A, B> + 'static,
) -> (Box<dyn Collector<A>>, Box<dyn Collector<B>>) {
    let operator: Rc<RefCell<dyn TwoInputs<A, B>>> = Rc::new(RefCell::new(operator));
    let first = First(Rc::clone(&operator));
    (Box::new(first), Box::new(Second(operator)))
}

struct First<A, B>(Rc<RefCell<dyn TwoInputs<A, B>>>);

struct Second<A, B>(Rc<RefCell<dyn TwoInputs<A, B>>>);

impl<A, B> Collector<A> for First<A, B> {
    fn push(&mut self, batch: &mut Batch<A>) -> Result<(), TaskError> {
        self.0.borrow_mut().push_first(batch)
    }
}

impl<A, B> Collector<B> for Second<A, B> {
    fn push(&mut self, batch: &mut Batch<B>) -> Result<(), TaskError> {
        self.0.borrow_mut().push_second(batch)
    }
}

impl<A, B> Control for Second<A, B> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        None
    }
}

impl<A, B> Control for First<A, B> {
    fn downstream(&mut self) -> Option<&mut dyn Control> {
        // It cannot be lent out of the cell: each call is handed on below.
        None
    }

    fn watermark(&mut self, watermark: Watermark) -> Result<(), TaskError> {
        self.0.borrow_mut().watermark(watermark)
    }

    fn idle(&mut self, idle: bool) -> Result<(), TaskError> {
        self.0.borrow_mut().idle(idle)
    }

    fn processing_time(&mut self, now: EventTime) -> Result<(), TaskError> {
        self.0.borrow_mut().processing_time(now)
    }

    fn deadline(&mut self) -> Option<EventTime> {
        self.0.borrow_mut().deadline()
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.0.borrow_mut().flush()
    }

    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        self.0.borrow_mut().snapshot(into)
    }

    fn restore(&mut self, from: &Restored) -> Result<(), TaskError> {
        self.0.borrow_mut().restore(from)
    }

    fn begin(&mut self) -> Result<(), TaskError> {
        self.0.borrow_mut().begin()
    }

    fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<(), TaskError> {
        self.0.borrow_mut().checkpoint_complete(checkpoint)
    }

    fn end(&mut self) -> Result<(), TaskError> {
        self.0.borrow_mut().end()
    }

    fn snapshot_ended(&mut self, into: &mut Snapshot) -> Result<(), TaskError> {
        self.0.borrow_mut().snapshot_ended(into)
    }

    fn end_again(&mut self) -> Result<(), TaskError> {
        self.0.borrow_mut().end_again()
    }

    fn needs_commit(&mut self) -> bool {
        self.0.borrow_mut().needs_commit()
    }

    fn commit(&mut self) -> Result<(), TaskError> {
        self.0.borrow_mut().commit()
    }

    fn take_collected(&mut self, into: &mut Vec<(String, Vec<u8>)>) {
        self.0.borrow_mut().take_collected(into);
    }
}
