//! Where buffers enter a chain: the types of its records are known here, and not to the task.

use crate::batch::Batch;
use crate::channel::Buffer;
use crate::collector::{Collector, Control};
use crate::exchange::{CodecError, Element, Elements, Event, LocalElements};
use crate::record::Record;
use crate::task::TaskError;

/// What the task does with something that is no record.
pub type OnEvent<'a> = dyn FnMut(Event, &mut dyn Control) -> Result<(), TaskError> + 'a;

/// One input of the chain's first operator.
pub trait Port {
    /// Pushes the buffer's records into the chain, and hands what is between them to `on_event`, in order. Leaves the buffer to be
    /// filled again.
    ///
    /// # Errors
    /// What ends the task.
    fn take_in(&mut self, buffer: &mut Buffer, on_event: &mut OnEvent<'_>)
    -> Result<(), TaskError>;

    /// The first operator.
    fn control(&mut self) -> &mut dyn Control;
}

/// The [`Port`] for records of type `T`.
pub struct TypedPort<T> {
    /// What the last records left: their memory is used again.
    batch: Batch<T>,
    first: Box<dyn Collector<T>>,
}

impl<T> TypedPort<T> {
    /// The port that feeds `first`.
    pub const fn new(first: Box<dyn Collector<T>>) -> Self {
        Self {
            batch: Batch {
                records: Vec::new(),
                timestamps: Vec::new(),
            },
            first,
        }
    }
}

impl<T: Record> TypedPort<T> {
    fn encoded(&mut self, bytes: &[u8], on_event: &mut OnEvent<'_>) -> Result<(), TaskError> {
        let mut elements = Elements::<T>::of(bytes);
        let malformed = |error: CodecError| TaskError::Codec {
            reason: error.to_string(),
        };
        while let Some(element) = elements.next(&mut self.batch).map_err(malformed)? {
            match element {
                Element::Records => self.first.push(&mut self.batch)?,
                Element::Event(event) => on_event(event, &mut *self.first)?,
            }
        }
        Ok(())
    }

    fn local(
        &mut self,
        elements: &mut LocalElements<T>,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(), TaskError> {
        let LocalElements { batch, events } = elements;
        // Nearly always all events stand behind all records.
        let mut taken = 0;
        let mut whole = true;
        for (at, event) in events.drain(..) {
            let here = at - taken;
            if here > 0 {
                if here == batch.len() {
                    self.first.push(batch)?;
                    batch.clear();
                } else {
                    whole = false;
                    let timed = here.min(batch.timestamps.len());
                    self.batch.clear();
                    self.batch.records.extend(batch.records.drain(..here));
                    self.batch
                        .timestamps
                        .extend(batch.timestamps.drain(..timed));
                    self.first.push(&mut self.batch)?;
                }
                taken = at;
            }
            on_event(event, &mut *self.first)?;
        }
        if !batch.is_empty() {
            self.first.push(batch)?;
        }
        if !whole {
            self.batch.clear();
        }
        Ok(())
    }
}

impl<T: Record> Port for TypedPort<T> {
    fn take_in(
        &mut self,
        buffer: &mut Buffer,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(), TaskError> {
        match &mut buffer.objects {
            None => self.encoded(&buffer.bytes, on_event),
            Some(objects) => {
                let elements = objects
                    .0
                    .downcast_mut::<LocalElements<T>>()
                    .ok_or_else(|| TaskError::Codec {
                        reason: "the objects in a buffer are of another type".to_owned(),
                    })?;
                self.local(elements, on_event)?;
                elements.clear();
                Ok(())
            }
        }
    }

    fn control(&mut self) -> &mut dyn Control {
        &mut *self.first
    }
}
