//! Where buffers enter a chain: the types of its records are known here, and not to the task.

use crate::batch::Batch;
use crate::channel::Buffer;
use crate::collector::{Collector, Control};
use crate::exchange::{CodecError, Element, Elements, Event, LocalElements, Partitioner, Route};
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

    /// The same with the first element of encoded ones, some records or an event. Returns how many bytes it took. With `share`, an edge,
    /// only records that would come over that edge to this subtask.
    ///
    /// # Errors
    /// What ends the task.
    fn take_element(
        &mut self,
        bytes: &[u8],
        share: Option<usize>,
        on_event: &mut OnEvent<'_>,
    ) -> Result<usize, TaskError>;

    /// Whether it can tell of each record that came over this edge whether it would come to this subtask.
    fn can_share(&self, edge: usize) -> bool;

    /// Name of the type of the records.
    fn records(&self) -> &'static str;

    /// The first operator.
    fn control(&mut self) -> &mut dyn Control;
}

/// Which records of an edge come to a subtask.
pub struct Share<T> {
    /// Which of the edges that feed the vertex.
    pub edge: usize,
    /// What chooses consumers there; by nothing but the record.
    pub partitioner: Box<dyn Partitioner<T>>,
    /// Number of subtasks.
    pub consumers: usize,
    /// The one.
    pub subtask: usize,
}

impl<T> Share<T> {
    fn keep(&mut self, batch: &mut Batch<T>) {
        let mut targets = Vec::new();
        let route = self
            .partitioner
            .route(&batch.records, self.consumers, &mut targets);
        let mine: Vec<bool> = match route {
            Route::All => return,
            Route::One(only) => vec![only == self.subtask; batch.len()],
            Route::Listed => {
                let mine = targets.iter();
                mine.map(|target| *target == self.subtask as u64).collect()
            }
        };
        let mut keep = mine.iter().copied();
        batch.records.retain(|_| keep.next().unwrap_or(false));
        let mut keep = mine.into_iter();
        batch.timestamps.retain(|_| keep.next().unwrap_or(false));
    }
}

/// The [`Port`] for records of type `T`.
pub struct TypedPort<T> {
    /// Of the edges whose records are chosen by key.
    shares: Vec<Share<T>>,
    /// What the last records left: their memory is used again.
    batch: Batch<T>,
    first: Box<dyn Collector<T>>,
}

impl<T> TypedPort<T> {
    /// The port that feeds `first`.
    pub const fn new(first: Box<dyn Collector<T>>) -> Self {
        Self::sharing(first, Vec::new())
    }

    /// The port that feeds `first` and knows which records come to it.
    pub const fn sharing(first: Box<dyn Collector<T>>, shares: Vec<Share<T>>) -> Self {
        Self {
            shares,
            batch: Batch {
                records: Vec::new(),
                timestamps: Vec::new(),
            },
            first,
        }
    }

    /// The first operator.
    pub(super) fn first(&mut self) -> &mut dyn Collector<T> {
        &mut *self.first
    }
}

impl<T: Record> TypedPort<T> {
    fn encoded(&mut self, bytes: &[u8], on_event: &mut OnEvent<'_>) -> Result<(), TaskError> {
        let mut elements = Elements::<T>::of(bytes);
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
                let elements = objects.downcast_mut::<LocalElements<T>>();
                let elements = elements.ok_or_else(|| TaskError::Codec {
                    reason: "the objects in a buffer are of another type".to_owned(),
                })?;
                self.local(elements, on_event)?;
                elements.clear();
                Ok(())
            }
        }
    }

    fn take_element(
        &mut self,
        bytes: &[u8],
        share: Option<usize>,
        on_event: &mut OnEvent<'_>,
    ) -> Result<usize, TaskError> {
        let mut elements = Elements::<T>::of(bytes);
        match elements.next(&mut self.batch).map_err(malformed)? {
            Some(Element::Records) => {
                let mut shares = self.shares.iter_mut();
                if let Some(share) = shares.find(|it| share == Some(it.edge)) {
                    share.keep(&mut self.batch);
                }
                if !self.batch.is_empty() {
                    self.first.push(&mut self.batch)?;
                }
            }
            Some(Element::Event(event)) => on_event(event, &mut *self.first)?,
            None => {}
        }
        Ok(bytes.len() - elements.left())
    }

    fn can_share(&self, edge: usize) -> bool {
        self.shares.iter().any(|share| share.edge == edge)
    }

    fn records(&self) -> &'static str {
        std::any::type_name::<T>()
    }

    fn control(&mut self) -> &mut dyn Control {
        &mut *self.first
    }
}

fn malformed(error: CodecError) -> TaskError {
    TaskError::Codec {
        reason: error.to_string(),
    }
}
