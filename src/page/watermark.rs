//! Watermarks: how much memory may stay free and backed, relative to what is in use.
//!
//! Two kinds of free memory are looked at apart, each against the same bound, the slack or an eighth of what is
//! in use: pageblocks that are wholly free, which can go back at once, and free pages within pageblocks in use,
//! which may only be there because caches hold their neighbours. There are no timers: a free that leads above the
//! high watermark gives back until the low one, half of it, is reached; `trim` goes down to the min, which is
//! nothing.
//!
//! Memory that was given back and is wanted again raises the bound of its kind by as much (Linux: `watermark_boost`).
//! Each second in which none was halves the boost; it is looked at only where it decides.
#![forbid(unsafe_code)]

use super::buddy::Buddy;
use super::zone::Zone;
use crate::base::pfn::PAGEBLOCK_PAGES;
use crate::sys::clock_ms;
use crate::sys::sync::Ordering;

/// What stays free and backed may be this part of what is in use, where that is more than the slack.
const USED_PART: usize = 8;
/// The boost is at most so many times the slack, so that what stays is bounded whatever happens.
const BOOST_SLACKS: usize = 8;
/// The boost halves once in so many milliseconds.
const BOOST_HALVES_MS: u64 = 1000;
/// Memory is wanted again soon where it is within so many milliseconds after some was given back.
const SOON_MS: u64 = 1000;

/// What is added to a bound for memory that was given back too early.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Boost {
    /// Pages given back and soon taken again since somebody last looked.
    wanted_again: usize,
    pages: usize,
    /// When some were last given back.
    given_back_ms: u64,
    /// When it last grew or was halved.
    at_ms: u64,
}

impl Boost {
    pub(crate) const NONE: Self = Self { wanted_again: 0, pages: 0, given_back_ms: 0, at_ms: 0 };

    /// Notes that pages were given back.
    pub(super) fn given_back(&mut self, now_ms: u64) {
        self.given_back_ms = now_ms;
    }

    /// Notes that pages that had been given back are wanted, which counts where that was a moment ago: later they would
    /// have lain there for nothing.
    pub(super) fn wanted(&mut self, pages: usize, now_ms: u64) {
        if now_ms.saturating_sub(self.given_back_ms) < SOON_MS {
            self.wanted_again += pages;
        }
    }

    /// The boost in pages as of `now`, at most `most` where it grows.
    fn look(&mut self, now_ms: u64, most: usize) -> usize {
        let halvings = now_ms.saturating_sub(self.at_ms) / BOOST_HALVES_MS;
        if halvings > 0 {
            self.pages = self.pages.checked_shr(halvings.min(64) as u32).unwrap_or(0);
            self.at_ms = now_ms;
        }
        if self.wanted_again > 0 {
            self.pages = (self.pages + self.wanted_again).min(most);
            self.wanted_again = 0;
            self.at_ms = now_ms;
        }
        self.pages
    }

    /// Whether there is a boost, or reason for one.
    fn is_of_interest(&self) -> bool {
        self.pages > 0 || self.wanted_again > 0
    }
}

// Relaxed throughout: knobs, and estimates that are written under the zone's lock and read without it by whoever asks
// whether it is worth emptying caches; nothing is published by them.

impl Zone {
    /// Pages of one kind that may stay free and backed, without the boost.
    fn bound(&self, buddy: &Buddy) -> usize {
        let bound = self.slack_pages.load(Ordering::Relaxed).max(buddy.used_pages() / USED_PART);
        bound.min(self.limit_pages().saturating_sub(buddy.used_pages()))
    }

    /// What the boost adds to a bound that `pages` pages may exceed.
    fn boost(&self, boost: &mut Boost, bound: usize, pages: usize) -> usize {
        if pages <= bound || !boost.is_of_interest() {
            return 0;
        }
        boost.look(clock_ms(), self.slack_pages.load(Ordering::Relaxed).saturating_mul(BOOST_SLACKS))
    }

    /// Pageblocks that may stay wholly free and backed before some are given back.
    fn high(&self, buddy: &mut Buddy) -> usize {
        let bound = self.bound(buddy);
        let dirty = buddy.dirty_pages();
        (bound + self.boost(&mut buddy.boost, bound, dirty)) / PAGEBLOCK_PAGES
    }

    /// Pageblocks at which giving back stops.
    pub(super) fn low(&self, buddy: &mut Buddy) -> usize {
        self.high(buddy) / 2
    }

    /// In pages: the boost that is in the high watermark, the min, the low and the high one.
    pub(crate) fn watermarks(&self, buddy: &mut Buddy) -> [usize; 4] {
        let (bound, high) = (self.bound(buddy) / PAGEBLOCK_PAGES, self.high(buddy));
        [high - bound, 0, high / 2, high].map(|pageblocks| pageblocks * PAGEBLOCK_PAGES)
    }

    /// Looks where the zone stands, after something was freed. Whether wholly free pageblocks are to be given back.
    pub(super) fn is_above_high(&self, buddy: &mut Buddy) -> bool {
        let (bound, backed) = (self.bound(buddy), buddy.backed_pages);
        let pressed = backed > bound + self.boost(&mut buddy.boost_within, bound, backed);
        if pressed {
            self.used_when_pressed.store(buddy.used_pages(), Ordering::Relaxed);
        }
        if pressed != self.pressed.load(Ordering::Relaxed) {
            self.pressed.store(pressed, Ordering::Relaxed);
        }
        buddy.dirty_pageblocks > buddy.purge_from && buddy.dirty_pageblocks > self.high(buddy)
    }

    /// Pages by which all that is in use or backed exceeds the limit.
    pub(super) fn above_limit(&self, buddy: &Buddy) -> usize {
        let all = buddy.used_pages() + buddy.dirty_pages() + buddy.backed_pages;
        all.saturating_sub(self.limit_pages())
    }

    /// Whether so much is free and backed within pageblocks in use that caches, which may hold their neighbours,
    /// had better be emptied. As of the last free.
    #[inline]
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    /// Pages in use.
    pub(crate) fn used_pages(&self) -> usize {
        self.buddy.lock().used_pages()
    }

    /// Pages in use when it was last found to be pressed.
    pub(crate) fn used_when_pressed(&self) -> usize {
        self.used_when_pressed.load(Ordering::Relaxed)
    }
}

impl Buddy {
    /// Pages of pageblocks that are wholly free, may be backed, and can be given back.
    pub(crate) fn dirty_pages(&self) -> usize {
        self.dirty_pageblocks * PAGEBLOCK_PAGES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boost_grows_with_what_was_wanted_again_and_halves_each_second() {
        let mut boost = Boost::NONE;
        assert!(!boost.is_of_interest());
        boost.wanted_again = 600;
        assert!(boost.is_of_interest());
        assert_eq!(boost.look(10_000, 1 << 20), 600);
        assert_eq!(boost.look(10_999, 1 << 20), 600);
        assert_eq!(boost.look(11_000, 1 << 20), 300);
        assert_eq!(boost.look(12_500, 1 << 20), 150);
        boost.wanted_again = 600;
        assert_eq!(boost.look(12_600, 700), 700);
        assert_eq!(boost.look(u64::MAX, 1 << 20), 0);
        assert!(!boost.is_of_interest());
    }
}
