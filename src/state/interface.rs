//! What is known of one interface, or of `all` or `default`: its name and its settings' current values and baselines.

use std::collections::HashMap;
use std::sync::Arc;

use crate::kernel::message::Link;
use crate::kernel::name::Name;
use crate::policy::Policy;
use crate::setting::{Attribute, Family, Key};

/// The announced settings of an interface, in the order of its cells.
pub const ANNOUNCED: [(Family, Attribute); 3] =
    [(Family::V4, Attribute::Forwarding), (Family::V4, Attribute::RpFilter), (Family::V6, Attribute::Forwarding)];

/// One announced setting.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// The policy's entry that decides it.
    pub entry: Option<usize>,
    /// The value that the kernel last announced, or that was read since.
    pub current: Option<i32>,
    /// The same, but for what a drift of `all` did to it.
    pub baseline: Option<i32>,
    /// It lost forwarding with `all`.
    pub went_with_all: bool,
}

/// A setting whose changes the kernel does not announce.
#[derive(Debug)]
pub struct Unannounced {
    pub entry: usize,
    pub current: Option<String>,
    /// How the kernel prints the wanted value, where that is not how the policy writes it.
    pub learned: Option<Arc<str>>,
}

impl Unannounced {
    pub fn new(entry: usize) -> Unannounced {
        Unannounced { entry, current: None, learned: None }
    }
}

#[derive(Debug)]
pub struct Interface {
    pub name: Name,
    up: Option<bool>,
    mtu: Option<u32>,
    /// The policy has not been applied to it yet.
    pub is_new: bool,
    /// Its link message has come, so it is wholly there.
    pub complete: bool,
    cells: [Cell; 3],
    /// Its settings that the kernel does not announce.
    pub unannounced: Vec<Key>,
}

impl Interface {
    pub fn new(name: Name) -> Interface {
        Interface {
            name,
            up: None,
            mtu: None,
            is_new: true,
            complete: false,
            cells: Default::default(),
            unannounced: Vec::new(),
        }
    }

    /// Finds out what `policy` wants of an interface of this name.
    pub fn apply(&mut self, policy: &Policy, unannounced: &mut HashMap<Key, Unannounced>) {
        self.cells.iter_mut().for_each(|cell| cell.entry = None);
        self.unannounced.clear();
        for &entry in &*policy.deciding(&self.name) {
            match policy.entries()[entry].announced {
                Some((family, attribute)) => self.cell_mut(family, attribute).entry = Some(entry),
                None => {
                    let key = policy.key_for(entry, &self.name);
                    unannounced.insert(key.clone(), Unannounced::new(entry));
                    self.unannounced.push(key);
                }
            }
        }
    }

    /// It is complete, and up or not. Says whether it came, or came up (where that was not known, when it is first reported
    /// up).
    pub fn arrive(&mut self, up: Option<bool>) -> (bool, bool) {
        let came_up = up == Some(true) && self.up != up;
        self.up = up.or(self.up);
        (!std::mem::replace(&mut self.complete, true), came_up)
    }

    /// Whether this is another MTU, with which the kernel may have made its settings anew from `default`: below 68 an interface has no IPv4, and
    /// below 1280 no IPv6, and Linux 3.10 announces nothing else (`inetdev_event`, `addrconf_notify`).
    pub fn has_other_mtu(&self, link: &Link) -> bool {
        self.complete && link.mtu.is_some() && self.mtu != link.mtu
    }

    pub fn take_mtu(&mut self, link: &Link) {
        self.mtu = link.mtu.or(self.mtu);
    }

    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter()
    }

    pub fn cell(&self, family: Family, attribute: Attribute) -> &Cell {
        &self.cells[index(family, attribute)]
    }

    pub fn cell_mut(&mut self, family: Family, attribute: Attribute) -> &mut Cell {
        &mut self.cells[index(family, attribute)]
    }
}

fn index(family: Family, attribute: Attribute) -> usize {
    match (family, attribute) {
        (Family::V4, Attribute::Forwarding) => 0,
        (Family::V4, Attribute::RpFilter) => 1,
        // IPv6 has no rp_filter; its messages never carry one.
        (Family::V6, _) => 2,
    }
}

/// An interface's settings appeared under a name, be it new, renamed or made anew, or disappeared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    Here(Name),
    Gone(Name),
}
