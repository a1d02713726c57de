//! Names of many interfaces: another thread asks for them while the dump that tells of the interfaces still comes.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope};

use crate::kernel::links::Links;
use crate::kernel::message::Link;

/// To ask for so many names takes longer than to start a thread that does; of fewer, the kernel finds each by itself
/// ([`Links::links`]).
const MANY: usize = 2000;

/// Asks for what it is told of, as soon as that is much.
pub struct Names<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    links: &'env Links,
    /// With the interfaces' states.
    state: bool,
    told: Vec<i32>,
    /// How many of them were handed on.
    handed_on: usize,
    helper: Option<Helper>,
}

/// What is to be asked for lies in a queue, from which both threads take.
struct Helper {
    questions: Sender<Vec<i32>>,
    asked: Arc<Mutex<Receiver<Vec<i32>>>>,
    answers: Receiver<Vec<Link>>,
}

impl<'scope, 'env> Names<'scope, 'env> {
    pub fn new(scope: &'scope Scope<'scope, 'env>, links: &'env Links, state: bool) -> Names<'scope, 'env> {
        Names { scope, links, state, told: Vec::new(), handed_on: 0, helper: None }
    }

    pub fn tell(&mut self, ifindex: i32) {
        self.told.push(ifindex);
        if self.told.len() - self.handed_on < MANY {
            return;
        }
        if self.helper.is_none() {
            self.helper = self.start();
        }
        if let Some(helper) = &self.helper {
            _ = helper.questions.send(self.told[self.handed_on..].to_vec());
            self.handed_on = self.told.len();
        }
    }

    /// `None`: there can't be another thread now.
    fn start(&self) -> Option<Helper> {
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        let asked = Arc::new(Mutex::new(asked));
        let (links, state, queue) = (self.links, self.state, asked.clone());
        let take = move || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let help = move || {
            while let Ok(indices) = take() {
                _ = answer.send(links.links(indices, state));
            }
        };
        Builder::new().spawn_scoped(self.scope, help).ok()?;
        Some(Helper { questions, asked, answers })
    }

    /// All of `indices`, be they told of or not, as they are found. One that was told of twice may come twice, and one that
    /// was told of comes though it is none of them.
    pub fn each(mut self, indices: &[i32], mut found: impl FnMut(Link)) {
        self.told.truncate(self.handed_on);
        self.told.sort_unstable();
        let rest = indices.iter().copied().filter(|ifindex| self.told.binary_search(ifindex).is_err()).collect();
        let queue = self.helper.map(|helper| {
            drop(helper.questions); // there are no more
            (helper.asked, helper.answers)
        });
        let mut ask = |indices| self.links.links(indices, self.state).into_iter().for_each(&mut found);
        ask(rest);
        if let Some((asked, answers)) = queue {
            let take = || asked.lock().unwrap_or_else(PoisonError::into_inner).try_recv();
            while let Ok(indices) = take() {
                ask(indices);
            }
            answers.into_iter().flatten().for_each(found);
        }
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
        for told in [0, 5, MANY as i32, many - 9, many] {
            assert_eq!(found(told, many), plain, "{told} told");
        }
    }
}
