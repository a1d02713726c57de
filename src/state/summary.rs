//! The numbers of the status line.

use super::State;
use super::interface::Interface;
use crate::report::record::Cause;
use crate::setting::Key;

/// What people want to know at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub settings: usize,
    pub interfaces: usize,
    pub repairs: u64,
    /// Settings that could not be put right.
    pub failing: usize,
    /// The last repair: setting and cause.
    pub last: Option<(String, Cause)>,
    /// A setting that somebody keeps changing back, and how many more there are.
    pub contested: Option<(String, usize)>,
}

impl Summary {
    /// Whether it says something else than `last`, but for how many repairs there were.
    pub fn shows_more_than(&self, last: &Summary) -> bool {
        let Summary { settings, interfaces, repairs: _, failing, last: _, contested } = self;
        (settings, interfaces, failing, contested) != (&last.settings, &last.interfaces, &last.failing, &last.contested)
    }
}

impl State {
    /// Cheap, unless something came, went or changed its policy.
    pub fn summary(&mut self) -> Summary {
        let (settings, interfaces) = self.counts.unwrap_or_else(|| self.count());
        self.counts = Some((settings, interfaces));
        Summary {
            settings,
            interfaces,
            repairs: self.repairs,
            failing: self.failed.len(),
            last: self.last.clone(),
            contested: self.contests.called().split_first().map(|(first, more)| (first.clone(), more.len())),
        }
    }

    fn count(&self) -> (usize, usize) {
        let there = |key: &Key| self.unannounced.get(key).is_some_and(|other| other.current.is_some());
        let of = |interface: &Interface| {
            interface.cells().filter(|cell| cell.entry.is_some() && cell.current.is_some()).count()
                + interface.unannounced.iter().filter(|key| there(key)).count()
        };
        let (mut settings, mut interfaces) = (self.global.iter().filter(|key| there(key)).count(), 0);
        for (ifindex, interface) in &self.interfaces {
            let guarded = of(interface);
            settings += guarded;
            interfaces += usize::from(*ifindex > 0 && guarded > 0);
        }
        (settings, interfaces)
    }
}
