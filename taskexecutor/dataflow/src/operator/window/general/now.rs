//! How far time has come, and what is due.

use spindle_common::time::{EventTime, Watermark};

use crate::operator::window::open::{Open, Wake, Wakes, clock};
use crate::operator::window::trigger::{Timers, TriggerContext};
use crate::operator::window::{TimeWindow, WindowTime};

/// What concerns all windows of the operator.
pub(super) struct Now {
    pub(super) watermark: Watermark,
    /// Processing time when it was last looked at: it does not go back.
    pub(super) processing: EventTime,
    /// By which clock windows end.
    pub(super) ends_by: WindowTime,
    pub(super) lateness: i64,
    /// In the order of [`clock`].
    pub(super) wakes: [Wakes; 2],
    pub(super) next_id: u64,
}

impl Now {
    /// When a window is forgotten.
    pub(super) fn forgotten(&self, window: TimeWindow) -> Option<i64> {
        let end = window.max_timestamp().0;
        let time = match self.ends_by {
            WindowTime::Event => end.saturating_add(self.lateness),
            WindowTime::Processing => end,
        };
        (time < i64::MAX).then_some(time)
    }

    pub(super) fn is_late(&self, window: TimeWindow) -> bool {
        let over = |time| time <= self.watermark.0.0;
        self.ends_by == WindowTime::Event && self.forgotten(window).is_some_and(over)
    }

    pub(super) const fn context<'a>(&self, timers: &'a mut Timers) -> TriggerContext<'a> {
        TriggerContext {
            watermark: self.watermark,
            processing_time: self.processing,
            timers,
        }
    }

    pub(super) fn open<A, S: Default>(&mut self, window: TimeWindow) -> Open<A, S> {
        self.next_id += 1;
        Open::new(self.next_id, window)
    }

    /// Sees to it that the window is woken for the earliest of its timers, and for its end.
    pub(super) fn queue<A, S>(&mut self, open: &mut Open<A, S>, group: u32, place: u32) {
        for time in [WindowTime::Event, WindowTime::Processing] {
            let end = if time == self.ends_by {
                self.forgotten(open.window)
            } else {
                None
            };
            let timer = open.timers.earliest(time);
            let Some(earliest) = [timer, end].into_iter().flatten().min() else {
                continue;
            };
            let queued = &mut open.queued[clock(time)];
            if queued.is_none_or(|queued| earliest < queued) {
                *queued = Some(earliest);
                let id = open.id;
                self.wakes[clock(time)].push(earliest, Wake { group, place, id });
            }
        }
    }
}

/// The window of a key, opened if it is not there; none if it is over.
pub(super) fn fixed<A, S: Default>(
    open: &mut Vec<Open<A, S>>,
    window: TimeWindow,
    now: &mut Now,
) -> Option<usize> {
    let at = open.partition_point(|other| other.window.start < window.start);
    if open.get(at).is_none_or(|other| other.window != window) {
        if now.is_late(window) {
            return None;
        }
        let new = now.open(window);
        open.insert(at, new);
    }
    Some(at)
}
