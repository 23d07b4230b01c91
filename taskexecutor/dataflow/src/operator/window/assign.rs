//! Windows, and which of them a record belongs to.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spindle_common::time::EventTime;

/// Instants farther from the epoch than this count as this far away (36 million years): windows are computed without overflow.
pub(super) const FAR: i64 = 1 << 60;

/// A stretch of time, from `start` on and before `end`: of event time, or of processing time for windows on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimeWindow {
    /// First instant of it.
    pub start: EventTime,
    /// First instant after it.
    pub end: EventTime,
}

impl TimeWindow {
    /// All of time: the one window of [`GlobalWindows`].
    pub const GLOBAL: Self = Self {
        start: EventTime::MIN,
        end: EventTime::MAX,
    };

    pub(crate) const fn new(start: i64, end: i64) -> Self {
        Self {
            start: EventTime(start),
            end: EventTime(end),
        }
    }

    /// Its last instant: the event time of what it results in.
    pub const fn max_timestamp(self) -> EventTime {
        if self.end.0 == i64::MAX {
            return EventTime::MAX;
        }
        EventTime(self.end.0.saturating_sub(1))
    }

    /// Whether two windows overlap or touch, so that sessions grow together. Flink: `TimeWindow.intersects`.
    pub const fn touches(self, other: Self) -> bool {
        self.start.0 <= other.end.0 && other.start.0 <= self.end.0
    }

    /// The shortest window that covers both.
    #[must_use]
    pub fn cover(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

/// Which clock windows go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowTime {
    /// That of the records and watermarks.
    Event,
    /// The wall clock of the machine that the records come to.
    Processing,
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).map_or(FAR, |ms| ms.min(FAR))
}

/// Divides time into windows of equal size, aligned to the epoch. Flink: `TumblingEventTimeWindows`, `TumblingProcessingTimeWindows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TumblingWindows(AlignedWindows);

impl TumblingWindows {
    /// Windows of this size; at least a millisecond.
    pub fn of(size: Duration) -> Self {
        Self(AlignedWindows::new(millis(size), millis(size)))
    }

    /// Windows that begin this much later: with windows of a day, 16 hours make them begin at midnight where the clock is 8 hours behind.
    #[must_use]
    pub fn offset(self, offset: Duration) -> Self {
        Self(self.0.with_offset(offset))
    }

    /// Windows of processing time: a record belongs to that of the moment at which it comes, and at the end of input what is open fires.
    #[must_use]
    pub const fn on_processing_time(self) -> Self {
        Self(self.0.on(WindowTime::Processing))
    }

    /// The window that holds this instant.
    pub const fn window_of(self, time: EventTime) -> TimeWindow {
        let start = self.0.last_start(far(time.0));
        TimeWindow::new(start, start + self.0.size)
    }
}

/// Divides time into windows of equal size that begin at equal distances, aligned to the epoch: they overlap if the distance is less than
/// the size. Flink: `SlidingEventTimeWindows`, `SlidingProcessingTimeWindows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindows(AlignedWindows);

impl SlidingWindows {
    /// Windows of this size, one for each `slide`; both at least a millisecond, and neither needs to divide the other. What the two have
    /// in common is computed once: 10 s and 4 s share panes of 2 s.
    pub fn of(size: Duration, slide: Duration) -> Self {
        Self(AlignedWindows::new(millis(size), millis(slide)))
    }

    /// Windows that begin this much later.
    #[must_use]
    pub fn offset(self, offset: Duration) -> Self {
        Self(self.0.with_offset(offset))
    }

    /// Windows of processing time: a record belongs to those of the moment at which it comes, and at the end of input what is open fires.
    #[must_use]
    pub const fn on_processing_time(self) -> Self {
        Self(self.0.on(WindowTime::Processing))
    }
}

/// The record's gap.
type GapOf<T> = dyn Fn(&T) -> Duration + Send + Sync;

enum Gap<T> {
    Fixed(i64),
    Of(Arc<GapOf<T>>),
}

impl<T> Clone for Gap<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Fixed(ms) => Self::Fixed(*ms),
            Self::Of(gap) => Self::Of(Arc::clone(gap)),
        }
    }
}

/// Divides the time of each key into sessions: stretches with records, and between them gaps without. Flink: `EventTimeSessionWindows`,
/// `ProcessingTimeSessionWindows`, and their dynamic twins.
pub struct SessionWindows<T> {
    gap: Gap<T>,
    time: WindowTime,
}

impl<T> Clone for SessionWindows<T> {
    fn clone(&self) -> Self {
        Self {
            gap: self.gap.clone(),
            time: self.time,
        }
    }
}

impl<T> SessionWindows<T> {
    /// A session ends when this much time has passed after its last record; at least a millisecond.
    pub fn with_gap(gap: Duration) -> Self {
        Self {
            gap: Gap::Fixed(millis(gap).max(1)),
            time: WindowTime::Event,
        }
    }

