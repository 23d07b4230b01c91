//! The watermark of several channels.

use spindle_common::time::Watermark;

/// How far the watermark of one channel has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelTime {
    /// The newest watermark that was taken.
    pub watermark: Watermark,
    /// Whether it is idle.
    pub idle: bool,
    /// Whether its end was taken.
    pub ended: bool,
}

/// Merges the watermarks of channels: the least of those that are active and have not ended, and never back.
#[derive(Debug)]
pub struct WatermarkMerge {
    channels: Vec<ChannelTime>,
    merged: Watermark,
    idle: bool,
}

/// What a change in one channel means for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// The watermark advanced to this.
    pub watermark: Option<Watermark>,
    /// The whole became idle, or active again.
    pub idle: Option<bool>,
}

impl WatermarkMerge {
    /// A merge of this many channels.
    pub fn new(channels: usize) -> Self {
        let begin = ChannelTime {
            watermark: Watermark::MIN,
            idle: false,
            ended: false,
        };
        Self::of(std::iter::repeat_n(begin, channels))
    }

    /// A merge of channels that have come this far. What that comes to, [`Self::restart`] says.
    pub fn of(channels: impl Iterator<Item = ChannelTime>) -> Self {
        Self {
            channels: channels.collect(),
            merged: Watermark::MIN,
            idle: false,
        }
    }

    /// What the whole has come to so far, for who was not told.
    pub fn restart(&mut self) -> Merged {
        self.merge()
    }

    /// How far a channel has come.
    pub fn channel(&self, channel: usize) -> ChannelTime {
        self.channels[channel]
    }

    /// Whether the whole is idle.
    pub const fn is_idle(&self) -> bool {
        self.idle
    }

    /// A channel's watermark advanced.
    pub fn watermark(&mut self, channel: usize, watermark: Watermark) -> Merged {
        let channel = &mut self.channels[channel];
        channel.watermark = channel.watermark.max(watermark);
        self.merge()
    }

    /// A channel became idle, or active again.
    pub fn idle(&mut self, channel: usize, idle: bool) -> Merged {
        self.channels[channel].idle = idle;
        self.merge()
    }

    /// A channel ended: it holds nothing back any more.
    pub fn end(&mut self, channel: usize) -> Merged {
        self.channels[channel].ended = true;
        self.merge()
    }

    /// Whether a channel has ended.
    pub fn has_ended(&self, channel: usize) -> bool {
        self.channels[channel].ended
    }

    /// Whether all channels have ended.
    pub fn all_ended(&self) -> bool {
        self.channels.iter().all(|channel| channel.ended)
    }

    fn merge(&mut self) -> Merged {
        let mut change = Merged::default();
        let live = self.channels.iter().filter(|channel| !channel.ended);
        let active = live.clone().filter(|channel| !channel.idle);
        let least = active.map(|channel| channel.watermark).min();
        let idle = least.is_none() && live.count() > 0;
        if idle != self.idle {
            self.idle = idle;
            change.idle = Some(idle);
        }
        if let Some(least) = least
            && least > self.merged
        {
            self.merged = least;
            change.watermark = Some(least);
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use spindle_common::time::EventTime;

    use super::*;

    const fn at(ms: i64) -> Watermark {
        Watermark(EventTime(ms))
    }

    #[test]
    fn the_slowest_active_channel_decides() {
        let mut merge = WatermarkMerge::new(3);
        assert_eq!(merge.watermark(0, at(10)), Merged::default());
        assert_eq!(merge.watermark(1, at(20)), Merged::default());
        assert_eq!(merge.watermark(2, at(5)).watermark, Some(at(5)));
        assert_eq!(merge.idle(2, true).watermark, Some(at(10)));
        assert_eq!(merge.idle(2, false), Merged::default());
        assert_eq!(merge.watermark(2, at(7)), Merged::default());
        assert_eq!(merge.end(2), Merged::default());
        assert_eq!(merge.watermark(0, at(15)).watermark, Some(at(15)));
        assert_eq!(merge.end(0).watermark, Some(at(20)));
        assert!(!merge.all_ended());
        assert_eq!(merge.end(1), Merged::default());
        assert!(merge.all_ended());
    }

    #[test]
    fn the_whole_is_idle_when_each_channel_is() {
        let mut merge = WatermarkMerge::new(2);
        assert_eq!(merge.idle(0, true).idle, None);
        assert_eq!(merge.idle(1, true).idle, Some(true));
        assert_eq!(merge.idle(1, false).idle, Some(false));
        assert_eq!(merge.end(0), Merged::default());
    }

    #[test]
    fn a_watermark_never_goes_back() {
        let mut merge = WatermarkMerge::new(1);
        assert_eq!(merge.watermark(0, at(10)).watermark, Some(at(10)));
        assert_eq!(merge.watermark(0, at(9)), Merged::default());
    }
}
