//! How watermarks follow from records.

use std::sync::Arc;
use std::time::Duration;

use spindle_common::time::{EventTime, Watermark};

/// How often a generator is asked where nothing else is said. Flink: `pipeline.auto-watermark-interval`.
const INTERVAL: Duration = Duration::from_millis(200);

/// Makes the watermarks of one subtask. Flink: `WatermarkGenerator`.
///
/// What it remembers is not part of a snapshot: a restored subtask gets a new one, and a watermark goes out when it is higher than the last before
/// the snapshot.
pub trait WatermarkGenerator<T>: 'static {
    /// Looks at a record and its event time. A watermark that it gives goes out behind the record; one that is not higher than those
    /// before is left out.
    fn on_event(&mut self, record: &T, time: EventTime) -> Option<Watermark>;

    /// Called each time an interval of processing time has passed.
    fn on_periodic(&mut self, now: EventTime) -> Option<Watermark> {
        let _ = now;
        None
    }
}

type MakeGenerator<T> = dyn Fn() -> Box<dyn WatermarkGenerator<T>> + Send + Sync;

enum Kind<T> {
    Bounded { bound_ms: i64 },
    PerRecord(Arc<MakeGenerator<T>>),
    Custom(Arc<MakeGenerator<T>>),
}

impl<T> Clone for Kind<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Bounded { bound_ms } => Self::Bounded {
                bound_ms: *bound_ms,
            },
            Self::PerRecord(make) => Self::PerRecord(Arc::clone(make)),
            Self::Custom(make) => Self::Custom(Arc::clone(make)),
        }
    }
}

/// How watermarks follow from the event times of records. Flink: `WatermarkStrategy`.
pub struct WatermarkStrategy<T> {
    kind: Kind<T>,
    interval_ms: i64,
    idle_timeout_ms: Option<i64>,
}

impl<T> Clone for WatermarkStrategy<T> {
    fn clone(&self) -> Self {
        Self {
            kind: self.kind.clone(),
            interval_ms: self.interval_ms,
            idle_timeout_ms: self.idle_timeout_ms,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl<T: 'static> WatermarkStrategy<T> {
    fn of(kind: Kind<T>) -> Self {
        Self {
            kind,
            interval_ms: millis(INTERVAL),
            idle_timeout_ms: None,
        }
    }

    /// Each subtask sees its records in order of event time.
    pub fn monotonous() -> Self {
        Self::bounded_out_of_orderness(Duration::ZERO)
    }

    /// No record comes this much later, in event time, than one that its subtask saw before. What does is late.
    pub fn bounded_out_of_orderness(bound: Duration) -> Self {
        Self::of(Kind::Bounded {
            bound_ms: millis(bound),
        })
    }

    /// Some records say themselves how far event time has come: the function is given each with its event time. Such a watermark goes out
    /// right behind its record. Flink: punctuated watermarks.
    pub fn per_record(
        watermark_of: impl Fn(&T, EventTime) -> Option<Watermark> + Send + Sync + 'static,
    ) -> Self {
        let watermark_of = Arc::new(watermark_of);
        Self::of(Kind::PerRecord(Arc::new(move || {
            Box::new(PerRecord(Arc::clone(&watermark_of)))
        })))
    }

    /// A generator of the program's own, made for each subtask.
    pub fn custom<G: WatermarkGenerator<T>>(make: impl Fn() -> G + Send + Sync + 'static) -> Self {
        Self::of(Kind::Custom(Arc::new(move || Box::new(make()))))
    }

    /// How often [`WatermarkGenerator::on_periodic`] is called; each 200 ms unless this says else.
    #[must_use]
    pub fn with_interval(self, interval: Duration) -> Self {
        Self {
            interval_ms: millis(interval).max(1),
            ..self
        }
    }

    /// A subtask that gets no records for this long does not hold event time back until it gets one again.
    #[must_use]
    pub fn with_idleness(self, timeout: Duration) -> Self {
        Self {
            idle_timeout_ms: Some(millis(timeout).max(1)),
            ..self
        }
    }

    pub(super) fn generation(&self) -> Generation<T> {
        match &self.kind {
            Kind::Bounded { bound_ms } => Generation::Bounded {
                bound_ms: *bound_ms,
                latest: None,
            },
            Kind::PerRecord(make) | Kind::Custom(make) => Generation::Each(make()),
        }
    }

    /// How often the generator is to be asked, if it is.
    pub(super) const fn interval_ms(&self) -> Option<i64> {
        match &self.kind {
            Kind::Bounded { .. } | Kind::PerRecord(_) => None,
            Kind::Custom(_) => Some(self.interval_ms),
        }
    }

    pub(super) const fn idle_timeout_ms(&self) -> Option<i64> {
        self.idle_timeout_ms
    }
}

struct PerRecord<F>(Arc<F>);

impl<T, F> WatermarkGenerator<T> for PerRecord<F>
where
    F: Fn(&T, EventTime) -> Option<Watermark> + 'static,
{
    fn on_event(&mut self, record: &T, time: EventTime) -> Option<Watermark> {
        (self.0)(record, time)
    }
}

/// How one subtask goes about it.
pub(super) enum Generation<T> {
    /// Looks at the latest event time of each batch.
    Bounded {
        bound_ms: i64,
        latest: Option<EventTime>,
    },
    /// Looks at each record.
    Each(Box<dyn WatermarkGenerator<T>>),
}