    /// Each record says how much time may pass after it until the next.
    pub fn with_gap_of(gap: impl Fn(&T) -> Duration + Send + Sync + 'static) -> Self {
        Self {
            gap: Gap::Of(Arc::new(gap)),
            time: WindowTime::Event,
        }
    }

    /// Sessions of processing time; at the end of input what is open fires.
    #[must_use]
    pub fn on_processing_time(self) -> Self {
        Self {
            time: WindowTime::Processing,
            ..self
        }
    }

    /// The session that a record makes by itself.
    fn window_of(&self, record: &T, time: i64) -> TimeWindow {
        let gap = match &self.gap {
            Gap::Fixed(ms) => *ms,
            Gap::Of(gap) => millis(gap(record)).max(1),
        };
        let start = far(time);
        TimeWindow::new(start, start + gap)
    }
}

/// One window for all records of a key. It never ends: a trigger has to say when it fires. Flink: `GlobalWindows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GlobalWindows;

/// What divides the records of a key into windows. Flink: `WindowAssigner`.
pub enum Windows<T> {
    /// Of equal size and at equal distances.
    Aligned(AlignedWindows),
    /// Sessions.
    Session(SessionWindows<T>),
    /// One for all.
    Global,
}

impl<T> Clone for Windows<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Aligned(aligned) => Self::Aligned(*aligned),
            Self::Session(sessions) => Self::Session(sessions.clone()),
            Self::Global => Self::Global,
        }
    }
}

impl<T> From<TumblingWindows> for Windows<T> {
    fn from(windows: TumblingWindows) -> Self {
        Self::Aligned(windows.0)
    }
}

impl<T> From<SlidingWindows> for Windows<T> {
    fn from(windows: SlidingWindows) -> Self {
        Self::Aligned(windows.0)
    }
}

impl<T> From<SessionWindows<T>> for Windows<T> {
    fn from(windows: SessionWindows<T>) -> Self {
        Self::Session(windows)
    }
}

impl<T> From<GlobalWindows> for Windows<T> {
    fn from(_: GlobalWindows) -> Self {
        Self::Global
    }
}

impl<T> Windows<T> {
    /// Which clock they go by. The global window has none of its own: it is told of both.
    pub const fn time(&self) -> WindowTime {
        match self {
            Self::Aligned(aligned) => aligned.time,
            Self::Session(sessions) => sessions.time,
            Self::Global => WindowTime::Event,
        }
    }

    /// Appends the windows of a record, latest first.
    pub(super) fn assign(&self, record: &T, time: i64, into: &mut Vec<TimeWindow>) {
        match self {
            Self::Aligned(aligned) => aligned.assign(far(time), into),
            Self::Session(sessions) => into.push(sessions.window_of(record, time)),
            Self::Global => into.push(TimeWindow::GLOBAL),
        }
    }
}

/// Windows of equal size that begin at equal distances: [`TumblingWindows`] or [`SlidingWindows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlignedWindows {
    pub(super) size: i64,
    pub(super) slide: i64,
    /// 0 or more, and less than the slide.
    offset: i64,
    /// The largest stretch of which all windows are made.
    pub(super) pane: i64,
    pub(super) time: WindowTime,
}

/// Where an instant counts as.
pub(super) const fn far(time: i64) -> i64 {
    if time < -FAR {
        -FAR
    } else if time > FAR {
        FAR
    } else {
        time
    }
}

impl AlignedWindows {
    fn new(size: i64, slide: i64) -> Self {
        let (size, slide) = (size.max(1), slide.max(1));
        let (mut pane, mut rest) = (size, slide);
        while rest != 0 {
            (pane, rest) = (rest, pane % rest);
        }
        Self {
            size,
            slide,
            offset: 0,
            pane,
            time: WindowTime::Event,
        }
    }

    fn with_offset(self, offset: Duration) -> Self {
        let slide = self.slide as u128;
        Self {
            offset: (offset.as_millis() % slide) as i64,
            ..self
        }
    }

    const fn on(self, time: WindowTime) -> Self {
        Self { time, ..self }
    }

    /// Start of the latest window that begins at or before this instant. With a slide longer than the size it may have ended before.
    pub(super) const fn last_start(self, time: i64) -> i64 {
        time - (time - self.offset).rem_euclid(self.slide)
    }

    /// Start of the pane that holds this instant.
    pub(super) const fn pane_start(self, time: i64) -> i64 {
        time - (time - self.offset).rem_euclid(self.pane)
    }

    /// Start of the first window that ends after this instant.
    pub(super) const fn first_ending_after(self, time: i64) -> i64 {
        self.last_start(time - self.size) + self.slide
    }

    /// The windows that hold this instant, latest first.
    fn assign(self, time: i64, into: &mut Vec<TimeWindow>) {
        let mut start = self.last_start(time);
        while start + self.size > time {
            into.push(TimeWindow::new(start, start + self.size));
            start -= self.slide;
        }
    }
}
