//! Names of many interfaces: another thread asks for them while the dump that tells of the interfaces still comes.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};

use crate::kernel::links::Links;
use crate::kernel::message::Link;

/// To ask for so many names takes longer than to start a thread that does.
const MANY: usize = 500;
/// So many are handed on at once, and fewer are not shared out.
const FEW: usize = 250;
/// More are not taken at once, so that something is left to do for whoever has done first.
const AT_ONCE: usize = 2000;

/// Asks for what it is told of, as soon as that is much.
pub struct Names<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    links: &'env Links,
    /// With the interfaces' states.
    state: bool,
    told: Vec<i32>,
    /// How many of them are in the queue.
    handed_on: usize,
    queue: Owned,
    /// Where there is another thread.
    answers: Option<Receiver<Vec<Link>>>,
}

/// What is to be asked for. Both threads take from it.
#[derive(Default)]
struct Queue {
    questions: Mutex<Questions>,
    more: Condvar,
}

#[derive(Default)]
struct Questions {
    waiting: Vec<i32>,
    complete: bool,
}

/// Nothing more comes into the queue once this goes, be it that the dump has failed.
#[derive(Default)]
struct Owned(Arc<Queue>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.add([], true);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, indices: impl IntoIterator<Item = i32>, complete: bool) {
        let mut questions = self.lock();
        questions.waiting.extend(indices);
        questions.complete = complete;
        if complete {
            Links::sort(&mut questions.waiting);
        }
        self.more.notify_one();
    }

    /// What to ask for next, once there is something: much, for the more are asked for at once the sooner the kernel finds each
    /// ([`Links::sort`]); or, once there will be no more, those in half of its lists, so that both have done at the same time.
    /// `None`: nothing is left.
    fn take(&self) -> Option<Vec<i32>> {
        let is_to_come = |questions: &mut Questions| questions.waiting.is_empty() && !questions.complete;
        let mut questions = self.more.wait_while(self.lock(), is_to_come).unwrap_or_else(PoisonError::into_inner);
        let count = questions.waiting.len();
        let left = if questions.complete && count >= 2 * FEW { count / 2 } else { 0 };
        let taken = questions.waiting.split_off(left.max(count.saturating_sub(AT_ONCE)));
        (!taken.is_empty()).then_some(taken)
    }
}

impl<'scope, 'env> Names<'scope, 'env> {
    pub fn new(scope: &'scope Scope<'scope, 'env>, links: &'env Links, state: bool) -> Names<'scope, 'env> {
        Names { scope, links, state, told: Vec::new(), handed_on: 0, queue: Owned::default(), answers: None }
    }

    pub fn tell(&mut self, ifindex: i32) {
        self.told.push(ifindex);
        if self.told.len() < MANY || self.told.len() - self.handed_on < FEW {
            return;
        }
        self.queue.0.add(self.told[self.handed_on..].iter().copied(), false);
        self.handed_on = self.told.len();
        if self.answers.is_none() {
            self.answers = self.start();
        }
    }

    /// `None`: there can't be another thread now.
    fn start(&self) -> Option<Receiver<Vec<Link>>> {
        let (answer, answers) = channel();
        let (links, state, queue) = (self.links, self.state, self.queue.0.clone());
        let help = move || {
            while let Some(indices) = queue.take() {
                _ = answer.send(links.links(indices, state));
            }
        };
        Builder::new().spawn_scoped(self.scope, help).ok()?;
        Some(answers)
    }

    /// All of `indices`, be they told of or not, as they are found. One that was told of twice may come twice, and one that
    /// was told of comes though it is none of them.
    pub fn each(mut self, indices: &[i32], mut found: impl FnMut(Link)) {
        let mut rest = self.told.split_off(self.handed_on);
        self.told.sort_unstable();
        rest.extend(indices.iter().filter(|ifindex| self.told.binary_search(ifindex).is_err()));
        rest.sort_unstable();
        rest.dedup();
        self.queue.0.add(rest, true);
        let mut answers = self.answers;
        loop {
            answers.iter_mut().flat_map(|answers| answers.try_iter()).flatten().for_each(&mut found);
            let Some(indices) = self.queue.0.take() else { break };
            self.links.links(indices, self.state).into_iter().for_each(&mut found);
        }
        answers.into_iter().flatten().flatten().for_each(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_once_whoever_asks() {
        let links = Links::open().expect("a socket");
        let found = |told: i32, all: i32| {
            let mut found = Vec::new();
            std::thread::scope(|scope| {
                let mut names = Names::new(scope, &links, false);
                (1..=told).for_each(|ifindex| names.tell(ifindex));
                names.each(&(1..=all).collect::<Vec<_>>(), |link| found.push(link));
            });
            found.sort_unstable_by_key(|link| link.ifindex);
            found
        };
        let many = 3 * MANY as i32 + 7;
        let plain: Vec<Link> = (1..=many).filter_map(|ifindex| links.link(ifindex, false)).collect();
        assert!(plain.iter().any(|link| &*link.name == "lo"), "{plain:?}");
        for told in [0, 5, MANY as i32, MANY as i32 + 7, many - 9, many] {
            assert_eq!(found(told, many), plain, "{told} told");
        }
    }

    #[test]
    fn a_dump_that_fails_keeps_nobody_waiting() {
        let links = Links::open().expect("a socket");
        std::thread::scope(|scope| {
            let mut names = Names::new(scope, &links, false);
            (0..MANY as i32).for_each(|ifindex| names.tell(ifindex));
            assert!(names.answers.is_some(), "another thread helps");
        });
    }
}
