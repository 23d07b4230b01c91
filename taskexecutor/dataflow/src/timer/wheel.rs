//! Lists of timers by how near they are.

use super::Entry;

/// Levels of the wheel; each takes one more byte of a time into account.
pub(super) const LEVELS: u32 = 3;

/// Memory of emptied lists that is kept for the next timers, at most this many entries (96 KiB) for each.
const KEPT: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Wheel {
    levels: [Level; LEVELS as usize],
}

/// 256 lists, made when the first timer comes.
#[derive(Debug, Default)]
struct Level {
    lists: Vec<Vec<Entry>>,
    /// A bit for each list that has timers.
    occupied: [u64; 4],
}

/// One list, and the first time that it is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) level: usize,
    index: usize,
    pub(super) start: i64,
}

impl Level {
    /// The first list with timers from this one on.
    fn next(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = *self.occupied.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.occupied.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }
}

impl Wheel {
    /// Adds a timer that is not before `now`, unless it is too far away.
    #[inline]
    pub(super) fn add(&mut self, now: i64, entry: Entry) -> bool {
        let differ = (entry.time ^ now) as u64;
        // Byte 0 even if they are equal: the level of the highest byte that differs.
        let level = ((63 - (differ | 1).leading_zeros()) / 8) as usize;
        if level >= LEVELS as usize {
            return false;
        }
        let index = ((entry.time >> (8 * level)) & 0xff) as usize;
        let level = &mut self.levels[level];
        if level.lists.is_empty() {
            level.lists.resize_with(256, Vec::new);
        }
        level.lists[index].push(entry);
        level.occupied[index / 64] |= 1 << (index % 64);
        true
    }

    /// The next list with timers. What is in a level comes before all that is in a higher one.
    pub(super) fn next(&self, now: i64) -> Option<At> {
        (0..).zip(&self.levels).find_map(|(level, lists)| {
            let shift = 8 * level;
            let here = ((now >> shift) & 0xff) as usize;
            // The list of `now` itself was dealt out when `now` got there, but for those that are for `now` exactly.
            let index = lists.next(here + usize::from(level > 0))?;
            let above = (now >> (shift + 8)) << (shift + 8);
            Some(At {
                level,
                index,
                start: above | ((index as i64) << shift),
            })
        })
    }

    pub(super) fn next_start(&self, now: i64) -> Option<i64> {
        self.next(now).map(|at| at.start)
    }

    /// Moves a list's timers to the empty `into`.
    pub(super) fn take(&mut self, at: At, into: &mut Vec<Entry>) {
        let level = &mut self.levels[at.level];
        level.occupied[at.index / 64] &= !(1 << (at.index % 64));
        std::mem::swap(&mut level.lists[at.index], into);
        level.lists[at.index].shrink_to(KEPT);
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        for level in &mut self.levels {
            for (index, list) in level.lists.iter_mut().enumerate() {
                list.retain(&mut keep);
                if list.is_empty() {
                    level.occupied[index / 64] &= !(1 << (index % 64));
                }
            }
        }
    }
}
